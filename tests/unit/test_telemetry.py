import json

import pytest
import structlog

from app.security.masking import mask_event
from app.telemetry.logs import configure

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def _restore():
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_reach_no_log_not_even_in_a_traceback(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(form=form, level="info", processors=(mask_event,))
    log = structlog.get_logger()
    try:
        int(f"refused: {TOKEN}")
    except ValueError:
        log.exception("failed", token=TOKEN)
    told = capsys.readouterr().err
    assert "failed" in told
    assert TOKEN not in told


def test_a_line_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    configure(form="json", level="info", processors=(mask_event,))
    structlog.get_logger().info("seen", branch='main\n{"event": "forged"}')
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["event"] == "seen"


def test_bound_variables_are_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(form="json", level="info")
    with structlog.contextvars.bound_contextvars(delivery="guid-1"):
        structlog.get_logger().info("performed")
    assert json.loads(capsys.readouterr().err)["delivery"] == "guid-1"

"""The distributions behind a drifted window, as the dashboard shows them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from app.db.codec import finding_from_json, finding_to_json
from app.db.engine import make_engine, reading, writing
from app.db.models import SqlModels
from app.db.tables import Base, IncidentRow
from app.domain.evidence import Observed
from app.domain.model import Role
from app.ports.models import Window
from detectors.drift.profile import profile
from tests.browser.incidents import fill
from tests.web.people import signed_in

INCIDENT = 4


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path}/heal.db")
    Base.metadata.create_all(engine)
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def site(engine: Engine) -> TestClient:
    return signed_in(engine)


def drift(engine: Engine, *, keep_window: bool = True, **settings: float) -> None:
    """Make an incident one of drifted data, with its reference and window."""
    chance = np.random.default_rng(7)
    before = profile(pa.table({"amount": chance.normal(0, 1, 2_000), "<b>shop</b>": ["a", "b"] * 1_000}))
    now = profile(pa.table({"amount": chance.normal(1, 1, 2_000), "<b>shop</b>": ["a", "b"] * 1_000}), like=before)
    with writing(engine) as connection:
        row = connection.execute(select(IncidentRow).where(IncidentRow.id == INCIDENT)).one()
        finding = replace(
            finding_from_json(row.finding),
            detector="data_drift",
            kind="data_drift",
            subject="churn",
            facts={"model": "churn", "window": "2026-11-20", "settings": settings},
            lines=(),
        )
        connection.execute(
            update(IncidentRow).where(IncidentRow.id == INCIDENT).values(finding=finding_to_json(finding))
        )
        models = SqlModels(connection)
        model = models.add_model(row.repository_id, "churn")
        assert model is not None
        models.save_window(model, Window(Role.REFERENCE, Observed("reference", 2_000, before.to_json())))
        if keep_window:
            models.save_window(model, Window(Role.CURRENT, Observed("2026-11-20", 2_000, now.to_json()), closed=True))


def test_an_incident_of_drifted_data_leads_to_its_distributions(site: TestClient, engine: Engine) -> None:
    drift(engine)
    assert f'href="/incidents/{INCIDENT}/data"' in site.get(f"/incidents/{INCIDENT}").text
    page = site.get(f"/incidents/{INCIDENT}/data")
    assert page.status_code == 200
    assert "1 of 2 columns changed" in page.text
    assert "churn, 2026-11-20" in page.text
    assert page.text.count("<svg") >= 2


def test_the_page_judges_by_the_settings_that_the_finding_was_made_with(site: TestClient, engine: Engine) -> None:
    drift(engine, least_effect=1.9)
    assert "No change in 2 columns" in site.get(f"/incidents/{INCIDENT}/data").text


def test_names_of_columns_are_text_and_the_page_may_run_nothing(site: TestClient, engine: Engine) -> None:
    drift(engine)
    page = site.get(f"/incidents/{INCIDENT}/data")
    assert "<b>shop</b>" not in page.text
    assert "&lt;b&gt;shop&lt;/b&gt;" in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/incidents/1/data", "/incidents/999/data", "/incidents/x/data"])
def test_what_has_no_distributions_is_not_found(site: TestClient, path: str) -> None:
    assert site.get(path).status_code == 404


def test_a_window_that_was_dropped_is_not_found(site: TestClient, engine: Engine) -> None:
    drift(engine, keep_window=False)
    with reading(engine):
        assert site.get(f"/incidents/{INCIDENT}/data").status_code == 404

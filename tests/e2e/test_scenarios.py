"""The product's promises, from GitHub's event to GitHub's proof, in every mode."""

from collections.abc import Iterator

import pytest

from app.domain.incident import State
from tests.e2e.conftest import Staged
from tests.e2e.projects import FLAKY, TOO_LARGE, project
from tests.e2e.stage import Stage

SILENT = {"HEAL_QUEUE__DOORBELL": "false"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("embedded", {}), id="embedded"),
        pytest.param(("embedded", SILENT), id="embedded-without-doorbell"),
        pytest.param(("full", {}), id="full", marks=[pytest.mark.postgres, pytest.mark.redis]),
        pytest.param(("full", SILENT), id="full-without-doorbell", marks=[pytest.mark.postgres, pytest.mark.redis]),
    ],
)
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    mode, settings = request.param
    with staged(mode, settings) as made:
        made.start()
        yield made


def test_a_flaky_job_is_run_again_and_healed(bot: Stage) -> None:
    repository = bot.create("flaky", project(FLAKY))
    incident = bot.wait_for(repository, State.HEALED)
    assert [e.data["action"] for e in incident.timeline if e.kind == "applied"] == ["rerun_failed_jobs"]
    bot.settle()
    bot.nothing_lost()
    bot.nothing_twice(repository, attempts=2)


def test_a_batch_that_does_not_fit_is_lowered_in_a_pull_request(bot: Stage) -> None:
    repository = bot.create("too-large", project(TOO_LARGE))
    incident = bot.wait_for(repository, State.HEALED)
    fixed = bot.files(repository, f"heal/{incident.fingerprint}")["configs/train.yaml"].decode()
    assert fixed == ("# how we train\nbatch_size: 2048  # rows\ngradient_accumulation_steps: 2\nlearning_rate: 0.1\n")
    bot.settle()
    bot.nothing_lost()
    bot.nothing_twice(repository)

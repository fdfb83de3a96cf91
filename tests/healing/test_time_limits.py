"""Jobs that ran past their time limit, which GitHub calls cancelled."""

from dataclasses import replace

import pytest

from app.domain.evidence import Annotation
from app.domain.incident import State
from tests.healing.world import World, job_log

EXCEEDED = "The job running on runner GitHub Actions 4 has exceeded the maximum execution time of 60 minutes."
CANCELLED = "##[error]The operation was canceled."


def cancelled(world: World, note: str) -> None:
    job = world.forge.job("train", "cancelled", job_log(CANCELLED), annotations=(Annotation("failure", note),))
    run = world.forge.add_run(
        head_sha=world.forge.branches["main"], head_branch="main", conclusion="cancelled", jobs=[job]
    )
    world.arrive(replace(world.forge.finished(run.id), conclusion="cancelled"))
    world.drain()


def test_a_job_past_its_time_limit_is_an_incident(world: World) -> None:
    world.project()
    cancelled(world, EXCEEDED)
    assert world.incident().finding.kind == "job_timeout_cancelled"
    assert [rung.action for rung in world.incident().finding.ladder] == ["raise_timeout", "open_issue"]
    assert world.incident().state is State.ESCALATED  # the workflow of this world is not there to be changed


@pytest.mark.parametrize("note", ["The run was canceled by @maria.", ""])
def test_what_a_person_cancelled_is_none(world: World, note: str) -> None:
    world.project()
    cancelled(world, note)
    with world.store.begin() as ledger:
        assert ledger.incidents_at(1) == []

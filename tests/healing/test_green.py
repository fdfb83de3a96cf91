"""The log of the last successful run, beside that of the job that failed."""

import pytest

from app.domain.errors import Refused, Unreachable
from app.domain.template import template_hash
from app.healing import gather
from tests.healing.world import World, job_log

PASSED = b"2026-11-21T08:00:00.0000000Z warming up 3 of 9\n2026-11-21T08:00:00.0000000Z done\n"


def logs(world: World, *jobs: str):
    failed = [world.forge.job(name, "failure", job_log("MemoryError")) for name in jobs]
    run = world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=failed)
    found = gather.job_logs(world.kit, world.forge, world.forge.finished(run.id))
    assert found is not None
    return found.logs


def passed(world: World, *jobs: str) -> None:
    world.project()
    done = [world.forge.job(name, "success", PASSED) for name in jobs]
    world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=done, conclusion="success")


def test_a_failed_job_is_seen_beside_its_last_success(world: World) -> None:
    passed(world, "train")
    train, other = logs(world, "train", "other")
    assert train.green == {template_hash("warming up 5 of 9"), template_hash("done")}
    assert other.green is None


def test_a_job_that_never_passed_is_looked_at_alone(world: World) -> None:
    world.project()
    (train,) = logs(world, "train")
    assert train.green is None


def test_at_most_three_logs_are_fetched_for_comparison(world: World) -> None:
    names = ("a", "b", "c", "d", "e")
    passed(world, *names)
    assert [log.green is not None for log in logs(world, *names)] == [True, True, True, False, False]


@pytest.mark.parametrize("error", [Refused("expired"), Unreachable("502")])
def test_a_comparison_that_cannot_be_had_is_no_error(world: World, monkeypatch: pytest.MonkeyPatch, error) -> None:
    passed(world, "train")
    read = world.forge.job_log

    def job_log_of(job):
        if job.conclusion == "success":
            raise error
        return read(job)

    monkeypatch.setattr(world.forge, "job_log", job_log_of)
    (train,) = logs(world, "train")
    assert train.green is None
    assert train.parts

"""Jobs of one run that fail for one cause are one incident, and it ends only when all of them pass."""

import pytest

from app.domain.incident import State
from tests.healing.world import TRANSIENT, World

JOBS = ("fit (a)", "fit (b)")


def failed(world: World) -> int:
    world.project()
    run = world.forge.add_run(
        head_sha=world.forge.branches["main"],
        head_branch="main",
        jobs=[world.failed_job(TRANSIENT, name) for name in JOBS],
    )
    world.arrive(world.forge.finished(run.id))
    world.drain()
    return run.id


@pytest.mark.parametrize("passed", [("fit (a)",), ("fit (b)",), JOBS])
def test_a_rerun_heals_when_all_of_its_jobs_pass(world: World, passed) -> None:
    run_id = failed(world)
    assert world.incident().finding.jobs == JOBS
    assert world.forge.written("rerun_failed_jobs") == [{"run_id": run_id, "attempt": 2}]
    over = [world.forge.job(name, "success") if name in passed else world.failed_job(name=name) for name in JOBS]
    world.forge.finish_run(run_id, "success" if passed == JOBS else "failure", over)
    world.arrive(world.forge.finished(run_id))
    world.drain()
    assert (world.incident().state is State.HEALED) == (passed == JOBS)
    if passed == JOBS:
        assert world.repairs()[0].proof["job"] == "fit (a), fit (b)"


@pytest.mark.parametrize("other", ["success", "skipped"])
def test_a_green_run_recovers_what_all_of_its_jobs_passed(world: World, other) -> None:
    world.project("version: 1\nmode: observe\n")
    failed_jobs = [world.failed_job(TRANSIENT, name) for name in JOBS]
    sha = world.forge.branches["main"]
    run = world.forge.add_run(head_sha=sha, head_branch="main", jobs=failed_jobs)
    world.arrive(world.forge.finished(run.id))
    world.drain()
    over = [world.forge.job("fit (a)", "success"), world.forge.job("fit (b)", other)]
    green = world.forge.add_run(head_sha=sha, head_branch="main", conclusion="success", jobs=over)
    world.arrive(world.forge.finished(green.id))
    world.drain()
    assert (world.incident().state is State.RECOVERED) == (other == "success")

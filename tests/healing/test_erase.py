"""When the App leaves, what was kept is erased at the next sweep; when it comes back, before anything is looked at."""

from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from app.db.engine import reading
from app.db.tables import DeliveryRow, IncidentRow, TimelineRow
from app.domain.event import InstallationChanged
from app.domain.incident import State
from app.healing.sweep import sweep
from tests.healing.world import OUT_OF_MEMORY, TRANSIENT, World


def changed(world: World, change: str, **more: Any) -> None:
    world.arrive(InstallationChanged(installation_id=1, change=change, selection="selected", **more))
    world.drain()


def incidents(world: World) -> list[tuple[str, str]]:
    with reading(world.engine) as connection:
        rows = connection.execute(select(IncidentRow.state, IncidentRow.summary).order_by(IncidentRow.id))
        return [(row.state, row.summary) for row in rows]


def leave(world: World, how: str) -> None:
    if how == "removed":
        world.forge.installed = False
        changed(world, how, removed=(1,))
    else:
        changed(world, how)


@pytest.mark.parametrize("how", ["deleted", "removed"])
def test_the_sweep_erases_what_was_kept_and_says_how_much(world: World, how: str) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    leave(world, how)
    with capture_logs() as logged:
        sweep(world.kit, 0.0)
    (line,) = [line for line in logged if line["event"] == "erased"]
    assert line["incidents"] == 1
    assert incidents(world) == [("dismissed", "erased")]
    with reading(world.engine) as connection:
        assert connection.scalars(select(TimelineRow.id)).all() == []
        assert all(body == b"" for body in connection.scalars(select(DeliveryRow.body)))


def test_a_suspended_installation_keeps_everything(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    (before,) = incidents(world)
    leave(world, "suspend")
    sweep(world.kit, 0.0)
    assert incidents(world) == [(State.DISMISSED, before[1])]


def test_a_repository_that_comes_back_before_the_sweep_starts_clean(world: World) -> None:
    world.project()
    world.fail(TRANSIENT)
    world.drain()
    leave(world, "removed")
    world.forge.installed = True
    changed(world, "added", added=(1,))
    assert incidents(world) == [("dismissed", "erased")]
    world.fail(TRANSIENT)
    world.drain()
    former, new = incidents(world)
    assert (former, new[0]) == (("dismissed", "erased"), State.VERIFYING)
    sweep(world.kit, 0.0)
    assert incidents(world) == [former, new]


def test_a_late_delivery_of_a_removed_repository_is_not_kept(world: World) -> None:
    world.project()
    run = world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=[world.failed_job()])
    leave(world, "removed")
    late = world.arrive(world.forge.finished(run.id))
    del world.app.forges[1]
    world.drain()
    with reading(world.engine) as connection:
        kept = connection.execute(select(DeliveryRow.state, DeliveryRow.body).where(DeliveryRow.guid == late)).one()
    assert tuple(kept) == ("ignored", b"")


def test_a_removal_that_was_taken_back_already_erases_nothing(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    changed(world, "removed", removed=(1,))
    sweep(world.kit, 0.0)
    assert incidents(world)[0][1] != "erased"

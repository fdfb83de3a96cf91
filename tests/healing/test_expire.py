"""A question that nobody answers in time is withdrawn, and asked again when its cause is found again."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from app.db.engine import reading, writing
from app.db.tables import TimelineRow
from app.domain.event import Ticked
from app.domain.incident import State
from app.domain.repair import RepairState
from app.domain.tenant import Sender
from app.healing.expire import expire, expires_at
from app.healing.steer import Actor, Answer, steer
from tests.healing.world import OUT_OF_MEMORY, World

APPROVE = "version: 1\nmode: approve\nlimits: {approval_expires_days: 3}\n"
MARIA = Actor("maria", "dashboard", 7, trusted=True)


@pytest.fixture
def asked(world: World) -> World:
    """An incident that waits for a person."""
    world.project(APPROVE)
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    return world


def move_question(world: World, by: timedelta) -> None:
    row = TimelineRow
    with reading(world.engine) as connection:
        number, data = connection.execute(select(row.id, row.data).where(row.kind == "asked")).one()
    moved = {**data, "expires_at": (datetime.fromisoformat(data["expires_at"]) + by).isoformat()}
    with writing(world.engine) as connection:
        connection.execute(update(row).where(row.id == number).values(data=moved))


def test_a_question_says_until_when_it_is_asked_as_the_repository_has_it(asked: World) -> None:
    entry = next(entry for entry in asked.record().timeline if entry.kind == "asked")
    assert expires_at(entry.at, entry.data) - entry.at == pytest.approx(timedelta(days=3), abs=timedelta(seconds=60))
    assert expires_at(entry.at, {}) - entry.at == timedelta(days=7)


def test_a_question_in_its_time_stays_asked(asked: World) -> None:
    expire(asked.kit, asked.forge.repository.id)
    assert asked.incident().state is State.AWAITING_APPROVAL


def test_a_question_whose_time_is_over_is_withdrawn_by_the_next_tick(asked: World) -> None:
    move_question(asked, -timedelta(days=4))
    asked.arrive(Ticked(repository=asked.forge.repository, sender=Sender("heal"), at=asked.kit.clock.now()))
    asked.drain()
    assert asked.incident().state is State.OBSERVED
    assert asked.repairs()[0].state is RepairState.SKIPPED
    assert "expired" in asked.kinds()
    late = steer(asked.kit, 1, "approve", MARIA)
    assert late.answer is Answer.IMPOSSIBLE


def test_what_is_found_again_is_asked_again(asked: World) -> None:
    move_question(asked, -timedelta(days=4))
    expire(asked.kit, asked.forge.repository.id)
    assert asked.incident().rung == asked.repairs()[0].rung
    asked.fail(OUT_OF_MEMORY)
    asked.drain()
    assert asked.incident().state is State.AWAITING_APPROVAL
    assert asked.repairs()[-1].state is RepairState.ASKED


def test_what_was_answered_in_time_stays_answered(asked: World) -> None:
    steer(asked.kit, 1, "approve", MARIA)
    move_question(asked, -timedelta(days=4))
    expire(asked.kit, asked.forge.repository.id)
    asked.drain()
    assert asked.incident().state is State.HEALED
    assert "expired" not in asked.kinds()

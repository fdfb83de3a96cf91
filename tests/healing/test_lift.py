"""Repairs that are meant for a while, and proofs of what was found without a run."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from actions.lower_batch_size import LowerBatchSize
from app.domain.event import Ticked
from app.domain.finding import Remedy
from app.domain.incident import State
from app.domain.policy import Mode, Policy, Switch
from app.domain.repair import Intent, Plan, Repair, RepairState, Verb
from app.domain.tenant import Sender
from app.healing.lift import MOST, lift, turn_of
from app.healing.verify import fix_branch
from app.ports.forge import Forge
from tests.healing.world import World


class ForAWhile(LowerBatchSize):
    """Whose time is over when it says so."""

    refusal = "not yet"

    def lift(self, repair: Repair, forge: Forge, now: datetime) -> Plan:
        return Plan("Lift it", refusal=self.refusal)


@pytest.fixture
def lifting(world: World) -> tuple[World, ForAWhile]:
    action = ForAWhile()
    world.kit = replace(world.kit, actions={**world.kit.actions, action.kind: action})
    world.merged_fix()
    return world, action


def tick(world: World) -> None:
    world.arrive(
        Ticked(
            repository=world.forge.repository,
            sender=Sender("heal"),
            at=datetime.fromisoformat("2026-11-21T12:00:00+00:00"),
        )
    )
    world.drain()


def next_day(world: World) -> None:
    from sqlalchemy import text

    with world.engine.begin() as connection:
        connection.execute(text("DELETE FROM turns"))


def undos(world: World) -> list[Repair]:
    return [each for each in world.repairs() if each.verb is Verb.UNDO]


def test_what_holds_for_a_while_stands_until_its_time_is_over(lifting: tuple[World, ForAWhile]) -> None:
    world, action = lifting
    tick(world)
    assert undos(world) == []
    action.refusal = ""
    tick(world)
    assert undos(world) == []  # it is looked at once a day
    next_day(world)
    tick(world)
    assert len(undos(world)) == 1
    assert [pull.head_branch.endswith("-revert") for pull in world.forge.pulls.values()] == [False, True]
    assert world.incident().state is State.HEALED


def test_what_was_lifted_in_time_says_nothing_against_the_repair(lifting: tuple[World, ForAWhile]) -> None:
    world, action = lifting
    action.refusal = ""
    tick(world)
    assert world.repairs()[0].state is RepairState.UNDONE
    with world.store.begin() as ledger:
        (track,) = ledger.history(1, 1, 0).tracks.values()
    assert (track.proven, track.failed, track.reverted_at) == (1, 0, None)


def test_it_is_lifted_once(lifting: tuple[World, ForAWhile]) -> None:
    world, action = lifting
    action.refusal = ""
    for _ in range(2):
        next_day(world)
        tick(world)
    assert len(undos(world)) == 1


@pytest.mark.parametrize(("ends", "proven"), [(["success", "success"], True), (["success", "failure"], False)])
def test_what_was_found_without_a_run_is_proven_by_all_that_run_on_the_fix_branch(
    world: World, ends: list[str], proven: bool
) -> None:
    world.project()
    sha = world.forge.push("heal/x", {"a.txt": "1"})
    for number, end in enumerate(ends):
        path = f".github/workflows/w{number}.yml"
        world.forge.add_run(head_sha=sha, head_branch="heal/x", conclusion=end, workflow_path=path)
    world.fail()
    world.drain()
    incident: Any = replace(world.incident(), workflow_path="")
    repair = replace(
        world.repairs()[0], intent=Intent(), outcome=replace(world.repairs()[0].outcome, data={"head_sha": sha})
    )
    assert fix_branch(world.forge, incident, repair).proven is proven


def without_jobs(world: World, others: dict[str, str]) -> bool | None:
    """Whether a repair of a workflow file that could not be read is proven by these runs on its fix branch."""
    world.project()
    unread = world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=[])
    sha = world.forge.push("heal/x", {"a.txt": "1"})
    for path, end in others.items():
        job = world.forge.job("lint", end)
        world.forge.add_run(head_sha=sha, head_branch="heal/x", conclusion=end, workflow_path=path, jobs=[job])
    world.fail()
    world.drain()
    first = world.repairs()[0]
    intent = Intent(run_id=unread.id, attempt=1, workflow_path=unread.workflow_path, jobs=("CI",))
    repair = replace(first, intent=intent, outcome=replace(first.outcome, data={"head_sha": sha}))
    return fix_branch(world.forge, world.incident(), repair).proven


@pytest.mark.parametrize(
    ("others", "proven"),
    [
        ({}, None),
        ({".github/workflows/lint.yml": "success"}, True),
        ({".github/workflows/lint.yml": "failure"}, True),  # another matter
        ({".github/workflows/ci.yml": "success"}, True),
        ({".github/workflows/ci.yml": "failure"}, False),
    ],
)
def test_a_workflow_that_could_not_be_read_is_proven_when_github_reads_it(
    world: World, others: dict[str, str], proven: bool | None
) -> None:
    assert without_jobs(world, others) is proven


def test_what_other_actions_have_merged_takes_nobodys_turn(lifting: tuple[World, ForAWhile]) -> None:
    world, action = lifting
    (mended,) = world.repairs()
    with world.store.begin() as ledger:
        for number in range(12):
            other = ledger.add_repair(
                replace(mended, id=0, effect_key=f"other-{number}", remedy=Remedy("add_dependency"))
            )
            ledger.save_repair(
                replace(mended, id=other.id, effect_key=other.effect_key, remedy=other.remedy), due_at=None
            )
        found = ledger.merged_repairs(world.forge.repository.id, [action.kind])
    assert [each.id for each in found] == [mended.id]


@pytest.mark.parametrize("switch", ["app", "repository:{}"])
def test_nothing_is_lifted_while_a_kill_switch_is_on(lifting: tuple[World, ForAWhile], switch: str) -> None:
    world, action = lifting
    action.refusal = ""
    scope = switch.format(world.forge.repository.id)
    with world.store.begin() as ledger:
        ledger.switch_on(Switch(scope, "maria", ledger.now()))
    tick(world)
    assert undos(world) == []
    with world.store.begin() as ledger:
        ledger.switch_off(scope)
    next_day(world)
    tick(world)
    assert len(undos(world)) == 1


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.OBSERVE])
def test_nothing_is_lifted_of_an_action_that_is_only_observed(lifting: tuple[World, ForAWhile], mode: Mode) -> None:
    world, action = lifting
    action.refusal = ""
    event = Ticked(repository=world.forge.repository, sender=Sender("heal"), at=world.kit.clock.now())
    lift(world.kit, cast(Forge, world.forge), event, Policy(mode=Mode.AUTO, actions={action.kind: mode}))
    assert undos(world) == []


def test_of_many_each_has_its_day(lifting: tuple[World, ForAWhile]) -> None:
    world, action = lifting
    (mended,) = world.repairs()
    with world.store.begin() as ledger:
        for number in range(MOST + 1):
            other = ledger.add_repair(replace(mended, id=0, effect_key=f"other-{number}"))
            ledger.save_repair(replace(mended, id=other.id, effect_key=other.effect_key), due_at=None)
    looked_at: set[int] = set()
    days: list[int] = []
    with world.store.begin() as ledger:
        today = ledger.now()
        all_of_them = ledger.merged_repairs(world.forge.repository.id, [action.kind])
    for day in range(len(all_of_them)):
        seen = turn_of(all_of_them, today + timedelta(days=day))
        days.append(len(seen))
        looked_at |= {each.id for each in seen}
    assert set(days) == {MOST}
    assert looked_at == {each.id for each in all_of_them}

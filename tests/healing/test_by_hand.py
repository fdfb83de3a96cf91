"""What a person asks for where nothing was found."""

from datetime import timedelta

import pytest

from app.domain.access import Role
from app.domain.incident import State
from app.domain.policy import Switch, repository_scope
from app.domain.repair import RepairState
from app.healing.by_hand import Asked, roll_back
from app.healing.steer import Actor, Answer, steer
from app.ports.queue import Work
from tests.healing.world import World
from tests.twins.registry import MemoryRegistry

MODELS = "models: {churn: {task: binary, registry: acme-churn, canary: {hold: 1m}}}\n"
AUTO = "version: 1\nmode: auto\n" + MODELS
MARIA, PAUL = Actor("maria", "dashboard", 1), Actor("paul", "dashboard", 2)


@pytest.fixture
def registry(world: World) -> MemoryRegistry:
    """Version 2 serves, and version 1 served before."""
    registry = MemoryRegistry()
    registry.add("acme-churn", alias="previous")
    registry.add("acme-churn", alias="champion")
    object.__setattr__(world.kit, "registry", registry)
    world.project(AUTO)
    world.forge.permissions["paul"] = "write"
    with world.store.begin() as ledger:
        ledger.remember_repository(world.forge.repository)
    return registry


def ask(world: World, who: Actor = MARIA) -> Asked:
    return roll_back(world.kit, world.forge.repository.id, "churn", who, "it answers nonsense")


def test_a_model_goes_back_because_a_person_wants_it_and_the_move_is_proven(
    world: World, registry: MemoryRegistry
) -> None:
    asked = ask(world)
    assert (asked.steered.answer, asked.incident_id) == (Answer.DONE, 1)
    world.drain()
    assert registry.aliases("acme-churn")["champion"] == 1
    incident = world.incident()
    assert (incident.state, incident.finding.summary) == (
        State.VERIFYING,
        "maria asked to bring the former version of churn back: it answers nonsense",
    )
    (repair,) = world.repairs()
    assert (repair.state, repair.approved_by) == (RepairState.APPLIED, "maria")


def test_it_is_proven_when_it_has_served_for_the_canary_s_time(
    world: World, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(world)
    world.drain()
    late = world.kit.clock.now() + timedelta(minutes=2)
    monkeypatch.setattr(type(world.kit.clock), "now", lambda _: late)
    world.wait_for(Work.REPAIR)
    world.drain()
    assert world.incident().state is State.HEALED


def test_what_was_asked_for_can_be_undone(world: World, registry: MemoryRegistry) -> None:
    ask(world)
    world.drain()
    assert steer(world.kit, 1, "undo", MARIA).done
    world.drain()
    assert registry.aliases("acme-churn")["champion"] == 2


def test_asked_twice_it_is_done_once(world: World, registry: MemoryRegistry) -> None:
    ask(world)
    again = ask(world, PAUL)
    assert (again.steered.answer, again.incident_id) == (Answer.IMPOSSIBLE, 1)
    world.drain()
    assert len(world.repairs()) == 1


def test_where_two_must_say_yes_it_waits_for_both(world: World, registry: MemoryRegistry) -> None:
    world.project(AUTO + "approvals: {roll_back_model: 2}\n")
    assert ask(world).steered.done
    world.drain()
    assert world.incident().state is State.AWAITING_APPROVAL
    assert steer(world.kit, 1, "approve", MARIA).answer is Answer.SECOND
    world.drain()
    assert registry.aliases("acme-churn")["champion"] == 2
    steer(world.kit, 1, "approve", PAUL)
    world.drain()
    assert registry.aliases("acme-churn")["champion"] == 1


def test_a_mode_in_which_nothing_is_done_is_respected(world: World, registry: MemoryRegistry) -> None:
    world.project("version: 1\nmode: observe\n" + MODELS)
    asked = ask(world)
    assert asked.steered.answer is Answer.IMPOSSIBLE
    assert "The mode is observe" in asked.steered.message
    with world.store.begin() as ledger:
        assert ledger.incident_numbered(1) is None


def test_a_pause_is_respected(world: World, registry: MemoryRegistry) -> None:
    with world.store.begin() as ledger:
        ledger.switch_on(Switch(repository_scope(world.forge.repository.id), "mona", ledger.now(), "exams"))
    assert "paused by mona" in ask(world).steered.message


def test_whoever_may_not_write_may_not_ask(world: World, registry: MemoryRegistry) -> None:
    assert ask(world, Actor("stranger", "dashboard", 3)).steered.answer is Answer.FORBIDDEN
    admins = roll_back(world.kit, world.forge.repository.id, "churn", MARIA, "", Role.ADMIN)
    assert admins.steered.answer is Answer.FORBIDDEN


def test_after_it_was_rejected_it_can_be_asked_for_again(world: World, registry: MemoryRegistry) -> None:
    ask(world)
    world.drain()
    steer(world.kit, 1, "undo", MARIA)
    world.drain()
    assert world.incident().state is State.DISMISSED
    assert ask(world).steered.done
    world.drain()
    assert registry.aliases("acme-churn")["champion"] == 1

"""What people decide on a page or by the API: done at once, in one way, and written down."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from app.db.engine import reading
from app.db.reads.decisions import DecisionReads
from app.db.tables import AuditRow
from app.domain.access import Role
from app.domain.errors import RateLimited, Unreachable
from app.domain.incident import State
from app.domain.repair import RepairState
from app.healing.steer import Actor, Answer, Steered, steer, switch
from tests.healing.world import OUT_OF_MEMORY, World

APPROVE = "version: 1\nmode: approve\n"
TWO = "version: 1\nmode: approve\napprovals: {lower_batch_size: 2}\n"
MARIA = Actor("maria", "dashboard", 7)
BOB = Actor("bob", "api", 8)
LOCAL = Actor("local", "dashboard", 0, trusted=True)


@pytest.fixture
def asked(world: World) -> World:
    """An incident that waits for a person."""
    world.forge.permissions["bob"] = "admin"
    world.project(APPROVE)
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    return world


def decide(world: World, verb: str, who: Actor = MARIA, **more: Any) -> Steered:
    return steer(world.kit, 1, verb, who, **more)


def newest(world: World) -> int:
    return world.record().timeline[-1].id


def told(world: World, kind: str) -> Mapping[str, Any]:
    return next(entry.data for entry in reversed(world.record().timeline) if entry.kind == kind)


def audit(world: World) -> list[Any]:
    with reading(world.engine) as connection:
        return list(connection.execute(select(AuditRow).order_by(AuditRow.id)))


def test_an_approval_carries_the_repair_out_and_is_written_down(asked: World) -> None:
    assert decide(asked, "approve").answer is Answer.DONE
    asked.drain()
    assert asked.incident().state is State.HEALED
    assert asked.repairs()[0].approved_by == "maria"
    (row,) = audit(asked)
    assert (row.actor, row.actor_id, row.via, row.verb) == ("maria", 7, "dashboard", "approve")
    assert (row.what, row.number, row.repository_id) == ("incident", "1", asked.forge.repository.id)


def test_a_rejection_keeps_its_reason_without_the_secret_in_it(asked: World) -> None:
    secret = "ghp_" + "x" * 36
    decide(asked, "reject", reason=f"wrong\nfile {secret}")
    asked.drain()
    assert asked.incident().state is State.DISMISSED
    assert told(asked, "rejected") == {"by": "maria", "reason": "wrong file ***"}
    assert audit(asked)[0].data["reason"] == "wrong file ***"


def test_comments_and_buttons_are_written_down_as_well(asked: World) -> None:
    asked.say("reject 1 the data is wrong")
    asked.drain()
    (row,) = audit(asked)
    assert (row.actor, row.via, row.verb, row.data["reason"]) == ("maria", "github", "reject", "the data is wrong")


def test_what_was_not_done_is_not_written_down(asked: World) -> None:
    asked.forge.permissions["eve"] = "read"
    assert decide(asked, "approve", Actor("eve", "dashboard")).answer is Answer.FORBIDDEN
    asked.say("approve 1", login="eve")
    asked.drain()
    assert decide(asked, "undo").answer is Answer.IMPOSSIBLE
    assert audit(asked) == []
    assert asked.incident().state is State.AWAITING_APPROVAL


def test_whoever_comes_second_is_told_who_was_first(asked: World) -> None:
    seen = newest(asked)
    assert decide(asked, "approve", BOB, expected=seen).done
    late = decide(asked, "reject", expected=seen)
    assert (late.answer, late.by, late.verb) == (Answer.TOO_LATE, "bob", "approve")
    assert late.at is not None
    asked.drain()
    assert asked.incident().state is State.HEALED
    assert [row.verb for row in audit(asked)] == ["approve"]


def test_whoever_has_seen_the_first_decision_may_make_another(asked: World) -> None:
    assert decide(asked, "reject", BOB, expected=newest(asked)).done
    assert decide(asked, "retry", expected=newest(asked)).done
    asked.drain()
    assert asked.incident().state is State.HEALED


def test_a_plan_that_changed_since_it_was_looked_at_is_not_approved(asked: World) -> None:
    seen = newest(asked)
    with asked.store.begin() as ledger:
        ledger.note(1, "planned", {"title": "another plan"})
    late = decide(asked, "approve", expected=seen)
    assert (late.answer, late.verb) == (Answer.TOO_LATE, "plan")
    assert decide(asked, "reject", expected=seen).done


def test_what_the_bot_went_on_with_stands_in_nobodys_way(asked: World) -> None:
    seen = newest(asked)
    with asked.store.begin() as ledger:
        ledger.note(1, "found", {"run_id": 9})
    assert decide(asked, "approve", expected=seen).done


@pytest.mark.parametrize("trouble", [Unreachable("away"), RateLimited("wait")])
def test_nothing_is_done_while_github_does_not_say_who_may(asked: World, trouble: Exception) -> None:
    asked.forge.fail_next("permission", trouble)  # type: ignore[arg-type]
    assert decide(asked, "approve").answer is Answer.NOT_NOW
    assert asked.incident().state is State.AWAITING_APPROVAL


def test_who_runs_the_bot_needs_no_rights_at_github(asked: World) -> None:
    assert decide(asked, "reject", LOCAL).done


def test_more_rights_can_be_asked_for(asked: World) -> None:
    assert decide(asked, "reject", MARIA, needs=Role.ADMIN).answer is Answer.FORBIDDEN
    assert decide(asked, "reject", BOB, needs=Role.ADMIN).done


@pytest.mark.parametrize(("number", "verb"), [(99, "approve"), (1, "dance")])
def test_what_is_not_known_is_said_to_be_so(asked: World, number: int, verb: str) -> None:
    assert steer(asked.kit, number, verb, LOCAL).answer is Answer.UNKNOWN


def test_a_paused_repository_says_who_paused_it(asked: World) -> None:
    assert switch(asked.kit, 1, "pause", BOB, reason="release week").done
    stopped = decide(asked, "approve")
    assert (stopped.answer, stopped.by, stopped.verb) == (Answer.PAUSED, "bob", "pause")
    assert switch(asked.kit, 1, "resume", BOB).done
    assert decide(asked, "approve").done
    assert [(row.verb, row.what) for row in audit(asked)][:2] == [("pause", "repository"), ("resume", "repository")]


# --- two persons


@pytest.fixture
def twice(world: World) -> World:
    """An incident that waits for two people."""
    world.forge.permissions["bob"] = "write"
    world.project(TWO)
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    return world


def test_the_first_yes_of_two_is_kept_and_the_second_carries_it_out(twice: World) -> None:
    assert decide(twice, "approve").answer is Answer.SECOND
    twice.drain()
    assert twice.incident().state is State.AWAITING_APPROVAL
    standing = DecisionReads(twice.engine).standing(1)
    assert standing is not None
    assert [yes.by for yes in standing.said_yes] == ["maria"]
    assert decide(twice, "approve", BOB).answer is Answer.DONE
    twice.drain()
    assert twice.incident().state is State.HEALED
    assert twice.repairs()[0].approved_by == "maria, bob"


def test_one_person_is_not_two_however_they_say_it(twice: World) -> None:
    twice.forge.permissions["Maria"] = "write"
    for _ in range(2):
        assert decide(twice, "approve").answer is Answer.SECOND
    twice.say("approve 1", login="Maria")
    twice.drain()
    assert twice.incident().state is State.AWAITING_APPROVAL


def test_a_token_of_nobody_is_no_person(twice: World) -> None:
    machine = Actor("token deploy", "api", trusted=True, person=False)
    assert decide(twice, "approve", machine).answer is Answer.IMPOSSIBLE


def test_one_person_is_not_two_after_a_change_of_name(twice: World) -> None:
    assert decide(twice, "approve").answer is Answer.SECOND
    twice.forge.permissions["maria-new"] = "admin"
    renamed = Actor("maria-new", "github", MARIA.id)
    for _ in range(2):
        assert decide(twice, "approve", renamed).answer is Answer.SECOND
    assert twice.incident().state is State.AWAITING_APPROVAL
    assert decide(twice, "approve", BOB).answer is Answer.DONE


def test_asking_for_another_try_does_not_stand_in_for_two(twice: World) -> None:
    decide(twice, "retry")
    twice.drain()
    assert twice.incident().state is State.AWAITING_APPROVAL
    assert not twice.forge.pulls


def test_what_needs_two_people_is_asked_for_in_every_mode(world: World) -> None:
    world.project(TWO.replace("approve\n", "auto\n", 1))
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.AWAITING_APPROVAL


def test_a_yes_to_one_plan_is_no_yes_to_another(twice: World) -> None:
    decide(twice, "approve")
    with twice.store.begin() as ledger:
        repair = ledger.repairs_of(1)[-1]
        ledger.withdraw_approvals(repair.id)
    assert decide(twice, "approve", BOB).answer is Answer.SECOND


# --- never here again


def test_a_muted_cause_is_only_watched_until_it_is_unmuted(asked: World) -> None:
    assert decide(asked, "mute", reason="we know").done
    asked.drain()
    assert asked.incident().state is State.OBSERVED
    assert asked.repairs()[0].state is RepairState.REJECTED
    asked.fail(OUT_OF_MEMORY)
    asked.drain()
    assert asked.incident().state is State.OBSERVED
    assert "maria said so" in told(asked, "decided")["reason"]
    assert decide(asked, "retry").answer is Answer.PAUSED
    (muted,) = DecisionReads(asked.engine).mutes(1)
    assert (muted.kind, muted.by, muted.reason) == ("host_oom", "maria", "we know")
    assert switch(asked.kit, 1, "unmute", BOB, kind="host_oom").done
    asked.fail(OUT_OF_MEMORY)
    asked.drain()
    assert asked.incident().state is State.AWAITING_APPROVAL


def test_other_causes_go_on_being_repaired(asked: World) -> None:
    decide(asked, "mute")
    asked.drain()
    asked.fail(name="lint")
    asked.drain()
    assert asked.incident(2).state is State.AWAITING_APPROVAL


def test_muting_takes_back_a_fix_that_waits_for_its_proof(world: World) -> None:
    before = world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.VERIFYING
    decide(world, "mute")
    world.drain()
    assert world.incident().state is State.OBSERVED
    assert world.forge.pulls[1].state == "closed"
    assert world.forge.branches == {"main": before}


def test_muting_drops_the_question_of_every_incident_with_that_cause(asked: World) -> None:
    asked.fail(OUT_OF_MEMORY, name="evaluate")
    asked.drain()
    assert asked.incident(2).state is State.AWAITING_APPROVAL
    assert decide(asked, "mute").done
    asked.drain()
    assert asked.incident(2).state is State.OBSERVED
    assert "muted" in asked.kinds(2)
    assert steer(asked.kit, 2, "approve", MARIA).answer is Answer.PAUSED


def test_a_mute_has_no_effect_elsewhere(asked: World) -> None:
    switch(asked.kit, 1, "mute", MARIA, kind="host_oom")
    reads = DecisionReads(asked.engine)
    assert [mute.kind for mute in reads.mutes(1)] == ["host_oom"]
    assert reads.mutes(11) == []
    assert reads.switches(1) == []
    with asked.store.begin() as ledger:
        history = ledger.history(1, 1, 0)
    assert history.muted is not None
    assert history.switches == ()
    assert history.muted.at <= asked.incident().updated_at + timedelta(minutes=1)


def test_a_cause_can_be_muted_and_unmuted_by_comment(asked: World) -> None:
    asked.say("mute 1")
    asked.drain()
    assert asked.incident().state is State.OBSERVED
    asked.say("unmute 1")
    asked.drain()
    assert DecisionReads(asked.engine).mutes(1) == []
    assert [row.verb for row in audit(asked)] == ["mute", "unmute"]

"""What people ask for, with buttons and comments."""

from dataclasses import replace

import pytest

from app.db.accounts import Accounts
from app.domain.access import Role
from app.domain.audit import Act
from app.domain.incident import State
from app.healing.work import perform
from app.ports.queue import Work
from tests.healing.world import ASSERTION, OUT_OF_MEMORY, World

APPROVE = "version: 1\nmode: approve\n"
PROPOSE = "version: 1\nmode: propose\n"


def last_reply(world: World, number: int = 1) -> str:
    return next(c.body for c in reversed(world.forge.comments[number]) if c.author == world.forge.login)


def test_approve_mode_shows_the_plan_and_waits(world: World) -> None:
    world.project(APPROVE)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.AWAITING_APPROVAL
    check = world.forge.checks[0].text
    assert "batch_size: 2048" in check.text + check.summary
    assert str(check.conclusion) == "action_required"
    assert check.buttons
    assert not world.forge.pulls


@pytest.mark.parametrize("config", [APPROVE, PROPOSE])
def test_the_approve_button_starts_the_repair(world: World, config: str) -> None:
    world.project(config)
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.press("approve:1")
    world.drain()
    assert world.incident().state is State.HEALED
    assert world.repairs()[0].approved_by == "maria"


def test_the_reject_button_dismisses_the_incident(world: World) -> None:
    world.project(APPROVE)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.press("reject:1")
    world.drain()
    assert world.incident().state is State.DISMISSED
    assert not world.forge.pulls


def test_pressing_approve_twice_repairs_once(world: World) -> None:
    world.project(APPROVE)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.press("approve:1")
    world.press("approve:1")
    world.drain()
    assert len(world.forge.pulls) == 1
    assert len(world.repairs()) == 1


def test_somebody_without_write_access_can_approve_nothing(world: World) -> None:
    world.project(APPROVE)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.forge.permissions["eve"] = "read"
    world.press("approve:1", login="eve")
    world.say("approve 1", login="eve")
    world.drain()
    assert world.incident().state is State.AWAITING_APPROVAL
    assert "write access" in last_reply(world)


def test_why_prints_the_rules_that_were_looked_at(world: World) -> None:
    world.project(APPROVE)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.say("why 1")
    world.drain()
    assert "mode" in last_reply(world)
    assert "|" in last_reply(world)


def test_undo_closes_the_pull_request_and_removes_the_branch(world: World) -> None:
    before = world.project()
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.forge.on_push = None
    world.say("undo", number=1)
    world.drain()
    assert world.forge.pulls[1].state == "closed"
    assert world.forge.branches == {"main": before}
    assert world.incident().state is State.DISMISSED


def test_what_was_undone_after_the_merge_is_not_offered_again(world: World) -> None:
    world.project()
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.close_pull(1, merged=True)
    world.say("undo 1")
    world.drain()
    passed = world.forge.job("train", "success")
    merged = world.forge.add_run(
        head_sha=world.forge.branches["main"], head_branch="main", conclusion="success", jobs=[passed]
    )
    world.arrive(world.forge.finished(merged.id))
    world.drain()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.DISMISSED
    assert [pull.head_branch.endswith("-revert") for pull in world.forge.pulls.values()] == [False, True]


def test_undo_twice_is_undo_once(world: World) -> None:
    world.project()
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.say("undo 1")
    world.say("undo 1")
    world.drain()
    assert len(world.forge.written("close_pull")) + len(world.forge.written("delete_branch")) <= 2
    assert world.forge.pulls[1].state == "closed"


def test_reject_while_the_fix_waits_for_proof_closes_its_pull_request(world: World) -> None:
    before = world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.say("reject 1")
    world.drain()
    assert world.incident().state is State.DISMISSED
    assert world.forge.pulls[1].state == "closed"
    assert world.forge.branches == {"main": before}


def test_reject_while_the_fix_is_being_applied_takes_it_back(world: World) -> None:
    before = world.project()
    world.fail(OUT_OF_MEMORY)

    def reject_meanwhile(step: str) -> None:
        if step == "after apply" and "rejected" not in world.kinds():
            world.say("reject 1")
            perform(world.kit, Work.DELIVERY)

    world.kit = replace(world.kit, passing=reject_meanwhile)
    world.drain()
    assert world.incident().state is State.DISMISSED
    assert world.forge.pulls[1].state == "closed"
    assert world.forge.branches == {"main": before}


def test_pause_stops_repairs_and_resume_lets_them_go_on(world: World) -> None:
    world.project()
    world.say("pause")
    world.drain()
    world.fail()
    world.drain()
    assert world.incident().state is State.OBSERVED
    world.say("retry 1")
    world.drain()
    assert "paused" in last_reply(world)
    world.say("resume")
    world.say("retry 1")
    world.drain()
    assert len(world.forge.written("rerun_failed_jobs")) == 1


def test_retry_climbs_the_ladder_again_from_its_foot(world: World) -> None:
    world.project("version: 1\nmode: observe\n")
    world.fail()
    world.drain()
    assert world.incident().state is State.OBSERVED
    world.forge.push("main", {".github/heal.yml": "version: 1\nmode: approve\n"})
    world.fail()
    world.drain()
    assert world.incident().state is State.AWAITING_APPROVAL
    world.say("retry 1")
    world.drain()
    assert world.incident().state is State.VERIFYING


def test_a_command_of_another_repository_s_incident_is_not_carried_out(world: World) -> None:
    world.project(APPROVE)
    world.fail(ASSERTION)
    world.drain()
    world.say("approve 99")
    world.drain()
    assert "no incident" in last_reply(world)


def test_an_unknown_command_is_answered_with_the_known_ones(world: World) -> None:
    world.project()
    world.say("dance")
    world.drain()
    assert "approve" in last_reply(world)


def test_a_command_is_answered_once_however_often_it_is_delivered(world: World) -> None:
    world.project()
    world.say("pause")
    world.drain()
    with world.store.begin():
        pass
    assert sum(c.author == world.forge.login for c in world.forge.comments[1]) == 1


def test_reject_before_a_queued_repair_starts_stops_it(world: World) -> None:
    world.project()
    world.fail()
    assert perform(world.kit, Work.DELIVERY)
    world.say("reject 1")
    assert perform(world.kit, Work.DELIVERY)
    world.drain()
    assert not world.forge.written("rerun_failed_jobs")
    assert world.incident().state is State.DISMISSED


def test_reject_and_retry_repair_once(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    world.say("reject 1")
    assert perform(world.kit, Work.DELIVERY)
    world.say("retry 1")
    assert perform(world.kit, Work.DELIVERY)
    world.drain()
    assert world.incident().state is State.VERIFYING
    assert [pull.state for pull in world.forge.pulls.values()] == ["open"]


def test_a_revert_is_asked_for_where_heal_yml_says_so(world: World) -> None:
    world.merged_fix()
    world.forge.push("main", {".github/heal.yml": "version: 1\nmode: auto\nactions: {revert_repair: approve}\n"})
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert len(world.forge.pulls) == 1
    assert world.incident().state is State.AWAITING_APPROVAL
    world.say("approve")
    world.drain()
    assert [pull.head_branch.endswith("-revert") for pull in world.forge.pulls.values()] == [False, True]
    assert world.incident().state is State.ESCALATED


def test_a_revert_that_heal_yml_forbids_is_not_offered(world: World) -> None:
    world.merged_fix()
    world.forge.push("main", {".github/heal.yml": "version: 1\nmode: auto\nactions: {revert_repair: 'off'}\n"})
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert len(world.forge.pulls) == 1
    assert world.incident().state is State.ESCALATED


def test_a_pull_request_closed_by_a_person_counts_as_closed(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.close_pull(1, merged=False)
    world.drain()
    with world.store.begin() as ledger:
        assert ledger.history(1, 999, 0).open_pulls == 0


@pytest.mark.parametrize(("most", "state"), [(Role.VIEWER, State.AWAITING_APPROVAL), (None, State.DISMISSED)])
def test_who_may_only_look_here_decides_nothing_on_github_either(world: World, most: Role | None, state: State) -> None:
    world.project(APPROVE)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    accounts = Accounts(world.engine)
    accounts.remember(501, "maria", operator=False)
    accounts.appoint(world.forge.repository.installation_id, 501, most, Act("ada", "dashboard", "set_role"))
    world.say("reject 1", sender=501)
    world.drain()
    assert world.incident().state is state
    assert ("needs write access" in last_reply(world)) is (most is Role.VIEWER)

"""The loop from delivery to proof, on both databases, with GitHub in memory."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.errors import NotInstalled, RateLimited, Refused, Unreachable
from app.domain.incident import State
from app.domain.repair import RepairState
from app.healing.sweep import sweep
from app.healing.work import perform
from app.ports.queue import Work
from tests.healing.world import ASSERTION, AUTO, OUT_OF_MEMORY, STRANGE, TRAIN_YAML, TRANSIENT, World


def test_a_transient_failure_is_rerun_and_healed_by_the_later_attempt(world: World) -> None:
    world.project()
    run_id = world.fail()
    world.drain()
    assert world.incident().state is State.VERIFYING
    assert world.forge.written("rerun_failed_jobs") == [{"run_id": run_id, "attempt": 2}]
    world.finish(run_id, "success")
    world.drain()
    assert world.incident().state is State.HEALED
    assert world.repairs()[0].proof["attempt"] == 2
    assert world.kinds() == ["found", "decided", "planned", "applied", "proven", "healed"]


def test_a_stale_conclusion_of_the_first_attempt_proves_nothing(world: World) -> None:
    world.project()
    world.fail()
    world.drain()
    world.hurry()
    with world.store.begin() as ledger:
        repair = ledger.repairs_of(1)[0]
        ledger.save_repair(repair, due_at=ledger.now())
    world.drain()
    assert world.repairs()[0].state is RepairState.DISPROVEN
    assert "healed" not in world.kinds()


def test_the_next_rung_is_climbed_when_the_rerun_fails_too(world: World) -> None:
    world.project()
    run_id = world.fail()
    world.drain()
    world.finish(run_id, "failure")
    world.drain()
    assert [w["attempt"] for w in world.forge.written("rerun_failed_jobs")] == [2, 3]
    world.finish(run_id, "failure")
    world.drain()
    assert world.incident().state is State.ESCALATED
    assert len(world.forge.issues) == 1


def test_a_fix_pull_request_heals_when_the_job_passes_on_its_branch(world: World) -> None:
    world.project()
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    incident = world.incident()
    assert incident.state is State.HEALED
    fixed = world.forge.file("configs/train.yaml", incident.fix_branch)
    assert fixed is not None
    assert fixed.text == (
        "# how we train\nbatch_size: 2048  # rows\ngradient_accumulation_steps: 2\nlearning_rate: 0.1\n"
    )
    assert incident.pull_number == 1
    assert "passed" in world.forge.pulls[1].body


def test_a_fix_that_does_not_help_is_taken_back_before_a_person_is_called(world: World) -> None:
    world.project()
    world.on_fix_branch("failure")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.ESCALATED
    assert world.forge.pulls[1].state == "closed"
    assert list(world.forge.branches) == ["main"]
    assert len(world.forge.issues) == 1


def test_one_fingerprint_has_one_pull_request_over_all_rungs(world: World) -> None:
    world.project()
    world.on_fix_branch("failure")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert len(world.forge.pulls) == 1


def test_a_genuine_bug_is_escalated_and_nothing_is_changed(world: World) -> None:
    before = world.project()
    world.fail(ASSERTION)
    world.drain()
    assert world.incident().state is State.ESCALATED
    assert world.forge.branches == {"main": before}
    assert not world.forge.pulls
    assert "assert 0.75 == 0.8" in next(iter(world.forge.issues.values())).body


def test_an_unknown_failure_is_reported_with_its_lines_and_left_alone(world: World) -> None:
    world.project()
    world.fail(STRANGE)
    world.drain()
    assert world.incident().finding.kind == "unknown"
    assert world.incident().state is State.OBSERVED
    assert not world.repairs()
    assert STRANGE in world.forge.checks[0].text.summary + world.forge.checks[0].text.text


def test_without_a_configuration_the_bot_only_observes(world: World) -> None:
    world.project(config=None)
    world.fail()
    world.drain()
    assert world.incident().state is State.OBSERVED
    assert {write.method for write in world.forge.writes} == {"ensure_check"}


def test_the_same_delivery_twice_has_one_effect(world: World) -> None:
    world.project()
    run = world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=[world.failed_job()])
    event = world.forge.finished(run.id)
    world.arrive(event, "twin")
    world.arrive(event, "twin")
    world.arrive(event, "another-guid")
    world.drain()
    assert len(world.forge.written("rerun_failed_jobs")) == 1
    assert len(world.repairs()) == 1


def test_a_commit_that_is_no_longer_the_head_is_never_acted_upon(world: World) -> None:
    old = world.project()
    run = world.forge.add_run(head_sha=old, head_branch="main", jobs=[world.failed_job()])
    world.forge.push("main", {"train.py": "print(1)\n"})
    world.arrive(world.forge.finished(run.id))
    world.drain()
    assert world.incident().state is State.OBSERVED
    assert not world.forge.written("rerun_failed_jobs")


def test_a_branch_that_moves_between_decision_and_repair_stops_the_repair(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    world.forge.push("main", {"train.py": "print(1)\n"})
    world.drain()
    assert world.incident().state is State.OBSERVED
    assert not world.forge.pulls


def test_a_failure_on_our_own_fix_branch_opens_no_incident(world: World) -> None:
    world.project()
    world.on_fix_branch("failure")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    with world.store.begin() as ledger:
        assert ledger.incident_numbered(2) is None


def test_no_proof_before_the_deadline_climbs_the_ladder(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.VERIFYING
    world.hurry()
    world.drain()
    assert world.repairs()[0].state is RepairState.DISPROVEN
    assert "no proof before the deadline" in world.repairs()[0].proof["reason"]
    assert len(world.repairs()) == 2


def test_a_job_that_goes_green_by_itself_is_recovered_not_healed(world: World) -> None:
    world.project(config=None)
    run_id = world.fail()
    world.drain()
    world.forge.rerun_failed_jobs(run_id)
    world.finish(run_id, "success")
    world.drain()
    assert world.incident().state is State.RECOVERED


def test_a_merged_repair_is_reverted_when_the_cause_returns(world: World) -> None:
    world.merged_fix()
    assert world.incident().merged_at is not None
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert "relapsed" in world.kinds()
    revert = world.forge.pulls[2]
    restored = world.forge.file("configs/train.yaml", revert.head_branch)
    assert restored is not None
    assert "batch_size: 4096" in restored.text
    assert world.incident().state is State.ESCALATED


def test_a_merged_repair_that_holds_is_noted(world: World) -> None:
    world.merged_fix()
    job = world.forge.job("train", "success")
    run = world.forge.add_run(
        head_sha=world.forge.branches["main"], head_branch="main", conclusion="success", jobs=[job]
    )
    world.arrive(world.forge.finished(run.id))
    world.drain()
    assert world.kinds()[-1] == "held"
    assert world.incident().state is State.HEALED


def test_a_pull_request_that_a_person_closes_is_not_opened_again(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.close_pull(1, merged=False)
    world.drain()
    assert world.incident().state is State.DISMISSED
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert world.incident().state is State.DISMISSED
    assert len(world.forge.pulls) == 1


def test_a_repair_that_cannot_be_carried_out_calls_a_person(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    world.forge.fail_next("paths", Refused("Resource not accessible by integration"))
    world.drain()
    assert world.incident().state is State.ESCALATED
    assert world.repairs()[0].state is RepairState.FAILED
    failed = next(entry for entry in world.record().timeline if entry.kind == "failed")
    assert "not accessible" in failed.data["summary"]


def test_a_repair_that_kills_its_worker_three_times_calls_a_person(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    for _ in range(3):
        assert world.store.claim(Work.REPAIR) is not None
        world.expire(Work.REPAIR)
    world.drain()
    assert sweep(world.kit, 60.0)
    assert world.incident().state is State.ESCALATED


def test_a_failure_after_the_watch_is_a_new_course_of_the_same_incident(world: World) -> None:
    world.merged_fix()
    world.forge.push("main", {"configs/train.yaml": TRAIN_YAML})
    world.outlive_the_watch()
    world.fail(OUT_OF_MEMORY)
    world.fail(OUT_OF_MEMORY)
    world.drain()
    assert "relapsed" not in world.kinds()
    assert world.incident().state is State.VERIFYING
    assert len([pull for pull in world.forge.pulls.values() if pull.state == "open"]) == 1


def test_a_rate_limit_postpones_the_work_and_costs_no_attempt(world: World) -> None:
    world.project()
    at = world.kit.clock.now() + timedelta(hours=1)
    world.forge.fail_next("rerun_failed_jobs", RateLimited("slow down", retry_at=at))
    world.fail()
    world.drain()
    assert not world.forge.written("rerun_failed_jobs")
    assert world.attempts(Work.REPAIR) == 0
    world.wait_for(Work.REPAIR)
    world.drain()
    assert len(world.forge.written("rerun_failed_jobs")) == 1


@pytest.mark.parametrize("after_write", [False, True])
def test_an_answer_that_got_lost_does_not_repeat_the_effect(world: World, after_write: bool) -> None:
    world.project()
    at = world.kit.clock.now()
    world.forge.fail_next("rerun_failed_jobs", Unreachable("502", retry_at=at), after_write=after_write)
    world.forge.fail_next("ensure_check", Unreachable("502", retry_at=at), after_write=after_write)
    world.fail()
    world.drain()
    assert len(world.forge.written("rerun_failed_jobs")) == 1
    assert len(world.forge.checks) == 1


def test_the_check_run_follows_the_incident_in_place(world: World) -> None:
    world.project()
    run_id = world.fail()
    world.drain()
    assert world.forge.checks[0].text.conclusion is None
    world.finish(run_id, "success")
    world.drain()
    assert len(world.forge.checks) == 1
    assert str(world.forge.checks[0].text.conclusion) == "success"


def test_branches_and_repositories_with_the_same_cause_are_different_incidents(world: World) -> None:
    sha = world.project()
    world.forge.branches["release-1"] = sha
    world.forge.branches["release-2"] = sha
    for branch in ("release-1", "release-2"):
        world.fail(ASSERTION, branch=branch)
    world.drain()
    first, second = world.incident(1), world.incident(2)
    assert first.fingerprint != second.fingerprint
    assert first.finding.fingerprint == second.finding.fingerprint


def test_a_delivery_from_where_the_app_is_not_any_more_is_ignored(world: World) -> None:
    world.project()
    world.fail()
    world.forge.installed = False
    world.drain()
    with world.store.begin() as ledger:
        assert ledger.repository(world.forge.repository.id) is None
    assert world.delivery_states() == ["ignored"]
    assert not world.forge.writes


def test_a_delivery_is_put_aside_and_not_dropped_when_github_refuses_the_apps_own_key(world: World) -> None:
    world.project()
    world.fail()
    world.app.error = NotInstalled("401 Bad credentials; check the App's id and key")
    world.drain()
    assert world.delivery_states() == ["dead"]


def test_a_rerun_that_was_made_and_not_written_down_is_not_made_again(world: World) -> None:
    """The answer to our re-run is lost; before the retry the second attempt has failed as well."""
    world.project()
    run_id = world.fail()
    assert perform(world.kit, Work.DELIVERY)
    world.forge.fail_next("rerun_failed_jobs", Unreachable("502"), after_write=True)
    assert perform(world.kit, Work.REPAIR)
    world.finish(run_id, "failure")
    assert perform(world.kit, Work.DELIVERY)
    world.wait_for(Work.REPAIR)
    assert perform(world.kit, Work.REPAIR)
    assert [written["attempt"] for written in world.forge.written("rerun_failed_jobs")] == [2]
    assert world.repairs()[0].state is RepairState.APPLIED


@pytest.mark.parametrize("conclusion", ["failure", "success"])
def test_a_fork_s_run_on_a_branch_of_the_same_name_steers_nothing_of_ours(world: World, conclusion: str) -> None:
    world.project("version: 1\nmode: approve\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    before = world.incident()
    job = world.failed_job(OUT_OF_MEMORY) if conclusion == "failure" else world.forge.job("train", "success")
    run = world.forge.add_run(head_sha="f" * 40, head_branch="main", conclusion=conclusion, jobs=[job])
    world.arrive(world.forge.finished(run.id, from_fork=True))
    world.drain()
    assert world.incident() == before


def test_a_late_failure_of_an_older_commit_does_not_unheal(world: World) -> None:
    world.project()
    world.on_fix_branch("success")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.forge.on_push = None
    old = world.forge.branches["main"]
    late = world.forge.add_run(head_sha=old, head_branch="main", jobs=[world.failed_job(OUT_OF_MEMORY)])
    world.close_pull(1, merged=True)
    world.drain()
    world.arrive(replace(world.forge.finished(late.id), started_at=world.kit.clock.now()))
    world.drain()
    assert world.incident().state is State.HEALED
    assert world.incident().merged_at is not None
    assert len(world.forge.pulls) == 1


def test_limits_hold_for_the_jobs_of_one_run_together(world: World) -> None:
    world.project(AUTO + "limits: {open_pulls: 1}\n")
    jobs = [world.failed_job(OUT_OF_MEMORY, name) for name in ("a", "b", "c")]
    run = world.forge.add_run(head_sha=world.forge.branches["main"], head_branch="main", jobs=jobs)
    world.arrive(world.forge.finished(run.id))
    world.drain()
    assert len(world.forge.pulls) == 1
    assert sorted(world.incident(n).state for n in (1, 2, 3)) == [State.OBSERVED, State.OBSERVED, State.VERIFYING]


def test_a_mode_that_changes_before_the_repair_is_carried_out_counts(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    world.forge.owner_files.clear()
    head = world.forge.branches["main"]
    world.forge.commits[head] = replace(
        world.forge.commits[head],
        files={**world.forge.commits[head].files, ".github/heal.yml": "version: 1\nmode: observe\n"},
    )
    world.drain()
    assert not world.forge.pulls
    assert world.incident().state is State.OBSERVED


def test_the_check_run_of_the_former_commit_is_ended(world: World) -> None:
    old = world.project("version: 1\nmode: approve\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    world.forge.push("main", {"train.py": "print(2)\n"})
    world.fail(OUT_OF_MEMORY)
    world.drain()
    former = next(check for check in world.forge.checks if check.sha == old)
    assert "superseded" in former.text.title
    assert not former.text.buttons
    assert world.incident().state is State.AWAITING_APPROVAL
    assert world.repairs()[-1].intent.head_sha == world.forge.branches["main"]


def test_a_configuration_that_cannot_be_read_is_not_one_that_is_absent(world: World) -> None:
    world.forge.owner_files[".github/heal.yml"] = AUTO
    world.project("version: 1\0")
    world.fail()
    world.drain()
    assert world.incident().state is State.OBSERVED
    assert not world.forge.written("rerun_failed_jobs")


def test_mode_off_looks_at_nothing(world: World) -> None:
    world.project("version: 1\nmode: off\n")
    world.fail()
    world.drain()
    with world.store.begin() as ledger:
        assert ledger.incident_numbered(1) is None
    assert not world.forge.checks


def test_a_run_that_failed_before_any_job_is_reported(world: World) -> None:
    world.project()
    run = world.forge.add_run(
        head_sha=world.forge.branches["main"], head_branch="main", conclusion="startup_failure", jobs=[]
    )
    world.arrive(world.forge.finished(run.id))
    world.drain()
    assert world.incident().finding.lines
    assert not world.forge.pulls


def test_secrets_in_a_log_are_not_kept(world: World) -> None:
    token = "ghp_" + "a1B2" * 9
    world.project()
    world.fail(f"ConnectionResetError: [Errno 104] Connection reset by peer for token {token}")
    world.drain()
    assert token not in str(world.record())


def test_a_fix_that_was_offered_and_not_written_down_is_adopted_though_the_branch_moved_on(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    world.forge.fail_next("ensure_pull", Unreachable("502"), after_write=True)
    assert perform(world.kit, Work.REPAIR)
    world.forge.push("main", {"train.py": "print(3)\n"})
    world.wait_for(Work.REPAIR)
    world.drain()
    assert world.incident().pull_number == 1
    assert world.incident().state is State.VERIFYING
    assert len(world.forge.written("commit")) == 1


def test_what_was_half_done_when_the_switch_was_thrown_waits_for_resume(world: World) -> None:
    world.project()
    world.fail(OUT_OF_MEMORY)
    assert perform(world.kit, Work.DELIVERY)
    world.forge.fail_next("ensure_pull", Unreachable("502"))
    assert perform(world.kit, Work.REPAIR)
    world.say("pause")
    assert perform(world.kit, Work.DELIVERY)
    world.wait_for(Work.REPAIR)
    world.drain()
    assert not world.forge.pulls
    world.say("resume")
    assert perform(world.kit, Work.DELIVERY)
    world.wait_for(Work.REPAIR)
    world.drain()
    assert world.incident().pull_number == 1


def test_a_repair_is_proven_by_the_job_that_it_was_made_for(world: World) -> None:
    world.project()
    sha = world.forge.branches["main"]

    def ran(first: str, second: str) -> int:
        jobs = [world.failed_job(TRANSIENT, first), world.forge.job(second, "success")]
        run = world.forge.add_run(head_sha=sha, head_branch="main", jobs=jobs)
        world.arrive(world.forge.finished(run.id))
        world.drain()
        return run.id

    repaired = ran("fit", "evaluate")
    ran("evaluate", "fit")  # the same cause, in another job of another run
    again = [world.failed_job(TRANSIENT, "fit"), world.forge.job("evaluate", "success")]
    world.forge.finish_run(repaired, "failure", again)
    world.arrive(world.forge.finished(repaired))
    world.drain()
    assert world.incident().state is not State.HEALED

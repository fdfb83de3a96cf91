"""What detectors make of a run's own word."""

from dataclasses import replace

import pytest

from app.domain.event import WorkloadFailed, WorkloadSucceeded
from app.domain.evidence import EvidenceBag
from app.domain.finding import Clear, Finding
from app.domain.run import EndedRun, Failure
from app.domain.tenant import Repository, Sender
from detectors.builtin import BUILTIN
from detectors.diagnosis import diagnose
from detectors.playbooks import OF_RUNS, PLAYBOOKS
from tests.detectors.logs import failing_log

RUN = EndedRun("process", "h1", "speech", "train", "model speech", "speech", "h1", 0, tail="epoch 1\nMemoryError\n\n")
CAUSES = {
    "cuda_oom": "cuda_oom",
    "host_oom": "host_oom",
    "disk_full": "disk_full",
    "nan_loss": "nan_loss",
    "data_missing": "data_missing_or_schema",
    "data_malformed": "data_missing_or_schema",
    "collective_timeout": "nccl_timeout",
    "checkpoint_corrupt": "checkpoint_corrupt",
    "preempted": "runner_lost",
    "killed": "runner_lost",
}
UNCLAIMED = ("bug", "bad_setting", "not_installed", "cancelled", "timed_out")


def told(failure: Failure | None, run: EndedRun = RUN) -> list[Finding | Clear]:
    repository, sender = Repository(1, "acme/x", 1), Sender("process")
    run = replace(run, failure=failure)
    kind = WorkloadFailed if failure else WorkloadSucceeded
    event = kind(repository=repository, sender=sender, run=run)
    concerned = [detector for detector in BUILTIN if event.kind in detector.reacts_to]
    return [each for detector in concerned for each in detector.detect(event, EvidenceBag())]


def finding(kind: str, run: EndedRun = RUN) -> Finding:
    (found,) = told(Failure(kind, "it broke", {"batch": "4"}, True, {"limit_bytes": 4, "path": "x"}), run)
    assert isinstance(found, Finding)
    return found


@pytest.mark.parametrize(("kind", "cause"), CAUSES.items())
def test_each_kind_is_claimed_once_with_certainty_by_the_cause_that_logs_have(kind: str, cause: str) -> None:
    found = finding(kind)
    assert (found.kind, found.confidence, found.playbook) == (cause, 1, f"workload_{cause}")
    assert found.subject == "workload speech / train (model speech)"
    assert found.ladder[-1].action == "open_issue"
    assert [line.text for line in found.lines if line.root] == ["MemoryError"]


@pytest.mark.parametrize("kind", UNCLAIMED)
def test_what_no_repair_could_mend_is_left_to_the_repair_that_started_it(kind: str) -> None:
    assert told(Failure(kind)) == []


def test_every_kind_that_a_workload_may_tell_is_known_here() -> None:
    from workloads.contract import Failure as Kind

    assert {*CAUSES, *UNCLAIMED} == set(Kind)


def test_every_cause_of_a_run_has_a_playbook_that_is_listed() -> None:
    assert {finding(kind).playbook for kind in CAUSES} == {name for name in PLAYBOOKS if name.startswith(OF_RUNS)}


def test_a_run_that_comes_to_its_end_is_well_for_whoever_has_claimed_it() -> None:
    well = told(None)
    assert {(each.detector, each.subject) for each in well} == {
        (finding("host_oom").detector, finding("host_oom").subject),
        (finding("nan_loss").detector, finding("nan_loss").subject),
    }
    assert all(isinstance(each, Clear) for each in well)


def test_what_runs_for_one_thing_is_one_incident_whatever_it_fails_of() -> None:
    same = {finding(kind).fingerprint for kind in CAUSES}
    assert len(same) == 1
    others = [replace(RUN, about="model speech2"), replace(RUN, about="model speech3"), replace(RUN, verb="benchmark")]
    assert len(same | {finding("host_oom", run).fingerprint for run in others}) == 4


def test_what_a_run_tells_cannot_stand_for_what_we_know() -> None:
    failure = Failure("host_oom", facts={"model": "other", "run": "x", "launcher": "ray", "window": "1"})
    (found,) = told(failure)
    assert isinstance(found, Finding)
    assert (found.facts["model"], found.facts["run"], found.facts["launcher"]) == ("speech", "h1", "process")
    assert "window" not in found.facts


@pytest.mark.parametrize(("kind", "cause"), CAUSES.items())
def test_in_the_log_of_a_workflow_a_runs_own_word_goes_before_what_stands_around_it(kind: str, cause: str) -> None:
    line = f"heal-run: failed {kind}: see above"
    around = ["MemoryError", "FileNotFoundError: [Errno 2] No such file or directory: 'x.csv'", "loss: nan"]
    found = diagnose(failing_log(*around, line))[0]
    assert (found.kind, found.actionable) == (cause, True)
    assert [each.text for each in found.lines if each.root] == [line]


@pytest.mark.parametrize("kind", UNCLAIMED)
def test_a_runs_own_word_for_what_nobody_repairs_is_no_cause(kind: str) -> None:
    assert diagnose(failing_log(f"heal-run: failed {kind}: see above"))[0].kind == "unknown"

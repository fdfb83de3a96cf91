"""The action that trains a model anew."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from actions.retrain_model import RetrainModel, RetrainParams
from app.domain.errors import LeaseLost, Refused, Unreachable
from app.domain.evidence import Job, JobStep
from app.domain.model import ModelRules, Retrain
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from app.domain.repair import Look, Repair
from app.ports.launcher import Launcher, RunSpec, RunState, RunStatus
from app.ports.plugins import Tools
from tests.actions.stage import NOW, Stage, StopAfter, crash_everywhere, stage
from tests.twins.forge import ScriptedJob
from tests.twins.registry import MemoryRegistry

ACTION = RetrainModel()
PATH = ".github/workflows/train.yml"
DISPATCHED = """\
name: Train
on:
  workflow_dispatch:
    inputs:
      heal_id: {required: true, type: string}
      epochs:
        required: false
jobs:
  train:
    runs-on: ubuntu-latest
    steps:
      - run: python train.py
"""
PLAIN = "on: [push, workflow_dispatch]\njobs: {}\n"
BY_WORKFLOW = Retrain(workflow="train.yml", inputs={"epochs": "3"}, timeout_s=3600)
BY_WORKLOAD = Retrain(workload="toy", inputs={"size": "small"}, timeout_s=3600)


@dataclass
class MemoryLauncher:
    name: str = "process"
    started: list[RunSpec] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    now: RunStatus = field(default_factory=lambda: RunStatus(RunState.RUNNING, tail="epoch 1\nepoch 2"))

    def start(self, spec: RunSpec) -> str:
        if spec not in self.started:
            self.started.append(spec)
        return f"handle-{spec.key}"

    def status(self, handle: str) -> RunStatus:
        return self.now

    def cancel(self, handle: str) -> None:
        if handle not in self.ended:
            self.ended.append(handle)

    def reap(self, keys: frozenset[str]) -> list[str]:
        return []


def the_stage(
    how: Retrain | None = BY_WORKFLOW,
    *,
    workflow: str | None = DISPATCHED,
    registered: str = "churn-model",
    facts: Mapping[str, Any] | None = None,
    models: Mapping[str, ModelRules] | None = None,
    launchers: Mapping[str, Launcher] | None = None,
) -> Stage:
    told = {"churn": ModelRules(registry=registered, retrain=how)} if models is None else models
    files = {PATH: workflow} if workflow is not None else {}
    found = stage(files, facts=facts or {"model": "churn"}, policy=Policy(models=told))
    registry = MemoryRegistry()
    registry.add("churn-model", alias="champion")
    there = {"process": MemoryLauncher()} if launchers is None else launchers
    return replace(found, tools=replace(found.tools, registry=registry, launchers=there))


def registry_of(world: Stage) -> MemoryRegistry:
    assert isinstance(world.tools.registry, MemoryRegistry)
    return world.tools.registry


def launcher_of(world: Stage) -> MemoryLauncher:
    found = world.tools.launchers["process"]
    assert isinstance(found, MemoryLauncher)
    return found


def applied(world: Stage, **more: Any) -> Repair:
    return replace(world.done(ACTION), applied_at=NOW, **more)


@dataclass
class Later:
    after_s: float

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.after_s)


def look(world: Stage, repair: Repair, *, after_s: float = 0) -> Look:
    return ACTION.look(repair, RetrainParams(), replace(world.tools, clock=Later(after_s)))


def trained(world: Stage, repair: Repair, **version: Any) -> int:
    """The workflow's run ends well, and has registered a version."""
    assert repair.outcome is not None
    run_id = repair.outcome.data["run_id"]
    number = registry_of(world).add("churn-model", created_at=NOW, **version).number
    world.forge.finish_run(run_id, "success")
    return number


# the dry run


def test_the_plan_says_what_would_be_started_and_what_serves_now() -> None:
    plan = the_stage().plan(ACTION)
    assert plan.refusal == ""
    assert plan.title == "Train churn anew"
    assert plan.calls == ("start train.yml on main with epochs=3, heal_id=(this repair)",)
    assert "version 1 serves" in plan.why
    assert plan.patience_s >= BY_WORKFLOW.timeout_s
    assert plan.costs == {}


def test_the_model_is_the_one_that_the_finding_or_the_ladder_names() -> None:
    by_subject = the_stage()
    finding = replace(by_subject.incident.finding, facts={}, subject="churn / errors")
    by_subject = replace(by_subject, incident=replace(by_subject.incident, finding=finding))
    assert by_subject.plan(ACTION).refusal == ""
    other = the_stage(facts={"model": "prices"})
    assert "'prices'" in other.plan(ACTION).refusal
    assert other.plan(ACTION, {"model": "churn"}).refusal == ""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"models": {}}, "models.churn.registry"),
        ({"models": {"churn": ModelRules(retrain=BY_WORKFLOW)}}, "add models.churn.registry"),
        ({"models": {"churn": ModelRules(registry="churn-model")}}, "add models.churn.retrain"),
        ({"workflow": None}, "there is no .github/workflows/train.yml on main"),
        ({"workflow": "on: push\njobs: {}\n"}, "add workflow_dispatch"),
        ({"workflow": "on:\n  push:\n    branches: [workflow_dispatch]\njobs: {}\n"}, "add workflow_dispatch"),
        ({"workflow": PLAIN}, "takes no input 'epochs'"),
        (
            {"workflow": "on: {workflow_dispatch: {inputs: {epochs: {}, size: {required: true}}}}\njobs: {}\n"},
            "asks for 'size'",
        ),
        ({"how": replace(BY_WORKFLOW, ref="gone")}, "on gone"),
        ({"how": replace(BY_WORKLOAD, launcher="ray")}, "no launcher is called 'ray'; this bot has process"),
        ({"how": BY_WORKLOAD, "launchers": {}}, "this bot has none"),
    ],
)
def test_what_is_missing_is_refused_with_what_to_do(more: dict[str, Any], says: str) -> None:
    assert says in the_stage(**more).plan(ACTION).refusal


def test_without_a_registry_the_operator_is_told_which_setting_is_missing() -> None:
    world = the_stage()
    world = replace(world, tools=replace(stage().tools, forge=world.forge, policy=world.tools.policy))
    assert "HEAL_MLFLOW__TRACKING_URI" in world.plan(ACTION).refusal


def test_without_the_permission_to_start_workflows_it_is_refused() -> None:
    world = the_stage()
    world.forge.granted.discard("actions")
    assert "Actions: read and write" in world.plan(ACTION).refusal


def test_a_registry_that_does_not_answer_is_trouble_and_no_refusal() -> None:
    world = the_stage()
    registry_of(world).fail_next("aliased", Unreachable("MLflow answers 503"))
    with pytest.raises(Unreachable):
        world.plan(ACTION)


@pytest.mark.parametrize(
    "text", [PLAIN, "on: workflow_dispatch\r\njobs: {}\r\n", "'on':\n  workflow_dispatch:\njobs: {}\n"]
)
def test_a_workflow_that_takes_no_inputs_is_started_without_any(text: str) -> None:
    world = the_stage(replace(BY_WORKFLOW, inputs={}), workflow=text)
    assert world.plan(ACTION).calls == ("start train.yml on main",)
    world.done(ACTION)
    assert [each["inputs"] for each in world.forge.written("dispatch")] == [{}]


def test_a_workflow_that_cannot_be_read_is_left_to_github() -> None:
    world = the_stage(workflow="on: &o [workflow_dispatch]\nx: *o\njobs: {}\n")
    assert world.plan(ACTION).calls == ("start train.yml on main with epochs=3",)


# starting


def test_the_workflow_is_started_with_the_teams_inputs_and_our_id() -> None:
    world = the_stage()
    repair = applied(world)
    assert world.forge.written("dispatch") == [
        {
            "workflow": "train.yml",
            "ref": "main",
            "inputs": {"epochs": "3", "heal_id": "key-0"},
            "run_id": run_of(repair),
        }
    ]


def test_it_is_started_once_wherever_the_worker_stops() -> None:
    assert crash_everywhere(the_stage, lambda world, tools: world.apply(ACTION, world.repair(ACTION), tools=tools)) == 1


def test_a_worker_that_stops_between_intent_and_start_starts_it_later() -> None:
    world = the_stage()
    world.forge.fail_next("dispatch", LeaseLost("stopped here"))
    with pytest.raises(LeaseLost):
        world.done(ACTION)
    world.done(ACTION)
    assert len(world.forge.written("dispatch")) == 1


def test_a_run_that_people_started_before_is_not_taken_for_ours() -> None:
    world = the_stage()
    sha = world.forge.branches["main"]
    theirs = world.forge.add_run(
        head_sha=sha, head_branch="main", status="queued", trigger="workflow_dispatch", workflow_path=PATH
    )
    assert run_of(applied(world)) != theirs.id
    assert len(world.forge.written("dispatch")) == 1


def test_of_several_runs_since_our_intent_the_one_that_carries_our_id_is_ours() -> None:
    world = the_stage()
    sha = world.forge.branches["main"]
    with pytest.raises(LeaseLost):
        world.apply(ACTION, world.repair(ACTION), tools=replace(world.tools, forge=StopAfter(world.forge, 1)))
    named = world.forge.add_run(
        head_sha=sha,
        head_branch="main",
        status="queued",
        trigger="workflow_dispatch",
        workflow_path=PATH,
        name="Train for key-0",
    )
    world.forge.add_run(head_sha=sha, head_branch="main", status="queued", trigger="push", workflow_path=PATH)
    assert run_of(applied(world)) == named.id


def test_two_incidents_about_one_model_train_it_once_at_a_time() -> None:
    world = the_stage()
    first = applied(world)
    second = world.repair(ACTION, rung=1)
    outcome = world.apply(ACTION, second)
    assert outcome.conclusion is Conclusion.STALE
    assert "already" in outcome.title
    trained(world, first)
    assert world.apply(ACTION, second).conclusion is Conclusion.SUCCESS
    assert len(world.forge.written("dispatch")) == 2


def test_a_training_that_is_about_to_be_started_keeps_others_from_it_for_a_while() -> None:
    world = the_stage()
    world.forge.fail_next("dispatch", LeaseLost("stopped here"))
    with pytest.raises(LeaseLost):
        world.done(ACTION)
    second = world.repair(ACTION, rung=1)
    assert world.apply(ACTION, second).conclusion is Conclusion.STALE
    later = replace(world.tools, clock=Later(3 * 3600))
    assert world.apply(ACTION, second, tools=later).conclusion is Conclusion.SUCCESS


def test_a_run_that_somebody_deleted_is_neither_waited_for_nor_in_the_way() -> None:
    world = the_stage()
    repair = applied(world)
    world.forge.fail_next("run", Refused("404"))
    seen = look(world, repair)
    assert seen.proven is False
    assert "deleted" in seen.reason
    world.forge.fail_next("run", Refused("404"))
    assert ACTION.undo(repair, world.tools).conclusion is Conclusion.SUCCESS
    world.forge.fail_next("run", Refused("404"))
    assert world.apply(ACTION, world.repair(ACTION, rung=1)).conclusion is Conclusion.SUCCESS


# following


def test_while_it_runs_the_steps_are_told() -> None:
    world = the_stage()
    repair = applied(world)
    seen = look(world, repair)
    assert (seen.proven, seen.url) == (None, world.forge.run(run_of(repair)).url)
    steps = (JobStep(1, "Set up job", "success"), JobStep(2, "Fit the trees", ""))
    job = Job(1, "train", 0, 0, "", "", status="in_progress", steps=steps)
    run = world.forge.run(run_of(repair))
    world.forge._attempts[run.id][1] = replace(run, status="in_progress")
    world.forge._set_jobs(run, [ScriptedJob(job)])
    seen = look(world, repair)
    assert seen.proven is None
    assert seen.progress == "train is in progress: Fit the trees, after 1 of 2 steps"
    assert seen.reason == "train.yml is in progress"


def test_a_training_that_fails_disproves() -> None:
    world = the_stage()
    repair = applied(world)
    world.forge.finish_run(run_of(repair), "failure")
    seen = look(world, repair)
    assert seen.proven is False
    assert "ended with failure" in seen.reason


def test_a_new_version_proves_and_is_told_what_it_was_made_from() -> None:
    world = the_stage()
    repair = applied(world)
    number = trained(world, repair, data_version="2026-11", metrics={"accuracy": 0.9}, tags={"heal.id": "key-0"})
    seen = look(world, repair)
    assert seen.proven is True
    sha = world.forge.branches["main"]
    assert (seen.data["version"], seen.data["registry"], seen.data["code_sha"]) == (number, "churn-model", sha)
    assert seen.data["metrics"] == {"accuracy": 0.9}
    tags = registry_of(world).version("churn-model", number).tags  # type: ignore[union-attr]
    assert tags["heal.code_sha"] == sha
    assert tags["heal.data_version"] == "2026-11"
    assert tags["heal.run_id"] == str(run_of(repair))
    assert tags["heal.inputs"] == '{"epochs": "3"}'
    written = len(registry_of(world).writes)
    assert look(world, repair) == seen
    assert len(registry_of(world).writes) == written


def test_no_alias_moves() -> None:
    world = the_stage()
    repair = applied(world)
    trained(world, repair)
    assert look(world, repair).proven is True
    assert registry_of(world).aliases("churn-model") == {"champion": 1}


@pytest.mark.parametrize("mark", ["ours", "run", "commit", "alone"])
def test_a_version_is_known_by_our_id_the_run_the_commit_or_because_it_is_alone(mark: str) -> None:
    world = the_stage()
    repair = applied(world)
    sha = world.forge.branches["main"]
    made: dict[str, Any] = {
        "ours": {"tags": {"heal.id": "key-0"}},
        "run": {"tags": {"heal.run_id": str(run_of(repair))}},
        "commit": {"code_sha": sha},
        "alone": {},
    }[mark]
    number = registry_of(world).add("churn-model", created_at=NOW, **made).number
    if mark != "alone":
        registry_of(world).add("churn-model", created_at=NOW, code_sha="somebody")
        registry_of(world).add("churn-model", created_at=NOW, tags={"heal.id": "key-9"}, code_sha=sha)
    world.forge.finish_run(run_of(repair), "success")
    assert look(world, repair).data["version"] == number


def test_a_success_without_a_version_disproves_and_says_what_a_training_must_do() -> None:
    world = the_stage()
    repair = applied(world)
    world.forge.finish_run(run_of(repair), "success")
    seen = look(world, repair)
    assert seen.proven is False
    assert "registered no new version of churn-model" in seen.reason
    assert "docs/how-to/retrain.md" in seen.reason


def test_versions_of_which_none_says_that_it_is_ours_disprove_and_are_named() -> None:
    world = the_stage()
    repair = applied(world)
    registry_of(world).add("churn-model", created_at=NOW)
    trained(world, repair)
    seen = look(world, repair)
    assert seen.proven is False
    assert "found 3, 2" in seen.reason


def test_a_version_from_before_is_never_ours() -> None:
    world = the_stage()
    registry_of(world).add("churn-model", created_at=NOW, tags={"heal.id": "key-0"})
    repair = applied(world)
    world.forge.finish_run(run_of(repair), "success")
    assert look(world, repair).proven is False


def test_a_version_that_is_still_being_registered_is_waited_for() -> None:
    world = the_stage()
    repair = applied(world)
    trained(world, repair, ready=False)
    assert look(world, repair).proven is None


def test_a_training_past_its_time_is_cancelled() -> None:
    world = the_stage()
    repair = applied(world)
    assert look(world, repair, after_s=3599).proven is None
    assert world.forge.written("cancel_run") == []
    seen = look(world, repair, after_s=3600)
    assert seen.proven is False
    assert "models.churn.retrain.timeout" in seen.reason
    assert world.forge.written("cancel_run") == [{"run_id": run_of(repair)}]


def test_a_training_at_the_deadline_of_its_proof_is_cancelled() -> None:
    world = the_stage()
    repair = applied(world, proof_deadline=NOW + timedelta(seconds=60))
    assert look(world, repair, after_s=60).proven is False
    assert len(world.forge.written("cancel_run")) == 1


def test_a_model_that_heal_yml_has_dropped_is_not_followed() -> None:
    world = the_stage()
    repair = applied(world)
    world = replace(world, tools=replace(world.tools, policy=Policy()))
    seen = look(world, repair)
    assert seen.proven is False
    assert "heal.yml" in seen.reason


# taking back


def test_undo_cancels_the_run_once_and_leaves_the_repository_as_it_was() -> None:
    world = the_stage()
    branches = world.picture()[0]
    repair = applied(world)
    for _ in range(2):
        outcome = ACTION.undo(repair, world.tools)
        assert outcome.conclusion is Conclusion.SUCCESS
    assert world.forge.written("cancel_run") == [{"run_id": run_of(repair)}]
    assert world.picture()[0] == branches


def test_undo_of_a_training_that_is_over_moves_nothing() -> None:
    world = the_stage()
    repair = applied(world)
    trained(world, repair)
    before = list(registry_of(world).writes)
    assert ACTION.undo(repair, world.tools).conclusion is Conclusion.SUCCESS
    assert world.forge.written("cancel_run") == []
    assert registry_of(world).writes == before


def test_undo_of_what_a_worker_that_died_has_started_finds_it() -> None:
    world = the_stage()
    repair = applied(world)
    ACTION.undo(replace(repair, outcome=None), world.tools)
    assert len(world.forge.written("cancel_run")) == 1


def test_undo_of_what_never_started_is_neutral() -> None:
    world = the_stage()
    assert ACTION.undo(world.repair(ACTION), world.tools).conclusion is Conclusion.NEUTRAL


# by a workload


def test_a_workload_is_started_once_with_what_it_needs_to_register() -> None:
    world = the_stage(BY_WORKLOAD)
    plan = world.plan(ACTION)
    assert plan.calls == ("start the workload toy (process) with size=small",)
    assert plan.costs == {"gpu_minutes": 60.0}
    repair = world.repair(ACTION)
    first, again = world.apply(ACTION, repair), world.apply(ACTION, repair)
    assert first == again
    settings = {"size": "small", "heal_id": "key-0", "register_as": "churn-model"}
    assert launcher_of(world).started == [RunSpec("key-0", "toy", "train", settings, 3600)]


def test_the_end_of_the_log_is_told_while_it_runs() -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    seen = look(world, repair)
    assert (seen.proven, seen.progress) == (None, "epoch 1\nepoch 2")
    launcher_of(world).now = RunStatus(RunState.RUNNING, tail="\n".join(f"epoch {n}" for n in range(100)))
    assert look(world, repair).progress.splitlines()[-1] == "epoch 99"
    assert len(look(world, repair).progress.splitlines()) <= 15


def test_no_secret_of_a_log_is_shown_and_no_line_without_end() -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    secret = "ghp_" + "a1B2" * 9
    launcher_of(world).now = RunStatus(RunState.RUNNING, tail=f"token {secret}\n{'x' * 9_000}")
    seen = look(world, repair)
    assert secret not in seen.progress
    assert len(seen.progress) < 1_000
    launcher_of(world).now = RunStatus(RunState.FAILED, tail=f"token {secret}", exit_code=1)
    assert secret not in str(look(world, repair).data)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (RunStatus(RunState.FAILED, "ValueError", 3), "failed with exit code 3"),
        (RunStatus(RunState.CANCELLED), "was cancelled"),
        (RunStatus(RunState.LOST), "was lost"),
        (RunStatus(RunState.SUCCEEDED), "registered no new version"),
    ],
)
def test_a_workload_that_brings_no_version_disproves(status: RunStatus, says: str) -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    launcher_of(world).now = status
    seen = look(world, repair, after_s=90)
    assert seen.proven is False
    assert says in seen.reason
    assert seen.data["tail"] == status.tail
    assert seen.data["spent"] == {"gpu_minutes": 1.5}


def test_a_workload_that_registers_a_version_proves() -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    launcher_of(world).now = RunStatus(RunState.SUCCEEDED, "done", 0)
    number = registry_of(world).add("churn-model", created_at=NOW, tags={"heal.id": "key-0"}, code_sha="c0de").number
    seen = look(world, repair)
    assert (seen.proven, seen.data["version"], seen.data["code_sha"]) == (True, number, "c0de")


def test_a_workload_that_never_began_is_started_again() -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    launcher_of(world).now = RunStatus(RunState.PENDING)
    launcher_of(world).started.clear()
    assert look(world, repair).proven is None
    assert [spec.key for spec in launcher_of(world).started] == ["key-0"]


def test_a_workload_past_its_time_or_taken_back_is_ended() -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    assert look(world, repair, after_s=3600).proven is False
    assert launcher_of(world).ended == ["handle-key-0"]
    launcher_of(world).ended.clear()
    assert ACTION.undo(repair, world.tools).conclusion is Conclusion.SUCCESS
    assert launcher_of(world).ended == ["handle-key-0"]


def test_a_launcher_that_is_gone_disproves() -> None:
    world = the_stage(BY_WORKLOAD)
    repair = applied(world)
    gone: Tools = replace(world.tools, launchers={})
    assert ACTION.look(repair, RetrainParams(), gone).proven is False


def run_of(repair: Repair) -> int:
    assert repair.outcome is not None
    return int(repair.outcome.data["run_id"])

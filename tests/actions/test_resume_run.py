"""The action that starts a failed run again, and the repair that waits for it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from actions.resume_run import ResumeParams, ResumeRun
from actions.retrain_model import RetrainModel, RetrainParams
from app.domain.errors import LeaseLost, Refused
from app.domain.model import ModelRules, Retrain
from app.domain.outcome import Conclusion
from app.domain.policy import Policy
from app.domain.repair import Look, Repair
from app.domain.run import EndedRun
from app.ports.launcher import RunSpec, RunState, RunStatus
from app.ports.plugins import Shelf, Tools
from tests.actions.stage import NOW, Stage, stage
from tests.twins.launcher import MemoryLauncher
from tests.twins.registry import MemoryRegistry

ACTION, TRAINING = ResumeRun(), RetrainModel()
ADVICE = {"batch": 4, "accumulate": 4}
HOW = Retrain(workload="speech", inputs={"batch": "16", "accumulate": "1"}, timeout_s=3600)


@dataclass
class Later:
    after_s: float = 0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.after_s)


class World:
    """A training has been started; `incident` is that of its run, once it fails."""

    def __init__(self) -> None:
        found = stage(
            {}, facts={"model": "speech"}, policy=Policy(models={"speech": ModelRules(registry="s", retrain=HOW)})
        )
        self.launcher, self.clock, self.registry = MemoryLauncher(), Later(), MemoryRegistry()
        self.mended: bool | None = True
        tools = replace(found.tools, mending=lambda _, __: self.mended, registry=self.registry, clock=self.clock)
        tools = replace(tools, launchers={"process": self.launcher})
        self.stage = replace(found, tools=tools)
        repair = replace(self.stage.repair(TRAINING), effect_key="train")
        self.training = self.applied(repair, TRAINING, RetrainParams())
        self.resumed = 0

    @property
    def tools(self) -> Tools:
        return self.stage.tools

    @property
    def failed(self) -> Stage:
        """What the incident of the failed run shows to its repair."""
        facts = {"launcher": "process", "run": "run-of-train"}
        incident = replace(self.stage.incident, finding=replace(self.stage.incident.finding, facts=facts))
        return replace(self.stage, incident=incident, tools=replace(self.tools, incident=incident))

    def applied(self, repair: Repair, action: Any, params: Any) -> Repair:
        where = self.stage if action is TRAINING else self.failed
        plan = action.plan(where.incident, params, where.tools)
        assert plan.refusal == ""
        outcome = action.apply(repair, params, plan, where.tools)
        assert outcome.conclusion is Conclusion.SUCCESS
        return replace(repair, plan=plan, outcome=outcome, applied_at=self.clock.now())

    def resume(self) -> Repair:
        self.resumed += 1
        return self.applied(
            replace(self.stage.repair(ACTION), effect_key=f"resume-{self.resumed}"), ACTION, ResumeParams()
        )

    def refusal(self, at_most: int = 2) -> str:
        return ACTION.plan(self.failed.incident, ResumeParams(at_most=at_most), self.failed.tools).refusal

    def look(self, repair: Repair) -> Look:
        if repair is self.training:
            return TRAINING.look(repair, RetrainParams(), self.tools)
        return ACTION.look(repair, ResumeParams(), self.failed.tools)


@pytest.fixture
def world() -> World:
    return World()


# the run that goes on


def test_it_goes_on_with_its_settings_what_it_advises_and_the_first_ones_id(world: World) -> None:
    world.launcher.fail("host_oom", advice=ADVICE)
    world.clock.after_s = 600
    repair = world.resume()
    settings = {"batch": "4", "accumulate": "4", "heal_id": "train", "register_as": "s"}
    assert world.launcher.started[1] == RunSpec("resume-1", "speech", "train", settings, 3000, "run-of-train")
    assert repair.plan is not None
    assert repair.plan.calls == ("resume speech train (process) from run run-of-train with accumulate=4, batch=4",)
    assert repair.plan.costs == {"gpu_minutes": 50}
    assert repair.plan.why == "host_oom came"


@pytest.mark.parametrize("writes", range(1, 7))
def test_a_worker_that_stops_after_any_note_starts_it_once(world: World, writes: int) -> None:
    world.launcher.fail("preempted")
    where = world.failed
    repair = replace(world.stage.repair(ACTION), effect_key="resume-1")
    plan = ACTION.plan(where.incident, ResumeParams(), where.tools)
    with pytest.raises(LeaseLost):
        ACTION.apply(repair, ResumeParams(), plan, replace(where.tools, shelf=Stops(where.tools.shelf, writes)))
    outcome = ACTION.apply(repair, ResumeParams(), plan, where.tools)
    assert outcome == ACTION.apply(repair, ResumeParams(), plan, where.tools)
    assert [each.key for each in world.launcher.started] == ["train", "resume-1"]
    world.launcher.finish()
    assert world.look(replace(repair, outcome=outcome, applied_at=NOW)).proven is True


@dataclass
class Stops:
    """A shelf at which the worker ends after so many writes."""

    shelf: Shelf
    writes: int

    def get(self, name: str) -> Any:
        return self.shelf.get(name)

    def put(self, name: str, data: Any) -> None:
        self.shelf.put(name, data)
        self.writes -= 1
        if not self.writes:
            raise LeaseLost("stopped here")


def test_its_end_proves_and_another_failure_disproves(world: World) -> None:
    world.launcher.fail("preempted")
    repair = world.resume()
    assert (world.look(repair).proven, world.look(repair).progress) == (None, "epoch 1")
    world.launcher.fail("host_oom", advice=ADVICE)
    seen = world.look(repair)
    assert (seen.proven, seen.run is not None) == (False, True)
    assert "host_oom came" in seen.reason
    again = world.resume()
    assert world.launcher.started[-1].resume == "run-of-resume-1"
    world.launcher.finish()
    seen = world.look(again)
    assert (seen.proven, seen.reason) == (True, "the run came to its end with accumulate=4, batch=4")
    assert seen.run is not None
    assert (seen.run.failure, seen.run.restarts, seen.run.first) == (None, 2, "run-of-train")


def test_what_cannot_go_on_is_refused_with_the_reason(world: World) -> None:
    assert "goes on already" in world.refusal()
    world.launcher.fail("bug", resumable=False)
    assert "cannot go on from where it stopped (bug)" in world.refusal()
    world.launcher.fail("host_oom", advice={"batch": 4})
    assert "4 examples a step, and it had 16" in world.refusal()
    world.launcher.finish()
    assert "come to its end" in world.refusal()
    for state, says in (
        (RunState.FAILED, "does not say why"),
        (RunState.LOST, "not say why"),
        (RunState.CANCELLED, "was cancelled"),
    ):
        world.launcher.statuses["run-of-train"] = RunStatus(state)
        assert says in world.refusal()
    plain = replace(
        world.stage, incident=replace(world.stage.incident, finding=replace(world.stage.incident.finding, facts={}))
    )
    assert "only a run that a repair has started" in ACTION.plan(plain.incident, ResumeParams(), plain.tools).refusal


def test_it_is_started_again_no_more_often_than_allowed_and_within_the_first_ones_time(world: World) -> None:
    for _ in range(2):
        world.launcher.fail("preempted")
        world.resume()
    world.launcher.fail("preempted")
    assert "2 times already" in world.refusal()
    assert world.refusal(at_most=3) == ""
    world.clock.after_s = 3590
    assert "too little is left of models.speech.retrain.timeout" in world.refusal(at_most=3)


def test_a_launcher_that_has_lost_what_it_kept_refuses(world: World) -> None:
    world.launcher.fail("preempted")
    plan = ACTION.plan(world.failed.incident, ResumeParams(), world.failed.tools)
    repair = replace(world.stage.repair(ACTION), effect_key="resume-1")

    def gone(spec: RunSpec) -> str:
        raise Refused(f"nothing is left of {spec.resume}")

    world.launcher.start = gone  # type: ignore[method-assign]
    with pytest.raises(Refused, match="nothing is left of run-of-train"):
        ACTION.apply(repair, ResumeParams(), plan, world.failed.tools)


def test_undo_ends_its_own_run_and_not_one_that_goes_on_from_it(world: World) -> None:
    world.launcher.fail("preempted")
    first = world.resume()
    world.launcher.fail("preempted")
    second = world.resume()
    assert ACTION.undo(first, world.failed.tools).conclusion is Conclusion.SUCCESS
    assert world.launcher.cancelled == []
    ACTION.undo(second, world.failed.tools)
    assert world.launcher.cancelled == ["run-of-resume-2"]


# the training that waits


def test_the_training_waits_tells_of_the_run_and_goes_on_with_what_it_made(world: World) -> None:
    world.launcher.fail("host_oom", advice=ADVICE, peak_bytes=9)
    for nobody_has_looked in (None, True):
        world.mended = nobody_has_looked
        seen = world.look(world.training)
        assert seen.proven is None
        assert "host_oom came" in seen.reason
    assert isinstance(seen.run, EndedRun)
    assert (seen.run.about, seen.run.model, seen.run.handle) == ("model speech", "speech", "run-of-train")
    assert seen.run.failure is not None
    assert seen.run.failure.facts == {"peak_bytes": 9}
    world.resume()
    assert world.look(world.training).progress == "epoch 1"
    world.launcher.finish()
    number = world.registry.add("s", created_at=NOW, tags={"heal.id": "train"}).number
    seen = world.look(world.training)
    assert (seen.proven, seen.data["version"]) == (True, number)
    found = world.registry.version("s", number)
    assert found is not None
    assert found.tags["heal.inputs"] == '{"accumulate": "4", "batch": "4"}'


def test_the_training_pays_for_its_own_run_only(world: World) -> None:
    world.clock.after_s = 300
    world.launcher.fail("preempted")
    assert world.look(world.training).data["spent"] == {"gpu_minutes": 5}
    world.clock.after_s = 900
    repair = world.resume()
    world.clock.after_s = 1500
    world.launcher.finish()
    world.registry.add("s", created_at=NOW, tags={"heal.id": "train"})
    assert world.look(world.training).data["spent"] == {"gpu_minutes": 5}
    assert world.look(repair).data["spent"] == {"gpu_minutes": 10}


@pytest.mark.parametrize(
    ("kind", "resumable", "mended", "after_s"),
    [("host_oom", True, False, 60), ("data_missing", False, True, 60), ("host_oom", True, True, 3600)],
    ids=["left", "not resumable", "out of time"],
)
def test_the_training_fails_where_nothing_gets_its_run_through(
    world: World, kind: str, resumable: bool, mended: bool, after_s: float
) -> None:
    world.launcher.fail(kind, advice=ADVICE, resumable=resumable)
    world.mended, world.clock.after_s = mended, after_s
    seen = world.look(world.training)
    assert (seen.proven, seen.reason.startswith(f"the training failed, as it says itself ({kind})")) == (False, True)
    assert seen.run is not None


def test_another_training_of_the_model_waits_while_the_run_is_repaired(world: World) -> None:
    world.launcher.fail("preempted")
    other = replace(world.stage.repair(TRAINING), effect_key="other")
    plan = TRAINING.plan(world.stage.incident, RetrainParams(), world.tools)
    assert TRAINING.apply(other, RetrainParams(), plan, world.tools).conclusion is Conclusion.STALE
    world.mended = False
    world.applied(other, TRAINING, RetrainParams())


def test_no_secret_of_a_failure_is_told(world: World) -> None:
    secret = "ghp_" + "a1B2" * 9
    world.launcher.fail("preempted", machine=secret)
    world.launcher.statuses["run-of-train"].report["failure"]["message"] = secret  # type: ignore[index]
    seen = world.look(world.training)
    assert secret not in str(seen)

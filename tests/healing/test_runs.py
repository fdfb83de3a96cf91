"""Runs on a launcher that fail: what they say is a delivery, and gets them going again."""

from collections.abc import Mapping

import numpy as np
import pytest

from app.adapters import sources
from app.domain.event import WorkloadFailed
from app.domain.incident import Incident, State
from app.domain.repair import Verb
from app.domain.run import EndedRun, Failure
from app.domain.tenant import Sender
from app.ports.queue import Work
from tests.healing.world import OUT_OF_MEMORY, TRANSIENT, World, killed_at
from tests.twins.launcher import MemoryLauncher

CONFIG = """\
version: 1
mode: auto
playbooks:
  host_oom:
    - action: benchmark_model
      params: {workload: speech, settings: {batch: 16, accumulate: 1}, timeout_minutes: 60}
    - open_issue
"""
ADVICE = {"batch": 4, "accumulate": 4}


@pytest.fixture
def launcher() -> MemoryLauncher:
    return MemoryLauncher()


@pytest.fixture
def world(world: World, launcher: MemoryLauncher) -> World:
    """A job has failed, and the benchmark that is its remedy runs."""
    told = world.kit.parse
    object.__setattr__(world.kit, "launchers", {"process": launcher})
    object.__setattr__(
        world.kit,
        "parse",
        lambda delivery, where: (
            sources.interpret(delivery, where) if delivery.source == "runs" else told(delivery, where)
        ),
    )
    return world


def begin(world: World, config: str = CONFIG) -> None:
    world.project(config)
    world.fail(OUT_OF_MEMORY)
    world.drain()


def look(world: World, times: int = 3) -> None:
    """Time passes."""
    for _ in range(times):
        world.wait_for(Work.REPAIR)
        world.drain()


def measured() -> Mapping[str, object]:
    samples = np.random.default_rng(1).normal(10, 0.1, 30).tolist()
    return {"machine": {"class": "cpu"}, "metrics": [{"name": "x", "unit": "s", "better": "lower", "samples": samples}]}


def of_runs(world: World) -> list[Incident]:
    with world.store.begin() as ledger:
        found = ledger.incidents_at(world.forge.repository.id)
    return [each for each in found if each.finding.subject.startswith("workload")]


def tried(world: World, incident_id: int) -> list[str]:
    return [each.remedy.action for each in world.repairs(incident_id) if each.verb is Verb.APPLY]


def states(world: World) -> list[State]:
    return [world.incident(1).state, *(each.state for each in of_runs(world))]


def test_a_run_that_fails_is_resumed_as_it_advises_and_both_incidents_heal(
    world: World, launcher: MemoryLauncher
) -> None:
    begin(world)
    launcher.fail("host_oom", advice=ADVICE, limit_bytes=4 << 30)
    look(world)
    (incident,) = of_runs(world)
    assert (incident.finding.kind, incident.finding.detector) == ("host_oom", "resource_constraint")
    assert incident.finding.subject.startswith("workload speech / benchmark (benchmark speech-")
    assert incident.finding.confidence == 1
    assert incident.finding.facts["told"] == {"limit_bytes": 4 << 30}
    first, again = launcher.started
    assert (again.resume, again.settings["batch"], again.settings["accumulate"]) == (f"run-of-{first.key}", "4", "4")
    assert {**again.settings, "batch": "16", "accumulate": "1"} == dict(first.settings)
    assert states(world) == [State.VERIFYING, State.VERIFYING]
    launcher.finish(measured())
    look(world)
    assert states(world) == [State.HEALED, State.HEALED]
    assert len(launcher.started) == 2


def test_each_failure_of_the_chain_counts_with_its_newest_advice_and_after_two_restarts_a_person_is_told(
    world: World, launcher: MemoryLauncher
) -> None:
    begin(world)
    launcher.fail("host_oom", advice=ADVICE)
    look(world)
    launcher.fail("nan_loss", advice={"learning_rate": 0.0001}, learning_rate=0.001)
    look(world)
    (incident,) = of_runs(world)  # the same run goes on, and it is the same incident
    assert incident.finding.kind == "nan_loss"
    third = launcher.started[2]
    assert third.settings["learning_rate"] == "0.0001"
    assert (third.settings["batch"], third.settings["accumulate"]) == ("4", "4")
    launcher.fail("host_oom", advice={"batch": 2, "accumulate": 8})
    look(world)
    assert len(launcher.started) == 3
    assert states(world) == [State.ESCALATED, State.ESCALATED]
    assert tried(world, incident.id) == ["resume_run", "resume_run", "open_issue"]
    assert launcher.cancelled == []


def test_a_person_is_asked_first_where_the_rules_say_so_and_the_first_repair_waits(
    world: World, launcher: MemoryLauncher
) -> None:
    begin(world, CONFIG + "actions: {resume_run: approve}\n")
    launcher.fail("cuda_oom", advice=ADVICE)
    look(world)
    assert states(world) == [State.VERIFYING, State.AWAITING_APPROVAL]
    assert len(launcher.started) == 1
    world.say(f"approve {of_runs(world)[0].id}")
    look(world)
    launcher.finish(measured())
    look(world)
    assert states(world) == [State.HEALED, State.HEALED]


def test_a_person_who_says_no_ends_the_wait(world: World, launcher: MemoryLauncher) -> None:
    begin(world, CONFIG + "actions: {resume_run: approve}\n")
    launcher.fail("preempted")
    look(world)
    world.say(f"reject {of_runs(world)[0].id}")
    look(world)
    assert states(world) == [State.ESCALATED, State.DISMISSED]
    assert len(launcher.started) == 1


@pytest.mark.parametrize(
    ("more", "failure"),
    [
        ("detectors: {resource_constraint: observe}\n", "disk_full"),
        ("", "bug"),
    ],
    ids=["observed", "unknown"],
)
def test_what_nobody_repairs_fails_the_first_repair(
    world: World, launcher: MemoryLauncher, more: str, failure: str
) -> None:
    world.project(CONFIG.replace("host_oom:", "network_transient:") + more)
    world.fail(TRANSIENT)  # which another detector claims
    world.drain()
    launcher.fail(failure)
    look(world)
    assert world.incident(1).state is State.ESCALATED
    assert len(launcher.started) == 1


def test_a_playbook_of_the_team_for_runs_goes_before_the_usual(world: World, launcher: MemoryLauncher) -> None:
    begin(world, CONFIG + "  workload_host_oom: [open_issue]\n")
    launcher.fail("host_oom", advice=ADVICE)
    look(world)
    assert states(world) == [State.ESCALATED, State.ESCALATED]
    assert len(launcher.started) == 1


def test_a_later_run_that_comes_to_its_end_ends_what_was_escalated(world: World, launcher: MemoryLauncher) -> None:
    begin(world)
    launcher.fail("data_missing", resumable=False)
    look(world)
    assert states(world) == [State.ESCALATED, State.ESCALATED]
    world.say("retry 1")
    look(world)
    launcher.finish(measured())
    look(world)
    assert states(world) == [State.HEALED, State.RECOVERED]


def test_the_restarts_take_no_more_of_the_budget_than_the_run_was_given(world: World, launcher: MemoryLauncher) -> None:
    begin(world, CONFIG + "limits: {gpu_minutes_per_day: 60}\n")
    launcher.fail("host_oom", advice=ADVICE)
    look(world)
    launcher.finish(measured())
    look(world)
    assert states(world) == [State.HEALED, State.HEALED]


@pytest.mark.parametrize("step", ["after look", "after diagnose", "before apply"])
def test_a_worker_that_dies_at_any_step_starts_nothing_twice(world: World, launcher: MemoryLauncher, step: str) -> None:
    begin(world)
    launcher.fail("host_oom", advice=ADVICE)
    die_at(world, step)
    look(world)
    assert len(launcher.started) == 2
    launcher.finish(measured())
    look(world)
    assert states(world) == [State.HEALED, State.HEALED]
    assert tried(world, 2) == ["resume_run"]


def test_taking_the_first_repair_back_ends_the_run_that_goes_on(world: World, launcher: MemoryLauncher) -> None:
    begin(world)
    launcher.fail("preempted")
    look(world)
    world.say("undo 1")
    look(world)
    assert launcher.cancelled == [launcher.newest]
    assert len(launcher.started) == 2
    assert world.incident(1).state is State.DISMISSED


def test_the_word_of_a_run_that_has_gone_on_since_opens_nothing_anew(world: World, launcher: MemoryLauncher) -> None:
    """Taken in late, or replayed by a person."""
    begin(world)
    launcher.fail("host_oom", advice=ADVICE)
    look(world)
    launcher.finish(measured())
    look(world)
    assert states(world) == [State.HEALED, State.HEALED]
    first = f"run-of-{launcher.started[0].key}"
    about = of_runs(world)[0].finding.subject.partition("(")[2].removesuffix(")")
    run = EndedRun("process", first, "speech", "benchmark", about, failure=Failure("host_oom", resumable=True))
    world.arrive(WorkloadFailed(repository=world.forge.repository, sender=Sender("process"), run=run))
    world.drain()
    assert states(world) == [State.HEALED, State.HEALED]
    assert tried(world, 2) == ["resume_run"]


def die_at(world: World, step: str) -> None:
    """A worker ends without a word at this step, and another one goes on."""

    with killed_at(world, step):
        look(world)
    for work in Work:
        world.expire(work)

"""Runners, queues, endpoints and resources, from an event to an incident and back."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.domain.errors import RateLimited
from app.domain.event import AlertsReported, SamplesReported, Ticked
from app.domain.fleet import Answered, GitHubStatus, Operations, Part, Runner
from app.domain.incident import State
from app.domain.signal import Alert, Series
from app.domain.tenant import Sender
from app.healing.gather_fleet import MOST_FETCHED, fleet, operations, timeouts
from detectors.infrastructure_health import InfrastructureHealth
from detectors.resource_constraint import ResourceConstraint
from tests.healing.world import AUTO, World

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
WORKFLOW = """\
name: CI
on: [push]
jobs:
  train:
    name: Train
    timeout-minutes: 90
    runs-on: ubuntu-latest
    steps: [{run: "true"}]
  test:
    timeout-minutes: ${{ inputs.minutes }}
    runs-on: ubuntu-latest
    steps: [{run: "true"}]
"""


@dataclass
class MemoryWatch:
    repository: str = "acme/trainer"
    status: GitHubStatus | None = None
    answers: list[Answered] = field(default_factory=list)
    own: list[Part] = field(default_factory=list)

    def github(self) -> GitHubStatus | None:
        return self.status

    def endpoints(self) -> list[Answered]:
        return self.answers

    def parts(self) -> list[Part]:
        return self.own


@pytest.fixture
def watched(world: World) -> World:
    world.project(AUTO)
    watch = MemoryWatch()
    detectors = {"infrastructure_health": InfrastructureHealth(), "resource_constraint": ResourceConstraint()}
    world.kit = replace(world.kit, watch=watch, detectors={**world.kit.detectors, **detectors})
    return world


def tick(world: World, minutes: float = 0.0) -> Ticked:
    return Ticked(repository=world.forge.repository, sender=Sender("schedule"), at=START + timedelta(minutes=minutes))


def look(world: World, minutes: float) -> None:
    world.arrive(tick(world, minutes))
    world.drain()


def gpu(online: bool, **more) -> Runner:
    return Runner(7, "gpu-1", online, labels=frozenset({"self-hosted", "gpu"}), **more)


def test_a_runner_that_went_away_is_an_incident_and_recovers_when_it_is_back(watched: World) -> None:
    watched.forge.own_runners = [gpu(True)]
    look(watched, 0)
    watched.forge.own_runners = [gpu(False)]
    look(watched, 15)
    assert watched.forge.issues == {}
    look(watched, 46)
    incident = watched.incident()
    assert (incident.finding.kind, incident.finding.facts["offline_s"]) == ("runner_offline", 31 * 60)
    assert incident.issue_number is not None
    watched.forge.own_runners = [gpu(True)]
    look(watched, 60)
    assert watched.incident().state is State.RECOVERED


def test_a_runner_that_was_never_seen_online_is_left_alone(watched: World) -> None:
    watched.forge.own_runners = [gpu(False), replace(gpu(False), id=8, ephemeral=True)]
    for minutes in (0, 60, 120):
        look(watched, minutes)
    assert watched.forge.issues == {}


def test_a_runner_that_comes_and_goes_is_counted_from_the_last_time(watched: World) -> None:
    for minutes, online in ((0, True), (10, False), (20, True), (30, False)):
        watched.forge.own_runners = [gpu(online)]
        assert fleet(watched.kit, watched.forge, tick(watched, minutes)) is not None
    seen = fleet(watched.kit, watched.forge, tick(watched, 40))
    assert seen is not None
    assert seen.runners is not None
    assert seen.runners[0].offline_since == START + timedelta(minutes=30)


def test_without_the_permission_the_runners_are_unknown_and_the_rest_is_seen(watched: World) -> None:
    watched.forge.own_runners = None
    seen = fleet(watched.kit, watched.forge, tick(watched))
    assert seen is not None
    assert seen.runners is None


def test_only_a_few_calls_are_made_at_a_look_and_none_twice_for_what_is_over(watched: World) -> None:
    sha = watched.forge.branches["main"]
    for _ in range(20):
        run = watched.forge.add_run(head_sha=sha, head_branch="main", jobs=[watched.forge.job("train", "success")])
    watched.forge.add_run(head_sha=sha, head_branch="main", status="queued")
    for known in (MOST_FETCHED, 2 * MOST_FETCHED, 3 * MOST_FETCHED, 20, 20):
        watched.forge.calls.clear()
        seen = fleet(watched.kit, watched.forge, tick(watched))
        assert seen is not None
        assert len({ran.job.run_id for ran in seen.jobs}) == known
        assert len(watched.forge.calls) <= 10
    assert watched.forge.calls.count("jobs") == 1  # of the run that is not over
    watched.forge.rerun_failed_jobs(run.id)
    watched.forge.finish_run(run.id, "success", [watched.forge.job("train", "success")])
    seen = fleet(watched.kit, watched.forge, tick(watched))
    assert seen is not None
    assert {ran.job.attempt for ran in seen.jobs if ran.job.run_id == run.id} == {2}


def test_a_limit_of_github_is_passed_on(watched: World) -> None:
    watched.forge.fail_next("runners", RateLimited("slow down", retry_at=START))
    with pytest.raises(RateLimited):
        fleet(watched.kit, watched.forge, tick(watched))


def test_a_jobs_timeout_is_read_from_its_workflow(watched: World) -> None:
    sha = watched.forge.push("main", {".github/workflows/ci.yml": WORKFLOW})
    jobs = [watched.forge.job(name, "success") for name in ("Train", "train (3.12, cuda)", "test", "other")]
    hosted = replace(jobs[3], job=replace(jobs[3].job, runner_group="GitHub Actions"))
    watched.forge.add_run(head_sha=sha, head_branch="main", jobs=[*jobs[:3], hosted])
    seen = fleet(watched.kit, watched.forge, tick(watched))
    assert seen is not None
    assert [ran.limit_s for ran in seen.jobs] == [5400, 5400, None, 6 * 3600]


@pytest.mark.parametrize(
    "text",
    ["", "jobs: [", "- a", "jobs: {a: 1}", "jobs: {a: {timeout-minutes: -1}}", "jobs: {a: {timeout-minutes: true}}"],
)
def test_a_workflow_that_says_nothing_has_no_timeouts(text: str) -> None:
    assert timeouts(text) == {}


def test_merged_keys_are_not_read() -> None:
    assert timeouts("a: &a {timeout-minutes: 5}\njobs: {b: {<<: *a}}") == {}


def test_an_endpoint_that_stays_down_is_told_in_the_operators_repository_alone(watched: World) -> None:
    watch = watched.kit.watch
    assert isinstance(watch, MemoryWatch)
    watch.answers = [Answered("https://serve.example/", 503, 0.1)]
    watch.own = [Part("workers", True, "no row waits")]
    look(watched, 0)
    assert watched.forge.issues == {}
    look(watched, 15)
    assert watched.incident().finding.kind == "endpoint_down"
    watch.answers = [Answered("https://serve.example/", 200, 0.1)]
    look(watched, 30)
    assert watched.incident().state is State.RECOVERED
    watch.repository = "acme/other"
    assert operations(watched.kit, watched.forge, tick(watched)) is None
    watch.repository = ""
    assert operations(watched.kit, watched.forge, tick(watched)) is None
    watch.repository = "Acme/Trainer"
    assert isinstance(operations(watched.kit, watched.forge, tick(watched)), Operations)


def samples(world: World, values: np.ndarray) -> SamplesReported:
    points = tuple((1.7e9 + 120.0 * n, float(value)) for n, value in enumerate(values))
    series = Series("disk_used_ratio", points, {"instance": "node-1", "mountpoint": "/data"})
    return SamplesReported(repository=world.forge.repository, sender=Sender("agent"), series=(series,))


def test_a_disk_that_fills_is_an_incident_and_recovers_when_there_is_room(watched: World) -> None:
    watched.arrive(samples(watched, np.full(60, 0.5)))
    watched.drain()
    assert watched.forge.issues == {}
    watched.arrive(samples(watched, np.linspace(0.4, 0.8, 180)))
    watched.drain()
    incident = watched.incident()
    assert (incident.finding.kind, incident.finding.subject) == (
        "disk_filling",
        "disk (instance node-1, mountpoint /data)",
    )
    assert incident.issue_number is not None
    watched.arrive(samples(watched, np.concatenate([np.linspace(0.4, 0.8, 180), np.full(20, 0.3)])))
    watched.drain()
    assert watched.incident().state is State.RECOVERED


def test_an_alert_of_a_full_disk_is_an_incident_until_it_is_over(watched: World) -> None:
    for firing in (True, False):
        alert = Alert("HostOutOfDiskSpace", firing, {"instance": "node-1"}, {"summary": "The disk is full"})
        watched.arrive(
            AlertsReported(repository=watched.forge.repository, sender=Sender("alertmanager"), alerts=(alert,))
        )
        watched.drain()
        assert watched.incident().finding.kind == "disk_high"
    assert watched.incident().state is State.RECOVERED

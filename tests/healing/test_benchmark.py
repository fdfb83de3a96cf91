"""A benchmark as a rung: from the start of its workflow to the check run that fails."""

import json

import numpy as np
import pytest

from app.domain.incident import Incident, State
from app.domain.outcome import Conclusion
from tests.healing.world import OUT_OF_MEMORY, World

CONFIG = """\
version: 1
mode: auto
playbooks:
  host_oom:
    - action: benchmark_model
      params: {workflow: benchmark.yml, ref: main}
    - open_issue
"""
WORKFLOW = "on: {workflow_dispatch: {inputs: {heal_id: {required: false}}}}\njobs: {}\n"


def report(median: float, seed: int) -> bytes:
    samples = median * np.exp(np.random.default_rng(seed).normal(0, 0.02, 30))
    metric = {"name": "latency_ms", "unit": "ms", "better": "lower", "samples": samples.tolist()}
    return json.dumps({"machine": {"class": "h100-8"}, "metrics": [metric]}).encode()


def measured(world: World, median: float, seed: int) -> Incident:
    """Something fails on a branch of its own, and the benchmark that is due runs to its end."""
    world.forge.push(f"topic-{seed}", world.forge.commits[world.forge.branches["main"]].files)
    world.fail(OUT_OF_MEMORY, branch=f"topic-{seed}")
    world.drain()
    run_id = int(world.forge.written("dispatch")[-1]["run_id"])
    world.forge.upload(run_id, "heal-benchmark", {"benchmark.json": report(median, seed)})
    world.finish(run_id, "success")
    world.drain()
    return world.incident(seed)


@pytest.fixture
def benchmarked(world: World) -> World:
    world.project(CONFIG)
    world.forge.push("main", {".github/workflows/benchmark.yml": WORKFLOW})
    return world


def test_what_is_not_worse_heals_and_what_is_fails_the_check_and_is_told_to_a_person(benchmarked: World) -> None:
    world = benchmarked
    assert measured(world, 10.0, 1).state is State.HEALED
    assert measured(world, 10.1, 2).state is State.HEALED
    incident = measured(world, 13.0, 3)
    assert incident.state is State.ESCALATED
    assert len(world.forge.written("dispatch")) == 3
    issue = world.forge.issues[incident.issue_number or 0]
    assert "latency" in issue.body
    check = next(check for check in world.forge.checks if check.sha == incident.head_sha)
    assert check.text.conclusion is Conclusion.FAILURE
    assert "WORSE" in check.text.text

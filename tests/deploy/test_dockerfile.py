"""The Dockerfile, read as text: no Docker engine is needed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def _stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            current = stages.setdefault(rest.split(" AS ")[1], [])
        current.append((word, rest.strip()))
    return stages


STAGES = _stages()


def _last(stage: str, word: str) -> str:
    """The instruction in force, inherited from `base` if the stage has none of its own."""
    here = [rest for instruction, rest in STAGES[stage] if instruction == word]
    return here[-1] if here else [rest for instruction, rest in STAGES["base"] if instruction == word][-1]


def test_the_targets_exist_and_share_a_base() -> None:
    assert list(STAGES) == ["build", "base", "worker", "web"]
    assert STAGES["web"][0] == ("FROM", "base AS web")
    assert STAGES["worker"][0] == ("FROM", "base AS worker")


@pytest.mark.parametrize("stage", ["build", "base"])
def test_the_image_beneath_is_pinned_to_a_version(stage: str) -> None:
    assert re.match(r"python:3\.11[\w.-]*-slim", STAGES[stage][0][1])


@pytest.mark.parametrize("stage", ["web", "worker"])
def test_the_last_user_of_a_target_is_not_root(stage: str) -> None:
    assert _last(stage, "USER") == "10001:10001"


@pytest.mark.parametrize("stage", ["web", "worker"])
def test_signals_reach_the_process_itself(stage: str) -> None:
    assert json.loads(_last(stage, "ENTRYPOINT")) == ["heal"]
    assert isinstance(json.loads(_last(stage, "CMD")), list)
    assert _last(stage, "STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize("stage", ["web", "worker"])
def test_a_target_says_how_it_is_checked_as_compose_does(stage: str) -> None:
    compose = YAML(typ="safe", pure=True).load(ROOT / "docker-compose.yml")
    command = json.loads(_last(stage, "HEALTHCHECK").partition("CMD ")[2])
    assert command[-1] == compose["services"][stage]["healthcheck"]["test"][-1]


def test_no_development_tools_are_installed() -> None:
    extras = re.findall(r"--extra (\w+)", " ".join(rest for _, rest in STAGES["build"]))
    assert extras == ["postgres", "redis"]


def test_every_package_of_the_bot_is_in_the_image_and_the_sandbox_is_not() -> None:
    copied = {rest.split()[0] for word, rest in STAGES["build"] if word == "COPY"}
    assert {"app", "detectors", "actions", "workers", "migrations"} <= copied
    assert "sandbox" not in copied


def test_what_is_copied_is_let_through_by_dockerignore() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for word, rest in STAGES["build"] if word == "COPY" for name in rest.split()[:-1]}
    assert copied == allowed


def test_the_workers_check_finds_the_poll_and_not_itself() -> None:
    check = json.loads(_last("worker", "HEALTHCHECK").partition("CMD ")[2])
    assert subprocess.run(_narrowed(check, "self"), check=False).returncode == 1
    poll = subprocess.Popen([sys.executable, "-c", "input()", "-m", "workers.poll"], stdin=subprocess.PIPE)
    try:
        assert subprocess.run(_narrowed(check, str(poll.pid)), check=False).returncode == 0
    finally:
        poll.communicate()


def _narrowed(check: list[str], process: str) -> list[str]:
    """The same check, looking at one process: others of this machine are none of this test's business."""
    return [part.replace("/proc/[0-9]*/", f"/proc/{process}/") for part in check]

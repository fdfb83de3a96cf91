"""Launchers to test, and the workload that they start: what both of them are asked is in test_launchers.py."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.adapters.launchers.process import ProcessLauncher
from app.adapters.launchers.ray import RayLauncher
from app.ports.launcher import ENDED, Launcher, RunSpec, RunStatus
from tests.adapters.ray_stand_in import StandIn, stand_in
from tests.e2e.stage import wait_for

PROGRAM = Path(__file__).with_name("workload.py")
COMMAND = (sys.executable, str(PROGRAM))


@dataclass
class ProcessWorld:
    """A launcher; `again` makes another one, as after a restart of the bot."""

    directory: Path
    unknown: str = "0" * 32

    @property
    def launcher(self) -> ProcessLauncher:
        return self.again()

    def again(self, **more: Any) -> ProcessLauncher:
        return ProcessLauncher(self.directory, command=COMMAND, grace_s=0.5, **more)

    def out(self, handle: str) -> Path:
        return self.directory / handle / "out"

    def beginnings(self, handle: str) -> int:
        return len((self.out(handle) / "started").read_text().splitlines())

    def is_empty(self) -> bool:
        return not self.directory.exists()


@dataclass
class RayWorld:
    """The same with a cluster; `cpus` little, so that all find room at once."""

    directory: Path
    url: str
    cluster: StandIn | None = None
    unknown: str = f"heal-{'0' * 32}"

    @property
    def launcher(self) -> RayLauncher:
        return self.again()

    def again(self, **more: Any) -> RayLauncher:
        return RayLauncher(
            self.url, **{"directory": self.directory, "command": COMMAND, "cpus": 0.01, "timeout_s": 60.0, **more}
        )

    def out(self, handle: str) -> Path:
        return self.directory / handle / "out"

    def beginnings(self, handle: str) -> int:
        return len((self.out(handle) / "started").read_text().splitlines())

    def is_empty(self) -> bool:
        return self.cluster is not None and not self.cluster.jobs and not self.directory.exists()


World = ProcessWorld | RayWorld


@contextmanager
def process_world(tmp_path: Path) -> Iterator[ProcessWorld]:
    made = ProcessWorld(tmp_path / "runs")
    yield made
    made.launcher.reap(frozenset())
    wait_for("all runs to end", lambda: not made.launcher.reap(frozenset()))


@contextmanager
def ray_world(tmp_path: Path) -> Iterator[RayWorld]:
    with stand_in(tmp_path / "logs") as cluster:
        yield RayWorld(tmp_path / "runs", cluster.url, cluster)


def spec(verb: str, key: str = "k1", timeout_s: float = 300.0, **settings: str) -> RunSpec:
    return RunSpec(key, "toy", verb, settings, timeout_s)


def ended(launcher: Launcher, handle: str) -> RunStatus:
    def look() -> RunStatus | None:
        status = launcher.status(handle)
        return status if status.state in ENDED else None

    return wait_for("the run to end", look)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def failure_of(status: RunStatus) -> dict[str, object]:
    assert status.report["outcome"] == "failed"
    failure = status.report["failure"]
    assert isinstance(failure, dict)
    return failure

"""A launcher in memory: runs end as the test says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.errors import Refused
from app.ports.launcher import ENDED, RunSpec, RunState, RunStatus


@dataclass
class MemoryLauncher:
    """Handles are the keys' own; `started` holds each run once."""

    name: str = "process"
    started: list[RunSpec] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    statuses: dict[str, RunStatus] = field(default_factory=dict)

    def start(self, spec: RunSpec) -> str:
        if spec.resume and spec.resume not in self.statuses:
            raise Refused(f"{spec.resume} is no run of this launcher")
        if all(each.key != spec.key for each in self.started):
            self.started.append(spec)
            self.statuses[f"run-of-{spec.key}"] = RunStatus(RunState.RUNNING, tail="epoch 1")
        return f"run-of-{spec.key}"

    def status(self, handle: str) -> RunStatus:
        return self.statuses[handle]

    def cancel(self, handle: str) -> None:
        if self.statuses[handle].state not in ENDED:
            self.statuses[handle] = RunStatus(RunState.CANCELLED)
            self.cancelled.append(handle)

    def reap(self, keys: frozenset[str]) -> list[str]:
        return []

    # as the world would have it

    @property
    def newest(self) -> str:
        return f"run-of-{self.started[-1].key}"

    def fail(
        self, kind: str, *, advice: Mapping[str, object] | None = None, resumable: bool = True, **facts: object
    ) -> None:
        """The newest run ends, and says why."""
        failure = {"kind": kind, "message": f"{kind} came", "advice": advice or {}, "resumable": resumable}
        told = {"outcome": "failed", "failure": {**failure, "facts": facts}}
        self.statuses[self.newest] = RunStatus(RunState.FAILED, "epoch 1\nit broke", 71, told)

    def finish(self, report: Mapping[str, object] | None = None) -> None:
        self.statuses[self.newest] = RunStatus(RunState.SUCCEEDED, "epoch 1\nepoch 2", 0, report or {})

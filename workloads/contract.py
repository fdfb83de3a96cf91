"""What a workload is, what it is told, and what it answers. Standard library only: planning never loads torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

# --- settings ------------------------------------------------------------------------------------------------------


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    choices: Sequence[str] = (),
    positional: bool = False,
) -> Any:
    """A field of a Config: its default, what it is, and what it may be. Sequences are given with commas."""
    told = {"help": help, "unit": unit, "least": least, "most": most, "choices": choices, "positional": positional}
    return field(default=default, metadata=told)


# --- failures ------------------------------------------------------------------------------------------------------


class Failure(StrEnum):
    """Why a run failed, told by the run itself."""

    BAD_SETTING = "bad_setting"  # a setting is unknown, or is none of what it may be
    CUDA_OOM = "cuda_oom"
    HOST_OOM = "host_oom"
    NAN_LOSS = "nan_loss"
    DATA_MISSING = "data_missing"
    DATA_MALFORMED = "data_malformed"
    CHECKPOINT_CORRUPT = "checkpoint_corrupt"
    COLLECTIVE_TIMEOUT = "collective_timeout"  # NCCL or gloo waited in vain for another process
    DISK_FULL = "disk_full"
    PREEMPTED = "preempted"  # the machine wants it gone: it has kept a checkpoint
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    KILLED = "killed"  # by a signal that nobody here has sent
    NOT_INSTALLED = "not_installed"  # a library that this verb needs
    BUG = "bug"  # an exception that nobody foresaw


EXIT_CODES: Mapping[Failure, int] = {
    Failure.BUG: 1,
    Failure.BAD_SETTING: 2,
    Failure.NOT_INSTALLED: 3,
    Failure.CUDA_OOM: 70,
    Failure.HOST_OOM: 71,
    Failure.NAN_LOSS: 72,
    Failure.DATA_MISSING: 73,
    Failure.DATA_MALFORMED: 74,
    Failure.CHECKPOINT_CORRUPT: 75,
    Failure.COLLECTIVE_TIMEOUT: 76,
    Failure.DISK_FULL: 77,
    Failure.PREEMPTED: 78,
    Failure.CANCELLED: 79,
    Failure.TIMED_OUT: 80,
    Failure.KILLED: 81,
}
"""What the process ends with; 0 is success."""


RESUMABLE = frozenset(
    {
        Failure.CUDA_OOM,
        Failure.HOST_OOM,
        Failure.NAN_LOSS,
        Failure.COLLECTIVE_TIMEOUT,
        Failure.DISK_FULL,
        Failure.PREEMPTED,
        Failure.TIMED_OUT,
        Failure.KILLED,
    }
)
"""A run that ended so can be gone on with, once what ended it is out of the way."""


class RunFailed(Exception):
    """A run cannot go on. `advice` are settings with which a resumed run is likely to get through; `facts` are numbers
    that explain it, units in their names."""

    def __init__(
        self,
        kind: Failure,
        message: str,
        *,
        advice: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.advice = dict(advice or {})
        self.facts = dict(facts or {})


def failure(failed: RunFailed) -> dict[str, Any]:
    """As it stands in a report. Advice is text, as settings are."""
    return {
        "kind": failed.kind.value,
        "message": str(failed)[:2_000],
        "advice": {name: _text(value) for name, value in failed.advice.items()},
        "resumable": failed.kind in RESUMABLE,
        "facts": failed.facts,
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- reports -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """A number with its unit ("" for a plain ratio or count)."""

    value: float
    unit: str = ""

    def as_json(self) -> dict[str, Any]:
        """What came out as NaN or infinite is no number, and is told as none."""
        value = self.value.item() if hasattr(self.value, "item") else self.value  # numpy's own kinds are no JSON
        if not math.isfinite(value):
            return Unavailable(f"it came out as {value}").as_json()
        return {"value": value, "unit": self.unit}


@dataclass(frozen=True, slots=True)
class Unavailable:
    """There is no number, and why. Never replaced by one."""

    reason: str

    def as_json(self) -> dict[str, Any]:
        return {"unavailable": self.reason}


Metric = Measured | Unavailable


@dataclass(frozen=True, slots=True)
class Samples:
    """Repeated measurements of one thing; `better` is "lower" or "higher"."""

    name: str
    unit: str
    better: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a run measured and left. `artefacts` are paths below the run's folder, by name; `samples` are a benchmark's;
    `drift` is what the drift detector reads, `notes` are sentences for people."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    artefacts: Mapping[str, str] = field(default_factory=dict)
    samples: tuple[Samples, ...] = ()
    drift: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# --- plans ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run would need, as far as it can be told without running it. `gpu`: "none", "optional" or "required".
    Bytes and seconds are estimates; `basis` says what they rest on."""

    gpu: str = "none"
    memory_bytes: Metric = Unavailable("not estimated")
    vram_bytes: Metric = Unavailable("not estimated")
    time_s: Metric = Unavailable("not estimated")
    basis: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "gpu": self.gpu,
            **{name: getattr(self, name).as_json() for name in ("memory_bytes", "vram_bytes", "time_s")},
            "basis": self.basis,
        }


# --- a run, as the workload sees it --------------------------------------------------------------------------------


class Run(Protocol):
    """One execution. The workload writes below `out` only."""

    out: Path
    resume: Path | None
    """The folder of the run that this one goes on from."""

    def event(self, name: str, /, **fields: Any) -> None:
        """One line of events.jsonl: `{"at", "event", …}`."""
        ...

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None:
        """How far it is, and what there is to see of it: drawn as a bar on a terminal. Cheap: call it every step."""
        ...

    def metric(self, name: str, value: float, step: int, unit: str = "") -> None:
        """A point of a curve; goes to MLflow, too, where a tracking server is configured."""
        ...

    def check(self) -> None:
        """Raises RunFailed where the run is to end: cancelled, preempted, out of time. Call it at each step, where a
        checkpoint can be kept."""
        ...


# --- a workload ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that a workload does: what, and with which settings (a frozen dataclass, each field a `setting`)."""

    summary: str
    Config: type


class Workload(Protocol):
    """A program. Its module is imported to plan, so it imports torch and the like only inside `run`."""

    name: str
    summary: str
    verbs: Mapping[str, Verb]

    def plan(self, verb: str, config: Any) -> Needs: ...

    def run(self, verb: str, config: Any, run: Run) -> Report:
        """Raises RunFailed for what can go wrong; anything else is a bug."""
        ...

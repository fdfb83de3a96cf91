"""What was fetched for detectors to look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar


class Evidence:
    """Marker for the types a detector may name in `needs`."""


@dataclass(frozen=True, slots=True)
class JobStep:
    """A step as GitHub's API tells it."""

    number: int
    name: str
    conclusion: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job of one attempt of a run."""

    id: int
    name: str
    run_id: int
    attempt: int
    head_sha: str
    conclusion: str
    status: str = "completed"
    steps: tuple[JobStep, ...] = ()
    url: str = ""
    runner: str = ""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A check-run annotation: some failures (invalid workflow, lost runner) have no log and only this."""

    level: str
    message: str
    path: str = ""
    line: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class LogPart:
    """A contiguous piece of a step's log: plain lines (no timestamp, no ANSI), `first_line` is 1-based in the raw log.

    A step of ordinary size is one part. Of a huge one only the head, the tail and the surroundings of errors are
    kept, each a part of its own; line numbers stay those of the raw log.
    """

    step: str
    step_number: int
    first_line: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobLog:
    """The log of one failed job. `total_lines` counts the raw log, also what was not kept."""

    job: Job
    parts: tuple[LogPart, ...]
    total_lines: int
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, slots=True)
class JobLogs(Evidence):
    """The logs of the jobs of one attempt that failed themselves; siblings that were cancelled are left out."""

    logs: tuple[JobLog, ...]


@dataclass(frozen=True, slots=True)
class Manifests(Evidence):
    """Dependency manifests at the failing commit: path → text."""

    files: Mapping[str, str] = field(default_factory=dict)


E_ = TypeVar("E_", bound=Evidence)


class EvidenceBag:
    """The evidence gathered for one event, by type."""

    def __init__(self, *items: Evidence) -> None:
        self._items = {type(item): item for item in items}

    def get(self, kind: type[E_]) -> E_ | None:
        item = self._items.get(kind)
        return item if isinstance(item, kind) else None

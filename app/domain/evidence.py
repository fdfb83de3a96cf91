"""What was fetched for detectors to look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from app.domain.signal import Alert, Series
from app.domain.signature import TeamSignature


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
    """One job of one attempt of a run. `labels` are what it asks of a runner; `runner_group` is "GitHub Actions" for
    GitHub's own machines."""

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
    runner_group: str = ""
    labels: tuple[str, ...] = ()
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


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
    """The log of one failed job. `total_lines` counts the raw log, also what was not kept.

    `green` holds the hashes of the templates of the lines of this job's last successful log; None: there is none.
    """

    job: Job
    parts: tuple[LogPart, ...]
    total_lines: int
    annotations: tuple[Annotation, ...] = ()
    green: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class JobLogs(Evidence):
    """The logs of the jobs of one attempt that failed themselves; siblings that were cancelled are left out."""

    logs: tuple[JobLog, ...]


@dataclass(frozen=True, slots=True)
class Manifests(Evidence):
    """Dependency manifests at the failing commit: path → text."""

    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alerts(Evidence):
    """The alerts of an AlertsReported."""

    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Samples(Evidence):
    """Series of resources: those of a SamplesReported with what was kept before, or what a schedule asked for."""

    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What is kept of one window of a model's observations, or of its reference. No raw rows.

    `profile` is a drift profile (detectors.drift), `summary` counts predictions, labels and segments
    (detectors.degradation), both as JSON; None where nothing of the kind was sent.
    """

    window: str
    rows: int
    profile: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelWindow(Evidence):
    """A model's current window beside its reference and the windows before it, newest first.

    `closed` says that no more rows are expected. `importance` weighs features; `curves` are the training curves of its
    newest run, metric → (step, value); `objectives` are the service levels that the team has set.
    """

    model: str
    current: Observed
    reference: Observed | None = None
    earlier: tuple[Observed, ...] = ()
    closed: bool = True
    importance: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    objectives: Mapping[str, Any] = field(default_factory=dict)


E_ = TypeVar("E_", bound=Evidence)


class EvidenceBag:
    """The evidence gathered for one event, by type. `settings` are those of each detector in heal.yml, `signatures`
    how failures of the team's own show; both checked."""

    def __init__(
        self,
        *items: Evidence,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        signatures: tuple[TeamSignature, ...] = (),
    ) -> None:
        self._items = {type(item): item for item in items}
        self._settings = settings or {}
        self.signatures = signatures

    def settings(self, detector: str) -> Mapping[str, Any]:
        """What heal.yml says at `detectors.<detector>.settings`; what it leaves out takes the detector's default."""
        return self._settings.get(detector, {})

    def get(self, kind: type[E_]) -> E_ | None:
        item = self._items.get(kind)
        return item if isinstance(item, kind) else None

"""What runs out: memory, disk, file handles, time; told by samples, by alerts, and by the logs of failed jobs."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.domain.event import Observable, RunFinished, WorkloadFailed, WorkloadSucceeded
from app.domain.evidence import Alerts, Evidence, EvidenceBag, JobLogs, Samples
from app.domain.finding import Clear, Finding, Severity, fingerprint
from app.domain.fleet import Fleet
from app.domain.signal import Alert
from detectors.alerts import KEPT, MOST_ALERTS, claim_alert
from detectors.claim import KEPT_DIGITS, Claim, claimed
from detectors.diagnosis import diagnose
from detectors.playbooks import ladder_of
from detectors.resources import UNITS, Level, levels, short
from detectors.runs import RUN_EVENTS, claimed_run
from detectors.team import knowledge
from detectors.trends import Outlook, clean, outlook, sustained

HOUR_S = 3600.0

_FILLS = ("gpu_memory", "host_memory", "disk", "shared_memory", "file_handles")
_RUNS = {"cuda_oom": "cuda_oom", "host_oom": "host_oom", "disk_full": "disk_full"}
"""What a run on a launcher says of its failure → the cause."""
_WORDS = {
    "gpu_memory": "GPU memory",
    "host_memory": "memory",
    "disk": "disk",
    "shared_memory": "shared memory",
    "file_handles": "file handles",
    "inodes": "inodes",
    "error_rate": "error rate",
    "latency": "latency",
    "queue_wait": "queue wait",
    "breaker": "circuit breaker",
}


class Thresholds(BaseModel):
    """Above which something is told. Parts are of 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu_memory: float = Field(0.90, gt=0, le=1, description="part of a GPU's memory in use")
    host_memory: float = Field(0.95, gt=0, le=1, description="part of a machine's or container's memory in use")
    disk: float = Field(0.85, gt=0, le=1, description="part of a disk in use")
    shared_memory: float = Field(0.90, gt=0, le=1, description="part of /dev/shm in use")
    file_handles: float = Field(0.90, gt=0, le=1, description="part of the file handles in use")
    error_rate: float = Field(0.05, gt=0, le=1, description="part of the requests that fail")
    latency_s: float = Field(10.0, gt=0, description="seconds that a request takes")
    queue_wait_s: float = Field(600.0, gt=0, description="seconds that a job waits for a machine")
    time_limit: float = Field(0.90, gt=0, le=1, description="part of its timeout that a job takes")
    horizon_h: float = Field(24.0, gt=0, le=24 * 30, description="hours ahead within which running out is told")

    def threshold(self, resource: str) -> float:
        of: dict[str, float] = {
            "latency": self.latency_s,
            "queue_wait": self.queue_wait_s,
            "breaker": 0.5,  # 0 is closed, 1 open; half open is on its way back
        }
        return of[resource] if resource in of else float(getattr(self, resource))


class ResourceConstraint:
    """Claims what is above its threshold for several samples, and what will be full soon if it goes on as it does."""

    kind = "resource_constraint"
    reacts_to = frozenset({"alerts", "samples", "schedule.tick", "workflow_run.failed", *RUN_EVENTS})
    needs: frozenset[type[Evidence]] = frozenset({Alerts, Fleet, JobLogs, Samples})
    Settings = Thresholds

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:
        if isinstance(event, RunFinished):
            yield from claimed(self.kind, event, self._logged(evidence))
            return
        if isinstance(event, WorkloadFailed | WorkloadSucceeded):
            yield from claimed_run(self.kind, event.run, _RUNS)
            return
        settings = Thresholds.model_validate(evidence.settings(self.kind))
        alerts, fleet, samples = evidence.get(Alerts), evidence.get(Fleet), evidence.get(Samples)
        for alert in alerts.alerts[:MOST_ALERTS] if alerts else ():
            kind = alert_kind(alert)
            if kind is not None:
                yield claim_alert(self.kind, kind, alert)
        if fleet is not None:
            yield from self._timed(fleet, settings.time_limit)
        for level in levels(samples.series) if samples else ():
            claim = self._seen(level, settings)
            if claim is not None:
                yield claim

    def _logged(self, evidence: EvidenceBag) -> Iterator[Claim]:
        """The failed jobs whose cause is that something ran out; all others are left to PipelineFailure."""
        logs, known = evidence.get(JobLogs), knowledge(evidence)
        for log in logs.logs if logs else ():
            for cause in diagnose(log, known)[:1]:
                if cause.signature is not None and cause.signature.detector == self.kind:
                    yield Claim(log.job, cause, cause.facts, cause.key.translate(KEPT_DIGITS))

    def _seen(self, level: Level, settings: Thresholds) -> Finding | Clear | None:
        threshold = settings.threshold(level.resource)
        over = sustained(level.points, threshold)
        ahead = outlook(level.points, 1.0) if level.resource in _FILLS else None
        horizon_s = settings.horizon_h * HOUR_S
        if ahead is not None and ahead.fills_within(horizon_s):
            return self._filling(level, ahead)
        if over:
            return self._high(level, threshold)
        rising = ahead is not None and ahead.climbing and ahead.eta_s <= 2 * horizon_s
        if over is False and not rising and _well(level, threshold):
            return Clear(self.kind, level.subject, why=f"{_WORDS[level.resource]} is at {_shown(level, _now(level))}")
        return None

    def _timed(self, fleet: Fleet, threshold: float) -> Iterator[Finding | Clear]:
        """Jobs that pass, and take nearly as long as they may."""
        taken: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
        limits: dict[tuple[str, str], float] = {}
        for ran in reversed(fleet.jobs):
            job, key = ran.job, (ran.workflow, ran.job.name)
            if ran.limit_s and job.conclusion == "success" and job.started_at and job.completed_at:
                taken[key][job.completed_at.timestamp()] = (job.completed_at - job.started_at).total_seconds()
                limits[key] = ran.limit_s
        for key, durations in taken.items():
            limit_s = limits[key]
            subject = f"time of {key[0]} / {key[1]}"
            points = clean((at, taken_s / limit_s) for at, taken_s in durations.items())
            over = sustained(points, threshold)
            if over:
                yield Finding(
                    detector=self.kind,
                    kind="time_limit_near",
                    subject=subject,
                    severity=Severity.MEDIUM,
                    confidence=0.9,
                    summary=f"{key[1]} of {key[0]} takes {points[-1][1]:.0%} of its timeout of {_span(limit_s)}",
                    fingerprint=fingerprint(self.kind, subject.translate(KEPT)),
                    facts={"took_s": round(points[-1][1] * limit_s), "limit_s": round(limit_s), "runs": len(points)},
                    ladder=ladder_of("time_limit_near"),
                )
            elif over is False and all(part < 0.95 * threshold for _, part in points[-4:]):
                yield Clear(self.kind, subject, why=f"it takes {points[-1][1]:.0%} of its timeout")

    def _filling(self, level: Level, ahead: Outlook) -> Finding:
        word = _WORDS[level.resource]
        facts = _facts(level) | {
            "full_in_s": round(ahead.eta_s),
            "full_in_earliest_s": round(ahead.earliest_s),
            "full_in_latest_s": round(ahead.latest_s),
            "rises_per_hour_ratio": _round(ahead.slope_per_s * HOUR_S),
            "seen_for_s": round(ahead.span_s),
        }
        if level.size is not None:
            facts[f"rises_per_hour{_bytes(level)}"] = round(ahead.slope_per_s * HOUR_S * level.size)
        soon = ahead.eta_s < HOUR_S
        when = f"{_span(ahead.eta_s)} ({_span(ahead.earliest_s)}–{_span(ahead.latest_s)})"
        return self._claim(
            level,
            f"{level.resource}_filling",
            Severity.HIGH if soon else Severity.MEDIUM,
            0.9,
            f"{word[0].upper()}{word[1:]} full in {when}: {_shown(level, _now(level))} of {_where(level)} in use",
            facts,
        )

    def _high(self, level: Level, threshold: float) -> Finding:
        now = _now(level)
        facts = _facts(level) | {_fact("threshold", level): threshold}
        if level.resource == "breaker":
            return self._claim(
                level, "breaker_open", Severity.HIGH, 0.95, f"The circuit breaker of {_where(level)} is open", facts
            )
        worse = now >= 0.97 if level.resource in _FILLS else now >= 2 * threshold
        word = _WORDS[level.resource]
        told = f"is at {_shown(level, now)}, above {_shown(level, threshold)}"
        return self._claim(
            level,
            f"{level.resource}_high",
            Severity.HIGH if worse else Severity.MEDIUM,
            0.95,
            f"{word[0].upper()}{word[1:]} of {_where(level)} {told}",
            facts,
        )

    def _claim(
        self, level: Level, kind: str, severity: Severity, confidence: float, summary: str, facts: Mapping[str, Any]
    ) -> Finding:
        """One resource of one thing is one incident, whether it is high or will be."""
        return Finding(
            detector=self.kind,
            kind=kind,
            subject=level.subject,
            severity=severity,
            confidence=confidence,
            summary=summary,
            fingerprint=fingerprint(self.kind, level.subject.translate(KEPT)),
            facts=facts,
            ladder=ladder_of(kind),
        )


# Alerts of kube-prometheus, the node mixin and the common collections whose names alone do not say it.
_ALERTS = {
    "NodeMemoryMajorPagesFaults": "host_memory_high",
    "NodeRAIDDegraded": None,
    "NodeRAIDDiskFailure": None,
    "HostUnusualDiskReadRate": None,
    "HostUnusualDiskWriteRate": None,
    "HostUnusualDiskReadLatency": None,
    "HostUnusualDiskWriteLatency": None,
    "KubernetesVolumeFullInFourDays": "disk_filling",
    "KubePersistentVolumeErrors": None,
}
_RESOURCES: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (
    ("gpu_memory", frozenset({"gpu", "dcgm", "nvidia"}), frozenset({"memory", "mem", "fb", "framebuffer", "vram"})),
    ("shared_memory", frozenset({"shm", "shared"}), frozenset({"shm", "memory"})),
    ("inodes", frozenset({"inode", "inodes", "files"}), frozenset({"inode", "inodes", "filesystem"})),
    ("host_memory", frozenset({"memory", "mem", "oom", "ram", "swap"}), frozenset()),
    (
        "disk",
        frozenset({"disk", "filesystem", "volume", "storage", "pvc"}),
        frozenset({"fill", "filling", "full", "space", "usage", "pressure", "capacity", "low", "out"}),
    ),
    ("file_handles", frozenset({"descriptor", "descriptors", "fd", "fds", "filefd", "handles"}), frozenset()),
    ("file_handles", frozenset({"open"}), frozenset({"files"})),
    ("error_rate", frozenset({"error", "errors", "5xx"}), frozenset({"rate", "ratio", "high", "many", "5xx"})),
    ("latency", frozenset({"latency"}), frozenset()),
    ("queue_wait", frozenset({"queue", "queued"}), frozenset({"wait", "waiting", "latency", "long", "backlog"})),
    ("breaker", frozenset({"breaker"}), frozenset()),
)
_FILLING = frozenset({"fill", "filling", "fills", "will", "predict", "predicted"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+[a-z]*")


def alert_kind(alert: Alert) -> str | None:
    """What an alert is about: by its label `resource`, else by its name. None: not about a resource."""
    named_resource = alert.labels.get("resource", "")
    words = frozenset(word.lower() for word in _WORD.findall(alert.name[:200]))
    filling = bool(words & _FILLING)
    if named_resource in _WORDS:
        return _kind(named_resource, filling)
    if alert.name in _ALERTS:
        return _ALERTS[alert.name]
    for resource, first, second in _RESOURCES:
        if words & first and (not second or words & second):
            return _kind(resource, filling)
    return None


def _kind(resource: str, filling: bool) -> str:
    if resource == "breaker":
        return "breaker_open"
    return f"{resource}_filling" if filling and resource in (*_FILLS, "inodes") else f"{resource}_high"


def _now(level: Level) -> float:
    return level.points[-1][1]


def _well(level: Level, threshold: float) -> bool:
    """Clearly below: 5 % of the threshold, so that what swings around it is not opened and closed each time."""
    return all(value < 0.95 * threshold for _, value in level.points[-4:])


def _fact(name: str, level: Level) -> str:
    unit = UNITS.get(level.resource, "ratio")
    return f"{name}_{unit}" if unit else name


def _bytes(level: Level) -> str:
    return "" if level.resource == "file_handles" else "_bytes"


def _facts(level: Level) -> dict[str, Any]:
    facts: dict[str, Any] = {"labels": short(level.labels), _fact("now", level): _round(_now(level))}
    if level.size is not None:
        facts[f"size{_bytes(level)}"] = round(level.size)
        facts[f"free{_bytes(level)}"] = round(level.size * (1 - _now(level)))
    return facts


def _where(level: Level) -> str:
    subject = level.subject
    return subject[len(level.resource) + 2 : -1] if subject.endswith(")") else "the service"


def _shown(level: Level, value: float) -> str:
    if level.resource in ("latency", "queue_wait"):
        return f"{value:.3g} s"
    return f"{value:.0%}" if level.resource != "breaker" else ("open" if value > 0.5 else "closed")


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _span(seconds: float) -> str:
    """`40 min`, `3 h`, `5 d`."""
    if seconds < 90 * 60:
        return f"{max(round(seconds / 60), 0)} min"
    return f"{seconds / HOUR_S:.2g} h" if seconds < 48 * HOUR_S else f"{seconds / (24 * HOUR_S):.2g} d"

"""What pipelines run on: runners, their queues and their steps, GitHub, endpoints, and the bot itself."""

import fnmatch
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from app.domain.event import Observable
from app.domain.evidence import Alerts, Evidence, EvidenceBag, Job
from app.domain.finding import Clear, Finding, Remedy, Severity, fingerprint
from app.domain.fleet import Fleet, GitHubStatus, Operations, Runner
from app.domain.multiplicity import holm
from app.domain.outcome import FAILED
from app.domain.signal import Alert
from detectors.alerts import KEPT, MOST_ALERTS, claim_alert
from detectors.playbooks import ladder_of

RECENT = timedelta(hours=2)  # which runs are compared with those before
LEAST_RECENT, LEAST_BEFORE = 3, 20
ALPHA = 0.005  # for all queues together, and for all steps on all runners together, at one look
LEAST_TRIALS, LEAST_ELSEWHERE, LEAST_FAILED = 5, 10, 3
WORSE = 3.0  # times the share of failures elsewhere
SHOWN = 10
HOSTED_GROUP = "GitHub Actions"
_HOSTED = re.compile(r"(ubuntu|windows|macos)-[\w.-]+")
_MATTERS = ("Actions", "API Requests", "Git Operations", "Webhooks", "Packages")
_DOWN = frozenset(
    (
        *("TargetDown", "InstanceDown", "HostDown", "PrometheusTargetMissing", "PrometheusJobMissing"),
        *("KubeNodeNotReady", "KubeNodeUnreachable", "KubernetesNodeNotReady", "NodeExporterDown"),
        *("BlackboxProbeFailed", "EndpointDown", "ProbeFailed", "RunnerOffline", "GitHubRunnerOffline"),
    )
)


class Patience(BaseModel):
    """After how long, and how much worse than before, something is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    offline_min: float = Field(30.0, gt=0, description="minutes that a runner may be away")
    ignore_runners: tuple[str, ...] = Field((), description="names of runners that may be away, with * and ?")
    waiting_min: float = Field(60.0, gt=0, description="minutes that a job may wait for a runner")
    queue_times: float = Field(3.0, gt=1, description="how many times longer than before a queue may be")
    queue_least_s: float = Field(120.0, ge=0, description="seconds of waiting below which a queue is never too long")
    bad_min: float = Field(10.0, ge=0, description="minutes that an endpoint or a part of the bot may be away")


class InfrastructureHealth:
    """Claims what is away for long, slower than its own past, or fails more than its like."""

    kind = "infrastructure_health"
    reacts_to = frozenset({"alerts", "schedule.tick"})
    needs: frozenset[type[Evidence]] = frozenset({Alerts, Fleet, GitHubStatus, Operations})
    Settings = Patience

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]:  # noqa: ARG002
        patience = Patience.model_validate(evidence.settings(self.kind))
        alerts, fleet = evidence.get(Alerts), evidence.get(Fleet)
        github, operations = evidence.get(GitHubStatus), evidence.get(Operations)
        for alert in alerts.alerts[:MOST_ALERTS] if alerts else ():
            if is_down(alert):
                yield claim_alert(self.kind, "target_down", alert)
        if fleet is not None:
            yield from self._runners(fleet, patience)
            yield from self._waiting(fleet, patience)
            yield from self._queues(fleet, patience, github)
            yield from self._steps(fleet)
        if fleet is not None and github is not None:
            yield from self._github(fleet, github)
        if operations is not None:
            yield from self._operations(operations, patience)

    def _runners(self, fleet: Fleet, patience: Patience) -> Iterator[Finding | Clear]:
        if fleet.runners is None:
            return
        away = [runner for runner in fleet.runners if _away(runner, patience)]
        gone = [runner for runner in away if _minutes(runner.offline_since, fleet.at) >= patience.offline_min]
        if not gone:
            if not away:
                yield Clear(self.kind, "self-hosted runners", why="every runner that was away is back or removed")
            return
        steady = [runner for runner in fleet.runners if not runner.ephemeral]
        online = [runner for runner in steady if runner.online]
        names = sorted(runner.name for runner in gone)
        longest = max(_minutes(runner.offline_since, fleet.at) for runner in gone)
        yield self._claim(
            "runner_offline",
            "self-hosted runners",
            Severity.MEDIUM if online else Severity.HIGH,
            0.95,
            f"{_listed(names)} offline for {_span(60 * longest)}; {len(online)} of {len(steady)} runners online",
            {
                "runners": names[:SHOWN],
                "labels": sorted({label for runner in gone for label in runner.labels})[:SHOWN],
                "offline_s": round(60 * longest),
                "online": len(online),
                "known": len(steady),
            },
        )

    def _waiting(self, fleet: Fleet, patience: Patience) -> Iterator[Finding | Clear]:
        """Jobs that no runner has taken. Those that wait for a person or for each other have another status."""
        waits = [
            (_minutes(ran.job.created_at, fleet.at), ran)
            for ran in fleet.jobs
            if ran.job.status == "queued" and ran.job.created_at is not None
        ]
        long = sorted((pair for pair in waits if pair[0] >= patience.waiting_min), key=lambda pair: -pair[0])
        if not long:
            yield Clear(self.kind, "waiting jobs", why=f"no job waits for {_span(60 * patience.waiting_min)}")
            return
        minutes, first = long[0]
        asked = sorted(first.job.labels)
        able = [r for r in fleet.runners or () if r.online and set(asked) <= r.labels]
        yield self._claim(
            "no_runner",
            "waiting jobs",
            Severity.HIGH,
            0.9,
            f"{first.workflow} / {first.job.name} waits for a runner ({', '.join(asked) or 'any'})"
            f" for {_span(60 * minutes)}",
            {
                "jobs": [f"{ran.workflow} / {ran.job.name}" for _, ran in long[:SHOWN]],
                "labels": asked[:SHOWN],
                "waits_s": round(60 * minutes),
                "runners_that_could": len(able) if fleet.runners is not None else None,
            },
        )

    def _queues(self, fleet: Fleet, patience: Patience, github: GitHubStatus | None) -> Iterator[Finding | Clear]:
        """Waits against those of the same labels before, a run counted once: its jobs wait together."""
        explained = github is not None and "Actions" in _troubled(github)
        queues = {labels: _split(waits, fleet.at) for labels, waits in _waits(fleet).items()}
        judged = {
            labels: (recent, before)
            for labels, (recent, before) in queues.items()
            if len(recent) >= LEAST_RECENT and len(before) >= LEAST_BEFORE
        }
        chances = {
            labels: float(stats.mannwhitneyu(recent, before, alternative="greater").pvalue)
            for labels, (recent, before) in judged.items()
        }
        unlikely = holm(chances, ALPHA)
        for labels, (recent, before) in judged.items():
            now, usual = statistics.median(recent), statistics.median(before)
            seldom = statistics.quantiles(before, n=10)[-1]
            subject = f"queue of {labels}"
            long = now >= patience.queue_least_s and now >= max(patience.queue_times * usual, seldom)
            if labels in unlikely and long and not (explained and _hosted_labels(labels)):
                yield self._claim(
                    "queue_slow",
                    subject,
                    Severity.MEDIUM,
                    0.9,
                    f"Jobs for {labels} wait {_span(now)}; before it was {_span(usual)}, seldom over {_span(seldom)}",
                    {
                        "labels": labels,
                        "waits_s": round(now),
                        "usual_s": round(usual),
                        "nine_in_ten_below_s": round(seldom),
                        "runs": len(recent),
                        "runs_before": len(before),
                        "p": float(f"{chances[labels]:.2g}"),
                    },
                )
            elif now < patience.queue_least_s or now < max(1.5 * usual, seldom):
                yield Clear(self.kind, subject, why=f"jobs wait {_span(now)}, as they used to")

    def _steps(self, fleet: Fleet) -> Iterator[Finding | Clear]:
        """One runner's failures of a step against those of all others, by Fisher's exact test."""
        trials = _trials(fleet)
        tables: dict[tuple[str, str, str], tuple[int, int, int, int]] = {}
        for (workflow, step), by_runner in trials.items():
            everywhere = [failed for outcomes in by_runner.values() for failed in outcomes.values()]
            for runner, outcomes in by_runner.items():
                failed, ran = sum(outcomes.values()), len(outcomes)
                others, elsewhere = sum(everywhere) - failed, len(everywhere) - ran
                if ran >= LEAST_TRIALS and elsewhere >= LEAST_ELSEWHERE:
                    tables[workflow, step, runner] = (failed, ran, others, elsewhere)
        chances = {  # what failed too seldom can prove nothing, and must not weaken the others
            key: float(stats.fisher_exact([[f, n - f], [o, m - o]], alternative="greater").pvalue)
            for key, (f, n, o, m) in tables.items()
            if f + o >= LEAST_FAILED
        }
        unlikely = holm(chances, ALPHA)
        worst: dict[str, tuple[float, tuple[str, str, str]]] = {}
        for key, (failed, ran, others, elsewhere) in tables.items():
            bad = failed >= LEAST_FAILED and failed / ran >= WORSE * others / elsewhere
            if key in unlikely and bad:
                worst[key[2]] = min(worst.get(key[2], (1.0, key)), (chances[key], key))
        for chance, (workflow, step, runner) in worst.values():
            failed, ran, others, elsewhere = tables[workflow, step, runner]
            yield self._claim(
                "runner_flaky",
                f"runner {runner}",
                Severity.MEDIUM,
                0.9,
                f"{step} of {workflow} failed {failed} of {ran} times on {runner}, {others} of {elsewhere} elsewhere",
                {
                    "runner": runner,
                    "workflow": workflow,
                    "step": step,
                    "failed": failed,
                    "ran": ran,
                    "failed_elsewhere": others,
                    "ran_elsewhere": elsewhere,
                    "p": float(f"{chance:.2g}"),
                },
            )
        for runner in sorted({key[2] for key in tables} - worst.keys()):
            if all(chances.get(key, 1.0) > 0.05 for key in tables if key[2] == runner):
                yield Clear(self.kind, f"runner {runner}", why="its steps fail no more than elsewhere")

    def _github(self, fleet: Fleet, github: GitHubStatus) -> Iterator[Finding | Clear]:
        """GitHub's own trouble, told where this repository feels it: it explains, and nobody here can mend it."""
        parts = _troubled(github)
        if not parts:
            yield Clear(self.kind, "GitHub", why="GitHub says that what pipelines need is operational")
            return
        told = [one for one in github.troubles if set(one.components) & set(parts) or not one.components]
        since = min((one.started_at for one in told), default=fleet.at - RECENT)
        felt = [ran for ran in fleet.jobs if _suffers(ran.job, since, fleet.at)]
        if not felt:
            return
        names = [one.name for one in told]
        what = f": {names[0]}" if names else ""
        yield self._claim(
            "github_degraded",
            "GitHub",
            Severity.LOW,
            0.8,
            f"GitHub reports trouble with {', '.join(sorted(parts))}{what}",
            {
                "components": parts,
                "incidents": names[:SHOWN],
                "urls": [one.url for one in told if one.url][:SHOWN],
                "since": since.isoformat(),
                "jobs": sorted({f"{ran.workflow} / {ran.job.name}" for ran in felt})[:SHOWN],
            },
            ladder=(),
        )

    def _operations(self, operations: Operations, patience: Patience) -> Iterator[Finding | Clear]:
        for endpoint in operations.endpoints:
            subject = f"endpoint {endpoint.url[:200]}"
            if endpoint.ok:
                yield Clear(self.kind, subject, why=f"it answers {endpoint.status}")
            elif _minutes(endpoint.bad_since, operations.at) >= patience.bad_min:
                said = f"answers {endpoint.status}" if endpoint.status else f"does not answer ({endpoint.problem})"
                away_s = 60 * _minutes(endpoint.bad_since, operations.at)
                yield self._claim(
                    "endpoint_down",
                    subject,
                    Severity.HIGH,
                    0.95,
                    f"{endpoint.url[:200]} {said} for {_span(away_s)}",
                    {"url": endpoint.url[:200], "status": endpoint.status, "bad_s": round(away_s)},
                )
        for part in operations.parts:
            subject = f"the bot's {part.name}"
            if part.ok:
                yield Clear(self.kind, subject, why=part.detail)
            elif _minutes(part.bad_since, operations.at) >= patience.bad_min:
                bad_s = 60 * _minutes(part.bad_since, operations.at)
                yield self._claim(
                    "bot_unwell",
                    subject,
                    Severity.HIGH,
                    0.95,
                    f"The bot's {part.name} has been unwell for {_span(bad_s)}: {part.detail}",
                    {"part": part.name, "detail": part.detail, "bad_s": round(bad_s)},
                )

    def _claim(
        self,
        kind: str,
        subject: str,
        severity: Severity,
        confidence: float,
        summary: str,
        facts: Mapping[str, Any],
        ladder: tuple[Remedy, ...] | None = None,
    ) -> Finding:
        return Finding(
            detector=self.kind,
            kind=kind,
            subject=subject,
            severity=severity,
            confidence=confidence,
            summary=summary,
            fingerprint=fingerprint(kind, subject.translate(KEPT)),
            facts=facts,
            ladder=ladder_of(kind) if ladder is None else ladder,
        )


def is_down(alert: Alert) -> bool:
    return alert.name in _DOWN


def _away(runner: Runner, patience: Patience) -> bool:
    """A runner that the bot has seen online, and that is meant to stay: one that takes one job and goes is not."""
    ignored = any(fnmatch.fnmatch(runner.name, glob) for glob in patience.ignore_runners)
    return runner.offline_since is not None and not runner.online and not runner.ephemeral and not ignored


def _minutes(since: datetime | None, now: datetime) -> float:
    return max((now - since).total_seconds() / 60, 0.0) if since is not None else 0.0


def _waits(fleet: Fleet) -> dict[str, list[tuple[datetime, float]]]:
    """Labels → for each run when it asked and how long it waited; of those that still wait, how long so far."""
    by_run: dict[tuple[str, int], list[tuple[datetime, float]]] = defaultdict(list)
    for ran in fleet.jobs:
        job = ran.job
        began = fleet.at if job.status == "queued" else job.started_at
        skipped = job.conclusion == "skipped"
        # A re-run shows jobs of the attempt before with a start before they were asked for.
        if job.created_at is None or began is None or skipped or began < job.created_at or job.created_at > fleet.at:
            continue
        labels = ", ".join(sorted(job.labels))
        if labels:
            by_run[labels, job.run_id].append((job.created_at, (began - job.created_at).total_seconds()))
    found: dict[str, list[tuple[datetime, float]]] = defaultdict(list)
    for (labels, _), waits in by_run.items():
        found[labels].append((min(asked for asked, _ in waits), statistics.median(wait for _, wait in waits)))
    return found


def _split(waits: Iterable[tuple[datetime, float]], now: datetime) -> tuple[list[float], list[float]]:
    recent: list[float] = []
    before: list[float] = []
    for asked, wait in waits:
        (recent if asked >= now - RECENT else before).append(wait)
    return recent, before


def _hosted_labels(labels: str) -> bool:
    return _HOSTED.fullmatch(labels) is not None


def _trials(fleet: Fleet) -> dict[tuple[str, str], dict[str, dict[str, bool]]]:
    """(workflow, step) → runner → commit → whether it failed there. A commit that fails on several runners is itself
    broken, and says nothing of any of them."""
    found: dict[tuple[str, str], dict[str, dict[str, bool]]] = defaultdict(lambda: defaultdict(dict))
    for ran in fleet.jobs:
        job = ran.job
        if not job.runner or job.runner_group == HOSTED_GROUP or not job.head_sha:
            continue
        for step in job.steps:
            if step.conclusion in ("success", "failure"):
                outcomes = found[ran.workflow, step.name][job.runner]
                outcomes[job.head_sha] = outcomes.get(job.head_sha, False) or step.conclusion == "failure"
    for by_runner in found.values():
        failed = [sha for outcomes in by_runner.values() for sha, bad in outcomes.items() if bad]
        for sha in {sha for sha in failed if failed.count(sha) > 1}:
            for outcomes in by_runner.values():
                outcomes.pop(sha, None)
    return found


def _troubled(github: GitHubStatus) -> dict[str, str]:
    return {name: state for name, state in github.components.items() if name in _MATTERS}


def _suffers(job: Job, since: datetime, now: datetime) -> bool:
    """It failed since then, or has waited for ten minutes."""
    if job.status == "queued":
        return _minutes(job.created_at, now) >= 10
    return job.conclusion in FAILED and job.completed_at is not None and job.completed_at >= since


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""What would be decided about a delivery, and by which rules. No network, no database, no effect."""

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from app.adapters.github.logs import read_job_log
from app.adapters.github.logzip import read_log_zip
from app.adapters.github.webhook import interpret, peek
from app.domain.errors import Malformed
from app.domain.event import Ignored, RunFinished
from app.domain.evidence import EvidenceBag, Job, JobLogs, JobStep, Manifests
from app.domain.finding import Finding
from app.domain.policy import Decision, History, decide, named
from app.healing.configuration import Configured, Problem, resolve
from app.healing.diagnose import findings
from app.healing.gather import detectors_for
from app.plugins import known_actions, known_detectors

_NOBODY = "self-healing-mlops-bot"
_ZIP = b"PK"


class LogUnreadable(Malformed):
    """The log is of no use; the delivery is as it should be."""


class NoSuchJob(LogUnreadable):
    """The archive of logs has no job of that name."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """`told` says in a sentence what the event is, or why there is none."""

    told: str
    problems: tuple[Problem, ...] = ()
    decided: tuple[tuple[Finding, Decision], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "event": self.told,
            "problems": [asdict(problem) for problem in self.problems],
            "incidents": [
                {"finding": asdict(finding), "decision": asdict(decision)} for finding, decision in self.decided
            ],
        }

    def lines(self) -> Iterator[str]:
        yield self.told
        for problem in self.problems:
            yield f"heal.yml:{problem.line}: {problem.level}: {problem.message}"
        for finding, decision in self.decided:
            yield f"{finding.kind} ({finding.confidence:.0%}): {finding.summary}"
            action = f" {decision.remedy.action}" if decision.remedy else ""
            yield f"  {decision.verdict}{action}: {decision.reason}"
            for check in decision.trace:
                yield f"    {'pass' if check.passed else 'STOP'}  {check.rule}: {check.detail}"


def configured(text: str | None) -> Configured:
    """What a heal.yml would mean; None: observe only."""
    return resolve(
        text,
        None,
        known_detectors={kind: detector.Settings for kind, detector in known_detectors().items()},
        known_actions=named({kind: action.Params for kind, action in known_actions().items()}),
    )


def simulate(body: bytes, *, event: str, config: Configured, log: bytes | None, job: str) -> Simulation:
    """Without a log only the event is told. `log` is one job's text, or a run's archive, out of which `job` is taken.

    Raises Malformed for a body that is no delivery, LogUnreadable for an archive that is damaged or has no such job.
    """
    headers = {"x-github-event": event, "x-github-delivery": "00000000-0000-0000-0000-000000000000"}
    headers, body = _unwrapped(headers, body)
    happened = interpret(peek(headers, body), app_slug=_NOBODY, app_id=0)
    if isinstance(happened, Ignored):
        return Simulation(f"ignored: {happened.reason}", config.problems)
    if not isinstance(happened, RunFinished):
        return Simulation(f"{happened.kind}", config.problems)
    told = f"{happened.kind} of {happened.workflow} on {happened.head_branch}, attempt {happened.attempt}"
    try:
        logs = _logs(happened, log, job)
    except Malformed as error:
        raise error if isinstance(error, LogUnreadable) else LogUnreadable(str(error)) from error
    policy = config.policy
    evidence = EvidenceBag(logs, Manifests({}), settings=policy.settings, signatures=policy.signatures)
    reacting = detectors_for(known_detectors().values(), happened, policy)
    now = datetime.now(UTC)
    decided = tuple(
        (
            finding,
            decide(
                finding,
                finding.ladder[0] if finding.ladder else None,
                policy,
                History(),
                now,
                branch=happened.head_branch,
                from_fork=happened.from_fork,
            ),
        )
        for finding in findings(reacting, happened, evidence)[0]
    )
    return Simulation(told, config.problems, decided)


def _logs(event: RunFinished, log: bytes | None, name: str) -> JobLogs:
    if log is None:
        return JobLogs(())
    job = Job(0, name or "job", event.run_id, event.attempt, event.head_sha, "failure")
    if log.startswith(_ZIP):
        found = read_log_zip(io.BytesIO(log), job)
        if not found.total_lines:
            raise NoSuchJob(f"the archive of logs has no job named {name!r}")
        return JobLogs((found,))
    step = JobStep(1, "step", "failure")
    return JobLogs((read_job_log(io.BytesIO(log), replace(job, steps=(step,))),))


def _unwrapped(headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """A bare body, or an exported delivery: {"event", "headers", "payload"}."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the delivery is not JSON: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get("payload"), dict):
        return headers, body
    told = given.get("headers")
    more = {str(key).lower(): str(value) for key, value in told.items()} if isinstance(told, dict) else {}
    if "event" in given:
        more["x-github-event"] = str(given["event"])
    return {**headers, **more}, orjson.dumps(given["payload"])

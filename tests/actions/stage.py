"""What the tests of actions share: one repository, one failed run, one incident."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from app.domain.errors import LeaseLost
from app.domain.finding import EvidenceLine, Finding, Remedy, Severity
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.policy import Policy
from app.domain.repair import Plan, Repair
from app.domain.tenant import Repository
from app.ports.plugins import Action, Tools
from app.ports.resolver import Locked, Locking, Resolution, Resolver
from tests.twins.forge import MemoryForge

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
WORKFLOW = ".github/workflows/ci.yml"


class Noon:
    def now(self) -> datetime:
        return NOW


class MemoryShelf:
    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, name: str) -> Mapping[str, Any] | None:
        return self.kept.get(name)

    def put(self, name: str, data: Mapping[str, Any]) -> None:
        self.kept[name] = dict(data)


class NoResolver:
    def resolve(self, requirements: Any, *, python: str | None = None, constraints: Any = ()) -> Resolution:
        raise AssertionError("nobody asked for a resolution")

    def lock(self, locking: Locking) -> Locked:
        raise AssertionError("nobody asked for a lockfile")


class StopAfter:
    """Raises LeaseLost once `writes` of the forge have happened, as a worker that was killed there would stop."""

    def __init__(self, forge: MemoryForge, writes: int) -> None:
        self.forge = forge
        self.until = len(forge.writes) + writes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.forge, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            before = len(self.forge.writes)
            answer = found(*args, **kwargs)
            if before < self.until <= len(self.forge.writes):
                raise LeaseLost("stopped here")
            return answer

        return call


@dataclass
class Stage:
    forge: MemoryForge
    incident: Incident
    tools: Tools
    guards: list[int]

    def repair(self, action: Action, params: Mapping[str, Any] | None = None, rung: int = 0) -> Repair:
        return Repair(
            incident_id=1,
            remedy=Remedy(action.kind, dict(params or {})),
            rung=rung,
            effect_key=f"key-{rung}",
            intended_at=NOW,
        )

    def plan(self, action: Action, params: Mapping[str, Any] | None = None) -> Plan:
        before = len(self.forge.writes)
        plan = action.plan(self.incident, action.Params.model_validate(dict(params or {})), self.tools)
        assert len(self.forge.writes) == before, "a dry run has no effect"
        return plan

    def apply(self, action: Action, repair: Repair, *, tools: Tools | None = None) -> Outcome:
        """As the loop does it: a dry run first, also at a second try."""
        tools = tools or self.tools
        params = action.Params.model_validate(dict(repair.remedy.params))
        plan = action.plan(self.incident, params, tools)
        assert not plan.refusal, plan.refusal
        return action.apply(repair, params, plan, tools)

    def done(self, action: Action, params: Mapping[str, Any] | None = None, rung: int = 0) -> Repair:
        """Applied, with plan and outcome, as it is when it is to be undone."""
        repair = self.repair(action, params, rung)
        plan = self.plan(action, params)
        return replace(repair, plan=plan, outcome=self.apply(action, repair))

    def picture(self) -> Any:
        """Everything that people can see of the repository."""
        forge = self.forge
        branches = {name: dict(forge.commits[sha].files) for name, sha in forge.branches.items()}
        issues = {n: (i.title, i.body, i.state) for n, i in forge.issues.items()}
        comments = {n: [c.body for c in found] for n, found in forge.comments.items()}
        run = forge.run(self.incident.run_id)
        return branches, dict(forge.branches), dict(forge.pulls), issues, comments, (run.attempt, run.status)


def stage(
    files: Mapping[str, str] | None = None,
    *,
    lines: tuple[str, ...] = (),
    facts: Mapping[str, Any] | None = None,
    policy: Policy | None = None,
    resolver: Resolver | None = None,
    attempt: int = 1,
    status: str = "completed",
    log: bytes | None = b"",
) -> Stage:
    repository = Repository(7, "acme/trainer", 70)
    forge = MemoryForge(repository, now=lambda: NOW)
    sha = forge.push("main", {WORKFLOW: "on: push\n", **(files or {})}, at=NOW)
    run = forge.add_run(head_sha=sha, head_branch="main", jobs=[forge.job("train", log=log)], status=status)
    finding = Finding(
        detector="pipeline_failure",
        kind="host_oom",
        subject="CI / train",
        severity=Severity.HIGH,
        confidence=0.9,
        summary="it broke",
        fingerprint="f" * 16,
        facts=facts or {},
        lines=tuple(EvidenceLine(n, text) for n, text in enumerate(lines, start=1)),
        job="train",
    )
    incident = Incident(
        repository_id=7,
        installation_id=70,
        repository="acme/trainer",
        branch="main",
        fingerprint="f" * 16,
        finding=finding,
        head_sha=sha,
        run_id=run.id,
        attempt=attempt,
        workflow_path=WORKFLOW,
        opened_at=NOW,
        updated_at=NOW,
        id=1,
    )
    guards: list[int] = []
    tools = Tools(
        forge=forge,
        incident=incident,
        policy=policy or Policy(),
        resolver=resolver or NoResolver(),
        clock=Noon(),
        pull_text=lambda repair, plan: (plan.title, f"{plan.why} <{repair.effect_key}>"),
        issue_text=lambda repair: ("it broke", "a person must look"),
        marker="<!-- heal:signed -->",
        guard=lambda: guards.append(len(forge.writes)),
        shelf=MemoryShelf(),
    )
    return Stage(forge, incident, tools, guards)


def crash_everywhere(make: Callable[[], Stage], act: Callable[[Stage, Tools], Outcome]) -> int:
    """Stop after each write in turn, try again, and compare with an undisturbed run. Returns the number of writes."""
    calm = make()
    before = len(calm.forge.writes)
    wanted = act(calm, calm.tools)
    writes = len(calm.forge.writes) - before
    assert act(calm, calm.tools) == wanted
    assert len(calm.forge.writes) == before + writes, "the second call had an effect"
    for k in range(1, writes + 1):
        torn = make()
        try:
            act(torn, replace(torn.tools, forge=StopAfter(torn.forge, k)))
        except LeaseLost:
            pass
        else:
            raise AssertionError(f"was not stopped after write {k}")
        outcome = act(torn, torn.tools)
        assert outcome.conclusion == wanted.conclusion, k
        assert dict(outcome.data) == dict(wanted.data), k
        assert torn.picture() == calm.picture(), k
    return writes

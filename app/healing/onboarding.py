"""The one pull request that introduces the bot to a repository: a heal.yml, and what it would have done so far.

What the commit holds is planned once and kept on the repository's shelf, so that whoever is interrupted makes the very
same commit again. A pull request from our branch that is there, open or closed, is the end of it.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.domain.effect import Effect, EffectKind
from app.domain.errors import Malformed, RateLimited, Refused
from app.domain.event import RunFinished
from app.domain.evidence import JobLogs
from app.domain.finding import Finding
from app.domain.incident import FIX_BRANCHES, ONBOARDING_BRANCH
from app.domain.outcome import FAILED
from app.domain.policy import CONFIG_PATH, Decision, History, Policy, Verdict, decide, named
from app.domain.tenant import Repository, Sender
from app.healing.configuration import resolve
from app.healing.decide import expected
from app.healing.diagnose import findings
from app.healing.gather import detectors_for, gather
from app.healing.hold import Hold
from app.healing.kit import Kit
from app.healing.requirements import is_manifest
from app.ports.forge import Forge, RunInfo
from app.security.markdown import Markdown, cell, clean, code_span, inline, link, shorten
from app.security.masking import mask

SHELF = "onboarding"
MOST_RUNS = 50
MOST_DIAGNOSED = 15
MOST_ROWS = 40  # GitHub takes 65,536 characters
AT_ONCE, EVERY_S = 3, 60.0  # that many introductions of an installation are begun in this time
TITLE = "Set up self-healing for this repository"

_MOST_NAMED = 12
_MOST_READ = 10
_WORKFLOW = re.compile(r"\.github/workflows/[^/]+\.ya?ml")
_MLFLOW = re.compile(r"^[\s\"'-]*mlflow(?:-skinny)?(?:[\[<>=~!;,\"'\s]|$)", re.MULTILINE | re.IGNORECASE)
_VERDICTS = {
    Verdict.ACT: "done it by itself",
    Verdict.ASK: "asked a person first",
    Verdict.LEAVE: "only reported it",
}


def onboarding(repository_id: int) -> Effect:
    """Asked for when somebody has chosen the repository; asked for again it finds that all is done."""
    return Effect(f"{EffectKind.ONBOARDING}:{repository_id}", EffectKind.ONBOARDING, repository_id)


def config_check(repository_id: int, sha: str) -> Effect:
    """heal.yml's verdict at a commit, as a check run."""
    return Effect(
        f"{EffectKind.CONFIG_CHECK}:{repository_id}:{sha}", EffectKind.CONFIG_CHECK, repository_id, {"sha": sha}
    )


@dataclass(frozen=True, slots=True)
class Stack:
    """What the repository is made of, as far as its files tell. `mlflow` names the files that name it."""

    workflows: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    mlflow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """One failed run: what was found and would have been decided, or (`told`) why nothing can be said."""

    run: RunInfo
    decided: tuple[tuple[Finding, Decision], ...] = ()
    told: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """`runs` is how many were there to be looked at, `failed` how many of them failed, `looks` the newest of these."""

    runs: int
    failed: int
    looks: tuple[Look, ...] = ()
    unread: bool = False


def introduce(kit: Kit, hold: Hold, forge: Forge, effect: Effect) -> str:
    """The number of the pull request; "" where none is due: the repository is set up, a fork, archived or empty."""
    wait_for_turn(kit, forge.repository)
    before = forge.pulls_of(ONBOARDING_BRANCH)
    if before:
        return str(before[0].number)
    plan = kept_plan(kit, effect) or new_plan(kit, hold, forge)
    if plan is None:
        return ""
    policy = policy_of(kit, plan["text"])
    body = pull_body(policy, look_back(kit, forge, policy), kit.dashboard_url)
    hold.guard()
    at = datetime.fromisoformat(plan["at"])
    sha = forge.commit(plan["parent"], {CONFIG_PATH: plan["text"]}, f"{TITLE}\n\nAdd {CONFIG_PATH}", at)
    forge.ensure_branch(ONBOARDING_BRANCH, sha)
    hold.guard()
    base = forge.repository.default_branch
    pull = forge.ensure_pull(head=ONBOARDING_BRANCH, base=base, title=TITLE, body=body)
    with kit.store.begin(hold.lease) as ledger:
        ledger.want_effect(config_check(forge.repository.id, sha))
    return str(pull.number)


def wait_for_turn(kit: Kit, repository: Repository) -> None:
    """Raises RateLimited while others of the installation are introduced: people are not to get them all at once."""
    slots = (f"onboarding:{repository.installation_id}:{slot}" for slot in range(AT_ONCE))
    if not any(kit.store.take_turn(slot, EVERY_S) for slot in slots):
        later = timedelta(seconds=EVERY_S * random.uniform(1, 3))  # noqa: S311 - spreads load, keeps no secret
        raise RateLimited("other repositories are introduced first", retry_at=kit.clock.now() + later)


def kept_plan(kit: Kit, effect: Effect) -> dict[str, str] | None:
    with kit.store.begin() as ledger:
        kept = ledger.shelved(effect.repository_id, SHELF)
    return {name: str(value) for name, value in kept.items()} if kept else None


def new_plan(kit: Kit, hold: Hold, forge: Forge) -> dict[str, str] | None:
    about = forge.about()
    if about.fork or about.archived:
        return None
    parent = head_of(forge)
    if parent is None or is_set_up(forge, parent):
        return None
    text = heal_yml(stack_of(forge, parent))
    with kit.store.begin(hold.lease) as ledger:
        plan = {"parent": parent, "at": ledger.now().replace(microsecond=0).isoformat(), "text": text}
        ledger.shelve(forge.repository.id, SHELF, plan)
    return plan


def head_of(forge: Forge) -> str | None:
    try:
        return forge.branch_head(forge.repository.default_branch)
    except Refused:  # GitHub's word for a repository without a commit
        return None


def is_set_up(forge: Forge, sha: str) -> bool:
    """A file that cannot be read is one, too."""
    try:
        return bool(forge.file(CONFIG_PATH, sha, strict=True) or forge.owner_file(CONFIG_PATH))
    except Malformed:
        return True


def policy_of(kit: Kit, text: str) -> Policy:
    configured = resolve(text, None, known_detectors=kit.settings, known_actions=named(kit.params_of))
    if configured.problems:
        raise ValueError(f"the heal.yml that is offered is not valid: {configured.problems[0].message}")
    return configured.policy


# what the repository is made of
def stack_of(forge: Forge, sha: str) -> Stack:
    paths = forge.paths(sha)
    manifests = [path for path in paths if is_manifest(path)]
    named_in = []
    for path in manifests[:_MOST_READ]:
        found = forge.file(path, sha)
        if found is not None and _MLFLOW.search(found.text):
            named_in.append(path)
    named_in += [path for path in paths if path.rpartition("/")[2] == "MLproject"]
    return Stack(tuple(path for path in paths if _WORKFLOW.fullmatch(path)), tuple(manifests), tuple(named_in))


def heal_yml(stack: Stack) -> str:
    """Only what differs from the defaults is in force; what may come next stands there as comments."""
    values = {name: _names(getattr(stack, name)) for name in ("workflows", "manifests", "mlflow")}
    return _PLAIN.get_template("onboarding.yml.j2").render(**values).strip() + "\n"


def _names(paths: Sequence[str]) -> str:
    """File names for a comment of one line."""
    shown = [shorten(" ".join(mask(clean(path)).split()), 100) for path in paths[:_MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else "")


# what would have been done
def look_back(kit: Kit, forge: Forge, policy: Policy) -> Past:
    """The newest runs that are over; of those that failed, the newest are diagnosed from their logs."""
    once = cast(Forge, _Once(forge))
    try:
        over = [
            run for run in once.runs() if run.status == "completed" and not run.head_branch.startswith(FIX_BRANCHES)
        ][:MOST_RUNS]
    except Refused:
        return Past(0, 0, unread=True)
    failed = [run for run in over if run.conclusion in FAILED]
    return Past(len(over), len(failed), tuple(look(kit, once, run, policy) for run in failed[:MOST_DIAGNOSED]))


def look(kit: Kit, forge: Forge, run: RunInfo, policy: Policy) -> Look:
    event = RunFinished(
        repository=forge.repository,
        sender=Sender(""),
        run_id=run.id,
        attempt=run.attempt,
        workflow=run.name,
        workflow_path=run.workflow_path,
        head_sha=run.head_sha,
        head_branch=run.head_branch,
        trigger=run.trigger,
        conclusion=run.conclusion,
        from_fork=run.from_fork,
        url=run.url,
        started_at=run.created_at,
    )
    detectors = detectors_for(kit.detectors.values(), event, policy)
    try:
        evidence = gather(kit, forge, event, detectors, policy)
    except Refused:
        return Look(run, told="GitHub does not show this run's jobs any more")
    found, _ = findings(detectors, event, evidence)
    known = [finding for finding in found if finding.kind != "unknown"]
    if not known and _expired(evidence.get(JobLogs)):
        return Look(run, told="its log has expired")
    if not found:
        return Look(run, told="no cause was found")
    now = kit.clock.now()
    return Look(run, tuple((finding, _decision(finding, policy, event, now)) for finding in found))


def _decision(finding: Finding, policy: Policy, event: RunFinished, now: datetime) -> Decision:
    """As on the first day: nothing was tried before, and the branch has not moved on."""
    ladder = policy.playbooks.get(finding.kind, finding.ladder)
    remedy = ladder[0] if ladder else None
    costs = expected(remedy) if remedy else {}
    where: dict[str, Any] = {"branch": event.head_branch, "from_fork": event.from_fork}
    return decide(replace(finding, ladder=ladder), remedy, policy, History(), now, costs=costs, **where)


def _expired(logs: JobLogs | None) -> bool:
    """A run whose jobs did start, and of none of which a line is left."""
    return logs is not None and all(log.job.id and not log.total_lines for log in logs.logs)


class _Once:
    """A forge that is asked the same only once: runs of one workflow share what they are compared with."""

    _SAME = frozenset({"runs", "jobs", "paths", "file"})

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self._known: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._forge, name)
        if name not in self._SAME:
            return asked

        def once(*args: Any, **more: Any) -> Any:
            key = (name, args, tuple(sorted(more.items())))
            if key not in self._known:
                self._known[key] = asked(*args, **more)
            return self._known[key]

        return once


# what people read
def pull_body(policy: Policy, past: Past, dashboard_url: str) -> str:
    """What the file is, what would have been done, run by run, and how to say no."""
    rows = [row for each in past.looks for row in _rows(each)]
    counts = Counter(decision.verdict for each in past.looks for _, decision in each.decided)
    text = _MARKDOWN.get_template("onboarding.md.j2").render(
        path=CONFIG_PATH,
        mode=str(policy.mode),
        past=past,
        more=past.failed - len(past.looks),
        rows=rows[:MOST_ROWS],
        unshown=len(rows) - MOST_ROWS,
        verdicts=[(counts[verdict], words) for verdict, words in _VERDICTS.items() if counts[verdict]],
        silent=sum(1 for each in past.looks if not each.decided),
        url=dashboard_url,
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _rows(each: Look) -> list[dict[str, Any]]:
    run = {"id": each.run.id, "url": each.run.url, "workflow": each.run.name or each.run.workflow_path}
    if not each.decided:
        return [{**run, "told": each.told}]
    return [
        {
            **run,
            "told": "",
            "cause": finding.summary,
            "kind": finding.kind,
            "confidence": f"{finding.confidence:.0%}",
            "remedy": decision.remedy.action if decision.remedy else "",
            "verdict": _VERDICTS[decision.verdict],
            "reason": decision.reason if decision.verdict is Verdict.LEAVE else "",
        }
        for finding, decision in each.decided
    ]


def _shown(value: object) -> str:
    if isinstance(value, Markdown):
        return value
    return inline(mask(clean(str(value)[:8_192])), 600)


_MARKDOWN = Environment(
    loader=PackageLoader("app.healing"),
    autoescape=False,  # noqa: S701 -- the output is Markdown; `finalize` neutralises every value
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_MARKDOWN.filters |= {
    "cell": lambda value: cell(mask(clean(str(value)[:8_192])), 300),
    "code": lambda value: code_span(shorten(mask(clean(str(value)[:8_192])), 300)),
}
_MARKDOWN.globals |= {"link": lambda label, url: link(mask(str(label)[:200]), mask(str(url)[:2_000]))}
_PLAIN = Environment(
    loader=PackageLoader("app.healing"),
    autoescape=False,  # noqa: S701 -- YAML comments; `_names` leaves no line end in a value
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

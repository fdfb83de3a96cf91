"""Fetch what the repositories run on. At most ten calls of GitHub's API at a look."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from ruamel.yaml import YAML

from app.domain.errors import Refused
from app.domain.event import Observable, Ticked
from app.domain.evidence import Evidence, Job
from app.domain.fleet import Fleet, GitHubStatus, Operations, Ran, Runner
from app.healing.kit import Kit, Recent
from app.ports.forge import Forge, RunInfo
from app.ports.store import Store
from app.security.yaml import NOT_YAML

MOST_FETCHED = 5  # runs that are over, whose jobs are not known yet
MOST_UNFINISHED = 2
MOST_WORKFLOWS = 1
HOSTED_LIMIT_S = 6 * 3600.0  # of a job on GitHub's own machines that says nothing else
HOSTED_GROUP = "GitHub Actions"

_Limits = Mapping[str, float]


def fleet(kit: Kit, forge: Forge, event: Observable) -> Fleet | None:
    """The newest runs' jobs, as far as they are known by now, and the runners with how long they have been away."""
    if not isinstance(event, Ticked):
        return None
    runs = forge.runs()
    limits = _limits(kit.recent, forge, runs)
    ran = [
        Ran(job, run.name, run.workflow_path, _limit(job, limits.get(run.workflow_path)))
        for run, jobs in _jobs(kit.recent, forge, runs)
        for job in jobs
    ]
    return Fleet(event.at, tuple(ran), _runners(kit.store, forge, event.at))


def github_status(kit: Kit, _: Forge, event: Observable) -> GitHubStatus | None:
    return kit.watch.github() if kit.watch is not None and isinstance(event, Ticked) else None


def operations(kit: Kit, forge: Forge, event: Observable) -> Operations | None:
    """Endpoints and the bot itself, told in the operator's repository alone."""
    watch = kit.watch
    if watch is None or not isinstance(event, Ticked) or not watch.repository:
        return None
    if forge.repository.full_name.lower() != watch.repository.lower():
        return None
    since = _Since(kit.store, event.at)
    return Operations(
        event.at,
        tuple(replace(one, bad_since=since(f"endpoint:{one.url}", not one.ok)) for one in watch.endpoints()),
        tuple(replace(one, bad_since=since(f"part:{one.name}", not one.ok)) for one in watch.parts()),
    )


class _Since:
    """Since when something is bad, by two marks that are moved only when it changes."""

    def __init__(self, store: Store, now: datetime) -> None:
        self._store = store
        self._now = now

    def __call__(self, name: str, bad: bool, *, known: bool = False) -> datetime | None:
        """None: it is well; or, of what must be `known`, it was never seen well."""
        well, ill = self._store.marked(f"{name}:well"), self._store.marked(f"{name}:ill")
        if not bad:
            if well is None or (ill is not None and ill >= well):
                self._store.mark(f"{name}:well", self._now)
            return None
        if known and well is None:
            return None
        if ill is None or (well is not None and well > ill):
            self._store.mark(f"{name}:ill", self._now)
            return self._now
        return ill


def _runners(store: Store, forge: Forge, now: datetime) -> tuple[Runner, ...] | None:
    try:
        runners = forge.runners()
    except Refused:
        return None
    since = _Since(store, now)
    return tuple(
        runner
        if runner.ephemeral
        else replace(
            runner, offline_since=since(f"runner:{forge.repository.id}:{runner.id}", not runner.online, known=True)
        )
        for runner in runners
    )


def _jobs(recent: Recent, forge: Forge, runs: Iterable[RunInfo]) -> Iterable[tuple[RunInfo, list[Job]]]:
    """Newest run first. Of those that are not over the oldest are looked at: they have waited longest."""
    runs = list(runs)
    waiting = {run.id for run in [run for run in runs if run.status != "completed"][-MOST_UNFINISHED:]}
    left = MOST_FETCHED
    for run in runs:
        key = (forge.repository.id, run.id, run.attempt)
        if run.status != "completed":
            if run.id in waiting:
                yield run, forge.jobs(run.id, run.attempt)
            continue
        jobs = recent.get(key)
        if jobs is None and left:
            left -= 1
            jobs = forge.jobs(run.id, run.attempt)
            recent.keep(key, jobs)
        if jobs is not None:
            yield run, jobs


def _limits(recent: Recent, forge: Forge, runs: Iterable[RunInfo]) -> Mapping[str, _Limits]:
    """Workflow path → what its jobs may take. Read again when the default branch has had another run of it."""
    found: dict[str, _Limits] = {}
    left = MOST_WORKFLOWS
    for run in runs:
        if run.workflow_path in found or run.head_branch != forge.repository.default_branch:
            continue
        key = (forge.repository.id, run.workflow_path, run.head_sha)
        limits = recent.get(key)
        if limits is None and left:
            left -= 1
            text = forge.file(run.workflow_path, run.head_sha)
            limits = timeouts(text.text) if text else {}
            recent.keep(key, limits)
        if limits is not None:
            found[run.workflow_path] = limits
    return found


def timeouts(text: str) -> _Limits:
    """The `timeout-minutes` of a workflow's jobs, in seconds, by the job's key and by its name."""
    if "<<" in text:  # merged keys can grow without bound, and workflows have none
        return {}
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except NOT_YAML:
        return {}
    jobs = content.get("jobs") if isinstance(content, dict) else None
    found: dict[str, float] = {}
    for key, job in jobs.items() if isinstance(jobs, dict) else ():
        minutes = job.get("timeout-minutes") if isinstance(job, dict) else None
        if isinstance(minutes, int | float) and not isinstance(minutes, bool) and 0 < minutes < 1e6:
            found[str(key)] = minutes * 60.0
            if isinstance(job.get("name"), str):
                found[job["name"]] = minutes * 60.0
    return found


def _limit(job: Job, limits: _Limits | None) -> float | None:
    """A job of a matrix is called `train (3.12, cuda)`."""
    told = (limits or {}).get(job.name) or (limits or {}).get(job.name.partition(" (")[0])
    if told is None and limits is not None and job.runner_group == HOSTED_GROUP:
        return HOSTED_LIMIT_S
    return told


FETCH: Mapping[type[Evidence], Callable[[Kit, Forge, Observable], Evidence | None]] = {
    Fleet: fleet,
    GitHubStatus: github_status,
    Operations: operations,
}

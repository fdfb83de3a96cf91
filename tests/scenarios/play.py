"""Play scenarios against a real bot: break each repository, wait for its end, hold it to it, take it back."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

import actions
from app.db.engine import reading
from app.db.reads import IncidentDetail
from app.db.tables import DeliveryRow, EffectRow, IncidentRow, RepairRow
from app.domain.incident import State
from app.domain.repair import Proof
from sandbox.state import Repository, Run
from tests.e2e.stage import SETTLED, Stage
from tests.scenarios.catalogue import Scenario, Step

WITHIN_S = 120.0
POLL_S = 0.2
CALM_LOOKS, LOOK_S = 4, 0.25
CALM_S = 4.0  # a wrong end is believed when nothing has happened for so long
RESTS = SETTLED | {State.AWAITING_APPROVAL}
PROOFS = {action.kind: action.proves for action in actions.BUILTIN}
HARMLESS = {kind for kind, proves in PROOFS.items() if proves in (Proof.NOTHING, Proof.SAME_RUN)}  # change no file
PROMISES = ("end", "proof", "fix", "untouched", "twice", "undo")

Files = Mapping[str, bytes]
Tell = Callable[[str, str], None]


class GaveUp(Exception):
    """What was waited for did not come; the message says what, and what came instead."""


@dataclass
class Seen:
    """What became of a scenario's repository, before anything is taken back. Causes and branches are sets of words."""

    incident: IncidentDetail | None = None
    others: frozenset[str] = frozenset()
    before: Files = field(default_factory=dict)
    main: Files = field(default_factory=dict)
    fix: Files | None = None
    green: tuple[str, ...] = ()  # jobs that passed where the proof is
    pulls: int = 0  # the bot's
    issues: int = 0  # the bot's
    branches: frozenset[str] = frozenset()

    @property
    def applied(self) -> list[str]:
        entries = self.incident.timeline if self.incident else ()
        return [str(entry.data["action"]) for entry in entries if entry.kind == "applied"]

    @property
    def proven(self) -> bool:
        return self.incident is not None and any(entry.kind == "proven" for entry in self.incident.timeline)


@dataclass
class Played:
    """How it went. `problems` maps each broken promise to what is wrong; empty when everything is right."""

    scenario: Scenario
    seen: Seen = field(default_factory=Seen)
    problems: dict[str, list[str]] = field(default_factory=dict)
    story: str = ""
    seconds: float = 0.0  # from the first push to the end
    undone_s: float | None = None  # merge, undo, and the merge of the revert

    @property
    def right(self) -> bool:
        return not self.problems

    @property
    def heal_s(self) -> float | None:
        return self.seen.incident.line.heal_s if self.seen.incident else None

    @property
    def ended(self) -> str:
        return str(self.seen.incident.line.state) if self.seen.incident else "nothing found"

    def wrong(self, promise: str, *what: str) -> None:
        if what:
            self.problems.setdefault(promise, []).extend(what)


def play_all(
    bot: Stage, scenarios: Iterable[Scenario], *, at_once: int = 4, tell: Tell = lambda *_: None
) -> list[Played]:
    """Play them, so many at a time, and hold each to its promises when nothing is under way any more."""
    wanted = list(scenarios)
    _grant(bot, wanted)
    with ThreadPoolExecutor(at_once, thread_name_prefix="scenario") as pool:
        played = list(pool.map(lambda scenario: _play(bot, scenario, tell), wanted))
    try:
        bot.settle()
    except AssertionError as error:
        for each in played:
            each.wrong("end", f"the bot did not come to rest: {error}")
    for each in played:
        _after_all(bot, each)
    return played


def _grant(bot: Stage, scenarios: Iterable[Scenario]) -> None:
    """An installation of its own for each set of permissions; it exists once there is a repository."""
    for owner, permissions in {s.owner: s.permissions for s in scenarios if s.permissions}.items():
        if bot.sandbox.state.repository(owner, "nothing") is None:
            bot.create("nothing", {"README.md": "Nothing.\n"}, owner=owner)
        bot.admin("POST", "/permissions", {"owner": owner, "permissions": dict(permissions)})


def _play(bot: Stage, scenario: Scenario, tell: Tell) -> Played:
    played = Played(scenario)
    began = time.monotonic()
    tell(scenario.name, "pushed")
    try:
        name = bot.create(scenario.name, directory=str(scenario.directory), owner=scenario.owner)
        for step in scenario.steps:
            _take(bot, scenario, step)
        before = bot.files(name)
        _wait(bot, scenario, frozenset({State(scenario.ends)}))
        played.seconds = time.monotonic() - began
        played.seen = look(bot, scenario, before)
        for promise, what in judge(scenario, played.seen).items():
            played.wrong(promise, *what)
        tell(scenario.name, f"{played.ended} by {', '.join(played.seen.applied) or 'nothing'}")
        if played.right and scenario.undo and played.seen.pulls and scenario.ends == State.HEALED:
            began = time.monotonic()
            _take_back(bot, scenario, before)
            played.undone_s = time.monotonic() - began
            tell(scenario.name, "taken back")
    except (GaveUp, AssertionError) as error:
        promise = "undo" if played.seen.incident else "end"
        played.seconds = played.seconds or time.monotonic() - began
        played.seen = played.seen if played.seen.incident else look(bot, scenario, {})
        played.wrong(promise, str(error))
    if played.problems:
        played.story = story(bot, scenario)
        tell(scenario.name, f"WRONG: {'; '.join(what[0] for what in played.problems.values())[:300]}")
    return played


def _after_all(bot: Stage, played: Played) -> None:
    """What only holds when nothing is under way any more."""
    scenario = played.scenario
    again = played.seen.applied.count("rerun_failed_jobs") + sum(step.rerun for step in scenario.steps)
    try:
        bot.nothing_twice(scenario.repository, attempts=1 + again)
    except AssertionError as error:
        played.wrong("twice", str(error))
    if scenario.left_alone and "end" not in played.problems:
        played.wrong("untouched", *untouched(scenario, look(bot, scenario, played.seen.before)))
    if played.problems and not played.story:
        played.story = story(bot, scenario)


# what is seen, and whether it is right


def look(bot: Stage, scenario: Scenario, before: Files) -> Seen:
    name = scenario.repository
    mine, others = _incidents(bot, scenario)
    here = _repository(bot, name)
    own = [issue for issue in list(here.issues.values()) if issue.user == bot.sandbox.state.bot]
    branches = frozenset(ref.removeprefix("refs/heads/") for ref in here.git.refs("refs/heads/"))
    seen = Seen(
        incident=mine,
        others=others,
        before=before,
        main=bot.files(name),
        pulls=sum(issue.pull is not None for issue in own),
        issues=sum(issue.pull is None for issue in own),
        branches=branches,
    )
    head = _head(bot, scenario, mine)
    if head in branches:
        seen.fix = bot.files(name, head)
    if mine is not None:
        where = head if _proof(scenario) is Proof.FIX_BRANCH else mine.line.branch
        seen.green = _green(bot, name, where, mine.line.workflow_path)
    return seen


def judge(scenario: Scenario, seen: Seen) -> dict[str, list[str]]:
    """Broken promise → what is wrong. Pure."""
    wrong: dict[str, list[str]] = {}
    incident = seen.incident
    if incident is None:
        return {"end": [f"no incident of {scenario.cause}; found: {', '.join(sorted(seen.others)) or 'nothing'}"]}
    end = [] if incident.line.state == scenario.ends else [f"it is {incident.line.state}, not {scenario.ends}"]
    if scenario.healed_by and seen.applied[-1:] != [scenario.healed_by]:
        end.append(f"applied were {', '.join(seen.applied) or 'none'}; the last should be {scenario.healed_by}")
    if scenario.tries is not None and seen.applied != list(scenario.tries):
        end.append(f"applied were {', '.join(seen.applied) or 'none'}, not {', '.join(scenario.tries)}")
    if not [line for line in incident.finding.lines if line.root]:
        end.append("no line of the log is named as the root")
    if seen.others - scenario.also:
        end.append(f"also found: {', '.join(sorted(seen.others - scenario.also))}")
    wrong["end"] = end
    if scenario.ends == State.HEALED:
        wrong["proof"] = _proof_problems(scenario, seen, incident)
        wrong["fix"] = _fix_problems(scenario, seen)
    if scenario.left_alone:
        wrong["untouched"] = untouched(scenario, seen)
    return {promise: what for promise, what in wrong.items() if what}


def _proof_problems(scenario: Scenario, seen: Seen, incident: IncidentDetail) -> list[str]:
    found = [] if seen.proven else ["the timeline has no proof"]
    if _proof(scenario) is not Proof.OWN:
        # a workflow that could not be read had no jobs, and is named in their place
        green = {*seen.green, incident.line.workflow_path} if seen.green else set()
        red = sorted(set(incident.finding.failed_jobs) - green)
        found += [f"the job {job} is not green where it should be" for job in red]
    if _proof(scenario) is Proof.FIX_BRANCH and not seen.pulls:
        found.append("there is no pull request")
    if seen.main != seen.before:
        found.append("the default branch has been changed")
    return found


def _fix_problems(scenario: Scenario, seen: Seen) -> list[str]:
    found = []
    for expected, texts_of in ((True, scenario.after), (False, scenario.without)):
        for path, texts in texts_of.items():
            there = (seen.fix or {}).get(path, b"").decode(errors="replace")
            found += [
                f"{path} has {'not ' if expected else ''}{text!r} on the fix branch:\n{there[:2000]}"
                for text in texts
                if (text in there) is not expected
            ]
    return found


def untouched(scenario: Scenario, seen: Seen) -> list[str]:
    """What was done to a repository that was to be left alone. An issue is no harm."""
    theirs = {"main"} | {step.branch for step in scenario.steps if step.push is not None}
    return [
        *(["there is a pull request of the bot"] if seen.pulls else []),
        *(f"there is a branch {branch}" for branch in sorted(seen.branches - theirs)),
        *(["its tree is not what it was"] if seen.main != seen.before else []),
        *([f"there are {seen.issues} issues"] if seen.issues > 1 + len(scenario.also) else []),
        *(f"{action} was applied" for action in seen.applied if action not in HARMLESS),
    ]


def _proof(scenario: Scenario) -> Proof:
    return PROOFS.get(scenario.healed_by or "", Proof.NOTHING)


def _green(bot: Stage, name: str, branch: str, workflow: str) -> tuple[str, ...]:
    """The jobs that passed in the last attempt of the last run there."""
    runs = [run for run in _runs(bot, name, branch) if run.workflow.path == workflow and run.status == "completed"]
    return tuple(job.name for job in runs[-1].jobs_of(runs[-1].attempt) if job.conclusion == "success") if runs else ()


# what people do


def _take(bot: Stage, scenario: Scenario, step: Step) -> None:
    name = scenario.repository
    if step.wait:
        _wait(bot, scenario, frozenset({State(step.wait)}))
    elif step.noted:
        _until(f"{scenario.name} to be {step.noted}", lambda: _has(bot, scenario, str(step.noted)))
        time.sleep(1 - time.time() % 1)  # GitHub tells times in whole seconds: what follows is later
    elif step.settle:
        _calm(bot, name)
    elif step.push is not None:
        _push(bot, scenario, step)
    elif step.pull is not None:
        body = {"title": step.pull, "head": step.branch, "base": step.base}
        _as(bot, step.login, "POST", f"/repos/{name}/pulls", body)
    elif step.rerun:
        _as(bot, step.login, "POST", f"/repos/{name}/actions/runs/{_runs(bot, name, step.branch)[-1].id}/rerun", None)
    else:
        number = _number(bot, scenario, step)
        if step.comment is not None:
            _as(bot, step.login, "POST", f"/repos/{name}/issues/{number}/comments", {"body": step.comment})
        elif step.merge:
            _as(bot, step.login, "PUT", f"/repos/{name}/pulls/{number}/merge", {})
        else:
            _as(bot, step.login, "PATCH", f"/repos/{name}/issues/{number}", {"state": "closed"})


def _push(bot: Stage, scenario: Scenario, step: Step) -> None:
    """One commit with the files of a folder, as text."""
    folder = scenario.directory.parent / str(step.push)
    files: dict[str, str | None] = {
        file.relative_to(folder).as_posix(): file.read_text("utf-8")
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    files |= dict.fromkeys(step.remove)
    branch = step.branch if step.branch != "fix" else _head(bot, scenario, _incidents(bot, scenario)[0])
    body = {"repo": scenario.repository, "files": files, "branch": branch, "message": "Change", "login": step.login}
    bot.admin("POST", "/commits", body)


def _number(bot: Stage, scenario: Scenario, step: Step) -> int:
    """The bot's newest pull request or issue."""

    def own() -> list[int]:
        issues = list(_repository(bot, scenario.repository).issues.values())
        ours = [i for i in issues if i.user == bot.sandbox.state.bot]
        return [i.number for i in ours if (i.pull is not None) is (step.on == "pull")]

    return int(_until(f"{scenario.name} to have a {step.on} of the bot", own)[-1])


_users = threading.Lock()


def _as(bot: Stage, login: str, method: str, path: str, body: Any) -> Any:
    with _users:
        if login not in bot.tokens:
            bot.tokens[login] = bot.admin("POST", "/users", {"login": login, "permission": "write"})["token"]
    return bot.act(method, path, body, login)


def _take_back(bot: Stage, scenario: Scenario, before: Files) -> None:
    """Merge the fix, undo it, merge the revert: the tree is byte for byte what it was. Raises GaveUp."""
    name = scenario.repository
    incident = _incidents(bot, scenario)[0]
    assert incident is not None
    bot.merge(name, incident.line.pull_number)
    _until(f"{scenario.name} to be merged", lambda: _has(bot, scenario, "merged"))
    if bot.files(name) == before:
        raise GaveUp(f"{scenario.name}: the merge of the fix changed nothing")
    bot.say(name, int(incident.line.pull_number or 0), "/heal undo")
    bot.merge(name, _until(f"the revert of {scenario.name}", lambda: _open_pull(bot, name, "-revert")))
    after = bot.files(name)
    if after != before:
        changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
        raise GaveUp(f"after the undo the tree is not what it was: {', '.join(changed)}")


def _has(bot: Stage, scenario: Scenario, kind: str) -> bool:
    incident = _incidents(bot, scenario)[0]
    return incident is not None and any(entry.kind == kind for entry in incident.timeline)


def _open_pull(bot: Stage, name: str, suffix: str) -> int | None:
    issues = list(_repository(bot, name).issues.values())
    heads = (i for i in issues if i.pull is not None and i.state == "open" and i.pull.head_ref.endswith(suffix))
    return next((issue.number for issue in heads), None)


# looking


def _repository(bot: Stage, name: str) -> Repository:
    found = bot.sandbox.state.repository(*name.split("/"))
    assert found is not None, name
    return found


def _runs(bot: Stage, name: str, branch: str) -> list[Run]:
    return bot.runs(name, branch)


def _head(bot: Stage, scenario: Scenario, incident: IncidentDetail | None) -> str:
    """The branch of the incident's pull request."""
    number = incident.line.pull_number if incident else None
    issue = _repository(bot, scenario.repository).issues.get(number or 0)
    return issue.pull.head_ref if issue is not None and issue.pull is not None else ""


def _incidents(bot: Stage, scenario: Scenario) -> tuple[IncidentDetail | None, frozenset[str]]:
    """The newest incident of the scenario's cause, and the kinds of all others."""
    wanted = select(IncidentRow.id).where(IncidentRow.repository == scenario.repository).order_by(IncidentRow.id)
    with reading(bot.engine) as connection:
        ids = list(connection.scalars(wanted))
    found = [incident for incident in map(bot.reads.incident, ids) if incident is not None]
    mine = [incident for incident in found if incident.line.kind == scenario.cause]
    return (mine[-1] if mine else None), frozenset(i.line.kind for i in found if i.line.kind != scenario.cause)


def _until(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise GaveUp(f"waited in vain for {what}")
        time.sleep(POLL_S)
    return answer


def _wait(bot: Stage, scenario: Scenario, wanted: frozenset[State]) -> None:
    """Until the incident is in one of these states. Gives up early when it has come to rest in another one."""
    deadline = time.monotonic() + WITHIN_S
    calm_since, last = time.monotonic(), ""
    while True:
        incident, others = _incidents(bot, scenario)
        state = incident.line.state if incident else None
        if state in wanted:
            return
        bot.redeliver_refused()  # the bot may have been down
        now = f"{state} {sorted(others)} {_busy(bot, scenario.repository)}"
        if now != last or (state and state not in RESTS) or _busy(bot, scenario.repository):
            calm_since, last = time.monotonic(), now
        if time.monotonic() - calm_since > CALM_S or time.monotonic() > deadline:
            came = str(state) if state else f"found were {', '.join(sorted(others)) or 'nothing'}"
            raise GaveUp(f"waited for {' or '.join(sorted(wanted))} of {scenario.cause}; instead: {came}")
        time.sleep(POLL_S)


def _calm(bot: Stage, name: str) -> None:
    """What is on its way from one list to the next is in none of them for a moment: it must be calm for a while."""
    deadline, looks = time.monotonic() + WITHIN_S, 0
    while looks < CALM_LOOKS:
        if time.monotonic() > deadline:
            raise GaveUp(f"waited in vain for {name} to be calm")
        looks = 0 if _busy(bot, name) else looks + 1
        time.sleep(LOOK_S)


def _busy(bot: Stage, name: str) -> bool:
    """A run is under way, a delivery is on its way, or somebody still has to work on a row of this repository."""
    where = _repository(bot, name)
    if any(run.status != "completed" or run.rerun_waits for run in _all_runs(bot, name)):
        return True
    if any(d.status == "pending" and d.repository_id == where.id for d in list(bot.sandbox.state.deliveries)):
        return True
    rows = (
        select(DeliveryRow.id).where(DeliveryRow.repository_id == where.id, DeliveryRow.state == "ready"),
        select(EffectRow.id).where(EffectRow.repository_id == where.id, EffectRow.state == "wanted"),
        select(RepairRow.id).where(
            RepairRow.repository_id == where.id,
            RepairRow.state.in_(["planned", "applied"]),
            RepairRow.buried_at.is_(None),
        ),
    )
    with reading(bot.engine) as connection:
        return any(connection.scalar(row.limit(1)) for row in rows)


def _all_runs(bot: Stage, name: str) -> list[Run]:
    return [run for run in list(bot.sandbox.state.runs.values()) if run.repository.full_name == name]


def story(bot: Stage, scenario: Scenario) -> str:
    """Everything that helps to find out what went wrong: the timeline, and the end of each job's log."""
    incident, others = _incidents(bot, scenario)
    lines = [f"{scenario.repository}: {scenario.title}", f"other incidents: {', '.join(sorted(others)) or 'none'}"]
    if incident is not None:
        lines += [str(incident.line), f"facts: {dict(incident.finding.facts)}"]
        lines += [f"  {e.at:%T.%f} {e.kind} {json.dumps(dict(e.data), default=str)[:1500]}" for e in incident.timeline]
    for run in _all_runs(bot, scenario.repository):
        lines.append(
            f"run {run.id} of {run.workflow.path} on {run.head_branch}, attempt {run.attempt}: {run.conclusion}"
        )
        for job in run.jobs:
            lines += [f"  job {job.name}, attempt {job.run_attempt}: {job.conclusion}"]
            lines += [f"    {line[29:] if len(line) > 29 else line}"[:300] for line in job.log.splitlines()[-25:]]
    return "\n".join(lines)

"""Mark one flaky test, with an owner, a ticket and an end: it still runs, and fails no run; and lift the mark again."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from actions import fix_pull_request
from actions.honest.marker import IMPORT, MARKER, lines
from actions.honest.python import parsed
from actions.honesty import Allowed
from actions.job_log import lines_of
from app.domain.errors import Refused
from app.domain.incident import Incident
from app.domain.outcome import FAILED, Conclusion, Outcome
from app.domain.repair import FileEdit, Plan, Proof, Repair, RepairState, Verb
from app.ports.forge import Forge, RunInfo
from app.ports.plugins import Tools
from app.security.markdown import code_span, inline

ALLOW = frozenset({Allowed.QUARANTINE})
LABELS = ("heal", "flaky test")
NO_TICKET = "its ticket"  # in a plan; the ticket is opened when the plan is carried out
STREAK = 10
MOST_ATTEMPTS = 10
MOST_RUNS = 10
MOST_JOBS = 5
RECENTLY = timedelta(days=30)

_TEST = r"([\w./-]{1,300}\.py)::((?:\w{1,200}::){0,5}\w{1,200})(?![\w:])"
_FAILED = re.compile(rf"^(?:FAILED|ERROR) {{1,4}}{_TEST}")
_FAILED_AS_TOLD = re.compile(rf"^{_TEST}(?:\[.{{0,300}}\])? {{1,4}}(?:FAILED|ERROR)\b")
_OWNER = re.compile(r"^@[A-Za-z0-9][A-Za-z0-9-]{0,38}(?:/[\w.-]{1,80})?$", re.ASCII)
N = TypeVar("N", bound=ast.stmt)
_SAME_CODE = frozenset({"push", "schedule"})  # runs of one commit for these test one and the same tree


class QuarantineParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    days: int = Field(14, ge=1, le=90)


@dataclass(frozen=True, slots=True, order=True)
class Test:
    """A test function as pytest names it, without its parameters: `tests/test_a.py`, `TestA::test_b`."""

    file: str
    name: str

    def __str__(self) -> str:
        return f"{self.file}::{self.name}"


class Unfit(ValueError):
    """The test cannot be marked soundly; the message is the refusal."""


class QuarantineTest:
    kind = "quarantine_test"
    Params: type[BaseModel] = QuarantineParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: QuarantineParams, tools: Tools) -> Plan:
        title = "Quarantine a flaky test"
        if incident.finding.kind != "flaky_test":
            return Plan(title, refusal=f"{incident.finding.kind} is no flake")
        try:
            test = _the_one(_failing(tools.forge, incident.run_id, incident.attempt, incident.finding.failed_jobs))
            test = replace(test, file=_path(test.file, tools.forge.paths(incident.head_sha)))
            why = _proof(test, incident, tools)
            text = _text(test, incident, tools)
            until = (_intended_at(tools) + timedelta(days=params.days)).date()
            edit = FileEdit(test.file, text, marked(text, test, until, NO_TICKET, _owner(test.file, tools)))
        except Unfit as error:
            return Plan(title, refusal=str(error))
        if refusal := fix_pull_request.forbidden(incident, (edit,), tools.policy, ALLOW):
            return Plan(title, refusal=refusal)
        return Plan(
            f"Quarantine {test.name.rpartition('::')[2]} until {until}",
            why=f"{test} is flaky: {why}. It goes on running, with all of its cases, and shows as XFAIL or XPASS",
            edits=(edit,),
            calls=(f"open a ticket labelled {' and '.join(LABELS)}, and name it in the marker",),
            risk="while it is marked, the test tells nobody of a real failure",
            proof="the jobs that failed pass on the fix branch",
        )

    def apply(self, repair: Repair, params: QuarantineParams, plan: Plan, tools: Tools) -> Outcome:
        forge, incident = tools.forge, tools.incident
        if forge.branch_head(incident.fix_branch) is None:
            busy = fix_pull_request.somebody_else(plan.edits, incident.branch, forge)
            if busy or forge.branch_head(incident.branch) != incident.head_sha:
                return fix_pull_request.propose(repair, plan, tools, ALLOW)  # says why not, before there is a ticket
        tools.guard()
        ticket = forge.ensure_issue(tools.marker, plan.title, _ticket_text(plan), LABELS)
        outcome = fix_pull_request.propose(repair, _with_ticket(plan, ticket), tools, ALLOW)
        if outcome.conclusion is not Conclusion.SUCCESS:
            tools.guard()
            forge.close_issue(ticket, "No test was quarantined.")
            return outcome
        return replace(outcome, data={**outcome.data, "ticket": ticket})

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        """Close the pull request and the ticket; or offer the reverse of what was merged, and leave the ticket open."""
        data = repair.outcome.data if repair.outcome else {}
        if "pull" not in data or repair.plan is None:
            return Outcome(Conclusion.NEUTRAL, "no pull request was opened")
        plan = _with_ticket(repair.plan, int(data["ticket"]))
        merged = tools.forge.pull(int(data["pull"])).merged
        if merged:
            head = tools.forge.branch_head(str(data["base"]))
            plan = replace(plan, edits=_as_it_stands(plan.edits, tools.forge, head or ""))
        outcome = fix_pull_request.withdraw(replace(repair, plan=plan), tools)
        if outcome.conclusion is Conclusion.SUCCESS and not merged:
            tools.guard()
            tools.forge.close_issue(int(data["ticket"]), "The quarantine was taken back.")
        return outcome

    def lift(self, repair: Repair, forge: Forge, now: datetime) -> Plan:
        return lift(repair, forge, now)


def lift(repair: Repair, forge: Forge, now: datetime) -> Plan:
    """Whether the quarantine that `repair` brought is over, and what takes it back: the undo of the repair offers that.

    It is over when its day has come, or when the test has passed in the last 10 runs on the branch. Only a log in which
    pytest lists what passed though marked (`-rX`, `-ra`, `-rA` or `-v`) can tell the latter.
    """
    title = "Lift a quarantine"
    data = repair.outcome.data if repair.outcome else {}
    if repair.plan is None or "ticket" not in data or not forge.pull(int(data["pull"])).merged:
        return Plan(title, refusal="the quarantine was not merged")
    base = str(data["base"])
    head = forge.branch_head(base)
    if head is None:
        return Plan(title, refusal=f"{base} is gone")
    plan = _with_ticket(repair.plan, int(data["ticket"]))
    standing = _as_it_stands(plan.edits, forge, head)
    edits = tuple(FileEdit(edit.path, edit.after, edit.before) for edit in standing if edit.before != edit.after)
    if not edits:
        return Plan(title, refusal="the marker is gone already")
    until, test = _day(plan.edits[0]), _test_of(plan.edits[0])
    seen = _streak(repair, test, forge, base)
    if now.date() < until and seen < STREAK:
        return Plan(title, refusal=f"it holds until {until}; the last {seen} runs show that the test passed")
    why = f"it held until {until}" if now.date() >= until else f"the test passed in the last {seen} runs on {base}"
    return Plan(f"Lift the quarantine of {test.name.rpartition('::')[2]}", why=why, edits=edits)


def marked(text: str, test: Test, until: date, ticket: str, owner: str) -> str:
    """The file with the marker above the test, and `import pytest` where it was missing. Raises Unfit."""
    if re.search(r"\r(?!\n)", text):
        raise Unfit(f"{test.file} has line ends that are not plain")
    tree = parsed(text)
    if tree is None:
        raise Unfit(f"{test.file} cannot be read as Python")
    function = _function(tree, test)
    for decorator in function.decorator_list:
        if re.search(r"\b(?:xfail|skip|skipif|skipIf|skipUnless|expectedFailure)\b", ast.unparse(decorator)):
            raise Unfit(f"{test} is marked already, at line {decorator.lineno}")
    at = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)]) - 1
    found = lines(text)
    indent = re.match(r"[ \t]*", found[at])
    end = "\r\n" if found[at].endswith("\r\n") else "\n"
    reason = f"quarantined by heal until {until}: flaky, see {ticket} (owner {owner})"
    mark = f'{indent[0] if indent else ""}@pytest.mark.xfail(strict=False, reason="{reason}"){end}'
    new = [*found[:at], mark, *found[at:]]
    if not _imports_pytest(tree, test.file):
        place, brought = _place_of_import(tree, end)
        new[place:place] = brought
    return "".join(new)


def _text(test: Test, incident: Incident, tools: Tools) -> str:
    file = tools.forge.file(test.file, incident.head_sha)
    if file is None:
        raise Unfit(f"{test.file} cannot be read")
    return file.text


def _function(tree: ast.Module, test: Test) -> ast.FunctionDef | ast.AsyncFunctionDef:
    *classes, name = test.name.split("::")
    body: Sequence[ast.stmt] = tree.body
    for each in classes:
        body = _only([node for node in body if isinstance(node, ast.ClassDef) and node.name == each], each, test).body
    functions = [
        node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return _only(functions, name, test)


def _only(nodes: list[N], name: str, test: Test) -> N:
    if not nodes:
        raise Unfit(f"{name} does not stand plainly in {test.file}: it is inherited, made or put under a condition")
    if len(nodes) > 1:
        raise Unfit(f"{test.file} has {name} {len(nodes)} times, at lines {', '.join(str(n.lineno) for n in nodes)}")
    return nodes[0]


def _imports_pytest(tree: ast.Module, path: str) -> bool:
    """Whether the name `pytest` is the module, for certain. Raises Unfit where it may be something else."""
    plain = [
        node
        for node in tree.body
        if isinstance(node, ast.Import) and any((name.name, name.asname) == ("pytest", None) for name in node.names)
    ]
    for node in ast.walk(tree):
        bound = (
            (isinstance(node, ast.Name) and node.id == "pytest" and not isinstance(node.ctx, ast.Load))
            or (isinstance(node, ast.arg) and node.arg == "pytest")
            or (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == "pytest")
            or (
                isinstance(node, ast.Import | ast.ImportFrom)
                and node not in plain
                and any((name.asname or name.name.partition(".")[0]) == "pytest" for name in node.names)
            )
        )
        if bound:
            raise Unfit(
                f"{path}:{getattr(node, 'lineno', 1)} gives the name pytest to something else, or only sometimes"
            )
    return bool(plain)


def _place_of_import(tree: ast.Module, end: str) -> tuple[int, list[str]]:
    """Where `import pytest` belongs, as a number of lines from the top, and the lines to put there."""
    here = f"import pytest{end}"
    body = list(tree.body)
    head = 0
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        head = body.pop(0).end_lineno or 0
    while body and isinstance(body[0], ast.ImportFrom) and body[0].module == "__future__":
        head = body.pop(0).end_lineno or 0
    imports: list[ast.Import | ast.ImportFrom] = []
    for statement in body:
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            break
        imports.append(statement)
    others = [statement for statement in imports if not _is_standard(statement)]
    if others:
        before = [each for each in others if isinstance(each, ast.Import) and each.names[0].name < "pytest"]
        return (before[-1].end_lineno or 0, [here]) if before else (others[0].lineno - 1, [here])
    if imports:
        last = imports[-1].end_lineno or 0
        return last, [end, here]
    if head:
        return head, [end, here]
    first = min((each.lineno for node in body[:1] for each in [*getattr(node, "decorator_list", ()), node]), default=1)
    return first - 1, [here, end]


def _is_standard(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and (node.module or "").partition(".")[0] in sys.stdlib_module_names
    return node.names[0].name.partition(".")[0] in sys.stdlib_module_names


def _the_one(tests: set[Test]) -> Test:
    if not tests:
        raise Unfit("the log names no test of pytest that failed; only those can be quarantined")
    if len(tests) > 1:
        named = ", ".join(map(str, sorted(tests)[:3]))
        raise Unfit(f"{len(tests)} tests failed ({named}{', …' if len(tests) > 3 else ''}); one at a time may be flaky")
    return next(iter(tests))


def _path(told: str, paths: Sequence[str]) -> str:
    """The file in the repository; the tests may have been run in a folder of it."""
    if told in paths:
        return told
    found = [path for path in paths if path.endswith(f"/{told.removeprefix('./')}")]
    if len(found) != 1:
        raise Unfit(f"{told} is {'not there' if not found else 'one of several files: ' + ', '.join(found[:3])}")
    return found[0]


def _failing(forge: Forge, run_id: int, attempt: int, names: Sequence[str]) -> set[Test]:
    jobs = [job for job in forge.jobs(run_id, attempt) if job.name in names and job.conclusion in FAILED]
    found: set[Test] = set()
    for job in jobs[:MOST_JOBS]:
        for line in lines_of(forge, job):
            if match := _FAILED.match(line) or _FAILED_AS_TOLD.match(line):
                found.add(Test(match[1], match[2]))
    return found


def _proof(test: Test, incident: Incident, tools: Tools) -> str:
    """How it is known that the test both fails and passes on the same code. Raises Unfit where it is not."""
    forge, names = tools.forge, set(incident.finding.failed_jobs)
    own = forge.run(incident.run_id)
    failures = 0
    for run in [own, *_siblings(own, incident, forge)]:
        for attempt in range(run.attempt, max(0, run.attempt - MOST_ATTEMPTS), -1):
            ended = {job.name: job.conclusion for job in forge.jobs(run.id, attempt) if job.name in names}
            failures += any(conclusion in FAILED for conclusion in ended.values())
            if ended.keys() == names and set(ended.values()) == {"success"}:
                where = f"attempt {attempt} of run {run.id}"
                return f"it failed at {incident.head_sha[:7]}, and in {where} at the same commit its job passed"
    if failures > 1:
        raise Unfit(f"{test} failed in all {failures} attempts at {incident.head_sha[:7]}: that is no flake")
    for repair in reversed(tools.repairs):
        if _showed(repair, test, incident, tools):
            return f"it failed at {repair.intent.head_sha[:7]} and passed there in a re-run, and now it failed again"
    raise Unfit(f"{test} was never seen to pass and fail on the same code")


def _siblings(own: RunInfo, incident: Incident, forge: Forge) -> list[RunInfo]:
    """Other runs of the same workflow on the very same tree."""
    if own.trigger not in _SAME_CODE:
        return []  # a pull request is tested as merged into a base that moves
    runs = forge.runs(head_sha=incident.head_sha)
    same = [r for r in runs if (r.workflow_path, r.trigger) == (own.workflow_path, own.trigger) and r.id != own.id]
    return [run for run in same if run.status == "completed"][:MOST_RUNS]


def _showed(repair: Repair, test: Test, incident: Incident, tools: Tools) -> bool:
    """A re-run of this incident has shown that the test, as it is now, passes where it had failed."""
    intent, forge = repair.intent, tools.forge
    rerun = repair.verb is Verb.APPLY and repair.remedy.action == "rerun_failed_jobs"
    if not rerun or repair.state is not RepairState.PROVEN or repair.applied_at is None:
        return False
    if repair.applied_at < tools.clock.now() - RECENTLY:
        return False
    try:
        then, now = (forge.file(test.file, sha) for sha in (intent.head_sha, incident.head_sha))
        failing = _failing(forge, intent.run_id, intent.attempt, intent.jobs or incident.finding.failed_jobs)
    except Refused:
        return False
    same = then is not None and now is not None and then.text == now.text
    return same and any(test.name == each.name and f"/{test.file}".endswith(f"/{each.file}") for each in failing)


def _intended_at(tools: Tools) -> datetime:
    """When the repair that is being planned was decided on, so that a later dry run of it gives the same day."""
    mine = [
        repair.intended_at
        for repair in tools.repairs
        if repair.remedy.action == QuarantineTest.kind and repair.state in (RepairState.PLANNED, RepairState.ASKED)
    ]
    return mine[-1] if mine else tools.clock.now()


def _owner(path: str, tools: Tools) -> str:
    """Who is told to own the file, in CODEOWNERS; else the owner of the repository."""
    for place in (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS"):
        file = tools.forge.file(place, tools.incident.head_sha)
        if file is None:
            continue
        owner = ""
        for line in file.text.splitlines()[:5_000]:
            pattern, *owners = line.partition("#")[0].split()[:20] or [""]
            if pattern and _owns(pattern, path):
                owner = next((word for word in owners if _OWNER.match(word)), "")
        if owner:
            return owner
        break
    return f"@{tools.forge.repository.owner}"


def _owns(pattern: str, path: str) -> bool:
    """As in CODEOWNERS: the last pattern that matches counts, a folder owns what is below it."""
    anchored = pattern.startswith("/") or "/" in pattern.rstrip("/")
    told = ("" if anchored else "**/") + pattern.strip("/")[:300]
    below = [] if pattern.endswith("/*") else [f"{told}/**"]
    return any(fix_pull_request.matches(each, path) for each in [told, *below])


def _ticket_text(plan: Plan) -> str:
    path = plan.edits[0].path
    return (
        f"{inline(plan.why, 1_000)}.\n\n"
        f"A pull request marks it in {code_span(path)}. Please find out why it flakes, mend it, and remove the marker. "
        f"When its day has come, or {STREAK} runs in a row show that it passed, a pull request lifts the quarantine.\n"
    )


def _with_ticket(plan: Plan, number: int) -> Plan:
    def told(edit: FileEdit) -> FileEdit:
        new = lines(edit.after or "")
        for at, line in enumerate(new):
            found = MARKER.match(line)
            if found and found["ticket"] == NO_TICKET:
                new[at] = line.replace(f"see {NO_TICKET} (", f"see #{number} (")
        return replace(edit, after="".join(new))

    return replace(plan, edits=tuple(told(edit) for edit in plan.edits))


def _as_it_stands(edits: Sequence[FileEdit], forge: Forge, head: str) -> tuple[FileEdit, ...]:
    """The same edits as they show at `head`: without the marker, and with it.

    Where the lines around have changed since, the marker alone. Where it is gone, an edit that changes nothing.
    """
    found = []
    for edit in edits:
        file = forge.file(edit.path, head) if head else None
        now = file.text if file else None
        mark = _mark(edit)
        if now is None or mark not in lines(now):
            found.append(FileEdit(edit.path, now, now))
            continue
        back = fix_pull_request.restored(edit, now)
        without = back.after if back is not None and back.after is not None else ""
        if back is None or mark in lines(without) or _lost_pytest(without):
            kept = lines(now)
            kept.remove(mark)
            without = "".join(kept)
        found.append(FileEdit(edit.path, without, now))
    return tuple(found)


def _lost_pytest(text: str) -> bool:
    """Somebody else uses the import by now."""
    tree = parsed(text)
    used = any(isinstance(node, ast.Name) and node.id == "pytest" for node in ast.walk(tree)) if tree else True
    return used and not any(IMPORT.match(line) for line in lines(text))


def _mark(edit: FileEdit) -> str:
    """The line that the edit brought."""
    known = set(lines(edit.before or ""))
    return next((line for line in lines(edit.after or "") if MARKER.match(line) and line not in known), "")


def _day(edit: FileEdit) -> date:
    found = MARKER.match(_mark(edit))
    return date.fromisoformat(found["until"]) if found else date.max


def _test_of(edit: FileEdit) -> Test:
    """The test that the edit has marked."""
    tree, at = parsed(edit.after or ""), lines(edit.after or "").index(_mark(edit)) + 1
    for name, node in _all_functions(tree) if tree else ():
        if any(decorator.lineno == at for decorator in node.decorator_list):
            return Test(edit.path, name)
    raise Unfit(f"{edit.path} has no marked test")


def _all_functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{inside}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _all_functions(node, f"{inside}{node.name}::")


def _streak(repair: Repair, test: Test, forge: Forge, base: str) -> int:
    """In how many of the newest runs on the branch, without a gap, the log shows that the marked test passed."""
    names, seen = set(repair.intent.jobs), 0
    runs = [run for run in forge.runs(branch=base) if run.workflow_path == repair.intent.workflow_path]
    for run in [run for run in runs if run.status == "completed"][:STREAK]:
        told = {
            words[0]
            for job in forge.jobs(run.id, run.attempt)[: MOST_JOBS * 4]
            if job.name in names
            for line in lines_of(forge, job)
            if (words := _told_of(line, test))
        }
        if told != {"XPASS"}:
            break
        seen += 1
    return seen


def _told_of(line: str, test: Test) -> list[str]:
    """XPASS or XFAIL, where the line tells that of the test (or of a case of it)."""
    words = [word for word in ("XPASS", "XFAIL") if re.search(rf"\b{word}\b", line)]
    found = re.search(_TEST, line) if words else None
    same = found and found[2] == test.name and f"/{test.file}".endswith(f"/{found[1].removeprefix('./')}")
    return words if same else []

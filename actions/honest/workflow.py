"""Tricks in workflow files: checks that are not run any more, may fail unseen, or see what they must not."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from actions.honest import shell
from actions.honest.words import BLINDERS, LENIENT, STRICT
from app.domain.changes import changes
from app.security.yaml import NOT_YAML

CHECKOUT = "actions/checkout"
MOST_NODES = 20_000
MOST_DEPTH = 40

Path = tuple[str | int, ...]
Trick = tuple[int, str]

# What a workflow, a job or a step may not have changed in it at all.
_FIXED = {
    "on": "changes what starts it",
    "name": "changes a name that others wait for",
    "if": "touches a condition",
    "needs": "touches a condition",
    "continue-on-error": "suppresses a failure",
    "shell": "changes how a script is run",
    "defaults": "changes how scripts are run",
    "working-directory": "changes where a script is run",
    "environment": "changes the environment that is deployed to",
    "outputs": "changes what it tells to others",
    "id": "changes a name that others wait for",
}
_OF_WORKFLOW = ("on", "name", "defaults")
_OF_JOB = ("name", "if", "needs", "continue-on-error", "defaults", "environment", "outputs")
_OF_STEP = ("id", "if", "continue-on-error", "shell", "working-directory")
_SECRET = re.compile(
    r"\$\{\{(?:[^}$]|\$(?!\{\{))*\b(?:secrets\b|github\s*\.\s*token\b|toJSON\s*\(\s*(?:github|secrets)\s*\))",
    re.IGNORECASE,
)
_MOVING = re.compile(r"@(?:main|master|head|develop|latest|dev|trunk)$", re.IGNORECASE)
_BLIND_FILE = re.compile(r"\$\{?GITHUB_(?:PATH|ENV)\b")
_WEAKER_INPUT = {"if-no-files-found": ("ignore", "warn"), "fail_ci_if_error": (False, "false")}


class Unreadable(ValueError):
    """The file cannot be read; the message is for the refusal."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


class Document:
    """A YAML file as plain values, with the line of each."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._left = MOST_NODES
        try:
            node = YAML(typ="safe", pure=True).compose(text)
        except NOT_YAML as error:
            raise Unreadable("cannot be read as YAML") from error
        self.value = self._plain(node, ()) if node is not None else {}
        if not isinstance(self.value, dict):
            raise Unreadable("is no workflow")

    def line(self, path: Path) -> int:
        """Of the value at `path`, or of what is nearest above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def _plain(self, node: Node, path: Path) -> Any:
        self._left -= 1
        if self._left < 0 or len(path) > MOST_DEPTH:
            raise Unreadable("is too large or too deep to be looked at")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            found: dict[str, Any] = {}
            for key, value in node.value:
                if not isinstance(key, ScalarNode) or key.value in found or key.value == "<<":
                    raise Unreadable("has a key that is not plain, or stands twice", key.start_mark.line + 1)
                self.lines[(*path, key.value)] = key.start_mark.line + 1
                found[key.value] = self._plain(value, (*path, key.value))
            return found
        if isinstance(node, SequenceNode):
            return [self._plain(value, (*path, number)) for number, value in enumerate(node.value)]
        return _scalar(node)


def _scalar(node: Node) -> Any:
    if getattr(node, "style", None) in (None, "") and str(node.tag).endswith((":bool", ":null")):
        return {"true": True, "false": False}.get(node.value.lower())
    return node.value


def tricks(before: str | None, after: str | None) -> Trick | None:
    """The first trick of an edited workflow, with its line in the new file where it is still there."""
    if before is None:
        return 1, "adds a workflow"
    if after is None:
        return 1, "takes a workflow away"
    try:
        new = Document(after)
    except Unreadable as error:
        return error.line, str(error)
    try:
        old = Document(before)
    except Unreadable:
        if _letters(before) == _letters(after):
            return None  # only what separates the words was mended
        return 1, "could not be read before, so that nobody can tell what was changed"
    return next(_Comparison(old, new).tricks(), None)


class _Comparison:
    def __init__(self, old: Document, new: Document) -> None:
        self.old, self.new = old, new

    def tricks(self) -> Iterator[Trick]:
        old, new = self.old.value, self.new.value
        yield from self._fixed(old, new, (), _OF_WORKFLOW)
        yield from self._open(old, new, ())
        yield from self._secrets()
        jobs, now = _mapping(old, "jobs"), _mapping(new, "jobs")
        for name in jobs:
            if name not in now:
                yield self.new.line(("jobs",)), f"takes the job {name!r} away"
            else:
                yield from self._job(jobs[name], now[name], ("jobs", name))
        for name in now:
            if name not in jobs:
                yield from self._new_job(now[name], ("jobs", name))

    def _fixed(self, old: Any, new: Any, path: Path, keys: tuple[str, ...]) -> Iterator[Trick]:
        for key in keys:
            if _get(old, key) != _get(new, key):
                yield self.new.line((*path, key)), _FIXED[key]

    def _open(self, old: Any, new: Any, path: Path) -> Iterator[Trick]:
        """Permissions and variables, which a workflow and a job may have."""
        if _get(new, "permissions") == "write-all" and _get(old, "permissions") != "write-all":
            yield self.new.line((*path, "permissions")), "may write everything"
        yield from self._variables(old, new, path)

    def _variables(self, old: Any, new: Any, path: Path) -> Iterator[Trick]:
        known = _mapping(old, "env")
        for name, value in _mapping(new, "env").items():
            if BLINDERS.match(name) and known.get(name) != value:
                yield self.new.line((*path, "env", name)), f"sets {name}, which tells the checks to look away"
        for name in known:
            if name not in _mapping(new, "env"):
                yield self.new.line((*path, "env")), f"takes the variable {name} away"

    def _secrets(self) -> Iterator[Trick]:
        """No secret is used where none was, and none more often."""
        known, now = Counter(_secrets(self.old.value, ())), Counter(_secrets(self.new.value, ()))
        left = Counter(told for told, _ in (known - now).elements())
        for told, path in (now - known).elements():
            if not left[told]:
                yield self.new.line(path), "uses a secret that it did not use"
            left[told] -= 1

    def _job(self, old: Any, new: Any, path: Path) -> Iterator[Trick]:
        if not isinstance(old, dict) or not isinstance(new, dict):
            yield self.new.line(path), "is no job any more"
            return
        yield from self._fixed(old, new, path, _OF_JOB)
        yield from self._open(old, new, path)
        yield from self._timeout(old, new, path)
        yield from self._matrix(old, new, path)
        if _action(_get(old, "uses")) != _action(_get(new, "uses")):
            yield self.new.line((*path, "uses")), "runs another workflow"
        steps, now = _list(old, "steps"), _list(new, "steps")
        for first, second in _aligned(steps, now):
            at = (*path, "steps", second) if second is not None else (*path, "steps")
            if second is None:
                yield self.new.line(at), f"takes the step {_told(steps[first or 0])} away"
            elif first is None:
                yield from self._new_step(now[second], at)
            else:
                yield from self._step(steps[first], now[second], at)

    def _timeout(self, old: Any, new: Any, path: Path) -> Iterator[Trick]:
        if _get(old, "timeout-minutes") is not None and _get(new, "timeout-minutes") is None:
            yield self.new.line(path), "takes a time limit away"

    def _matrix(self, old: Any, new: Any, path: Path) -> Iterator[Trick]:
        before, now = _mapping(_mapping(old, "strategy"), "matrix"), _mapping(_mapping(new, "strategy"), "matrix")
        at = (*path, "strategy", "matrix")
        told, tells = (_get(_mapping(job, "strategy"), "matrix") for job in (old, new))
        if isinstance(told, str) and told != tells:
            yield self.new.line(at), "changes what is run of a matrix"
        for key, values in before.items():
            there = now.get(key)
            both = isinstance(values, list) and isinstance(there, list)
            if any(value not in (there or ()) for value in values) if both else values != there:
                yield self.new.line((*at, key)), f"takes away some of the matrix: {key}"
        if any(key not in before for key in now):
            yield self.new.line(at), "changes what is run of a matrix"
        left_out = _list(now, "exclude")
        if any(each not in _list(before, "exclude") for each in left_out):
            yield self.new.line((*at, "exclude")), "leaves some of the matrix out"

    def _step(self, old: Any, new: Any, path: Path) -> Iterator[Trick]:
        if old == new:
            return
        if not isinstance(old, dict) or not isinstance(new, dict):
            yield self.new.line(path), "is no step any more"
            return
        weaker_shell = _get(old, "shell") is None and _get(new, "shell") == "bash"  # adds pipefail
        yield from self._fixed(old, new, path, tuple(key for key in _OF_STEP if key != "shell" or not weaker_shell))
        yield from self._timeout(old, new, path)
        yield from self._variables(old, new, path)
        if _moving(_get(new, "uses")) and _get(old, "uses") != _get(new, "uses"):
            yield self.new.line((*path, "uses")), "follows a branch instead of a version"
        yield from self._inputs(_mapping(old, "with"), _mapping(new, "with"), (*path, "with"))
        if _action(_get(new, "uses")) == CHECKOUT:
            told, tells = (_mapping(step, "with") for step in (old, new))
            for key in ("ref", "repository", "path"):
                if told.get(key) != tells.get(key):
                    yield self.new.line((*path, "with", key)), "looks at something else"
        if isinstance(_get(old, "run"), str):
            trick = shell.tricks(old["run"], str(_get(new, "run") or ""))
            yield from self._in_script(trick, path, str(_get(new, "run") or ""))

    def _inputs(self, old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> Iterator[Trick]:
        for key, value in new.items():
            if old.get(key) == value:
                continue
            off = STRICT.match(key) and value in (False, "false", "never", "none", "")
            if off or value in _WEAKER_INPUT.get(key, ()) or (LENIENT.match(key) and value not in (False, "false")):
                yield self.new.line((*path, key)), "suppresses a failure"
        for key in old:
            if key not in new and STRICT.match(key):
                yield self.new.line(path), "suppresses a failure"

    def _in_script(self, trick: Trick | None, path: Path, script: str) -> Iterator[Trick]:
        if trick:
            at = self.new.line((*path, "run"))
            first = 1 if "\n" in script.rstrip("\n") or script.endswith("\n") else 0
            yield at + first + trick[0] - 1, trick[1]

    def _new_job(self, new: Any, path: Path) -> Iterator[Trick]:
        if not isinstance(new, dict):
            yield self.new.line(path), "is no job"
            return
        for key in ("if", "continue-on-error"):
            if key in new:
                yield self.new.line((*path, key)), _FIXED[key]
        yield from self._open({}, new, path)
        for number, step in enumerate(_list(new, "steps")):
            yield from self._new_step(step, (*path, "steps", number), checked_out=False)

    def _new_step(self, new: Any, path: Path, *, checked_out: bool = True) -> Iterator[Trick]:
        if not isinstance(new, dict):
            yield self.new.line(path), "is no step"
            return
        for key in ("if", "continue-on-error"):
            if key in new:
                yield self.new.line((*path, key)), _FIXED[key]
        if _moving(_get(new, "uses")):
            yield self.new.line((*path, "uses")), "follows a branch instead of a version"
        if _action(_get(new, "uses")) == CHECKOUT and checked_out:
            yield self.new.line((*path, "uses")), "looks at something else"
        yield from self._variables({}, new, path)
        yield from self._inputs({}, _mapping(new, "with"), (*path, "with"))
        if isinstance(_get(new, "run"), str):
            yield from self._in_script(shell.new_script(new["run"]), path, new["run"])
            if _BLIND_FILE.search(new["run"]):
                yield self.new.line((*path, "run")), "changes the environment of the steps after it"


def _aligned(old: list[Any], new: list[Any]) -> Iterator[tuple[int | None, int | None]]:
    """Which step became which: equal ones first, then those between them, in their order."""
    told_old, told_new = ([json.dumps(step, sort_keys=True) for step in steps] for steps in (old, new))
    for tag, a, b, c, d in changes(told_old, told_new):
        if tag == "equal":
            yield from zip(range(a, b), range(c, d), strict=True)
            continue
        at = c
        for number in range(a, b):
            twin = next((n for n in range(at, d) if _same(old[number], new[n])), None)
            if twin is None:
                yield number, None
                continue
            yield from ((None, n) for n in range(at, twin))
            yield number, twin
            at = twin + 1
        yield from ((None, n) for n in range(at, d))


def _same(old: Any, new: Any) -> bool:
    """The same step, though changed: the same action or still a script, under the same name."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return False
    if not {"run", "uses"} & old.keys():  # was no step yet: a key was misspelt, or a blank forgotten
        return list(old.values()) == list(new.values()) or _letters(json.dumps(old)) == _letters(json.dumps(new))
    if _get(old, "name") != _get(new, "name") or _action(_get(old, "uses")) != _action(_get(new, "uses")):
        return False
    if ("run" in old) != ("run" in new):
        return False
    if "run" not in old or "name" in old:
        return True
    return bool(_programs(old["run"]) & _programs(new["run"]))


def _letters(text: str) -> str:
    """Without blanks, quotes and the marks that separate keys, values and items."""
    return re.sub(r"""[\s:,'"{}\[\]-]""", "", text)


def _programs(script: Any) -> set[tuple[str, ...]]:
    try:
        return {command.program for command in shell.commands(str(script)) if command.words}
    except shell.Unreadable:
        return set()


def _action(uses: Any) -> str:
    """An action or a reusable workflow without its version."""
    return str(uses).partition("@")[0] if uses is not None else ""


def _moving(uses: Any) -> bool:
    return (
        isinstance(uses, str)
        and not uses.startswith(("./", "docker://"))
        and ("@" not in uses or bool(_MOVING.search(uses)))
    )


def _secrets(value: Any, path: Path) -> Iterator[tuple[str, Path]]:
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "secrets" and below == "inherit":
                yield "inherit", (*path, key)
            yield from _secrets(below, (*path, key))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _secrets(below, (*path, number))
    elif isinstance(value, str):
        yield from ((match[0], path) for match in _SECRET.finditer(value))


def _told(step: Any) -> str:
    told = (_get(step, "name") or _get(step, "uses") or _get(step, "run") or "") if isinstance(step, dict) else step
    return repr(str(told).split("\n", maxsplit=1)[0][:60])


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _mapping(value: Any, key: str) -> dict[str, Any]:
    found = _get(value, key)
    return found if isinstance(found, dict) else {}


def _list(value: Any, key: str) -> list[Any]:
    found = _get(value, key)
    return found if isinstance(found, list) else []

"""Find the smallest change of pinned versions with which the requirements fit together."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict

from actions import fix_pull_request
from actions.mentions import mentioned, told
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import FileEdit, Plan, Proof, Repair
from app.ports.plugins import Tools
from app.ports.resolver import Resolution, Resolver
from app.security.toml import load_toml

MAX_FILES = 20
MAX_FILE_BYTES = 256 * 1024
MAX_RESOLVES = 40
NEARER_TRIES = 6  # how often a version between the old pin and the resolver's choice is looked for

_REQUIREMENTS = re.compile(r"(?:^|/)requirements[^/]*\.(?:txt|in)$|(?:^|/)requirements/[^/]+\.(?:txt|in)$")
_SKIPPED = re.compile(r"(?:^|/)(?:\.[^/]+|node_modules|vendor|third_party|tests?|site-packages)/")
_PIN = re.compile(r"(?<![=!<>~])==(?!=)\s*(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)(?![\w.*])")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_PROBE = "987654321"


class PinParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement; `pin` is the pinned version and stands at `text[start:end]`, empty for one that has none."""

    requirement: str
    name: str
    pin: str = ""
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    path: str
    text: str
    lines: tuple[Line, ...]

    def with_pins(self, pins: Mapping[Line, str]) -> str:
        text = self.text
        for line in sorted(pins, key=lambda line: line.start, reverse=True):
            text = text[: line.start] + pins[line] + text[line.end :]
        return text


@dataclass
class _Search:
    """Asks the resolver, a bounded number of times."""

    resolver: Resolver
    manifest: Manifest
    python: str | None
    left: int = field(default=MAX_RESOLVES)

    def resolve(self, relaxed: Mapping[Line, str]) -> Resolution:
        """With other version specifiers for some lines."""
        if self.left == 0:
            return Resolution(False, explanation="too many combinations to try")
        self.left -= 1
        return self.resolver.resolve([_relax(line, relaxed) for line in self.manifest.lines], python=self.python)

    def smallest(self, named: Sequence[Line], others: Sequence[Line]) -> dict[Line, str] | None:
        for lines in (named, others):
            for upwards in (True, False):
                for line in lines:
                    if pins := self._move({line: upwards}):
                        return pins
        for pair in combinations(named, 2):
            for ways in product((True, False), repeat=2):
                if pins := self._move(dict(zip(pair, ways, strict=True))):
                    return pins
        return None

    def _move(self, ways: Mapping[Line, bool]) -> dict[Line, str] | None:
        """The nearest versions in these directions (True is up) that fit, one line's search at a time."""
        relaxed = {line: f">{line.pin}" if upwards else f"<{line.pin}" for line, upwards in ways.items()}
        found = _chosen(self.resolve(relaxed), relaxed)
        if found is None:
            return None
        for line, upwards in ways.items():
            for _ in range(NEARER_TRIES if upwards else 0):
                nearer = _chosen(self.resolve({**relaxed, line: f">{line.pin},<{found[line]}"}), relaxed)
                if nearer is None:
                    break
                found = nearer
            relaxed[line] = f"=={found[line]}"
        return found


class PinDependency:
    kind = "pin_dependency"
    Params: type[BaseModel] = PinParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: PinParams, tools: Tools) -> Plan:
        title = "Pin versions that fit together"
        python = _python(incident, tools)
        refusal = "no requirements.txt or pyproject.toml has dependencies"
        for path, text in _files(incident, tools):
            try:
                manifest = read(path, text)
                if not manifest.lines:
                    continue
                search = _Search(tools.resolver, manifest, python)
                conflict = search.resolve({})
                if conflict.resolved:
                    refusal = f"the requirements of {path} fit together"
                    continue
                return self._repin(incident, manifest, search, conflict, tools)
            except Malformed as error:
                return Plan(title, refusal=str(error))
            except Refused as error:
                return Plan(title, refusal=f"{path}: {error}")
        return Plan(title, refusal=refusal)

    def apply(self, repair: Repair, params: PinParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)

    def _repin(
        self, incident: Incident, manifest: Manifest, search: _Search, conflict: Resolution, tools: Tools
    ) -> Plan:
        title = "Pin versions that fit together"
        said = "\n".join([*(line.text for line in incident.finding.lines), *map(str, incident.finding.facts.values())])
        pinned = [line for line in manifest.lines if line.pin]
        named = sorted((_first_mention(line, said, conflict.explanation), i) for i, line in enumerate(pinned))
        in_conflict = [pinned[i] for place, i in named if place < _NOWHERE]
        others = [pinned[i] for place, i in named if place == _NOWHERE]
        pins = search.smallest(in_conflict, others)
        if pins is None:
            reason = f"no change of one pin, or of two that conflict, makes {manifest.path} fit together"
            return Plan(title, refusal=f"{reason}: {conflict.explanation[:1000]}")
        edit = FileEdit(manifest.path, manifest.text, manifest.with_pins(pins))
        # The words of the resolver count for the file as it will be, not for the question that led there.
        edited = read(manifest.path, edit.after or "")
        proof = tools.resolver.resolve([line.requirement for line in edited.lines], python=search.python)
        if not proof.resolved:
            return Plan(title, refusal=f"{manifest.path} still does not fit together: {proof.explanation[:1000]}")
        if refusal := fix_pull_request.forbidden(incident, (edit,), tools.policy):
            return Plan(title, refusal=refusal)
        told_changes = ", ".join(f"{line.name} from {line.pin} to {version}" for line, version in pins.items())
        return Plan(
            f"Move {told_changes}",
            why=conflict.explanation[:1000] or "the pinned versions contradict each other",
            edits=(edit,),
            risk="another version may behave differently; read its release notes",
            proof="the whole file resolves; the job that failed passes on the fix branch",
        )


def read(path: str, text: str) -> Manifest:
    """The requirements of a manifest. Raises Malformed, naming file and line, for what is not a plain requirement."""
    return Manifest(path, text, tuple(_project(path, text) if path.endswith(".toml") else _requirements(path, text)))


def _requirements(path: str, text: str) -> Iterator[Line]:
    start = 0
    for number, raw in enumerate(re.split(r"(?<=\n)", text), start=1):
        line = _COMMENT.sub("", raw.rstrip("\r\n"))
        words = line.removeprefix("\ufeff").strip()
        if words:
            if "--hash" in words:
                raise Malformed(f"{path}:{number} has a hash, which only your own tool can renew")
            if words.startswith("-") or words.endswith("\\"):
                raise Malformed(f"{path}:{number} has an option or goes on in the next line: {words[:80]!r}")
            yield _line(words, f"{path}:{number}", start, line)
        start += len(raw)


def _project(path: str, text: str) -> Iterator[Line]:
    dependencies = _dependencies(path, text)
    for index, words in enumerate(dependencies):
        line = _line(words, f"{path}: project.dependencies[{index}]", 0, words)
        if line.pin:
            places = [match.start() for match in re.finditer(re.escape(words), text)]
            start = next((place for place in places if _is_place(path, text, place, line, dependencies, index)), None)
            if start is None:
                raise Malformed(f"{path}: cannot find {words[:80]!r} as it is written")
            line = Line(line.requirement, line.name, line.pin, start + line.start, start + line.end)
        yield line


def _dependencies(path: str, text: str) -> list[str]:
    try:
        found = load_toml(text).get("project", {}).get("dependencies", [])
    except (ValueError, AttributeError):
        raise Malformed(f"{path} is not a TOML file that can be read") from None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise Malformed(f"{path}: project.dependencies must be a list of strings")
    return found


def _is_place(path: str, text: str, place: int, line: Line, dependencies: Sequence[str], index: int) -> bool:
    """Whether a change there changes this dependency, and this one alone."""
    probe = text[: place + line.start] + _PROBE + text[place + line.end :]
    words = dependencies[index]
    expected = [*dependencies]
    expected[index] = words[: line.start] + _PROBE + words[line.end :]
    try:
        return _dependencies(path, probe) == expected
    except Malformed:
        return False


def _line(words: str, where: str, start: int, line: str) -> Line:
    try:
        requirement = Requirement(words)
    except InvalidRequirement:
        raise Malformed(f"{where} is not a plain requirement: {words[:80]!r}") from None
    if requirement.url:
        raise Malformed(f"{where} refers to a place, not to a version: {requirement.name}")
    name = canonicalize_name(requirement.name)
    found = _PIN.search(line.partition(";")[0])
    if found is None or len(requirement.specifier) != 1 or not _is_version(found["version"]):
        return Line(words, name)
    return Line(words, name, found["version"], start + found.start("version"), start + found.end("version"))


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _relax(line: Line, relaxed: Mapping[Line, str]) -> str:
    if line not in relaxed:
        return line.requirement
    requirement = Requirement(line.requirement)
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    return f"{requirement.name}{extras}{relaxed[line]}{marker}"


def _chosen(resolution: Resolution, relaxed: Mapping[Line, str]) -> dict[Line, str] | None:
    versions: dict[str, str] = {canonicalize_name(name): version for name, version in resolution.pins}
    if not resolution.resolved or not all(line.name in versions for line in relaxed):
        return None
    return {line: versions[line.name] for line in relaxed}


_NOWHERE = 1 << 30


def _first_mention(line: Line, said: str, explanation: str) -> int:
    """Where the name stands first in the evidence, else in the resolver's explanation."""
    spelled = re.sub(r"-", "[-_.]+", re.escape(line.name).replace(r"\-", "-"))
    found = re.search(rf"(?<![\w.-]){spelled}(?![\w-])", f"{said}\n{explanation}", re.IGNORECASE)
    return found.start() if found else _NOWHERE


def _files(incident: Incident, tools: Tools) -> Iterator[tuple[str, str]]:
    """Manifests at the failing commit, those that the failure speaks of first."""
    said = told(incident, tools)
    paths = [
        path
        for path in tools.forge.paths(incident.head_sha)
        if (_REQUIREMENTS.search(path) or path.rpartition("/")[2] == "pyproject.toml") and not _SKIPPED.search(path)
    ]
    ranked = sorted(paths, key=lambda path: (not mentioned(path, said), path.count("/"), path.endswith(".toml"), path))
    for path in ranked[:MAX_FILES]:
        file = tools.forge.file(path, incident.head_sha)
        if file is not None and len(file.text.encode()) <= MAX_FILE_BYTES:
            yield path, file.text


def _python(incident: Incident, tools: Tools) -> str | None:
    """The Python version that the workflow sets up, if it is one."""
    workflow = tools.forge.file(incident.workflow_path, incident.head_sha)
    found = set(re.findall(r"""python-version:\s*["']?(3\.\d{1,2})\b""", workflow.text if workflow else ""))
    return found.pop() if len(found) == 1 else None

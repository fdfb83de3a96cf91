"""Write what a library offers now in place of what it removed, where the failure proves that this is meant."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import re2
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict

from actions import fix_pull_request
from actions.honesty import dishonest
from actions.migrations import Library, Migration, spoken_of
from actions.migrations.codemod import MAX_BYTES, Rewritten, rewrite
from app.domain.errors import Malformed, Refused
from app.domain.finding import EvidenceLine
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import FileEdit, Plan, Proof, Repair
from app.ports.plugins import Tools

MAX_FILES = 200
MAX_UNPACKED_BYTES = 256 * 1024 * 1024
MAX_REWRITTEN_BYTES = 8 * 1024 * 1024
MAX_CANDIDATES = 12
SHOWN = 10

_FRAME = re.compile(r'\bFile "([^"]{1,400})", line (\d{1,7})')
_PLACE = re.compile(r"(?:^|\s)((?:[A-Za-z]:)?[\w./\\@+ -]{1,400}\.py):(\d{1,7}):(?: |$)")
_TRACEBACK = "Traceback (most recent call last)"
_INSTALLED = re.compile(r"(?:^|/)(?:site|dist)-packages/")
_STANDARD = re.compile(r"(?:^|/)lib/python3\.\d+/|^<frozen ", re.IGNORECASE)
_NOT_OURS = re.compile(
    r"(?:^|/)(?:\.[^/]+|node_modules|vendor(?:ed)?|_vendor|third_party|external|site-packages|dist-packages|build|dist"
    r"|venv|env|__pycache__)/|_pb2(?:_grpc)?\.py$"
)
_GENERATED = re.compile(r"@generated|do not edit|auto-?generated|generated (?:by|from|automatically)", re.IGNORECASE)
_MANIFEST = re.compile(
    r"(?:^|/)(?:requirements[^/]*\.(?:txt|in)|requirements/[^/]+\.(?:txt|in)|constraints[^/]*\.txt|pyproject\.toml"
    r"|setup\.(?:py|cfg)|Pipfile|environment\.ya?ml|poetry\.lock|uv\.lock)$"
)
_TITLE = "Migrate a removed API"


class MigrateParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the traceback ends: a line of a file of the repository, or code that is not in it."""

    path: str
    line: int = 0
    shown: str = ""
    ours: bool = True


@dataclass
class _Reader:
    """The repository's Python files at the failing commit; the archive tells which are worth asking for."""

    incident: Incident
    tools: Tools
    paths: tuple[str, ...]
    left: int = MAX_REWRITTEN_BYTES
    unread: list[str] = field(default_factory=list)
    _texts: dict[str, str | None] = field(default_factory=dict)
    _all: list[tuple[str, str]] | None = None

    def text(self, path: str) -> str | None:
        if path not in self._texts:
            file = self.tools.forge.file(path, self.incident.head_sha)
            self._texts[path] = file.text if file is not None else None
        return self._texts[path]

    def holding(self, words: frozenset[str]) -> list[str]:
        """The paths of files that hold one of the words, at most 200."""
        found = [path for path, text in self.archived() if any(word in text for word in words)]
        self.unread += [f"{path} (more than {MAX_FILES} files)" for path in found[MAX_FILES:]]
        return found[:MAX_FILES]

    def archived(self) -> list[tuple[str, str]]:
        if self._all is None:
            self._all = list(self._unpacked())
        return self._all

    def _unpacked(self) -> Iterator[tuple[str, str]]:
        known, read = set(self.paths), 0
        try:
            with (
                self.tools.forge.archive(self.incident.head_sha) as archive,
                tarfile.open(fileobj=archive, mode="r|gz") as tar,
            ):
                for entry in tar:
                    read += entry.size  # what is passed over is unpacked, too
                    if read > MAX_UNPACKED_BYTES:
                        self.unread.append("the rest of the repository (it is too large)")
                        return
                    path = entry.name.partition("/")[2]
                    if not entry.isfile() or path not in known:
                        continue
                    file = tar.extractfile(entry) if entry.size <= MAX_BYTES else None
                    if file is None:
                        self.unread.append(f"{path} (larger than 1 MB)")
                        continue
                    yield path, file.read(MAX_BYTES).decode("utf-8", "replace")
        except (tarfile.TarError, EOFError, zlib.error, OSError, Refused):
            self.unread.append("the rest of the repository (its archive breaks off)")


class MigrateApi:
    kind = "migrate_api"
    Params: type[BaseModel] = MigrateParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: MigrateParams, tools: Tools) -> Plan:
        said, candidates = _spoken(incident)
        if not candidates:
            return Plan(
                _TITLE, refusal="no removed API that is known shows like this; read the library's release notes"
            )
        python = tuple(path for path in tools.forge.paths(incident.head_sha) if path.endswith(".py"))
        reader = _Reader(incident, tools, python)
        try:
            chosen, files = _choose(candidates, said, incident, reader)
            _needs(chosen, incident, tools)
            return _offer(chosen, files, said, incident, reader)
        except _No as reason:
            return Plan(_TITLE, refusal=str(reason))

    def apply(self, repair: Repair, params: MigrateParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


class _No(Exception):
    """An expected refusal; the message is told."""


def _spoken(incident: Incident) -> tuple[EvidenceLine | None, tuple[Migration, ...]]:
    """The line that speaks of a removed API, the root first, and the migrations that it may mean."""
    lines = incident.finding.lines
    for line in sorted(lines, key=lambda line: not line.root):
        if found := spoken_of(line.text):
            return line, found
    return None, ()


def _choose(
    candidates: Sequence[Migration], said: EvidenceLine | None, incident: Incident, reader: _Reader
) -> tuple[Migration, dict[str, Rewritten]]:
    """The one migration that the failure means, and what becomes of the files. Raises _No."""
    assert said is not None
    reasons: list[str] = []
    fitting: list[tuple[Migration, dict[str, Rewritten]]] = []
    for migration in candidates[:MAX_CANDIDATES]:
        try:
            place = _place(said, incident.finding.lines, migration.library, reader.paths)
            fitting.append((migration, _sites(migration, place, reader)))
        except _No as reason:
            reasons.append(str(reason))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(migration.id for migration, _ in fitting)
        raise _No(f"the failure may mean several migrations: {names}; choose one by hand")
    raise _No(next(iter(dict.fromkeys(reasons)), "no call site is found"))


def _sites(migration: Migration, place: Place | None, reader: _Reader) -> dict[str, Rewritten]:
    """The rewritten files, the one that the traceback names first. Raises _No where that one has no proven site."""
    if place is not None and not place.ours:
        raise _No(f"the call stands in {place.path}, which is not a file of this repository; update what it belongs to")
    for owner in {receiver.rpartition(".")[2] for receiver in migration.receivers} if migration.method else ():
        if path := _defines(owner, reader):
            raise _No(f"{path} has a class {owner} of its own; which one failed is not known")
    found: dict[str, Rewritten] = {}
    pointed = place is not None and not migration.elsewhere
    if pointed and place is not None:
        _foreign(place.path)
        text = reader.text(place.path)
        if text is None:
            raise _No(f"{place.path} cannot be read as text")
        lines = text.split("\n")
        there = lines[place.line - 1].strip() if 0 < place.line <= len(lines) else ""
        if place.shown and there != place.shown:
            raise _No(f"{place.path}:{place.line} reads otherwise than in the log")
        first = _rewritten(place.path, text, migration, place.line, reader)
        if not first.covers(place.line):
            raise _No(_why_not(place, first))
        found[place.path] = first
    for path in reader.holding(migration.words):
        if path in found or _NOT_OURS.search(path):
            continue
        text = reader.text(path)
        if text is None:
            continue
        try:
            result = _rewritten(path, text, migration, None, reader)
        except _No as reason:
            reader.unread.append(str(reason))
            continue
        if result.sites or result.left:
            found[path] = result
    if not any(result.sites for result in found.values()):
        left = [f"{path}:{left.line}: {left.reason}" for path, result in found.items() for left in result.left]
        raise _No("no call site is proven" + (f"; {'; '.join(left[:SHOWN])}" if left else ""))
    return found


def _defines(owner: str, reader: _Reader) -> str:
    """The file of the repository that has a class of this name; empty for none."""
    definition = re.compile(rf"^[ \t]{{0,40}}class {re.escape(owner)}\b", re.MULTILINE)
    return next((path for path, text in reader.archived() if definition.search(text)), "")


def _foreign(path: str) -> None:
    """Raises _No for a file that others write, and for a test."""
    if _NOT_OURS.search(path):
        raise _No(f"{path} was copied or generated; change where it comes from")
    if reason := dishonest((FileEdit(path, "a\n", "b\n"),)):
        raise _No(f"{reason}; a repair never edits those")


def _rewritten(path: str, text: str, migration: Migration, line: int | None, reader: _Reader) -> Rewritten:
    if _GENERATED.search("\n".join(text.split("\n", 6)[:6])):
        raise _No(f"{path} says that it is generated; change where it comes from")
    reader.left -= len(text)
    if reader.left < 0:
        raise _No(f"{path} is not read: there is too much code")
    try:
        return rewrite(text, migration, line=line, exported=_is_exported(path, migration, reader))
    except Malformed as error:
        raise _No(f"{path} {error}") from None


def _is_exported(path: str, migration: Migration, reader: _Reader) -> bool:
    """Another file may import one of the old names from this one."""
    stem = PurePosixPath(path).stem
    if stem == "__init__":
        return True
    olds = [old.rpartition(".")[2] for old in (*migration.names, *migration.modules)]
    names = "|".join(map(re.escape, olds))
    taken = re2.compile(
        rf"\bfrom[ \t]+[\w.]*\b{re.escape(stem)}[ \t]+import\b"
        rf"(?:[ \t]*\*|[^\n(]*\b(?:{names})\b|[ \t]*\([^)]*\b(?:{names})\b)|\b{re.escape(stem)}\.(?:{names})\b"
    )
    return any(other != path and taken.search(text) is not None for other, text in (reader.archived() if olds else ()))


def _why_not(place: Place, result: Rewritten) -> str:
    where = f"{place.path}:{place.line}"
    if here := [left.reason for left in result.left if left.line == place.line]:
        return f"{where}: {here[0]}"
    if result.stars:
        return f"{where}: a name there may come from `from {result.stars[0]} import *`; import it by name"
    if result.left:
        return f"{where} has no call that is proven; {result.left[0].reason} (line {result.left[0].line})"
    return f"{where} has no call that is proven to be the removed one"


def _place(said: EvidenceLine, lines: Sequence[EvidenceLine], library: Library, paths: Sequence[str]) -> Place | None:
    """The innermost frame that is not the library's own; None where the evidence shows no frame."""
    ordered = sorted(lines, key=lambda line: line.number)
    at = next(index for index, line in enumerate(ordered) if line == said)
    frames: list[Place] = []
    for index in range(at - 1, -1, -1):
        text = ordered[index].text
        if _TRACEBACK in text:
            break
        if match := _FRAME.search(text) or _PLACE.search(text):
            after = ordered[index + 1].text if index + 1 < at else ""
            shown = "" if _FRAME.search(after) or _PLACE.search(after) else _source(after)
            frames.append(Place(match[1].replace("\\", "/"), int(match[2]), shown))
    for line in ordered[at + 1 : at + 8]:  # pytest tells the place below the error
        if _TRACEBACK in line.text or _FRAME.search(line.text):
            break
        if match := _PLACE.match(line.text):
            frames.insert(0, Place(match[1].strip().replace("\\", "/"), int(match[2])))
            break
    for frame in frames:
        if (path := _in_repository(frame.path, paths)) is not None:
            return Place(path, frame.line, frame.shown)
        inner = _INSTALLED.split(frame.path)[-1]
        own = any(inner == f"{name}.py" or inner.startswith(f"{name}/") for name in library.packages)
        if own or (_STANDARD.search(frame.path) and not _INSTALLED.search(frame.path)):
            continue
        return Place(frame.path[-120:], frame.line, ours=False)
    return None


def _source(text: str) -> str:
    text = text.strip()
    return (
        ""
        if not text or set(text) <= set("^~ ") or text.startswith(("E ", "raise "))
        else text.removeprefix("> ").strip()
    )


def _in_repository(path: str, paths: Sequence[str]) -> str | None:
    """The file of the repository that a frame names: as it is, below some checkout, or installed from it."""
    known = set(paths)
    path = path.removeprefix("./")
    if _INSTALLED.search(path):
        inner = _INSTALLED.split(path)[-1]
        return next((each for each in (f"src/{inner}", inner) if "/" in inner and each in known), None)
    if _STANDARD.search(path):
        return None
    if not path.startswith("/") and ":" not in path:
        return path if path in known else None
    parts = path.split("/")
    return next((tail for start in range(1, len(parts)) if (tail := "/".join(parts[start:])) in known), None)


def _needs(migration: Migration, incident: Incident, tools: Tools) -> None:
    """Raises _No where the new API comes in a distribution that the repository does not ask for."""
    if not migration.needs:
        return
    name = re.escape(migration.needs).replace(r"\-", "[-_.]")
    spelled = re.compile(rf"(?<![\w.-]){name}(?![\w-])", re.IGNORECASE)
    paths = [path for path in tools.forge.paths(incident.head_sha) if _MANIFEST.search(path)]
    for path in [*sorted(paths, key=lambda path: path.count("/"))[:20], incident.workflow_path]:
        file = tools.forge.file(path, incident.head_sha)
        if file is not None and spelled.search(re.sub(r"(?m)(?:^|\s)#.*$", "", file.text)):
            return
    needed = canonicalize_name(migration.needs)
    raise _No(f"{migration.change()} needs {needed}, which no requirements file names; add it first")


def _offer(
    migration: Migration, files: Mapping[str, Rewritten], said: EvidenceLine | None, incident: Incident, reader: _Reader
) -> Plan:
    edits: list[FileEdit] = []
    left: list[str] = []
    first = next(iter(files))
    for path, result in files.items():
        left += [f"{path}:{each.line} ({each.reason})" for each in result.left]
        if not result.sites:
            continue
        edit = FileEdit(path, reader.text(path), result.text)
        reason = fix_pull_request.forbidden(incident, (edit,), reader.tools.policy)
        if reason and (path == first or len(files) == 1):
            raise _No(reason)
        if reason:
            left.append(f"{path}:{result.sites[0]} ({reason})")
        else:
            edits.append(edit)
    if not edits:
        raise _No(f"no call site may be changed: {'; '.join(left[:SHOWN])}")
    if reason := fix_pull_request.forbidden(incident, edits, reader.tools.policy):
        raise _No(reason)
    places = [f"{edit.path}:{line}" for edit in edits for line in files[edit.path].sites]
    count = f"{len(places)} {'place' if len(places) == 1 else 'places'}"
    risks = [migration.note or "the new API is the documented replacement; read its page for corner cases"]
    if left:
        risks.append(f"left as they are: {', '.join(left[:SHOWN])}{', …' if len(left) > SHOWN else ''}")
    if reader.unread:
        risks.append(f"not read: {', '.join(reader.unread[:SHOWN])}")
    shown = f"{', '.join(places[:SHOWN])}{', …' if len(places) > SHOWN else ''}"
    quoted = said.text.strip()[:300] if said is not None else ""
    return Plan(
        f"Migrate {migration.change(quoted)} ({migration.library.name}, removed in {migration.removed_in}) at {count}",
        why=f"{quoted}\n\nSee {migration.source}. Sites: {shown}",
        edits=tuple(edits),
        risk="; ".join(risks),
        proof="the job that failed passes on the fix branch",
    )

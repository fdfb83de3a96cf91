"""Fetch what a push, an alert or the schedule brings that may be dangerous."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator

import structlog

from app.domain.advisory import (
    AddedLine,
    AddedLines,
    Bump,
    Dependencies,
    Imports,
    LockedPackage,
    ModelFiles,
    WorkflowFiles,
)
from app.domain.errors import Refused
from app.domain.event import Observable, Pushed, SecurityAlertChanged, Ticked
from app.healing.kit import Kit
from app.ports.forge import FileChange, Forge
from app.security.imports import imports_in
from app.security.lockfiles import MAX_BYTES, Unreadable, is_lockfile, read_lockfile
from app.security.pickles import MAX_BYTES as MAX_MODEL_BYTES
from app.security.pickles import is_model_file, read_model_file

log = structlog.get_logger()

DAY_S = 86_400
DEPENDABOT = "dependabot[bot]"
MOST_LOCKFILES = 20
MOST_MODELS = 10
MOST_WORKFLOWS = 30
MOST_ADDED_LINES = 20_000
MOST_CHARACTERS = 20_000  # of a line

_WORKFLOWS = (".github/workflows/*.yml", ".github/workflows/*.yaml")
_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d{1,9})")


def dependencies(kit: Kit, forge: Forge, event: Observable) -> Dependencies | None:
    """Lockfiles that a push touched, or once a day all of the default branch; with what is known of their packages."""
    if isinstance(event, SecurityAlertChanged):
        if event.source != "dependabot" or not event.open:
            return None
        head = forge.branch_head(event.repository.default_branch)
        return Dependencies(imports=_imports(forge, head) if head else None, bumps=_bumps(forge))
    if isinstance(event, Pushed):
        head = event.head_sha
        paths = _touched(forge, event, is_lockfile)
    elif isinstance(event, Ticked) and _is_due(kit, event):
        head = forge.branch_head(event.repository.default_branch) or ""
        paths = [path for path in forge.paths(head) if is_lockfile(path)] if head else []
    else:
        return None
    if not paths:
        return None
    read: list[str] = []
    packages: list[LockedPackage] = []
    for path in paths[:MOST_LOCKFILES]:
        found = _locked(forge, path, head)
        if found is not None:
            read.append(path)
            packages += found
    known = kit.advisories.affecting(packages)
    if not known.affected:
        return Dependencies(tuple(read), tuple(packages), known)
    concerned = dict.fromkeys(affected.package.path for affected in known.affected)
    default = event.repository.default_branch
    elsewhere = isinstance(event, Pushed) and event.branch != default
    inherited = [one for path in concerned for one in _locked(forge, path, default) or ()] if elsewhere else []
    return Dependencies(
        lockfiles=tuple(read),
        packages=tuple(packages),
        known=known,
        inherited=frozenset((one.path, *one.key) for one in inherited),
        imports=_imports(forge, head),
        bumps=_bumps(forge),
    )


def _is_due(kit: Kit, event: Ticked) -> bool:
    """On one tick a day, not on the same for all repositories; a tick that is worked off twice answers the same."""
    a_day = max(1, round(DAY_S / kit.tick_every_s))
    return int(event.at.timestamp() // kit.tick_every_s) % a_day == event.repository.id % a_day


def _touched(forge: Forge, event: Pushed, concerns: Callable[[str], bool]) -> list[str]:
    """Where GitHub did not tell all paths of a push, all that the commit has count as touched."""
    paths: Iterable[str] = event.paths if event.complete else {*event.paths, *forge.paths(event.head_sha)}
    return sorted(path for path in paths if concerns(path))


def _locked(forge: Forge, path: str, ref: str) -> tuple[LockedPackage, ...] | None:
    """None where the file cannot be read; nothing where it is gone."""
    content = forge.content(path, ref, most_bytes=MAX_BYTES)
    if content is None:
        return None if path in forge.paths(ref) else ()
    try:
        return read_lockfile(path, content)
    except Unreadable as error:
        log.info("lockfile_unreadable", path=path, error=str(error))
        return None


def _imports(forge: Forge, ref: str) -> Imports | None:
    try:
        with forge.archive(ref) as archive:
            return imports_in(archive)
    except Refused:
        return None


def _bumps(forge: Forge) -> tuple[Bump, ...]:
    return tuple(
        Bump(pull.number, pull.url, pull.head_branch, pull.title, pull.body) for pull in forge.open_pulls(by=DEPENDABOT)
    )


def added_lines(kit: Kit, forge: Forge, event: Observable) -> AddedLines | None:
    """The first push of a repository has nothing to be compared with."""
    if not isinstance(event, Pushed):
        return None
    base = event.before or (forge.repository.default_branch if event.branch != forge.repository.default_branch else "")
    if not base:
        return None
    try:
        changes = forge.changes(base, event.head_sha)
    except Refused:  # the commit before was rewritten and is gone
        return None
    lines: list[AddedLine] = []
    for change in changes:
        lines += added_by(change)
        if len(lines) >= MOST_ADDED_LINES:
            break
    return AddedLines(tuple(lines[:MOST_ADDED_LINES]), kit.store.secret("findings"))


def added_by(change: FileChange) -> Iterator[AddedLine]:
    """The added lines of a patch, with their numbers in the new file."""
    number = 0
    for line in change.patch.split("\n"):
        hunk = _HUNK.match(line)
        if hunk:
            number = int(hunk[1])
        elif line.startswith("+"):
            yield AddedLine(change.path, number, line[1 : MOST_CHARACTERS + 1])
            number += 1
        elif not line.startswith(("-", "\\")):
            number += 1


def model_files(_: Kit, forge: Forge, event: Observable) -> ModelFiles | None:
    if not isinstance(event, Pushed):
        return None
    paths = sorted(path for path in event.paths if is_model_file(path))[:MOST_MODELS]
    if not paths:
        return None
    present = set(forge.paths(event.head_sha))
    files = []
    for path in paths:
        content = forge.content(path, event.head_sha, most_bytes=MAX_MODEL_BYTES) if path in present else None
        if content is not None:
            files.append(read_model_file(path, content))
    return ModelFiles(tuple(files), tuple(path for path in paths if path not in present))


def workflow_files(_: Kit, forge: Forge, event: Observable) -> WorkflowFiles | None:
    if not isinstance(event, Pushed):
        return None
    paths = _touched(forge, event, lambda path: any(fnmatch.fnmatch(path, glob) for glob in _WORKFLOWS))
    texts = ((path, forge.file(path, event.head_sha)) for path in paths[:MOST_WORKFLOWS])
    return WorkflowFiles({path: found.text if found else None for path, found in texts}) if paths else None

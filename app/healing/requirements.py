"""Have the requirements resolved that a push touches, before a job fails for them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from posixpath import dirname, join, normpath

import structlog
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from app.domain.errors import HealError
from app.domain.event import Observable, Pushed
from app.domain.requirement import ManifestLine, ManifestResolution, Resolutions
from app.healing.kit import Kit
from app.ports.forge import Forge
from app.ports.resolver import Resolution
from app.security.toml import load_toml

log = structlog.get_logger()

MOST_MANIFESTS, MOST_INCLUDED, MOST_LINES = 5, 10, 500
MOST_SEARCHED, MOST_LONG = 5_000, 2_000
_REQUIREMENTS = re.compile(
    r"(?:^|/)(?:requirements|constraints)[^/]*\.(?:txt|in)$|(?:^|/)requirements/[^/]+\.(?:txt|in)$"
)
_PROJECT = re.compile(r"(?:^|/)pyproject\.toml$")
_SKIPPED = re.compile(r"(?:^|/)(?:node_modules|vendor|third_party|site-packages)/")
_INCLUDED = re.compile(r"(?:-r|-c|--requirement|--constraint)[ =]\s*(\S{1,200})")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_PYTHON = re.compile(r"3\.\d{1,2}")


def is_manifest(path: str) -> bool:
    return bool(_REQUIREMENTS.search(path) or _PROJECT.search(path)) and not _SKIPPED.search(path)


def resolutions(kit: Kit, forge: Forge, event: Observable) -> Resolutions | None:
    """None for what is no push to a manifest. An index that does not answer is no news: that manifest is left out."""
    if not isinstance(event, Pushed):
        return None
    paths = event.paths if event.complete else forge.paths(event.head_sha)
    touched = sorted(path for path in paths if is_manifest(path))[:MOST_MANIFESTS]
    if not touched:
        return None
    python = _python(forge, event.head_sha)
    looked = (_look(kit, forge, event, path, python) for path in touched)
    return Resolutions(tuple(found for found in looked if found is not None))


def _look(kit: Kit, forge: Forge, event: Pushed, path: str, python: str) -> ManifestResolution | None:
    read = _Reader(forge, event.head_sha).read(path)
    if not read.lines:  # gone, or empty: nothing is asked for
        return None if read.left_out else ManifestResolution(path, True)
    answer = _ask(kit, path, read, python)
    if answer is None:
        return None
    is_new = None
    if not answer.resolved and event.before:
        before = _Reader(forge, event.before).read(path)
        former = _ask(kit, path, before, python) if before.lines else Resolution(True)
        is_new = None if former is None else former.resolved
    return ManifestResolution(
        path, answer.resolved, answer.explanation, tuple(read.lines), tuple(read.left_out), python, is_new
    )


def _ask(kit: Kit, path: str, read: "_Reader", python: str) -> Resolution | None:
    try:
        return kit.resolver.resolve([line.text for line in read.lines], python=python or None)
    except HealError as error:
        log.info("manifest_not_resolved", path=path, error=str(error))
        return None


@dataclass
class _Reader:
    """Collects the requirements of a manifest and of what it includes."""

    forge: Forge
    sha: str
    lines: list[ManifestLine] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def read(self, path: str) -> "_Reader":
        if path in self._seen or len(self._seen) >= MOST_INCLUDED:
            return self
        self._seen.add(path)
        file = self.forge.file(path, self.sha)
        if file is None:
            return self
        for number, words in _project(file.text) if _PROJECT.search(path) else _requirements(file.text):
            included = _INCLUDED.match(words)
            if included:
                self.read(normpath(join(dirname(path), included[1])))
            elif _is_plain(words) and len(self.lines) < MOST_LINES:
                self.lines.append(ManifestLine(path, number, words))
            else:
                self.left_out.append(f"{path}:{number}: {words[:100]}")
        return self


def _requirements(text: str) -> Iterator[tuple[int, str]]:
    """Logical lines; one that goes on is numbered by its first. Hashes play no part in whether versions fit."""
    start, size = 1, 0
    held: list[str] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        start = start if held else number
        part = _COMMENT.sub("", raw)
        goes_on = part.endswith("\\")
        if size < MOST_LONG or not held:
            held.append(part[:-1] + " " if goes_on else part)
            size += len(held[-1])
        if goes_on:
            continue
        words = _joined(held)
        held, size = [], 0
        if words:
            yield start, words
    if words := _joined(held):
        yield start, words


def _joined(parts: list[str]) -> str:
    return "".join(parts).partition(" --hash")[0].strip()[:MOST_LONG]


def _project(text: str) -> Iterator[tuple[int, str]]:
    try:
        dependencies = load_toml(text).get("project", {}).get("dependencies", [])
    except (ValueError, AttributeError):
        return
    numbered = text.splitlines()
    for words in dependencies[:MOST_LINES] if isinstance(dependencies, list) else ():
        if isinstance(words, str):
            at = next((n for n, line in enumerate(numbered[:MOST_SEARCHED], start=1) if words in line[:MOST_LONG]), 1)
            yield at, words[:MOST_LONG]


def _is_plain(words: str) -> bool:
    try:
        return Requirement(words).url is None
    except InvalidRequirement:
        return False


def _python(forge: Forge, sha: str) -> str:
    """The version that the project is made for: of `.python-version`, else the lowest that `requires-python` allows."""
    said = forge.file(".python-version", sha)
    if said and (found := _PYTHON.match(said.text.strip())):
        return found[0]
    project = forge.file("pyproject.toml", sha)
    try:
        asked = load_toml(project.text).get("project", {}).get("requires-python", "") if project else ""
        allowed = SpecifierSet(asked) if isinstance(asked, str) else SpecifierSet()
    except (ValueError, AttributeError):
        return ""
    return next((f"3.{minor}" for minor in range(8, 30) if asked and f"3.{minor}" in allowed), "")

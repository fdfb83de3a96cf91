"""What lockfiles pin. Pure, bounded, and tolerant: what cannot be read pins nothing.

Only exact versions count: a range says nothing of what is installed. Line numbers are 1-based, 0 where unknown.
"""

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from app.domain.advisory import LockedPackage
from app.security.toml import load_toml

MAX_BYTES = 8 << 20
MAX_PACKAGES = 5_000
MAX_LINE = 4_000
MAX_DEPTH = 40

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_NPM_NAME = re.compile(r"(?:@[a-z0-9~._-]{1,100}/)?[A-Za-z0-9~._-]{1,214}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}")
_SEPARATORS = re.compile(r"[-_.]+")
# in `requirements.txt`: name[extras] == version, at the start of a line
_PINNED = re.compile(
    r"\s{0,8}([A-Za-z0-9][A-Za-z0-9._-]{0,99})\s?(?:\[[\w\s,.-]{0,200}\])?\s?===?\s?([^\s;#\\,]{1,100})"
)
_VIA = re.compile(r"\s+#\s+(?:via\s+)?([A-Za-z0-9][A-Za-z0-9._-]{0,99})?(?:\s|\[|$)")
_CONDA_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})\s?==?\s?([0-9][A-Za-z0-9._!+-]{0,99})(?:=[^\s=]{0,100})?")
_VENDORED = frozenset(("node_modules", ".venv", "venv", "site-packages", "vendor", "third_party"))


class Unreadable(ValueError):
    """The file does not have the form that its name promises."""


def pypi_name(name: str) -> str:
    """PEP 503: case and separators do not tell packages apart."""
    return _SEPARATORS.sub("-", name).lower()


def is_lockfile(path: str) -> bool:
    return _reader(path) is not None


def read_lockfile(path: str, content: bytes) -> tuple[LockedPackage, ...]:
    """The packages that it pins, each version once, at most 5,000. Raises Unreadable."""
    reader = _reader(path)
    if reader is None:
        raise Unreadable(f"{path} is no lockfile that is known")
    if len(content) > MAX_BYTES:
        raise Unreadable(f"{path} is larger than {MAX_BYTES >> 20} MiB")
    text = content.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    found: dict[tuple[str, str, str], LockedPackage] = {}
    try:
        for package in reader(text):
            if len(found) >= MAX_PACKAGES:
                break
            if _VERSION.fullmatch(package.version):
                found.setdefault(package.key, replace(package, path=path))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {type(error).__name__}") from error
    return tuple(found.values())


def _reader(path: str) -> Callable[[str], Iterable[LockedPackage]] | None:
    folder, name = posixpath.split(path)
    if _VENDORED & set(folder.split("/")):
        return None
    if name in _BY_NAME:
        return _BY_NAME[name]
    if fnmatchcase(name, "pylock.*.toml"):
        return _pylock
    listed = fnmatchcase(name, "*requirements*.txt") or fnmatchcase(name, "constraints*.txt")
    in_folder = posixpath.basename(folder) == "requirements" and name.endswith(".txt")
    return _requirements if listed or in_folder else None


def _pypi(name: object, version: object, line: int = 0, needs: frozenset[str] | None = None) -> Iterator[LockedPackage]:
    if isinstance(name, str) and isinstance(version, str) and _NAME.fullmatch(name):
        yield LockedPackage("PyPI", pypi_name(name), version, "", line, needs)


# TOML: uv, Poetry, PDM, pylock (PEP 751)


def _toml(text: str, table: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The entries of an array of tables, each with the line of its header."""
    entries = _list(load_toml(text).get(table))
    header = f"[[{table}]]"
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if line.strip() == header]
    for position, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield entry, lines[position] if len(lines) == len(entries) else 0


def _uv(text: str) -> Iterator[LockedPackage]:
    for entry, line in _toml(text, "package"):
        source = _dict(entry.get("source"))
        if {"virtual", "editable", "directory", "path"} & set(source):
            continue  # the project itself
        groups = [entry.get("dependencies"), *_dict(entry.get("optional-dependencies")).values()]
        needs = (one.get("name") for group in groups for one in _list(group) if isinstance(one, dict))
        yield from _pypi(entry.get("name"), entry.get("version"), line, _names(needs))


def _poetry(text: str) -> Iterator[LockedPackage]:
    for entry, line in _toml(text, "package"):
        if _dict(entry.get("source")).get("type") in ("directory", "file"):
            continue
        yield from _pypi(entry.get("name"), entry.get("version"), line, _names(_dict(entry.get("dependencies"))))


def _pdm(text: str) -> Iterator[LockedPackage]:
    for entry, line in _toml(text, "package"):
        needs = (_NAME.match(one) for one in _list(entry.get("dependencies")) if isinstance(one, str))
        if not entry.get("editable"):
            yield from _pypi(entry.get("name"), entry.get("version"), line, _names(m[0] for m in needs if m))


def _pylock(text: str) -> Iterator[LockedPackage]:
    for entry, line in _toml(text, "packages"):
        needs = None
        if "dependencies" in entry:
            needs = _names(one.get("name") for one in _list(entry["dependencies"]) if isinstance(one, dict))
        if "directory" not in entry:
            yield from _pypi(entry.get("name"), entry.get("version"), line, needs)


# JSON: Pipenv, npm


def _json(text: str) -> dict[str, Any]:
    return _dict(json.loads(text))


_KEY = re.compile(r'\s{1,40}"([^"\\]{1,500})":\s?\{\s?')


def _key_lines(text: str) -> dict[str, int]:
    """Where objects begin, by their key: the first line of each."""
    found: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        match = _KEY.fullmatch(line) if len(line) < MAX_LINE else None
        if match:
            found.setdefault(match[1], number)
    return found


def _pipenv(text: str) -> Iterator[LockedPackage]:
    content, lines = _json(text), _key_lines(text)
    for section in ("default", "develop"):
        for name, entry in _dict(content.get(section)).items():
            version = _dict(entry).get("version")
            if isinstance(version, str):
                yield from _pypi(name, version.removeprefix("=="), lines.get(name, 0))


def _npm(text: str) -> Iterator[LockedPackage]:
    content, lines = _json(text), _key_lines(text)
    if isinstance(content.get("packages"), dict):
        for place, entry in content["packages"].items():
            entry = _dict(entry)
            installed = place.rpartition("node_modules/")[2] if "node_modules/" in place else ""
            if not installed or entry.get("link"):
                continue  # the project itself and its workspaces
            needs = {**_dict(entry.get("dependencies")), **_dict(entry.get("optionalDependencies"))}
            yield from _npm_package(entry.get("name") or installed, entry, lines.get(place, 0), frozenset(needs))
    else:
        yield from _npm_before_7(_dict(content.get("dependencies")), lines, 0)


def _npm_before_7(dependencies: Mapping[str, Any], lines: Mapping[str, int], depth: int) -> Iterator[LockedPackage]:
    for name, entry in dependencies.items():
        entry = _dict(entry)
        yield from _npm_package(name, entry, lines.get(name, 0), frozenset(_dict(entry.get("requires"))))
        if depth < MAX_DEPTH:
            yield from _npm_before_7(_dict(entry.get("dependencies")), lines, depth + 1)


def _npm_package(name: object, entry: Mapping[str, Any], line: int, needs: frozenset[str]) -> Iterator[LockedPackage]:
    version = entry.get("version")
    if isinstance(name, str) and isinstance(version, str) and _NPM_NAME.fullmatch(name):
        yield LockedPackage("npm", name, version, "", line, needs)


# lines: pip, pip-tools, uv export, conda


def _requirements(text: str) -> Iterator[LockedPackage]:
    """With pip-tools' and uv's `# via` comments the packages know each other."""
    pinned: list[LockedPackage] = []
    asked_by: dict[str, set[str]] = {}
    explained = False
    for number, line in enumerate(text.split("\n"), start=1):
        line = line[:MAX_LINE]
        match = _PINNED.match(line)
        if match:
            pinned += _pypi(match[1], match[2], number)
            for name in line.partition("# via ")[2].split(",") if "# via " in line else ():
                explained = True
                asked_by.setdefault(pypi_name(name.strip()), set()).add(pypi_name(match[1]))
        elif pinned and (via := _VIA.match(line)):
            explained = explained or "# via" in line
            if explained and via[1] and via[1] != "via":
                asked_by.setdefault(pypi_name(via[1]), set()).add(pinned[-1].name)
        if len(pinned) > MAX_PACKAGES:
            break
    for package in pinned:
        yield replace(package, needs=frozenset(asked_by.get(package.name, ()))) if explained else package


def _conda_lock(text: str) -> Iterator[LockedPackage]:
    """conda-lock's own YAML is regular enough to be read by its lines: a list of flat entries under `package:`."""
    entry: dict[str, str] = {}
    needs: set[str] = set()
    first = 0
    inside = within = False
    for number, line in enumerate([*text.split("\n"), "end:"], start=1):
        line = line[:MAX_LINE].rstrip()
        if inside and (line.startswith("- ") or line[:1].isalpha()):
            yield from _conda_package(entry, needs, first)
            entry, needs, first = {}, set(), number
        if line[:1].isalpha():
            inside = line == "package:"
        key, colon, value = line.replace("- ", "  ", 1).strip().partition(":")
        if not inside or not colon:
            continue
        indent = len(line) - len(line.lstrip(" -"))
        if indent <= 2:
            within = key == "dependencies"
            entry.setdefault(key, value.strip().strip("'\""))
        elif within and len(needs) < MAX_PACKAGES:
            needs.add(key.strip("'\""))


def _conda_package(entry: Mapping[str, str], needs: set[str], line: int) -> Iterator[LockedPackage]:
    """Advisories are kept by PyPI's names; what conda builds from Python sources mostly has the same."""
    of_pip = entry.get("manager") == "pip"
    if of_pip or "python" in needs:
        for package in _pypi(entry.get("name"), entry.get("version"), line, _names(needs)):
            yield replace(package, exact=of_pip)


def _environment(text: str) -> Iterator[LockedPackage]:
    inside = False
    for number, line in enumerate(text.split("\n"), start=1):
        line = line[:MAX_LINE].rstrip()
        if line[:1].isalpha():
            inside = line.startswith("dependencies:")
        item = line.strip()
        if not inside or not item.startswith("- "):
            continue
        item = item[2:].strip().strip("'\"").rpartition("::")[2]
        of_pip = _PINNED.match(item) if "==" in item else None
        conda = None if of_pip else _CONDA_PIN.fullmatch(item)
        if of_pip:
            for package in _pypi(of_pip[1], of_pip[2], number):
                yield replace(package, exact=len(line) - len(line.lstrip()) > 2)
        elif conda and conda[1].lower() != "python":
            for package in _pypi(conda[1], conda[2], number):
                yield replace(package, exact=False)


_BY_NAME: Mapping[str, Callable[[str], Iterable[LockedPackage]]] = {
    "uv.lock": _uv,
    "poetry.lock": _poetry,
    "pdm.lock": _pdm,
    "pylock.toml": _pylock,
    "Pipfile.lock": _pipenv,
    "package-lock.json": _npm,
    "npm-shrinkwrap.json": _npm,
    "conda-lock.yml": _conda_lock,
    "environment.yml": _environment,
    "environment.yaml": _environment,
}


def _names(names: Iterable[Any]) -> frozenset[str]:
    return frozenset(pypi_name(name) for name in names if isinstance(name, str))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

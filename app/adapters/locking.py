"""What of a repository a locking tool is given: plain requirements, and manifests from which nothing can be built.

`uv lock` asks a project's build backend for what its pyproject.toml leaves open (`dynamic`), even where building is
switched off, and follows addresses of other places (`tool.uv.sources`, `tool.uv.index`). So such manifests are refused,
and every other one is handed over without its build system.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit
from packaging.requirements import InvalidRequirement, Requirement

from app.domain.errors import Malformed, Refused
from app.ports.resolver import Locking
from app.security.toml import load_toml

MOST_FILES, MOST_BYTES = 40, 4 << 20
FILES = frozenset({".txt", ".in", ".toml", ".lock"})

# What `uv pip compile` takes of a compiling command: the option, and whether a value follows.
COMPILING = {
    "--all-extras": False,
    "--annotation-style": True,
    "--extra": True,
    "--generate-hashes": False,
    "--no-annotate": False,
    "--no-strip-extras": False,
    "--python-platform": True,
    "--python-version": True,
    "--strip-extras": False,
    "--universal": False,
}
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")
_UPGRADE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}(?:==[A-Za-z0-9][A-Za-z0-9.!+_-]{0,60})?")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s+|=)?(?P<path>[\w./-]{1,200})$")
_HASH = re.compile(r"\s--hash=[a-z0-9]{3,10}:[0-9a-f]{32,200}(?=\s|$)")

# Keys of `tool.uv` that change what is chosen and lead nowhere else.
_UV_KEYS = frozenset(
    {
        "conflicts",
        "constraint-dependencies",
        "default-groups",
        "dev-dependencies",
        "environments",
        "managed",
        "override-dependencies",
        "package",
        "required-environments",
    }
)
_PROJECT_KEYS = ("name", "version", "requires-python", "dependencies", "optional-dependencies")
_OPEN = ("dependencies", "optional-dependencies", "requires-python", "name")
UNKNOWN_VERSION = "0+open"


def files_for(locking: Locking, index_url: str) -> dict[str, str]:
    """The files as they are written for the tool, by path. Raises Refused."""
    if len(locking.files) > MOST_FILES or sum(len(text) for text in locking.files.values()) > MOST_BYTES:
        raise Refused(f"{locking.lockfile} depends on more than is looked at here")
    if locking.folder and not is_inside(locking.folder):
        raise Refused(f"{locking.folder[:200]!r} is no folder of the repository")
    written = {}
    for path, text in locking.files.items():
        if not is_inside(path) or posixpath.splitext(path)[1] not in FILES:
            raise Refused(f"{path[:200]!r} is no place of a manifest")
        if posixpath.basename(path) == "uv.lock":
            _check_uv_lock(path, text, index_url)
            written[path] = text
        elif path.endswith(".toml"):
            written[path] = unbuildable(path, text)
        else:
            check_requirements(path, text, locking.files, hashes=path == locking.lockfile)
            written[path] = text
    for name in locking.upgrade:
        if not _UPGRADE.fullmatch(name):
            raise Refused(f"not a package: {name[:80]!r}")
    return written


def is_inside(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and path.isprintable() and not path.startswith("/") and not {"", ".", ".."} & set(parts)


def check_requirements(path: str, text: str, files: Mapping[str, str], *, hashes: bool = False) -> None:
    """Plain requirements and includes of the given files. Raises Refused for anything else, with its line."""
    for number, words in _logical(text):
        found = _INCLUDE.match(words)
        if found:
            included = posixpath.normpath(posixpath.join(posixpath.dirname(path), found["path"]))
            if included not in files:
                raise Refused(f"{path}:{number} includes {included}, which is not there")
            continue
        check_requirement(_HASH.sub("", words).strip() if hashes else words, f"{path}:{number}")


def check_requirement(words: str, where: str) -> None:
    try:
        requirement = Requirement(words)
    except InvalidRequirement:
        raise Refused(f"{where} is not a plain requirement: {words[:80]!r}") from None
    if requirement.url:
        raise Refused(f"{where} refers to a place, not to a version: {requirement.name}")


def _logical(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments; one that goes on in the next is joined, and numbered by its first."""
    held, start = "", 1
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        part = _COMMENT.sub("", raw.rstrip("\r"))
        start = start if held else number
        if part.endswith("\\"):
            held += part[:-1] + " "
            continue
        words, held = (held + part).strip(), ""
        if words:
            yield start, words
    if held.strip():
        yield start, held.strip()


def unbuildable(path: str, text: str) -> str:
    """The manifest with what decides the choice of versions, and a build system that is none. Raises Refused."""
    document = _parsed(path, text)
    project = _table(document.get("project"), f"{path}: project")
    kept: dict[str, Any] = {}
    if project:
        left_open = project.get("dynamic", [])
        undecided = [key for key in _OPEN if isinstance(left_open, list) and key in left_open]
        if undecided:
            raise Refused(f"{path} leaves {undecided[0]} to its build backend, which is not run here")
        kept["project"] = {key: project[key] for key in _PROJECT_KEYS if key in project}
        kept["project"].setdefault("version", UNKNOWN_VERSION)
    for place, words in _requirements(path, document):
        check_requirement(words, place)
    if "dependency-groups" in document:
        kept["dependency-groups"] = document["dependency-groups"]
    ours = _table(_table(document.get("tool"), f"{path}: tool").get("uv"), f"{path}: tool.uv")
    if strange := sorted(set(ours) - _UV_KEYS):
        raise Refused(f"{path} sets tool.uv.{strange[0]}, which is not followed here")
    if ours:
        kept["tool"] = {"uv": ours}
    if "build-system" in document:  # whether there is one decides how the lockfile names the project
        kept["build-system"] = {"requires": [], "build-backend": "nothing_is_built_here"}
    return tomlkit.dumps(kept)


def _requirements(path: str, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    project = _table(document.get("project"), "project")
    ours = _table(_table(document.get("tool"), "tool").get("uv"), "tool.uv")
    lists = {"project.dependencies": project.get("dependencies", [])}
    for name, found in _table(project.get("optional-dependencies"), "optional-dependencies").items():
        lists[f"project.optional-dependencies.{name}"] = found
    for name, found in _table(document.get("dependency-groups"), "dependency-groups").items():
        lists[f"dependency-groups.{name}"] = found
    for name in ("constraint-dependencies", "override-dependencies", "dev-dependencies"):
        lists[f"tool.uv.{name}"] = ours.get(name, [])
    for place, found in lists.items():
        if not isinstance(found, list):
            raise Refused(f"{path}: {place} is no list")
        for index, words in enumerate(found):
            if isinstance(words, str):
                yield f"{path}: {place}[{index}]", words
            elif not (place.startswith("dependency-groups.") and isinstance(words, dict)):
                raise Refused(f"{path}: {place}[{index}] is not a requirement")


def _check_uv_lock(path: str, text: str, index_url: str) -> None:
    """Everything in it comes from the configured index, but for the project itself."""
    for package in _parsed(path, text).get("package", []):
        source = package.get("source", {}) if isinstance(package, dict) else {}
        if source in ({"virtual": "."}, {"editable": "."}):
            continue
        if set(source) != {"registry"} or _place(str(source["registry"])) != _place(index_url):
            told = ", ".join(f"{key} {value}" for key, value in source.items()) if isinstance(source, dict) else ""
            raise Refused(
                f"{path} takes {str(package.get('name', ''))[:80]} from {told[:200] or 'nowhere'}, and only the"
                " configured package index is asked; look at HEAL_RESOLVER__INDEX_URL"
            )


def _place(url: str) -> str:
    """An address without its password and its last slash."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _parsed(path: str, text: str) -> dict[str, Any]:
    try:
        return load_toml(text)
    except ValueError:
        raise Malformed(f"{path} is not a TOML file that can be read") from None


def _table(found: Any, place: str) -> dict[str, Any]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Refused(f"{place} is no table")
    return found


def compiling(locking: Locking) -> list[str]:
    """The arguments of `uv pip compile`, seen from the folder where the command is run. Raises Refused."""
    words = []
    options = list(locking.options)
    while options:
        name, equals, value = options.pop(0).partition("=")
        if name not in COMPILING:
            raise Refused(f"{locking.lockfile} was compiled with {name[:60]}, which is not followed here")
        words.append(name)
        if COMPILING[name]:
            value = value if equals else (options.pop(0) if options else "")
            if not _VALUE.fullmatch(value):
                raise Refused(f"{locking.lockfile} was compiled with {name} {value[:60]!r}")
            words.append(value)
    if locking.python and "--python-version" not in words:
        words += ["--python-version", locking.python]
    for name in locking.upgrade:
        words += ["--upgrade-package", name]
    here = locking.folder or "."
    sources = [posixpath.relpath(path, here) for path in locking.manifests]
    return [*sources, "--output-file", posixpath.relpath(locking.lockfile, here), *words]


def with_head(renewed: str, before: str) -> str:
    """The head of comments of the file as it was, with the team's own command, over the renewed lines."""
    head = []
    for line in before.split("\n"):
        if not line.startswith("#"):
            break
        head.append(line)
    crlf = "\r\n" in before
    text = "\n".join([*(line.rstrip("\r") for line in head), renewed.replace("\r\n", "\n")])
    return text.replace("\n", "\r\n") if crlf else text


def without_open_version(text: str) -> str:
    """uv.lock names no version for a project that leaves its own to the build backend."""
    return text.replace(f'version = "{UNKNOWN_VERSION}"\n', "", 1)

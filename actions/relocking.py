"""Which lockfile belongs to which manifest, and how it is renewed with it."""

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from packaging.utils import canonicalize_name

from actions.manifests import REQUIREMENTS, Tree, is_compiled, ranked
from app.domain.errors import Malformed, Refused
from app.ports.resolver import Locker, Locking, Resolver
from app.security.lockfiles import Unreadable, read_lockfile

_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)(?:\s+|=)?([^\s#=]{1,200})", re.MULTILINE)
_BY_PYTHON = re.compile(r"by pip-compile with Python (3\.\d{1,2})")
_TOOL = re.compile(r"(?:pip-compile|(?:uv\s+)pip\s+compile)\b")
# Options that say where the output goes or how much is told: the result is the same without them.
_SILENT = frozenset(
    {
        "--allow-unsafe",
        "--no-allow-unsafe",
        "--no-emit-index-url",
        "--no-emit-trusted-host",
        "--no-header",
        "--no-upgrade",
        "--quiet",
        "--upgrade",
        "--verbose",
        "-U",
        "-q",
        "-v",
    }
)
_SILENT_WITH_VALUE = frozenset({"--output-file", "-o", "--resolver", "--upgrade-package", "-P", "--cache-dir"})
_WITH_VALUE = frozenset({"--annotation-style", "--extra", "--python-platform", "--python-version"})
_BY_NAME = {
    "uv.lock": Locker.UV,
    "poetry.lock": Locker.POETRY,
}
_UNKNOWN = {
    "pdm.lock": "pdm lock",
    "Pipfile.lock": "pipenv lock",
    "pylock.toml": "the tool that wrote it",
}


@dataclass(frozen=True, slots=True)
class Lock:
    """A lockfile and what it is made from. `trouble` says why it cannot be renewed here, and who can."""

    path: str
    locker: Locker | None
    sources: tuple[str, ...]
    folder: str = ""
    options: tuple[str, ...] = ()
    python: str | None = None
    trouble: str = ""


def locks_of(tree: Tree) -> list[Lock]:
    """Every lockfile of Python packages that is known."""
    found = []
    for path in tree.paths:
        folder, name = posixpath.split(path)
        source = posixpath.join(folder, "pyproject.toml")
        if name in _BY_NAME and source in tree:
            found.append(Lock(path, _BY_NAME[name], (source,), folder))
        elif name in _UNKNOWN:
            pipfile = posixpath.join(folder, "Pipfile")
            trouble = f"{path} must be renewed with {_UNKNOWN[name]}, which is not done here"
            found.append(Lock(path, None, (source, pipfile), trouble=trouble))
    for path in ranked(tree):
        text = tree.text(path) if path.endswith(".txt") and REQUIREMENTS.search(path) else None
        if text is not None and is_compiled(text):
            found.append(_compiled(path, text, tree))
    return found


def _compiled(path: str, text: str, tree: Tree) -> Lock:
    """Read from its head: the command, seen from the root of the repository or from the file's own folder."""
    head = [line.strip("# \r") for line in takewhile(lambda line: line.startswith("#"), text[:4_000].split("\n"))]
    by_python = _BY_PYTHON.search(" ".join(head))
    python = by_python[1] if by_python else None
    command = next((line for line in head if _TOOL.match(line)), "")
    own = next((line for line in reversed(head) if line), "")
    if not command:
        return Lock(
            path, None, _likely(path, tree), trouble=f"{path} was compiled by a command of your own: {own[:80]}"
        )
    if "considered to be unsafe" in text:
        why = "it names packages that pip-compile leaves out"
        return Lock(path, None, _likely(path, tree), trouble=f"{path} must be renewed with pip-compile: {why}")
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    words = words[3:] if words[:1] == ["uv"] else words[1:]
    sources, options = _read_command(words)
    for folder in dict.fromkeys(("", posixpath.dirname(path))):
        placed = tuple(posixpath.normpath(posixpath.join(folder, source)) for source in sources)
        placed = placed or _likely(path, tree)
        if placed and all(source in tree for source in placed):
            if command.startswith("pip-compile") and not {"--strip-extras", "--no-strip-extras"} & {*options}:
                options.append("--no-strip-extras")  # uv strips them where pip-compile does not
            return Lock(path, Locker.PIP_COMPILE, placed, folder, tuple(options), python)
    missing = " ".join(sources) or "requirements.in"
    there = tuple(
        found
        for source in sources
        for folder in ("", posixpath.dirname(path))
        if (found := posixpath.normpath(posixpath.join(folder, source))) in tree
    )
    return Lock(
        path,
        None,
        there or _likely(path, tree),
        trouble=f"{path} was compiled from {missing[:100]}, which is not there",
    )


def _read_command(words: list[str]) -> tuple[list[str], list[str]]:
    """The sources and the options that matter. What is not known stays among the options, and is refused later."""
    sources, options = [], []
    words = list(words)
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if name in _SILENT_WITH_VALUE:
            if not equals and words:
                words.pop(0)
        elif name in _WITH_VALUE and not equals:
            options += [word, *words[:1]]
            words = words[1:]
        elif not word.startswith("-"):
            sources.append(word)
        elif name not in _SILENT:
            options.append(word)
    return sources, options


def _likely(path: str, tree: Tree) -> tuple[str, ...]:
    """What it may be made from, where its head does not say it: better refused than left behind."""
    sources = (path.removesuffix(".txt") + ".in", posixpath.join(posixpath.dirname(path), "pyproject.toml"))
    return next(((source,) for source in sources if source in tree), ())


def closure(path: str, tree: Tree, seen: dict[str, str] | None = None) -> dict[str, str]:
    """A manifest with what it includes, by path. Raises Malformed for what cannot be read."""
    seen = {} if seen is None else seen
    text = tree.text(path)
    if text is None or len(seen) > 30:
        raise Malformed(f"{path} cannot be read")
    seen[path] = text
    for included in () if path.endswith((".toml", ".lock")) else _INCLUDE.findall(text):
        there = posixpath.normpath(posixpath.join(posixpath.dirname(path), included))
        if there not in seen and there in tree:
            closure(there, tree, seen)
    return seen


def renewed(
    tree: Tree,
    texts: Mapping[str, str],
    resolver: Resolver,
    *,
    locks: Iterable[Lock],
    upgrade: Mapping[str, str] | None = None,
    also: Iterable[str] = (),
    python: str | None = None,
) -> dict[str, str]:
    """`texts` (manifests as they will be) with every lockfile that follows from them, and those named in `also`.

    `upgrade` are the packages that may move, and to which version, where a lockfile has them. Raises Refused, with the
    tool's words, for a lockfile that cannot be renewed.
    """
    result = dict(texts)
    waiting = list(locks)
    while waiting:
        now = tree.with_edits(result)
        due = [lock for lock in waiting if lock.path in also or _touched(lock, now, result)]
        # one that includes another which is due comes after it
        ready = [lock for lock in due if not _inputs(lock, now) & ({other.path for other in due} - {lock.path})]
        if not due:
            break
        lock = (ready or due)[0]
        waiting.remove(lock)
        result[lock.path] = _renew(lock, now, resolver, upgrade or {}, python)
    return result


def _inputs(lock: Lock, tree: Tree) -> set[str]:
    found: set[str] = set()
    for source in lock.sources:
        if source in tree:
            found |= set(closure(source, tree))
    return found


def _touched(lock: Lock, tree: Tree, changed: Mapping[str, str]) -> bool:
    return bool(_inputs(lock, tree) & set(changed))


def _renew(lock: Lock, tree: Tree, resolver: Resolver, upgrade: Mapping[str, str], python: str | None) -> str:
    if lock.locker is None or lock.trouble:
        raise Refused(lock.trouble or f"{lock.path} cannot be renewed here")
    files: dict[str, str] = {}
    for source in (*lock.sources, lock.path):
        if tree.text(source) is None:
            raise Refused(f"{source} is too large to be renewed here")
        closure(source, tree, files)
    held = set(pinned(lock.path, files[lock.path]))
    may_move = tuple(f"{name}=={version}" if version else name for name, version in upgrade.items() if name in held)
    answer = resolver.lock(
        Locking(
            locker=lock.locker,
            lockfile=lock.path,
            files=files,
            manifests=lock.sources,
            folder=lock.folder,
            options=lock.options,
            upgrade=may_move,
            python=lock.python or python,
        )
    )
    if not answer.resolved:
        raise Refused(f"{lock.path} cannot be renewed: {answer.explanation[:1000]}")
    return answer.text


def pinned(path: str, text: str) -> dict[str, str]:
    """The versions that a lockfile holds, by package; of several, the last."""
    try:
        return {canonicalize_name(each.name): each.version for each in read_lockfile(path, text.encode())}
    except Unreadable:
        return {}

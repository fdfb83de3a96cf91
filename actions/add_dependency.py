"""Require the distribution that provides a module which the repository imports and nobody installs."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import posixpath
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict

from actions import fix_pull_request
from actions.inserting import into_list, into_requirements, into_table
from actions.manifests import (
    MAX_FILE_BYTES,
    Keys,
    Line,
    Manifest,
    Tree,
    Unit,
    manifests,
    parsed,
    python_of,
    read,
    table,
)
from actions.mentions import mentioned, told
from actions.modules import PROVIDERS, Provider, provider_of
from actions.moves import offered
from actions.relocking import locks_of, pinned, renewed
from actions.rivals import rival
from actions.search import Search, unfit, versions_of
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

TITLE = "Require what provides the missing module"
MOST_READ = 40  # Python files that are looked into for who imports the module

_MODULE = re.compile(r"[A-Za-z_]\w{0,99}(?:\.\w{1,100}){0,20}")
# The words in which Python and its libraries say it; those of other languages name other packages.
_PYTHON = re.compile(
    r"No module named|Missing optional dependency|library but it was not found|packages that were not found in your"
    r" environment|Unable to import module"
)
_TESTS = re.compile(r"(?:^|/)(?:tests?|testing)/|(?:^|/)(?:test_[^/]*|[^/]*_test|conftest)\.py$")
_TEST_GROUPS = ("test", "tests", "testing", "dev", "develop", "development", "ci")
_TEST_FILE = re.compile(r"(?:^|[-_./])(?:dev|develop|test|tests|testing|ci)(?=[-_.]|$)")
_OWN_PROJECT = re.compile(r"\buv (?:sync|run)\b|\bpoetry install\b|\bpip install (?:-e |--editable )?[\"']?\.(?![\w/])")


class AddParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a requirement goes: a list (`keys`) of a pyproject.toml, a table of Poetry, or a requirements file."""

    manifest: Manifest
    lines: tuple[Line, ...]
    group: str = ""
    keys: Keys = ()

    @property
    def name(self) -> str:
        return f"{self.manifest.path} ({'.'.join(map(str, self.keys))})" if self.keys else self.manifest.path


class AddDependency:
    kind = "add_dependency"
    Params: type[BaseModel] = AddParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: AddParams, tools: Tools) -> Plan:
        tree = Tree(incident, tools)
        try:
            module = _missing(incident)
            found = dict(manifests(tree, empty=True))
            readable = [manifest for manifest in found.values() if isinstance(manifest, Manifest)]
            provider = _provider(module, tree)
            _refuse_required(module, provider, readable)
            if refusal := rival([provider.distribution], tools):
                return Plan(TITLE, refusal=refusal)
            place = _place(provider.tests or _only_tests(module, tree), found, tree)
            return _added(tree, module, provider, place)
        except (Malformed, Refused) as error:
            return Plan(TITLE, refusal=str(error))

    def apply(self, repair: Repair, params: AddParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


def _missing(incident: Incident) -> str:
    """The module as the evidence names it. Raises Refused for what is none of Python's."""
    module = str(incident.finding.facts.get("missing_module", "")).strip("'\"")
    if not _MODULE.fullmatch(module):
        raise Refused(f"{module[:100]!r} is no module of Python" if module else "the evidence names no module")
    if not any(_PYTHON.search(line.text) for line in incident.finding.lines):
        raise Refused(f"it is not Python that misses {module}: only its packages are added here")
    return module


def _provider(module: str, tree: Tree) -> Provider:
    """What to require for it. Raises Refused where that is not known for certain."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise Refused(f"{top} belongs to Python's standard library: the job needs another Python version for it")
    if own := _own(top, tree):
        raise Refused(f"{top} is a module of this repository ({own}): it has to be on the path, not installed")
    if provider := provider_of(module):
        return provider
    name = canonicalize_name(top)
    for lock in locks_of(tree):
        if name in pinned(lock.path, tree.text(lock.path) or ""):
            return Provider(name, lock.path)
    near = _near(top, tree)
    hint = f"; did you mean {near}?" if near else ""
    raise Refused(f"it is not known for certain which distribution provides {top}, and it is not guessed{hint}")


def _own(top: str, tree: Tree) -> str:
    """The file or folder of the repository that has this name, if one does."""
    for path in tree.paths:
        folder, name = posixpath.split(path)
        if name in (f"{top}.py", f"{top}.pyi", f"{top}.pyx"):
            return path
        parts = folder.split("/")
        if name.endswith(".py") and top in parts:
            return f"{'/'.join(parts[: parts.index(top) + 1])}/"
    project = tree.text("pyproject.toml")
    if project is not None:
        try:
            named = str(table(parsed("pyproject.toml", project).get("project")).get("name", ""))
        except Malformed:
            named = ""
        if named and canonicalize_name(named) == canonicalize_name(top):
            return "pyproject.toml"
    return ""


def _near(top: str, tree: Tree) -> str:
    """A module of the repository, or a well-known one, that is spelled nearly so."""
    own = {posixpath.basename(path).removesuffix(".py") for path in tree.paths if path.endswith(".py")}
    own |= {part for path in tree.paths if path.endswith(".py") for part in path.split("/")[:-1]}
    known = {name for name in PROVIDERS if "." not in name} | set(sys.stdlib_module_names)
    matches = get_close_matches(top, sorted(own)[:5_000], 1, 0.8) or get_close_matches(top, sorted(known), 1, 0.85)
    return matches[0] if matches else ""


def _refuse_required(module: str, provider: Provider, readable: Sequence[Manifest]) -> None:
    names = {canonicalize_name(name) for name in (provider.distribution, *provider.also)}
    for manifest in readable:
        for line in manifest.lines:
            if line.name in names:
                group = f" ({line.group})" if line.group else ""
                raise Refused(
                    f"{line.name} is required already, in {line.place}{group}: the job does not install that,"
                    f" or the version it gets has no {module}"
                )


# where it goes


def _only_tests(module: str, tree: Tree) -> bool:
    """Whether only tests import it, as far as the files can be read."""
    said = told(tree.incident, tree.tools)
    python = [path for path in tree.paths if path.endswith(".py")]
    named = [path for path in python if mentioned(path, said)]
    rest = [path for path in python if path not in named]
    importing = [
        path
        for path in (*named, *sorted(rest, key=lambda path: _TESTS.search(path) is not None))[:MOST_READ]
        if _imports(tree.text(path) or "", module.partition(".")[0])
    ]
    return bool(importing) and all(_TESTS.search(path) for path in importing)


def _imports(text: str, top: str) -> bool:
    if len(text) > MAX_FILE_BYTES or top not in text:
        return False
    for line in text.splitlines():
        words = line[:500].replace(",", " , ").split()
        if words[:1] == ["from"] and len(words) > 1 and words[1].partition(".")[0] == top:
            return True
        if words[:1] == ["import"] and any(word.partition(".")[0] == top for word in words[1:]):
            return True
    return False


def _place(for_tests: bool, found: dict[str, Manifest | Malformed], tree: Tree) -> Place:
    """The list that the job installs, as far as can be told: the manifests that the workflow names come first."""
    if not found:
        raise Refused("no requirements.txt or pyproject.toml has dependencies: where it would go is not known")
    said = told(tree.incident, tree.tools)
    paths = list(found)
    if _OWN_PROJECT.search(said):
        paths.sort(key=lambda path: not (path.endswith("pyproject.toml") or mentioned(path, said)))
    if for_tests:
        for path in paths:
            if place := _for_tests(path, found[path]):
                return place
    for path in paths:
        manifest = found[path]
        if _TEST_FILE.search(path) and len(paths) > 1:
            continue
        if isinstance(manifest, Malformed):
            raise manifest
        if path.endswith(".toml"):
            document = parsed(path, manifest.texts[path])
            project = table(document.get("project"))
            poetry = table(table(table(document.get("tool")).get("poetry")).get("dependencies"))
            keys: Keys = ("project", "dependencies") if "dependencies" in project else ()
            keys = keys or (("tool", "poetry", "dependencies") if poetry else ())
            if not keys:
                continue
            return Place(manifest, tuple(line for line in manifest.lines if not line.group), "", keys)
        return Place(manifest, tuple(line for line in manifest.lines if line.path == path))
    raise Refused(f"{', '.join(paths[:3])} has no list of what the program itself needs")


def _for_tests(path: str, manifest: Manifest | Malformed) -> Place | None:
    if isinstance(manifest, Malformed):
        return None
    if not path.endswith(".toml"):
        own = tuple(line for line in manifest.lines if line.path == path)
        return Place(manifest, own) if _TEST_FILE.search(path) else None
    document = parsed(path, manifest.texts[path])
    groups = table(document.get("dependency-groups"))
    extras = table(table(document.get("project")).get("optional-dependencies"))
    poetry = table(table(table(document.get("tool")).get("poetry")).get("group"))
    for group in _TEST_GROUPS:
        places: Iterator[tuple[Keys, bool]] = iter(
            (
                (("dependency-groups", group), group in groups),
                (("project", "optional-dependencies", group), group in extras),
                (("tool", "poetry", "group", group, "dependencies"), group in poetry),
            )
        )
        for keys, is_there in places:
            if is_there:
                return Place(manifest, tuple(line for line in manifest.lines if line.group == group), group, keys)
    return None


# what is written


def _added(tree: Tree, module: str, provider: Provider, place: Place) -> Plan:
    """Raises Refused."""
    resolver, python = tree.tools.resolver, python_of(tree)
    manifest = place.manifest
    unit = _unit(place)
    with_it = Search(resolver, unit, python).resolve({}, [provider.distribution])
    if not with_it.resolved:
        raise Refused(f"{provider.distribution} does not fit {place.name}: {with_it.explanation[:1000]}")
    version = versions_of(with_it).get(canonicalize_name(provider.distribution), "")
    pins = bool(place.lines) and all(line.pin for line in place.lines) and bool(version)
    words = f"{provider.distribution}=={version}" if pins else provider.distribution
    text = manifest.texts[manifest.path]
    if not manifest.path.endswith(".toml"):
        changed = into_requirements(text, words, list(place.lines))
    else:
        document = parsed(manifest.path, text)
        if place.keys[:2] == ("tool", "poetry"):
            asked = version if pins else f"^{version}"
            changed = into_table(manifest.path, text, document, place.keys, provider.distribution, asked)
        else:
            changed = into_list(manifest.path, text, document, place.keys, words)
    texts = {manifest.path: changed}
    edited = read(manifest.path, tree.with_edits(texts))
    name = canonicalize_name(provider.distribution)
    concerned = [each for each in edited.units if any(line.name == name for line in each.lines)]
    if not concerned:
        raise Refused(f"{place.name} is written in a way that is not changed here")
    if answer := unfit(resolver, concerned, python):
        raise Refused(f"{provider.distribution} does not fit {place.name}: {answer.explanation[:1000]}")
    texts = renewed(tree, texts, resolver, locks=locks_of(tree), python=python)
    return offered(
        tree,
        f"Require {words} in {place.name}",
        texts,
        about=[provider.distribution],
        why=f"{module} is imported, and nothing that is installed provides it; {provider.distribution} does"
        f" ({provider.source})",
        risk="one more package, with what it depends on",
    )


def _unit(place: Place) -> Unit:
    """The requirements that it will be installed with."""
    for unit in place.manifest.units:
        if place.group and any(line.group == place.group for line in unit.lines):
            return unit
    return next(iter(place.manifest.units), Unit(()))

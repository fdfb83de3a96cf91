"""Move a package off a version that is gone, or that is known to be vulnerable, to the nearest one that will do."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from actions import fix_pull_request
from actions.job_log import STAMP, lines_of
from actions.manifests import Line, Manifest, Tree, Unit, is_version, manifests, python_of, read
from actions.moves import RISK, moved, moved_in, offered, proven, said_by
from actions.relocking import Lock, locks_of, pinned, renewed
from actions.rivals import rival, spelled
from actions.search import Search, versions_of
from actions.versions import Window, above, around, fixed_for, is_other_major
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools

TITLE = "Move to a version that exists"
SAFE = "Move to a version without the known vulnerability"
MOST_COMBINATIONS = 12
MOST_RAISED = 20

# A row of pip-audit's table, also as Markdown: name, version, advisory, versions in which it is fixed.
_AUDITED = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]{0,100}) (?P<version>\d[\w.!+-]{0,60}) (?P<id>(?:PYSEC|GHSA|CVE)-[\w-]{4,40})"
    r"(?P<fixed>(?: [\w.!+-]{1,60},?){0,20})"
)


class BumpParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Raise:
    """A package that must be at least at `floor`; `current` is where it is, `path` the file that says so, if known."""

    name: str
    current: str
    floor: str
    path: str = ""


class BumpDependency:
    kind = "bump_dependency"
    Params: type[BaseModel] = BumpParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: BumpParams, tools: Tools) -> Plan:
        finding = incident.finding
        if not incident.head_sha:
            return Plan(SAFE, refusal="it is not known in which commit this was found")
        tree = Tree(incident, tools)
        is_audit = finding.kind == "security_audit_failure"
        is_vulnerable = is_audit or "advisories" in finding.facts
        try:
            if not is_vulnerable:
                return _off_missing(tree)
            raises = _audited(tree) if is_audit else [_told(incident, tree)]
            return _off_vulnerable(tree, raises)
        except (Malformed, Refused) as error:
            return Plan(SAFE if is_vulnerable else TITLE, refusal=str(error))

    def apply(self, repair: Repair, params: BumpParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


# a version that is gone


def _off_missing(tree: Tree) -> Plan:
    python = python_of(tree)
    refusal = "no requirements.txt or pyproject.toml has dependencies"
    unreadable = ""
    unfit: Plan | None = None
    for path, manifest in manifests(tree):
        if isinstance(manifest, Malformed):
            unreadable = unreadable or str(manifest)
            continue
        refusal = f"the index has everything that {path} asks for"
        for unit in manifest.units:
            search = Search(tree.tools.resolver, unit, python)
            conflict = search.resolve({})
            if not conflict.resolved:
                try:
                    tried = _to_nearest(tree, manifest, search, conflict.explanation)
                except Refused as error:
                    tried = Plan(TITLE, refusal=str(error))
                if not tried.refusal:
                    return tried
                unfit = unfit or tried
                break  # the other units contain this one
    if unfit is not None:
        return unfit
    for lock in locks_of(tree):
        if plan := _lock_to_nearest(tree, lock, python):
            return plan
    return Plan(TITLE, refusal=unreadable or refusal)


def _to_nearest(tree: Tree, manifest: Manifest, search: Search, explanation: str) -> Plan:
    said = f"{said_by(tree.incident)}\n{explanation}"
    missing: list[Line] = []
    while more := _missing(search, said, missing):
        missing += more
        again = search.resolve(dict.fromkeys(missing, ""))  # a resolver tells of one at a time
        said = again.explanation
    if not missing:
        told = f"the index has what {manifest.path} asks for, but it does not fit together"
        return Plan(TITLE, refusal=f"{told}: {explanation[:1000]}")
    there = [around(line.operator, line.version) for line in missing]
    if len(missing) > 1:
        there = [
            [each for each in windows if _has(search, line, each)] for line, windows in zip(missing, there, strict=True)
        ]
    for indices in sorted(product(*(range(len(windows)) for windows in there)), key=sum)[:MOST_COMBINATIONS]:
        chosen = {line: windows[index] for line, windows, index in zip(missing, there, indices, strict=True)}
        floors = {line: window.floor for line, window in chosen.items() if window.floor}
        versions = search.nearest({line: window.specifier for line, window in chosen.items()}, floors)
        if versions is not None:
            versions = {line: _as_long(line, version) for line, version in versions.items()}
            return moved(tree, manifest, search, versions, explanation[:1000], _risk(versions))
    names = ", ".join(line.name for line in missing)
    return Plan(TITLE, refusal=f"no version of {names} fits the rest of {manifest.path}: {explanation[:1000]}")


def _missing(search: Search, said: str, known: Sequence[Line]) -> list[Line]:
    """The lines, of those that are spoken of, that no version fulfils. Raises Refused for what is not to be guessed."""
    found = []
    for line in search.unit.lines:
        if line in known or not spelled(line.name).search(said) or search.ask([line.requirement]).resolved:
            continue
        if not search.ask([line.name]).resolved:
            raise Refused(f"the index has no package {line.name} ({line.place}): is its name right?")
        if not line.version:
            asked = Requirement(line.requirement).specifier
            raise Refused(f"{line.place}: no version is {asked}; which one is right has to be decided")
        found.append(line)
    return found


def _has(search: Search, line: Line, window: Window) -> bool:
    return search.ask([f"{line.name}{window.specifier}"]).resolved


def _as_long(line: Line, version: str) -> str:
    """`~=1` is no specifier: it needs two numbers."""
    return f"{version}.0" if line.operator == "~=" and "." not in version else version


def _risk(versions: Mapping[Line, str]) -> str:
    majors = [line.name for line, version in versions.items() if is_other_major(line.version, version)]
    return f"another major version of {', '.join(majors)}: {RISK}" if majors else RISK


def _lock_to_nearest(tree: Tree, lock: Lock, python: str | None) -> Plan | None:
    """A version that only a lockfile holds; None if the index has all that the failure speaks of."""
    said = said_by(tree.incident)
    search = _of_sources(tree, lock, python)
    upgrade: dict[str, str] = {}
    gone = []
    for name, version in pinned(lock.path, tree.text(lock.path) or "").items():
        if not spelled(name).search(said) or search.ask([f"{name}=={version}"]).resolved:
            continue
        gone.append(f"{name} {version}")
        for window in around("==", version):
            if found := _nearest_in(search, name, window, upgrade):
                upgrade[name] = found
                break
        else:
            return Plan(TITLE, refusal=f"{lock.path} holds {gone[-1]}, and no other version of it fits")
    if not gone:
        return None
    texts = renewed(
        tree, {}, tree.tools.resolver, locks=locks_of(tree), upgrade=upgrade, also=[lock.path], python=python
    )
    told = ", ".join(f"{was} to {version}" for was, version in zip(gone, upgrade.values(), strict=True))
    why = f"the index does not have {', '.join(gone)} (any more)"
    return offered(tree, f"Move {told}", texts, about=moved_in(tree, texts), why=why)


def _of_sources(tree: Tree, lock: Lock, python: str | None) -> Search:
    """What the lockfile is made from, as one unit."""
    sources = [read(source, tree) for source in lock.sources if source in tree]
    lines = tuple(line for source in sources for line in source.lines)
    limits = tuple(line for source in sources for unit in source.units for line in unit.limits)
    return Search(tree.tools.resolver, Unit(lines, limits), lock.python or python)


def _nearest_in(search: Search, name: str, window: Window, others: Mapping[str, str]) -> str:
    """The version of a package that need not be asked for by name; empty if none in the window fits."""
    more = [f"{other}=={version}" for other, version in others.items()]
    found = versions_of(search.resolve({}, [*more, f"{name}{window.specifier}"])).get(name, "")
    for _ in range(3 if found and window.floor else 0):
        lower = search.resolve({}, [*more, f"{name}{window.floor},<{found}"])
        if not lower.resolved:
            break
        found = versions_of(lower).get(name, found)
    return found


# a version that is vulnerable


def _told(incident: Incident, tree: Tree) -> Raise:
    """From the facts of one vulnerable package. Raises Refused."""
    facts: Mapping[str, Any] = incident.finding.facts
    name, path = str(facts.get("package", "")), str(facts.get("path", ""))
    if facts.get("ecosystem", "PyPI") != "PyPI":
        raise Refused(f"{name} is no Python package: only those are moved here")
    name = canonicalize_name(name)
    text = tree.text(path)
    if text is None:
        raise Refused(f"{path or 'the file that names it'} is not there, or too large")
    current = pinned(path, text).get(name, "")
    if not current and path.endswith((".txt", ".in", "pyproject.toml")):
        current = next((line.version for line in read(path, tree).lines if line.name == name and line.version), "")
    current = current or next((str(each) for each in facts.get("versions", ()) if is_version(str(each))), "")
    if not current:
        raise Refused(f"{path} does not say which version of {name} it means")
    fixes = [(str(one.get("id", "")), one.get("fixed", ())) for one in facts["advisories"] if isinstance(one, Mapping)]
    return Raise(name, current, _floor(name, current, fixes), path)


def _floor(name: str, current: str, fixes: Iterable[tuple[str, Sequence[Any]]]) -> str:
    floors = []
    for advisory, versions in fixes:
        fixed = [str(each) for each in versions if is_version(str(each))]
        if any(not _below(current, each) and not is_other_major(current, each) for each in fixed):
            continue  # it is fixed there already
        nearest = fixed_for(current, fixed)
        if not nearest:
            raise Refused(f"no version of {name} is known in which {advisory} is fixed")
        floors.append(nearest)
    if not floors:
        raise Refused(f"{name} {current} has no known vulnerability that is not fixed in it")
    return max(floors, key=Version)


def _audited(tree: Tree) -> list[Raise]:
    """From pip-audit's table in the evidence, else in the log of the job. Raises Refused."""
    rows = list(_rows(line.text for line in tree.incident.finding.lines)) or list(_rows(_log(tree)))
    if not rows:
        raise Refused("the audit's findings are in no form that is known here (pip-audit's table is)")
    packages: dict[tuple[str, str], list[tuple[str, Sequence[str]]]] = {}
    for name, version, advisory, fixed in rows:
        packages.setdefault((name, version), []).append((advisory, fixed))
    if len(packages) > MOST_RAISED:
        raise Refused(f"{len(packages)} vulnerable packages are too many to move at once")
    return [Raise(name, version, _floor(name, version, fixes)) for (name, version), fixes in packages.items()]


def _rows(lines: Iterable[str]) -> Iterator[tuple[str, str, str, list[str]]]:
    for line in lines:
        words = " ".join(STAMP.sub("", line[:600]).replace("|", " ").split())
        if (found := _AUDITED.match(words)) and is_version(found["version"]):
            fixed = [each for each in re.split(r"[, ]+", found["fixed"]) if is_version(each)]
            yield canonicalize_name(found["name"]), found["version"], found["id"], fixed


def _log(tree: Tree) -> Iterator[str]:
    """The lines of the logs of the jobs that failed, as far as there are any."""
    forge, incident = tree.tools.forge, tree.incident
    for job in forge.jobs(incident.run_id, incident.attempt) if incident.run_id else ():
        if job.name in incident.finding.failed_jobs:
            yield from lines_of(forge, job)


def _off_vulnerable(tree: Tree, raises: Sequence[Raise]) -> Plan:
    """Raises Refused."""
    python, locks = python_of(tree), locks_of(tree)
    told = ", ".join(f"{one.name} from {one.current} to {one.floor} or later" for one in raises)
    title = f"Move {told}"
    if refusal := rival([one.name for one in raises], tree.tools):
        return Plan(title, refusal=refusal)
    texts: dict[str, str] = {}
    versions: dict[str, str] = {}
    asked_for: dict[str, str] = {}
    hints = {one.path for one in raises} - {""}
    for path, manifest in manifests(tree):
        owned = {lock.path for lock in locks if path in lock.sources}
        if isinstance(manifest, Malformed) or (hints and not {path, *manifest.texts, *owned} & hints):
            continue
        pins: dict[Line, str] = {}
        for unit in manifest.units:
            pins |= _raised(tree, manifest, unit, raises, pins, versions, python)
            versions |= {line.name: version for line, version in pins.items()}
        if pins:
            texts |= proven(tree.with_edits(texts), manifest, python, pins)
        asked_for |= {line.name: line.place for line in manifest.lines}
    holding = [
        lock
        for lock in locks
        if (not hints or {lock.path, *lock.sources} & hints)
        and any(_below(pinned(lock.path, tree.text(lock.path) or "").get(one.name, ""), one.floor) for one in raises)
    ]
    for lock in holding:
        search = _of_sources(tree.with_edits(texts), lock, python)
        for one in raises:
            if one.name not in versions and one.name in pinned(lock.path, tree.text(lock.path) or ""):
                versions[one.name] = _first_above(search, one, versions, lock)
    texts = renewed(
        tree,
        texts,
        tree.tools.resolver,
        locks=locks,
        upgrade=versions,
        also=[lock.path for lock in holding],
        python=python,
    )
    if left := next((one for one in raises if one.name not in versions), None):
        where = asked_for.get(left.name)
        why = f"{where} allows it" if where else "is in no manifest and no lockfile of the repository"
        raise Refused(f"{left.name} {left.current} {why}: what installs it cannot be told")
    for path in {lock.path for lock in locks} & texts.keys():
        now = pinned(path, texts[path])
        if still := [one.name for one in raises if _below(now.get(one.name, ""), one.floor)]:
            raise Refused(f"{path} still holds a vulnerable version of {still[0]}")
    title = "Move " + ", ".join(f"{one.name} from {one.current} to {versions[one.name]}" for one in raises)
    majors = [one.name for one in raises if is_other_major(one.current, versions[one.name])]
    risk = f"another major version of {', '.join(majors)}: {RISK}" if majors else RISK
    why = "; ".join(f"{one.name} {one.current} has known vulnerabilities, fixed in {one.floor}" for one in raises)
    return offered(tree, title, texts, about=[one.name for one in raises], why=why, risk=risk)


def _raised(
    tree: Tree,
    manifest: Manifest,
    unit: Unit,
    raises: Sequence[Raise],
    moved_already: Mapping[Line, str],
    versions: Mapping[str, str],
    python: str | None,
) -> dict[Line, str]:
    """New versions of the lines that forbid a fixed one; those chosen elsewhere (`versions`), where they fit.

    Raises Refused where there are none that fit.
    """
    wanted: dict[Line, Raise] = {}
    for line in unit.lines:
        one = next((one for one in raises if one.name == line.name), None)
        specifier = Requirement(line.requirement).specifier
        if one is None or line in moved_already or specifier.contains(one.floor, prereleases=True):
            continue
        if not line.version:
            raise Refused(f"{line.place} asks for {line.name}{specifier}, and it is fixed in {one.floor}: change it")
        if line.operator == ">=" or not _below(line.version, one.floor):
            continue  # what is asked for is above the fixed version
        wanted[line] = one
    if not wanted:
        return {}
    search = Search(tree.tools.resolver, unit, python)
    held = {line: f"=={version}" for line, version in moved_already.items() if line in unit.lines}
    elsewhere = [Window(f"=={versions.get(one.name, one.floor)}") for one in wanted.values()]
    for windows in [tuple(elsewhere), *zip(*(above(one.floor) for one in wanted.values()), strict=True)]:
        chosen = dict(zip(wanted, windows, strict=True))
        floors = {line: window.floor for line, window in chosen.items() if window.floor}
        found = search.nearest({**held, **{line: window.specifier for line, window in chosen.items()}}, floors)
        if found:
            return {line: _as_long(line, found[line]) for line in wanted}
    names = ", ".join(f"{one.name} {one.floor} or later" for one in wanted.values())
    raise Refused(f"{names} does not fit the rest of {manifest.path}")


def _first_above(search: Search, one: Raise, others: Mapping[str, str], lock: Lock) -> str:
    for window in above(one.floor):
        if found := _nearest_in(search, one.name, window, others):
            return found
    raise Refused(f"{one.name} {one.floor} or later does not fit what {lock.path} is made from")


def _below(version: str, floor: str) -> bool:
    return is_version(version) and is_version(floor) and Version(version) < Version(floor)

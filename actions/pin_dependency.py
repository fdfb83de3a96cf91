"""Find the smallest change of pinned versions with which the requirements fit together."""
# ruff: noqa: ARG002 - every action takes what the protocol hands it

import posixpath
import re
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from actions import fix_pull_request
from actions.manifests import Line, Manifest, Tree, manifests, python_of
from actions.moves import moved, moved_in, offered, said_by
from actions.relocking import Lock, locks_of, pinned, renewed
from actions.rivals import spelled
from actions.search import Search
from app.domain.errors import Malformed, Refused
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.repair import Plan, Proof, Repair
from app.ports.plugins import Tools
from app.ports.resolver import Locker, Resolution

TITLE = "Pin versions that fit together"


class PinParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PinDependency:
    kind = "pin_dependency"
    Params: type[BaseModel] = PinParams
    proves = Proof.FIX_BRANCH

    def plan(self, incident: Incident, params: PinParams, tools: Tools) -> Plan:
        tree = Tree(incident, tools)
        python = python_of(tree)
        refusal = "no requirements.txt or pyproject.toml has dependencies"
        unreadable = ""
        try:
            for path, manifest in manifests(tree):
                if isinstance(manifest, Malformed):
                    unreadable = unreadable or str(manifest)
                    continue
                refusal = f"the requirements of {path} fit together"
                for unit in manifest.units:
                    try:
                        search = Search(tools.resolver, unit, python)
                        conflict = search.resolve({})
                        if not conflict.resolved:
                            return _repin(tree, manifest, search, conflict)
                    except Refused as error:
                        return Plan(TITLE, refusal=f"{path}: {error}")
            for lock, explanation in _unfit_locks(tree, python):
                return _compile_again(tree, lock, explanation, python)
        except Malformed as error:
            return Plan(TITLE, refusal=str(error))
        return Plan(TITLE, refusal=unreadable or refusal)

    def apply(self, repair: Repair, params: PinParams, plan: Plan, tools: Tools) -> Outcome:
        return fix_pull_request.propose(repair, plan, tools)

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        return fix_pull_request.withdraw(repair, tools)


def _repin(tree: Tree, manifest: Manifest, search: Search, conflict: Resolution) -> Plan:
    said = said_by(tree.incident)
    movable = [line for line in search.unit.lines if line.pin]
    order = sorted((_first_mention(line, said, conflict.explanation), i) for i, line in enumerate(movable))
    in_conflict = [movable[i] for place, i in order if place < _NOWHERE]
    others = [movable[i] for place, i in order if place == _NOWHERE]
    pins = search.smallest(in_conflict, others)
    if pins is None:
        reason = f"no change of one pin, or of two that conflict, makes {manifest.path} fit together"
        return Plan(TITLE, refusal=f"{reason}: {conflict.explanation[:1000]}")
    why = conflict.explanation[:1000] or "the pinned versions contradict each other"
    return moved(tree, manifest, search, pins, why)


def _unfit_locks(tree: Tree, python: str | None) -> Iterator[tuple[Lock, str]]:
    """Compiled files that cannot be installed although what they were compiled from can: changed by hand, or stale."""
    for lock in locks_of(tree):
        if lock.locker is not Locker.PIP_COMPILE:
            continue
        lines = [f"{name}=={version}" for name, version in pinned(lock.path, tree.text(lock.path) or "").items()]
        answer = tree.tools.resolver.resolve(lines, python=lock.python or python)
        if not answer.resolved:
            yield lock, answer.explanation


def _compile_again(tree: Tree, lock: Lock, explanation: str, python: str | None) -> Plan:
    title = f"Compile {posixpath.basename(lock.path)} again"
    try:
        held = dict.fromkeys(pinned(lock.path, tree.text(lock.path) or ""), "")
        named = {name: "" for name in held if spelled(name).search(explanation)}
        texts = renewed(
            tree, {}, tree.tools.resolver, locks=locks_of(tree), upgrade=named, also=[lock.path], python=python
        )
    except Refused as error:
        return Plan(title, refusal=str(error))
    edits = tree.edits(texts)
    if not edits:
        return Plan(title, refusal=f"{lock.path} comes out the same when it is compiled again: {explanation[:1000]}")
    return offered(tree, title, texts, about=moved_in(tree, texts), why=explanation[:1000])


_NOWHERE = 1 << 30


def _first_mention(line: Line, said: str, explanation: str) -> int:
    """Where the name stands first in the evidence, else in the resolver's explanation."""
    name = re.sub(r"-", "[-_.]+", re.escape(line.name).replace(r"\-", "-"))
    found = re.search(rf"(?<![\w.-]){name}(?![\w-])", f"{said}\n{explanation}", re.IGNORECASE)
    return found.start() if found else _NOWHERE

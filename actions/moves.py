"""A plan that moves versions: the manifests and lockfiles as they will be, proven before they are offered."""

from collections import Counter
from collections.abc import Mapping, Sequence

from actions import fix_pull_request
from actions.manifests import Line, Manifest, Tree, Unit, read
from actions.relocking import locks_of, pinned, renewed
from actions.rivals import rival
from actions.search import Search, unfit
from app.domain.errors import Refused
from app.domain.incident import Incident
from app.domain.repair import Plan

RISK = "another version may behave differently; read its release notes"
PROOF = "everything that changed resolves as a whole; the job that failed passes on the fix branch"

MOST_CHANGED = 1_000  # lines of one file; beyond, nobody reads it, and comparing takes minutes


def offered(
    tree: Tree, title: str, texts: Mapping[str, str], *, about: Sequence[str], why: str, risk: str = RISK
) -> Plan:
    """The plan with these files, unless somebody else is about these packages or the files may not be changed."""
    edits = tree.edits(texts)
    for edit in edits:
        before, after = Counter((edit.before or "").split("\n")), Counter((edit.after or "").split("\n"))
        if (changed := ((before - after) + (after - before)).total()) > MOST_CHANGED:
            return Plan(title, refusal=f"{edit.path} would change in {changed} lines: renew it with your own tool")
    if refusal := rival(about, tree.tools) or fix_pull_request.forbidden(tree.incident, edits, tree.tools.policy):
        return Plan(title, refusal=refusal)
    return Plan(title, why=why, edits=edits, risk=risk, proof=PROOF)


def moved(tree: Tree, manifest: Manifest, search: Search, pins: Mapping[Line, str], why: str, risk: str = RISK) -> Plan:
    """The plan with these new versions and the lockfiles that follow, proven by resolving the files as they will be."""
    told = ", ".join(f"{line.name} from {line.version} to {version}" for line, version in pins.items())
    title, names = f"Move {told}", [line.name for line in pins]
    if refusal := rival(names, tree.tools):
        return Plan(title, refusal=refusal)
    try:
        texts = proven(tree, manifest, search.python, pins)
        upgrade = {line.name: version for line, version in pins.items()}
        texts = renewed(tree, texts, tree.tools.resolver, locks=locks_of(tree), upgrade=upgrade, python=search.python)
    except Refused as error:
        return Plan(title, refusal=str(error))
    return offered(tree, title, texts, about=names, why=why, risk=risk)


def proven(tree: Tree, manifest: Manifest, python: str | None, pins: Mapping[Line, str]) -> dict[str, str]:
    """The manifest's files with these versions. Raises Refused, with the proof, where they do not fit together."""
    texts = manifest.changed(pins)
    # The words of the resolver count for the files as they will be, not for the question that led there.
    edited = read(manifest.path, tree.with_edits(texts))
    concerned = [unit for unit, before in zip(edited.units, manifest.units, strict=True) if _has(before, pins)]
    answer = unfit(tree.tools.resolver, concerned, python)
    if answer is not None:
        raise Refused(f"{manifest.path} still does not fit together: {answer.explanation[:1000]}")
    return texts


def _has(unit: Unit, pins: Mapping[Line, str]) -> bool:
    return any(line in pins for line in unit.lines)


def moved_in(tree: Tree, texts: Mapping[str, str]) -> Sequence[str]:
    """The packages whose version differs in a lockfile."""
    found: dict[str, None] = {}
    for path, text in texts.items():
        before, after = pinned(path, tree.text(path) or ""), pinned(path, text)
        found |= dict.fromkeys(name for name in after if before.get(name, after[name]) != after[name])
    return list(found)


def said_by(incident: Incident) -> str:
    return "\n".join([*(line.text for line in incident.finding.lines), *map(str, incident.finding.facts.values())])

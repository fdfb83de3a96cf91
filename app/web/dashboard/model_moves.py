"""Which version of a model serves, which served before, and what a person may do about it now."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.db.reads.models import PROMOTE, ROLL_BACK, ModelLine, ModelRepair
from app.domain.errors import HealError, Transient
from app.domain.interval import GATE
from app.domain.model import ModelRules
from app.domain.policy import Policy, approvals_for
from app.domain.repair import RepairState
from app.healing import by_hand
from app.healing.by_hand import Asked
from app.healing.kit import Kit
from app.healing.steer import Actor, Answer, Steered, steer
from app.ports.registry import Registry, Version

PREVIOUS = "previous"  # the alias of the version that served before (actions.champions)
SHOWN = 10
_STANDS = frozenset({RepairState.APPLIED, RepairState.DONE, RepairState.PROVEN})


@dataclass(frozen=True, slots=True)
class Listed:
    version: Version
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """What the registry says of a model. `trouble` says why it says nothing: `unknown` (heal.yml cannot be read now),
    `undescribed` (heal.yml describes no such model), `unnamed` (nor what it is called there), `away`, or `refused`,
    with its own words in `why`."""

    name: str = ""
    alias: str = ""
    versions: tuple[Listed, ...] = ()
    champion: int | None = None
    previous: int | None = None
    trouble: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be decided. `asked` waits for approval; `standing` is the promotion that can be taken back; `closed` the
    newest one that its gate has stopped since; `back` is the version that a person may ask to bring back where no
    promotion of ours stands; `people` is how many must say yes."""

    asked: ModelRepair | None = None
    standing: ModelRepair | None = None
    closed: ModelRepair | None = None
    back: int | None = None
    people: int = 1


def registered(kit: Kit, line: ModelLine, policy: Policy | None) -> Registered:
    if policy is None:
        return Registered(trouble="unknown")
    rules = policy.models.get(line.name)
    if rules is None or not rules.registry:
        return Registered(trouble="undescribed" if rules is None else "unnamed")
    known = Registered(rules.registry, rules.champion)
    try:
        return _read(kit.registry.only(line.repository), rules)
    except Transient:
        return Registered(known.name, known.alias, trouble="away")
    except HealError as error:
        return Registered(known.name, known.alias, trouble="refused", why=str(error))


def _read(registry: Registry, rules: ModelRules) -> Registered:
    name = rules.registry
    at = {alias: registry.aliased(name, alias) for alias in dict.fromkeys((rules.champion, PREVIOUS))}
    versions = {version.number: version for version in registry.versions(name, tags={}, most=SHOWN)}
    versions |= {version.number: version for version in at.values() if version is not None}
    listed = tuple(
        Listed(version, tuple(alias for alias, found in at.items() if found is not None and found.number == number))
        for number, version in sorted(versions.items(), reverse=True)
    )
    champion, previous = at[rules.champion], at[PREVIOUS]
    return Registered(
        name,
        rules.champion,
        listed,
        champion=champion.number if champion else None,
        previous=previous.number if previous else None,
    )


def choices(repairs: Sequence[ModelRepair], known: Registered, policy: Policy | None) -> Choices:
    """`repairs`: the newest first."""
    moves = [repair for repair in repairs if repair.remedy.action in (PROMOTE, ROLL_BACK)]
    asked = next((repair for repair in moves if repair.state is RepairState.ASKED), None)
    moved = next((repair for repair in moves if repair.state in _STANDS and not repair.undone and repair.outcome), None)
    standing = moved if moved is not None and moved.remedy.action == PROMOTE else None
    since = moved.id if moved is not None else 0
    closed = next((repair for repair in moves if repair.id > since and _closed(repair)), None)
    back = known.previous if known.previous is not None and known.previous != known.champion else None
    action = asked.remedy.action if asked is not None else ROLL_BACK
    people = approvals_for(policy, action) if policy is not None else 1
    return Choices(asked, standing, closed, back if standing is None else None, people)


def promote(kit: Kit, repairs: Sequence[ModelRepair], who: Actor, repair: str, reason: str) -> Asked:
    """Approve the promotion that waits; `repair` is the number of the one that they have seen."""
    asked = choices(repairs, Registered(), None).asked
    if asked is None or asked.remedy.action != PROMOTE or repair != str(asked.id):
        return Asked(Steered(Answer.TOO_LATE, "This promotion does not wait any more. Look at the model again."))
    return Asked(steer(kit, asked.incident_id, "approve", who, reason=reason), asked.incident_id)


def roll_back(kit: Kit, line: ModelLine, repairs: Sequence[ModelRepair], who: Actor, repair: str, reason: str) -> Asked:
    """Approve the roll back that waits, or undo the promotion that stands: `repair` is the number of the one that they
    have seen. "" where they have seen neither: the version that served before is brought back by hand."""
    may = choices(repairs, Registered(), None)
    if may.asked is not None and may.asked.remedy.action == ROLL_BACK and repair == str(may.asked.id):
        return Asked(steer(kit, may.asked.incident_id, "approve", who, reason=reason), may.asked.incident_id)
    if may.standing is not None and repair == str(may.standing.id):
        return Asked(steer(kit, may.standing.incident_id, "undo", who, reason=reason), may.standing.incident_id)
    if repair or may.standing is not None:
        return Asked(Steered(Answer.TOO_LATE, "Another version serves by now. Look at the model again."))
    return by_hand.roll_back(kit, line.repository_id, line.name, who, reason)


def _closed(repair: ModelRepair) -> bool:
    report = repair.plan.report if repair.plan else {}
    return report.get("kind") == GATE and not report.get("open")

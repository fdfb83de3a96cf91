"""What became of each remedy of an incident: what was done, what was not, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.db.reads import Entry
from app.domain.finding import Remedy
from app.domain.incident import Incident
from app.domain.repair import Repair, RepairState, Verb


class Came(StrEnum):
    """What came of a rung."""

    UNDER_WAY = "under_way"
    ASKED = "asked"
    WAITING = "waiting"  # it stands; the proof is awaited
    WORKED = "worked"
    DONE = "done"  # carried out, and there is nothing to prove
    DISPROVEN = "disproven"
    REFUSED = "refused"  # nothing was changed
    FAILED = "failed"
    REJECTED = "rejected"
    UNDONE = "undone"
    WATCHED = "watched"  # planned only, to be compared with what people do
    LEFT = "left"  # a rule has stopped it
    NOT_REACHED = "not_reached"


_CAME = {
    RepairState.PLANNED: Came.UNDER_WAY,
    RepairState.ASKED: Came.ASKED,
    RepairState.APPLIED: Came.WAITING,
    RepairState.DONE: Came.DONE,
    RepairState.PROVEN: Came.WORKED,
    RepairState.DISPROVEN: Came.DISPROVEN,
    RepairState.SKIPPED: Came.REFUSED,
    RepairState.REJECTED: Came.REJECTED,
    RepairState.UNDONE: Came.UNDONE,
    RepairState.FAILED: Came.FAILED,
    RepairState.SHADOWED: Came.WATCHED,
    RepairState.AGREED: Came.WATCHED,
    RepairState.DIFFERED: Came.WATCHED,
}


@dataclass(frozen=True, slots=True)
class Rung:
    """`why` is prose that the bot wrote down in English; `entry` the entry of the timeline that tells of it."""

    number: int
    action: str
    params: Mapping[str, Any]
    came: Came
    why: str = ""
    entry: int | None = None


def rungs(incident: Incident, repairs: Sequence[Repair], timeline: Sequence[Entry]) -> tuple[Rung, ...]:
    """From the gentlest on."""
    ladder = incident.finding.ladder
    return tuple(_rung(at, remedy, repairs, timeline) for at, remedy in enumerate(ladder))


def _rung(at: int, remedy: Remedy, repairs: Sequence[Repair], timeline: Sequence[Entry]) -> Rung:
    tried = next((each for each in reversed(repairs) if _is_of(each, at, remedy)), None)
    left = next((entry for entry in reversed(timeline) if _left(entry, at, remedy)), None)
    if tried is not None:
        return Rung(at + 1, remedy.action, remedy.params, _CAME[tried.state], _why(tried), left.id if left else None)
    if left is not None:
        return Rung(at + 1, remedy.action, remedy.params, Came.LEFT, str(left.data.get("reason", "")), left.id)
    return Rung(at + 1, remedy.action, remedy.params, Came.NOT_REACHED)


def _is_of(repair: Repair, at: int, remedy: Remedy) -> bool:
    return repair.verb is not Verb.UNDO and repair.rung == at and repair.remedy.action == remedy.action


def _left(entry: Entry, at: int, remedy: Remedy) -> bool:
    data = entry.data
    here = data.get("rung") == at and data.get("action") == remedy.action
    return entry.kind == "decided" and here and data.get("verdict") == "leave"


def _why(repair: Repair) -> str:
    """The last word on a repair."""
    if repair.plan is not None and repair.plan.refusal:
        return repair.plan.refusal
    if reason := repair.proof.get("reason"):
        return str(reason)
    return repair.outcome.title if repair.outcome is not None else (repair.plan.title if repair.plan else "")

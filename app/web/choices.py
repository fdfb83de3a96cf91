"""What may be decided about an incident at this moment, and what stands in the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.db.reads import Entry
from app.db.reads.decisions import Standing, Yes
from app.domain.incident import Signal, State, allows
from app.domain.repair import Repair, RepairState
from app.healing.decide import standing as change_that_stands
from app.healing.steer import DECIDED_KINDS, PLANNED_KINDS


class Hindrance(StrEnum):
    ROLE = "role"  # they may only look
    PAUSED = "paused"
    MUTED = "muted"
    SAID = "said"  # they have said yes, and another person must
    NOTHING = "nothing"  # no change stands that could be taken back


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision that fits the incident's state; `hindrance` is why it cannot be made, None where it can."""

    verb: str
    hindrance: Hindrance | None = None

    @property
    def possible(self) -> bool:
        return self.hindrance is None


@dataclass(frozen=True, slots=True)
class Choices:
    """`asked` is the repair that waits for a person, `yes` who has said yes to it; `stands` is the one whose change
    could be taken back; `seen` is what a decision must name as looked at."""

    offered: tuple[Choice, ...]
    asked: Repair | None
    yes: tuple[Yes, ...]
    stands: Repair | None


def choices(standing: Standing, *, operates: bool, name: str) -> Choices:
    """For somebody called `name`, who may decide (`operates`) or only look."""
    state, repairs = standing.incident.state, standing.repairs
    asked = next((repair for repair in reversed(repairs) if repair.state is RepairState.ASKED), None)
    yes = tuple(each for each in standing.said_yes if asked is not None and each.repair_id == asked.id)
    stands = change_that_stands(repairs)
    offered: list[Choice] = []

    def offer(verb: str, *hindrances: Hindrance | None) -> None:
        rights = None if operates else Hindrance.ROLE
        offered.append(Choice(verb, next((one for one in (rights, *hindrances) if one is not None), None)))

    stopped = (Hindrance.PAUSED if standing.paused else None, Hindrance.MUTED if standing.muted else None)
    if asked is not None and allows(state, Signal.ACTED):
        said = any(each.by == name.lower() for each in yes)
        offer("approve", *stopped, Hindrance.SAID if said else None)
    if allows(state, Signal.REJECTED):
        offer("reject")
    if allows(state, Signal.RETRIED):
        offer("retry", *stopped)
    if stands is not None or state is State.HEALED:
        offer("undo", None if stands is not None else Hindrance.NOTHING)
    offer("unmute" if standing.muted else "mute")
    return Choices(tuple(offered), asked, yes, stands)


def version_of(timeline: Sequence[Entry]) -> int:
    """The newest entry that a decision depends on: who has seen it has seen everything that matters."""
    kinds = {*DECIDED_KINDS, *PLANNED_KINDS}
    return max((entry.id for entry in timeline if entry.kind in kinds), default=0)

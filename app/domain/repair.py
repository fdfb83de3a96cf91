"""A planned remedy, what it would change, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.domain.changes import split, unified
from app.domain.finding import Remedy
from app.domain.outcome import Outcome
from app.domain.run import EndedRun


class RepairState(StrEnum):
    PLANNED = "planned"  # due now: dry run, then apply (or ask)
    ASKED = "asked"  # waits for a person
    APPLIED = "applied"  # waits for proof
    DONE = "done"  # carried out, and there is nothing to prove: an issue, an undo
    PROVEN = "proven"
    DISPROVEN = "disproven"  # the world said no, or said nothing before the deadline
    SKIPPED = "skipped"  # an expected refusal: nothing was changed
    REJECTED = "rejected"  # a person said no
    UNDONE = "undone"
    FAILED = "failed"  # could not be carried out
    SHADOWED = "shadowed"  # what would have been done; people have not answered yet
    AGREED = "agreed"  # people did the same
    DIFFERED = "differed"  # people did something else


FINAL = frozenset(
    {
        RepairState.DONE,
        RepairState.PROVEN,
        RepairState.DISPROVEN,
        RepairState.SKIPPED,
        RepairState.REJECTED,
        RepairState.UNDONE,
        RepairState.FAILED,
        RepairState.AGREED,
        RepairState.DIFFERED,
    }
)


class Verb(StrEnum):
    APPLY = "apply"
    UNDO = "undo"
    SHADOW = "shadow"  # planned and never carried out: it is compared with what people do


@dataclass(frozen=True, slots=True)
class FileEdit:
    """One file, before and after. `before` is None for a new file, `after` None for a deleted one."""

    path: str
    before: str | None
    after: str | None

    def diff(self) -> str:
        """Unified diff, as git writes it."""
        old, new = split(self.before or ""), split(self.after or "")
        from_name = f"a/{self.path}" if self.before is not None else "/dev/null"
        to_name = f"b/{self.path}" if self.after is not None else "/dev/null"
        diff = unified(old, new, from_name, to_name)
        return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in diff)


class Proof(StrEnum):
    """What confirms that an action worked."""

    SAME_RUN = "same_run"  # the job passes in a later attempt of its run
    FIX_BRANCH = "fix_branch"  # the job passes on the fix branch
    OWN = "own"  # the action looks for itself: a training run that ended, an alias that holds
    NOTHING = "nothing"  # it changes nothing that could be confirmed: an escalation


@dataclass(frozen=True, slots=True)
class Intent:
    """What a repair was decided for: it acts on this attempt of this run, at this commit, or not at all.

    `jobs` of the workflow at `workflow_path` must pass to prove it, whatever else the incident has been seen in since.
    """

    run_id: int = 0
    attempt: int = 0
    head_sha: str = ""
    workflow_path: str = ""
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A dry run. Edits, or calls in words; `refusal` says why nothing can be done, and then both are empty.

    `costs` are what it is likely to use, by unit (domain.budget), where that is more than calls to GitHub; `patience_s`
    is how long its proof takes, if that is longer than usual; `report` is what the plan was decided on, for a page of
    its own: `{"kind": "gate", …}`.
    """

    title: str
    why: str = ""
    edits: tuple[FileEdit, ...] = ()
    calls: tuple[str, ...] = ()
    risk: str = ""
    proof: str = ""
    refusal: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    patience_s: int = 0
    report: Mapping[str, Any] = field(default_factory=dict)

    def diff(self) -> str:
        return "".join(edit.diff() for edit in self.edits)


@dataclass(frozen=True, slots=True)
class Look:
    """What an action saw when it looked whether its repair worked. `proven` None: no answer yet; `progress` is what a
    person who waits would like to read; `data` is kept with the proof, and shown. `run`, on a launcher, has ended: that
    is kept as a delivery of its own."""

    proven: bool | None
    reason: str
    url: str = ""
    progress: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    run: EndedRun | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """One rung being climbed (or climbed back: `verb` undo, then `undoes` names the repair).

    `effect_key` makes every side effect of this repair recognisable as its own; `intended_at` is the commit date, so
    that a second try makes the very same commit. From `begun_at` on, `plan` is being applied: a part of it may stand
    on GitHub already, so it is finished and not decided on again.
    """

    incident_id: int
    remedy: Remedy
    rung: int
    effect_key: str
    intended_at: datetime
    id: int = 0
    verb: Verb = Verb.APPLY
    undoes: int | None = None
    state: RepairState = RepairState.PLANNED
    approved_by: str = ""
    intent: Intent = Intent()
    plan: Plan | None = None
    outcome: Outcome | None = None
    proof: Mapping[str, Any] = field(default_factory=dict)
    begun_at: datetime | None = None
    applied_at: datetime | None = None
    proof_deadline: datetime | None = None
    proof_s: int = 6 * 3600
    watch_s: int = 7 * 24 * 3600

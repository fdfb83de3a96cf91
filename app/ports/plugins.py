"""What a detector and an action are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from app.domain.event import Observable
from app.domain.evidence import Evidence, EvidenceBag
from app.domain.finding import Clear, Finding
from app.domain.incident import Incident
from app.domain.outcome import Outcome
from app.domain.policy import Policy
from app.domain.repair import Look, Plan, Proof, Repair
from app.ports.clock import Clock
from app.ports.forge import Forge
from app.ports.launcher import Launcher
from app.ports.notifier import NoNotifier, Notifier
from app.ports.registry import NoRegistry, Registry
from app.ports.resolver import Resolver
from app.ports.workflows import WorkflowCheck


class Detector(Protocol):
    """Pure: looks at an event and its evidence, and claims findings. No network, database, clock, chance or files.

    A `Clear` says that something is well; silence says nothing. Evidence that an event has none of is not in the bag.
    `Settings`, where there are any, is what heal.yml may say at `detectors.<kind>.settings`; every field has a default.
    """

    kind: str
    reacts_to: frozenset[str]
    needs: frozenset[type[Evidence]]

    @property
    def Settings(self) -> type[BaseModel] | None: ...  # noqa: N802 - it is a class

    def detect(self, event: Observable, evidence: EvidenceBag) -> Iterator[Finding | Clear]: ...


class Shelf(Protocol):
    """What actions keep of a repository from one repair to the next, by name: a baseline, what was promoted before."""

    def get(self, name: str) -> Mapping[str, Any] | None: ...
    def put(self, name: str, data: Mapping[str, Any]) -> None:
        """At once, and in place of what stood there. JSON, at most 256 KiB."""
        ...


@dataclass(frozen=True)
class Tools:
    """All that an action may reach of the world, for one incident.

    `pull_text` and `issue_text` render title and body: an action knows what, not how it is told. `marker` is the signed
    mark that makes our own comments and issues recognisable. `guard` raises LeaseLost when the right to act has run
    out: call it right before each write. `ours` are the commits that earlier repairs of this incident made, `repairs`
    all of them, oldest first; `again_at` is when this cause was found last since this repair was applied (None: not).
    `others` are what else was found in the same run. `mending` says whether a run of a launcher (its name, the handle)
    that failed is being repaired: None as long as nobody has looked at it. Without a `workflow_check` no workflow file
    is changed.
    """

    forge: Forge
    incident: Incident
    policy: Policy
    resolver: Resolver
    clock: Clock
    pull_text: Callable[[Repair, Plan], tuple[str, str]]
    issue_text: Callable[[Repair], tuple[str, str]]
    marker: str
    guard: Callable[[], None]
    shelf: Shelf
    ours: frozenset[str] = frozenset()
    repairs: tuple[Repair, ...] = ()
    again_at: datetime | None = None
    others: tuple[Finding, ...] = ()
    mending: Callable[[str, str], bool | None] = lambda _, __: False
    workflow_check: WorkflowCheck | None = None
    registry: Registry = field(default_factory=NoRegistry)
    launchers: Mapping[str, Launcher] = field(default_factory=dict)
    notifier: Notifier = field(default_factory=NoNotifier)


class Action(Protocol):
    """One kind of repair."""

    kind: str
    Params: type[BaseModel]
    proves: Proof

    def plan(self, incident: Incident, params: Any, tools: Tools) -> Plan:
        """A dry run: what would change. No side effect. A `refusal` in the plan is an expected no."""
        ...

    def apply(self, repair: Repair, params: Any, plan: Plan, tools: Tools) -> Outcome:
        """Do it. Called twice, one effect. NEUTRAL or SKIPPED for an expected refusal; raises for trouble only."""
        ...

    def undo(self, repair: Repair, tools: Tools) -> Outcome:
        """Take `repair` (which was applied) back. Called twice, one effect."""
        ...


@runtime_checkable
class Lifts(Protocol):
    """An action whose repair is meant for a while: its undo takes it back when the time is over."""

    def lift(self, repair: Repair, forge: Forge, now: datetime) -> Plan:
        """What would be taken back, after the merge; a `refusal` says why not yet. No side effect."""
        ...


@runtime_checkable
class Looks(Protocol):
    """An action whose proof is `Proof.OWN`: it looks for itself."""

    def look(self, repair: Repair, params: Any, tools: Tools) -> Look:
        """Whether the repair worked. Asked again and again until it says yes or no, or the deadline has passed."""
        ...

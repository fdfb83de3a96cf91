"""The truth: every delivery, incident, repair and side effect, and who is working on what."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from app.domain.access import Role
from app.domain.audit import Act
from app.domain.budget import Amounts
from app.domain.delivery import Delivery, DeliveryState, Kept
from app.domain.effect import Effect
from app.domain.finding import Remedy
from app.domain.incident import Incident, Past
from app.domain.policy import History, Switch
from app.domain.repair import Repair
from app.domain.tenant import Repository
from app.ports.models import Models
from app.ports.queue import Work


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one row until `until_monotonic` (seconds of `time.monotonic`, already shortened to 0.8 of
    the lease). `token` is the fence: a write under an older token is refused. `attempts` counts this claim too;
    `crashes` counts earlier claims that ended without a word.
    `cause` is the GUID of the delivery that all this follows from: of the delivery itself, or of the one under whose
    lease the repair or effect was last asked for. `delivery` is what was claimed, if it is one and can be
    read."""

    work: Work
    row_id: int
    token: int
    until_monotonic: float
    attempts: int
    crashes: int = 0
    cause: str = ""
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened to an incident, for people: `kind` is constant, `data` varies."""

    incident_id: int
    at: datetime
    kind: str
    data: Mapping[str, Any]
    delivery_id: int | None = None
    id: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """All that is known of one incident."""

    incident: Incident
    repairs: tuple[Repair, ...]
    timeline: tuple[TimelineEntry, ...]


class Ledger(Protocol):
    """One transaction. Nothing in it is visible to anyone before the `with` block ends without an error."""

    @property
    def models(self) -> Models:
        """Models, their windows, kept samples."""
        ...

    # deliveries
    def delivery(self, delivery_id: int) -> Delivery: ...
    def drop_body(self, delivery_id: int, headers: Mapping[str, str]) -> None:
        """What was taken in is not kept as it came; `headers` says what became of it."""

    def finish_delivery(self, delivery_id: int, state: DeliveryState, reason: str = "") -> None: ...
    def keep(self, delivery: Delivery) -> None:
        """One that the bot makes itself, once by (source, GUID), if this transaction comes to its end."""

    # tenants
    def remember_repository(self, repository: Repository) -> None:
        """Insert or update by GitHub's id."""

    def remember_installation(self, installation_id: int, account: str, selection: str) -> None:
        """Insert or update by GitHub's id; what is "" stays as it is known."""

    def forget_repositories(self, ids: Sequence[int], *, erase: bool = False) -> None:
        """The App was removed from them: cancel what is not finished there. `erase`: have `Store.erase` do away with
        what was kept of them until now."""

    def forget_installation(self, installation_id: int, *, erase: bool = False) -> None:
        """The same of all its repositories, and of what belongs to the installation itself."""

    def repository(self, repository_id: int) -> Repository | None: ...
    def repository_named(self, full_name: str) -> Repository | None: ...

    # incidents
    def incident(self, incident_id: int) -> Incident:
        """Locked until the end of the transaction, as by `find_incident`: two decisions never cross."""
        ...

    def incident_numbered(self, incident_id: int) -> Incident | None:
        """Like `incident`, for a number that a person typed."""
        ...

    def find_incident(self, repository_id: int, fingerprint: str) -> Incident | None: ...
    def add_incident(self, incident: Incident) -> Incident:
        """With its id. If another transaction opened the same (repository, fingerprint) first, that one is returned."""
        ...

    def past(self, repository_id: int, kind: str, fingerprint: str, run_id: int) -> Past:
        """What is known of a finding's fingerprint in the repository, on whichever branch, but for this run."""
        ...

    def save_incident(self, incident: Incident) -> None: ...
    def incidents_at(
        self, repository_id: int, *, branch: str | None = None, head_sha: str | None = None
    ) -> list[Incident]: ...
    def incidents_asking(self, repository_id: int, kind: str) -> list[Incident]:
        """Those of that cause that wait for a person, oldest first, at most 100."""
        ...

    def incident_of_pull(self, repository_id: int, number: int) -> Incident | None: ...
    def incident_of_issue(self, repository_id: int, number: int) -> Incident | None: ...
    def incident_of_fix_branch(self, repository_id: int, branch: str) -> Incident | None: ...

    # repairs
    def add_repair(self, repair: Repair) -> Repair:
        """With its id, due now. `effect_key` is unique: asked for twice, the first one is returned."""
        ...

    def repair(self, repair_id: int) -> Repair: ...
    def repairs_of(self, incident_id: int) -> list[Repair]:
        """Oldest first."""
        ...

    def save_repair(self, repair: Repair, *, due_at: datetime | None) -> None:
        """Write it, and when somebody should look at it next (None: never again by itself).

        Under the repair's own lease, None or a time to come ends the lease; a time that has come means that the work
        goes on, and `Store.release` ends it. Without it, whoever holds the repair loses it: LeaseLost at their next
        write.
        """
        ...

    def approve(self, repair_id: int, by: str) -> list[str]:
        """One person's yes, kept once; all who have said yes, the first one first."""
        ...

    def withdraw_approvals(self, repair_id: int) -> None:
        """What they said yes to is not what would be done any more."""

    def repairs_awaiting_proof(self, repository_id: int) -> list[Repair]: ...
    def wake_repair(self, repair_id: int) -> None:
        """Due now."""
        ...

    # effects
    def want_effect(self, effect: Effect) -> int:
        """Ask for a side effect; returns its row's id. See domain.effect.Effect on equal keys."""
        ...

    def effect(self, effect_id: int) -> Effect: ...
    def settle_effect(self, effect: Effect, remote_id: str) -> None:
        """Done, unless it was asked for again meanwhile (`revision`): then it stays due."""
        ...

    # knowledge
    def history(self, repository_id: int, incident_id: int, run_id: int, remedy: Remedy | None = None) -> History:
        """For that incident of the repository; the breaker is that of the remedy's action."""
        ...

    def reserve(self, repair: Repair, amounts: Amounts) -> None:
        """Write down what it is likely to use, before it begins. Reserved again: the same row."""
        ...

    def settle(self, repair: Repair, amounts: Amounts) -> None:
        """Write down what it has used, in place of what was reserved. Nothing told of a unit: nothing was used."""
        ...

    def unfinished_repairs(self) -> frozenset[str]:
        """The effect keys of all repairs, anywhere, that are not over."""
        ...

    def merged_repairs(self, repository_id: int, actions: Sequence[str]) -> list[Repair]:
        """Proven repairs by these actions whose pull request was merged, oldest first, at most 100."""
        ...

    def in_hand(self, repository_id: int) -> list[Repair]:
        """Repairs that stand or are being carried out: begun, applied, or proven and not merged. The repository is
        locked until the end of the transaction: two begin one after the other."""
        ...

    def note(self, incident_id: int, kind: str, data: Mapping[str, Any], delivery_id: int | None = None) -> None:
        """Append to the incident's timeline."""

    def record(self, incident_id: int) -> Record: ...
    def entries_after(self, incident_id: int, entry_id: int) -> list[TimelineEntry]:
        """What was appended to the incident's timeline since that entry, oldest first."""
        ...

    def shelved(self, repository_id: int, name: str) -> Mapping[str, Any] | None:
        """What an action has kept of a repository under that name."""
        ...

    def shelve(self, repository_id: int, name: str, data: Mapping[str, Any]) -> None: ...
    def switch_on(self, switch: Switch) -> None: ...
    def switch_off(self, scope: str) -> None: ...
    def most_of(self, installation_id: int, account_id: int) -> Role | None:
        """What somebody may do there at most, as the installation's admins have said; None: what GitHub lets them."""
        ...

    def audit(self, act: Act) -> None:
        """Write down what somebody did. The last thing in a transaction: those that write here queue up."""

    def now(self) -> datetime:
        """The database's clock when this transaction first asked, aware UTC: due times are told by it alone."""
        ...

    def ring_after_commit(self, work: Work, row_id: int) -> None:
        """Ring once this transaction is durable. `add_repair`, `wake_repair` and `want_effect` do it themselves."""


class Store(Protocol):
    def keep(self, deliveries: Sequence[Delivery]) -> list[Kept]:
        """Keep deliveries durably in one transaction, each once by (source, GUID); then ring. In the order given.

        An already kept delivery is not fresh; unless it was finished, it is made due again.
        Raises Unreachable when the database is away.
        """
        ...

    def known(self, guids: Sequence[str]) -> set[str]:
        """Which of these deliveries are kept here."""
        ...

    def repositories(self) -> list[Repository]:
        """Those on which the App is installed now."""
        ...

    def selection(self, installation_id: int) -> str:
        """`all` or `selected` repositories, "" as long as nothing has said."""
        ...

    def prune(self, *, older_than_s: float) -> int:
        """Drop the bodies of finished deliveries older than that (the GUID stays, as a tombstone); how many. Those of
        the schedule are dropped whole: their period is over. So is what is kept of the models, series and tokens of
        repositories that the App was removed from that long ago."""
        ...

    def erase(self, repositories: Collection[int] | None = None, *, batches: int = 400) -> Mapping[str, int]:
        """Do away with what is to be erased (see `Ledger.forget_repositories`), of these repositories or wherever, in
        that many small transactions at most; how many rows of each kind. What is left is taken up by the next call."""
        ...

    def begin(self, lease: Lease | None = None) -> AbstractContextManager[Ledger]:
        """A transaction. With a lease it is fenced: LeaseLost, and nothing written, if the row is no longer ours."""
        ...

    def claim(self, work: Work, row_id: int | None = None) -> Lease | None:
        """Take one due row (that one, or the oldest of the fairest mailbox); None when there is none."""
        ...

    def renew(self, lease: Lease) -> Lease:
        """Extend. Raises LeaseLost."""
        ...

    def release(self, lease: Lease) -> None:
        """The step is over: end the lease, if it is still ours, and leave the row due as it was last said to be.

        Finishing a delivery, settling an effect and `save_repair` with a later time have done so already.
        """
        ...

    def hand_back(self, lease: Lease) -> None:
        """Give the row back untouched (stopping): due at once, the attempt not counted."""
        ...

    def retry(self, lease: Lease, error: str, *, at: datetime | None, counts: bool) -> bool:
        """Not now, but `at`, or (None) after an exponential delay with full jitter, 1 s to 15 min.

        `counts` False gives the attempt back. Returns False when that was the last try: the row is dead now.
        """
        ...

    def bury(self, lease: Lease, error: str) -> None:
        """Put the row aside with its error; `redrive` brings it back."""
        ...

    def put_aside(self, work: Work) -> list[tuple[int, str]]:
        """Buried rows that nobody has finished since: id and error."""
        ...

    def redrive(self, work: Work, row_id: int, act: Act | None = None) -> bool:
        """Due again, all attempts given back: a row that was put aside, or a delivery that was worked off and whose
        body is still kept. `act` is told to the audit log. False: there is no such row, and nothing is told."""
        ...

    def due(self, work: Work, limit: int, *, overdue_s: float = 0.0) -> list[int]:
        """Ids of rows that could be claimed now and have been due for at least `overdue_s`."""
        ...

    def secret(self, name: str) -> bytes:
        """A secret of this installation, made at random when it is first asked for, and steady from then on."""
        ...

    def mark(self, name: str, at: datetime) -> None:
        """Remember how far something has come."""

    def marked(self, name: str) -> datetime | None: ...

    def take_turn(self, name: str, every_s: float) -> bool:
        """True for exactly one caller in each period: the schedule of the sweep. Told by the database's clock."""
        ...

"""One transaction on the store."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy import delete as delete_from

from app.db.audit import add as add_act
from app.db.dialect import insert, insert_for
from app.db.engine import db_now
from app.db.erase import want_erased
from app.db.knowledge import Knowledge, reserve, settle
from app.db.leases import FREED, ROWS, next_in
from app.db.models import SqlModels
from app.db.rows import (
    delivery_of,
    effect_of,
    incident_of,
    incident_values,
    mailbox_of,
    packed,
    repair_of,
    repair_values,
    repository_of,
)
from app.db.tables import (
    ApprovalRow,
    DeliveryRow,
    EffectRow,
    IncidentRow,
    InstallationRow,
    MemberRow,
    RepairRow,
    RepositoryRow,
    ShelfRow,
    SwitchRow,
    TimelineRow,
)
from app.domain.access import Role
from app.domain.audit import Act
from app.domain.budget import Amounts
from app.domain.delivery import OBSERVATIONS, Delivery, DeliveryState
from app.domain.effect import Effect
from app.domain.finding import Remedy
from app.domain.incident import ACTIVE, Incident, Past, State
from app.domain.policy import MUTE, History, Switch, repository_scope
from app.domain.repair import FINAL, Repair, RepairState, Verb
from app.domain.tenant import Repository
from app.ports.queue import Work
from app.ports.store import Lease, Record, TimelineEntry

DAY_S = 24 * 3600.0
_UNTRIED = [RepairState.PLANNED, RepairState.ASKED, RepairState.SKIPPED, RepairState.REJECTED]


class SqlLedger:
    """Made by SqlStore.begin, which commits and then rings what `rings` holds. `now` is the time, if it is known."""

    def __init__(self, connection: Connection, lease: Lease | None = None, now: datetime | None = None) -> None:
        self._connection = connection
        self._lease = lease
        self._now = now
        self._homes: dict[int, int] = {}
        self._cause = lease.cause if lease is not None else ""
        self._rings: dict[tuple[Work, int], None] = {}

    @property
    def rings(self) -> Iterable[tuple[Work, int]]:
        return self._rings.keys()

    @property
    def models(self) -> SqlModels:
        return SqlModels(self._connection)

    # deliveries
    def delivery(self, delivery_id: int) -> Delivery:
        return delivery_of(self._one(DeliveryRow, delivery_id))

    def drop_body(self, delivery_id: int, headers: Mapping[str, str]) -> None:
        this = update(DeliveryRow).where(DeliveryRow.id == delivery_id)
        self._connection.execute(this.values(body=b"", headers=dict(headers)))

    def finish_delivery(self, delivery_id: int, state: DeliveryState, reason: str = "") -> None:
        finished = {"this": delivery_id, "state": state.value, "reason": reason}
        self._let_go(Work.DELIVERY, _finish_delivery(), finished)
        if state is DeliveryState.IGNORED:
            self._drop_ignored(DeliveryRow.id == delivery_id)

    def keep(self, delivery: Delivery) -> None:
        told = {name: getattr(delivery, name) for name in ("guid", "source", "event", "action", "repository")}
        homes = {name: getattr(delivery, name) for name in ("installation_id", "repository_id")}
        mailbox = mailbox_of(delivery.installation_id, delivery.repository_id, delivery.source)
        add = insert(self._connection, DeliveryRow).values(
            **told, **homes, mailbox=mailbox, headers=dict(delivery.headers), body=packed(delivery.body)
        )
        add = add.values(received_at=db_now(), state=DeliveryState.READY.value, due_at=db_now())
        row_id = self._connection.scalar(add.on_conflict_do_nothing().returning(DeliveryRow.id))
        if row_id is not None:
            self.ring_after_commit(Work.DELIVERY, row_id)

    def _drop_ignored(self, *which: ColumnElement[bool]) -> None:
        """Rows of a model's data are not kept where nothing will be made of them."""
        ignored = DeliveryRow.state == DeliveryState.IGNORED.value
        these = update(DeliveryRow).where(*which, ignored, DeliveryRow.source == OBSERVATIONS)
        self._connection.execute(these.values(body=b"", headers={}))

    # tenants
    def remember_repository(self, repository: Repository) -> None:
        self._homes[repository.id] = repository.installation_id
        told = (repository.full_name, repository.default_branch, repository.installation_id, repository.owner)
        known = self._connection.execute(_known_repository(), {"this": repository.id}).first()
        if known is not None and tuple(known) == told:
            return  # nearly always; and nobody waits for another's transaction to end
        home = insert(self._connection, InstallationRow).values(
            id=repository.installation_id, account=repository.owner, added_at=db_now()
        )
        self._connection.execute(
            home.on_conflict_do_update(index_elements=["id"], set_={"account": repository.owner, "removed_at": None})
        )
        values: dict[str, Any] = {
            "full_name": repository.full_name,
            "installation_id": repository.installation_id,
            "default_branch": repository.default_branch,
        }
        add = insert(self._connection, RepositoryRow).values(id=repository.id, added_at=db_now(), **values)
        self._connection.execute(add.on_conflict_do_update(index_elements=["id"], set_={**values, "removed_at": None}))

    def remember_installation(self, installation_id: int, account: str, selection: str) -> None:
        told = {"removed_at": None} | {
            name: value for name, value in (("account", account), ("selection", selection)) if value
        }
        new = {"id": installation_id, "account": account, "selection": selection, "added_at": db_now()}
        home = insert(self._connection, InstallationRow).values(**new)
        self._connection.execute(home.on_conflict_do_update(index_elements=["id"], set_=told))

    def forget_repositories(self, ids: Sequence[int], *, erase: bool = False) -> None:
        gone = update(RepositoryRow).where(RepositoryRow.id.in_(ids), RepositoryRow.removed_at.is_(None))
        self._connection.execute(gone.values(removed_at=db_now()))
        self._cancel(Work.DELIVERY, DeliveryRow.repository_id.in_(ids), DeliveryRow.state == DeliveryState.READY.value)
        unfinished = RepairRow.state.not_in([state.value for state in FINAL])
        self._drop_ignored(DeliveryRow.repository_id.in_(ids))
        self._cancel(Work.REPAIR, RepairRow.repository_id.in_(ids), unfinished)
        self._cancel(Work.EFFECT, EffectRow.repository_id.in_(ids), EffectRow.state == "wanted")
        active = IncidentRow.state.in_([state.value for state in ACTIVE])
        quiet = update(IncidentRow).where(IncidentRow.repository_id.in_(ids), active)
        self._connection.execute(quiet.values(state=State.DISMISSED.value, updated_at=db_now()))
        if erase:
            want_erased(self._connection, "repository", ids)

    def forget_installation(self, installation_id: int, *, erase: bool = False) -> None:
        here = select(RepositoryRow.id).where(RepositoryRow.installation_id == installation_id)
        self.forget_repositories(list(self._connection.scalars(here)), erase=erase)
        ready = DeliveryRow.state == DeliveryState.READY.value
        self._cancel(Work.DELIVERY, DeliveryRow.installation_id == installation_id, ready)
        self._drop_ignored(DeliveryRow.installation_id == installation_id)
        gone = update(InstallationRow).where(InstallationRow.id == installation_id)
        self._connection.execute(gone.values(removed_at=db_now()))
        if erase:
            want_erased(self._connection, "installation", [installation_id])

    def _cancel(self, work: Work, *which: ColumnElement[bool]) -> None:
        """Finish rows unworked. Who holds one is fenced off, except ourselves."""
        row = ROWS[work]
        final: dict[Work, dict[str, Any]] = {
            Work.DELIVERY: {
                "state": DeliveryState.IGNORED.value,
                "reason": "the App was removed",
                "finished_at": db_now(),
            },
            Work.REPAIR: {"state": RepairState.SKIPPED.value, "ended_at": db_now()},
            Work.EFFECT: {"state": "cancelled"},
        }
        cancelled = {**final[work], **FREED, "due_at": None, "lease_token": row.lease_token + 1}
        ours = self._lease.row_id if self._lease is not None and self._lease.work is work else 0
        self._connection.execute(update(row).where(*which, row.id != ours).values(**cancelled))

    def repository(self, repository_id: int) -> Repository | None:
        return self._repository(RepositoryRow.id == repository_id)

    def repository_named(self, full_name: str) -> Repository | None:
        return self._repository(func.lower(RepositoryRow.full_name) == full_name.lower())

    def _repository(self, which: ColumnElement[bool]) -> Repository | None:
        newest = select(RepositoryRow).where(which, RepositoryRow.removed_at.is_(None))
        row = self._connection.execute(newest.order_by(RepositoryRow.added_at.desc())).first()
        return None if row is None else repository_of(row)

    # incidents
    def incident(self, incident_id: int) -> Incident:
        return incident_of(self._one(IncidentRow, incident_id, lock=True))

    def incident_numbered(self, incident_id: int) -> Incident | None:
        return self._incident(IncidentRow.id == incident_id)

    def find_incident(self, repository_id: int, fingerprint: str) -> Incident | None:
        wanted = {"this_repository": repository_id, "this_fingerprint": fingerprint}
        row = self._connection.execute(_find_incident(), wanted).first()
        return None if row is None else incident_of(row)

    def add_incident(self, incident: Incident) -> Incident:
        new_id = self._connection.scalar(_add_incident(self._connection.dialect.name), incident_values(incident))
        if new_id is not None:
            return replace(incident, id=new_id)
        found = self.find_incident(incident.repository_id, incident.fingerprint)
        if found is None:
            raise LookupError(f"incident {incident.fingerprint} vanished while it was added")
        return found

    def past(self, repository_id: int, kind: str, fingerprint: str, run_id: int) -> Past:
        same = IncidentRow.finding["fingerprint"].as_string() == fingerprint
        alike = select(IncidentRow.id).where(IncidentRow.repository_id == repository_id, IncidentRow.kind == kind, same)
        seen_in = TimelineRow.data["run_id"].as_integer()
        seen = select(func.count(func.distinct(seen_in))).where(
            TimelineRow.incident_id.in_(alike), TimelineRow.kind == "found", seen_in != run_id
        )
        healed = select(RepairRow.action, RepairRow.pull_number, RepairRow.ended_at).where(
            RepairRow.incident_id.in_(alike), RepairRow.state == RepairState.PROVEN, RepairRow.verb == Verb.APPLY
        )
        newest = healed.order_by(RepairRow.ended_at.desc(), RepairRow.id.desc()).limit(1)
        last = self._connection.execute(newest).first()
        return Past(self._connection.scalar(seen) or 0, *(last or ()))

    def save_incident(self, incident: Incident) -> None:
        changed = {"this": incident.id, **incident_values(incident)}
        if self._connection.execute(_save_incident(), changed).rowcount != 1:
            raise LookupError(f"there is no incident {incident.id}")

    def incidents_at(
        self, repository_id: int, *, branch: str | None = None, head_sha: str | None = None
    ) -> list[Incident]:
        found = select(IncidentRow).where(IncidentRow.repository_id == repository_id)
        if branch is not None:
            found = found.where(IncidentRow.branch == branch)
        if head_sha is not None:
            found = found.where(IncidentRow.head_sha == head_sha)
        rows = self._connection.execute(found.order_by(IncidentRow.id).with_for_update())
        return [incident_of(row) for row in rows]

    def incidents_asking(self, repository_id: int, kind: str) -> list[Incident]:
        row = IncidentRow
        which = (row.repository_id == repository_id, row.kind == kind, row.state == State.AWAITING_APPROVAL.value)
        found = select(row).where(*which).order_by(row.id).limit(100)
        return [incident_of(each) for each in self._connection.execute(found.with_for_update())]

    def incident_of_pull(self, repository_id: int, number: int) -> Incident | None:
        opened = exists().where(RepairRow.incident_id == IncidentRow.id, RepairRow.pull_number == number)
        return self._incident(
            IncidentRow.repository_id == repository_id, or_(IncidentRow.pull_number == number, opened)
        )

    def incident_of_issue(self, repository_id: int, number: int) -> Incident | None:
        return self._incident(IncidentRow.repository_id == repository_id, IncidentRow.issue_number == number)

    def incident_of_fix_branch(self, repository_id: int, branch: str) -> Incident | None:
        prefix, _, fingerprint = branch.partition("/")
        return self.find_incident(repository_id, fingerprint) if prefix == "heal" else None

    def _incident(self, *which: ColumnElement[bool]) -> Incident | None:
        newest = select(IncidentRow).where(*which).order_by(IncidentRow.id.desc()).limit(1)
        row = self._connection.execute(newest.with_for_update()).first()
        return None if row is None else incident_of(row)

    # repairs
    def add_repair(self, repair: Repair) -> Repair:
        incident = self._one(IncidentRow, repair.incident_id)
        values = {
            **repair_values(repair),
            "repository_id": incident.repository_id,
            "mailbox": mailbox_of(incident.installation_id, incident.repository_id),
            "due_at": db_now(),
            "cause": self._cause,
        }
        add = insert(self._connection, RepairRow).values(**values)
        key = ["effect_key"]
        new_id = self._connection.scalar(add.on_conflict_do_nothing(index_elements=key).returning(RepairRow.id))
        row = self._connection.execute(select(RepairRow).where(RepairRow.effect_key == repair.effect_key)).one()
        if new_id is not None:
            self.ring_after_commit(Work.REPAIR, new_id)
        return repair_of(row)

    def repair(self, repair_id: int) -> Repair:
        return repair_of(self._one(RepairRow, repair_id, lock=True))

    def repairs_of(self, incident_id: int) -> list[Repair]:
        return [repair_of(row) for row in self._connection.execute(_repairs_of(), {"this_incident": incident_id})]

    def save_repair(self, repair: Repair, *, due_at: datetime | None) -> None:
        row = RepairRow
        before = self._one(row, repair.id, lock=True)
        ended = repair.state in FINAL
        values = {
            **repair_values(repair),
            "ended_at": (before.ended_at or db_now()) if ended else None,
            "due_at": due_at,
            "attempts": 0,
            "crashes": 0,
        }
        ours = self._lease is not None and (self._lease.work, self._lease.row_id) == (Work.REPAIR, repair.id)
        goes_on = due_at is not None and due_at <= self.now()
        if ours and not goes_on and before.woken and due_at is not None:
            values |= {"due_at": db_now(), "woken": False}
            self.ring_after_commit(Work.REPAIR, repair.id)
        if not ours:
            values |= {**FREED, "lease_token": row.lease_token + 1}
            if goes_on:
                self.ring_after_commit(Work.REPAIR, repair.id)
        elif not goes_on:
            values |= FREED
        changed = update(row).where(row.id == repair.id).values(**values).returning(row.mailbox)
        self._let_go(Work.REPAIR, changed)

    def approve(self, repair_id: int, by: str) -> list[str]:
        row = ApprovalRow
        add = insert(self._connection, row).values(repair_id=repair_id, by=by, at=db_now())
        self._connection.execute(add.on_conflict_do_nothing(index_elements=["repair_id", "by"]))
        said = select(row.by).where(row.repair_id == repair_id).order_by(row.at, row.by)
        return list(self._connection.scalars(said))

    def withdraw_approvals(self, repair_id: int) -> None:
        self._connection.execute(delete_from(ApprovalRow).where(ApprovalRow.repair_id == repair_id))

    def repairs_awaiting_proof(self, repository_id: int) -> list[Repair]:
        rows = self._connection.execute(_repairs_awaiting_proof(), {"this_repository": repository_id})
        return [repair_of(row) for row in rows]

    def wake_repair(self, repair_id: int) -> None:
        leased = RepairRow.lease_until.is_not(None)
        wake = update(RepairRow).where(RepairRow.id == repair_id, RepairRow.buried_at.is_(None))
        self._connection.execute(wake.values(due_at=db_now(), woken=leased, cause=self._cause))
        self.ring_after_commit(Work.REPAIR, repair_id)

    # effects
    def want_effect(self, effect: Effect) -> int:
        asked = {
            "key": effect.key,
            "kind": effect.kind.value,
            "repository_id": effect.repository_id,
            "incident_id": effect.incident_id,
            "request": dict(effect.request),
            "mailbox": self._mailbox(effect.repository_id),
            "cause": self._cause,
            "remote_id": effect.remote_id,
        }
        effect_id = int(self._connection.execute(_want_effect(self._connection.dialect.name), asked).scalar_one())
        self.ring_after_commit(Work.EFFECT, effect_id)
        return effect_id

    def effect(self, effect_id: int) -> Effect:
        return effect_of(self._one(EffectRow, effect_id, lock=True))

    def settle_effect(self, effect: Effect, remote_id: str) -> None:
        row = EffectRow
        done = row.revision == effect.revision
        settled = {
            "remote_id": remote_id,
            "state": case((done, "done"), else_=row.state),
            "due_at": case((done, null()), else_=db_now()),
            "done_at": db_now(),
            "attempts": 0,
            "crashes": 0,
            **FREED,
        }
        settle = update(row).where(row.id == effect.id).values(**settled).returning(row.mailbox)
        self._let_go(Work.EFFECT, settle)

    # knowledge
    def history(self, repository_id: int, incident_id: int, run_id: int, remedy: Remedy | None = None) -> History:
        """Counted are repairs with verb `apply`.

        open_pulls: of other incidents, not merged and not closed. A next rung goes into the pull request that is there.
        reruns_of_run: applied, by an action named `rerun…`, to this run. attempts_of_fingerprint: intended in the last
        24 h for this incident and really tried (not planned, asked, skipped or rejected). disproven_at: when one for
        this incident was disproven last. spent: of each unit within its period.
        """
        wanted = {
            "this_repository": repository_id,
            "this_incident": incident_id,
            "this_run": run_id,
            "this_scope": repository_scope(repository_id),
            "these_mutes": f"{MUTE}{repository_id}:",
        }
        rows = self._connection.execute(_history(), wanted).all()
        counted = rows[0]
        on = [Switch(each.scope, each.by, each.at, each.reason) for each in rows if each.scope]
        past = Knowledge(self._connection, repository_id, incident_id)
        failures, failed_at = past.failures_in_row(remedy.action) if remedy else (0, None)
        return History(
            open_pulls=counted.open_pulls,
            reruns_of_run=counted.reruns_of_run,
            attempts_of_fingerprint=counted.attempts,
            oldest_attempt_at=counted.oldest_attempt_at,
            disproven_at=counted.disproven_at,
            switches=tuple(switch for switch in on if not switch.scope.startswith(MUTE)),
            muted=next((switch for switch in on if switch.scope.startswith(MUTE)), None),
            spent=past.spent(),
            failures_in_row=failures,
            failed_at=failed_at,
            closed_unmerged=past.closed_unmerged(),
            twin=past.twin(),
            tracks=past.tracks(),
        )

    def reserve(self, repair: Repair, amounts: Amounts) -> None:
        reserve(self._connection, repair.id, amounts)

    def settle(self, repair: Repair, amounts: Amounts) -> None:
        settle(self._connection, repair.id, amounts)

    def unfinished_repairs(self) -> frozenset[str]:
        over = [state.value for state in FINAL]
        return frozenset(self._connection.scalars(select(RepairRow.effect_key).where(RepairRow.state.not_in(over))))

    def merged_repairs(self, repository_id: int, actions: Sequence[str]) -> list[Repair]:
        row, incident = RepairRow, IncidentRow
        found = (
            select(row)
            .join(incident, incident.id == row.incident_id)
            .where(
                *(row.repository_id == repository_id, row.verb == Verb.APPLY.value, row.action.in_(actions)),
                *(row.state == RepairState.PROVEN.value, row.pull_number.is_not(None), incident.merged_at.is_not(None)),
            )
        )
        return [repair_of(each) for each in self._connection.execute(found.order_by(row.id).limit(100))]

    def in_hand(self, repository_id: int) -> list[Repair]:
        # not against rows that only refer to it: they are added in transactions that hold what this one waits for
        lock = select(RepositoryRow.id).where(RepositoryRow.id == repository_id).with_for_update(key_share=True)
        self._connection.execute(lock)
        row, incident = RepairRow, IncidentRow
        waiting = and_(
            row.state == RepairState.PROVEN.value, row.pull_number == incident.pull_number, incident.merged_at.is_(None)
        )
        begun = and_(row.state == RepairState.PLANNED.value, row.begun_at.is_not(None))
        which = or_(begun, row.state == RepairState.APPLIED.value, waiting)
        found = select(row).join(incident, incident.id == row.incident_id)
        here = (row.repository_id == repository_id, row.verb == Verb.APPLY.value, which)
        return [repair_of(each) for each in self._connection.execute(found.where(*here).order_by(row.id))]

    def note(self, incident_id: int, kind: str, data: Mapping[str, Any], delivery_id: int | None = None) -> None:
        entry = {"incident_id": incident_id, "kind": kind, "data": dict(data), "delivery_id": delivery_id}
        entry["actor"] = str(data.get("by", "")).lower()
        self._connection.execute(_note(self._connection.dialect.name), entry)

    def entries_after(self, incident_id: int, entry_id: int) -> list[TimelineEntry]:
        row = TimelineRow
        newer = select(row).where(row.incident_id == incident_id, row.id > entry_id).order_by(row.id)
        return [_entry(each) for each in self._connection.execute(newer)]

    def record(self, incident_id: int) -> Record:
        incident = incident_of(self._one(IncidentRow, incident_id))
        repairs = select(RepairRow).where(RepairRow.incident_id == incident_id).order_by(RepairRow.id)
        timeline = select(TimelineRow).where(TimelineRow.incident_id == incident_id).order_by(TimelineRow.id)
        return Record(
            incident=incident,
            repairs=tuple(repair_of(row) for row in self._connection.execute(repairs)),
            timeline=tuple(_entry(row) for row in self._connection.execute(timeline)),
        )

    def shelved(self, repository_id: int, name: str) -> Mapping[str, Any] | None:
        which = (ShelfRow.repository_id == repository_id, ShelfRow.name == name)
        found: Mapping[str, Any] | None = self._connection.scalar(select(ShelfRow.data).where(*which))
        return found

    def shelve(self, repository_id: int, name: str, data: Mapping[str, Any]) -> None:
        values = {"data": dict(data), "updated_at": db_now()}
        add = insert(self._connection, ShelfRow).values(repository_id=repository_id, name=name, **values)
        self._connection.execute(add.on_conflict_do_update(index_elements=["repository_id", "name"], set_=values))

    def switch_on(self, switch: Switch) -> None:
        values = {"by": switch.by, "at": switch.at, "reason": switch.reason}
        add = insert(self._connection, SwitchRow).values(scope=switch.scope, **values)
        self._connection.execute(add.on_conflict_do_update(index_elements=["scope"], set_=values))

    def switch_off(self, scope: str) -> None:
        self._connection.execute(delete_from(SwitchRow).where(SwitchRow.scope == scope))

    def most_of(self, installation_id: int, account_id: int) -> Role | None:
        row = MemberRow
        said = select(row.role).where(row.installation_id == installation_id, row.account_id == account_id)
        role = self._connection.scalar(said)
        return Role(role) if role else None

    def audit(self, act: Act) -> None:
        add_act(self._connection, act)

    def now(self) -> datetime:
        if self._now is None:
            self._now = self._connection.execute(_NOW).scalar_one()
        return self._now

    def ring_after_commit(self, work: Work, row_id: int) -> None:
        self._rings[work, row_id] = None

    # how it is done
    def _one(self, row: Any, row_id: int, *, lock: bool = False) -> Row[Any]:
        found = self._connection.execute(_by_id(row, lock), {"this": row_id}).first()
        if found is None:
            raise LookupError(f"there is no row {row_id} in {row.__tablename__}")
        return found

    def _mailbox(self, repository_id: int) -> str:
        if repository_id not in self._homes:
            home = self._connection.scalar(_home_of(), {"this": repository_id})
            if home is None:
                return mailbox_of(None, repository_id)
            self._homes[repository_id] = home
        return mailbox_of(self._homes[repository_id], repository_id)

    def _let_go(self, work: Work, change: Update, values: Mapping[str, Any] | None = None) -> None:
        """Run a change that may end a lease, and ring for the row of the same mailbox that waited for it."""
        mailbox = self._connection.scalar(change, values)
        if mailbox is None:
            raise LookupError(f"there is no such {work}")
        following = next_in(self._connection, work, mailbox)
        if following is not None:
            self.ring_after_commit(work, following)


def _entry(row: Row[Any]) -> TimelineEntry:
    return TimelineEntry(row.incident_id, row.at, row.kind, row.data, row.delivery_id, row.id)


# The statements that every delivery needs, built once: that costs more than to execute them.
_NOW = select(db_now())


@cache
def _by_id(row: Any, lock: bool) -> Select[Any]:
    found = select(row).where(row.id == bindparam("this"))
    return found.with_for_update() if lock else found


@cache
def _finish_delivery() -> Update:
    row = DeliveryRow
    finished = {
        "state": bindparam("state"),
        "reason": bindparam("reason"),
        "finished_at": db_now(),
        "due_at": None,
        **FREED,
    }
    return update(row).where(row.id == bindparam("this")).values(**finished).returning(row.mailbox)


@cache
def _known_repository() -> Select[str, str, int, str]:
    row, home = RepositoryRow, InstallationRow
    return (
        select(row.full_name, row.default_branch, row.installation_id, home.account)
        .join_from(row, home, home.id == row.installation_id)
        .where(row.id == bindparam("this"), row.removed_at.is_(None), home.removed_at.is_(None))
    )


@cache
def _home_of() -> Select[Any]:
    return select(RepositoryRow.installation_id).where(RepositoryRow.id == bindparam("this"))


@cache
def _find_incident() -> Select[Any]:
    here = IncidentRow.repository_id == bindparam("this_repository")
    this = IncidentRow.fingerprint == bindparam("this_fingerprint")
    return select(IncidentRow).where(here, this).with_for_update()


@cache
def _add_incident(dialect: str) -> Any:
    add = insert_for(dialect, IncidentRow.__table__)
    return add.on_conflict_do_nothing(index_elements=["repository_id", "fingerprint"]).returning(IncidentRow.id)


@cache
def _save_incident() -> Update:
    table: Any = IncidentRow.__table__
    return update(table).where(table.c.id == bindparam("this"))


@cache
def _repairs_of() -> Select[Any]:
    these = select(RepairRow).where(RepairRow.incident_id == bindparam("this_incident"))
    return these.order_by(RepairRow.id).with_for_update()


@cache
def _repairs_awaiting_proof() -> Select[Any]:
    here = RepairRow.repository_id == bindparam("this_repository")
    these = select(RepairRow).where(here, RepairRow.state == RepairState.APPLIED.value)
    return these.order_by(RepairRow.id).with_for_update()


@cache
def _want_effect(dialect: str) -> Any:
    fixed = {"state": "wanted", "due_at": db_now(), "wanted_at": db_now()}
    add = insert_for(dialect, EffectRow.__table__).values(revision=1, **fixed)
    told = ("kind", "repository_id", "incident_id", "request", "mailbox", "cause")
    again = {"revision": EffectRow.revision + 1, "buried_at": None, "attempts": 0, "crashes": 0}
    asked = {**fixed, **{name: add.excluded[name] for name in told}, **again}
    return add.on_conflict_do_update(index_elements=["key"], set_=asked).returning(EffectRow.id)


@cache
def _note(dialect: str) -> Any:
    return insert_for(dialect, TimelineRow.__table__).values(at=db_now())


@cache
def _history() -> Select[Any]:
    """One row, or one for each switch that is on."""
    row, incident = RepairRow, IncidentRow
    applies = row.verb == Verb.APPLY.value
    here = and_(applies, row.repository_id == bindparam("this_repository"))
    of_incident = and_(applies, row.incident_id == bindparam("this_incident"))
    open_pulls = select(func.count(incident.id)).where(
        incident.repository_id == bindparam("this_repository"),
        incident.id != bindparam("this_incident"),
        incident.pull_number.is_not(None),
        incident.merged_at.is_(None),
    )
    rerun = and_(row.run_id == bindparam("this_run"), row.action.startswith("rerun"), row.applied_at.is_not(None))
    tried = and_(row.state.not_in([state.value for state in _UNTRIED]), row.intended_at > db_now(-DAY_S))
    counted: dict[str, Select[Any]] = {
        "open_pulls": open_pulls,
        "reruns_of_run": select(func.count(row.id)).where(here, rerun),
        "attempts": select(func.count(row.id)).where(of_incident, tried),
        "oldest_attempt_at": select(func.min(row.intended_at)).where(of_incident, tried),
        "disproven_at": select(func.max(row.ended_at)).where(of_incident, row.state == RepairState.DISPROVEN.value),
    }
    switch = SwitchRow
    one = select(literal(1).label("one")).subquery()
    kind = select(incident.kind).where(incident.id == bindparam("this_incident")).scalar_subquery()
    mute = bindparam("these_mutes", type_=String) + kind
    on = or_(switch.scope == "app", switch.scope == bindparam("this_scope"), switch.scope == mute)
    return (
        select(
            *(query.scalar_subquery().label(name) for name, query in counted.items()),
            *(switch.scope, switch.by, switch.at, switch.reason),
        )
        .select_from(one.outerjoin(switch, on))
        .order_by(switch.scope)
    )

"""The store on SQLite and PostgreSQL."""

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import zstandard
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased

from app.db import audit
from app.db.audit import Act
from app.db.dialect import insert
from app.db.engine import db_now, naming_absence, reading, writing
from app.db.erase import erase
from app.db.leases import (
    ALIVE,
    DEAD,
    FREED,
    ROWS,
    all_claimable,
    change_held,
    held,
    hold_fast,
    next_in,
    next_turn,
    taking,
)
from app.db.ledger import SqlLedger
from app.db.models import forget_removed
from app.db.rows import ZSTD_LEVEL, delivery_of, mailbox_of, packed, repository_of
from app.db.tables import (
    AnswerRow,
    DeliveryRow,
    InstallationRow,
    MarkRow,
    RefreshRow,
    RepositoryRow,
    SecretRow,
    SessionRow,
    SignInRow,
    TurnRow,
    json_text,
    storable,
)
from app.domain.delivery import OBSERVATIONS, Delivery, DeliveryState, Kept
from app.domain.errors import Unreachable
from app.domain.repair import FINAL
from app.domain.tenant import Repository
from app.ports.queue import Doorbell, Work
from app.ports.store import Lease

MAX_CRASHES = 3
RETRY_CAP_S = 900.0
_DAY_S = 24 * 3600.0
_PERSONAL: tuple[tuple[Any, float], ...] = (  # whoever writes there tidies up as well; but perhaps nobody does any more
    (AnswerRow.at, _DAY_S),
    (SignInRow.expires_at, _DAY_S),
    (RefreshRow.expires_at, _DAY_S),
    (SessionRow.expires_at, 7 * _DAY_S),
)
_KEEP_MARKS_S = 90 * 24 * 3600.0  # since when a runner is away; those of runners that are gone are left behind
SAFE_PART = 0.8  # of a lease: work stops before others may take the row

_KEEP_POSTGRESQL = """
INSERT INTO deliveries (guid, source, event, action, installation_id, repository_id, repository, mailbox, headers, body,
                        received_at, state, due_at)
SELECT guid, source, event, action, installation_id, repository_id, repository, mailbox, headers::json, body,
       coalesce(received_at, statement_timestamp()), 'ready', statement_timestamp()
FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::text[], %b::text[],
            %b::text[], %b::bytea[], %b::timestamptz[])
     WITH ORDINALITY AS kept (guid, source, event, action, installation_id, repository_id, repository, mailbox, headers,
                              body, received_at, place)
ORDER BY place
ON CONFLICT (source, guid) DO NOTHING
RETURNING id, source, guid, EXISTS (
    SELECT FROM deliveries AS older WHERE older.mailbox = deliveries.mailbox AND older.id < deliveries.id
                                      AND older.due_at IS NOT NULL AND older.lease_until IS NULL) AS behind
"""

R_ = TypeVar("R_")


class SqlStore:
    """`lease_s`: how long a claim holds without a renewal. `max_attempts`: claims before a row is put aside.
    `owner` names this process in the rows that it works on."""

    def __init__(
        self, engine: Engine, doorbell: Doorbell, *, lease_s: float = 30.0, max_attempts: int = 8, owner: str = ""
    ) -> None:
        self._engine = engine
        self._doorbell = doorbell
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._served = dict.fromkeys(Work, "")
        self._threads = threading.local()
        self._secrets: dict[str, bytes] = {}

    # deliveries
    def keep(self, deliveries: Sequence[Delivery]) -> list[Kept]:
        bodies = [packed(delivery.body, self._packer()) for delivery in deliveries]
        if self._engine.dialect.name == "postgresql":
            rows = self._keep_postgresql(deliveries, bodies)
        else:
            rows = self._again(lambda connection: _keep_sqlite(connection, deliveries, bodies))
        kept = {(source, guid): Kept(row_id, guid, fresh=True) for row_id, source, guid, _ in rows}
        # whoever lets the one before it go rings for one that is behind
        behind = {row_id for row_id, _, _, waits in rows if waits}
        names = [_name(delivery) for delivery in deliveries]
        missing = set(names) - kept.keys()
        if missing:
            kept |= self._again(lambda connection: _revive(connection, missing))
        answers = []
        rings = dict[str | int, int]()
        for delivery, name in zip(deliveries, names, strict=True):
            answer = kept[name]
            answers.append(answer)
            if not answer.fresh:
                rings.setdefault(answer.id, answer.id)
                continue
            kept[name] = Kept(answer.id, answer.guid, fresh=False)  # a twin in the same batch is not fresh
            if answer.id not in behind:
                rings.setdefault(
                    mailbox_of(delivery.installation_id, delivery.repository_id, delivery.source), answer.id
                )
        for row_id in dict.fromkeys(rings.values()):
            self._doorbell.ring(Work.DELIVERY, row_id)
        return answers

    def known(self, guids: Sequence[str]) -> set[str]:
        with reading(self._engine) as connection:
            return set(connection.scalars(select(DeliveryRow.guid).where(DeliveryRow.guid.in_(guids))))

    def prune(self, *, older_than_s: float) -> int:
        finished = DeliveryRow.state.in_([DeliveryState.DONE.value, DeliveryState.IGNORED.value])
        with writing(self._engine) as connection:
            over = DeliveryRow.finished_at < db_now(-older_than_s)
            # rows of a model's data are not kept, not even to be tried once more
            dead = and_(DeliveryRow.source == OBSERVATIONS, DeliveryRow.buried_at < db_now(-older_than_s))
            connection.execute(delete(DeliveryRow).where(finished, over, DeliveryRow.source == "schedule"))
            forget_removed(connection, older_than_s)
            for ends_at, after_s in _PERSONAL:
                connection.execute(delete(ends_at.class_).where(ends_at < db_now(-after_s)))
            gone = MarkRow.at < db_now(-_KEEP_MARKS_S)
            connection.execute(delete(MarkRow).where(MarkRow.name.startswith("runner:", autoescape=True), gone))
            return connection.execute(
                update(DeliveryRow)
                .where(or_(and_(finished, over), dead), func.length(DeliveryRow.body) > 0)
                .values(body=b"", headers={})
            ).rowcount

    def repositories(self) -> list[Repository]:
        with reading(self._engine) as connection:
            rows = connection.execute(select(RepositoryRow).where(RepositoryRow.removed_at.is_(None)))
            return [repository_of(row) for row in rows]

    def selection(self, installation_id: int) -> str:
        wanted = select(InstallationRow.selection).where(InstallationRow.id == installation_id)
        with reading(self._engine) as connection:
            return connection.scalar(wanted) or ""

    def erase(self, repositories: Collection[int] | None = None, *, batches: int = 400) -> Mapping[str, int]:
        return erase(self._engine, repositories, batches)

    # transactions
    @contextmanager
    def begin(self, lease: Lease | None = None) -> Iterator[SqlLedger]:
        with writing(self._engine) as connection:
            if lease is not None:
                ledger = SqlLedger(connection, lease, hold_fast(connection, lease))
            else:
                ledger = SqlLedger(connection)
            yield ledger
        for work, row_id in ledger.rings:
            self._doorbell.ring(work, row_id)

    # claims
    def claim(self, work: Work, row_id: int | None = None) -> Lease | None:
        started = time.monotonic()
        taken = self._again(lambda connection: self._claim(connection, work, row_id))
        if taken is None:
            return None
        self._served[work] = taken.mailbox
        until = started + SAFE_PART * self._lease_s
        delivery = _readable(taken) if work is Work.DELIVERY else None
        return Lease(work, taken.id, taken.lease_token, until, taken.attempts, taken.crashes, taken.cause, delivery)

    def _claim(self, connection: Connection, work: Work, row_id: int | None) -> Any:
        """Mailboxes take turns in the order of their names, from the one that this process served last."""
        if row_id is not None:
            return self._take(connection, work, row_id)
        last = self._served[work]
        for later in (True, False):
            passed = ""
            while True:
                found = connection.execute(next_turn(work, later=later), {"last": last, "passed": passed}).first()
                if found is None:
                    break
                taken = self._take(connection, work, found.id)
                if taken is not None:
                    return taken
                passed = found.mailbox  # another worker is about to take it, or it has just been put aside
        return None

    def _take(self, connection: Connection, work: Work, row_id: int) -> Any:
        wanted = {"row_id": row_id, "lease_s": self._lease_s, "owner": self._owner}
        taken = connection.execute(taking(work), wanted).first()
        if taken is None:
            return None
        error = self._poison(taken.attempts, taken.crashes)
        if error is None:
            return taken
        _bury(connection, Lease(work, taken.id, taken.lease_token, 0.0, taken.attempts), error)
        following = next_in(connection, work, taken.mailbox)
        return None if following is None else self._take(connection, work, following)

    def _poison(self, attempts: int, crashes: int) -> str | None:
        if crashes >= MAX_CRASHES:
            return f"{crashes} workers ended without a word while they worked on it"
        if attempts > self._max_attempts:
            return f"not done after {self._max_attempts} attempts"
        return None

    def renew(self, lease: Lease) -> Lease:
        started = time.monotonic()
        with writing(self._engine) as connection:
            change_held(connection, lease, lease_until=db_now(self._lease_s))
        until = started + SAFE_PART * self._lease_s
        return replace(lease, until_monotonic=until)

    def release(self, lease: Lease) -> None:
        with writing(self._engine) as connection:
            row = ROWS[lease.work]
            freed = update(row).where(held(lease)).values(**FREED).returning(row.mailbox)
            mailbox = connection.scalar(freed)
            following = None if mailbox is None else next_in(connection, lease.work, mailbox)
        self._ring(lease.work, following)

    def hand_back(self, lease: Lease) -> None:
        with writing(self._engine) as connection:
            row = ROWS[lease.work]
            values = {**FREED, "due_at": db_now(), "attempts": _given_back(row)}
            mailbox = connection.scalar(update(row).where(held(lease)).values(**values).returning(row.mailbox))
            following = None if mailbox is None else next_in(connection, lease.work, mailbox)
        self._ring(lease.work, following)

    def retry(self, lease: Lease, error: str, *, at: datetime | None, counts: bool) -> bool:
        with writing(self._engine) as connection:
            row = ROWS[lease.work]
            alive = not counts or lease.attempts < self._max_attempts
            if alive:
                values = {**FREED, "last_error": error, "due_at": at or db_now(_delay_s(lease.attempts))}
                mailbox = change_held(
                    connection, lease, **values, attempts=row.attempts if counts else _given_back(row)
                )
            else:
                mailbox = _bury(connection, lease, error)
            following = next_in(connection, lease.work, mailbox)
        self._ring(lease.work, following)
        return alive

    def bury(self, lease: Lease, error: str) -> None:
        with writing(self._engine) as connection:
            mailbox = _bury(connection, lease, error)
            following = next_in(connection, lease.work, mailbox)
        self._ring(lease.work, following)

    def put_aside(self, work: Work) -> list[tuple[int, str]]:
        row = ROWS[work]
        final = [state.value for state in FINAL] if work is Work.REPAIR else []
        with reading(self._engine) as connection:
            buried = select(row.id, row.last_error).where(row.buried_at.is_not(None), row.state.not_in(final))
            return [(row_id, error) for row_id, error in connection.execute(buried)]

    def redrive(self, work: Work, row_id: int, act: Act | None = None) -> bool:
        with writing(self._engine) as connection:
            row = ROWS[work]
            revived = {**ALIVE[work], "due_at": db_now(), "buried_at": None, "attempts": 0, "crashes": 0}
            again: ColumnElement[bool] = row.buried_at.is_not(None)
            if work is Work.DELIVERY:  # one that was worked off can be worked off again while its body is kept
                finished = DeliveryRow.state.in_([DeliveryState.DONE.value, DeliveryState.IGNORED.value])
                again = or_(again, and_(finished, func.length(DeliveryRow.body) > 0))
            revive = update(row).where(row.id == row_id, again)
            found = connection.scalar(revive.values(**revived).returning(row.id))
            if found is not None and act is not None:
                audit.add(connection, act)
        self._ring(work, found)
        return found is not None

    def due(self, work: Work, limit: int, *, overdue_s: float = 0.0) -> list[int]:
        with reading(self._engine) as connection:
            return list(connection.scalars(all_claimable(work, overdue_s).limit(limit)))

    def take_turn(self, name: str, every_s: float) -> bool:
        with writing(self._engine) as connection:
            first = insert(connection, TurnRow).values(name=name, next_at=db_now(every_s))
            if connection.scalar(first.on_conflict_do_nothing().returning(TurnRow.name)) is not None:
                return True
            passed = update(TurnRow).where(TurnRow.name == name, TurnRow.next_at <= db_now())
            return connection.scalar(passed.values(next_at=db_now(every_s)).returning(TurnRow.name)) is not None

    def secret(self, name: str) -> bytes:
        if name not in self._secrets:
            with writing(self._engine) as connection:
                first = insert(connection, SecretRow).values(name=name, value=secrets.token_bytes(32))
                connection.execute(first.on_conflict_do_nothing())
                found = connection.execute(select(SecretRow.value).where(SecretRow.name == name))
                self._secrets[name] = found.scalar_one()
        return self._secrets[name]

    def mark(self, name: str, at: datetime) -> None:
        with writing(self._engine) as connection:
            first = insert(connection, MarkRow).values(name=name, at=at)
            connection.execute(first.on_conflict_do_update(index_elements=["name"], set_={"at": at}))

    def marked(self, name: str) -> datetime | None:
        with reading(self._engine) as connection:
            return connection.scalar(select(MarkRow.at).where(MarkRow.name == name))

    # how it is done
    def _ring(self, work: Work, row_id: int | None) -> None:
        if row_id is not None:
            self._doorbell.ring(work, row_id)

    def _again(self, transaction: Callable[[Connection], R_]) -> R_:
        """One transaction, once more when the first try met a connection that had died unnoticed in the pool."""
        try:
            with writing(self._engine) as connection:
                return transaction(connection)
        except Unreachable as error:
            if not getattr(error.__cause__, "connection_invalidated", False):
                raise
            with writing(self._engine) as connection:
                return transaction(connection)

    def _keep_postgresql(self, deliveries: Sequence[Delivery], bodies: Sequence[bytes]) -> Sequence[Any]:
        """One statement that is its own transaction: one round trip instead of three. Again as in `_again`."""
        columns = (
            [storable(delivery.guid) for delivery in deliveries],
            [storable(delivery.source) for delivery in deliveries],
            [storable(delivery.event) for delivery in deliveries],
            [storable(delivery.action) for delivery in deliveries],
            [delivery.installation_id for delivery in deliveries],
            [delivery.repository_id for delivery in deliveries],
            [storable(delivery.repository) for delivery in deliveries],
            [mailbox_of(delivery.installation_id, delivery.repository_id, delivery.source) for delivery in deliveries],
            [json_text(dict(delivery.headers)) if delivery.headers else "{}" for delivery in deliveries],
            bodies,
            [delivery.received_at for delivery in deliveries],
        )
        try:
            return self._alone(columns)
        except Unreachable as error:
            if not getattr(error.__cause__, "connection_invalidated", False):
                raise
            return self._alone(columns)

    def _alone(self, columns: tuple[Any, ...]) -> Sequence[Any]:
        """On a connection that stays with this thread: taking it from the pool each time costs more than the rows."""
        with naming_absence():
            connection: Connection | None = getattr(self._threads, "connection", None)
            if connection is None:
                connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._threads.connection = None
            try:
                rows = connection.exec_driver_sql(_KEEP_POSTGRESQL, columns).all()
                connection.commit()
            except DBAPIError:
                connection.close()
                raise
            self._threads.connection = connection
            return rows

    def _packer(self) -> zstandard.ZstdCompressor:
        if not hasattr(self._threads, "packer"):
            self._threads.packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        packer: zstandard.ZstdCompressor = self._threads.packer
        return packer


def _readable(row: Row[Any]) -> Delivery | None:
    """None for a body that cannot be unpacked: whoever works on it then loads it, and the error counts as theirs."""
    try:
        return delivery_of(row)
    except zstandard.ZstdError:
        return None


def _name(delivery: Delivery) -> tuple[str, str]:
    return storable(delivery.source), storable(delivery.guid)


def _given_back(row: Any) -> ColumnElement[int]:
    """Attempts without this one, which progress may have set back to none already."""
    return case((row.attempts > 0, row.attempts - 1), else_=0)


def _bury(connection: Connection, lease: Lease, error: str) -> str:
    values = {**FREED, **DEAD[lease.work], "due_at": None, "buried_at": db_now(), "last_error": error}
    return change_held(connection, lease, **values)


def _delay_s(attempts: int) -> float:
    longest = min(RETRY_CAP_S, 2.0 ** min(attempts, 20))
    return max(1.0, random.uniform(0.0, longest))  # noqa: S311 - spreads load, keeps no secret


def _keep_sqlite(connection: Connection, deliveries: Sequence[Delivery], bodies: Sequence[bytes]) -> Sequence[Any]:
    rows = []
    older = aliased(DeliveryRow)
    waits = exists().where(
        older.mailbox == DeliveryRow.mailbox,
        older.id < DeliveryRow.id,
        older.due_at.is_not(None),
        older.lease_until.is_(None),
    )
    behind = select(DeliveryRow.id, DeliveryRow.source, DeliveryRow.guid, waits)
    for delivery, body in zip(deliveries, bodies, strict=True):
        add = insert(connection, DeliveryRow).values(
            guid=delivery.guid,
            source=delivery.source,
            event=delivery.event,
            action=delivery.action,
            installation_id=delivery.installation_id,
            repository_id=delivery.repository_id,
            repository=delivery.repository,
            mailbox=mailbox_of(delivery.installation_id, delivery.repository_id, delivery.source),
            headers=dict(delivery.headers),
            body=body,
            received_at=delivery.received_at or db_now(),
            state=DeliveryState.READY.value,
            due_at=db_now(),
        )
        row_id = connection.scalar(add.on_conflict_do_nothing().returning(DeliveryRow.id))
        if row_id is not None:
            rows.append(connection.execute(behind.where(DeliveryRow.id == row_id)).one())
    return rows


def _revive(connection: Connection, names: set[tuple[str, str]]) -> dict[tuple[str, str], Kept]:
    """What was kept before: due again unless it was finished. A row in somebody's hands only stays due."""
    kept = {}
    for source, guid in sorted(names):
        this = (DeliveryRow.source == source, DeliveryRow.guid == guid)
        row = connection.execute(select(DeliveryRow.id, DeliveryRow.state).where(*this).with_for_update()).one()
        kept[source, guid] = Kept(row.id, guid, fresh=False)
        if row.state == DeliveryState.DEAD:
            revived = {**ALIVE[Work.DELIVERY], "due_at": db_now(), "buried_at": None, "attempts": 0, "crashes": 0}
            connection.execute(update(DeliveryRow).where(DeliveryRow.id == row.id).values(**revived))
        elif row.state == DeliveryState.READY:
            connection.execute(update(DeliveryRow).where(DeliveryRow.id == row.id).values(due_at=db_now()))
    return kept

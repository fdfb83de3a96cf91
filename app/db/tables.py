"""The tables. Rows end in `Row`; the domain's values are made from them in rows.py.

Three tables hold work (`Leased`): deliveries, repairs, effects. A row can be claimed when `due_at` has come and no
lease is in force; `due_at` is null when nothing is to be done by itself.
"""

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

Key = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself for INTEGER only


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC on the Python side; `timestamptz` in PostgreSQL, ISO text of fixed width in SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=dialect.name != "sqlite"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} says no time zone; times are aware UTC")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text from anywhere. PostgreSQL holds neither NUL nor a lone surrogate: both become U+FFFD on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else storable(value)


def storable(value: str) -> str:
    if "\x00" in value:
        value = value.replace("\x00", "\ufffd")
    try:
        value.encode()
    except UnicodeEncodeError:
        value = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in value)
    return value


def json_text(value: Any) -> str:
    """JSON in ASCII: whatever a repository wrote, the text can be stored."""
    return json.dumps(value, separators=(",", ":"))


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own idiom
        str: Words(),
        datetime: UtcTime(),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
        bytes: LargeBinary(),
        bool: Boolean(),
        int: Integer(),
        float: Double(),
    }


class Leased:
    """What a row needs to be claimed. `state` says what the row is, these columns when and by whom it is worked on.

    `mailbox` is what must stay in order and be treated fairly: of one mailbox one row is leased at a time, the oldest
    that is due first. `lease_until` is null when nobody holds the row; one that has passed is a crash. `lease_token`
    only grows. `attempts` counts claims since the row last got ahead, `crashes` those that ended without a word.
    `buried_at` is set while the row is put aside with its `last_error`.
    """

    mailbox: Mapped[str] = mapped_column(String(64))
    due_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    lease_token: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    lease_owner: Mapped[str] = mapped_column(default="", server_default="")
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    crashes: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    last_error: Mapped[str] = mapped_column(default="", server_default="")
    buried_at: Mapped[datetime | None]


def _lease_indexes(table: str) -> tuple[Index, ...]:
    """For the claim: what is due by mailbox and by time, and who is leased (a handful of rows); what was put aside."""
    due, leased = text("due_at IS NOT NULL"), text("lease_until IS NOT NULL")
    buried = text("buried_at IS NOT NULL")
    return (
        Index(f"ix_{table}_claim", "mailbox", "id", postgresql_where=due, sqlite_where=due),
        Index(f"ix_{table}_due", "due_at", postgresql_where=due, sqlite_where=due),
        Index(f"ix_{table}_leased", "mailbox", postgresql_where=leased, sqlite_where=leased),
        Index(f"ix_{table}_buried", "id", postgresql_where=buried, sqlite_where=buried),
    )


class DeliveryRow(Leased, Base):
    """A webhook. `state` is a DeliveryState; `body` the raw body, zstd-compressed; `reason` why it was ignored."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("source", "guid"),
        Index("ix_deliveries_received", "received_at"),
        Index("ix_deliveries_repository", "repository_id", "id"),
        Index("ix_deliveries_installation", "installation_id", "id"),
        Index("ix_deliveries_state", "state", "id"),
        Index("ix_deliveries_event", "event", "id"),
        *_lease_indexes("deliveries"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    guid: Mapped[str]
    source: Mapped[str]
    event: Mapped[str]
    action: Mapped[str]
    installation_id: Mapped[int | None] = mapped_column(BigInteger)
    repository_id: Mapped[int | None] = mapped_column(BigInteger)
    repository: Mapped[str] = mapped_column(default="")
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes]
    received_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(default="", server_default="")
    finished_at: Mapped[datetime | None]


class InstallationRow(Base):
    """`selection` is GitHub's: `all` or `selected` repositories, empty as long as nothing has said."""

    __tablename__ = "installations"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    account: Mapped[str]
    selection: Mapped[str] = mapped_column(String(16), default="", server_default="")
    added_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class RepositoryRow(Base):
    __tablename__ = "repositories"
    __table_args__ = (Index("ix_repositories_name", "full_name"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    full_name: Mapped[str]
    installation_id: Mapped[int] = mapped_column(ForeignKey("installations.id"), index=True)
    default_branch: Mapped[str]
    added_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class IncidentRow(Base):
    """`finding` is a Finding (codec.py); `kind`, `severity`, `detector` and `summary` repeat it for lists."""

    __tablename__ = "incidents"
    __table_args__ = (
        UniqueConstraint("repository_id", "fingerprint"),
        Index("ix_incidents_state", "state", "id"),
        Index("ix_incidents_repository", "repository_id", "id", postgresql_include=["state"]),  # counted by state
        Index("ix_incidents_detector", "detector", "id"),
        Index("ix_incidents_kind", "kind", "id"),
        Index("ix_incidents_branch", "repository_id", "branch"),
        Index("ix_incidents_sha", "repository_id", "head_sha"),
        Index("ix_incidents_updated", "updated_at"),
        Index("ix_incidents_opened", "opened_at"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    repository_id: Mapped[int] = mapped_column(BigInteger)
    installation_id: Mapped[int] = mapped_column(BigInteger, index=True)
    repository: Mapped[str]
    branch: Mapped[str]
    fingerprint: Mapped[str]
    kind: Mapped[str]
    severity: Mapped[str]
    detector: Mapped[str]
    summary: Mapped[str]
    finding: Mapped[dict[str, Any]]
    head_sha: Mapped[str]
    run_id: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int]
    workflow_path: Mapped[str]
    run_url: Mapped[str]
    state: Mapped[str] = mapped_column(String(32))
    rung: Mapped[int]
    pull_number: Mapped[int | None]
    issue_number: Mapped[int | None]
    opened_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    healed_at: Mapped[datetime | None]
    merged_at: Mapped[datetime | None]
    watch_until: Mapped[datetime | None]


class RepairRow(Leased, Base):
    """`remedy`, `plan`, `outcome` and `proof` are the domain's values (codec.py); `action`, `pull_number`, `run_id`
    repeat remedy.action, outcome.data["pull"] and outcome.data["run_id"] for lists and limits.
    `woken` remembers a wake that came while the row was leased. `ended_at` is when `state` became final. `cause` is the
    GUID of the delivery under which it was last asked for."""

    __tablename__ = "repairs"
    __table_args__ = (
        UniqueConstraint("effect_key"),
        Index("ix_repairs_incident", "incident_id"),
        Index("ix_repairs_action", "action", "incident_id"),
        Index("ix_repairs_repository", "repository_id", "state"),
        Index("ix_repairs_cause", "cause"),
        Index("ix_repairs_ended", "ended_at"),
        *_lease_indexes("repairs"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incidents.id"))
    repository_id: Mapped[int] = mapped_column(BigInteger)
    effect_key: Mapped[str]
    action: Mapped[str]
    remedy: Mapped[dict[str, Any]]
    rung: Mapped[int]
    verb: Mapped[str] = mapped_column(String(16))
    undoes: Mapped[int | None] = mapped_column(ForeignKey("repairs.id"))
    state: Mapped[str] = mapped_column(String(16))
    approved_by: Mapped[str]
    intent: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    outcome: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    proof: Mapped[dict[str, Any]]
    pull_number: Mapped[int | None]
    run_id: Mapped[int | None] = mapped_column(BigInteger)
    intended_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    applied_at: Mapped[datetime | None]
    proof_deadline: Mapped[datetime | None]
    proof_s: Mapped[int]
    watch_s: Mapped[int]
    ended_at: Mapped[datetime | None]
    woken: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    cause: Mapped[str] = mapped_column(default="", server_default="")


class EffectRow(Leased, Base):
    """The outbox. `state` is wanted, done, dead or cancelled. `revision` counts how often it was asked for, `cause` is
    the GUID of the delivery under which it was, last."""

    __tablename__ = "effects"
    __table_args__ = (
        UniqueConstraint("key"),
        Index("ix_effects_incident", "incident_id"),
        Index("ix_effects_repository", "repository_id"),
        Index("ix_effects_cause", "cause"),
        *_lease_indexes("effects"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    key: Mapped[str]
    kind: Mapped[str] = mapped_column(String(16))
    repository_id: Mapped[int] = mapped_column(BigInteger)
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incidents.id"))
    request: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(default=1)
    remote_id: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(String(16))
    wanted_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    cause: Mapped[str] = mapped_column(default="", server_default="")


class TimelineRow(Base):
    """What happened to an incident, for people. `actor` is who did it (data["by"]) in lower case, empty for nobody."""

    __tablename__ = "timeline"
    __table_args__ = (
        Index("ix_timeline_incident", "incident_id", "id"),
        Index("ix_timeline_delivery", "delivery_id"),
        Index("ix_timeline_kind", "kind", "at"),
        Index("ix_timeline_actor", "actor", "incident_id"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incidents.id"))
    at: Mapped[datetime]
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    delivery_id: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(default="", server_default="")


class SpendingRow(Base):
    """What a repair has reserved of a budget, and once it is settled, used."""

    __tablename__ = "spending"
    __table_args__ = (Index("ix_spending_repository", "repository_id", "at"), Index("ix_spending_at", "at"))

    repair_id: Mapped[int] = mapped_column(ForeignKey("repairs.id"), primary_key=True)
    unit: Mapped[str] = mapped_column(String(16), primary_key=True)
    repository_id: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[float] = mapped_column(Double)
    settled: Mapped[bool]
    at: Mapped[datetime]


class ShelfRow(Base):
    """What actions keep of a repository, by name."""

    __tablename__ = "shelf"

    repository_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime]


class SwitchRow(Base):
    """A kill switch that is on."""

    __tablename__ = "switches"

    scope: Mapped[str] = mapped_column(primary_key=True)
    by: Mapped[str]
    at: Mapped[datetime]
    reason: Mapped[str]


class TurnRow(Base):
    """A schedule: whoever moves `next_at` on has the turn."""

    __tablename__ = "turns"

    name: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime]


class MarkRow(Base):
    """How far something has come."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class SecretRow(Base):
    """A secret that the product made for itself."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[bytes]


class TokenRow(Base):
    """`digest` is the SHA-256 of the token in hexadecimal; the token itself is kept nowhere. It is good for a
    repository, or (`repository_id` null) for all of an installation, or (both null) for everything. `account_id` is who
    made it in the dashboard: the token may never do more than they may."""

    __tablename__ = "tokens"
    __table_args__ = (UniqueConstraint("digest"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id"), index=True)
    installation_id: Mapped[int | None] = mapped_column(ForeignKey("installations.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    scopes: Mapped[list[Any]]
    name: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class ModelRow(Base):
    """`curves` are the training curves of `run`, its newest one."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("repository_id", "name"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    repository_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    run: Mapped[str] = mapped_column(default="", server_default="")
    curves: Mapped[dict[str, Any]]
    added_at: Mapped[datetime]


class WindowRow(Base):
    """What is kept of a window of a model's observations, or of its reference (`role`). No raw rows: `profile` and
    `summary` are the JSON of domain.evidence.Observed, zstd-compressed, empty for none."""

    __tablename__ = "model_windows"
    __table_args__ = (UniqueConstraint("model_id", "role", "name"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str]
    rows: Mapped[int] = mapped_column(BigInteger)
    profile: Mapped[bytes]
    summary: Mapped[bytes]
    begun_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class SeriesRow(Base):
    """The latest samples of one quantity. `points` are (seconds, value), oldest first; `key` is a hash of name and
    labels."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("repository_id", "key"),
        Index("ix_series_updated", "repository_id", "updated_at"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    repository_id: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str] = mapped_column(String(64))
    name: Mapped[str]
    labels: Mapped[dict[str, Any]]
    limit: Mapped[float | None]
    points: Mapped[list[Any]]
    updated_at: Mapped[datetime]


class AccountRow(Base):
    """A person who has signed in. `id` is GitHub's number of the account, never its login; LOCAL is whoever holds this
    machine. `locale` and `time_zone` are what they chose, empty for what the browser says. `operator`: runs the bot
    itself, so sees everything."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    login: Mapped[str]
    locale: Mapped[str] = mapped_column(default="", server_default="")
    time_zone: Mapped[str] = mapped_column(default="", server_default="")
    operator: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class SignInRow(Base):
    """A sign-in that has begun, or a link that was handed out. `digest` is the SHA-256 of the state or of the link's
    token; `kind` is oauth, link, setup or manifest; `verifier` is PKCE's, sealed, or what the state is bound to."""

    __tablename__ = "sign_ins"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    verifier: Mapped[bytes]
    onwards: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SessionRow(Base):
    """A browser that is signed in. `digest` is the SHA-256 of the cookie; `user_token` is GitHub's for the person,
    sealed, empty for LOCAL; `checked_at` is when their grants were last asked for."""

    __tablename__ = "sessions"
    __table_args__ = (UniqueConstraint("digest"), Index("ix_sessions_account", "account_id"))

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    user_token: Mapped[bytes]
    checked_at: Mapped[datetime]
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class GrantRow(Base):
    """What GitHub lets a person do in a repository, as a Role, as of when it was last asked."""

    __tablename__ = "grants"
    __table_args__ = (Index("ix_grants_installation", "installation_id", "account_id"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    repository_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    installation_id: Mapped[int] = mapped_column(BigInteger)
    role: Mapped[str] = mapped_column(String(16))
    granted_at: Mapped[datetime]


class MemberRow(Base):
    """What a person may do at most in an installation, as its admins have said; GitHub's grants are the ceiling."""

    __tablename__ = "members"

    installation_id: Mapped[int] = mapped_column(ForeignKey("installations.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    by: Mapped[str]
    at: Mapped[datetime]


class AuditRow(Base):
    """Who did what, in a chain: `chain` is the SHA-256 of the former row's `chain` and of this row. `via` is dashboard,
    api, github, cli or bot; `what` and `number` name the thing."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_installation", "installation_id", "id"),
        Index("ix_audit_repository", "repository_id", "id"),
        Index("ix_audit_actor", "actor", "id"),
        Index("ix_audit_actor_id", "actor_id", "id"),
        Index("ix_audit_verb", "verb", "id"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    actor_id: Mapped[int | None] = mapped_column(BigInteger)
    via: Mapped[str] = mapped_column(String(16))
    verb: Mapped[str] = mapped_column(String(32))
    what: Mapped[str] = mapped_column(String(32))
    number: Mapped[str]
    installation_id: Mapped[int | None] = mapped_column(BigInteger)
    repository_id: Mapped[int | None] = mapped_column(BigInteger)
    data: Mapped[dict[str, Any]]
    chain: Mapped[str] = mapped_column(String(64))


class ViewRow(Base):
    """A search that a person keeps under a name. `query` is the query string of the page."""

    __tablename__ = "views"
    __table_args__ = (UniqueConstraint("account_id", "name"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str]
    query: Mapped[str]
    created_at: Mapped[datetime]


class CredentialRow(Base):
    """A secret that somebody entrusted to the bot, sealed (security/vault.py)."""

    __tablename__ = "credentials"

    name: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    updated_at: Mapped[datetime]


class RefreshRow(Base):
    """A refresh token of a machine's `family`, good for one use. One that comes a second time ends the family."""

    __tablename__ = "refresh_tokens"
    __table_args__ = (UniqueConstraint("digest"), Index("ix_refresh_tokens_family", "family"))

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    family: Mapped[str] = mapped_column(String(32))
    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class AnswerRow(Base):
    """What was answered to a write that came with an Idempotency-Key, so that it can be answered again."""

    __tablename__ = "answers"
    __table_args__ = (Index("ix_answers_at", "at"),)

    principal: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    body: Mapped[bytes]
    at: Mapped[datetime]


class ApprovalRow(Base):
    """One person's yes to a repair that needs several."""

    __tablename__ = "approvals"

    repair_id: Mapped[int] = mapped_column(ForeignKey("repairs.id"), primary_key=True)
    by: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class ProcessRow(Base):
    """A process of ours that lives, or has: `kind` is web or worker; `seen_at` is its last heartbeat."""

    __tablename__ = "processes"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    version: Mapped[str]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]

"""With 100,000 incidents and 1,000,000 deliveries a list makes few queries, and none of them reads a whole large table.

A screen adds its reads to LISTS: a name, and a function of the engine and of what the reader may see.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import make_url

from app.db import migrate
from app.db.aside import put_aside
from app.db.engine import make_engine
from app.db.reads import Reads
from app.db.reads.audit import Asked, AuditReads
from app.db.reads.insights import InsightReads
from app.db.reads.models import ModelReads
from app.db.reads.repositories import RepositoryReads
from app.db.reads.system import SystemReads
from app.domain.access import Sight
from app.domain.delivery import DeliveryState
from app.domain.incident import State
from tests.db import scale

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]

MOST_STATEMENTS = 8
MOST_OF = {"insights of a week": 24, "insights of a quarter": 24, "queues": 12}  # many numbers, each asked once
_WHOLE = re.compile(r"Seq Scan on (incidents|repairs|timeline|deliveries)\b")

Read = Callable[[Engine, Sight], object]

SEARCHES = (
    "",
    "repo:acme/model-9",
    "repo:model-10",
    "repo:acme/model-1*",
    "repo:nowhere",
    "detector:data_drift",
    "detector:nothing",
    "kind:lint",
    "kind:nothing",
    "kind:gpu*",
    "status:healed",
    "status:waiting,open",
    "action:rerun_job",
    "action:nothing",
    "actor:person-7",
    "actor:nobody",
    "since:7d",
    "since:2h",
    "since:2020-01-01",
    "cuda",
    "nowhere",
    "-kind:lint",
    "-action:rerun_job",
    "-actor:person-7",
    "-status:healed",
    "repo:model-9 kind:gpu_oom status:healed action:rerun_job actor:person-7 since:300d cuda",
)
DEEP = scale.INCIDENTS // 4


def _of_incidents(search: str) -> list[tuple[str, Read]]:
    named = search or "nothing"
    waiting, healed = (State.AWAITING_APPROVAL,), (State.HEALED,)
    return [
        (f"incidents by {named}", lambda engine, sight: Reads(engine).incidents(sight, (), search)),
        (f"healed by {named}", lambda engine, sight: Reads(engine).incidents(sight, healed, search)),
        (f"waiting by {named}", lambda engine, sight: Reads(engine).incidents(sight, waiting, search)),
        (f"old incidents by {named}", lambda engine, sight: Reads(engine).incidents(sight, (), search, DEEP)),
        (f"back by {named}", lambda engine, sight: Reads(engine).incidents(sight, (), search, after=DEEP)),
        (f"counts by {named}", lambda engine, sight: Reads(engine).tally(sight, search)),
    ]


def _repairs_of_a_model(engine: Engine, _: Sight) -> object:
    reads = ModelReads(engine)
    line = reads.model_line(9)
    assert line is not None
    return reads.model_repairs(line)


def _followed(engine: Engine, sight: Sight) -> object:
    found = Reads(engine).delivery_numbered(7)
    assert found is not None
    return Reads(engine).followed(sight, found)


LISTS: list[tuple[str, Read]] = [
    *(each for search in SEARCHES for each in _of_incidents(search)),
    ("chosen incidents", lambda engine, sight: Reads(engine).numbered(sight, range(1, 90_000, 200))),
    ("file of incidents", lambda engine, sight: list(islice(Reads(engine).every_incident(sight), 1_500))),
    ("approvals", lambda engine, sight: Reads(engine).questions(sight)),
    ("later approvals", lambda engine, sight: Reads(engine).questions(sight, DEEP)),
    ("deliveries", lambda engine, sight: Reads(engine).deliveries(sight)),
    ("ignored deliveries", lambda engine, sight: Reads(engine).deliveries(sight, DeliveryState.IGNORED)),
    ("old deliveries", lambda engine, sight: Reads(engine).deliveries(sight, before=scale.DELIVERIES // 4)),
    ("deliveries of one", lambda engine, sight: Reads(engine).deliveries(sight, None, "acme/model-9")),
    ("repositories", lambda engine, sight: RepositoryReads(engine).repositories(sight)),
    ("repositories by name", lambda engine, sight: RepositoryReads(engine).repositories(sight, "model-9")),
    ("later repositories", lambda engine, sight: RepositoryReads(engine).repositories(sight, after=50)),
    ("a repository", lambda engine, _: RepositoryReads(engine).repository_line(9)),
    ("a repository's days", lambda engine, _: RepositoryReads(engine).days(9)),
    ("what a repository teaches", lambda engine, _: RepositoryReads(engine).learned(9)),
    ("models", lambda engine, sight: ModelReads(engine).models(sight)),
    ("models of one", lambda engine, sight: ModelReads(engine).models(sight, repository_id=9)),
    ("a model", lambda engine, _: ModelReads(engine).model_line(9)),
    ("a model's repairs", _repairs_of_a_model),
    ("deliveries of an event", lambda engine, sight: Reads(engine).deliveries(sight, event="push")),
    ("deliveries of no event", lambda engine, sight: Reads(engine).deliveries(sight, event="nothing")),
    ("deliveries of a source", lambda engine, sight: Reads(engine).deliveries(sight, source="alertmanager")),
    ("what followed", lambda engine, sight: _followed(engine, sight)),
    ("insights of a week", lambda engine, sight: InsightReads(engine).insights(sight, 7)),
    ("insights of a quarter", lambda engine, sight: InsightReads(engine).insights(sight, 90)),
    ("audit log", lambda engine, sight: AuditReads(engine).acts(sight, Asked())),
    ("audit log of somebody", lambda engine, sight: AuditReads(engine).acts(sight, Asked("mona", "approve"))),
    ("queues", lambda engine, _: SystemReads(engine).queues()),
    ("what was put aside", lambda engine, _: put_aside(engine)),
    ("breakers", lambda engine, _: SystemReads(engine).breakers()),
    ("latest change", lambda engine, sight: Reads(engine).latest_change()),
]


@pytest.fixture(scope="module")
def large(postgres_server: str, worker: str) -> Iterator[Engine]:
    name = f"heal_test_scale_{worker}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    engine = make_engine(make_url(postgres_server).set(database=name).render_as_string(hide_password=False))
    try:
        migrate.upgrade(engine)
        scale.fill(engine)
        yield engine
    finally:
        engine.dispose()
        with psycopg.connect(postgres_server, autocommit=True) as admin:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@dataclass(frozen=True, slots=True)
class Sent:
    statement: str
    plan: str


@contextmanager
def explaining(engine: Engine) -> Iterator[list[Sent]]:
    """The queries that are sent meanwhile, each with its plan for just these parameters, in its own transaction."""
    sent: list[Sent] = []

    def explain(_connection: object, cursor: Any, statement: str, parameters: Any, *_rest: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            with cursor.connection.cursor() as beside:
                beside.execute(f"EXPLAIN {statement}", parameters)
                sent.append(Sent(statement, "\n".join(line for (line,) in beside)))

    event.listen(engine, "after_cursor_execute", explain)
    try:
        yield sent
    finally:
        event.remove(engine, "after_cursor_execute", explain)


@pytest.mark.parametrize("sight", [scale.EVERYBODYS, scale.PERSONS], ids=["everything", "a person's"])
@pytest.mark.parametrize(("name", "read"), LISTS, ids=[name for name, _ in LISTS])
def test_a_list_is_read_by_index_in_few_queries(large: Engine, name: str, read: Read, sight: Sight) -> None:
    with explaining(large) as sent:
        read(large, sight)
    assert len(sent) <= MOST_OF.get(name, MOST_STATEMENTS)
    for each in sent:
        whole = _WHOLE.search(each.plan)
        assert whole is None, f"{name} reads all {whole[1]}:\n{each.statement}\n{each.plan}"


def test_a_whole_table_is_noticed(large: Engine) -> None:
    with explaining(large) as sent, large.connect() as connection:
        connection.execute(text("SELECT count(*) FROM deliveries WHERE reason <> ''"))
    assert "deliveries" in "".join(_WHOLE.findall(sent[0].plan.replace("Parallel ", "")))

"""Observations over HTTP, to an incident and back, also when the worker is killed while it takes them in."""

import io
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from app.adapters.doorbells import Silence
from app.db.store import SqlStore
from app.db.tokens import Tokens
from app.domain.access import Scope
from app.domain.incident import State
from app.domain.model import Role
from app.domain.tenant import Repository
from tests.e2e.conftest import Staged
from tests.e2e.projects import GREEN, project
from tests.e2e.stage import Stage, wait_for

ROWS = 4_000


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("full", marks=[pytest.mark.postgres, pytest.mark.redis])]
)
def bot(request: pytest.FixtureRequest, staged: Staged) -> Iterator[Stage]:
    with staged(request.param, {"HEAL_DATABASE__LEASE_S": "1.5"}) as made:
        made.start_killable()
        yield made


class Team:
    """A repository that the App is installed on, and the token that its serving code sends with."""

    def __init__(self, bot: Stage, name: str, files: Mapping[str, str] | None = None) -> None:
        self.bot = bot
        self.name = bot.create(name, files or project(GREEN))
        self.store = SqlStore(bot.engine, Silence())
        self.repository: Repository = wait_for("the repository to be known", self._known)
        self.token = Tokens(bot.engine, self.store.secret).create(self.repository, [*Scope])[1]

    def _known(self) -> Repository | None:
        with self.store.begin() as ledger:
            return ledger.repository_named(self.name)

    def send(self, table: pa.Table, **query: str) -> Any:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        answer = requests.post(
            f"{self.bot.url}/api/v1/models/churn/observations",
            params=query,
            data=sink.getvalue(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/vnd.apache.parquet"},
            timeout=30,
        )
        assert answer.status_code == 202, answer.text
        return answer.json()

    def windows(self) -> dict[str, int]:
        with self.store.begin() as ledger:
            model = ledger.models.model(self.repository.id, "churn")
            found = ledger.models.windows(model, role=Role.CURRENT, most=10) if model else []
        return {window.observed.window: window.observed.rows for window in found}

    def state(self, sent: Any) -> Any:
        address = f"{self.bot.url}/api/v1/sent/{sent['delivery']}"
        return requests.get(address, headers={"Authorization": f"Bearer {self.token}"}, timeout=30).json()

    def done(self, sent: Any) -> None:
        wait_for("the batch to be taken in", lambda: self.state(sent)["state"] == "done")


def table(seed: int, shift: float = 0.0) -> pa.Table:
    dice = np.random.default_rng(seed)
    return pa.table({"age": dice.normal(40 + 10 * shift, 10, ROWS), "income": dice.lognormal(3, 1, ROWS)})


def test_drifted_observations_become_an_incident_and_quiet_ones_end_it(bot: Stage) -> None:
    team = Team(bot, f"drift-{'embedded' if bot.embedded else 'full'}")
    team.done(team.send(table(1), role="reference"))
    team.done(team.send(table(2), window="monday", close="true"))
    assert bot.incident(team.name) is None
    for number, name in enumerate(("tuesday", "wednesday")):
        team.done(team.send(table(3 + number, shift=0.5), window=name, close="true"))
    incident = bot.wait_for(team.name, State.ESCALATED)
    assert incident.line.kind == "data_drift"
    assert "age" in incident.line.summary
    for number, name in enumerate(("thursday", "friday", "saturday")):
        team.done(team.send(table(5 + number), window=name, close="true"))
    bot.wait_for(team.name, State.RECOVERED)
    bot.settle()
    bot.nothing_twice(team.name)


@pytest.mark.parametrize("step", ["after interpret", "after summarise", "after take in", "after gather"])
def test_a_worker_killed_while_it_takes_a_batch_in_counts_it_once(bot: Stage, step: str) -> None:
    team = Team(bot, f"killed-{step.replace(' ', '-')}-{'embedded' if bot.embedded else 'full'}")
    bot.settle()
    draft = bot.order.with_suffix(".draft")
    draft.write_text(f"kill {step}")
    os.replace(draft, bot.order)
    sent = team.send(table(1), window="monday")
    wait_for(f"the bot to die {step}", lambda: not bot.order.exists())
    bot.wait_until_ready()
    assert team.send(table(1), window="monday")["fresh"] is False
    team.done(sent)
    assert team.windows() == {"monday": ROWS}

"""`heal remote`: from another machine, by the API alone."""

import json
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine
from typer.testing import Result

from app.db.store import SqlStore
from app.db.tokens import Tokens
from app.domain.access import Scope
from tests.browser.site import serving
from tests.healing.world import OUT_OF_MEMORY, World

Heal = Callable[..., Result]


@pytest.fixture
def world(engine: Engine, store: SqlStore) -> World:
    world = World(engine, store)
    world.project("version: 1\nmode: approve\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    return world


@pytest.fixture
def address(engine: Engine, world: World) -> Iterator[str]:
    with serving(engine, world.kit) as address:
        yield address


@pytest.fixture
def remote(heal: Heal, address: str, engine: Engine, store: SqlStore) -> Heal:
    """`heal remote …` with a token of that scope."""

    def run(*words: str, scope: Scope = Scope.OPERATE) -> Result:
        token = Tokens(engine, store.secret).create(None, [scope], name="laptop")[1]
        return heal("remote", *words, HEAL_REMOTE__URL=address, HEAL_REMOTE__TOKEN=token)

    return run


def test_what_waits_is_listed_approved_and_told(remote: Heal, world: World) -> None:
    assert [each["id"] for each in json.loads(remote("approvals", "--json").stdout)] == [1]
    approved = remote("approve", "1", "--reason", "looks right")
    assert approved.exit_code == 0, approved.output
    world.drain()
    told = json.loads(remote("show", "1").stdout)
    assert "approved" in [entry["kind"] for entry in told["timeline"]]
    again = remote("approve", "1")
    assert again.exit_code == 1
    assert again.stderr


def test_a_reading_token_decides_nothing(remote: Heal) -> None:
    refused = remote("reject", "1", scope=Scope.READ)
    assert refused.exit_code == 1
    assert "operator" in refused.stderr


def test_a_repository_is_paused_and_resumed_by_its_name(remote: Heal) -> None:
    assert remote("pause", "acme/trainer").exit_code == 0
    listed = json.loads(remote("repositories", "--json").stdout)
    assert listed[0]["paused_by"] == "token laptop"
    assert remote("resume", "acme/trainer").exit_code == 0
    assert remote("pause", "acme/other").exit_code == 1


@pytest.mark.parametrize("words", [("incidents",), ("deliveries",), ("repositories",), ("whoami",)])
def test_every_list_is_read(remote: Heal, words: tuple[str, ...]) -> None:
    assert remote(*words).exit_code == 0
    assert json.loads(remote(*words, "--json").stdout)


def test_without_an_address_it_says_what_to_set(heal: Heal) -> None:
    told = heal("remote", "incidents")
    assert (told.exit_code, "HEAL_REMOTE__URL" in told.stderr) == (2, True)


def test_a_bot_that_is_away_is_told_so(heal: Heal) -> None:
    told = heal("remote", "incidents", HEAL_REMOTE__URL="http://127.0.0.1:1", HEAL_REMOTE__TOKEN="heal_x")
    assert told.exit_code == 3

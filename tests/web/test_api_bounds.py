"""What the API does not take, and what it does not keep."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select

from app.db.engine import reading
from app.db.tables import AnswerRow
from app.domain.access import Role, Scope
from app.web.api.v1.needs import MOST_SENT
from app.web.guard import MOST_STRANGE
from tests.web.people import add_repository, visitor
from tests.web.test_api_v1 import Site

MONA = 501
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def site(engine: Engine) -> Site:
    made = Site(engine)
    visitor(made.client, engine, Role.VIEWER, [], account_id=MONA)
    made.client.cookies.clear()
    return made


class Endless:
    """A body without an end, in pieces, that counts what was read of it."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while True:
            assert self.read < 100 * 1024 * 1024, "it is read without end"
            self.read += 64 * 1024
            yield b" " * 64 * 1024


def test_nothing_is_read_of_whoever_has_not_signed_in(site: Site) -> None:
    body = Endless()
    answer = site.client.post("/simulations", content=iter(body), headers=JSON)
    assert (answer.status_code, body.read) == (401, 0)


@pytest.mark.parametrize("path", ["/auth/token", "/auth/revoke"])
def test_a_stranger_sends_little(site: Site, path: str) -> None:
    answer = site.client.post(path, content=b" " * (MOST_STRANGE + 1), headers=JSON)
    assert answer.status_code == 413
    assert str(MOST_STRANGE) in answer.json()["detail"]


def test_a_body_is_read_to_its_bound_and_no_further(site: Site) -> None:
    headers = {**JSON, **site.as_(site.token(Scope.READ))}
    for key in ({}, {"Idempotency-Key": "k"}):
        answer = site.client.post("/simulations", content=b" " * (MOST_SENT + 1), headers={**headers, **key})
        assert answer.status_code == 413


@pytest.mark.parametrize("payload", ['"\\ud800"', "1" + "0" * 40, "[" * 400 + "]" * 400])
def test_a_delivery_that_no_sender_writes_is_refused_and_no_mistake_of_ours(site: Site, payload: str) -> None:
    body = f'{{"event": "push", "payload": {{"a": {payload}}}}}'
    answer = site.client.post("/simulations", content=body, headers={**JSON, **site.as_(site.token(Scope.READ))})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_the_text_of_a_new_token_is_kept_nowhere(site: Site) -> None:
    admin = site.token(Scope.ADMIN, account_id=MONA)
    wish = {"name": "ci", "scopes": ["read"]}
    first = site.post("/tokens", admin, wish, **{"Idempotency-Key": "k"})
    assert first.status_code == 201
    with reading(site.engine) as connection:
        kept = connection.scalars(select(AnswerRow.body)).all()
    assert [first.json()["token"].encode() in body for body in kept] == [False]
    again = site.post("/tokens", admin, wish, **{"Idempotency-Key": "k"})
    assert again.status_code == 409
    assert [each["name"] for each in site.get("/tokens", admin).json()].count(
        "ci"
    ) == 2  # the first, and `admin` itself


def test_a_token_for_one_installation_neither_lists_nor_ends_the_others_of_its_maker(site: Site) -> None:
    add_repository(site.engine, 7, "acme/vision")
    _, own = site.tokens.create(None, [Scope.READ], name="laptop", account_id=MONA)
    number = site.tokens.of_account(MONA)[0].id
    _, narrow = site.tokens.create(
        None, [Scope.READ, Scope.OPERATE, Scope.ADMIN], name="shared", installation_id=1, account_id=MONA
    )
    assert site.get("/tokens", narrow).status_code == 403
    assert site.client.delete(f"/tokens/{number}", headers=site.as_(narrow)).status_code == 403
    assert site.post("/tokens", narrow, {"name": "more", "scopes": ["read"]}).status_code == 403
    assert site.get("/me", own).status_code == 200

"""The API for programs: the same rights as the pages, problems in one form, pages by cursor, writes once."""

from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import Engine, select
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from app.db.accounts import Accounts
from app.db.engine import reading
from app.db.store import SqlStore
from app.db.tables import AuditRow
from app.db.tokens import Tokens
from app.domain.access import LOCAL, Role, Scope
from app.healing.kit import Kit
from app.web.api.v1.app import PREFIX, api, endpoints
from app.web.api.v1.machines import Machines, machines_of
from app.web.api.v1.needs import rule_of
from app.web.app import desk_of, guard_of
from app.web.dashboard.live import Changes
from tests.browser.incidents import fill
from tests.browser.site import wired_for
from tests.healing.world import OUT_OF_MEMORY, World
from tests.web.people import visitor

PROBLEM = "application/problem+json"


class Site:
    """The API over a furnished database, and tokens for it."""

    def __init__(self, engine: Engine, kit: Kit | None = None) -> None:
        self.engine = engine
        self.wired = wired_for(engine)
        self.wired = replace(self.wired, kit=kit) if kit else self.wired
        self.machines: Machines = machines_of(self.wired)
        guard = guard_of(self.wired, (self.machines.identify,))
        self.app = api(desk_of(self.wired, Changes(lambda: 0)), guard, self.machines, "0.1.0")
        self.client = TestClient(self.app, raise_server_exceptions=False)
        self.tokens = Tokens(engine, self.wired.store.secret)

    def token(self, *scopes: Scope, account_id: int | None = None) -> str:
        return self.tokens.create(None, scopes, name="ci", account_id=account_id)[1]

    def as_(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    def get(self, path: str, token: str, **headers: str) -> Any:
        return self.client.get(path, headers={**self.as_(token), **headers})

    def post(self, path: str, token: str, body: Any = None, **headers: str) -> Any:
        return self.client.post(path, json={} if body is None else body, headers={**self.as_(token), **headers})


@pytest.fixture
def site(engine: Engine) -> Site:
    fill(engine)
    return Site(engine)


@pytest.fixture
def asked(engine: Engine, store: SqlStore) -> Site:
    """One incident, number 1, that waits for somebody's decision."""
    world = World(engine, store)
    world.project("version: 1\nmode: approve\n")
    world.fail(OUT_OF_MEMORY)
    world.drain()
    return Site(engine, world.kit)


def test_every_endpoint_says_whom_it_lets_in(site: Site) -> None:
    assert len(endpoints(site.app)) > 5
    assert [route.path for route in endpoints(site.app) if rule_of(route) is None] == []


def test_without_a_token_nothing_is_told(site: Site) -> None:
    answer = site.client.get("/incidents")
    assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM)
    assert answer.json()["status"] == 401


def test_a_reading_token_reads_and_does_not_decide(site: Site) -> None:
    token = site.token(Scope.READ)
    assert len(site.get("/incidents", token).json()["items"]) == 10
    refused = site.post("/incidents/1/reject", token)
    assert (refused.status_code, refused.json()["title"]) == (403, "Forbidden")


def test_a_token_that_may_only_send_reads_nothing(site: Site) -> None:
    assert site.get("/incidents", site.token(Scope.OBSERVATIONS)).status_code == 401


def test_a_list_is_read_by_cursor_to_its_end(site: Site) -> None:
    token, seen, cursor = site.token(Scope.READ), [], ""
    while True:
        page = site.get(f"/incidents?limit=3&cursor={cursor}", token).json()
        seen += [each["id"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert seen == list(range(10, 0, -1))


@pytest.mark.parametrize("cursor", ["x", "YmVmb3JlOng", "é", "AAAA"])
def test_a_cursor_that_is_none_of_ours_is_told_so(site: Site, cursor: str) -> None:
    answer = site.get(f"/incidents?cursor={cursor}", site.token(Scope.READ))
    assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)


def test_a_search_that_cannot_be_understood_is_told_so_and_finds_nothing(site: Site) -> None:
    answer = site.get("/incidents?q=frob:1 status:nope", site.token(Scope.READ))
    assert answer.status_code == 422
    assert "frob:: there is no such qualifier" in answer.json()["detail"]


def test_the_bot_itself_is_told_of_only_to_those_who_run_it(site: Site) -> None:
    everything = site.get("/system", site.token(Scope.ADMIN))
    assert everything.status_code == 200
    assert {queue["work"] for queue in everything.json()["queues"]} == {"delivery", "repair", "effect"}
    visitor(site.client, site.engine, Role.ADMIN, [7], account_id=77)
    site.client.cookies.clear()
    assert site.get("/system", site.token(Scope.ADMIN, account_id=77)).status_code == 404
    assert site.post("/system/pause", site.token(Scope.READ)).status_code == 403


def test_what_has_not_changed_is_not_sent_again(site: Site) -> None:
    token = site.token(Scope.READ)
    first = site.get("/incidents/1", token)
    again = site.get("/incidents/1", token, **{"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert site.get("/incidents/1", token, **{"If-None-Match": '"other"'}).status_code == 200


def test_a_write_with_a_key_is_done_once_and_answered_twice(asked: Site) -> None:
    token = asked.token(Scope.OPERATE)
    first = asked.post("/incidents/1/reject", token, {"reason": "not ours"}, **{"Idempotency-Key": "k"})
    again = asked.post("/incidents/1/reject", token, {"reason": "not ours"}, **{"Idempotency-Key": "k"})
    assert first.status_code == 200, first.text
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replay"] == "true"
    with reading(asked.engine) as connection:
        assert len(connection.execute(select(AuditRow.id).where(AuditRow.verb == "reject")).all()) == 1


def test_a_key_is_not_good_for_another_request(asked: Site) -> None:
    token = asked.token(Scope.OPERATE)
    asked.post("/incidents/1/reject", token, {"reason": "a"}, **{"Idempotency-Key": "k"})
    assert asked.post("/incidents/1/reject", token, {"reason": "b"}, **{"Idempotency-Key": "k"}).status_code == 422


def test_a_decision_about_something_else_is_told_to_be_late(asked: Site) -> None:
    token = asked.token(Scope.OPERATE)
    version = asked.get("/incidents/1", token).json()["version"]
    assert asked.post("/incidents/1/reject", token, {"version": version}).status_code == 200
    late = asked.post("/incidents/1/retry", token, {"version": version})
    assert late.status_code == 409
    assert late.json()["detail"]


def test_a_body_with_what_nobody_asked_for_is_refused(site: Site) -> None:
    answer = site.post("/incidents/2/reject", site.token(Scope.OPERATE), {"role": "admin"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_a_token_may_never_do_more_than_who_made_it(site: Site) -> None:
    visitor(site.client, site.engine, Role.VIEWER, [1], account_id=77)
    site.client.cookies.clear()
    token = site.token(Scope.ADMIN, account_id=77)
    first = site.get("/incidents", token).json()["items"]
    assert len(first) < 10
    assert site.post(f"/incidents/{first[0]['id']}/reject", token).status_code == 403 if first else True


def test_an_exchanged_token_reads_and_a_reused_refresh_token_ends_all(site: Site) -> None:
    text = site.token(Scope.READ)
    first = site.client.post("/auth/token", json={"grant_type": "api_token", "token": text}).json()
    assert site.get("/me", first["access_token"]).json()["role"] == "viewer"
    sent = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = site.client.post("/auth/token", json=sent).json()
    assert site.get("/me", second["access_token"]).status_code == 200
    assert site.client.post("/auth/token", json=sent).status_code == 401
    assert site.get("/me", second["access_token"]).status_code == 401
    assert site.get("/me", text).status_code == 200


def test_a_revoked_api_token_ends_what_was_exchanged_for_it(site: Site) -> None:
    text = site.token(Scope.READ)
    first = site.client.post("/auth/token", json={"grant_type": "api_token", "token": text}).json()
    assert site.tokens.revoke(site.tokens.bearer(text).id)  # type: ignore[union-attr]
    assert site.get("/me", first["access_token"]).status_code == 401
    sent = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert site.client.post("/auth/token", json=sent).status_code == 401


def test_the_description_is_openapi_3_1_and_names_its_problems(site: Site) -> None:
    told = site.client.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    assert "409" in told["paths"]["/views"]["put"]["responses"]
    assert "409" not in told["paths"]["/views"]["get"]["responses"]
    operation = told["paths"]["/incidents/{incident}/{decision}"]["post"]
    assert {"401", "403", "404", "422", "429", "503"} <= set(operation["responses"])
    assert operation["responses"]["404"]["content"] == {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_whoever_holds_the_machine_may_use_it_from_their_browser(site: Site) -> None:
    accounts = Accounts(site.engine)
    accounts.remember(LOCAL, "local", operator=True)
    site.client.cookies.set("heal_session", accounts.open(LOCAL, seconds=60))
    assert site.client.get("/incidents").status_code == 200
    assert site.client.post("/incidents/2/reject", json={}).status_code == 403, "nothing says that it is our own page"


def test_nothing_that_is_sent_breaks_what_is_described(asked: Site) -> None:
    """Schemathesis: made-up requests by the description, and what it says of the answers."""
    token = asked.token(Scope.ADMIN)
    schema = schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", Starlette(routes=[Mount(PREFIX, asked.app)]))
    broken: list[str] = []

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def try_it(case: schemathesis.Case) -> None:
            case.call_and_validate(
                headers={"Authorization": f"Bearer {token}"}, excluded_checks=[positive_data_acceptance]
            )

        try:
            try_it()
        except FailureGroup as error:
            broken.append(f"{operation.label}: {[str(each) for each in error.exceptions]}")
    assert broken == []

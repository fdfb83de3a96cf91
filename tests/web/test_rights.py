"""The matrix of rights: each address of the dashboard and of the API, for everybody, at own things and at others'.

It is made from the routes themselves: one without a rule, or about a kind of thing that is not furnished here, fails.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.responses import Response
from starlette.testclient import TestClient

from app.db.accounts import Accounts, Grant
from app.db.dialect import insert
from app.db.engine import db_now, make_engine, writing
from app.db.reads import Reads
from app.db.tables import DeliveryRow, IncidentRow, ModelRow
from app.domain.access import LOCAL, Role
from app.web.api.v1.app import PREFIX, api
from app.web.api.v1.machines import machines_of
from app.web.api.v1.needs import rule_of
from app.web.app import desk_of, guard_of
from app.web.dashboard import pages
from app.web.dashboard.live import Changes
from app.web.guard import Guarded, Of, Rule
from app.web.sessions import PLAIN
from app.wiring import Wired
from tests.browser.site import wired_for
from tests.web.people import HOUR_S, SAME_ORIGIN, add_repository

OWN, OTHER, UNKNOWN = "own", "other", "unknown"
NUMBERS: Mapping[Of, Mapping[str, int]] = {
    Of.INCIDENT: {OWN: 101_101, OTHER: 909_101, UNKNOWN: 987_654},
    Of.DELIVERY: {OWN: 101_102, OTHER: 909_102, UNKNOWN: 987_654},
    Of.MODEL: {OWN: 101_103, OTHER: 909_103, UNKNOWN: 987_654},
    Of.REPOSITORY: {OWN: 101_104, OTHER: 909_104, UNKNOWN: 987_654},
    Of.INSTALLATION: {OWN: 101_105, OTHER: 909_105, UNKNOWN: 987_654},
}
NAMES = {OWN: "acme/trainer", OTHER: "globex/secret"}
NOT_A_THING = frozenset({Of.ANYBODY, Of.PERSON, Of.LISTS, Of.BOT})
PEOPLE: Mapping[str, Role | None] = {
    "nobody": None,
    "viewer": Role.VIEWER,
    "operator": Role.OPERATOR,
    "admin": Role.ADMIN,
    "bot operator": None,
}
LET_IN = 204
ENDLESS = frozenset({"/events"})


@dataclass(frozen=True, slots=True)
class Address:
    """`let_in` has the address answer 204 to whoever comes through."""

    method: str
    path: str
    rule: Rule
    let_in: Callable[[], None]

    def at(self, where: str) -> str:
        numbers = NUMBERS.get(self.rule.of, {})

        def value(match: re.Match[str]) -> str:
            name = match[1].partition(":")[0]
            return str(numbers[where]) if name == self.rule.of.value else "1"

        return re.sub(r"\{([^}]+)\}", value, self.path)

    def places(self) -> tuple[str, ...]:
        return (OWN, OTHER, UNKNOWN) if self.rule.of in NUMBERS else (OWN,)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Provider:
    """Something with addresses: the dashboard, the API."""

    name: str
    site: Any
    addresses: tuple[Address, ...]


def dashboard(wired: Wired) -> Provider:
    desk = desk_of(wired, Changes(Reads(wired.engine).latest_change))
    site = pages.dashboard(desk, guard_of(wired))
    found = []
    for route in site.routes:
        assert isinstance(route, Guarded), f"{route} has no rule"

        def let_in(route: Guarded = route) -> None:
            route.handler = lambda _: Response(status_code=LET_IN)

        methods = sorted((route.methods or set()) - {"HEAD"})
        found += [Address(method, route.path, route.rule, let_in) for method in methods]
    return Provider("dashboard", site, tuple(found))


def programs(wired: Wired) -> Provider:
    machines = machines_of(wired)
    desk = desk_of(wired, Changes(Reads(wired.engine).latest_change))
    site = api(desk, guard_of(wired, (machines.identify,)), machines, "0.1.0")
    found = []
    for route in site.state.endpoints:
        rule = rule_of(route)
        assert rule is not None, f"{route.path} has no rule"

        def let_in(route: Any = route) -> None:
            route.dependant.call = _later if inspect.iscoroutinefunction(route.endpoint) else _now

        found += [Address(method, route.path, rule, let_in) for method in sorted(route.methods - {"HEAD"})]
    return Provider(PREFIX, site, tuple(found))


def _now(**_: Any) -> Response:
    return Response(status_code=LET_IN)


async def _later(**_: Any) -> Response:
    return _now()


PROVIDERS: tuple[Callable[[Wired], Provider], ...] = (dashboard, programs)


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.__name__)
def provider(request: pytest.FixtureRequest, furnished: Engine) -> Provider:
    """On SQLite alone: that the rights themselves hold on both databases is tested in tests/db."""
    made: Provider = request.param(wired_for(furnished))
    return made


@pytest.fixture
def furnished(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    path = tmp_path / "heal.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = make_engine(f"sqlite:///{path}")
    for where, name in NAMES.items():
        installation, repository = NUMBERS[Of.INSTALLATION][where], NUMBERS[Of.REPOSITORY][where]
        add_repository(engine, repository, name, installation_id=installation)
        model = {"repository_id": repository, "name": name, "curves": {}, "added_at": db_now()}
        rows: Mapping[Of, tuple[Any, dict[str, Any]]] = {
            Of.INCIDENT: (IncidentRow, incident(installation, repository, name)),
            Of.DELIVERY: (DeliveryRow, delivery(installation, repository, name)),
            Of.MODEL: (ModelRow, model),
        }
        with writing(engine) as connection:
            for of, (row, values) in rows.items():
                connection.execute(insert(connection, row).values(id=NUMBERS[of][where], **values))
    accounts = Accounts(engine)
    for number, (who, role) in enumerate(PEOPLE.items(), 600):
        if role is not None:
            accounts.remember(number, who, operator=False)
            accounts.grant(number, [Grant(NUMBERS[Of.REPOSITORY][OWN], NUMBERS[Of.INSTALLATION][OWN], role)])
    accounts.remember(LOCAL, "local", operator=True)
    yield engine
    engine.dispose()


def incident(installation: int, repository: int, name: str) -> dict[str, Any]:
    told = {"repository": name, "branch": name, "fingerprint": "f" * 16, "kind": "host_oom", "severity": "high"}
    found: dict[str, Any] = {"detector": "pipeline_failure", "kind": "host_oom", "subject": name, "severity": "high"}
    found |= {"confidence": 0.9, "summary": name, "fingerprint": "f" * 16}
    times = {"opened_at": db_now(), "updated_at": db_now()}
    return {
        **told,
        **times,
        "repository_id": repository,
        "installation_id": installation,
        "detector": "pipeline_failure",
        "summary": name,
        "finding": found,
        "head_sha": "a" * 40,
        "run_id": 1,
        "attempt": 1,
        "workflow_path": name,
        "run_url": "",
        "state": "escalated",
        "rung": 0,
    }


def delivery(installation: int, repository: int, name: str) -> dict[str, Any]:
    return {
        "guid": f"guid-{name}",
        "source": "github",
        "event": "push",
        "action": "",
        "installation_id": installation,
        "repository_id": repository,
        "repository": name,
        "headers": {},
        "body": b"",
        "received_at": db_now(),
        "state": "done",
        "mailbox": name,
    }


def client(provider: Provider, engine: Engine, who: str) -> TestClient:
    made = TestClient(provider.site, follow_redirects=False, raise_server_exceptions=False)
    made.headers.update(SAME_ORIGIN)
    number = LOCAL if who == "bot operator" else 600 + list(PEOPLE).index(who)
    if who != "nobody":
        made.cookies.set(PLAIN, Accounts(engine).open(number, seconds=HOUR_S))
    return made


def expected(rule: Rule, who: str, where: str) -> int:
    """What the rule means."""
    if rule.of is Of.ANYBODY:
        return LET_IN
    if who == "nobody":
        return 401
    if who == "bot operator":
        return 404 if where == UNKNOWN else LET_IN
    if rule.of is Of.BOT:
        return 404
    if rule.of in (Of.PERSON, Of.LISTS):
        return LET_IN
    role = PEOPLE[who]
    if where != OWN or role is None:
        return 404
    return LET_IN if role.covers(rule.role) else 403


@pytest.mark.parametrize("who", PEOPLE)
def test_everybody_may_what_the_rules_say_and_nothing_else(provider: Provider, furnished: Engine, who: str) -> None:
    visitor = client(provider, furnished, who)
    wrong = []
    for address in provider.addresses:
        address.let_in()
        for where in address.places():
            got = visitor.request(address.method, address.at(where)).status_code
            got = LET_IN if got == 422 else got  # what was sent is looked at after who sends it
            if got != expected(address.rule, who, where):
                wrong.append((str(address), where, got, expected(address.rule, who, where)))
    assert wrong == []


def test_every_kind_of_thing_is_furnished(provider: Provider) -> None:
    assert provider.addresses
    assert set(Of) == NOT_A_THING | set(NUMBERS)
    for address in provider.addresses:
        named = {name.partition(":")[0] for name in re.findall(r"\{([^}]+)\}", address.path)}
        if address.rule.of in NUMBERS:
            assert address.rule.of.value in named, f"{address}: its rule is about what the path does not name"
        else:
            assert not named & {of.value for of in NUMBERS}, f"{address}: nobody looks whose that is"


def test_what_changes_something_asks_for_more_than_a_viewer(provider: Provider) -> None:
    for address in provider.addresses:
        if address.method not in ("GET", "HEAD") and address.rule.of in NUMBERS:
            assert address.rule.role is not Role.VIEWER or address.path.endswith(HARMLESS), str(address)


HARMLESS = ("/simulate",)


@pytest.mark.parametrize("who", ["viewer", "operator", "admin"])
def test_the_things_of_others_are_told_from_nothing_by_nobody(provider: Provider, furnished: Engine, who: str) -> None:
    """Same status, same body, same headers: only the number that was asked for differs."""
    visitor = client(provider, furnished, who)

    def told(address: Address, where: str) -> tuple[int, str, list[tuple[str, str]]]:
        answer = visitor.request(address.method, address.at(where))
        number = str(NUMBERS[address.rule.of][where])
        text = re.sub(rf"(?<!\d){number}(?!\d)", "N", answer.text)
        headers = [(name, value) for name, value in answer.headers.items() if name not in ("content-length", "etag")]
        return answer.status_code, text, headers

    for address in provider.addresses:
        if address.rule.of in NUMBERS:
            assert told(address, OTHER) == told(address, UNKNOWN), str(address)


@pytest.mark.parametrize("who", ["viewer", "admin", "bot operator"])
def test_whoever_is_let_in_gets_an_answer_and_no_word_of_others(
    provider: Provider, furnished: Engine, who: str
) -> None:
    visitor = client(provider, furnished, who)
    for address in provider.addresses:
        if address.path in ENDLESS or expected(address.rule, who, OWN) != LET_IN or "sign-out" in address.path:
            continue
        answer = visitor.request(address.method, address.at(OWN))
        assert answer.status_code < 500 or answer.status_code == 503, (str(address), answer.text)
        assert answer.status_code != 401, str(address)
        if who != "bot operator":
            assert "globex" not in answer.text, str(address)


@pytest.mark.parametrize("odd", ["0", "-1", "1e3", "１", "1/", "01", " 1", "9" * 19, "%00", "1;2"])
def test_what_is_no_number_is_nothing(provider: Provider, furnished: Engine, odd: str) -> None:
    visitor = client(provider, furnished, "bot operator")
    for address in provider.addresses:
        if address.rule.of in NUMBERS and address.method == "GET":
            path = address.path.replace(f"{{{address.rule.of.value}}}", odd)
            answer = visitor.get(re.sub(r"\{[^}]+\}", "1", path))
            assert answer.status_code in (404, 405, 422, 307), (path, answer.status_code)

"""Settings: preferences, sessions, members and their roles, tokens, the rules in force."""

import re
from typing import Any

import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from app.db.accounts import Accounts, Grant
from app.db.engine import reading
from app.db.store import SqlStore
from app.db.tables import AuditRow
from app.db.tokens import Tokens
from app.domain.access import LOCAL, Role, Scope
from app.web.dashboard import membership
from app.web.sessions import PLAIN
from tests.browser.site import dashboard
from tests.conftest import Bell
from tests.web.people import add_repository, local, visitor

HERE = "/settings/installations/1"


@pytest.fixture
def client(engine: Engine) -> TestClient:
    add_repository(engine, 70, "acme/trainer", installation_id=1)
    add_repository(engine, 71, "acme/other", installation_id=1)
    add_repository(engine, 90, "globex/secret", installation_id=9)
    return TestClient(dashboard(engine), follow_redirects=False, raise_server_exceptions=False)


def admin(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.ADMIN, [70, 71], account_id=500, login="ada")


def member(engine: Engine, role: Role, *repositories: int, number: int = 501, login: str = "mona") -> Accounts:
    accounts = Accounts(engine)
    accounts.remember(number, login, operator=False)
    accounts.grant(number, [Grant(repository, 1, role) for repository in repositories])
    return accounts


def tokens(engine: Engine) -> Tokens:
    return Tokens(engine, SqlStore(engine, Bell()).secret)


def acts(engine: Engine) -> list[Any]:
    with reading(engine) as connection:
        return list(connection.execute(select(AuditRow).order_by(AuditRow.id)))


def text_of(page: Any) -> str:
    """The token that the page shows."""
    found = re.search(r'id="token">(heal_[\w-]+)<', page.text)
    assert found is not None, page.text
    return found[1]


# oneself


def test_language_and_time_zone_are_chosen_and_kept(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[70])
    client.cookies.set("language", "fr")
    answer = client.post("/settings/preferences", data={"locale": "de", "time_zone": "Europe/Berlin"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    page = client.get("/settings")
    assert 'lang="de"' in page.text
    assert 'data-time-zone="Europe/Berlin"' in page.text
    client.post("/settings/preferences", data={"locale": "", "time_zone": ""})
    assert 'lang="en"' in client.get("/settings").text


@pytest.mark.parametrize("sent", [{"locale": "tlh"}, {"time_zone": "Mars/Olympus"}, {"time_zone": "../../etc/passwd"}])
def test_a_language_or_a_zone_that_there_is_not_is_refused(
    client: TestClient, engine: Engine, sent: dict[str, str]
) -> None:
    visitor(client, engine, repositories=[70])
    assert client.post("/settings/preferences", data=sent).status_code == 400


def test_the_list_of_zones_has_utc_first_and_every_place_once() -> None:
    assert membership.zones()[0] == "UTC"
    assert len(set(membership.zones())) == len(membership.zones())
    assert {"Europe/Berlin", "Asia/Tokyo"} < set(membership.zones())


def test_signing_out_everywhere_ends_every_browser(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[70])
    other = Accounts(engine).open(501, seconds=3600)
    assert client.get("/settings").text.count("Another browser") == 1
    answer = client.post("/settings/sign-out-everywhere")
    assert answer.headers["location"] == "/sign-in"
    for cookie in (other, ""):
        if cookie:
            client.cookies.set(PLAIN, cookie)
        assert client.get("/settings").status_code == 401
    assert [act.verb for act in acts(engine)] == ["sign_out_everywhere"]


def test_somebody_sees_the_installations_of_which_they_see_something(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[70])
    page = client.get("/settings").text
    assert "acme" in page
    assert "globex" not in page
    local(client, engine)
    assert "globex" in client.get("/settings").text


# one's own tokens


def test_a_token_of_ones_own_is_shown_once_and_does_what_its_maker_may(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.OPERATOR, [70])
    made = client.post("/settings/tokens", data={"name": "laptop", "scope": ["read", "operate"], "lasts": "30"})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    found = tokens(engine).bearer(text_of(made))
    assert found is not None
    assert (found.account_id, found.repository, found.installation_id) == (501, None, None)
    assert set(found.scopes) == {Scope.READ, Scope.OPERATE}
    assert found.expires_at is not None
    listed = client.get("/settings").text
    assert "laptop" in listed
    assert text_of(made) not in listed
    (act,) = acts(engine)
    assert (act.verb, act.number, act.actor_id) == ("create_token", str(found.id), 501)
    assert text_of(made) not in str(act.data)


@pytest.mark.parametrize(
    "sent",
    [
        {"name": "", "scope": "read", "lasts": "30"},
        {"name": "x", "lasts": "30"},
        {"name": "x", "scope": "root", "lasts": "30"},
        {"name": "x", "scope": "read", "lasts": "9999"},
        {"name": "x", "scope": "observations", "lasts": "30"},
        {"name": "x", "scope": "read", "lasts": "30", "repository": "70"},
    ],
)
def test_what_a_token_cannot_be_is_told_and_nothing_is_made(
    client: TestClient, engine: Engine, sent: dict[str, str]
) -> None:
    visitor(client, engine, Role.OPERATOR, [70])
    answer = client.post("/settings/tokens", data=sent)
    assert answer.status_code == 422
    assert 'id="trouble"' in answer.text
    assert tokens(engine).all() == []


def test_a_token_is_revoked_by_whoever_made_it_and_by_nobody_else(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, Role.OPERATOR, [70])
    made = client.post("/settings/tokens", data={"name": "laptop", "scope": "read", "lasts": "never"})
    visitor(client, engine, Role.ADMIN, [70, 71], account_id=502, login="eve")
    assert client.post("/settings/tokens/1/revoke").status_code == 404
    assert "laptop" not in client.get("/settings").text
    visitor(client, engine, Role.OPERATOR, [70])
    assert client.post("/settings/tokens/1/revoke").status_code == 303
    assert tokens(engine).bearer(text_of(made)) is None
    assert client.post("/settings/tokens/1/revoke").status_code == 404
    assert [act.verb for act in acts(engine)] == ["create_token", "revoke_token"]


# members


def test_members_are_shown_with_what_github_lets_them_do(client: TestClient, engine: Engine) -> None:
    member(engine, Role.OPERATOR, 70)
    admin(client, engine)
    page = client.get(HERE).text
    assert "mona" in page
    assert "in 1 repository" in page
    assert "in 2 repositories" in page


def test_an_admin_lets_somebody_do_less_and_takes_it_back(client: TestClient, engine: Engine) -> None:
    accounts = member(engine, Role.OPERATOR, 70, 71)
    admin(client, engine)
    assert client.post(f"{HERE}/members", data={"account": "501", "role": "viewer"}).status_code == 303
    assert (accounts.role_in(501, 70), accounts.role_at(501, 1)) == (Role.VIEWER, Role.VIEWER)
    assert "Set by ada" in client.get(HERE).text
    client.post(f"{HERE}/members", data={"account": "501", "role": "github"})
    assert accounts.role_in(501, 70) is Role.OPERATOR
    assert [(act.verb, act.data["role"], act.data["was"]) for act in acts(engine)] == [
        ("set_role", "viewer", "github"),
        ("set_role", "github", "viewer"),
    ]
    assert {act.installation_id for act in acts(engine)} == {1}


@pytest.mark.parametrize("role", ["operator", "admin", "root", ""])
def test_nobody_is_let_do_more_than_github_lets_them(client: TestClient, engine: Engine, role: str) -> None:
    accounts = member(engine, Role.OPERATOR, 70)
    admin(client, engine)
    assert client.post(f"{HERE}/members", data={"account": "501", "role": role}).status_code == 400
    assert accounts.role_in(501, 70) is Role.OPERATOR
    assert acts(engine) == []


def test_a_role_that_github_has_lowered_below_the_one_that_was_set_counts(client: TestClient, engine: Engine) -> None:
    accounts = member(engine, Role.ADMIN, 70)
    admin(client, engine)
    client.post(f"{HERE}/members", data={"account": "501", "role": "operator"})
    assert accounts.role_in(501, 70) is Role.OPERATOR
    member(engine, Role.VIEWER, 70)
    assert accounts.role_in(501, 70) is Role.VIEWER
    assert "As GitHub says" in client.get(HERE).text


def test_nobody_sets_their_own_role_or_that_of_a_stranger(client: TestClient, engine: Engine) -> None:
    admin(client, engine)
    assert client.post(f"{HERE}/members", data={"account": "500", "role": "viewer"}).status_code == 409
    assert client.post(f"{HERE}/members", data={"account": "999", "role": "viewer"}).status_code == 400


def test_an_admin_of_some_of_its_repositories_sets_nothing_for_all(client: TestClient, engine: Engine) -> None:
    member(engine, Role.OPERATOR, 70)
    visitor(client, engine, Role.ADMIN, [70], account_id=502, login="eve")
    assert client.get(HERE).status_code == 200
    assert client.post(f"{HERE}/members", data={"account": "501", "role": "viewer"}).status_code == 403
    assert client.get(f"{HERE}/tokens").status_code == 403


def test_whoever_holds_the_machine_may_set_roles_everywhere(client: TestClient, engine: Engine) -> None:
    accounts = member(engine, Role.OPERATOR, 70)
    local(client, engine)
    assert client.post(f"{HERE}/members", data={"account": "501", "role": "viewer"}).status_code == 303
    assert accounts.role_in(501, 70) is Role.VIEWER
    assert acts(engine)[-1].actor_id == LOCAL


# tokens of an installation


def test_a_token_for_a_repository_sends_and_one_for_all_of_them_does_not(client: TestClient, engine: Engine) -> None:
    admin(client, engine)
    form = {"name": "serving", "scope": ["observations", "signals"], "lasts": "365"}
    assert client.post(f"{HERE}/tokens", data=form).status_code == 422
    made = client.post(f"{HERE}/tokens", data={**form, "repository": "70"})
    found = tokens(engine).bearer(text_of(made))
    assert found is not None
    assert found.repository is not None
    assert found.repository.full_name == "acme/trainer"
    (act,) = acts(engine)
    assert (act.installation_id, act.repository_id) == (1, 70)
    wide = client.post(f"{HERE}/tokens", data={"name": "ci", "scope": "read", "lasts": "7"})
    everything = tokens(engine).bearer(text_of(wide))
    assert everything is not None
    assert (everything.repository, everything.installation_id, everything.account_id) == (None, 1, 500)
    page = client.get(f"{HERE}/tokens").text
    assert "serving" in page
    assert "ci" in page


def test_a_token_is_made_for_no_repository_of_another_installation(client: TestClient, engine: Engine) -> None:
    admin(client, engine)
    form = {"name": "x", "scope": "read", "lasts": "7", "repository": "90"}
    assert client.post(f"{HERE}/tokens", data=form).status_code == 422
    assert tokens(engine).all() == []


def test_a_token_of_another_installation_is_not_there(client: TestClient, engine: Engine) -> None:
    local(client, engine)
    client.post("/settings/installations/9/tokens", data={"name": "x", "scope": "read", "lasts": "7"})
    admin(client, engine)
    assert client.post(f"{HERE}/tokens/1/revoke").status_code == 404
    assert tokens(engine).all()[0].revoked_at is None


def test_an_installation_that_the_app_was_removed_from_takes_its_tokens_along(
    client: TestClient, engine: Engine
) -> None:
    admin(client, engine)
    made = client.post(f"{HERE}/tokens", data={"name": "ci", "scope": "read", "lasts": "7"})
    with SqlStore(engine, Bell()).begin() as ledger:
        ledger.forget_installation(1)
    assert tokens(engine).bearer(text_of(made)) is None
    assert client.get(HERE).status_code == 404


# rules


RULES = """\
version: 1
notify: [{channel: ops, on: [escalated], quiet: {from: 22, to: 6}}]
freeze: [{name: always, hours: "00:00-24:00"}, {name: long ago, until: 2020-01-01}]
"""


@pytest.fixture
def heal_yml(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.healing.configuration import resolve

    def read(*_: object) -> Any:
        return resolve(RULES, None, known_detectors={}, known_actions={})

    monkeypatch.setattr(membership, "configuration", read)


@pytest.mark.usefixtures("heal_yml")
def test_the_rules_in_force_are_shown_with_where_they_are_changed(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[70])
    page = client.get(f"{HERE}/rules?repository=70").text
    assert "/acme/trainer/blob/main/.github/heal.yml" in page
    assert "ops" in page
    assert "not configured" in page
    assert page.count("In force") == 1
    assert page.count("Not in force now") == 1


@pytest.mark.usefixtures("heal_yml")
def test_rules_of_a_repository_that_one_does_not_see_are_not_there(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[70])
    for number in ("71", "90", "999", "x"):
        assert client.get(f"{HERE}/rules", params={"repository": number}).status_code == 404, number
    assert "acme/other" not in client.get(f"{HERE}/rules").text


def test_channels_are_told_by_name_and_never_by_address(engine: Engine) -> None:
    add_repository(engine, 70, "acme/trainer", installation_id=1)
    told: dict[str, Any] = {"notify": {"channels": {"ops": "slack://xoxb-secret/token"}}}
    client = TestClient(dashboard(engine, **told), raise_server_exceptions=False)
    visitor(client, engine, repositories=[70])
    page = client.get(f"{HERE}/rules").text
    assert "ops" in page
    assert "xoxb" not in page


def test_while_github_is_away_the_page_says_so(client: TestClient, engine: Engine) -> None:
    visitor(client, engine, repositories=[70])
    page = client.get(f"{HERE}/rules")
    assert page.status_code == 200
    assert "GitHub does not answer" in page.text

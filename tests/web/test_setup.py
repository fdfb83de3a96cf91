"""Setting the App up in the browser: who may, what is sent to GitHub, and what is served before and after."""

import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import structlog
from sqlalchemy import select
from starlette.testclient import TestClient

from app.db.credentials import Credentials
from app.db.engine import make_engine, reading
from app.db.setup import Setups
from app.db.tables import AuditRow, SignInRow
from app.settings import Settings
from app.web.serve import serve, staged, way_in
from app.wiring import Unconfigured, vault
from tests.sandbox.conftest import Github, app_key, github, listener
from tests.sandbox.test_manifest import hidden, post

__all__ = ["app_key", "github", "listener"]

HERE = "http://127.0.0.1:8000"
SAME = {"Sec-Fetch-Site": "same-origin"}
KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


def settings_of(database_url: str, **groups: Any) -> Settings:
    return Settings(**{"database": {"url": database_url}, "queue": {"threads": 0}, "vault": {"keys": KEY}, **groups})


class Bot:
    """`heal serve` on a machine that is not set up, seen by a browser."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.relayed: list[bool] = []
        self.stage, self.token, self._close = staged(settings, lambda: self.relayed.append(True), fresh_s=0.1)
        self.client = TestClient(self.stage, base_url=HERE, follow_redirects=False, raise_server_exceptions=False)

    def __enter__(self) -> "Bot":
        self.client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__(None, None, None)
        self._close()

    def enter(self) -> None:
        assert self.client.get(f"/setup?token={self.token}").status_code == 303

    def ask(self, **changes: str) -> Any:
        wish = {
            "github": "https://github.com",
            "whose": "account",
            "name": "My Heal",
            "public_url": "https://heal.example.com",
            "reach": "address",
            **changes,
        }
        return self.client.get(f"/setup/app?{urlencode(wish)}")

    def register(self, github: Github, **changes: str) -> Any:
        """The whole round trip over GitHub's pages, up to where they lead back."""
        page = self.ask(github=github.base_url, public_url=HERE, **changes)
        assert page.status_code == 200, page.text
        return self.client.get(self.confirm(page))

    def confirm(self, page: Any) -> str:
        (action,) = re.findall(r'<form method="post" action="([^"]+)"', page.text)
        asked = post(unescape(action), {"manifest": hidden(page.text)["manifest"]})
        assert asked.status_code == 200, asked.text
        form = hidden(asked.text)
        made = post(
            f"{unescape(action).partition('/settings/')[0].partition('/organizations/')[0]}/settings/apps", form
        )
        return made.headers["location"].removeprefix(HERE)

    def states(self) -> dict[str, str]:
        return dict(re.findall(r'id="step-(\w+)" data-state="(\w+)"', self.client.get("/setup").text))


@pytest.fixture
def settings(database_url: str) -> Settings:
    return settings_of(database_url)


@pytest.fixture
def bot(settings: Settings) -> Iterator[Bot]:
    with Bot(settings) as bot:
        yield bot


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


# who may


@pytest.mark.parametrize("path", ["/setup", "/setup/app", "/setup/created?code=x&state=y", "/setup?token=wrong"])
def test_without_the_token_there_is_no_setup(bot: Bot, path: str) -> None:
    assert bot.client.get(path).status_code == 404
    assert bot.client.post("/setup/finish", headers=SAME).status_code == 404


def test_the_token_becomes_a_cookie_and_leaves_the_address(bot: Bot) -> None:
    answer = bot.client.get(f"/setup?token={bot.token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/setup")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "path=/setup" in cookie
    page = bot.client.get("/setup")
    assert page.status_code == 200
    assert bot.token not in page.text


def test_the_cookie_goes_over_https_alone_where_there_is_https(bot: Bot) -> None:
    answer = bot.client.get(f"https://heal.example.com/setup?token={bot.token}")
    assert "secure" in answer.headers["set-cookie"].lower()


def test_only_a_hash_of_the_token_is_kept(bot: Bot) -> None:
    engine = make_engine(bot.settings.database_url())
    with reading(engine) as connection:
        kept = str(connection.execute(select(SignInRow)).all())
    engine.dispose()
    assert bot.token not in kept


def test_whoever_guesses_is_slowed_down(bot: Bot) -> None:
    answers = [bot.client.get(f"/setup?token=guess{number}") for number in range(25)]
    assert {answer.status_code for answer in answers} == {404, 429}
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_new_start_ends_the_former_token(settings: Settings, bot: Bot) -> None:
    with Bot(settings) as later:
        assert bot.client.get(f"/setup?token={bot.token}").status_code == 404
        assert later.client.get(f"/setup?token={later.token}").status_code == 303


def test_another_page_cannot_finish_the_setup(bot: Bot, github: Github) -> None:
    bot.enter()
    bot.register(github)
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        assert bot.client.post("/setup/finish", headers=headers).status_code == 403
    assert bot.client.get("/setup").status_code == 200


# before


def test_before_the_setup_nothing_else_is_served(bot: Bot) -> None:
    assert bot.client.get("/livez").json() == {"alive": True}
    ready = bot.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["probes"][0]["name"] == "setup"
    early = bot.client.post("/webhooks/github", content=b"{}")
    assert early.status_code == 503
    assert early.headers["retry-after"]
    page = bot.client.get("/incidents/1")
    assert page.status_code == 503
    assert "not set up yet" in page.text


def test_the_form_is_filled_in_with_what_is_known(database_url: str) -> None:
    with Bot(settings_of(database_url, web={"public_url": "https://heal.example.com"})) as bot:
        bot.enter()
        page = bot.client.get("/setup").text
    assert 'value="https://heal.example.com"' in page
    assert re.search(r'value="address" checked', page)


def test_a_machine_without_a_public_address_is_offered_the_relay(bot: Bot) -> None:
    bot.enter()
    page = bot.client.get("/setup").text
    assert f'value="{HERE}"' in page
    assert re.search(r'value="relay" checked', page)


# to GitHub and back


def test_the_manifest_goes_to_github_and_the_page_may_send_forms_there_alone(bot: Bot) -> None:
    bot.enter()
    page = bot.ask(whose="organization", owner="acme", extras="workflows")
    action = unescape(re.findall(r'<form method="post" action="([^"]+)"', page.text)[0])
    assert action.startswith("https://github.com/organizations/acme/settings/apps/new?state=")
    manifest = json.loads(hidden(page.text)["manifest"])
    assert manifest["name"] == "My Heal"
    assert manifest["redirect_url"] == f"{HERE}/setup/created"
    assert manifest["default_permissions"]["workflows"] == "write"
    policy = page.headers["content-security-policy"]
    assert "form-action https://github.com;" in policy
    assert "unsafe" not in policy
    assert "form-action 'self'" in bot.client.get("/setup").headers["content-security-policy"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"github": "https://github.com/x; script-src *"}, "more than an address"),
        ({"public_url": "http://10.0.0.1"}, "choose the relay"),
        ({"whose": "organization", "owner": ""}, "Name the organisation"),
        ({"whose": "organization", "owner": "a/b"}, "no name of an organisation"),
        ({"name": ""}, "1 to 34 characters"),
        ({"extras": "everything"}, "not a valid Extra"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_says_why_and_keeps_what_was_typed(
    bot: Bot, changes: dict[str, str], told: str
) -> None:
    bot.enter()
    page = bot.ask(**{"name": "Typed", **changes})
    assert page.status_code == 422
    assert told in unescape(page.text)
    assert "script-src *" not in page.headers["content-security-policy"]
    if "name" not in changes:
        assert 'value="Typed"' in page.text


@pytest.mark.parametrize(
    ("groups", "variable"),
    [
        ({"github": {"web_url": "https://github.example"}}, "HEAL_GITHUB__WEB_URL"),
        ({"github": {"api_url": "https://github.example/api/v3"}}, "HEAL_GITHUB__API_URL"),
        ({"web": {"public_url": "https://other.example.com"}}, "HEAL_WEB__PUBLIC_URL"),
    ],
)
def test_a_wish_that_the_environment_overrules_is_not_registered(
    sqlite_template: Path, tmp_path: Path, groups: dict[str, Any], variable: str
) -> None:
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    with Bot(settings_of(f"sqlite:///{tmp_path / 'heal.db'}", **groups)) as bot:
        bot.enter()
        page = bot.ask()
    assert page.status_code == 422
    assert variable in page.text


def test_github_hands_over_the_app_and_everything_is_served_without_a_restart(bot: Bot, github: Github) -> None:
    bot.enter()
    back = bot.register(github)
    assert (back.status_code, back.headers["location"]) == (303, "/setup")
    kept = Credentials(make_engine(bot.settings.database_url()), vault(bot.settings)).all()
    assert kept["slug"] == b"my-heal"
    assert kept["private_key"].startswith(b"-----BEGIN")
    assert kept["api_url"] == github.api_url.encode()
    assert bot.client.get("/readyz").status_code == 200
    assert bot.client.post("/webhooks/github", content=b"{}").status_code == 415
    page = bot.client.get("/setup").text
    assert f'href="{github.base_url}/github-apps/my-heal/installations/new"' in page
    for secret in ("private_key", "webhook_secret", "client_secret"):
        assert kept[secret].decode() not in page


def test_the_way_back_is_good_once_and_only_for_who_left(bot: Bot, settings: Settings, github: Github) -> None:
    bot.enter()
    way = bot.confirm(bot.ask(github=github.base_url, public_url=HERE))
    stolen = {"state": [Setups(make_engine(settings.database_url())).leave("another token", "{}")], "code": ["abc"]}
    assert bot.client.get(f"/setup/created?{urlencode(stolen, doseq=True)}").status_code == 400
    assert bot.client.get(f"/setup/created?code=abc&state={'x' * 43}").status_code == 400
    assert bot.client.get(way).status_code == 303
    assert bot.client.get(way).status_code == 400


def test_a_code_that_github_does_not_know_leaves_the_setup_open(bot: Bot, github: Github) -> None:
    bot.enter()
    page = bot.ask(github=github.base_url, public_url=HERE)
    state = parse_qs(urlsplit(unescape(re.findall(r'action="([^"]+settings/apps/new[^"]*)"', page.text)[0])).query)
    refused = bot.client.get(f"/setup/created?code=unknown&state={state['state'][0]}")
    assert refused.status_code == 400
    assert "did not hand over the App" in refused.text
    assert bot.client.get("/setup").status_code == 200
    assert bot.register(github).status_code == 303


def test_github_being_away_does_not_use_the_way_back_up(bot: Bot) -> None:
    bot.enter()
    page = bot.ask(github="http://127.0.0.1:1", public_url=HERE)
    state = parse_qs(urlsplit(unescape(re.findall(r'action="([^"]+settings/apps/new[^"]*)"', page.text)[0])).query)
    way = f"/setup/created?code=abc&state={state['state'][0]}"
    for _ in range(2):
        away = bot.client.get(way)
        assert away.status_code == 503
        assert f'href="{way}"' in unescape(away.text)


def test_a_bot_that_cannot_start_with_its_app_says_why(bot: Bot, github: Github) -> None:
    bot.enter()
    way = bot.confirm(bot.ask(github=github.base_url, public_url=HERE))
    with patch("app.web.serve.wire", side_effect=Unconfigured("two plugins of one kind")):
        answer = bot.client.get(way)
    assert answer.status_code == 503
    assert "two plugins of one kind" in answer.text
    until(lambda: bot.client.get("/setup").status_code == 200 and "step-installed" in bot.client.get("/setup").text)


def test_nothing_secret_is_logged(bot: Bot, github: Github, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as lines:
        bot.enter()
        bot.register(github)
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    told = str(ours) + str(lines)
    kept = Credentials(make_engine(bot.settings.database_url()), vault(bot.settings)).all()
    assert "app_registered" in told
    secrets = [bot.token, *(kept[name].decode() for name in ("private_key", "webhook_secret", "client_secret"))]
    assert [secret for secret in secrets if secret in told] == []


# the checklist


def test_the_checklist_turns_green(bot: Bot, github: Github) -> None:
    github.create("model", {"README.md": "# Model"})
    bot.enter()
    assert set(bot.states().values()) == {"waiting"}
    bot.register(github)
    states = bot.states()
    assert {name for name, state in states.items() if state == "done"} == {"registered", "key", "secret"}
    post(f"{github.base_url}/apps/my-heal/installations", {"owner": "acme"})
    until(lambda: bot.states()["installed"] == "done")
    assert "On one repository." in bot.client.get("/setup").text


def test_a_delivery_makes_it_complete_and_then_the_setup_is_over(bot: Bot, github: Github) -> None:
    github.create("model", {"README.md": "# Model"})
    bot.enter()
    bot.register(github)
    post(f"{github.base_url}/apps/my-heal/installations", {"owner": "acme"})
    settle(github)
    for sent in [each for each in github.sandbox.state.deliveries if each.event in ("ping", "installation")]:
        bot.client.post("/webhooks/github", content=sent.raw, headers=sent.request_headers)
    until(lambda: set(bot.states().values()) == {"done"})
    done = bot.client.post("/setup/finish", headers=SAME)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert bot.client.get("/setup").status_code == 404
    assert bot.client.get(f"/setup?token={bot.token}").status_code == 404
    with reading(make_engine(bot.settings.database_url())) as connection:
        told = list(connection.scalars(select(AuditRow.verb).order_by(AuditRow.id)))
    assert told[:2] == ["register_app", "finish_setup"]


def test_whoever_holds_the_machine_is_signed_in_at_the_end(
    sqlite_template: Path, tmp_path: Path, github: Github
) -> None:
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    with Bot(settings_of(f"sqlite:///{tmp_path / 'heal.db'}")) as bot:
        bot.enter()
        bot.register(github)
        bot.client.post("/setup/finish", headers=SAME)
        assert bot.client.get("/system").status_code == 200
        engine = make_engine(bot.settings.database_url())
        with reading(engine) as connection:
            assert "sign_in" in list(connection.scalars(select(AuditRow.verb)))
        engine.dispose()


def test_elsewhere_the_setup_signs_nobody_in(sqlite_template: Path, tmp_path: Path, github: Github) -> None:
    shutil.copy(sqlite_template, tmp_path / "heal.db")
    with Bot(settings_of(f"sqlite:///{tmp_path / 'heal.db'}", web={"host": "0.0.0.0"})) as bot:
        bot.enter()
        bot.register(github)
        bot.client.post("/setup/finish", headers=SAME)
        assert bot.client.get("/system", headers={"Accept": "text/html"}).headers["location"].startswith("/sign-in")


def test_a_delivery_that_fails_is_asked_for_again_before_the_address_is_blamed(bot: Bot, github: Github) -> None:
    bot.enter()
    bot.register(github)
    until(lambda: bot.states()["address"] == "trouble")
    settle(github)
    pings = [each for each in github.sandbox.state.deliveries if each.event == "ping"]
    assert [each.redelivery for each in pings] == [False, True]
    assert "GitHub could not deliver to" in bot.client.get("/setup").text


def test_a_key_that_github_does_not_take_is_told(bot: Bot, github: Github) -> None:
    bot.enter()
    bot.register(github)
    assert bot.states()["key"] == "done"
    github.sandbox.state.app = github.sandbox.state.actions_app
    until(lambda: bot.states()["key"] == "trouble")


def test_with_the_relay_what_could_not_be_delivered_is_fetched_from_then_on(bot: Bot, github: Github) -> None:
    bot.enter()
    assert bot.relayed == []
    bot.register(github, reach="relay")
    assert bot.relayed == [True]
    assert github.sandbox.state.hook.url == "https://relay.invalid/webhooks/github"
    states = bot.states()
    assert states["relay"] == "waiting"
    assert "address" not in states


# other ways


def test_what_another_process_set_up_is_found(bot: Bot, settings: Settings, github: Github) -> None:
    bot.enter()
    kept = {
        "app_id": "7",
        "slug": "heal",
        "private_key": "PEM",
        "webhook_secret": "s",
        "client_id": "c",
        "client_secret": "s",
        "api_url": github.api_url,
        "web_url": github.base_url,
        "public_url": HERE,
    }
    Credentials(make_engine(settings.database_url()), vault(settings)).keep(
        {name: value.encode() for name, value in kept.items()}
    )
    until(lambda: bot.client.get("/webhooks/github").status_code == 405)


def test_who_has_installed_the_app_is_led_on(bot: Bot) -> None:
    assert bot.client.get("/setup/installed?installation_id=1").headers["location"] == "/"
    bot.enter()
    assert bot.client.get("/setup/installed?installation_id=1").headers["location"] == "/setup"


def test_without_a_key_for_the_vault_the_setup_does_not_start() -> None:
    with pytest.raises(Unconfigured, match="HEAL_VAULT__KEYS_FILE"):
        staged(Settings(database={"url": "postgresql+psycopg://nobody@nowhere/heal"}))


def test_a_database_that_is_behind_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unconfigured, match="heal db upgrade"):
        staged(settings_of(f"sqlite:///{tmp_path / 'new.db'}"))


def test_several_processes_are_one_until_the_app_is_known(settings: Settings) -> None:
    several = settings.model_copy(
        update={
            "web": settings.web.model_copy(update={"processes": 3}),
            "queue": settings.queue.model_copy(update={"broker_url": "redis://127.0.0.1:1"}),
        }
    )
    said: list[str] = []
    with patch("app.web.serve._run_here", side_effect=SystemExit), pytest.raises(SystemExit):
        serve(several, said.append)
    told = "\n".join(said)
    assert re.search(r"http://127\.0\.0\.1:8000/setup\?token=\S{43}", told)
    assert "one process serves" in told


@pytest.mark.parametrize(
    ("web", "address"),
    [
        ({}, "http://127.0.0.1:8000/setup?token=t"),
        ({"host": "0.0.0.0", "port": 80}, "http://127.0.0.1:80/setup?token=t"),
        ({"host": "::1"}, "http://[::1]:8000/setup?token=t"),
        ({"public_url": "https://heal.example.com/"}, "https://heal.example.com/setup?token=t"),
    ],
)
def test_the_printed_address_can_be_opened(web: dict[str, Any], address: str) -> None:
    assert way_in(Settings(web=web).web, "t") == address


def settle(github: Github) -> None:
    until(lambda: github.sandbox.state.idle)

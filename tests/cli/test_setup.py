"""Setting the App up from a terminal."""

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import Engine

from app.db.credentials import Credentials
from app.db.setup import Setups
from app.security.vault import Vault, keys_of
from tests.cli.conftest import Heal
from tests.sandbox.conftest import Github, app_key, github, listener
from tests.sandbox.test_manifest import hidden, post

__all__ = ["app_key", "github", "listener"]

KEY = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
PUBLIC = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAL_VAULT__KEYS", KEY)


def led_to(page: str, base_url: str) -> str:
    """Fill in the form of that page at GitHub; the address that it leads to."""
    (action,) = re.findall(r'<form method="post" action="([^"]+)"', page)
    asked = post(unescape(action), {"manifest": hidden(page)["manifest"]})
    assert asked.status_code == 200, asked.text
    return post(f"{base_url}/settings/apps", hidden(asked.text)).headers["location"]


def form(heal: Heal, github: Github, *more: str) -> str:
    done = heal(
        "setup", "--form", "form.html", "--github", github.base_url, "--public-url", PUBLIC, "--name", "Ours", *more
    )
    assert done.exit_code == 0, done.output
    return Path("form.html").read_text()


def test_an_address_is_printed_that_the_running_server_takes(heal: Heal, engine: Engine) -> None:
    first, second = heal("setup"), heal("setup", "--json")
    assert first.exit_code == second.exit_code == 1
    token = re.findall(r"http://127\.0\.0\.1:8000/setup\?token=(\S+)", first.stdout)[0]
    told = json.loads(second.stdout)
    assert told["done"] is False
    assert {step["state"] for step in told["steps"]} == {"waiting"}
    assert not Setups(engine).knows(token)
    assert Setups(engine).knows(told["address"].partition("token=")[2])


def test_a_form_for_another_machine_s_browser_leads_to_a_code(heal: Heal, github: Github, engine: Engine) -> None:
    way = led_to(form(heal, github, "--organization", "acme", "--extra", "runners"), github.base_url)
    done = heal("setup", "--code", way, "--json")
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    states = {step["name"]: step["state"] for step in told["steps"]}
    assert (states["registered"], states["key"], states["installed"]) == ("done", "done", "waiting")
    assert told["address"] == f"{github.base_url}/github-apps/ours/installations/new"
    kept = Credentials(engine, Vault(keys_of(KEY))).all()
    assert kept["public_url"] == PUBLIC.encode()
    assert dict(github.sandbox.state.app.permissions)["administration"] == "read"
    for secret in ("private_key", "webhook_secret", "client_secret"):
        assert kept[secret].decode() not in done.output


def test_the_code_alone_is_enough(heal: Heal, github: Github) -> None:
    way = led_to(form(heal, github, "--relay"), github.base_url)
    done = heal("setup", "--code", re.findall(r"code=(\w+)", way)[0])
    assert "Ours is registered" in done.stderr
    assert "relay" in done.stdout


def test_what_was_set_up_is_checked(heal: Heal, github: Github) -> None:
    before = {probe["name"]: probe for probe in json.loads(heal("check", "--json").stdout)}
    assert before["vault"]["ok"]
    assert "heal serve" in before["GitHub"]["hint"]
    assert "sign-in" not in before
    heal("setup", "--code", led_to(form(heal, github), github.base_url))
    after = {probe["name"]: probe for probe in json.loads(heal("check", "--json").stdout)}
    assert after["GitHub"]["detail"] == f"{github.api_url} answers ours"
    assert after["sign-in"]["detail"] == "with GitHub"


def test_a_key_that_is_none_is_told(heal: Heal) -> None:
    told = {probe["name"]: probe for probe in json.loads(heal("check", "--json", HEAL_VAULT__KEYS="x").stdout)}
    assert not told["vault"]["ok"]
    assert "openssl rand" in told["vault"]["hint"]


def test_a_code_is_good_once(heal: Heal, github: Github) -> None:
    way = led_to(form(heal, github), github.base_url)
    assert heal("setup", "--code", way).exit_code == 1
    again = heal("setup", "--code", way)
    assert again.exit_code == 2
    assert "heal setup --form" in again.stderr


def test_a_way_back_that_nobody_left_on_is_refused(heal: Heal) -> None:
    stray = f"{PUBLIC}/setup/created?{urlencode({'code': 'abc', 'state': 'x'})}"
    done = heal("setup", "--code", stray)
    assert done.exit_code == 2
    assert "no registration of the last hour" in done.stderr


def test_github_being_away_keeps_the_code_good(heal: Heal, github: Github) -> None:
    form(heal, github)
    away = "http://127.0.0.1:1"
    heal("setup", "--form", "form.html", "--github", away, "--public-url", PUBLIC)
    assert [heal("setup", "--code", "abc").exit_code for _ in range(2)] == [3, 3]


def test_a_form_needs_to_know_where_the_bot_is(heal: Heal) -> None:
    done = heal("setup", "--form", "form.html")
    assert done.exit_code == 2
    assert "--public-url" in done.stderr


def test_a_private_address_needs_the_relay(heal: Heal) -> None:
    done = heal("setup", "--form", "form.html", "--public-url", "http://127.0.0.1:8000")
    assert done.exit_code == 2
    assert "choose the relay" in done.stderr
    assert heal("setup", "--form", "form.html", "--public-url", "http://127.0.0.1:8000", "--relay").exit_code == 0


def test_a_file_that_is_not_there_is_named(heal: Heal) -> None:
    done = heal("serve", HEAL_GITHUB__APP_ID="", HEAL_GITHUB__PRIVATE_KEY_FILE="secrets/key.pem")
    assert done.exit_code == 2
    assert "secrets/key.pem" in done.stderr


def test_serving_without_anything_needs_a_key_for_what_is_handed_over(heal: Heal, postgres_url: str) -> None:
    done = heal("serve", HEAL_DATABASE__URL=postgres_url, HEAL_VAULT__KEYS="")
    assert done.exit_code == 2
    assert "HEAL_VAULT__KEYS_FILE" in done.stderr

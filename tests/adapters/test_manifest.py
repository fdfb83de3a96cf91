"""What the App asks GitHub for: no more and no less than the code needs, in the form that GitHub takes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.adapters.github import webhook
from app.adapters.github.manifest import (
    EVENTS,
    EXTRA_EVENTS,
    EXTRA_PERMISSIONS,
    PERMISSIONS,
    Extra,
    Registered,
    Site,
    Wish,
    address,
    convert,
    events,
    is_private,
    permissions,
)
from app.domain.errors import Malformed, Refused, Unreachable
from app.i18n.retell import recognised
from sandbox.manifest import read
from tests.sandbox.conftest import Github, app_key, github, listener
from tests.sandbox.contract import rest, webhooks
from tests.sandbox.test_manifest import register

__all__ = ["app_key", "github", "listener"]

INSTALL = (Path(__file__).parents[2] / "docs/how-to/install.md").read_text()
CLOUD = Site()
NAMES = {
    "Dependabot alerts": "vulnerability_alerts",
    "Code scanning alerts": "security_events",
    "Secret scanning alerts": "secret_scanning_alerts",
}
ALL = frozenset(Extra)


def wish(**changes: object) -> Wish:
    return Wish(**{"site": CLOUD, "public_url": "https://heal.example.com", "name": "Heal", **changes})  # type: ignore[arg-type]


def _section(title: str) -> str:
    return INSTALL.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_page_about_installing_tells_of_the_same_permissions() -> None:
    rows = re.findall(r"^\| ([A-Z][A-Za-z ]+) \| (Read[a-z -]*?)(, optional)? \|", _section("What it asks for"), re.M)
    told = {
        NAMES.get(label, label.lower().replace(" ", "_")): ("write" if "write" in access else "read", bool(optional))
        for label, access, optional in rows
    }
    needed = {name: (level, False) for name, level in PERMISSIONS.items()}
    optional = {name: (level, True) for name, level in permissions(ALL).items() if name not in PERMISSIONS}
    assert told == needed | optional


def test_the_page_about_installing_tells_of_the_same_events() -> None:
    told = re.findall(r"\*\*([A-Z][a-z ]+)\*\*", _section("What it asks for"))
    assert sorted(name.lower().replace(" ", "_") for name in told) == events(ALL)


def test_the_app_subscribes_to_what_the_code_reads_and_to_nothing_else() -> None:
    read_here = {event for event, _ in webhook._READERS} - {"installation", "installation_repositories"}
    assert set(events(ALL)) == read_here
    assert set(events()) == set(EVENTS)


def test_every_event_comes_with_an_extra_that_grants_it() -> None:
    assert set(EXTRA_EVENTS) <= set(EXTRA_PERMISSIONS) == set(Extra)


def test_permissions_and_events_are_those_that_github_knows() -> None:
    known = rest()["components"]["schemas"]["app-permissions"]["properties"]
    assert [name for name, level in permissions(ALL).items() if level not in known[name]["enum"]] == []
    described = webhooks()["webhooks"]
    assert [
        event for event in events(ALL) if not any(name.startswith(event.replace("_", "-")) for name in described)
    ] == []


@pytest.mark.parametrize("extras", [frozenset(), ALL, *(frozenset({extra}) for extra in Extra)])
def test_the_manifest_is_one_that_is_taken(extras: frozenset[Extra], github: Github) -> None:
    manifest = wish(extras=extras).manifest()
    assert set(manifest) <= {
        *("name", "url", "hook_attributes", "redirect_url", "callback_urls", "setup_url", "description", "public"),
        *("default_events", "default_permissions", "request_oauth_on_install", "setup_on_update"),
    }
    assert read(github.sandbox.state, json.dumps(manifest))[1] == []


def test_people_come_back_to_where_they_set_it_up_and_sign_in_at_the_public_address() -> None:
    manifest = wish(here="http://127.0.0.1:8000").manifest()
    assert manifest["redirect_url"] == "http://127.0.0.1:8000/setup/created"
    assert manifest["callback_urls"] == ["https://heal.example.com/auth/callback"]
    assert manifest["hook_attributes"]["url"] == "https://heal.example.com/webhooks/github"
    assert manifest["request_oauth_on_install"] is False
    assert manifest["public"] is False


def test_with_the_relay_events_go_to_an_address_that_can_never_lead_anywhere() -> None:
    manifest = wish(public_url="http://127.0.0.1:8000", relay=True).manifest()
    assert re.fullmatch(r"https://[a-z.]+\.invalid/webhooks/github", manifest["hook_attributes"]["url"])
    assert manifest["callback_urls"] == ["http://127.0.0.1:8000/auth/callback"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://laptop:8000", "https://10.0.0.7", "http://[::1]:80"])
def test_an_address_that_github_cannot_reach_needs_the_relay(url: str) -> None:
    with pytest.raises(Malformed, match="choose the relay"):
        wish(public_url=url)
    assert wish(public_url=url, relay=True).relay


def test_an_enterprise_server_may_reach_what_is_private() -> None:
    assert wish(site=Site("https://git.corp"), public_url="https://heal.corp").public_url == "https://heal.corp"
    assert not is_private("https://heal.example.com")


@pytest.mark.parametrize(
    ("told", "web", "api", "installs"),
    [
        ("github.com", "https://github.com", "https://api.github.com", "https://github.com/apps/heal"),
        (
            "https://acme.ghe.com/",
            "https://acme.ghe.com",
            "https://api.acme.ghe.com",
            "https://acme.ghe.com/apps/heal",
        ),
        (
            "https://GitHub.acme.example:8443",
            "https://github.acme.example:8443",
            "https://github.acme.example:8443/api/v3",
            "https://github.acme.example:8443/github-apps/heal",
        ),
    ],
)
def test_github_is_found_wherever_it_stands(told: str, web: str, api: str, installs: str) -> None:
    site = Site(told)
    assert (site.web_url, site.api_url) == (web, api)
    assert site.installation("heal") == f"{installs}/installations/new"
    assert site.new_app("", "s1") == f"{web}/settings/apps/new?state=s1"
    assert site.new_app("acme", "s1") == f"{web}/organizations/acme/settings/apps/new?state=s1"


@pytest.mark.parametrize(
    "told",
    [
        "",
        "ftp://github.com",
        "https://github.com/acme",
        "https://user@github.com",
        "https://github.com; script-src *",
        "https://github.com:port",
        "https://git hub.com",
        "https://github.com?x",
    ],
)
def test_what_is_no_address_never_reaches_a_header_or_a_link(told: str) -> None:
    with pytest.raises(Malformed):
        address(told)


def test_keys_are_not_taken_over_a_line_that_anybody_can_read() -> None:
    with pytest.raises(Malformed, match="https"):
        Site("http://github.example.com")


@pytest.mark.parametrize("owner", ["acme/evil", "acme?x=1", "-acme", "a b"])
def test_what_is_no_organisation_is_refused(owner: str) -> None:
    with pytest.raises(Malformed, match="organisation"):
        wish(organization=owner)


@pytest.mark.parametrize("name", ["", "x" * 35, "line\nbreak"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Malformed, match="name"):
        wish(name=name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: address("https://github.com:port"),
        lambda: address("https://git hub.com"),
        lambda: address("https://github.com/acme"),
        lambda: Site("http://github.example.com"),
        lambda: wish(organization="a b"),
        lambda: wish(name=""),
        lambda: wish(public_url="http://10.0.0.7"),
    ],
)
def test_what_is_said_about_a_wish_can_be_told_in_the_reader_s_language(make: Callable[[], object]) -> None:
    with pytest.raises(Malformed) as refused:
        make()
    assert recognised(str(refused.value)) is not None


def test_a_code_is_exchanged_for_the_app_s_key_and_secrets(github: Github) -> None:
    got = convert(Site(github.base_url), register(github))
    assert got.app_id > 0
    assert got.private_key.startswith("-----BEGIN RSA PRIVATE KEY-----")
    assert all((got.slug, got.client_id, got.client_secret, got.webhook_secret))
    for secret in (got.private_key, got.client_secret, got.webhook_secret):
        assert secret not in repr(got)


def test_a_person_who_owns_the_app_is_told_by_number_and_an_organisation_is_not(github: Github) -> None:
    person = github.sandbox.state.account("maintainer")
    assert convert(Site(github.base_url), register(github)).operator == person.id
    assert convert(Site(github.base_url), register(github, org="acme")).operator == 0


def test_a_code_that_was_used_is_refused(github: Github) -> None:
    code = register(github)
    assert isinstance(convert(Site(github.base_url), code), Registered)
    with pytest.raises(Refused, match="404"):
        convert(Site(github.base_url), code)


@pytest.mark.parametrize("code", ["", "../../user", "a b", "x" * 101])
def test_what_is_no_code_is_not_sent(code: str) -> None:
    with pytest.raises(Malformed):
        convert(CLOUD, code)


def test_github_being_away_is_no_refusal() -> None:
    with pytest.raises(Unreachable, match=r"no answer from http://127\.0\.0\.1:1"):
        convert(Site("http://127.0.0.1:1"), "abc")

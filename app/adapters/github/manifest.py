"""The App's registration at GitHub: the manifest that asks for it, and what GitHub hands over for it.

This is the home of the permissions and events that the bot needs; docs/how-to/install.md tells the same.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import requests

from app.adapters.github.client import API_VERSION, USER_AGENT, trouble
from app.domain.errors import Malformed, Unreachable

PERMISSIONS: Mapping[str, str] = {
    "actions": "write",
    "checks": "write",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
}
EVENTS = ("check_run", "issue_comment", "pull_request", "push", "workflow_run")
"""Besides `installation` and `installation_repositories`, which every App is sent."""


class Extra(StrEnum):
    """What an App may be allowed in addition."""

    WORKFLOWS = "workflows"
    RUNNERS = "runners"
    ALERTS = "alerts"


EXTRA_PERMISSIONS: Mapping[Extra, Mapping[str, str]] = {
    Extra.WORKFLOWS: {"workflows": "write"},
    Extra.RUNNERS: {"administration": "read"},
    Extra.ALERTS: {"vulnerability_alerts": "read", "security_events": "read", "secret_scanning_alerts": "read"},
}
EXTRA_EVENTS: Mapping[Extra, tuple[str, ...]] = {
    Extra.ALERTS: ("code_scanning_alert", "dependabot_alert", "secret_scanning_alert"),
}
NAME_LENGTH = 34
NOBODY = "https://relay.invalid"
"""No name below `.invalid` ever leads anywhere (RFC 6761): GitHub records what it could not deliver there, and nobody
else gets to read it."""

_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:]{2,39}\]")
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,100}")


def address(text: str) -> str:
    """`https://HOST[:PORT]` as it stands in links, also where the scheme was left out. Raises Malformed."""
    told = text.strip().rstrip("/")
    try:
        parts = urlsplit(told if "://" in told else f"https://{told}")
        host, port = parts.netloc.lower(), parts.port
    except ValueError:
        raise Malformed(f"{text!r} is no address") from None
    name = host.removesuffix(f":{port}")
    if parts.scheme not in ("https", "http") or not _HOST.fullmatch(name):
        raise Malformed(f"{text!r} is no address: write it as https://heal.example.com")
    if parts.path or parts.query or parts.fragment:
        raise Malformed(f"{text!r} is more than an address: leave out what follows the host")
    return f"{parts.scheme}://{host}"


def is_private(url: str) -> bool:
    """Whether GitHub.com cannot reach that address: it is of this machine, or of a private network."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".test", ".invalid"))


@dataclass(frozen=True, slots=True)
class Site:
    """GitHub.com, a GitHub Enterprise Server, or a tenant of its own on GHE.com, by the address of its pages."""

    web_url: str = "https://github.com"

    def __post_init__(self) -> None:
        """Raises Malformed."""
        object.__setattr__(self, "web_url", address(self.web_url))
        if self.web_url.startswith("http:") and not is_private(self.web_url):
            raise Malformed(f"{self.web_url} must begin with https://: keys of the App come from there")

    @property
    def _in_the_cloud(self) -> bool:
        host = urlsplit(self.web_url).netloc
        return host == "github.com" or host.endswith(".ghe.com")

    @property
    def api_url(self) -> str:
        scheme, _, host = self.web_url.partition("://")
        return f"{scheme}://api.{host}" if self._in_the_cloud else f"{self.web_url}/api/v3"

    def new_app(self, organization: str, state: str) -> str:
        """Where the manifest is posted to. Raises Malformed for what is no organisation's name."""
        if organization and not _LOGIN.fullmatch(organization):
            raise Malformed(f"{organization!r} is no name of an organisation: write it as it stands in its address")
        owner = f"/organizations/{quote(organization)}" if organization else ""
        return f"{self.web_url}{owner}/settings/apps/new?{urlencode({'state': state})}"

    def installation(self, slug: str) -> str:
        """Where people install the App."""
        apps = "apps" if self._in_the_cloud else "github-apps"
        return f"{self.web_url}/{apps}/{quote(slug)}/installations/new"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants registered. `public_url` is where people reach the bot, `here` where they set it up and come
    back to, if that is another address of it. `relay`: GitHub does not reach it there, and its list of deliveries is
    polled instead."""

    site: Site
    public_url: str
    name: str
    organization: str = ""
    relay: bool = False
    extras: frozenset[Extra] = frozenset()
    here: str = ""

    def __post_init__(self) -> None:
        """Raises Malformed."""
        object.__setattr__(self, "public_url", address(self.public_url))
        object.__setattr__(self, "here", address(self.here or self.public_url))
        if not 0 < len(self.name) <= NAME_LENGTH or not self.name.isprintable():
            raise Malformed(f"the App's name has 1 to {NAME_LENGTH} characters")
        if not self.relay and is_private(self.public_url) and not is_private(self.site.web_url):
            raise Malformed(
                f"GitHub cannot reach {self.public_url}: give a public address, or choose the relay, which needs none"
            )
        self.site.new_app(self.organization, "")

    def manifest(self) -> dict[str, Any]:
        """As GitHub takes it."""
        return {
            "name": self.name,
            "url": self.public_url,
            "description": "Diagnoses failed workflows, proposes repairs, and proves that they worked.",
            "public": False,
            "hook_attributes": {
                "url": f"{NOBODY if self.relay else self.public_url}/webhooks/github",
                "active": True,
            },
            "redirect_url": f"{self.here}/setup/created",
            "callback_urls": [f"{self.public_url}/auth/callback"],
            "setup_url": f"{self.public_url}/setup/installed",
            "setup_on_update": False,
            "request_oauth_on_install": False,
            "default_permissions": permissions(self.extras),
            "default_events": events(self.extras),
        }


def permissions(extras: Collection[Extra] = ()) -> dict[str, str]:
    return dict(PERMISSIONS) | {name: level for extra in extras for name, level in EXTRA_PERMISSIONS[extra].items()}


def events(extras: Collection[Extra] = ()) -> list[str]:
    return sorted({*EVENTS, *(event for extra in extras for event in EXTRA_EVENTS.get(extra, ()))})


@dataclass(frozen=True, slots=True)
class Registered:
    """What GitHub hands over, once, for an App that was registered by a manifest. `operator` is the number of the
    person who owns it, and so holds its keys on GitHub; 0 where an organisation does."""

    app_id: int
    slug: str
    name: str
    operator: int
    client_id: str
    client_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    private_key: str = field(repr=False)


def convert(site: Site, code: str, *, timeout_s: float = 15.0) -> Registered:
    """Exchange the code, which is good once and for an hour. Raises Malformed, Refused, Unreachable, RateLimited."""
    if not _CODE.fullmatch(code):
        raise Malformed("this is no code of GitHub's")
    call = "POST /app-manifests/…/conversions"
    headers = {
        "Accept": "application/vnd.github+json",
        "User-Agent": USER_AGENT,
        "X-GitHub-Api-Version": API_VERSION,
    }
    url = f"{site.api_url}/app-manifests/{code}/conversions"
    try:
        answer = requests.post(url, headers=headers, timeout=timeout_s, allow_redirects=False)
    except requests.RequestException as error:
        raise Unreachable(f"{call}: no answer from {site.api_url} ({type(error).__name__})") from None
    if answer.status_code != 201:
        said = {name.lower(): value for name, value in answer.headers.items()}
        raise trouble(call, answer.status_code, said, answer.text, datetime.now(UTC))
    return _registered(answer)


def _registered(answer: requests.Response) -> Registered:
    try:
        told = answer.json()
        owner = told.get("owner") or {}
        return Registered(
            app_id=int(told["id"]),
            slug=str(told["slug"]),
            name=str(told["name"]),
            operator=int(owner["id"]) if owner.get("type") == "User" else 0,
            client_id=str(told["client_id"]),
            client_secret=str(told["client_secret"]),
            webhook_secret=str(told["webhook_secret"] or ""),
            private_key=str(told["pem"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Malformed("GitHub's answer holds no App; register it by hand, see docs/how-to/install.md") from None

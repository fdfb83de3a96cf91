"""How far the setup has come: the App registered, its key and secrets at work, installed, heard of."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from app.adapters.github.app import GitHubApp
from app.adapters.github.manifest import Site
from app.db.credentials import Credentials
from app.db.setup import Setups
from app.domain.errors import HealError
from app.security.vault import Sealed
from app.wiring import Wired

FRESH_S = 5.0
MOST_INSTALLATIONS = 5
RECENT = timedelta(days=1)


class State(StrEnum):
    DONE = "done"
    WAITING = "waiting"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the checklist. `name` is steady, the rest is in the reader's language."""

    name: str
    state: State
    title: str
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known. `key_trouble` is why GitHub does not take the key, `refusal` what GitHub wrote down about the
    newest delivery that did not arrive; empty for none."""

    app_id: int = 0
    slug: str = ""
    key_trouble: str = ""
    secrets: int = 0
    repositories: int = 0
    accounts: int = 0
    arrived: bool = False
    refusal: str = ""
    relay: bool = False
    public_url: str = ""
    web_url: str = ""

    @property
    def install_url(self) -> str:
        return Site(self.web_url).installation(self.slug) if self.slug else ""


class Checklist:
    """Asks GitHub and the database at most once in `fresh_s`, however many look."""

    def __init__(self, *, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._facts = Facts()
        self._until = 0.0

    def look(self, wired: Wired | None) -> Facts:
        with self._lock:
            if time.monotonic() >= self._until:
                self._facts = facts_of(wired) if wired is not None else Facts()
                self._until = time.monotonic() + (self._fresh_s if wired is not None else 0.0)
            return self._facts


def facts_of(wired: Wired) -> Facts:
    settings = wired.settings
    kept = kept_of(wired)
    slug = kept.get("slug", b"").decode()
    relay = wants_relay(wired)
    key_trouble, repositories, accounts, refusal = "", 0, 0, ""
    arrived = Setups(wired.engine).delivered()
    try:
        slug = wired.app.slug()
        installed = wired.app.installations()
        accounts = len(installed)
        repositories = sum(len(wired.app.repositories(one)) for one in installed[:MOST_INSTALLATIONS])
        refusal = "" if arrived or relay else _refusal(wired.app)
    except HealError as error:
        key_trouble = str(error)
    return Facts(
        app_id=settings.github.app_id,
        slug=slug,
        key_trouble=key_trouble,
        secrets=len(settings.webhook_secrets()),
        repositories=repositories,
        accounts=accounts,
        arrived=arrived,
        refusal=refusal,
        relay=relay,
        public_url=settings.web.public_url,
        web_url=settings.github.web_url,
    )


def kept_of(wired: Wired) -> dict[str, bytes]:
    """What was kept when the App was set up; nothing where the settings give another one, or all there is to know."""
    try:
        kept = Credentials(wired.engine, wired.vault).all()
    except Sealed:  # what the settings give does not need it
        return {}
    return kept if kept.get("app_id") == str(wired.settings.github.app_id).encode() else {}


def wants_relay(wired: Wired) -> bool:
    return kept_of(wired).get("relay") == b"1"


def _refusal(app: GitHubApp) -> str:
    """Why GitHub's newest delivery did not arrive. Its ping comes too early to be taken, before the App's secret does:
    what failed is asked for once more, and only what fails again tells something."""
    sent = app.sent_deliveries(since=datetime.now(UTC) - RECENT)
    if not sent or sent[0].ok:
        return ""
    again = {one.guid for one in sent if one.redelivery}
    if sent[0].guid not in again:
        app.redeliver(sent[0].id)
        return ""
    return sent[0].status


def steps(facts: Facts, t: Callable[..., str], nt: Callable[..., str]) -> list[Step]:
    """In the order in which they come about; `t` and `nt` are gettext and ngettext."""
    done, waiting, trouble = State.DONE, State.WAITING, State.TROUBLE
    known = bool(facts.app_id)
    found = [
        Step(
            "registered",
            done if known else waiting,
            t("The App is registered"),
            t("%(name)s, App ID %(number)s", name=facts.slug or facts.app_id, number=facts.app_id)
            if known
            else t("GitHub does not know it yet."),
        ),
        Step(
            "key",
            trouble if facts.key_trouble else done if known else waiting,
            t("Its key works"),
            facts.key_trouble
            or (t("GitHub has accepted it.") if known else t("It comes with the registration and is kept sealed.")),
        ),
        Step(
            "secret",
            done if facts.secrets else waiting,
            t("The secret of its webhook is known"),
            t("What GitHub sends is checked with it.")
            if facts.secrets
            else t("It comes with the registration and is kept sealed."),
        ),
        Step(
            "installed",
            done if facts.repositories else waiting,
            t("The App is installed"),
            nt("On one repository.", "On %(num)s repositories.", facts.repositories)
            if facts.repositories
            else t("Choose on GitHub which repositories it may see."),
        ),
        Step(
            "delivery",
            done if facts.arrived else waiting,
            t("The first delivery has arrived"),
            t("GitHub's events reach the bot.")
            if facts.arrived
            else t("GitHub sends one as soon as the App is installed."),
        ),
    ]
    return [*found, _address(facts, t)]


def _address(facts: Facts, t: Callable[..., str]) -> Step:
    if facts.relay:
        return Step(
            "relay",
            State.DONE if facts.arrived else State.WAITING,
            t("The relay fetches what GitHub could not deliver"),
            t("GitHub's list of deliveries is asked; no public address is needed.")
            if facts.arrived
            else t("GitHub's list of deliveries is asked every few seconds."),
        )
    title = t("GitHub reaches the public address")
    if facts.arrived:
        return Step("address", State.DONE, title, facts.public_url or t("A delivery has come through."))
    if facts.refusal:
        told = t("GitHub could not deliver to %(address)s: %(why)s", address=facts.public_url, why=facts.refusal)
        return Step("address", State.TROUBLE, title, told)
    return Step("address", State.WAITING, title, t("The first delivery will show it."))


def finished(found: list[Step]) -> bool:
    return all(step.state is State.DONE for step in found)

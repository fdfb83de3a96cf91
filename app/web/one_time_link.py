"""The link that signs in whoever holds this machine: good once, for ten minutes, on the embedded default alone."""

from collections.abc import Callable
from urllib.parse import urlencode

from app.db.accounts import Accounts
from app.domain.access import LOCAL, Account
from app.domain.errors import Permanent
from app.settings import Settings
from app.web.origin import links_are_given

KIND = "link"
LASTS_S = 600.0
PATH = "/sign-in/link"


class NotLocal(Permanent):
    """The bot listens to others than this machine, so no link signs anybody in."""


def make(accounts: Accounts, settings: Settings) -> str:
    """The address. Raises NotLocal."""
    if not links_are_given(settings):
        raise NotLocal(
            "one-time links are for the embedded default on a loopback address: sign in with GitHub, or set "
            "HEAL_WEB__HOST=127.0.0.1 (and no HEAL_QUEUE__BROKER_URL)"
        )
    token = accounts.begin(KIND, seconds=LASTS_S)
    host = f"[{settings.web.host}]" if ":" in settings.web.host else settings.web.host
    return f"http://{host}:{settings.web.port}{PATH}?{urlencode({'token': token})}"


def announce(accounts: Accounts, settings: Settings, say: Callable[[str], None]) -> None:
    """At the start, to the terminal and never to the log."""
    if links_are_given(settings) and settings.web.port:
        say(f"Sign in: {make(accounts, settings)}\n(good once, for ten minutes; `heal sign-in-link` makes another)\n")


def redeem(accounts: Accounts, token: str) -> Account | None:
    """Whoever holds this machine, once."""
    if accounts.redeem(KIND, token) is None:
        return None
    return accounts.remember(LOCAL, "local", operator=True)

"""Set the App up from a terminal: a new address for the page, or GitHub's form for another machine's browser."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import Engine

from app.adapters.github.manifest import Registered, Site, Wish, convert
from app.db import migrate
from app.db.credentials import Credentials
from app.db.engine import make_engine
from app.db.setup import Setups
from app.domain.errors import HealError, Malformed
from app.i18n import DEFAULT, catalog
from app.settings import Settings
from app.web.checklist import Facts, Step, facts_of, finished, steps
from app.web.serve import way_in
from app.web.setup import kept, luggage_of, registration
from app.wiring import Unconfigured, Unregistered, usable, vault, wire

TERMINAL = "terminal"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the setup has come. `install_url` leads to GitHub's page, empty before there is an App."""

    steps: tuple[Step, ...]
    install_url: str

    @property
    def done(self) -> bool:
        return finished(list(self.steps))

    def as_json(self) -> dict[str, Any]:
        return {"done": self.done, "install_url": self.install_url, "steps": [asdict(step) for step in self.steps]}


def look(settings: Settings) -> Progress:
    """Asks GitHub once there is an App. Raises Unconfigured, Unreachable."""
    try:
        wired = wire(settings)
    except Unregistered:
        return _progress(Facts())
    try:
        return _progress(facts_of(wired))
    finally:
        wired.engine.dispose()


def _progress(facts: Facts) -> Progress:
    words = catalog(DEFAULT)
    return Progress(tuple(steps(facts, words.gettext, words.ngettext)), facts.install_url)


def renewed(settings: Settings) -> str:
    """A new address for the page of a running `heal serve`; the former is worth nothing. Raises Unconfigured."""
    return _with(settings, lambda setups, _: way_in(settings.web, setups.begin()))


def form(settings: Settings, wish: Wish) -> str:
    """A page that sends the manifest to GitHub, for a browser anywhere. Raises Unconfigured."""
    state = _with(settings, lambda setups, _: setups.leave(TERMINAL, json.dumps(luggage_of(wish))))
    address = escape(wish.site.new_app(wish.organization, state))
    manifest = escape(json.dumps(wish.manifest()))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Register the App</title>'
        f"<h1>Register {escape(wish.name)} on {escape(wish.site.web_url)}</h1>"
        "<p>GitHub asks once more, then leads to an address with a code in it. Nothing needs to answer there: copy the "
        "address, and give it to <code>heal setup --code</code>.</p>"
        f'<form method="post" action="{address}"><input type="hidden" name="manifest" value="{manifest}">'
        "<button>Register on GitHub</button></form></html>\n"
    )


def exchange(settings: Settings, told: str) -> Registered:
    """With the code, or the whole address that GitHub led to. Raises Malformed, Refused, Unreachable, Unconfigured."""
    query = parse_qs(urlsplit(told).query)
    code, state = (query.get(name, [""])[0] for name in ("code", "state"))

    def take(setups: Setups, credentials: Credentials) -> Registered:
        luggage = setups.come_back(TERMINAL, state) if state else setups.newest(TERMINAL)
        if luggage is None:
            raise Malformed("no registration of the last hour is known here: begin with `heal setup --form FILE`")
        where = json.loads(luggage)
        try:
            registered = convert(Site(where["web_url"]), code or told, timeout_s=settings.github.timeout_s)
        except HealError:
            if state:
                setups.lose(state)
            raise
        credentials.keep(kept(registered, where), registration(registered, "cli"))
        return registered

    return _with(settings, take)


def _with(settings: Settings, do: Callable[[Setups, Credentials], T]) -> T:
    engine = make_engine(settings.database_url())
    try:
        sealing = usable(vault(settings))
        _up_to_date(settings, engine)
        return do(Setups(engine), Credentials(engine, sealing))
    finally:
        engine.dispose()


def _up_to_date(settings: Settings, engine: Engine) -> None:
    if settings.embedded:
        migrate.upgrade(engine)
    elif migrate.pending(engine):
        raise Unconfigured("the database is not up to date: run `heal db upgrade`")

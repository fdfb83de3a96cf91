"""A browser, a furnished dashboard, and somebody who is signed in."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import Engine

from app.db import migrate
from app.db.accounts import Accounts
from app.db.engine import make_engine
from app.domain.access import LOCAL
from app.web.sessions import PLAIN
from tests.browser.chromium import FLAGS, find_or_install
from tests.browser.logs import with_log
from tests.browser.models import kit_for
from tests.browser.screens import furnish
from tests.browser.site import serving

SMALL = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}

Open = Callable[..., Page]


@pytest.fixture(scope="module")  # while it is open, its event loop runs: the next module may want one of its own
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_or_install(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path_factory.mktemp('browser')}/heal.db")
    migrate.upgrade(engine)
    furnish(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def address(database: Engine) -> Iterator[str]:
    with serving(database, with_log(kit_for(database))) as address:
        yield address


@pytest.fixture(scope="module")
def cookie(database: Engine) -> str:
    """Of whoever holds the machine."""
    accounts = Accounts(database)
    accounts.remember(LOCAL, "local", operator=True)
    return accounts.open(LOCAL, seconds=3600.0)


@pytest.fixture
def visit(browser: Browser, address: str, cookie: str) -> Iterator[Open]:
    """Open a path in a window of its own, signed in. Whatever the page complains about fails the test."""
    contexts = []
    complaints: list[str] = []

    def open_page(path: str, *, complains: str = "", cookies: dict[str, str] | None = None, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, **options})
        contexts.append(context)
        crumbs = {PLAIN: cookie, **(cookies or {})}
        context.add_cookies([{"name": name, "value": value, "url": address} for name, value in crumbs.items()])
        page = context.new_page()

        def told(text: str) -> None:
            if not complains or not re.search(complains, text):
                complaints.append(f"{path}: {text}")

        page.on("console", lambda message: told(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: told(str(error)))
        page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []

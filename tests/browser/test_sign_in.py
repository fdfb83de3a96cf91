"""Signing in, in a real browser, before anybody is known."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine

from app.db.accounts import Accounts
from app.web.one_time_link import KIND, PATH
from tests.browser.conftest import SMALL, WIDE
from tests.browser.test_screens import AXE, sideways, too_small, violations

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("viewport", [WIDE, SMALL], ids=["wide", "phone"])
@pytest.mark.parametrize("path", ["/sign-in", f"{PATH}?token=x", "/incidents/1"])
def test_who_is_not_signed_in_yet_can_use_what_they_see(
    browser: Browser, address: str, path: str, viewport: dict[str, int]
) -> None:
    page = browser.new_page(viewport=viewport, reduced_motion="reduce")  # type: ignore[arg-type]
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{address}{path}")
    assert (sideways(page), too_small(page)) == ([], [])
    page.evaluate(f"{AXE}; 0")
    assert violations(page) == []
    assert said == []
    page.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_link_leads_in_and_signing_out_leads_out(
    browser: Browser, address: str, database: Engine, scripts: bool
) -> None:
    page = browser.new_context(java_script_enabled=scripts).new_page()
    page.goto(f"{address}{PATH}?token={Accounts(database).begin(KIND, seconds=60.0)}")
    page.click("#enter")
    assert where(page) == "/"
    page.goto(f"{address}/settings")
    assert page.get_by_role("heading", name="Where you are signed in").is_visible()
    page.click("#account summary")
    page.click("text=Sign out")
    assert where(page) == "/sign-in"
    page.goto(f"{address}/incidents/1")
    assert urlsplit(page.url).path == "/sign-in"
    page.context.close()


def where(page: Page) -> str:
    page.wait_for_load_state()
    return urlsplit(page.url).path

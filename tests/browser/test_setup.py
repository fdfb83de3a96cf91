"""Setting the bot up in a real browser, against the sandbox: from the printed address to the last green line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from app.i18n import PSEUDO
from tests.browser.conftest import SMALL, WIDE
from tests.browser.test_screens import AXE, ZOOMED, plain_english, sideways, too_small, violations
from tests.e2e.fresh import Serving, heal_serve
from tests.sandbox.conftest import Github, app_key, github, listener

__all__ = ["app_key", "github", "listener"]

pytestmark = pytest.mark.browser

SLOW_MS = 60_000
Scheme = Literal["light", "dark"]


@pytest.fixture
def bot(tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "bot").mkdir()
    with heal_serve(tmp_path / "bot", {"HEAL_QUEUE__SWEEP_S": "1"}) as serving:
        yield serving


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport=WIDE, reduced_motion="reduce")  # type: ignore[arg-type]
    context.set_default_timeout(SLOW_MS)
    yield context
    context.close()


def enter(context: BrowserContext, bot: Serving) -> tuple[Page, list[str]]:
    page, complaints = context.new_page(), []
    page.on("console", lambda told: complaints.append(told.text) if told.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for _ in range(200):
        try:
            page.goto(bot.way_in)
            break
        except Exception:
            page.wait_for_timeout(100)
    return page, complaints


def look(page: Page) -> None:
    """The page as it stands, for everybody: in light and dark, on a phone, zoomed, in longer words."""
    page.evaluate(f"{AXE}; 0")
    schemes: tuple[Scheme, ...] = ("dark", "light")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []
    page.set_viewport_size(SMALL)  # type: ignore[arg-type]
    assert too_small(page) == []
    assert sideways(page) == []
    page.context.add_cookies([{"name": "language", "value": PSEUDO, "url": page.url}])
    page.reload()
    assert plain_english(page) == []
    assert sideways(page) == []
    page.set_viewport_size(ZOOMED)  # type: ignore[arg-type]
    assert sideways(page) == []
    page.context.clear_cookies(name="language")
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    page.reload()


def test_the_whole_way_from_the_printed_address_to_the_dashboard(
    context: BrowserContext, bot: Serving, github: Github
) -> None:
    github.create("model", {"README.md": "# Model"})
    page, complaints = enter(context, bot)
    expect(page).to_have_url(f"{bot.address}/setup")
    look(page)

    page.get_by_label("GitHub", exact=True).fill(github.base_url)
    page.get_by_label("Name of the App").fill("Walked")
    page.get_by_label("GitHub sends them to this address, which is public").check()
    page.get_by_label("Offer repairs of workflow files").check()
    page.get_by_role("button", name="Look at what it asks for").click()
    expect(page.get_by_role("heading", name="Register “Walked”")).to_be_visible()
    expect(page.get_by_role("row", name="Workflows")).to_contain_text("Read and write")
    look(page)

    page.get_by_role("link", name="Change something").click()
    expect(page.get_by_label("Name of the App")).to_have_value("Walked")
    expect(page.get_by_label("Offer repairs of workflow files")).to_be_checked()
    page.get_by_role("button", name="Look at what it asks for").click()
    page.get_by_role("button", name="Register on GitHub").click()
    page.get_by_role("button", name="Create GitHub App").click()

    expect(page).to_have_url(f"{bot.address}/setup")
    expect(page.locator("#step-key")).to_have_attribute("data-state", "done")
    expect(page.locator("#step-installed")).to_have_attribute("data-state", "waiting")
    look(page)

    with context.expect_page() as other:
        page.get_by_role("link", name="Install on GitHub").click(modifiers=["ControlOrMeta"])
    elsewhere = other.value
    elsewhere.get_by_role("button", name="Install on acme").click()
    expect(elsewhere).to_have_url(f"{bot.address}/setup")
    elsewhere.close()

    page.bring_to_front()
    for step in ("registered", "key", "secret", "installed", "delivery", "address"):  # without a reload
        expect(page.locator(f"#step-{step}")).to_have_attribute("data-state", "done", timeout=SLOW_MS)
    expect(page.locator("#step-installed")).to_contain_text("On one repository.")
    expect(page.get_by_role("heading", name="Everything works")).to_be_visible()
    look(page)

    page.get_by_role("button", name="Finish and open the dashboard").click()
    expect(page.get_by_role("heading", name="Incidents", level=1)).to_be_visible()
    assert complaints == []
    again = page.goto(bot.way_in)
    assert again is not None
    assert again.status == 404


def test_it_works_without_javascript(browser: Browser, bot: Serving, github: Github) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.set_default_timeout(SLOW_MS)
    page, _ = enter(context, bot)
    page.get_by_label("GitHub", exact=True).fill(github.base_url)
    page.get_by_label("An organisation").check()
    page.get_by_label("Name of the organisation").fill("acme")
    page.get_by_label("GitHub sends them to this address, which is public").check()
    page.get_by_role("button", name="Look at what it asks for").click()
    page.get_by_role("button", name="Register on GitHub").click()
    expect(page.get_by_role("heading", name="Create GitHub App for acme")).to_be_visible()
    page.get_by_role("button", name="Create GitHub App").click()
    expect(page.locator("#step-registered")).to_have_attribute("data-state", "done")
    context.close()

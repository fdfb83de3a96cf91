"""The dashboard in a real browser."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import Engine

from app.db.engine import make_engine
from app.domain.incident import State
from tests.browser.chromium import FLAGS, find_or_install
from tests.browser.incidents import change_state, fill
from tests.browser.site import serving

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "axe.min.js").read_text()
PAGES = ("/", "/incidents/1", "/incidents/2", "/incidents/7/gate", "/?q=zzz", "/nope")
SMALL = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_or_install(), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path_factory.mktemp('browser')}/heal.db")
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def address(database: Engine) -> Iterator[str]:
    with serving(database) as address:
        yield address


Open = Callable[..., Page]


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Open]:
    """Open a path in a window of its own. Whatever the page complains about fails the test."""
    contexts = []
    complaints: list[str] = []

    def open_page(path: str, *, complains: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, **options})
        contexts.append(context)
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


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("viewport", [WIDE, SMALL], ids=["wide", "small"])
def test_axe_finds_nothing_in_light_and_dark(visit: Open, path: str, viewport: dict[str, int]) -> None:
    page = visit(path, complains="404", viewport=viewport, reduced_motion="reduce")
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate(f"{AXE}; 0")  # the debugger may evaluate what the page's own policy forbids
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    schemes: tuple[tuple[Literal["light", "dark"], str], ...]
    schemes = (("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)"))
    for scheme, ground in schemes:
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        found = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []
        assert len(found["passes"]) > 10


@pytest.mark.parametrize("path", PAGES)
def test_nothing_scrolls_sideways_on_a_phone(visit: Open, path: str) -> None:
    page = visit(path, complains="404", viewport=SMALL)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == SMALL["width"]


@pytest.mark.parametrize("path", ["/", "/incidents/1"])
def test_targets_are_24_pixels_or_more(visit: Open, path: str) -> None:
    page = visit(path, viewport=SMALL)
    small = page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, summary")]
          .filter(e => e.checkVisibility() && !e.classList.contains("skip"))
          .map(e => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()])
          .filter(([, box]) => box.width < 24 || box.height < 24)
          .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""
    )
    assert small == []


def test_a_change_appears_without_a_reload(visit: Open, database: Engine) -> None:
    page = visit("/")
    expect(page.get_by_role("button", name="Live")).to_contain_text("Live")
    row = page.locator("#incident-9")
    expect(row).to_contain_text("Repairing")
    page.evaluate("window.same = true")
    page.locator("#open-8").focus()
    change_state(database, 9, State.VERIFYING)
    expect(row).to_contain_text("Verifying")
    expect(page.locator("#open-8")).to_be_focused()
    assert page.evaluate("window.same")


def test_an_incident_s_timeline_grows_and_keeps_what_was_opened(visit: Open, database: Engine) -> None:
    page = visit("/incidents/8#L421")
    page.locator("summary").click()
    expect(page.locator("#head")).to_contain_text("Verifying")
    change_state(database, 8, State.HEALED)
    expect(page.locator("#head")).to_contain_text("Healed")
    expect(page.locator("#timeline .event").last).to_contain_text("Healed")
    expect(page.locator("details[open]")).to_have_count(1)
    expect(page.locator("#L421:target")).to_have_count(1)


def test_a_paused_page_stays_as_it_is(visit: Open, database: Engine) -> None:
    page = visit("/")
    watching = visit("/")
    button = page.get_by_role("button", name="Live updates")
    button.click()
    expect(button).to_contain_text("Paused")
    expect(button).to_have_attribute("aria-pressed", "false")
    change_state(database, 10, State.OBSERVED)
    expect(watching.locator("#incident-10")).to_contain_text("Observed")
    expect(page.locator("#incident-10")).to_contain_text("Open")
    button.click()
    expect(page.locator("#incident-10")).to_contain_text("Observed")


def test_the_essentials_work_without_javascript(visit: Open) -> None:
    page = visit("/", java_script_enabled=False)
    assert page.locator(".row").count() == 10
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", page.locator("#incident-3").inner_text())
    assert not page.locator("#live").is_visible()
    page.get_by_role("searchbox").fill("repo:acme/churn")
    page.get_by_role("button", name="Search").click()
    assert page.locator(".row").count() == 2
    page.get_by_role("link", name="Observed 1").or_(page.get_by_role("link", name="Observed 2")).click()
    assert "q=repo" in page.url
    page.locator("#open-4").click()
    page.locator("summary").click()
    assert page.get_by_role("table").is_visible()


def test_times_are_relative_and_absolute_on_hover(visit: Open) -> None:
    time = visit("/", locale="en-GB", timezone_id="UTC").locator("#incident-3 relative-time")
    expect(time).to_contain_text("hours ago")
    assert re.search(r"\d{4}", time.get_attribute("title") or "")


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit: Open) -> None:
    page = visit("/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox")).to_be_focused()
    for _ in range(8):
        page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert (outline, page.evaluate("document.activeElement.tagName")) == ("solid", "A")


def test_the_colours_can_be_chosen_and_stay_chosen(visit: Open, address: str) -> None:
    page = visit("/", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    button = page.get_by_role("button", name="Colours")
    button.click()
    button.click()
    expect(button).to_contain_text("Colours: dark")
    assert page.evaluate(ground) == "rgb(13, 17, 23)"
    page.goto(f"{address}/incidents/1")
    assert page.evaluate(ground) == "rgb(13, 17, 23)"


def test_a_gate_s_intervals_are_drawn_and_told(visit: Open) -> None:
    page = visit("/incidents/7", java_script_enabled=False)
    page.locator("#gate").click()
    picture = page.get_by_role("img", name="Gains with their intervals")
    expect(picture).to_have_accessible_description(re.compile(r"all rows: \+0\.0300, \+0\.0120 to \+0\.0470, passed"))
    row = page.get_by_role("row").filter(has_text="country = <b>de</b>").last
    expect(row).to_contain_text("−0.0810")
    expect(row).to_contain_text("closed the gate")
    zero = page.locator("svg .zero").bounding_box()
    bad = page.locator("svg .fails circle").bounding_box()
    good = page.locator("svg .holds circle").first.bounding_box()
    assert zero is not None
    assert bad is not None
    assert good is not None
    assert bad["x"] + bad["width"] < zero["x"] < good["x"] + good["width"] / 2


def test_markup_and_script_cannot_be_slipped_in(visit: Open) -> None:
    page = visit("/", complains="This document requires|trusted-types")
    refused = page.evaluate(
        """() => [
          () => (document.body.innerHTML = "<img src=x onerror=alert(1)>"),
          () => document.body.setAttribute("onclick", "alert(1)"),
          () => (document.createElement("script").src = "/static/x.js"),
          () => trustedTypes.createPolicy("mine", {createHTML: text => text}),
        ].map(attempt => { try { attempt(); return "allowed" } catch (error) { return error.name } })"""
    )
    assert refused == ["TypeError"] * 4

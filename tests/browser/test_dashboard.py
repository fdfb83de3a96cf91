"""What the dashboard does in a real browser."""

import re

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine

from app.domain.incident import State
from tests.browser.conftest import Open
from tests.browser.incidents import change_state

pytestmark = pytest.mark.browser


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
    page.locator("#timeline summary").first.click()
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
    assert page.locator(".row").count() >= 10
    assert re.search(r"20\d\d, \d+:\d\d:\d\d\s[AP]M UTC", page.locator("#incident-3").inner_text())
    assert not page.locator("#live").is_visible()
    page.get_by_role("searchbox").fill("repo:acme/churn")
    page.get_by_role("button", name="Search").click()
    assert page.locator(".row").count() == 2
    page.get_by_role("link", name="Observed 1").or_(page.get_by_role("link", name="Observed 2")).click()
    assert "q=repo" in page.url
    page.locator("#open-4").click()
    page.locator("#timeline summary").first.click()
    assert page.locator("#timeline").get_by_role("table").is_visible()


def test_a_decision_needs_no_javascript_and_a_second_one_comes_too_late(visit: Open) -> None:
    first = visit("/incidents/9", java_script_enabled=False)
    second = visit("/incidents/9", java_script_enabled=False, complains="409")
    for page in (first, second):
        page.locator("#reject summary").click()
        page.get_by_label("Why? It is kept").fill("the data set has moved")
        page.get_by_role("button", name="Reject it").click()
    expect(first.locator("#told")).to_contain_text("Rejected. Incident 9 will be left alone.")
    expect(first.locator("#timeline h3").last).to_have_text("Rejected by local")
    expect(first.locator("#timeline blockquote").last).to_have_text("the data set has moved")
    expect(second.get_by_role("heading", level=1)).to_have_text("Somebody was faster")
    expect(second.locator("#answer")).to_contain_text("local rejected this")
    second.locator("#look").click()
    expect(second.locator("#head")).to_contain_text("Dismissed")


def test_the_log_is_searched_and_read_line_by_line(visit: Open) -> None:
    page = visit("/incidents/3")
    page.locator("#log").click()
    expect(page.locator("#L421:target")).to_be_in_viewport()
    page.get_by_role("searchbox").fill("epoch 3")
    page.keyboard.press("Enter")
    expect(page.locator(".line.hit")).to_be_in_viewport()
    page.keyboard.press("n")
    expect(page.locator("#matches")).to_contain_text("Match 2 of")
    expect(page.locator(".line.hit")).to_be_in_viewport()
    page.locator("#to-root").click()
    expect(page.locator("#L421:target")).to_be_in_viewport()
    with page.expect_download() as download:
        page.locator("#download").click()
    assert "torch.OutOfMemoryError" in download.value.path().read_text()


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

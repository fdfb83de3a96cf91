"""Deciding by keyboard, and on several at once, in a real browser."""

import pytest
from playwright.sync_api import expect
from sqlalchemy import Engine

from app.domain.incident import State
from tests.browser.conftest import Open
from tests.browser.incidents import change_state

pytestmark = pytest.mark.browser


def test_a_repair_is_approved_by_two_keys(visit: Open) -> None:
    page = visit("/approvals")
    page.keyboard.press("j")
    expect(page.locator("#open-2")).to_be_focused()
    page.keyboard.press("a")
    expect(page.locator("#approve-2 [data-sure]")).to_be_focused()
    with page.expect_request(lambda request: request.method == "POST") as sent:
        page.route("**/decisions", lambda route: route.fulfill(status=200, content_type="text/html", body="done"))
        page.keyboard.press("Enter")
    assert "verb=approve" in (sent.value.post_data or "")
    assert sent.value.url.endswith("/incidents/2/decisions")


def test_a_rejection_asks_for_a_reason_and_can_be_left(visit: Open) -> None:
    page = visit("/approvals")
    page.keyboard.press("j")
    page.keyboard.press("r")
    reason = page.locator("#reason-2")
    expect(reason).to_be_focused()
    page.keyboard.type("ajar")
    expect(reason).to_have_value("ajar")
    page.keyboard.press("Escape")
    expect(page.locator("#reject-2")).not_to_have_attribute("open", "")
    expect(page.locator("#open-2")).to_be_focused()


def test_a_selection_is_taken_back(visit: Open) -> None:
    page = visit("/approvals")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("#choose-2")).to_be_checked()
    page.keyboard.press("u")
    expect(page.locator("#choose-2")).not_to_be_checked()


def test_what_is_ticked_is_decided_on_together(visit: Open) -> None:
    page = visit("/approvals")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("a")
    page.wait_for_url("**/incidents/bulk?*")
    assert "verb=approve" in page.url
    expect(page.get_by_role("button", name="Approve 1 incident")).to_be_visible()


def test_g_a_leads_to_the_approvals_and_decides_nothing(visit: Open) -> None:
    page = visit("/approvals")
    page.keyboard.press("j")
    page.keyboard.press("g")
    with page.expect_navigation():
        page.keyboard.press("a")
    assert page.url.endswith("/approvals")
    expect(page.locator(".decision[open]")).to_have_count(0)


def test_what_is_ticked_stays_ticked_when_the_list_renews_itself(visit: Open, database: Engine) -> None:
    page = visit("/")
    page.locator("#choose-8").check()
    page.locator("#open-3").focus()
    change_state(database, 9, State.HEALED)
    expect(page.locator("#incident-9")).to_contain_text("Healed")
    expect(page.locator("#choose-8")).to_be_checked()
    expect(page.locator("#choose-9")).not_to_be_checked()


def test_all_of_a_page_are_ticked_at_once(visit: Open) -> None:
    page = visit("/?state=healed")
    rows = page.locator(".chosen-row input[type=checkbox]")
    page.get_by_label("All on this page").check()
    assert rows.count() == page.locator(".chosen-row input:checked").count() > 1
    rows.first.uncheck()
    expect(page.get_by_label("All on this page")).not_to_be_checked()

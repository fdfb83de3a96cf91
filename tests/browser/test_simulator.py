"""The simulator in a real browser, from what is pasted to the trace."""

import json

import pytest
from playwright.sync_api import expect

from app.i18n import PSEUDO
from tests.browser.conftest import SMALL, WIDE, Open
from tests.browser.test_screens import AXE, plain_english, sideways, too_small, unfold, violations
from tests.cli.test_cli import EXAMPLE, LOG

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("cookies", [{}, {"language": PSEUDO}], ids=["english", "longer"])
@pytest.mark.parametrize("viewport", [WIDE, SMALL], ids=["wide", "phone"])
def test_a_pasted_delivery_is_simulated_and_what_was_typed_stays(
    visit: Open, viewport: dict[str, int], cookies: dict[str, str]
) -> None:
    page = visit("/simulator", viewport=viewport, cookies=cookies)
    page.locator("#pasted summary").click()
    page.locator("#body").fill(json.dumps(EXAMPLE))
    page.locator("input[value=pasted]").check()
    page.locator("#config").fill("version: 1\nmode: auto\nbogus: 1\n")
    page.locator("#job").fill("train")
    page.locator("#log").fill(LOG)
    page.locator("form.simulate button[type=submit]").click()
    expect(page.locator("#problem-1")).to_contain_text("bogus")
    expect(page.locator("#finding-1")).to_contain_text("network_transient")
    expect(page.locator("#job")).to_have_value("train")
    unfold(page)
    assert sideways(page) == []
    assert too_small(page) == []
    if cookies:
        assert plain_english(page) == []
    page.evaluate(f"{AXE}; 0")  # the debugger may evaluate what the page's own policy forbids
    assert violations(page) == []


def test_what_is_wrong_is_told_beside_its_field(visit: Open) -> None:
    page = visit("/simulator")
    page.locator("form.simulate button[type=submit]").click()
    expect(page.locator("#body")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#body-wrong")).to_be_visible()
    page.evaluate(f"{AXE}; 0")
    assert violations(page) == []

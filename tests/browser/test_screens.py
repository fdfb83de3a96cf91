"""Every screen in a real browser: for everybody, on every display, in either light."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from app.i18n import PSEUDO
from tests.browser.conftest import SMALL, WIDE, Open
from tests.browser.screens import SCREENS, Screen

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
EVERYTHING = {"type": "tag", "values": RULES}
OF_COLOURS = ["color-contrast", "link-in-text-block"]  # what else there is does not change with the light
GROUND = "getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(13, 17, 23)"
ZOOMED = {"width": WIDE["width"] // 2, "height": WIDE["height"] // 2}  # what 200 % leaves of a wide display

all_screens = pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.name)


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('main details').forEach(each => each.open = true)")


def violations(page: Page, rules: Mapping[str, Any] = EVERYTHING) -> list[Any]:
    """Of the lines of a log the first ones stand for all: they are alike, and there are a thousand."""
    found = page.evaluate(
        "rules => axe.run({include: [['html']], exclude: [['.log .line:nth-child(n + 40)']]}, {runOnly: rules})",
        dict(rules),
    )
    assert found["passes"]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]


def sideways(page: Page) -> Any:
    """What makes the page wider than its window."""
    return page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
          [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.outerHTML.slice(0, 120)).slice(0, 5).concat(document.documentElement.scrollWidth)"""
    )


def too_small(page: Page) -> Any:
    """What a finger cannot hit: targets of less than 24 pixels."""
    return page.evaluate(
        """() => [...document.querySelectorAll("a, button, input, select, textarea, summary")]
          .filter(e => e.checkVisibility() && !e.classList.contains("skip") && e.type !== "hidden")
          .map(e => [e.outerHTML.slice(0, 90), (e.closest("label.check") || e).getBoundingClientRect()])
          .filter(([, box]) => box.width < 24 || box.height < 24)
          .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""
    )


def plain_english(page: Page) -> Any:
    """Words of ours that the pseudo-locale has not disguised: they were not given to gettext. Data is marked so."""
    return page.evaluate(
        """() => [...document.querySelectorAll("h1, h2, h3, th, dt, label, button, summary, legend, caption, .tabs a")]
          .filter(e => !e.closest("[data-plain], .row-title, .mono, code, .code, .log, .diff"))
          .map(e => [...e.childNodes].filter(n => n.nodeType === Node.TEXT_NODE).map(n => n.data).join("").trim())
          .filter(text => /[a-z]{4,}/i.test(text) && !/[^\\x00-\\x7f]/.test(text))"""
    )


@all_screens
@pytest.mark.parametrize("viewport", [WIDE, SMALL], ids=["wide", "phone"])
def test_everybody_can_use_it_in_light_and_dark(visit: Open, screen: Screen, viewport: dict[str, int]) -> None:
    page = visit(screen.path, viewport=viewport, reduced_motion="reduce")
    unfold(page)
    assert too_small(page) == []
    page.evaluate(f"{AXE}; 0")  # the debugger may evaluate what the page's own policy forbids
    assert page.evaluate(GROUND) == LIGHT
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(GROUND) == DARK
    assert violations(page, {"type": "rule", "values": OF_COLOURS}) == []


@all_screens
def test_longer_words_on_a_phone_and_at_200_percent_break_nothing(visit: Open, screen: Screen) -> None:
    page = visit(screen.path, viewport=SMALL, cookies={"language": PSEUDO})
    unfold(page)
    assert plain_english(page) == []
    assert sideways(page) == []
    page.set_viewport_size(ZOOMED)  # type: ignore[arg-type]
    assert sideways(page) == []

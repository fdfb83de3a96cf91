"""Take the pictures of the documentation: `make screenshots`. One of each screen; some also on a phone, and dark.

Needs chromium, which is installed from the machine's package index where it is missing and may be.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from sqlalchemy import Engine, update

from app.db import migrate
from app.db.accounts import Accounts
from app.db.engine import make_engine, writing
from app.db.tables import AccountRow, IncidentRow
from app.domain.access import LOCAL
from app.web.sessions import PLAIN
from tests.browser.chromium import FLAGS, find_or_install
from tests.browser.logs import with_log
from tests.browser.models import kit_for
from tests.browser.screens import SCREENS, furnish
from tests.browser.site import serving

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"}
DARK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"}
MORE = {"incidents": (("incidents-phone", PHONE), ("incidents-dark", DARK))}


def takes() -> list[tuple[str, str, dict[str, Any]]]:
    """Name, path, and how the window is."""
    found = []
    for screen in SCREENS:
        if screen.picture:
            found.append((screen.name, screen.path, WIDE))
        found += [(name, screen.path, window) for name, window in MORE.get(screen.name, ())]
    return found


def tidy(engine: Engine) -> None:
    """What is there to try the layout says nothing in a picture."""
    plain = {
        "summary": "The evaluation failed for an unknown cause",
        "repository": "acme/forecasting",
        "branch": "main",
    }
    with writing(engine) as connection:
        connection.execute(update(IncidentRow).where(IncidentRow.summary.contains("<b>")).values(**plain))
        connection.execute(update(AccountRow).where(AccountRow.login.contains("thirty-nine")).values(login="octocat"))


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.pictures", description=__doc__)
    parser.add_argument("--into", type=Path, default=IMAGES, help="the folder for them")
    parser.add_argument("--only", default="", help="those whose names begin so")
    asked = parser.parse_args(words)
    asked.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        engine = make_engine(f"sqlite:///{folder}/heal.db")
        migrate.upgrade(engine)
        furnish(engine)
        tidy(engine)
        accounts = Accounts(engine)
        accounts.remember(LOCAL, "local", operator=True)
        cookie = accounts.open(LOCAL, seconds=3600.0)
        browser = playwright.chromium.launch(executable_path=find_or_install(), args=list(FLAGS))
        with serving(engine, with_log(kit_for(engine))) as address:
            for name, path, window in takes():
                if not name.startswith(asked.only):
                    continue
                context = browser.new_context(**window, locale="en-GB", timezone_id="UTC", reduced_motion="reduce")
                context.add_cookies([{"name": PLAIN, "value": cookie, "url": address}])
                page = context.new_page()
                page.goto(address + path)
                page.wait_for_load_state("load")
                page.screenshot(path=asked.into / f"{name}.png")
                context.close()
                sys.stdout.write(f"{asked.into / name}.png\n")
        browser.close()
        engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

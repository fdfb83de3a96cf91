"""From an empty folder to a repair: the App that the setup registers may do what the bot needs, and is told of it."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests

from app.db.engine import make_engine
from app.db.reads import Reads
from app.domain.access import EVERYTHING
from app.domain.incident import State
from tests.e2e.fresh import Serving, heal_serve
from tests.e2e.projects import BUG, FLAKY, TOO_LARGE, project
from tests.e2e.stage import wait_for
from tests.sandbox.conftest import Github, app_key, github, listener
from tests.sandbox.test_manifest import hidden, post

__all__ = ["app_key", "github", "listener"]

QUICK = {
    "HEAL_QUEUE__POLL_S": "0.2",
    "HEAL_QUEUE__SWEEP_S": "1",
    "HEAL_GITHUB__SECONDS_BETWEEN_WRITES": "0",
    "HEAL_ADVISORIES__URL": "",
    "HEAL_HEALING__LOOK_EVERY_S": "2",
}
ENDS = {"flaky": (FLAKY, State.HEALED), "large": (TOO_LARGE, State.HEALED), "bug": (BUG, State.ESCALATED)}


def walk(bot: Serving, github: Github, **wish: str) -> None:
    """What a person does in a browser, up to the installation."""
    browser = requests.Session()

    def up() -> requests.Response | None:
        try:
            return browser.get(bot.way_in, timeout=10)
        except requests.ConnectionError:
            return None

    assert wait_for("the setup", up).url == f"{bot.address}/setup"
    told: dict[str, Any] = {"github": github.base_url, "whose": "account", "name": "Fresh", "public_url": bot.address}
    review = browser.get(f"{bot.address}/setup/app", params={**told, **wish}, timeout=10)
    assert review.status_code == 200, review.text
    (action,) = re.findall(r'<form method="post" action="([^"]+)"', review.text)
    asked = post(unescape(action), {"manifest": hidden(review.text)["manifest"]})
    made = post(f"{github.base_url}/settings/apps", hidden(asked.text))
    back = browser.get(made.headers["location"], timeout=60)
    assert back.url == f"{bot.address}/setup", back.text
    post(f"{github.base_url}/apps/fresh/installations", {"owner": "acme"})


@pytest.mark.parametrize("reach", ["address", "relay"])
def test_the_app_that_was_registered_heals(tmp_path: Path, github: Github, reach: str) -> None:
    github.admin("POST", "/repositories", {"name": "empty", "files": {"README.md": "# Empty"}})
    with heal_serve(tmp_path, QUICK) as bot:
        walk(bot, github, reach=reach)
        for name, (script, _) in ENDS.items():
            github.admin("POST", "/repositories", {"name": name, "files": dict(project(script))})
        engine = make_engine(bot.database_url)
        reads = Reads(engine)

        def states() -> dict[str, State]:
            lines = reads.incidents(EVERYTHING, limit=10).lines
            return {line.repository.partition("/")[2]: line.state for line in lines}

        wanted = {name: state for name, (_, state) in ENDS.items()}
        wait_for("all to come to rest", lambda: states() == wanted)
        engine.dispose()
    refused = [each for each in github.admin("GET", "/requests") if each["status"] == 403]
    optional = "/actions/runners"  # asked for every quarter of an hour, and left out without the permission for it
    assert [each for each in refused if not each["path"].endswith(optional)] == []

"""`heal advisories`: what is kept of the known vulnerabilities."""

import json
import zipfile
from pathlib import Path

from tests.cli.conftest import Heal

RECORD = {
    "id": "GHSA-34jh-p97f-mpxf",
    "modified": "2024-06-17T21:37:20Z",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "urllib3"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2.0.0"}, {"fixed": "2.2.2"}]}],
        }
    ],
}


def test_a_dump_is_taken_in_and_shown(heal: Heal, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        packed.writestr("a.json", json.dumps(RECORD))
    done = heal("advisories", "update", "--from", "all.zip")
    assert (done.exit_code, done.output) == (0, "1 advisories kept, PyPI\n")
    assert "PyPI: 1 advisories, dump of 2024-06-17T21:37:20+00:00" in heal("advisories", "show").output
    shown = json.loads(heal("advisories", "show", "--json").output)
    assert shown["records"] == {"PyPI": 1}


def test_a_file_that_is_no_dump_is_wrong_usage(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_text("no zip")
    done = heal("advisories", "update", "--from", "all.zip")
    assert done.exit_code == 2
    assert "all.zip is no zip that can be read" in done.output


def test_nothing_is_kept_at_first(heal: Heal) -> None:
    assert heal("advisories", "show").output == "0 versions looked up, last at no time yet\n"

"""`heal playbooks`: what is done about each cause."""

import json
from pathlib import Path

from tests.cli.conftest import Heal

OWN = """\
version: 1
mode: approve
actions: {lower_batch_size: auto}
playbooks:
  host_oom:
    - action: lower_batch_size
      params: {factor: 4}
    - action: rerun_failed_jobs
      then: open_issue
    - open_issue
"""


def test_every_cause_has_a_ladder_that_ends_with_people(heal: Heal) -> None:
    told = json.loads(heal("playbooks", "list", "--json").stdout)
    assert {"cuda_oom", "flaky_test", "syntax_error"} <= {each["cause"] for each in told}
    assert all(each["ladder"].endswith("open_issue") for each in told)
    assert "syntax_error" in heal("playbooks", "list").stdout


def test_one_cause_is_explained_rung_by_rung(heal: Heal) -> None:
    shown = heal("playbooks", "explain", "network_transient").stdout
    assert "1.   rerun_failed_jobs  [observe]" in shown
    assert "proof: the same jobs pass in a later attempt of the same run" in shown
    assert "3.   open_issue" in shown


def test_the_teams_own_playbook_is_told_with_its_modes(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "heal.yml").write_text(OWN)
    told = json.loads(heal("playbooks", "explain", "host_oom", "--config", "heal.yml", "--json").stdout)
    assert [(rung["action"], rung["follows"], rung["mode"]) for rung in told["rungs"]] == [
        ("lower_batch_size", False, "auto"),
        ("rerun_failed_jobs", False, "approve"),
        ("open_issue", True, "approve"),
        ("open_issue", False, "approve"),
    ]
    assert told["origin"] == ".github/heal.yml"
    assert "(factor=4)" in heal("playbooks", "explain", "host_oom", "--config", "heal.yml").stdout


def test_a_cause_that_nobody_knows_is_told_with_one_that_is_near(heal: Heal) -> None:
    done = heal("playbooks", "explain", "cuda_om")
    assert done.exit_code == 1
    assert "did you mean cuda_oom?" in done.output


def test_a_playbook_that_is_wrong_is_told_at_its_line(heal: Heal, tmp_path: Path) -> None:
    (tmp_path / "heal.yml").write_text("version: 1\nplaybooks:\n  host_oom:\n    - lower_bach_size\n")
    done = heal("playbooks", "list", "--config", "heal.yml")
    assert done.exit_code == 2
    assert "heal.yml:4:" in done.output
    assert "did you mean 'lower_batch_size'?" in done.output

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from actions import quarantine_test
from actions.honesty import dishonest
from actions.quarantine_test import ALLOW, QuarantineTest, lift
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import Policy
from app.domain.repair import FileEdit, Intent, Plan, Repair, RepairState
from app.ports.plugins import Tools
from tests.actions.stage import NOW, Stage, crash_everywhere, stage
from tests.actions.stage import WORKFLOW as CI

action = QuarantineTest()
PATH = "tests/test_loader.py"
PLAIN = """\
import os

import numpy as np
import pytest


def test_order():
    assert load() == sorted(load())


class TestLoader:
    @pytest.mark.parametrize("n", [1, 2])
    def test_rows(self, n):
        assert rows(n)
"""
MARK = '@pytest.mark.xfail(strict=False, reason="quarantined by heal until 2026-12-05: flaky, see {} (owner {})")\n'
ORDER = f"{PATH}::test_order"


def log(*lines: str) -> bytes:
    return b"\xef\xbb\xbf" + "".join(f"2026-11-21T09:00:00.1234567Z {line}\n" for line in lines).encode()


def failed_log(test: str = ORDER) -> bytes:
    return log("=== short test summary info ===", f"\x1b[31mFAILED\x1b[0m {test} - Failed: Timeout >10.0s", "1 failed")


def flaky(
    text: str = PLAIN,
    *,
    conclusions: Sequence[str] = ("failure", "success"),
    test: str = ORDER,
    path: str = PATH,
    files: dict[str, str] | None = None,
    **more: Any,
) -> Stage:
    """A run whose attempts ended so; the first one is what was diagnosed."""
    at = stage({path: text, **(files or {})}, **more)
    run_id = at.incident.run_id
    at.forge.finish_run(run_id, "failure", [at.forge.job("train", "failure", failed_log(test))])
    for conclusion in conclusions[1:]:
        at.forge.rerun_failed_jobs(run_id)
        job = at.forge.job("train", conclusion, failed_log(test) if conclusion == "failure" else log("1 passed"))
        at.forge.finish_run(run_id, conclusion, [job])
    at.forge.writes.clear()
    return _kind(at, "flaky_test")


def _kind(at: Stage, kind: str) -> Stage:
    incident = replace(at.incident, finding=replace(at.incident.finding, kind=kind))
    return replace(at, incident=incident, tools=replace(at.tools, incident=incident))


def edit_of(at: Stage) -> FileEdit:
    plan = at.plan(action)
    assert not plan.refusal, plan.refusal
    (edit,) = plan.edits
    return edit


def test_a_flaky_test_gets_one_line_with_owner_ticket_and_end() -> None:
    edit = edit_of(flaky())
    mark = MARK.format("its ticket", "@acme")
    assert edit.after == PLAIN.replace("def test_order", f"{mark}def test_order")


def test_the_plan_says_how_the_flake_was_proven_and_what_is_risked() -> None:
    at = flaky()
    plan = at.plan(action)
    assert f"attempt 2 of run {at.incident.run_id}" in plan.why
    assert at.incident.head_sha[:7] in plan.why
    assert "all of its cases" in plan.why
    assert plan.title == "Quarantine test_order until 2026-12-05"
    assert "real failure" in plan.risk


def test_the_ticket_is_opened_and_named_in_the_marker() -> None:
    at = flaky()
    outcome = at.apply(action, at.repair(action))
    assert outcome.conclusion is Conclusion.SUCCESS
    (issue,) = at.forge.issues.values()
    assert outcome.data["ticket"] == issue.number
    assert issue.labels == ("heal", "flaky test")
    written = at.forge.commits[outcome.data["head_sha"]].files[PATH]
    assert MARK.format(f"#{issue.number}", "@acme") in written
    assert dishonest([FileEdit(PATH, PLAIN, written)], ALLOW) is None


def test_a_crash_after_any_write_leaves_one_ticket_and_one_pull_request() -> None:
    assert crash_everywhere(flaky, lambda at, tools: at.apply(action, at.repair(action), tools=tools)) == 4


def test_the_number_of_days_is_a_parameter() -> None:
    at = flaky()
    (edit,) = at.plan(action, {"days": 3}).edits
    assert "until 2026-11-24" in (edit.after or "")


def test_a_dry_run_on_a_later_day_gives_the_same_marker() -> None:
    at = flaky()
    asked = replace(at.repair(action), intended_at=NOW - timedelta(days=2), state=RepairState.ASKED)
    at = replace(at, tools=replace(at.tools, repairs=(asked,)))
    assert "until 2026-12-03" in (edit_of(at).after or "")


@pytest.mark.parametrize(
    ("owners", "owner"),
    [
        ("* @acme/everybody\n/tests/ @maria # tests\n", "@maria"),
        ("/tests/ @maria\n* @acme/everybody\n", "@acme/everybody"),
        ("*.py @lin\n", "@lin"),
        ("tests/*.py docs@example.org @lin\n", "@lin"),
        ("/docs/ @lin\n", "@acme"),
        ("tests/ @maria\ntests/test_loader.py\n", "@acme"),
        ('* @maria")\n', "@acme"),
        ("", "@acme"),
    ],
)
def test_the_owner_is_the_last_match_of_codeowners(owners: str, owner: str) -> None:
    edit = edit_of(flaky(files={".github/CODEOWNERS": owners}))
    assert f"(owner {owner})" in (edit.after or "")


@pytest.mark.parametrize(
    ("test", "line"),
    [
        (f"{PATH}::TestLoader::test_rows[1]", "    " + MARK.format("its ticket", "@acme")),
        (f"{PATH}::TestLoader::test_rows[a b-é::x]", "    " + MARK.format("its ticket", "@acme")),
    ],
)
def test_a_case_of_a_method_marks_the_method_above_its_other_decorators(test: str, line: str) -> None:
    edit = edit_of(flaky(test=test))
    before = '    @pytest.mark.parametrize("n", [1, 2])\n'
    assert edit.after == PLAIN.replace(before, line + before)


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("import os\n\n\ndef test_order():\n    pass\n", "import os\n\nimport pytest\n\n\n"),
        (
            "import os\n\nimport numpy as np\nfrom a import b\n\n\ndef test_order():\n    pass\n",
            "np\nimport pytest\nfrom a",
        ),
        ("import os\n\nfrom a import b\n\n\ndef test_order():\n    pass\n", "import os\n\nimport pytest\nfrom a"),
        ('"""Words."""\n\n\ndef test_order():\n    pass\n', '"""Words."""\n\nimport pytest\n\n\n'),
        ("from __future__ import annotations\n\n\ndef test_order():\n    pass\n", "annotations\n\nimport pytest\n\n\n"),
        ("# words\n\ndef test_order():\n    pass\n", "# words\n\nimport pytest\n\n@pytest"),
        ("import os\r\n\r\n\r\ndef test_order():\r\n    pass\r\n", "import os\r\n\r\nimport pytest\r\n\r\n\r\n"),
        ("def test_order(): pass", "import pytest\n\n@pytest.mark.xfail(strict=False"),
        ("import os; import sys\nasync def test_order():\n\tawait x\n", "import sys\n\nimport pytest\n@pytest"),
    ],
)
def test_the_import_is_added_where_it_was_missing(text: str, imported: str) -> None:
    at = flaky(text)
    edit = edit_of(at)
    assert imported in (edit.after or "")
    assert dishonest([edit], ALLOW) is None
    repair = at.done(action)
    _merge(at, repair)
    assert lift(repair, at.forge, NOW + timedelta(days=14)).edits[0].after == text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (PLAIN.replace("def test_order", "@pytest.mark.xfail\ndef test_order"), "marked already, at line 7"),
        (PLAIN.replace("def test_order", "@pytest.mark.skipif(x)\ndef test_order"), "marked already"),
        (PLAIN + "\n\ndef test_order():\n    pass\n", "2 times, at lines 7, 17"),
        (PLAIN.replace("def test_order", "def test_other"), "does not stand plainly"),
        ("import pytest\nif x:\n    def test_order(): pass\n", "does not stand plainly"),
        ("try:\n    import pytest\nexcept E:\n    raise\ndef test_order(): pass\n", "gives the name pytest"),
        ("from x import pytest\ndef test_order(): pass\n", "gives the name pytest"),
        ("pytest = 1\ndef test_order(): pass\n", "gives the name pytest"),
        ("import pytest\ndef test_order(:\n", "cannot be read as Python"),
        ("import pytest\rdef test_order(): pass\n", "line ends"),
        ("import pytest\n\n\nclass test_order:\n    pass\n", "does not stand plainly"),
    ],
)
def test_what_cannot_be_marked_soundly_is_refused(text: str, word: str) -> None:
    assert word in flaky(text).plan(action).refusal


def test_an_inherited_test_is_refused() -> None:
    text = "import pytest\n\nclass Base:\n    def test_a(self): pass\n\nclass TestA(Base):\n    pass\n"
    assert "inherited" in flaky(text, test=f"{PATH}::TestA::test_a").plan(action).refusal


def test_another_kind_of_finding_is_refused() -> None:
    assert "no flake" in _kind(flaky(), "test_assertion_failure").plan(action).refusal


@pytest.mark.parametrize("attempts", [2, 3])
def test_a_test_that_fails_always_is_never_quarantined(attempts: int) -> None:
    refusal = flaky(conclusions=["failure"] * attempts).plan(action).refusal
    assert f"failed in all {attempts} attempts" in refusal


def test_a_test_that_failed_once_and_was_never_seen_to_pass_is_refused() -> None:
    assert "never seen" in flaky(conclusions=["failure"]).plan(action).refusal


def test_a_job_that_was_skipped_or_cancelled_afterwards_proves_nothing() -> None:
    assert "never seen" in flaky(conclusions=["failure", "cancelled"]).plan(action).refusal


@pytest.mark.parametrize(
    ("trigger", "path", "proven"),
    [("push", CI, True), ("pull_request", CI, False), ("push", ".github/workflows/other.yml", False)],
)
def test_another_run_of_the_same_commit_proves_it_if_it_tests_the_same(trigger: str, path: str, proven: bool) -> None:
    at = flaky(conclusions=["failure"])
    jobs = [at.forge.job("train", "success")]
    sha = at.incident.head_sha
    at.forge.add_run(
        head_sha=sha, head_branch="main", conclusion="success", jobs=jobs, trigger=trigger, workflow_path=path
    )
    assert (not at.plan(action).refusal) == proven


def _earlier(at: Stage, *, changed: bool = False, ago: timedelta = timedelta(days=1), **more: Any) -> Stage:
    """The same test failed on an older commit, and a re-run of ours passed."""
    forge = at.forge
    sha = forge.push("older", {PATH: PLAIN + "# older\n" * changed, "notes.txt": "older"})
    run = forge.add_run(head_sha=sha, head_branch="main", jobs=[forge.job("train", "failure", failed_log())])
    known: dict[str, Any] = {
        "remedy": replace(at.repair(action).remedy, action="rerun_failed_jobs"),
        "state": RepairState.PROVEN,
        "applied_at": NOW - ago,
        "intent": Intent(run.id, 1, sha, CI, ("train",)),
    }
    forge.writes.clear()
    return replace(at, tools=replace(at.tools, repairs=(replace(at.repair(action), **(known | more)),)))


def test_a_re_run_that_healed_the_same_test_before_proves_it() -> None:
    plan = _earlier(flaky(conclusions=["failure"])).plan(action)
    assert not plan.refusal
    assert "passed there in a re-run" in plan.why


@pytest.mark.parametrize(
    "more",
    [
        {"changed": True},
        {"ago": timedelta(days=31)},
        {"state": RepairState.DISPROVEN},
        {"intent": Intent(999, 1, "0" * 40, CI, ("train",))},
        {"intent": Intent(0, 1, "", CI, ("train",))},
    ],
)
def test_an_older_re_run_proves_nothing_about_what_has_changed_or_failed_since(more: dict[str, Any]) -> None:
    assert "never seen" in _earlier(flaky(conclusions=["failure"]), **more).plan(action).refusal


def test_an_older_re_run_does_not_excuse_a_test_that_fails_always_now() -> None:
    assert "in all 2 attempts" in _earlier(flaky(conclusions=["failure"] * 2)).plan(action).refusal


def test_an_older_re_run_of_another_test_proves_nothing() -> None:
    at = _earlier(flaky(test=f"{PATH}::TestLoader::test_rows[1]", conclusions=["failure"]))
    assert "never seen" in at.plan(action).refusal


def test_several_tests_that_failed_are_named_and_none_is_marked() -> None:
    at = flaky()
    run = at.forge.run(at.incident.run_id)
    text = failed_log() + log(f"FAILED {PATH}::TestLoader::test_rows[1] - x")
    at.forge._jobs[run.id, 1] = [replace(at.forge._jobs[run.id, 1][0], log=text)]
    refusal = at.plan(action).refusal
    assert "2 tests failed" in refusal
    assert "TestLoader::test_rows" in refusal


@pytest.mark.parametrize(
    "text", [None, b"", log("--- FAIL: TestLoader (0.01s)"), log("FAILED see tests/test_loader.py")]
)
def test_a_log_that_names_no_test_is_refused(text: bytes | None) -> None:
    at = flaky()
    run = at.forge.run(at.incident.run_id)
    at.forge._jobs[run.id, 1] = [replace(at.forge._jobs[run.id, 1][0], log=text)]
    assert "names no test" in at.plan(action).refusal


def test_a_log_of_progress_names_the_test_too() -> None:
    at = flaky()
    run = at.forge.run(at.incident.run_id)
    text = log(f"{ORDER} FAILED          [ 50%]")
    at.forge._jobs[run.id, 1] = [replace(at.forge._jobs[run.id, 1][0], log=text)]
    assert edit_of(at).path == PATH


def test_tests_that_run_in_a_folder_of_the_repository_are_found_if_there_is_one_such_file() -> None:
    at = flaky(path="model/tests/test_loader.py")
    assert edit_of(at).path == "model/tests/test_loader.py"
    two = flaky(path="model/tests/test_loader.py", files={"web/tests/test_loader.py": PLAIN})
    assert "several files" in two.plan(action).refusal


def test_a_protected_path_is_refused() -> None:
    at = flaky(policy=Policy(protected_paths=("tests/**",)))
    assert "protected by heal.yml" in at.plan(action).refusal


def test_no_ticket_is_opened_while_somebody_else_is_on_the_file() -> None:
    at = flaky()
    at.forge.branches["theirs"] = at.forge.branches["main"]
    at.forge.push("theirs", {PATH: "theirs\n"})
    at.forge.pull_by_hand("theirs", "Mend the flake")
    before = at.picture()
    outcome = at.apply(action, at.repair(action))
    assert outcome.conclusion is Conclusion.SKIPPED
    assert "is on it" in outcome.title
    assert at.picture() == before


def test_the_ticket_is_closed_where_no_pull_request_may_be_opened() -> None:
    at = flaky()
    outcome = at.apply(action, at.repair(action))
    at.forge.close_by_hand(outcome.data["pull"])
    at.forge.close_issue(outcome.data["ticket"], "over")
    again = at.apply(action, at.repair(action))
    assert again.conclusion is Conclusion.SKIPPED
    assert {issue.state for issue in at.forge.issues.values()} == {"closed"}


def test_undo_of_an_open_pull_request_leaves_the_repository_as_it_was() -> None:
    at = flaky()
    branches = dict(at.forge.branches)

    def undo(stage: Stage, tools: Tools) -> Outcome:
        return action.undo(done, tools)

    done = at.done(action)
    assert undo(at, at.tools).conclusion is Conclusion.SUCCESS
    assert undo(at, at.tools).conclusion is Conclusion.SUCCESS
    assert dict(at.forge.branches) == branches
    assert [issue.state for issue in at.forge.issues.values()] == ["closed"]
    assert [pull.state for pull in at.forge.pulls.values()] == ["closed"]


def test_a_crash_while_it_is_undone_leaves_nothing() -> None:
    def make() -> Stage:
        at = flaky()
        made[id(at)] = at.done(action)
        return at

    made: dict[int, Repair] = {}
    assert crash_everywhere(make, lambda at, tools: action.undo(made[id(at)], tools)) >= 2


def _merge(at: Stage, repair: Repair) -> None:
    assert repair.outcome is not None
    at.forge.merge(repair.outcome.data["pull"])


def _merged(text: str = PLAIN) -> tuple[Stage, Repair]:
    at = flaky(text)
    repair = replace(at.done(action), intent=Intent(at.incident.run_id, 1, at.incident.head_sha, CI, ("train",)))
    _merge(at, repair)
    return at, repair


def test_undo_of_a_merged_quarantine_offers_the_exact_reverse_and_keeps_the_ticket() -> None:
    at, repair = _merged("import os\n\n\ndef test_order():\n    pass\n")
    outcome = action.undo(repair, at.tools)
    assert outcome.conclusion is Conclusion.SUCCESS
    files = at.forge.commits[outcome.data["head_sha"]].files
    assert files[PATH] == "import os\n\n\ndef test_order():\n    pass\n"
    assert [issue.state for issue in at.forge.issues.values()] == ["open"]
    assert action.undo(repair, at.tools) == outcome


def test_it_holds_until_its_day_and_is_over_then() -> None:
    at, repair = _merged()
    assert "holds until 2026-12-05" in lift(repair, at.forge, NOW + timedelta(days=13)).refusal
    plan = lift(repair, at.forge, NOW + timedelta(days=14))
    assert "held until 2026-12-05" in plan.why
    assert plan.edits[0].after == PLAIN
    assert dishonest(plan.edits, ALLOW) is None


def _green(at: Stage, *lines: str, conclusion: str = "success") -> None:
    job = at.forge.job("train", conclusion, log("=== short test summary info ===", *lines))
    at.forge.add_run(head_sha=at.forge.branches["main"], head_branch="main", conclusion=conclusion, jobs=[job])


def test_ten_runs_in_which_it_passed_lift_it_early() -> None:
    at, repair = _merged()
    for _ in range(9):
        _green(at, f"XPASS {ORDER} - quarantined by heal")
    assert lift(repair, at.forge, NOW).refusal
    _green(at, f"XPASS {ORDER} - quarantined by heal")
    assert "last 10 runs" in lift(repair, at.forge, NOW).why


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("1 xpassed",),
        (f"XFAIL {ORDER} - x",),
        (f"XPASS {ORDER}[1]", f"XFAIL {ORDER}[2]"),
        (f"XPASS {PATH}::test_orders",),
        ("XPASS other/test_loader.py::test_order",),
    ],
)
def test_a_run_that_does_not_show_that_it_passed_ends_the_streak(lines: tuple[str, ...]) -> None:
    at, repair = _merged()
    for number in range(12):
        _green(at, *(lines if number == 5 else (f"XPASS {ORDER}",)))
    assert "the last 6 runs" in lift(repair, at.forge, NOW).refusal


def test_a_quarantine_that_was_not_merged_or_is_gone_is_not_lifted() -> None:
    at = flaky()
    assert "not merged" in lift(at.done(action), at.forge, NOW).refusal
    assert "not merged" in lift(at.repair(action), at.forge, NOW).refusal
    at, repair = _merged()
    at.forge.push("main", {PATH: PLAIN})
    assert "gone already" in lift(repair, at.forge, NOW + timedelta(days=20)).refusal
    at.forge.push("main", {PATH: None})
    assert "gone already" in lift(repair, at.forge, NOW + timedelta(days=20)).refusal


def test_what_others_wrote_around_the_marker_stays() -> None:
    at, repair = _merged("import os\n\n\ndef test_order():\n    pass\n")
    now = at.forge.commits[at.forge.branches["main"]].files[PATH]
    at.forge.push("main", {PATH: now.replace("def test_order():\n", "def test_order(tmp_path):\n")})
    plan = lift(repair, at.forge, NOW + timedelta(days=14))
    assert plan.edits[0].after == "import os\n\nimport pytest\n\n\ndef test_order(tmp_path):\n    pass\n"


def test_an_import_that_somebody_else_uses_by_now_stays() -> None:
    at, repair = _merged("import os\n\n\ndef test_order():\n    pass\n")
    now = at.forge.commits[at.forge.branches["main"]].files[PATH]
    at.forge.push("main", {PATH: now + "\n\n@pytest.mark.slow\ndef test_b():\n    pass\n"})
    after = lift(repair, at.forge, NOW + timedelta(days=14)).edits[0].after or ""
    assert "import pytest" in after
    assert "xfail" not in after


def test_the_ticket_shows_names_from_the_repository_as_code_only() -> None:
    text = quarantine_test._ticket_text(Plan("t", why="`@everyone` <b>", edits=(FileEdit("tests/a`b.py", "", ""),)))
    assert "``" in text
    assert "\n<b>" not in text

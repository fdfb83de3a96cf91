from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.fix_pull_request import forbidden, matches, propose, restored, withdraw
from actions.tune_divergence import TuneDivergence
from app.domain.errors import LeaseLost
from app.domain.outcome import Conclusion, Outcome
from app.domain.policy import Policy
from app.domain.repair import FileEdit, Plan, Repair
from app.ports.plugins import Tools
from tests.actions.stage import Stage, crash_everywhere, stage

action = TuneDivergence()
RATE = {"means": "lower_rate", "factor": 10}
LOWER = {"means": "lower_rate", "factor": 100}
CONFIG = "# settings\nname: sgd\nepochs: 3\nlr: 0.5   # high\nseed: 7\nlast: 1"
FIXED = CONFIG.replace("0.5", "0.05")


def make() -> Stage:
    return stage({"config.yaml": CONFIG, "train.py": "pass\n"})


def proposed(at: Stage, tools: Tools) -> Outcome:
    return at.apply(action, at.repair(action, RATE), tools=tools)


def refused(at: Stage, repair: Repair | None = None) -> Outcome:
    """Nothing but a loose commit may have been written."""
    before = at.picture()
    outcome = at.apply(action, repair or at.repair(action, RATE))
    assert outcome.conclusion is Conclusion.SKIPPED, outcome
    assert at.picture() == before
    return outcome


def test_the_fix_stands_on_the_failing_commit_in_one_pull_request() -> None:
    at = make()
    outcome = proposed(at, at.tools)
    (pull,) = at.forge.pulls.values()
    commit = at.forge.commits[outcome.data["head_sha"]]
    assert commit.parent == at.incident.head_sha
    assert commit.files["config.yaml"] == FIXED
    assert (pull.head_branch, pull.base_branch, pull.title) == (
        at.incident.fix_branch,
        "main",
        "Lower lr from 0.5 to 0.05",
    )
    assert outcome.data == {
        "branch": at.incident.fix_branch,
        "head_sha": pull.head_sha,
        "pull": pull.number,
        "base": "main",
    }


def test_a_crash_after_any_write_leaves_one_branch_and_one_pull_request() -> None:
    assert crash_everywhere(make, proposed) == 3


def test_every_write_is_guarded() -> None:
    at = make()
    proposed(at, at.tools)
    assert at.guards[-3:] == [0, 1, 2]

    def lost() -> None:
        raise LeaseLost("another worker has it")

    at = make()
    with pytest.raises(LeaseLost):
        proposed(at, replace(at.tools, guard=lost))
    assert at.forge.writes == []


def test_a_branch_that_moved_on_is_stale() -> None:
    at = make()
    at.forge.push("main", {"train.py": "more\n"})
    outcome = proposed(at, at.tools)
    assert outcome.conclusion is Conclusion.STALE
    assert at.forge.writes == []


def test_a_branch_that_moved_on_between_branch_and_pull_request_leaves_nothing() -> None:
    at = make()
    at.forge.fail_next("ensure_pull", LeaseLost("stopped"))
    with pytest.raises(LeaseLost):
        proposed(at, at.tools)
    at.forge.push("main", {"train.py": "more\n"})
    assert proposed(at, at.tools).conclusion is Conclusion.STALE
    assert set(at.forge.branches) == {"main"}


def test_a_pull_request_that_a_person_closed_is_not_opened_again() -> None:
    at = make()
    at.forge.close_by_hand(proposed(at, at.tools).data["pull"])
    assert "a person closed" in refused(at).title


def test_a_branch_with_commits_of_others_is_left_alone() -> None:
    at = make()
    proposed(at, at.tools)
    at.forge.push(at.incident.fix_branch, {"train.py": "theirs\n"})
    assert "not ours" in refused(at).title


def test_a_branch_that_a_person_brought_up_to_date_by_a_merge_is_left_alone() -> None:
    at = make()
    former = proposed(at, at.tools).data["head_sha"]
    at.forge.push("main", {"train.py": "more\n"})
    files = at.forge.commits[at.forge.branches["main"]].files
    merged = at.forge.push(at.incident.fix_branch, {"train.py": files["train.py"]}, message="Merge branch 'main'")
    at.forge.branches["main"] = at.incident.head_sha
    before = at.picture()
    tools = replace(at.tools, ours=frozenset({former}))
    outcome = at.apply(action, at.repair(action, LOWER, rung=1), tools=tools)
    assert outcome.conclusion is Conclusion.SKIPPED
    assert "not ours" in outcome.title
    assert at.forge.branches[at.incident.fix_branch] == merged
    assert at.picture() == before


def theirs(at: Stage, files: dict[str, str | None], login: str = "octocat", head: str = "bump") -> int:
    """Somebody's open pull request into main."""
    at.forge.branches[head] = at.forge.branches["main"]
    at.forge.push(head, files)
    return at.forge.pull_by_hand(head, "Lower the rate", login=login).number


@pytest.mark.parametrize("login", ["octocat", "dependabot[bot]", "renovate[bot]"])
def test_nothing_is_offered_while_somebody_else_is_on_the_same_file(login: str) -> None:
    at = make()
    number = theirs(at, {"config.yaml": "lr: 1\n"}, login)
    title = refused(at).title
    assert (login in title, f"#{number}" in title, "config.yaml" in title) == (True, True, True)


def test_a_pull_request_about_other_files_or_into_another_branch_stops_nothing() -> None:
    at = make()
    theirs(at, {"train.py": "theirs\n"})
    elsewhere = theirs(at, {"config.yaml": "lr: 1\n"}, head="release-fix")
    at.forge.pulls[elsewhere] = replace(at.forge.pulls[elsewhere], base_branch="release")
    closed = theirs(at, {"config.yaml": "lr: 2\n"}, head="given-up")
    at.forge.close_by_hand(closed)
    assert proposed(at, at.tools).conclusion is Conclusion.SUCCESS


def test_a_pull_request_whose_commits_are_gone_stops_nothing() -> None:
    at = make()
    number = theirs(at, {"config.yaml": "lr: 1\n"})
    at.forge.pulls[number] = replace(at.forge.pulls[number], head_sha="0" * 40)
    assert proposed(at, at.tools).conclusion is Conclusion.SUCCESS


def test_somebody_who_comes_after_our_pull_request_does_not_make_a_second_try_forget_it() -> None:
    at = make()
    first = proposed(at, at.tools)
    theirs(at, {"config.yaml": "lr: 1\n"})
    assert proposed(at, at.tools) == first


def test_somebody_who_comes_between_branch_and_pull_request_leaves_nothing_of_ours() -> None:
    at = make()
    at.forge.fail_next("ensure_pull", LeaseLost("stopped"))
    with pytest.raises(LeaseLost):
        proposed(at, at.tools)
    theirs(at, {"config.yaml": "lr: 1\n"})
    assert proposed(at, at.tools).conclusion is Conclusion.SKIPPED
    assert at.incident.fix_branch not in at.forge.branches


def test_the_next_rung_replaces_our_own_commit_and_keeps_the_pull_request() -> None:
    def first_rung() -> Stage:
        at = make()
        at.done(action, RATE)
        return at

    def second_rung(at: Stage, tools: Tools) -> Outcome:
        former = next(iter(at.forge.written("ensure_branch")))["sha"]
        return at.apply(action, at.repair(action, LOWER, rung=1), tools=replace(tools, ours=frozenset({former})))

    at = first_rung()
    outcome = second_rung(at, at.tools)
    (pull,) = at.forge.pulls.values()
    assert (outcome.data["pull"], pull.title) == (pull.number, "Lower lr from 0.5 to 0.005")
    assert at.forge.commits[pull.head_sha].files["config.yaml"] == CONFIG.replace("0.5", "0.005")
    assert crash_everywhere(first_rung, second_rung) == 3


def test_the_next_rung_does_not_replace_what_it_does_not_know() -> None:
    at = make()
    proposed(at, at.tools)
    assert "not ours" in refused(at, at.repair(action, LOWER, rung=1)).title


def test_a_branch_left_over_from_a_merged_pull_request_is_used_again() -> None:
    at = make()
    number = proposed(at, at.tools).data["pull"]
    at.forge.merge(number)
    back = at.forge.push("main", {"config.yaml": CONFIG})
    again = replace(at.incident, head_sha=back)
    outcome = Stage(at.forge, again, replace(at.tools, incident=again), []).apply(action, at.repair(action, RATE))
    assert outcome.conclusion is Conclusion.SUCCESS
    assert outcome.data["pull"] != number


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        (".github/**", ".github/workflows/ci.yml", True),
        ("**/CODEOWNERS", "docs/CODEOWNERS", True),
        ("**/CODEOWNERS", "CODEOWNERS", True),
        ("CODEOWNERS", "docs/CODEOWNERS", False),
        ("conf/*.yaml", "conf/a.yaml", True),
        ("conf/*.yaml", "conf/deep/a.yaml", False),
        ("conf.yaml", "confxyaml", False),
        ("a?.yaml", "ab.yaml", True),
        ("[a].yaml", "a.yaml", False),
    ],
)
def test_protected_paths_are_patterns(pattern: str, path: str, meant: bool) -> None:
    at = make()
    reason = forbidden(at.incident, [FileEdit(path, "a: 1\n", "a: 2\n")], Policy(protected_paths=(pattern,)))
    assert ("protected" in reason) is meant


def test_what_became_forbidden_after_the_plan_is_not_offered() -> None:
    at = make()
    plan = at.plan(action, RATE)
    tools = replace(at.tools, policy=Policy(protected_paths=("*.yaml",)))
    assert propose(at.repair(action), plan, tools).conclusion is Conclusion.SKIPPED
    hiding = Plan("x", edits=(FileEdit("run.sh", "a\n", "a || true\n"),))
    assert "suppresses" in propose(at.repair(action), hiding, at.tools).title
    assert propose(at.repair(action), Plan("x"), at.tools).conclusion is Conclusion.SKIPPED
    assert at.forge.writes == []


# undo


class Applied(Stage):
    """A stage on which the fix was applied."""

    repair_done: Repair


def applied(*, merged: bool = False, later: dict[str, str | None] | None = None) -> Applied:
    at = make()
    done = at.done(action, RATE)
    if merged:
        at.forge.merge(done.outcome.data["pull"])  # type: ignore[union-attr]
    if later:
        at.forge.push("main", later)
    found = Applied(at.forge, at.incident, at.tools, at.guards)
    found.repair_done = done
    return found


def undone(at: Any, tools: Tools) -> Outcome:
    return withdraw(at.repair_done, tools)


def test_undo_of_an_open_pull_request_leaves_the_repository_as_it_was() -> None:
    calm = make().picture()
    at = applied()
    outcome = undone(at, at.tools)
    assert outcome.conclusion is Conclusion.SUCCESS
    assert "pull" not in outcome.data
    assert at.picture()[:2] == calm[:2]
    assert [pull.state for pull in at.forge.pulls.values()] == ["closed"]
    assert crash_everywhere(applied, undone) == 2


def test_undo_leaves_a_branch_with_commits_of_others() -> None:
    at = applied()
    at.forge.push(at.incident.fix_branch, {"train.py": "theirs\n"})
    before = at.picture()
    assert undone(at, at.tools).conclusion is Conclusion.NEUTRAL
    assert at.picture() == before


def test_undo_of_a_merged_pull_request_offers_the_exact_reverse() -> None:
    at = applied(merged=True)
    outcome = undone(at, at.tools)
    pull = at.forge.pulls[outcome.data["pull"]]
    assert pull.head_branch == f"{at.incident.fix_branch}-revert"
    assert (pull.base_branch, pull.state) == ("main", "open")
    assert at.forge.commits[pull.head_sha].files["config.yaml"] == CONFIG
    assert crash_everywhere(lambda: applied(merged=True), undone) == 3


def test_a_revert_keeps_what_others_changed_meanwhile() -> None:
    at = applied(merged=True, later={"config.yaml": "# new head\n" + FIXED.replace("last: 1", "last: 2")})
    outcome = undone(at, at.tools)
    files = at.forge.commits[outcome.data["head_sha"]].files
    assert files["config.yaml"] == "# new head\n" + CONFIG.replace("last: 1", "last: 2")


@pytest.mark.parametrize("text", [FIXED.replace("0.05", "0.01"), FIXED.replace("seed: 7", "seed: 8"), None])
def test_a_revert_of_lines_that_changed_since_is_left_to_a_person(text: str | None) -> None:
    at = applied(merged=True, later={"config.yaml": text})
    before = at.picture()
    outcome = undone(at, at.tools)
    assert outcome.conclusion is Conclusion.NEUTRAL
    assert "cannot be reverted cleanly" in outcome.title
    assert at.picture() == before


def test_nothing_is_reverted_twice() -> None:
    at = applied(merged=True, later={"config.yaml": CONFIG})
    assert "nothing of" in undone(at, at.tools).title


def test_a_revert_survives_a_push_between_its_branch_and_its_pull_request() -> None:
    at = applied(merged=True)
    at.forge.fail_next("ensure_pull", LeaseLost("stopped"))
    with pytest.raises(LeaseLost):
        undone(at, at.tools)
    at.forge.push("main", {"train.py": "more\n"})
    outcome = undone(at, at.tools)
    assert outcome.conclusion is Conclusion.SUCCESS
    assert at.forge.pulls[outcome.data["pull"]].head_sha == outcome.data["head_sha"]


def test_a_revert_branch_of_somebody_else_is_left_alone() -> None:
    at = applied(merged=True)
    at.forge.push(f"{at.incident.fix_branch}-revert", {"config.yaml": "theirs\n"})
    assert "not ours" in undone(at, at.tools).title


def test_a_revert_that_a_person_closed_is_not_offered_again() -> None:
    at = applied(merged=True)
    number = undone(at, at.tools).data["pull"]
    at.forge.close_by_hand(number)
    outcome = undone(at, at.tools)
    assert outcome.conclusion is Conclusion.NEUTRAL
    assert f"#{number}" in outcome.title


def test_undo_of_a_repair_that_offered_nothing_changes_nothing() -> None:
    at = make()
    assert withdraw(at.repair(action), at.tools).conclusion is Conclusion.NEUTRAL
    assert at.forge.writes == []


def test_new_and_deleted_files_are_taken_back() -> None:
    assert restored(FileEdit("a", None, "x\n"), "x\n") == FileEdit("a", "x\n", None)
    assert restored(FileEdit("a", "x\n", None), None) == FileEdit("a", None, "x\n")
    assert restored(FileEdit("a", None, "x\n"), "y\n") is None
    assert restored(FileEdit("a", "x\n", "y\n"), None) is None


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "d\n"]), min_size=6, max_size=12)


@given(LINES, st.integers(0, 2), st.lists(st.sampled_from(["p\n", "q\n"]), max_size=3), st.booleans())
def test_a_change_elsewhere_never_blocks_or_spoils_the_reverse(
    middle: list[str], where: int, extra: list[str], final_newline: bool
) -> None:
    """Unique lines stand between the change and the rest, so that there is one right answer."""
    tail = "end\n" if final_newline else "end"
    before = "".join(["head\n", "lr: 1\n", "fence\n", *middle, tail])
    after = before.replace("lr: 1", "lr: 2")
    lines = ["head\n", "lr: 2\n", "fence\n", *middle, tail]
    changed = [*lines[: 3 + where], *extra, *lines[3 + where :]]
    back = restored(FileEdit("a", before, after), "".join(changed))
    assert back is not None
    assert back.after == "".join(changed).replace("lr: 2", "lr: 1")


def test_no_protected_path_takes_longer_than_its_length() -> None:
    assert not matches("**a" * 30 + "b", "a" * 200)
    assert matches("**a" * 30, "a" * 200)
    assert matches("secrets/**", "secrets/a\nb")

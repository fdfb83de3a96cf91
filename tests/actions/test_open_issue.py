from actions.open_issue import OpenIssue
from app.domain.outcome import Conclusion, Outcome
from app.ports.plugins import Tools
from tests.actions.stage import Stage, crash_everywhere, stage

action = OpenIssue()


def _opened(at: Stage, tools: Tools) -> Outcome:
    return at.apply(action, at.repair(action), tools=tools)


def test_an_issue_asks_a_person_and_changes_no_code() -> None:
    at = stage({"train.py": "pass\n"})
    outcome = _opened(at, at.tools)
    issue = at.forge.issues[outcome.data["issue"]]
    assert (issue.title, issue.labels) == ("it broke", ("heal",))
    assert at.tools.marker in issue.body
    assert {write.method for write in at.forge.writes} == {"ensure_issue"}


def test_a_crash_after_the_issue_opens_no_second_one() -> None:
    assert crash_everywhere(stage, _opened) == 1


def test_undo_closes_the_issue_once() -> None:
    def make() -> Stage:
        at = stage()
        at.incident_repair = at.done(action)  # type: ignore[attr-defined]
        return at

    def undo(at: Stage, tools: Tools) -> Outcome:
        return action.undo(at.incident_repair, tools)  # type: ignore[attr-defined]

    assert crash_everywhere(make, undo) == 1
    at = make()
    assert undo(at, at.tools).conclusion is Conclusion.SUCCESS
    assert [issue.state for issue in at.forge.issues.values()] == ["closed"]


def test_undo_of_a_repair_that_opened_nothing_changes_nothing() -> None:
    at = stage()
    assert action.undo(at.repair(action), at.tools).conclusion is Conclusion.NEUTRAL
    assert at.forge.writes == []

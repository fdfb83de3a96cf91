"""The check run after a benchmark."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain.incident import State
from app.domain.outcome import Conclusion
from app.healing import texts
from app.ports.store import Record, TimelineEntry
from tests.unit.test_texts import DASHBOARD, INCIDENT, NOW
from tests.web.test_gate_page import BENCHMARK


def checked(state: State, kind: str, report: dict[str, Any]) -> Any:
    entry = TimelineEntry(INCIDENT.id, NOW, kind, {"reason": "it got worse", "url": "", "job": "", "report": report})
    record = Record(replace(INCIDENT, state=state), (), (entry,))
    return texts.check_text([record], dashboard_url=DASHBOARD)


def test_a_regression_fails_the_check_with_its_drawing() -> None:
    check = checked(State.ESCALATED, "disproven", BENCHMARK)
    assert check.conclusion is Conclusion.FAILURE
    assert "## What was measured" in check.text
    assert "WORSE" in check.text
    assert "31" in check.text


def test_a_benchmark_that_held_is_shown_and_passes() -> None:
    held = {**BENCHMARK, "open": True, "intervals": BENCHMARK["intervals"][1:], "gates": []}
    check = checked(State.HEALED, "proven", held)
    assert check.conclusion is Conclusion.SUCCESS
    assert "held" in check.text


@pytest.mark.parametrize("report", [{}, {"kind": "gate", "open": False}])
def test_no_other_escalation_fails_the_check(report: dict[str, Any]) -> None:
    check = checked(State.ESCALATED, "disproven", report)
    assert check.conclusion is Conclusion.NEUTRAL
    assert "What was measured" not in check.text


def test_while_something_else_is_tried_the_check_is_still_open() -> None:
    assert checked(State.REPAIRING, "disproven", BENCHMARK).conclusion is None

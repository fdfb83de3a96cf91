"""The gate behind a promotion, as the dashboard shows it; and the same as text."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from starlette.testclient import TestClient

from app.db.engine import make_engine, writing
from app.db.tables import Base
from app.domain.interval import drawn, intervals_of, scale, signed
from tests.browser.incidents import GATE, add_gate, fill
from tests.web.people import signed_in

INCIDENT = 7


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = make_engine(f"sqlite:///{tmp_path}/heal.db")
    Base.metadata.create_all(engine)
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def site(engine: Engine) -> TestClient:
    return signed_in(engine)


def page(site: TestClient) -> str:
    found = site.get(f"/incidents/{INCIDENT}/gate")
    assert found.status_code == 200
    return found.text


def test_an_incident_with_a_gate_leads_to_it_and_others_do_not(site: TestClient) -> None:
    assert f'href="/incidents/{INCIDENT}/gate"' in site.get(f"/incidents/{INCIDENT}").text
    assert "/gate" not in site.get("/incidents/3").text


def test_the_page_says_what_was_asked_and_what_is_missing(site: TestClient) -> None:
    text = page(site)
    assert "The gate: roc_auc of churn, version 3 to 4" in text
    assert "Closed" in text
    assert "<span>4,000 rows</span><span>2,354 are needed</span>" in text
    assert re.search(r"<strong>Missing:</strong> <span data-plain>labels: 95.0% of the rows", text)


def test_every_interval_is_drawn_and_told_and_one_without_a_value_is_left_out(site: TestClient) -> None:
    text = page(site)
    assert text.count("<circle") == 4
    assert "not told" not in text
    assert 'role="img" aria-labelledby="drawing-title" aria-describedby="drawing-desc"' in text
    assert "country = 日本: +0.0200, −0.00400 to +0.0450, passed." in text


def test_names_of_segments_are_text_and_the_page_needs_no_style_of_its_own(site: TestClient) -> None:
    found = site.get(f"/incidents/{INCIDENT}/gate")
    assert "<b>de</b>" not in found.text
    assert "country = &lt;b&gt;de&lt;/b&gt;" in found.text
    assert "style=" not in found.text
    assert "'unsafe-inline'" not in found.headers["content-security-policy"]


def test_the_newest_report_is_shown(site: TestClient, engine: Engine) -> None:
    newer: dict[str, Any] = {**copy.deepcopy(GATE), "challenger": 5, "open": True}
    with writing(engine) as connection:
        add_gate(connection, INCIDENT, newer)
        add_gate(connection, INCIDENT, {"kind": "roll_back"})
    assert "version 3 to 5" in page(site)


def test_a_report_without_intervals_says_so(site: TestClient, engine: Engine) -> None:
    with writing(engine) as connection:
        add_gate(connection, INCIDENT, {**GATE, "intervals": [], "rows_needed": None})
    text = page(site)
    assert '<svg viewBox="0 0 320' not in text
    assert "there was nothing to compare" in text


@pytest.mark.parametrize("path", ["/incidents/1/gate", "/incidents/999/gate", "/incidents/x/gate"])
def test_what_has_no_gate_is_not_found(site: TestClient, path: str) -> None:
    assert site.get(path).status_code == 404


# --- as text


def test_the_text_draws_each_interval_to_scale() -> None:
    lines = drawn(GATE).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("all rows ")
    assert lines[0].endswith("+0.0300 (+0.0120 to +0.0470) passed")
    assert lines[1].endswith("−0.0810 (−0.110 to −0.0620) CLOSED")
    zero = lines[0].index("╎")
    assert lines[0].index("●") > zero
    assert lines[1].index("●") < lines[1].index("┤") < lines[1].index("┊") < zero
    assert {line.index("╎") for line in lines[:3]} == {zero}
    assert lines[4].split() == ["−0.118", "+0.0549"]


def test_many_intervals_are_cut_and_counted() -> None:
    one = GATE["intervals"][0]
    text = drawn({**GATE, "intervals": [one] * 30})
    assert "and 10 more" in text
    assert len(text.splitlines()) == 22


@pytest.mark.parametrize(
    "report",
    [{}, {"kind": "gate"}, {"kind": "gate", "intervals": []}, {"kind": "roll_back", "intervals": GATE["intervals"]}],
)
def test_what_has_no_intervals_has_no_drawing(report: dict[str, Any]) -> None:
    assert drawn(report) == ""


def test_a_label_stays_in_its_line() -> None:
    text = drawn({**GATE, "intervals": [{**GATE["intervals"][0], "label": "a\nb`\t" + "x" * 90}]})
    assert len(text.splitlines()) == 2
    assert text.startswith("a b` xxxxxxxxxxxxxxxxxxxxxx… ")


def test_an_interval_without_width_is_drawn() -> None:
    point = {"label": "all rows", "value": 0.0, "low": 0.0, "high": 0.0, "bound": 0.0, "passed": False, "rows": 9}
    assert "●" in drawn({**GATE, "intervals": [point]})


@pytest.mark.parametrize("size", [1e-9, 1e-4, 0.013, 1.0, 17.0, 4e6])
def test_marks_stand_at_round_numbers_and_hold_zero(size: float) -> None:
    told = {**GATE["intervals"][0], "value": size / 2, "low": -size, "high": size}
    over = scale(intervals_of({"intervals": [told]}))
    assert 3 <= len(over.ticks) <= 7
    assert min(abs(tick) for tick in over.ticks) < size * 1e-9
    assert over.low < -size < size < over.high
    assert over.at(over.low) == 0.0
    assert over.at(over.high) == 1.0


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.0312, "+0.0312"), (-0.5, "−0.500"), (12.345, "+12.3"), (-4321.0, "−4321"), (1e-9, "+0.00000000")],
)
def test_a_gain_is_told_with_its_sign_to_three_figures(value: float, words: str) -> None:
    assert signed(value) == words


# --- a benchmark


BENCHMARK: dict[str, Any] = {
    "kind": "benchmark",
    "title": "bench.yml on h100-8",
    "open": False,
    "confidence": 0.95,
    "rows": 60,
    "runs": 8,
    "gates": [{"name": "rows", "passed": False, "says": "rows got 31 % worse.", "missing": ""}],
    "intervals": [
        {"label": "<b>", "value": -0.31, "low": -0.38, "high": -0.24, "bound": -0.05, "passed": False, "rows": 30},
        {"label": "b", "value": 0.01, "low": -0.02, "high": 0.04, "bound": -0.05, "passed": True, "rows": 30},
    ],
}


def test_what_a_benchmark_showed_is_a_page_of_its_own_words(site: TestClient, engine: Engine) -> None:
    with writing(engine) as connection:
        add_gate(connection, INCIDENT, BENCHMARK)
    text = page(site)
    assert "Benchmark: bench.yml on h100-8" in text
    assert "<span>60 samples</span><span>8 runs were known</span>" in text
    assert "&lt;b&gt;: −0.310, −0.380 to −0.240, worse." in text
    assert "closed the gate" not in text
    assert "new version" not in text


def test_a_benchmark_is_drawn_as_text_with_its_own_verdicts() -> None:
    first, second, _ = drawn(BENCHMARK).splitlines()
    assert first.endswith("WORSE")
    assert first.index("┤") < first.index("┊") < first.index("╎")
    assert second.endswith("held")

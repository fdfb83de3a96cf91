"""What is drawn of a model, from what is kept of it."""

import re
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from app.db.reads.models import Observations
from app.domain.evidence import Observed
from app.domain.model import ModelRules, Role
from app.domain.policy import Policy
from app.i18n import catalog
from app.ports.models import Model, Window
from app.web.dashboard import model_charts
from app.web.dashboard.plots import Plot
from app.web.guard import Visit
from app.web.words import Words
from detectors.degradation import Batch, summarise

WORDS = Words(catalog("en"), ZoneInfo("UTC"))
VISIT = cast(Visit, SimpleNamespace(words=WORDS, t=WORDS.gettext))


def batch(
    task: str = "binary", *, wrong: float = 0.1, failed: float = 0.0, slow: float = 0.0, rows: int = 1_000
) -> Any:
    chance = np.random.default_rng(3)
    label = chance.random(rows) < 0.5
    said = np.where(chance.random(rows) < wrong, ~label, label)
    return summarise(
        Batch(
            task,
            prediction=said.astype(int).tolist(),
            label=label.astype(int).tolist(),
            at=[1_763_650_800.0 + at for at in range(rows)],
            latency_ms=np.where(np.arange(rows) < slow * rows, 900.0, 20.0).tolist(),
            failed=(np.arange(rows) < failed * rows).tolist(),
        )
    )


def window(name: str, summary: Any, role: Role = Role.CURRENT) -> Window:
    return Window(role, Observed(name, 1_000, None, summary))


def kept(*windows: Window, reference: Any = None) -> Observations:
    told = window("reference", reference, Role.REFERENCE) if reference is not None else None
    return Observations(Model(1, "churn"), told, windows)


def marks(plot: Plot) -> dict[str, float]:
    return {mark.name: float(mark.told) for mark in plot.marks}


def figure(charts: tuple[model_charts.Chart, ...], name: str) -> Plot:
    return next(chart.plot for chart in charts if chart.name == name)


def test_a_metric_that_should_be_high_is_told_as_worse_below_the_reference_and_an_error_above_it() -> None:
    here = kept(window("mon", batch()), reference=batch())
    charts = model_charts.metrics(here, None, VISIT)
    accuracy = marks(figure(charts, "accuracy"))
    assert accuracy["Reference"] - accuracy["Told as worse from here"] == pytest.approx(0.02)
    numbers = kept(window("mon", batch("regression")), reference=batch("regression"))
    mae = marks(figure(model_charts.metrics(numbers, None, VISIT), "mae"))
    assert mae["Told as worse from here"] == pytest.approx(1.1 * mae["Reference"], rel=1e-2)


def test_the_team_s_own_threshold_counts() -> None:
    policy = Policy(settings={"model_degradation": {"least_change": 0.1}})
    told = marks(
        figure(model_charts.metrics(kept(window("mon", batch()), reference=batch()), policy, VISIT), "accuracy")
    )
    assert told["Reference"] - told["Told as worse from here"] == pytest.approx(0.1)


def test_windows_without_labels_are_not_drawn_and_without_a_reference_there_is_no_threshold() -> None:
    charts = model_charts.metrics(kept(window("mon", None), window("tue", batch())), None, VISIT)
    plot = figure(charts, "accuracy")
    assert [row.label for row in plot.rows] == ["tue"]
    assert plot.marks == ()
    assert model_charts.metrics(kept(window("mon", None)), None, VISIT) == ()


def test_failed_and_slow_requests_are_held_against_the_objectives() -> None:
    goals = {"errors": {"target": 0.99}, "latency": {"target": 0.95, "threshold_ms": 300}}
    here = kept(window("mon", batch(failed=0.02, slow=0.1)), window("tue", batch()))
    failed, slow = model_charts.service(here, ModelRules(objectives=goals), None, VISIT)
    assert [row.cells for row in failed.plot.rows] == [("0.02",), ("0",)]
    assert marks(failed.plot) == {"Allowed by the objective": 0.01}
    assert float(slow.plot.rows[0].cells[0]) == pytest.approx(0.1, abs=0.01)
    assert marks(slow.plot) == {"Allowed by the objective": 0.05}


def test_without_objectives_only_what_failed_is_drawn() -> None:
    (failed,) = model_charts.service(kept(window("mon", batch(failed=0.02))), None, None, VISIT)
    assert (failed.name, failed.plot.marks) == ("Failed requests", ())


def test_curves_of_one_quantity_share_a_plot() -> None:
    points = ((0.0, 1.0), (1.0, float("nan")), (2.0, 0.5))
    model = Model(1, "churn", "run", dict.fromkeys(("train_loss", "val_loss", "loss", "auc", "test/auc"), points))
    charts = model_charts.curves(model, WORDS)
    assert {chart.name: chart.plot.names for chart in charts} == {
        "auc": ("auc", "test/auc"),
        "loss": ("loss", "train_loss", "val_loss"),
    }
    assert len({chart.id for chart in charts}) == 2


def test_a_benchmark_is_drawn_by_the_medians_of_its_runs() -> None:
    def run(day: int, middle: float) -> dict[str, Any]:
        samples = [middle - 1, middle - 0.5, middle, middle + 0.5, middle + 1]
        return {"at": f"2026-11-{day}T09:00:00+00:00", "metrics": {"latency": {"unit": "ms", "samples": samples}}}

    (chart,) = model_charts.benchmarks({"b (h100)": {"runs": [run(18, 10.0), run(19, 12.0)]}}, WORDS)
    assert (chart.name, chart.unit) == ("b (h100): latency", "ms")
    assert [re.sub(r" .*", "", row.cells[0]) for row in chart.plot.rows] == ["10", "12"]


def test_a_window_on_another_grid_or_without_inputs_says_so() -> None:
    bare = kept(window("mon", batch()), reference=batch())
    drift = model_charts.drift(bare, "", "", None, None)
    assert drift is not None
    assert drift.why == "no_inputs"
    alone = model_charts.drift(kept(window("mon", batch())), "gone", "", None, None)
    assert alone is not None
    assert (alone.why, alone.window.observed.window) == ("no_reference", "mon")
    assert model_charts.drift(kept(), "", "", None, None) is None

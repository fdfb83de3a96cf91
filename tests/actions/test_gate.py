"""The gate's statistics: how often it is wrong, how often it is right, and what it is closed for.

Counts of trials are held against binomial limits of three standard errors.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as known

from actions.gate.bootstrap import Pair, Sample, sample
from actions.gate.judge import Gate, GateReport, judge, rows_to_see
from actions.gate.metrics import METRICS, metric_named
from actions.gate.rows import Evaluation
from app.domain.errors import Refused
from app.domain.model import GateRules
from app.domain.multiplicity import holm
from app.healing import models_section
from tests.actions.trials import CHALLENGER, CHAMPION, NOW, case, classes, evaluation, measured, scored

TRIALS = 400
Pairs = tuple[dict[str, Any], dict[str, Any]]


def at_most(share: float) -> int:
    """The most of TRIALS that a true chance of `share` gives, but for one in seven hundred times."""
    return math.floor(TRIALS * share + 3 * math.sqrt(TRIALS * share * (1 - share)))


def gate(report: GateReport, name: str) -> Gate:
    return next(each for each in report.gates if each.name == name)


def pair_of(metric: str, found: Pairs) -> Pair:
    told = METRICS[metric].told if metric in METRICS else "prediction"
    columns = [np.asarray(side[told], dtype=float) for side in found]
    return Pair(np.asarray(found[0]["label"], dtype=float), columns[0], columns[1])


@pytest.mark.parametrize(
    ("metric", "make", "rows"),
    [
        ("accuracy", classes, 300),
        ("accuracy", classes, 2_000),
        ("f1", classes, 1_000),
        ("log_loss", scored, 300),
        ("brier", scored, 300),
        ("roc_auc", scored, 300),
        ("average_precision", scored, 300),
        ("mae", measured, 200),
        ("rmse", measured, 200),
        ("r2", measured, 200),
    ],
)
def test_without_a_true_difference_at_most_one_challenger_in_twenty_would_pass(
    metric: str, make: Callable[..., Pairs], rows: int
) -> None:
    """The metric's own gate, without the others: with those, fewer pass."""
    promoted = 0
    for trial in range(TRIALS):
        found = make(np.random.default_rng([trial, rows]), rows)
        low, _ = sample(metric_named(metric), pair_of(metric, found), np.random.default_rng(trial)).interval(0.95)
        promoted += low > 0
    assert promoted <= 0.05 * TRIALS


def test_the_whole_gate_promotes_at_most_one_in_twenty_of_those_that_are_no_better() -> None:
    promoted = 0
    for trial in range(TRIALS):
        before, after = classes(np.random.default_rng([1, trial]), 2_600)
        promoted += judge(case(evaluation(before), evaluation(after), trial=trial)).open
    assert promoted <= 0.05 * TRIALS
    assert promoted >= 1, "a gate that never opens proves nothing"


def test_with_the_rows_that_the_gate_asks_for_the_promised_gain_passes_as_often_as_promised() -> None:
    """Power 80 % at a gain of 0.02. The rows are those for the true variance: 0.12 - 0.02²."""
    normal = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    rows = math.ceil((0.12 - 0.02**2) * (normal / 0.02) ** 2)
    passed, asked = 0, []
    for trial in range(TRIALS):
        before, after = classes(np.random.default_rng([2, trial]), rows, gain=0.02)
        report = judge(case(evaluation(before), evaluation(after), trial=trial))
        passed += gate(report, "metric").passed
        asked.append(report.rows_needed or 0)
    assert abs(passed / TRIALS - 0.8) <= 3 * math.sqrt(0.8 * 0.2 / TRIALS)
    assert np.median(asked) == pytest.approx(rows, rel=0.03)


def test_a_quarter_more_rows_than_asked_for_open_the_whole_gate() -> None:
    opened = 0
    for trial in range(TRIALS):
        before, after = classes(np.random.default_rng([3, trial]), 2_950, gain=0.02)
        opened += judge(case(evaluation(before), evaluation(after), trial=trial)).open
    assert opened / TRIALS >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / TRIALS)


def test_rows_of_one_session_do_not_count_as_many() -> None:
    """Sessions of ten rows that are all alike: taken for independent, three in ten of the even ones would pass."""
    by_rows = by_groups = 0
    for trial in range(TRIALS):
        before, after = classes(np.random.default_rng([4, trial]), 2_000, sessions=10)
        pair = pair_of("accuracy", (before, after))
        chance = np.random.default_rng(trial)
        by_rows += sample(METRICS["accuracy"], pair, chance).interval(0.95)[0] > 0
        grouped = replace(pair, group=np.asarray(before["group"]))
        by_groups += sample(METRICS["accuracy"], grouped, chance).interval(0.95)[0] > 0
    assert by_groups <= 0.05 * TRIALS
    assert by_rows > 0.15 * TRIALS


def test_healthy_segments_are_called_worse_at_most_one_time_in_twenty() -> None:
    """Any of fifteen, by significance alone; the gate asks for a loss beyond the margin besides."""
    alarms = 0
    for trial in range(TRIALS):
        chance = np.random.default_rng([5, trial])
        pair = pair_of("accuracy", classes(chance, 3_000))
        p_values = {}
        for column in range(3):
            segment = chance.integers(0, 5, 3_000)
            for value in range(5):
                found = sample(METRICS["accuracy"], pair.of(segment == value), np.random.default_rng([trial, value]))
                p_values[f"{column} {value}"] = found.p_worse()
        alarms += bool(holm(p_values, 0.05))
    assert alarms <= at_most(0.05)
    assert alarms >= 1


def test_a_segment_with_just_enough_rows_shows_a_loss_of_twice_the_margin_as_often_as_promised() -> None:
    level, rules = 0.05 / 15, GateRules()
    whole = sample(
        METRICS["accuracy"], pair_of("accuracy", classes(np.random.default_rng(20), 20_000)), np.random.default_rng(0)
    )
    rows = rows_to_see(whole, rules.segment_margin, level, rules.power)
    found = 0
    for trial in range(TRIALS):
        chance = np.random.default_rng([21, trial])
        pair = pair_of("accuracy", classes(chance, rows))
        lost = (chance.random(rows) < 0.1 / 0.87) & (pair.challenger == pair.label)
        part = replace(pair, challenger=np.where(lost, 1 - pair.label, pair.challenger))
        seen = sample(METRICS["accuracy"], part, np.random.default_rng(trial))
        found += seen.p_worse() <= level and -seen.gain > rules.segment_margin
    assert found / TRIALS >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / TRIALS)


def test_a_segment_that_loses_closes_the_gate_although_the_whole_gains() -> None:
    chance = np.random.default_rng(6)
    before, after = classes(chance, 6_000, gain=0.05)
    country = chance.integers(0, 5, 6_000)
    lost = (country == 3) & (chance.random(6_000) < 0.2)
    after["prediction"] = np.where(lost, 1 - np.asarray(before["label"]), after["prediction"])
    told = [evaluation(side, {"country": country}) for side in (before, after)]
    report = judge(case(*told, segments=("country",)))
    assert gate(report, "metric").passed
    assert not report.open
    assert [each.name for each in report.closed] == ["segments"]
    assert "country = 3 (−0." in gate(report, "segments").says
    assert [each.label for each in report.intervals if not each.passed] == ["country = 3"]


def test_a_challenger_that_is_too_sure_closes_the_gate() -> None:
    before, after = scored(np.random.default_rng(7), 20_000, gain=0.5)
    score = np.asarray(after["score"])
    after["score"] = np.clip(score + 0.6 * (score - 0.5), 0.0005, 0.9995)
    rules = GateRules("roc_auc", effect=0.02)
    report = judge(case(evaluation(before), evaluation(after), rules))
    assert gate(report, "metric").passed
    assert [each.name for each in report.closed] == ["calibration"]
    assert not next(each for each in report.intervals if each.label == "calibration (ece)").passed


def test_a_calibration_that_holds_leaves_the_gate_open() -> None:
    before, after = scored(np.random.default_rng(8), 20_000, gain=0.5)
    assert judge(case(evaluation(before), evaluation(after), GateRules("roc_auc"))).open


def test_a_score_of_several_classes_is_that_of_the_predicted_one() -> None:
    chance = np.random.default_rng(9)
    label = chance.integers(0, 4, 5_000)

    def told(right: float, score: float) -> Evaluation:
        hit = chance.random(5_000) < right
        return evaluation(
            {"label": label, "prediction": np.where(hit, label, (label + 1) % 4), "score": np.full(5_000, score)}
        )

    assert judge(case(told(0.8, 0.8), told(0.9, 0.9))).open
    assert [each.name for each in judge(case(told(0.8, 0.8), told(0.9, 0.99))).closed] == ["calibration"]


@pytest.mark.parametrize("metric", ["mae", "rmse", "r2", "log_loss"])
@pytest.mark.parametrize("rows", [40, 400])
def test_intervals_are_those_of_scipy(metric: str, rows: int) -> None:
    """Ends differ by less than a seventh of the interval's width, which is chance at 4,000 resamples in the tails."""
    make = scored if metric == "log_loss" else measured
    pair = pair_of(metric, make(np.random.default_rng([10, rows]), rows, gain=0.3))
    chosen = METRICS[metric]
    sign = 1 if chosen.higher else -1

    def gain(label: Any, mine: Any, theirs: Any, axis: int = -1) -> Any:
        how = {
            "mae": lambda told: np.abs(label - told).mean(axis=axis),
            "rmse": lambda told: np.sqrt(((label - told) ** 2).mean(axis=axis)),
            "r2": lambda told: (
                1
                - ((label - told) ** 2).sum(axis=axis)
                / ((label - label.mean(axis=axis, keepdims=True)) ** 2).sum(axis=axis)
            ),
            "log_loss": lambda told: -np.log(np.where(label == 1, told, 1 - told)).mean(axis=axis),
        }[metric]
        return sign * (how(theirs) - how(mine))

    ours = sample(chosen, pair, np.random.default_rng(1), 4_000)
    found = stats.bootstrap(
        (pair.label, pair.champion, pair.challenger),
        gain,
        paired=True,
        vectorized=True,
        n_resamples=4_000,
        rng=np.random.default_rng(2),
        method="BCa",
    ).confidence_interval
    width = found.high - found.low
    low, high = ours.interval(0.95)
    assert low == pytest.approx(found.low, abs=width / 7)
    assert high == pytest.approx(found.high, abs=width / 7)


def test_the_acceleration_is_that_of_the_jackknife() -> None:
    """Of a mean it is known: the skewness over six times the root of n (Efron 1987)."""
    chance = np.random.default_rng(11)
    loss = chance.exponential(1, 200)
    found = sample(METRICS["mae"], Pair(np.zeros(200), loss, np.zeros(200)), chance)
    assert found.acceleration == pytest.approx(stats.skew(loss) / 6 / math.sqrt(200), abs=1e-9)
    assert found.error == pytest.approx(loss.std(ddof=1) / math.sqrt(200))


def test_ninety_five_of_a_hundred_intervals_hold_the_truth() -> None:
    """The difference of two mean absolute errors that is 0, with heavy tails: a percentile interval is no better."""
    held = 0
    for trial in range(TRIALS):
        pair = pair_of("mae", measured(np.random.default_rng([12, trial]), 100, heavy=True))
        low, high = sample(METRICS["mae"], pair, np.random.default_rng(trial)).interval(0.95)
        held += low <= 0 <= high
    assert held >= TRIALS - at_most(0.07)
    assert held <= TRIALS * 0.95 + 3 * math.sqrt(TRIALS * 0.05 * 0.95)


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_scikit_learn(ties: bool) -> None:
    chance = np.random.default_rng(13)
    before, _ = scored(chance, 500)
    label, score = np.asarray(before["label"]), np.asarray(before["score"])
    score = np.round(score, 1) * 0.98 + 0.01 if ties else score
    other = chance.permutation(score)
    told = (score > 0.5).astype(float)
    number = label * 3.0 + chance.normal(size=500)
    wanted = {
        "accuracy": (known.accuracy_score(label, told), label, told),
        "error_rate": (1 - known.accuracy_score(label, told), label, told),
        "f1": (known.f1_score(label, told), label, told),
        "log_loss": (known.log_loss(label, score), label, score),
        "brier": (known.brier_score_loss(label, score), label, score),
        "roc_auc": (known.roc_auc_score(label, score), label, score),
        "average_precision": (known.average_precision_score(label, score), label, score),
        "mae": (known.mean_absolute_error(number, score), number, score),
        "rmse": (known.root_mean_squared_error(number, score), number, score),
        "r2": (known.r2_score(number, score), number, score),
        "pinball_0.9": (known.mean_pinball_loss(number, score, alpha=0.9), number, score),
    }
    for name, (value, truth, column) in wanted.items():
        found = sample(metric_named(name), Pair(truth.astype(float), column, other), np.random.default_rng(0), 50)
        assert found.champion == pytest.approx(value), name
    assert set(METRICS) - set(wanted) == {"ece"}


def test_a_weight_of_two_is_a_row_that_stands_twice() -> None:
    chance = np.random.default_rng(14)
    before, _ = scored(chance, 60)
    label, score = np.asarray(before["label"]), np.round(before["score"], 1)
    weights = chance.integers(0, 3, 60)
    for name, how in (("roc_auc", known.roc_auc_score), ("average_precision", known.average_precision_score)):
        value = METRICS[name].how.prepare(label, score)(weights[None, :].astype(float))  # type: ignore[union-attr]
        assert value[0] == pytest.approx(how(np.repeat(label, weights), np.repeat(score, weights))), name


def test_the_calibration_error_is_that_of_its_definition() -> None:
    label, score = np.array([1.0, 0, 1, 1, 0, 0]), np.array([0.95, 0.91, 1.0, 0.3, 0.35, 0.0])
    found = sample(METRICS["ece"], Pair(label, score, score), np.random.default_rng(0), 50)
    by_bin = [(3, abs(0.95 + 0.91 + 1.0 - 2) / 3), (2, abs(0.65 - 1) / 2), (1, 0.0)]
    assert found.champion == pytest.approx(sum(rows * gap for rows, gap in by_bin) / 6)


def test_the_same_versions_give_the_same_report_and_others_another() -> None:
    before, after = (evaluation(side) for side in scored(np.random.default_rng(15), 500))
    rules = GateRules("log_loss")
    assert judge(case(before, after, rules)) == judge(case(before, after, rules))
    assert judge(case(before, after, rules)).intervals != judge(case(before, after, rules, trial=1)).intervals


def good(rows: int = 6_000) -> tuple[Evaluation, Evaluation]:
    before, after = classes(np.random.default_rng(16), rows, gain=0.04)
    return evaluation(before), evaluation(after)


def test_a_challenger_that_is_better_opens_the_gate() -> None:
    report = judge(case(*good()))
    assert report.open, report.closed
    assert [each.name for each in report.gates] == ["lineage", "cooldown", "rows", "metric", "segments", "calibration"]


def only(report: GateReport) -> Gate:
    """The one gate that is closed."""
    assert len(report.closed) == 1, report.closed
    return report.closed[0]


@pytest.mark.parametrize(
    ("lacks", "words"), [("code_sha", "the commit it was trained at"), ("data_version", "its data's version")]
)
def test_a_challenger_of_unknown_origin_is_not_promoted(lacks: str, words: str) -> None:
    found = only(judge(replace(case(*good()), challenger=replace(CHALLENGER, **{lacks: ""}))))
    assert (found.name, found.missing) == ("lineage", f"the registry lacks {words}")


def test_after_a_promotion_there_is_a_rest() -> None:
    at = case(*good(), GateRules(cooldown_s=3600))
    found = only(judge(replace(at, promoted_at=NOW - timedelta(seconds=3599))))
    assert found.name == "cooldown"
    assert "the next may be at 2026-11-21 09:00 UTC" in found.says
    assert judge(replace(at, promoted_at=NOW - timedelta(seconds=3600))).open


def test_few_rows_are_not_enough_even_if_every_one_speaks_for_the_challenger() -> None:
    label = [0, 1] * 30
    before = evaluation({"label": label, "prediction": [1 - each for each in label]})
    after = evaluation({"label": label, "prediction": label})
    report = judge(case(before, after))
    found = only(report)
    assert found.name == "rows"
    assert report.rows_needed is not None
    assert f"{report.rows_needed - 60} more labelled rows" in found.missing


def test_few_rows_on_which_both_agree_do_not_pass_for_many() -> None:
    """Their difference has no variance that could be seen; one unseen row bounds it."""
    label = [0, 1] * 30
    both = evaluation({"label": label, "prediction": label})
    assert (judge(case(both, both)).rows_needed or 0) > 60


def test_rows_of_one_evaluation_only_are_rows_without_a_label() -> None:
    before, after = good()
    fewer = replace(after, ids=[*after.ids[:-400], *(f"new-{place}" for place in range(400))])
    found = only(judge(case(before, fewer)))
    assert found.name == "rows"
    assert "5600 of 6400 rows" in found.says
    assert "800 rows are only in one evaluation" in found.missing


def test_the_share_of_labels_is_the_policys_or_what_the_power_needs() -> None:
    before, after = good(3_000)
    blind = replace(before, label=[None if place % 4 == 0 else value for place, value in enumerate(before.label or ())])
    assert "labels: 95.0% of the rows" in only(judge(case(blind, after))).missing
    lenient = judge(case(blind, after, GateRules(coverage=0.5, effect=0.016)))
    share = (lenient.rows_needed or 0) / 3_000
    assert 0.75 < share < 1.5
    assert f"labels: {min(share, 1):.1%} of the rows" in only(lenient).missing


def test_two_labels_for_one_row_are_two_held_out_sets() -> None:
    before, after = good()
    label = list(after.label or ())
    label[7] = 1 - label[7]
    found = only(judge(case(before, replace(after, label=label))))
    assert (found.name, found.missing) == (
        "rows",
        "1 rows have one label for the champion and another for the challenger",
    )


def test_a_challenger_that_says_nothing_on_some_rows_is_not_judged_on_the_others() -> None:
    before, after = good()
    silent = replace(after, prediction=[None, *(after.prediction or [])[1:]])
    assert "version 4 does not have a prediction for 1 of 6000" in only(judge(case(before, silent))).missing


@pytest.mark.parametrize(
    ("change", "rules", "more", "words"),
    [
        ({"prediction": None}, {}, {}, "version 4 has no column prediction, which accuracy is told from"),
        ({"label": None}, {}, {}, "version 4 has no column label"),
        ({}, {}, {"segments": ("plan",)}, "has no column plan, which heal.yml names as a segment"),
        ({}, {}, {"grouped": True}, "has no column group or session"),
        ({}, {"metric": "roc_auc"}, {}, "has no column score, which roc_auc is told from"),
        ({}, {"metric": "f1"}, {"positive": "yes"}, "no row has the positive class 'yes'; there are: 0, 1"),
    ],
)
def test_what_is_missing_is_named(
    change: dict[str, Any], rules: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    before, after = good(2_000)
    found = only(judge(case(before, replace(after, **change), replace(GateRules(), **rules), **more)))
    assert words in found.missing


def test_an_evaluation_that_could_not_be_read_is_named() -> None:
    at = case(*good(2_000))
    found = only(judge(replace(at, before="is not there (heal/evaluation.parquet)")))
    assert found.missing == "the evaluation of version 3 is not there (heal/evaluation.parquet)"


def test_scores_that_are_no_probabilities_have_no_log_loss() -> None:
    before, after = scored(np.random.default_rng(17), 500)
    after["score"] = np.asarray(after["score"]) * 4
    found = only(judge(case(evaluation(before), evaluation(after), GateRules("log_loss", effect=0.2))))
    assert "does not have a probability for" in found.missing


def test_a_challenger_that_does_not_say_how_sure_it_is_cannot_be_compared_with_one_that_does() -> None:
    before, after = scored(np.random.default_rng(18), 9_000, gain=0.5)
    found = only(judge(case(evaluation(before), replace(evaluation(after), score=None))))
    assert (found.name, found.missing) == (
        "calibration",
        "version 4 has no probabilities from 0 to 1 for all rows, the other has",
    )


def test_three_classes_have_no_area_under_the_curve() -> None:
    label = [0, 1, 2] * 500
    both = evaluation({"label": label, "prediction": label, "score": [0.5] * 1_500})
    assert (
        "roc_auc needs two classes; there are 3: 0, 1, 2" in only(judge(case(both, both, GateRules("roc_auc")))).missing
    )


def test_an_unknown_metric_names_those_that_are_known() -> None:
    with pytest.raises(Refused, match=r"unknown metric 'bleu'; the gate knows accuracy, .*pinball_<quantile>"):
        judge(case(*good(100), GateRules("bleu")))


@pytest.mark.parametrize(
    "rules",
    [
        {"effect": 0.02, "margin": 0.02},
        {"power": 1.0},
        {"confidence": 0.2},
        {"segment_margin": 0.0},
        {"margin": -0.1},
        {"coverage": 0.0},
    ],
)
def test_rules_without_a_meaning_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(Refused, match="gate"):
        judge(case(*good(100), replace(GateRules(), **rules)))


def test_a_gain_within_the_margin_is_none() -> None:
    found = only(judge(case(*good(), GateRules(margin=0.035, effect=0.08))))
    assert found.name == "metric"
    assert "its lower end must lie above 0.035" in found.says


def test_rare_segments_are_judged_together_and_those_too_small_are_told() -> None:
    before, after = good()
    countries = ["de"] * 3_000 + ["fr"] * 2_600 + [f"c{place % 10}" for place in range(400)]
    plans = ["free"] * 5_500 + [f"p{place}" for place in range(500)]
    told = [replace(each, segments={"country": countries, "plan": plans}) for each in (before, after)]
    report = judge(case(*told, segments=("country", "plan")))
    assert {each.label for each in report.intervals} >= {"country = de", "country = fr", "country = (the others)"}
    assert report.open, report.closed
    tiny = [replace(each, segments={"country": [f"c{place // 10}" for place in range(6_000)]}) for each in told]
    # 50 values are looked at one by one, the rest together: all of these are too small but for the rest
    assert gate(judge(case(*tiny, segments=("country",))), "segments").passed
    few = [replace(each, segments={"country": ["de"] * 5_400 + ["x"] * 60 + ["y"] * 540}) for each in told]
    small = GateRules(segment_margin=0.01)
    found = gate(judge(case(*few, small, segments=("country",))), "segments")
    assert not found.passed
    assert "10.0% of the rows lie in segments too small to judge (country = y, country = x)" in found.missing


def test_too_few_groups_are_not_enough() -> None:
    before, after = good()
    grouped = replace(before, group=[place // 300 for place in range(6_000)])
    found = gate(judge(case(grouped, after, grouped=False)), "rows")
    assert "in 20 groups" in found.says
    assert "10 more groups" in found.missing


def test_holm_stops_at_the_first_that_is_not_sure() -> None:
    assert holm({"a": 0.01, "b": 0.02, "c": 0.04}, 0.05) == {"a", "b", "c"}
    assert holm({"a": 0.01, "b": 0.03, "c": 0.04}, 0.05) == {"a"}
    assert holm({"a": 0.02}, 0.05) == {"a"}
    assert holm({}, 0.05) == set()


def test_a_metric_without_a_value_closes_the_gate() -> None:
    """R² on labels that are all alike."""
    both = evaluation({"label": [2.5] * 100, "prediction": [2.4] * 100})
    report = judge(case(both, both, GateRules("r2")))
    assert not gate(report, "metric").passed
    assert not gate(report, "rows").passed
    assert "r2" in gate(report, "rows").missing


def test_the_report_is_json() -> None:
    import json

    report = judge(case(*good(2_000), segments=()))
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["kind"] == "gate"
    assert told["open"] is report.open
    assert told["champion"] == CHAMPION.number
    assert told["gates"][0]["name"] == "lineage"
    assert told["intervals"][0]["label"] == "all rows"


def test_heal_yml_knows_the_metrics_of_the_gate() -> None:
    assert set(models_section.METRICS) == set(METRICS)


def test_the_p_value_and_the_interval_agree() -> None:
    """The upper end of the interval at 1 - 2p lies at 0."""
    for trial in range(20):
        pair = pair_of("mae", measured(np.random.default_rng([19, trial]), 80, gain=-0.25))
        found: Sample = sample(METRICS["mae"], pair, np.random.default_rng(trial))
        p = found.p_worse()
        if 0.002 < p < 0.4:
            assert abs(found.interval(1 - 2 * p)[1]) < 0.15 * found.error

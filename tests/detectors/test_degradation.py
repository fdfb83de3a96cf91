"""What is kept of a window, and what is read from it."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression
from sklearn.metrics import brier_score_loss, f1_score, log_loss, precision_score, r2_score, recall_score, roc_auc_score

from detectors.degradation import Batch, empty, join, merge, stream, summarise
from detectors.degradation.estimate import BLIND_SPOT, calibration, estimate
from detectors.degradation.metrics import compare, compare_segments, figures, macro_f1, matured_share
from detectors.degradation.summary import BLOCKS, OPEN_SESSIONS, OTHER, PENDING, class_name, score_table

ROWS = 2_000


def drawn(seed=0, rows=ROWS, turned=0.0, **columns):
    """A calibrated binary model; `turned` is the share of labels that are random."""
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-random.normal(0, 2, rows)))
    labels = random.random(rows) < scores
    labels = np.where(random.random(rows) < turned, random.random(rows) < 0.5, labels)
    told = {"prediction": (scores >= 0.5).tolist(), "score": scores.tolist(), "label": labels.tolist(), **columns}
    return Batch(task="binary", **told)


def cut(batch, start, stop):
    columns = {
        name: getattr(batch, name)[start:stop]
        for name in ("prediction", "score", "label", "id", "session", "at", "latency_ms", "failed")
        if getattr(batch, name) is not None
    }
    segments = {name: column[start:stop] for name, column in batch.segments.items()}
    return Batch(task=batch.task, segments=segments, **columns)


def whole():
    return drawn(
        id=list(range(ROWS)),
        session=[f"user-{row // 7}" for row in range(ROWS)],
        segments={"country": [["ch", "at", "de"][row % 3] for row in range(ROWS)]},
        at=[1.7e9 + 30 * row for row in range(ROWS)],
        latency_ms=[row % 400 for row in range(ROWS)],
        failed=[row % 50 == 0 for row in range(ROWS)],
    )


def same(one, two):
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(same(first, second) for first, second in zip(one, two, strict=True))
    return one == pytest.approx(two) if isinstance(one, float) else one == two


# what is kept


def test_batches_in_order_add_up_to_the_whole():
    batch = whole()
    edges = [0, 5, 700, 1_400, ROWS]
    kept = empty("binary")
    for start, stop in pairwise(edges):
        kept = merge(kept, summarise(cut(batch, start, stop)))
    at_once = summarise(batch)
    # Blocks begin anew with each batch, and segments take a session that is cut for two.
    differ = {"blocks", "block", "segments", "open", "products", "sessions"}
    assert all(same(kept[name], at_once[name]) for name in at_once if name not in differ)
    assert sum(block[0] for block in [*kept["blocks"], kept["block"]]) == ROWS
    assert sum(block[1] for block in [*kept["blocks"], kept["block"]]) == pytest.approx(kept["sums"][1])
    both = figures(kept)["accuracy"], figures(at_once)["accuracy"]
    assert both[0].error == pytest.approx(both[1].error, rel=0.02)


def test_merging_is_associative():
    one, two, three = (summarise(cut(whole(), start, start + 500)) for start in (0, 500, 1_000))
    assert same(merge(merge(one, two), three), merge(one, merge(two, three)))


def test_a_session_that_goes_on_in_the_next_batch_is_one_session():
    batch = drawn(rows=40, session=["a"] * 40)
    kept = merge(summarise(cut(batch, 0, 20)), summarise(cut(batch, 20, 40)))
    assert same(kept["open"], summarise(batch)["open"])
    assert (kept["sessions"], len(kept["open"])) == (0, 1)


def test_what_is_kept_is_json_and_bounded_whatever_comes():
    random = np.random.default_rng(1)
    kept = empty("multiclass")
    for batch in range(4):
        names = [f"{batch}-{row}-{'class' * 40}" for row in range(5_000)]
        kept = merge(
            kept,
            summarise(
                Batch(
                    "multiclass",
                    names,
                    random.random(5_000).tolist(),
                    [None, *names[1:3_000], *[None] * 2_000],
                    id=names,
                    session=names,
                    segments={f"{number}{'column' * 40}": names for number in range(9)},
                    at=(random.random(5_000) * 1e9).tolist(),
                    latency_ms=(random.random(5_000) * 1e6).tolist(),
                )
            ),
        )
    assert len(json.dumps(kept)) < 3_500_000
    assert len(kept["open"]) <= OPEN_SESSIONS
    assert len(kept["pending"]) <= PENDING
    assert kept["dropped"] == 8_004 - PENDING
    assert kept["confusion"][OTHER]
    assert json.loads(json.dumps(kept)) == kept


def test_no_id_and_no_session_can_be_read_from_what_is_kept():
    batch = drawn(rows=3, id=["ada@example.org", "b", "c"], session=["ada's phone"] * 3)
    waiting = Batch("binary", batch.prediction, id=batch.id, session=batch.session)
    assert "ada" not in json.dumps([summarise(batch), summarise(waiting)])
    assert summarise(waiting, b"one")["pending"].keys().isdisjoint(summarise(waiting, b"two")["pending"])


def test_many_blocks_are_joined_and_lose_nothing():
    rows = 50 * (BLOCKS + 10)
    kept = summarise(Batch("regression", [1.0] * rows, label=[0.0] * rows))
    assert len(kept["blocks"]) <= BLOCKS
    assert [sum(column) for column in zip(*kept["blocks"], strict=True)] == [rows, rows]


def test_a_block_never_cuts_a_session():
    batch = drawn(rows=300, session=[row // 30 for row in range(300)])
    assert [rows for rows, _ in summarise(batch)["blocks"]] == [60] * 5


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", np.True_, np.int64(1), np.float64(1)])
def test_a_class_has_one_name_however_it_is_written(value):
    assert class_name(value) == "1"


def test_rows_that_cannot_be_used_are_counted_and_left_out():
    kept = summarise(Batch("regression", [1.0, None, math.nan, math.inf, "x", 1e300], label=[1.0] * 6))
    assert (kept["rows"], kept["invalid"], kept["labelled"]) == (1, 5, 1)
    scored = summarise(Batch("binary", [1, 1, 1], score=[1.5, -0.1, math.nan], label=[1, 0, 1]))
    assert (scored["labelled"], scored["scores"]) == (3, {})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: empty("ranking"), "task must be one of"),
        (lambda: summarise(Batch("binary", [1, 0], score=[0.5])), "score has 1 rows, prediction has 2"),
        (lambda: summarise(Batch("binary", [1], segments={"a": []})), "segments.a has 0 rows"),
        (lambda: merge(empty("binary"), empty("regression")), "task differs"),
        (lambda: merge(empty("binary"), empty("binary", "yes")), "positive differs"),
        (lambda: join(empty("binary"), ["a"], []), "labels has 0 rows, id has 1"),
    ],
)
def test_a_mistake_of_the_sender_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# labels that come later


def test_late_labels_give_the_same_figures_as_early_ones():
    batch = whole()
    early = summarise(batch, b"key")
    waiting = Batch(**{name: getattr(batch, name) for name in Batch.__slots__ if name != "label"})
    late = summarise(waiting, b"key")
    assert (late["labelled"], matured_share(late)) == (0, 0.0)
    half = join(late, batch.id[:1_000], batch.label[:1_000], b"key")
    assert matured_share(half) == 0.5
    joined = join(half, batch.id, batch.label, b"key")
    assert (matured_share(joined), joined["unmatched"], joined["pending"]) == (1.0, 1_000, {})
    assert joined["sums"] == pytest.approx(early["sums"])
    assert same(joined["scores"], early["scores"])
    assert same(joined["confusion"], early["confusion"])
    names = figures(joined)
    assert all(names[name].value == pytest.approx(figure.value) for name, figure in figures(early).items())


def test_a_label_is_taken_once():
    waiting = summarise(Batch("binary", [1, 0], id=["a", "b"]))
    once = join(waiting, ["a"], [1])
    again = join(once, ["a"], [1])
    assert (once["labelled"], again["labelled"], again["unmatched"]) == (1, 1, 1)


def test_beyond_the_bound_a_sample_waits_and_the_window_still_matures():
    rows = PENDING + 1_000
    random = np.random.default_rng(3)
    labels = (random.random(rows) < 0.3).tolist()
    ids = list(range(rows))
    parts = [
        summarise(Batch("binary", [True] * 2_500, id=ids[start : start + 2_500])) for start in range(0, rows, 2_500)
    ]
    kept, other_way = merge(*parts), merge(*reversed(parts))
    assert kept["pending"] == other_way["pending"]
    joined = join(kept, ids, labels)
    assert (joined["labelled"], joined["dropped"], matured_share(joined)) == (PENDING, 1_000, 1.0)
    assert figures(joined)["precision"].value == pytest.approx(0.3, abs=0.03)


def test_predictions_without_an_id_never_mature():
    assert matured_share(summarise(Batch("binary", [1, 0, 1, 1], label=[1, None, None, None]))) == 0.25


# what labels say


def test_figures_are_those_of_scikit_learn():
    batch = drawn(rows=5_000)
    labels, predictions, scores = (np.array(column, float) for column in (batch.label, batch.prediction, batch.score))
    found = figures(summarise(batch))
    assert found["accuracy"].value == pytest.approx((labels == predictions).mean())
    assert found["precision"].value == pytest.approx(precision_score(labels, predictions))
    assert found["recall"].value == pytest.approx(recall_score(labels, predictions))
    assert found["f1"].value == pytest.approx(f1_score(labels, predictions))
    assert found["brier"].value == pytest.approx(brier_score_loss(labels, scores))
    assert found["log_loss"].value == pytest.approx(log_loss(labels, scores))
    assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=5e-4)
    assert found["calibration_gap"].value == pytest.approx(scores.mean() - labels.mean())


def test_figures_of_a_regression_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.normal(10, 3, 4_000)
    predictions = labels + random.normal(0.2, 1, 4_000)
    found = figures(summarise(Batch("regression", predictions.tolist(), label=labels.tolist())))
    assert found["mae"].value == pytest.approx(np.abs(predictions - labels).mean())
    assert found["rmse"].value == pytest.approx(math.sqrt(((predictions - labels) ** 2).mean()))
    assert found["r2"].value == pytest.approx(r2_score(labels, predictions))
    assert found["bias"].value == pytest.approx((predictions - labels).mean())
    assert set(found) == {"mae", "rmse", "r2", "bias"}


def test_macro_f1_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 4, 500), random.integers(0, 4, 500)
    kept = summarise(Batch("multiclass", predictions.tolist(), label=labels.tolist()))
    assert macro_f1(kept) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_the_expected_calibration_error_is_that_of_equal_bins():
    batch = drawn(rows=4_000, turned=0.5)
    scores, labels = np.array(batch.score), np.array(batch.label, float)
    places = np.minimum((scores * 15).astype(int), 14)
    error = sum(
        abs(scores[places == place].mean() - labels[places == place].mean()) * (places == place).mean()
        for place in np.unique(places)
    )
    assert figures(summarise(batch))["ece"].value == pytest.approx(error, abs=0.01)


def _clustered(seed, rows=2_000, size=50):
    random = np.random.default_rng(seed)
    rates = np.repeat(random.beta(1, 4, rows // size), size)
    labels = (random.random(rows) >= rates).astype(int)
    noise = np.repeat(random.normal(0, 1, rows // size), size) + random.normal(0, 1, rows)
    session = (np.arange(rows) // size).tolist()
    right = Batch("binary", [1] * rows, score=[0.8] * rows, label=labels.tolist(), session=session)
    return figures(summarise(right)), figures(
        summarise(Batch("regression", noise.tolist(), label=[0.0] * rows, session=session))
    )


def test_intervals_hold_when_rows_of_a_session_resemble_each_other():
    found = [_clustered(seed) for seed in range(120)]
    truth = {"accuracy": 0.8, "recall": 1.0, "brier": 0.8 * 0.04 + 0.2 * 0.64, "calibration_gap": 0.0}
    for name in ("accuracy", "brier", "calibration_gap"):
        held = np.mean([one[name].low <= truth[name] <= one[name].high for one, _ in found])
        assert 0.89 <= held < 1, name
    for name, value in {"rmse": math.sqrt(2), "mae": 2 / math.sqrt(math.pi), "bias": 0.0}.items():
        held = np.mean([two[name].low <= value <= two[name].high for _, two in found])
        assert 0.88 <= held < 1, name


def test_intervals_that_ignored_sessions_would_not_hold():
    rows = [_clustered(seed)[0]["accuracy"] for seed in range(60)]
    alone = [abs(figure.value - 0.8) <= 1.96 * math.sqrt(0.8 * 0.2 / 2_000) for figure in rows]
    assert np.mean(alone) < 0.7


@pytest.mark.parametrize("right", [0, 1])
def test_a_model_that_is_always_right_or_wrong_has_an_interval(right):
    figure = figures(summarise(Batch("binary", [right] * 100, label=[1] * 100)))["accuracy"]
    assert (figure.value, figure.low > 0.9 if right else figure.high < 0.1) == (right, True)
    assert figure.high - figure.low > 0.01


def test_too_few_sessions_say_nothing():
    batch = drawn(rows=500, session=[row // 100 for row in range(500)])
    assert figures(summarise(batch)) == {}
    assert figures(empty("binary")) == {}


def test_a_worse_model_is_seen_in_every_metric_that_tells():
    changes = compare(figures(summarise(drawn(1))), figures(summarise(drawn(2, turned=0.4))))
    sure = {change.metric for change in changes if change.p_value < 1e-3 and change.worse > 0.02}
    assert sure >= {"accuracy", "precision", "recall", "f1", "auc", "brier", "log_loss"}


def test_a_better_model_is_no_finding():
    changes = compare(figures(summarise(drawn(1, turned=0.4))), figures(summarise(drawn(2))))
    assert changes
    assert all(change.worse < 0 and change.p_value > 0.5 for change in changes)


def test_all_metrics_together_keep_one_error_rate():
    reference = [figures(summarise(drawn([1, seed], 1_000))) for seed in range(150)]
    current = [figures(summarise(drawn([2, seed], 500))) for seed in range(150)]
    pairs = zip(reference, current, strict=True)
    alarms = [any(change.p_value <= 0.05 for change in compare(one, two)) for one, two in pairs]
    assert np.mean(alarms) <= 0.08


def _in_segments(seed, bad=None, rows=3_000):
    random = np.random.default_rng(seed)
    country = random.choice([f"c{number}" for number in range(15)], rows)
    wrong = random.random(rows) < np.where(country == bad, 0.4, 0.1)
    return summarise(
        Batch(
            "binary",
            [1] * rows,
            label=(~wrong).tolist(),
            segments={"country": country.tolist(), "rare": ["yes" if row < 60 else "no" for row in range(rows)]},
        )
    )


def test_the_segment_that_is_worse_is_named():
    first, *others = compare_segments(_in_segments(1), _in_segments(2, bad="c3"))
    assert (first.column, first.value, first.change.p_value < 1e-4) == ("country", "c3", True)
    assert first.change.worse == pytest.approx(0.3, abs=0.1)
    assert all(segment.change.p_value > 0.01 for segment in others)
    assert [segment.value for segment in others if segment.column == "rare"] == ["no"]


def test_what_is_left_of_too_many_segments_is_none():
    kept = summarise(
        Batch("binary", [1] * 20_000, label=[1] * 20_000, segments={"user": [row % 100 for row in range(20_000)]})
    )
    assert kept["segments"]["user"][OTHER][0] == 10_000
    assert OTHER not in [segment.value for segment in compare_segments(kept, kept)]


def test_many_segments_do_not_fire_on_nothing():
    alarms = [
        any(s.change.p_value <= 0.05 for s in compare_segments(_in_segments([1, seed]), _in_segments([2, seed])))
        for seed in range(60)
    ]
    assert np.mean(alarms) <= 0.1


# without labels


def test_the_calibration_is_isotonic_regression():
    reference = summarise(drawn(1, 4_000))
    fitted = calibration(reference)
    _, table = score_table(reference)
    expected = isotonic_regression(table[:, 4] / table[:, 2], weights=table[:, 2]).x
    assert fitted.chances == pytest.approx(expected.tolist())
    assert list(fitted.chances) == sorted(fitted.chances)
    assert sum(fitted.rows) == 4_000


def test_the_calibration_is_small():
    fitted = calibration(summarise(drawn(1, 4_000)))
    assert len(json.dumps([fitted.bins, fitted.chances, fitted.steps, fitted.rows])) < 20_000


def _without_labels(seed, scale, rows=3_000):
    """Scores that are right about their chances, of inputs that lie `scale` as far from the boundary."""
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-random.normal(0, 2 * scale, rows)))
    labels = random.random(rows) < scores
    return scores, labels, summarise(Batch("binary", (scores >= 0.5).tolist(), scores.tolist()))


def test_an_estimate_follows_the_inputs_and_its_intervals_hold():
    held, errors, areas = [], [], []
    for seed in range(40):
        scores, labels, window = _without_labels([1, seed], 0.5)
        found = estimate(calibration(summarise(drawn([2, seed], 5_000))), window).metrics
        accuracy, area = ((scores >= 0.5) == labels).mean(), roc_auc_score(labels, scores)
        errors.append(abs(found["accuracy"].value - accuracy))
        held.append(found["accuracy"].low <= accuracy <= found["accuracy"].high)
        areas.append(found["auc"].low <= area <= found["auc"].high)
    assert np.mean(errors) < 0.012  # the drop itself is 0.10
    assert np.mean(held) >= 0.85
    assert np.mean(areas) >= 0.85


def test_an_estimate_of_many_classes_is_the_mean_of_what_sureness_is_worth():
    random = np.random.default_rng(5)
    sure = random.uniform(0.3, 1, 4_000)
    right = random.random(4_000) < sure**2
    reference = Batch("multiclass", ["a"] * 4_000, sure.tolist(), np.where(right, "a", "b").tolist())
    window = summarise(Batch("multiclass", ["a"] * 1_000, np.full(1_000, 0.6).tolist()))
    found = estimate(calibration(summarise(reference)), window)
    assert found.metrics.keys() == {"accuracy"}
    assert found.metrics["accuracy"].value == pytest.approx(0.36, abs=0.06)


def test_an_estimate_carries_its_blind_spot_and_is_blind_there():
    reference = summarise(drawn(1, 5_000))
    window = drawn(2, 3_000, turned=0.6)
    found = estimate(calibration(reference), summarise(window))
    true = np.mean(np.array(window.label) == np.array(window.prediction))
    assert found.metrics["accuracy"].low > true + 0.05
    assert "concept drift" in found.blind_spot == BLIND_SPOT


@pytest.mark.parametrize(
    "reference",
    [
        empty("binary"),
        summarise(drawn(1, 300)),
        summarise(Batch("binary", [1] * 900, label=[1] * 900)),
        summarise(Batch("regression", [1.0] * 900, label=[2.0] * 900)),
    ],
)
def test_without_scored_labels_there_is_no_calibration(reference):
    assert calibration(reference) is None


def test_a_small_window_is_not_estimated():
    assert estimate(calibration(summarise(drawn(1))), summarise(drawn(2, 100))) is None


# streams


def _blocks(seed, rate, rows, spread=0.0, cut=0):
    random = np.random.default_rng(seed)
    rates = np.full(rows, rate)
    if spread:
        drawn_rates = random.beta(rate * (1 / spread - 1), (1 - rate) * (1 / spread - 1), rows // 50 + 2)
        rates = np.repeat(drawn_rates, 50)[cut : cut + rows]
    return [(50, float(total)) for total in (random.random(rows) < rates).reshape(-1, 50).sum(axis=1)]


def _alarms(reference, blocks):
    chart, state, rows = stream.chart(reference), stream.State(), []
    for block in blocks:
        before, state = state.alarms, stream.follow(chart, [block], state)
        rows += [state.alarms[-1].row] if state.alarms != before else []
    return rows


@pytest.mark.parametrize(("spread", "cut"), [(0.0, 0), (0.1, 0), (0.1, 25)])
def test_a_quiet_stream_alarms_at_most_once_in_200_000_rows(spread, cut):
    alarms = sum(
        len(_alarms(_blocks([1, seed], 0.1, 10_000, spread, cut), _blocks([2, seed], 0.1, 50_000, spread, cut)))
        for seed in range(30)
    )
    assert alarms / (30 * 0.5) <= 0.5


def test_half_again_as_many_errors_are_found_within_674_rows():
    delays = []
    for seed in range(41):
        found = _alarms(
            _blocks([1, seed], 0.1, 10_000), _blocks([2, seed], 0.1, 10_000) + _blocks([3, seed], 0.15, 20_000)
        )
        delays.append(next((row - 10_000 for row in found if row > 10_000), math.inf))
    assert np.median(delays) <= 674
    assert max(delays) < math.inf


def test_a_stream_is_continued_where_it_was_kept():
    blocks = _blocks(1, 0.1, 5_000) + _blocks(2, 0.2, 2_000)
    chart = stream.chart(_blocks(3, 0.1, 10_000))
    at_once = stream.follow(chart, blocks)
    halfway = stream.follow(chart, blocks[:77])
    assert stream.follow(chart, blocks[77:], halfway) == at_once
    assert at_once.alarms


def test_an_alarm_says_since_when_and_how_bad_it_is():
    chart = stream.chart(_blocks(3, 0.1, 10_000))
    alarm = stream.follow(chart, _blocks(1, 0.1, 5_000) + _blocks(2, 0.3, 2_000)).alarms[0]
    assert 4_700 <= alarm.since_row <= 5_100 < alarm.row <= 5_300
    assert alarm.mean == pytest.approx(0.3, abs=0.12)


def test_fewer_errors_are_no_alarm():
    assert _alarms(_blocks(1, 0.1, 10_000), _blocks(2, 0.05, 30_000)) == []


def test_a_single_huge_loss_is_no_alarm():
    random = np.random.default_rng(0)
    reference = [(50, float(total)) for total in random.lognormal(0, 1, (200, 50)).sum(axis=1)]
    quiet = [(50, float(total)) for total in random.lognormal(0, 1, (40, 50)).sum(axis=1)]
    assert _alarms(reference, [*quiet[:20], (50, 5_000.0), *quiet[20:]]) == []


@pytest.mark.parametrize("blocks", [[], [(50, 5.0)] * 100, [(50, 0.0)] * 100, [(0, 0.0)] * 100])
def test_a_reference_that_says_nothing_makes_no_chart(blocks):
    assert stream.chart(blocks) is None


def test_a_smaller_reference_needs_more_to_alarm():
    limits = [stream.chart(_blocks(5, 0.1, rows)).limit for rows in (2_000, 100_000)]
    assert limits[0] > 1.2 * limits[1]


# whatever comes

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("1"), st.floats(0, 1)
)


@st.composite
def batches(draw, task):
    size = draw(st.integers(0, 30))
    column = st.lists(values, min_size=size, max_size=size)
    names = ("score", "label", "id", "session", "at", "latency_ms", "failed")
    columns = {name: draw(st.none() | column) for name in names}
    segments = draw(st.dictionaries(st.text(max_size=3), column, max_size=3))
    return Batch(task, draw(column), segments=segments, **columns)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(["binary", "multiclass", "regression"]))
def test_whatever_comes_is_kept_and_read_without_a_crash(data, task):
    one, two = data.draw(batches(task)), data.draw(batches(task))
    kept = merge(summarise(one), summarise(two))
    kept = join(kept, [*(one.id or []), *(two.id or [])], [1] * (len(one.id or []) + len(two.id or [])))
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    found = figures(kept)
    assert all(math.isfinite(figure.value) and figure.low <= figure.high for figure in found.values())
    compare(found, figures(summarise(one)))
    compare_segments(kept, kept, least_rows=1)
    macro_f1(kept)
    assert 0 <= matured_share(kept) <= 1
    fitted = calibration(merge(kept, summarise(drawn()))) if task == "binary" else None
    if fitted:
        estimate(fitted, merge(kept, summarise(drawn(4, 300))))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1e60)), min_size=30, max_size=60),
    st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1e60)), max_size=30),
)
def test_any_stream_is_followed_without_a_crash(reference, blocks):
    chart = stream.chart(reference)
    if chart:
        assert math.isfinite(stream.follow(chart, blocks).score)

"""Training curves, service levels, and what the detector says of a model."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.domain.event import ModelObserved, SamplesReported
from app.domain.evidence import EvidenceBag, ModelWindow, Observed, Samples
from app.domain.finding import Clear, Finding, Severity
from app.domain.signal import Series
from app.domain.tenant import Repository, Sender
from detectors.degradation import Batch, curves, join, slo, summarise
from detectors.degradation.estimate import BLIND_SPOT
from detectors.model_degradation import ModelDegradation, Objectives, sampled_buckets
from tests.docs.pages import DOCS

REPOSITORY, SENDER = Repository(id=1, full_name="acme/trainer", installation_id=1), Sender(login="")
OBSERVED = ModelObserved(repository=REPOSITORY, sender=SENDER, model="churn v2", window="now")
SAMPLED = SamplesReported(repository=REPOSITORY, sender=SENDER, series=())


def predictions(seed, rows=2_000, turned=0.0, scale=2.0, labels=True, bad_country=None, **columns):
    """A calibrated model; `turned` is the share of labels that are random, `scale` how sure it is."""
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-random.normal(0, scale, rows)))
    truth = random.random(rows) < scores
    country = random.choice(["ch", "at", "de", "fr", "it"], rows)
    wrong = random.random(rows) < np.where(country == bad_country, 0.8, turned)
    truth = np.where(wrong, random.random(rows) < 0.5, truth)
    told = {"label": truth.tolist()} if labels else {}
    segments = {"country": country.tolist()}
    return Batch("binary", (scores >= 0.5).tolist(), scores.tolist(), segments=segments, **(told | columns))


REFERENCE = summarise(predictions(0, 5_000))


def said(current=None, *, reference=REFERENCE, settings=None, **window):
    observed = Observed("now", current["rows"] if current else 0, summary=current)
    past = Observed("past", 5_000, summary=reference) if reference else None
    bag = EvidenceBag(ModelWindow("churn v2", observed, past, **window), settings={"model_degradation": settings or {}})
    return list(ModelDegradation().detect(OBSERVED, bag))


def kinds(found):
    return [one.kind for one in found if isinstance(one, Finding)]


# labels


def test_a_healthy_model_is_said_to_be_well_and_nothing_else():
    (clear,) = said(summarise(predictions(1, 4_000)))
    assert isinstance(clear, Clear)
    assert (clear.subject, clear.kinds) == ("churn v2", {"model_degraded", "model_degradation_estimated"})
    assert clear.why.startswith("accuracy 0.7")


def test_healthy_windows_are_hardly_ever_called_degraded():
    alarms = sum(
        bool(kinds(said(summarise(predictions([1, seed], 1_000)), reference=summarise(predictions([2, seed], 3_000)))))
        for seed in range(60)
    )
    assert alarms <= 2


def test_a_degraded_model_is_claimed_with_its_figures():
    (finding,) = said(summarise(predictions(1, turned=0.4)))
    assert (finding.kind, finding.subject, finding.severity) == ("model_degraded", "churn v2", Severity.HIGH)
    assert finding.summary.startswith("churn v2 is worse than its reference: accuracy 0.6")
    assert [(rung.action, rung.then and rung.then.action) for rung in finding.ladder] == [
        ("retrain_model", "promote_model"),
        ("open_issue", None),
    ]
    accuracy = next(metric for metric in finding.facts["metrics"] if metric["metric"] == "accuracy")
    assert accuracy["current_low"] < accuracy["current"] < accuracy["current_high"] < accuracy["reference"]
    assert (accuracy["unit"], accuracy["worse_unit"]) == ("ratio", "points")
    assert accuracy["worse_by"] == pytest.approx(accuracy["reference"] - accuracy["current"], abs=1e-5)
    assert finding.facts["matured_ratio"] == 1
    assert finding.facts["stream"]["mean_loss"] > finding.facts["stream"]["reference_mean_loss"]
    assert json.loads(json.dumps(finding.facts, allow_nan=False)) == finding.facts


def test_models_of_different_versions_are_different_incidents():
    current = Observed("now", 2_000, summary=summarise(predictions(1, turned=0.4)))
    past = Observed("past", 5_000, summary=REFERENCE)
    found = [
        next(iter(ModelDegradation().detect(OBSERVED, EvidenceBag(ModelWindow(name, current, past)))))
        for name in ("churn v2", "churn v3", "churn v2")
    ]
    assert found[0].fingerprint == found[2].fingerprint != found[1].fingerprint


def test_a_worsening_too_small_to_matter_is_not_told_however_sure_it_is():
    reference, current = (summarise(predictions(seed, 60_000, turned)) for seed, turned in ((1, 0.0), (2, 0.03)))
    assert kinds(said(current, reference=reference)) == []
    assert kinds(said(current, reference=reference, settings={"least_change": 0.001, "least_rise": 0.001})) == [
        "model_degraded"
    ]


def test_the_country_that_suffers_is_named_where_the_whole_does_not():
    (finding,) = said(summarise(predictions(1, 3_000, bad_country="fr")), settings={"least_change": 0.1})
    assert finding.kind == "model_degraded"
    first = finding.facts["segments"][0]
    assert (first["column"], first["value"], first["metric"]) == ("country", "fr", "error")
    assert finding.facts["segments"][1:] == []


def test_an_open_window_must_be_surer():
    current = next(
        window
        for window in (summarise(predictions([3, seed], 600, 0.1)) for seed in range(100))
        if kinds(said(window)) == ["model_degraded"] and not said(window, closed=False)
    )
    assert current["rows"] == 600


def test_a_small_window_says_nothing_yet():
    assert said(summarise(predictions(1, 150, turned=0.2))) == []
    assert said(summarise(predictions(1, 300))) == []


def test_without_anything_to_compare_with_nothing_is_said():
    current = summarise(predictions(1))
    assert said(current, reference=None) == []
    assert said(current, reference=summarise(Batch("regression", [1.0] * 300, label=[1.0] * 300))) == []
    assert said(None) == []
    assert list(ModelDegradation().detect(OBSERVED, EvidenceBag())) == []


def test_a_decline_too_slow_for_one_window_is_seen_by_the_stream():
    reference = summarise(predictions(1, 20_000))
    windows: list[Observed] = []
    for number in range(20):
        windows.insert(0, Observed(str(number), 400, summary=summarise(predictions([2, number], 400, 0.25))))
        found = said(
            windows[0].summary,
            reference=reference,
            earlier=tuple(windows[1:]),
            settings={"least_change": 0.5, "least_rise": 5},
        )
        if kinds(found):
            break
    assert 2 <= len(windows) <= 10
    assert "The errors of churn v2 have risen" in found[0].summary
    assert found[0].facts["stream"]["rows_until_seen"] > 400


def test_a_regression_is_judged_by_its_residuals():
    random = np.random.default_rng(0)

    def window(error):
        labels = random.normal(0, 3, 3_000)
        return summarise(Batch("regression", (labels + random.normal(0, error, 3_000)).tolist(), label=labels.tolist()))

    reference = window(1.0)
    assert [type(one) for one in said(window(1.0), reference=reference)] == [Clear]
    (finding,) = said(window(1.5), reference=reference)
    assert finding.summary.startswith("churn v2 is worse than its reference: mae 1.")
    assert {"mae", "rmse", "r2"} <= set(finding.facts["worse"])


# labels that come later, and none


def _waiting(**changes):
    return predictions(1, 3_000, labels=False, id=list(range(3_000)), **changes)


def test_a_verdict_on_a_part_of_the_labels_says_so():
    labelled = predictions(1, 3_000, turned=0.5)
    kept = join(summarise(_waiting(turned=0.5)), list(range(900)), labelled.label[:900])
    (finding,) = said(kept)
    assert (finding.kind, finding.facts["matured_ratio"], finding.confidence) == ("model_degraded", 0.3, 0.6)
    assert finding.severity is Severity.MEDIUM
    assert "only 30% of the labels have come" in finding.summary


def test_a_part_of_the_labels_clears_nothing_but_the_estimate():
    labelled = predictions(1, 3_000)
    kept = join(summarise(_waiting()), list(range(900)), labelled.label[:900])
    (clear,) = said(kept)
    assert clear.kinds == {"model_degradation_estimated"}


def test_without_labels_a_loss_is_estimated_and_its_blind_spot_told():
    (finding,) = said(summarise(_waiting(scale=0.7)))
    assert (finding.kind, finding.confidence, finding.ladder) == ("model_degradation_estimated", 0.5, ())
    assert finding.facts["blind_spot"] == BLIND_SPOT
    assert "blind to concept drift" in finding.summary
    assert {"accuracy", "auc"} >= set(finding.facts["worse"]) > set()


def test_wherever_an_estimate_is_shown_its_blind_spot_is():
    (clear,) = said(summarise(_waiting()))
    assert clear.why.startswith("estimated accuracy")
    assert BLIND_SPOT in clear.why


def test_labels_are_trusted_over_the_estimate():
    scores = [0.55, 0.45] * 1_500  # unsure, and always right
    labelled = Batch("binary", [1, 0] * 1_500, scores, [1, 0] * 1_500)
    unlabelled = Batch("binary", [1, 0] * 1_500, scores)
    settings = {"least_rise": 5}
    assert kinds(said(summarise(unlabelled), settings=settings)) == ["model_degradation_estimated"]
    assert "model_degradation_estimated" not in kinds(said(summarise(labelled), settings=settings))


# training curves


def curve(values):
    return tuple((float(step), float(value)) for step, value in enumerate(values))


STEPS = np.arange(200)
DOWN = 0.3 + 2 * (1 + STEPS / 5) ** -0.6
NOISE = np.random.default_rng(0).normal(0, 0.01, (4, 200))
TRAIN, HELD_OUT = DOWN + NOISE[0], DOWN + 0.1 * (DOWN[0] - DOWN) + NOISE[1]
RISING = HELD_OUT.min() + np.abs(STEPS - 80) / 120 + NOISE[2]


@pytest.mark.parametrize(
    ("told", "kind", "facts"),
    [
        ({"loss": np.where(STEPS < 120, TRAIN, np.nan)}, "training_diverged", {"how": "not_finite", "step": 120.0}),
        ({"loss": TRAIN + np.where(STEPS < 120, 0, 1.1 ** (STEPS - 120))}, "training_diverged", {"how": "exploded"}),
        (
            {"loss": np.where(STEPS < 120, TRAIN, 2.2) + NOISE[3]},
            "training_diverged",
            {"how": "fell_back", "step": 120.0},
        ),
        ({"accuracy": np.where(STEPS < 120, 1 - TRAIN / 3, 0.2)}, "training_diverged", {"metric": "accuracy"}),
        (
            {"train_loss": TRAIN, "val_loss": RISING},
            "training_overfit",
            {"metric": "val_loss", "trained": "train_loss"},
        ),
        ({"loss": TRAIN, "eval/loss": RISING}, "training_overfit", {"metric": "eval/loss", "trained": "loss"}),
        (
            {"train_accuracy": 1 - TRAIN / 3, "valid_accuracy": 1 - RISING / 3},
            "training_overfit",
            {"metric": "valid_accuracy"},
        ),
        ({"loss": 2.3 + NOISE[0] / 10}, "training_plateau", {"learned": False, "step": 0.0}),
        ({"loss": 0.3 + 2 * np.exp(-STEPS / 5) + NOISE[0] / 10}, "training_plateau", {"learned": True}),
    ],
)
def test_a_training_that_went_wrong_is_named(told, kind, facts):
    found = said(curves={name: curve(values) for name, values in told.items()})
    assert kinds(found) == [kind]
    assert facts.items() <= found[0].facts["curves"][0].items()
    assert "churn v2" in found[0].summary
    assert json.loads(json.dumps(found[0].facts, allow_nan=False)) == found[0].facts
    assert not [one for one in found if isinstance(one, Clear) and kind in one.kinds]


def test_healthy_trainings_are_well():
    (clear,) = said(curves={"train_loss": curve(TRAIN), "val_loss": curve(HELD_OUT)})
    assert clear.kinds == {"training_diverged", "training_overfit", "training_plateau"}


def test_noise_does_not_look_like_a_trend():
    for seed in range(150):
        random = np.random.default_rng(seed)
        size = random.choice([0.01, 0.05, 0.15])
        told = {
            "train_loss": curve(DOWN + random.normal(0, size, 200)),
            "val_loss": curve(DOWN + 0.1 * (DOWN[0] - DOWN) + random.normal(0, size, 200)),
        }
        assert kinds(said(curves=told)) == [], seed


def test_a_step_that_was_skipped_is_no_divergence():
    values = TRAIN.copy()
    values[[3, 50, 51]] = np.nan, np.inf, np.nan
    assert kinds(said(curves={"loss": curve(values)})) == []


def test_a_spike_that_is_recovered_from_is_no_divergence():
    values = TRAIN.copy()
    values[100:104] = 9.0
    assert kinds(said(curves={"loss": curve(values)})) == []


def test_validation_that_rises_with_training_is_not_overfitting():
    both = {"train_loss": curve(RISING + NOISE[0]), "val_loss": curve(RISING)}
    assert "training_overfit" not in kinds(said(curves=both))


@pytest.mark.parametrize("name", ["learning_rate", "epoch", "gpu_memory_bytes"])
def test_what_is_no_metric_of_quality_is_not_judged(name):
    assert kinds(said(curves={name: curve(RISING), "x": curve([math.nan] * 50)})) == []


def test_long_curves_are_thinned_out_and_still_read():
    steps = np.arange(50_000)
    values = 0.3 + 2 * (1 + steps / 500) ** -0.6 + np.random.default_rng(0).normal(0, 0.05, 50_000)
    assert kinds(said(curves={"loss": curve(values)})) == []
    worse = {"loss": curve(np.where(steps < 30_000, values, 5.0))}
    assert kinds(said(curves=worse)) == ["training_diverged"]


# service levels

NOW = 1_700_000_400.0


def buckets(*parts, requests=1_000.0):
    """Five-minute buckets from (how many, share of bad requests), oldest first."""
    shares = [share for many, share in parts for _ in range(many)]
    return [(NOW + 300 * place, requests, requests * share) for place, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("parts", "window"),
    [
        (((864, 0.0005),), None),
        (((864, 0.00099),), None),
        (((864, 0.0011),), "3 d"),
        (((792, 0.0001), (72, 0.007)), "6 h"),
        (((852, 0.0001), (12, 0.015)), "1 h"),
        (((852, 0.0001), (6, 0.05), (6, 0.0001)), None),  # it is over
        (((6, 0.5),), "1 h"),
        (((3, 0.5),), None),  # a quarter of an hour is no hour
    ],
)
def test_the_fastest_burning_window_is_told(parts, window):
    found = slo.burning(buckets(*parts), 0.999)
    assert (found.window.name if found else None) == window


def test_one_bad_request_of_a_few_is_chance():
    assert slo.burning(buckets((864, 0.1), requests=0.04), 0.999) is None
    assert slo.burning(buckets((864, 0.1), requests=1.0), 0.999)


def test_burn_rates_are_those_of_the_workbook():
    # 2 % of thirty days' budget in an hour, 5 % in six, 10 % in three days.
    for window in slo.WINDOWS:
        assert window.burn_rate == pytest.approx(window.budget * 30 * 24 * slo.HOUR_S / window.long_s)
        assert window.short_s * 12 == window.long_s


def test_counters_that_begin_anew_lose_nothing():
    requests = [(NOW, 900.0), (NOW + 60, 1_000.0), (NOW + 120, 50.0), (NOW + 300, 60.0)]
    bad = [(NOW, 5.0), (NOW + 60, 7.0), (NOW + 120, 1.0), (NOW + 300, math.nan)]
    found = slo.from_counters(requests, bad)
    assert sum(bucket[1] for bucket in found) == 160
    assert sum(bucket[2] for bucket in found) == 3


def test_slow_requests_are_counted_from_bins_of_latency():
    latencies = np.random.default_rng(0).lognormal(5, 1, 20_000)
    kept = summarise(Batch("binary", [1] * 20_000, at=[NOW] * 20_000, latency_ms=latencies.tolist()))
    ((_, requests, slow),) = slo.slow(kept["service"], 500.0)
    assert requests == 20_000
    assert slow == pytest.approx((latencies > 500).sum(), rel=0.03)


def _served(share, latency=50.0, start=0):
    rows = 8_000
    return summarise(
        Batch(
            "binary",
            [1] * rows,
            at=[NOW + start + 3 * row for row in range(rows)],
            failed=[row % 100 < share for row in range(rows)],
            latency_ms=[latency] * rows,
        )
    )


OBJECTIVES = {"errors": {"target": 0.999}, "latency": {"target": 0.99, "threshold_ms": 300}}


def test_a_service_that_fails_and_is_slow_burns_both_budgets():
    found = said(_served(5, 800.0), reference=None, objectives=OBJECTIVES)
    assert [(one.kind, one.subject, one.severity) for one in found] == [
        ("slo_burning", "churn v2 / errors", Severity.CRITICAL),
        ("slo_burning", "churn v2 / latency", Severity.CRITICAL),
    ]
    assert found[0].facts["long_burn_rate"] == pytest.approx(50, rel=0.05)
    assert found[0].facts["days_until_spent"] == pytest.approx(0.6, rel=0.05)
    assert found[1].facts["threshold_ms"] == 300


def test_a_service_within_its_levels_is_well():
    found = said(_served(0), reference=None, objectives=OBJECTIVES)
    assert [(one.subject, one.kinds) for one in found] == [
        ("churn v2 / errors", {"slo_burning"}),
        ("churn v2 / latency", {"slo_burning"}),
    ]


def test_windows_before_count_into_the_burn_rate():
    served = [_served(1, start=24_000 * number) for number in range(6)]
    earlier = tuple(Observed(str(number), 8_000, summary=served[number]) for number in (4, 3, 2, 1, 0))
    objectives = {"errors": {"target": 0.995}}
    assert kinds(said(served[5], reference=None, objectives=objectives)) == []
    (finding,) = said(served[5], reference=None, objectives=objectives, earlier=earlier)
    assert (finding.severity, finding.facts["requests"]) == (Severity.MEDIUM, 48_000)
    assert finding.facts["long_burn_rate"] == pytest.approx(2, rel=0.05)


def test_objectives_of_the_settings_hold_where_the_model_names_none():
    found = said(_served(5), reference=None, settings={"objectives": {"errors": {"target": 0.999}}})
    assert kinds(found) == ["slo_burning"]
    assert said(_served(5), reference=None) == []
    assert said(_served(5), reference=None, objectives={"errors": {"target": "much"}}) == []


def test_counters_and_samples_of_monitoring_burn_as_well():
    points = [(NOW + 60 * minute, 1_000.0 * minute) for minute in range(120)]
    failed = [(at, value / 20) for at, value in points]
    latency = [(NOW + 60 * minute, 900.0) for minute in range(120)]
    series = tuple(
        Series(name, tuple(told), {"model": "churn v2"})
        for name, told in (
            ("requests_total", points),
            ("requests_failed_total", failed),
            ("request_latency_ms", latency),
            ("gpu_memory_used_bytes", points),
        )
    )
    bag = EvidenceBag(Samples(series), settings={"model_degradation": {"objectives": OBJECTIVES}})
    found = list(ModelDegradation().detect(SAMPLED, bag))
    assert [(one.kind, one.subject) for one in found] == [
        ("slo_burning", "churn v2 / errors"),
        ("slo_burning", "churn v2 / latency"),
    ]
    assert list(ModelDegradation().detect(SAMPLED, EvidenceBag(Samples(series)))) == []


# settings, and whatever comes


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="least_chnage"):
        ModelDegradation.Settings.model_validate({"least_chnage": 0.1})


def test_every_setting_and_kind_is_on_the_page():
    page = (DOCS / "plugins/model_degradation.md").read_text()
    names = [*ModelDegradation.Settings.model_fields, "threshold_ms", "target"]
    claimed = ["model_degraded", "model_degradation_estimated", "slo_burning"]
    claimed += ["training_diverged", "training_overfit", "training_plateau"]
    assert [name for name in [*names, *claimed] if f"`{name}`" not in page] == []
    assert "concept drift" in page


anything = st.floats() | st.just(0.0) | st.just(1e300) | st.floats(0, 2)
any_curve = st.lists(st.tuples(st.floats(0, 1e6), anything), max_size=60).map(tuple)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["loss", "train_loss", "val_loss", "val_acc", "accuracy", "x"]), any_curve))
def test_any_curve_is_read_without_a_crash(told):
    for finding in said(curves=told):
        if isinstance(finding, Finding):
            json.dumps(finding.facts, allow_nan=False)
    with np.errstate(all="raise"):
        curves.diverged({name: [(step, 1.0) for step, _ in values] for name, values in told.items()})


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(), anything), max_size=30),
    st.lists(st.tuples(st.floats(0, 1e10), st.floats()), max_size=30),
)
def test_any_counter_is_read_without_a_crash(requests, bad):
    finite = [point for point in requests if abs(point[0]) < 1e11]
    slo.burning(slo.from_counters(finite, bad), 0.99)
    slo.burning(slo.from_samples(bad, 1.0), 0.99)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=400),
    st.lists(st.floats(0, 1) | st.none(), min_size=1, max_size=400),
    st.sampled_from(["binary", "multiclass"]),
)
def test_any_window_is_judged_without_a_crash(labels, scores, task):
    size = min(len(labels), len(scores))
    batch = Batch(task, [1] * size, scores[:size], labels[:size], segments={"a": labels[:size]})
    own = summarise(batch)
    for reference in (own, REFERENCE):
        for finding in said(own, reference=reference, settings={"least_labels": 50}):
            assert not isinstance(finding, Finding) or json.dumps(finding.facts, allow_nan=False)


def test_counters_of_replicas_are_paired_by_their_labels_and_added_up():
    def counter(name: str, replica: str, value: float) -> Series:
        return Series(name, ((0.0, 0.0), (60.0, value)), {"model": "churn", "replica": replica})

    series = [
        counter("requests_total", "a", 1000.0),
        counter("requests_total", "b", 10.0),
        counter("requests_failed_total", "b", 1.0),
        counter("requests_failed_total", "a", 9.0),
    ]
    assert sampled_buckets(series, Objectives()) == {"errors": [(0.0, 1010.0, 10.0)]}

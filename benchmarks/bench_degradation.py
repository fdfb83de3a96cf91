"""How model_degradation finds what has become worse, and how often it calls a healthy model degraded.

    python -m benchmarks degradation [--only streams,estimates,windows,curves,service] [--seeds 100] [--json]

streams    errors of 10 %, in a stream of 100,000 rows after a reference of 10,000; independent, or in sessions of 50
           with an error rate of their own (beta, intraclass correlation 0.1 and 0.05; at 0.1 ADWIN alarms as often as
           in earlier measurements). Without change, and with one at row 10,000. Beside river's detectors, if installed.
estimates  accuracy without labels: gradient boosting, 10,000 rows of reference, 5,000 of window, 20 trials. Inputs
           that shrink towards the decision boundary, or move along one; other shares of the classes; concept drift.
           Beside isotonic regression on the rows (the method of NannyML's CBPE) and "as on the reference".
windows    verdicts by labels on windows of 1,000 and 5,000 rows with 15 segments, independent and in sessions of 50.
           Beside a z-test of accuracy that takes rows for independent, and "fell by two points".
curves     healthy and sick training curves, made and real (scikit-learn's models on its own data).
service    a service below its budget for thirty days, and one that begins to fail.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from app.domain.event import ModelObserved
from app.domain.evidence import EvidenceBag, ModelWindow, Observed
from app.domain.finding import Finding
from app.domain.tenant import Repository, Sender
from detectors.degradation import Batch, slo, stream, summarise
from detectors.degradation.estimate import calibration, estimate
from detectors.degradation.metrics import figures
from detectors.model_degradation import ModelDegradation

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "degradation.json"
SESSION, REFERENCE, STREAM, CHANGE = 50, 10_000, 100_000, 10_000
Array = NDArray[np.float64]


# streams


def losses(random: np.random.Generator, rows: int, rate: float, kind: str) -> Array:
    """Losses of rows: errors (0 or 1), or a log-normal loss with the mean `rate`."""
    if kind == "lognormal":
        return random.lognormal(math.log(rate) - 0.5, 1.0, rows)
    rates = np.full(rows, rate)
    if kind.startswith("sessions"):
        spread = 1 / float(kind.split()[1]) - 1
        drawn = random.beta(rate * spread, (1 - rate) * spread, rows // SESSION + 2)
        shift = SESSION // 2 if "cut" in kind else 0
        rates = np.repeat(drawn, SESSION)[shift : shift + rows]
    return (random.random(rows) < rates).astype(float)


def blocks(values: Array) -> list[tuple[float, float]]:
    return [(SESSION, float(total)) for total in values.reshape(-1, SESSION).sum(axis=1)]


def own(reference: Array, values: Array) -> list[int]:
    """The rows at which our chart alarms."""
    chart = stream.chart(blocks(reference))
    if chart is None:
        return []
    alarms: list[int] = []
    state = stream.State()
    for block in blocks(values):
        state = stream.follow(chart, [block], stream.State(state.score, state.rows, state.since_rows, state.since_loss))
        alarms += [alarm.row for alarm in state.alarms]
    return alarms


def peers() -> dict[str, Callable[[Array, Array], list[int]]]:
    if not find_spec("river"):
        return {}
    from river import drift

    def follow(make: Callable[[], Any]) -> Callable[[Array, Array], list[int]]:
        def alarms(reference: Array, values: Array) -> list[int]:
            detector = make()
            for value in reference.tolist():
                detector.update(value)
            found = []
            for row, value in enumerate(values.tolist(), start=1):
                detector.update(value)
                if detector.drift_detected:
                    found.append(row)
            return found

        return alarms

    return {
        "ADWIN": follow(drift.ADWIN),
        "ADWIN, delta 1e-5": follow(lambda: drift.ADWIN(delta=1e-5)),
        "PageHinkley": follow(lambda: drift.PageHinkley(mode="up")),
        "DDM": follow(drift.binary.DDM),
    }


def streams(seeds: int) -> dict[str, Any]:
    quiet = ("independent", "sessions 0.1", "sessions 0.05", "sessions 0.1 cut", "lognormal")
    changes = [("independent", 0.12), ("independent", 0.15), ("independent", 0.2)]
    changes += [("sessions 0.1", 0.15), ("sessions 0.05", 0.15)]
    report: dict[str, Any] = {}
    for name, detect in {"own": own, **peers()}.items():
        table: dict[str, Any] = {}
        count = seeds if name == "own" else min(seeds, 30)
        for kind in quiet:
            if name == "DDM" and kind == "lognormal":
                continue
            alarms, early, spent = 0, 0, 0.0
            for seed in range(count):
                random = np.random.default_rng([seed, quiet.index(kind)])
                reference, values = losses(random, REFERENCE, 0.1, kind), losses(random, STREAM, 0.1, kind)
                begin = time.process_time()
                found = detect(reference, values)
                spent += time.process_time() - begin
                alarms += len(found)
                early += any(row <= CHANGE for row in found)
            table[f"quiet, {kind}"] = {
                "alarms_per_100k": round(alarms / count, 3),
                "standard_error": round(math.sqrt(max(alarms, 1)) / count, 3),
                "alarm_before_10k": round(early / count, 3),
                "us_per_row": round(spent / count / (STREAM + REFERENCE) * 1e6, 3),
            }
        for kind, rate in changes:
            delays, early = [], 0
            for seed in range(count):
                random = np.random.default_rng([seed, 99, changes.index((kind, rate))])
                reference = losses(random, REFERENCE, 0.1, kind)
                values = np.concatenate([losses(random, CHANGE, 0.1, kind), losses(random, 40_000, rate, kind)])
                found = detect(reference, values)
                early += any(row <= CHANGE for row in found)
                delays += [row - CHANGE for row in found if row > CHANGE][:1]
            table[f"0.10 to {rate:.2f}, {kind}"] = {
                "found": round(len(delays) / count, 3),
                "median_delay_rows": statistics.median(delays) if delays else None,
                "alarm_before": round(early / count, 3),
            }
        report[name] = {"seeds": count, **table}
    return report


# estimates


def chance(inputs: Array, concept: float = 0.0) -> Array:
    """The true chance of a positive label; `concept` turns the influence of the first input round."""
    first = (1 - 2 * concept) * inputs[:, 0]
    score = first + 0.6 * inputs[:, 1] * inputs[:, 2] + 0.5 * np.sin(2 * inputs[:, 3]) + 0.4 * inputs[:, 4]
    return 1 / (1 + np.exp(-1.6 * score))


def drawn(random: np.random.Generator, rows: int, how: str, size: float) -> tuple[Array, NDArray[np.int64]]:
    inputs = random.normal(size=(rows, 10))
    if how == "shrinking inputs":
        inputs *= 1 - size
    if how == "moving inputs":
        inputs[:, 0] *= 1 - size
        inputs[:, 1:5] += size / 2
    labels = (random.random(rows) < chance(inputs, size if how == "concept drift" else 0.0)).astype(np.int64)
    if how == "label shift":
        keep = random.random(rows) < np.where(labels == 1, 1.0, (1 - size) / size)
        return inputs[keep], labels[keep]
    return inputs, labels


def estimates(trials: int = 20) -> dict[str, Any]:
    cases = [("none", 0.0), ("shrinking inputs", 0.3), ("shrinking inputs", 0.6), ("shrinking inputs", 0.9)]
    cases += [("moving inputs", 0.3), ("moving inputs", 0.6), ("label shift", 0.8)]
    cases += [("concept drift", 0.25), ("concept drift", 0.5)]
    rows: dict[str, list[dict[str, float]]] = {}
    spent = []
    for trial in range(trials):
        random = np.random.default_rng(trial)
        model = HistGradientBoostingClassifier(random_state=trial).fit(*drawn(random, 10_000, "none", 0.0))

        def scored(inputs: Array, model: Any = model) -> tuple[Array, Array]:
            scores = model.predict_proba(inputs)[:, 1]
            return scores, (scores >= 0.5).astype(int)

        inputs, labels = drawn(random, 10_000, "none", 0.0)
        scores, predictions = scored(inputs)
        reference = summarise(Batch("binary", predictions.tolist(), scores.tolist(), labels.tolist()))
        known = figures(reference)
        by_rows = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
        for how, size in cases:
            inputs, labels = drawn(random, 10_000 if how == "label shift" else 5_000, how, size)
            inputs, labels = inputs[:5_000], labels[:5_000]
            scores, predictions = scored(inputs)
            window = summarise(Batch("binary", predictions.tolist(), scores.tolist()))
            begin = time.process_time()
            fitted = calibration(reference)
            guess = estimate(fitted, window) if fitted else None
            spent.append(time.process_time() - begin)
            assert guess is not None
            accuracy, area = float((predictions == labels).mean()), float(roc_auc_score(labels, scores))
            fit = by_rows.predict(scores)
            ours, ours_area = guess.metrics["accuracy"], guess.metrics["auc"]
            rows.setdefault(f"{how} {size:g}", []).append(
                {
                    "true_accuracy": accuracy,
                    "mae_accuracy": abs(ours.value - accuracy),
                    "mae_accuracy_isotonic_on_rows": abs(
                        float(np.where(predictions == 1, fit, 1 - fit).mean()) - accuracy
                    ),
                    "mae_accuracy_as_on_reference": abs(known["accuracy"].value - accuracy),
                    "interval_holds_accuracy": float(ours.low <= accuracy <= ours.high),
                    "true_auc": area,
                    "mae_auc": abs(ours_area.value - area),
                    "mae_auc_as_on_reference": abs(known["auc"].value - area),
                    "interval_holds_auc": float(ours_area.low <= area <= ours_area.high),
                }
            )
    table: dict[str, Any] = {
        case: {name: round(statistics.mean(trial[name] for trial in found), 4) for name in found[0]}
        for case, found in rows.items()
    }
    return {"trials": trials, "cpu_seconds_median": round(statistics.median(spent), 4), **table}


# windows

EVENT = ModelObserved(
    repository=Repository(id=1, installation_id=1, full_name="acme/trainer", default_branch="main"),
    sender=Sender(login=""),
    model="churn",
    window="now",
)


def window(random: np.random.Generator, rows: int, sessions: bool, weaker: float) -> dict[str, Any]:
    """A window of a calibrated model; `weaker` is the share of labels that are drawn anew."""
    groups = np.arange(rows) // SESSION
    common = np.repeat(random.normal(0, 1.0, rows // SESSION + 1), SESSION)[:rows] if sessions else np.zeros(rows)
    margin = random.normal(0, 2.5, rows)
    scores = 1 / (1 + np.exp(-margin))
    # In a session, the model is right more or less often than it says.
    true = 1 / (1 + np.exp(-(margin + np.sign(margin) * (common - 0.25 * sessions))))
    labels = random.random(rows) < true
    labels = np.where(random.random(rows) < weaker, random.random(rows) < 0.5, labels)
    return summarise(
        Batch(
            "binary",
            (scores >= 0.5).astype(int).tolist(),
            scores.tolist(),
            labels.astype(int).tolist(),
            session=groups.tolist() if sessions else None,
            segments={name: random.integers(0, 5, rows).tolist() for name in ("country", "device", "plan")},
        )
    )


def windows(seeds: int) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for sessions in (False, True):
        for rows in (1_000, 5_000):
            for weaker in (0.0, 0.1, 0.2):
                found = {"any": 0, "metrics": 0, "segments": 0, "stream": 0, "z_test": 0, "two_points": 0}
                fell = []
                for seed in range(seeds):
                    random = np.random.default_rng([seed, rows, int(sessions), int(10 * weaker)])
                    before, now = window(random, REFERENCE, sessions, 0.0), window(random, rows, sessions, weaker)
                    evidence = ModelWindow(
                        "churn", Observed("now", rows, summary=now), Observed("past", REFERENCE, summary=before)
                    )
                    for said in ModelDegradation().detect(EVENT, EvidenceBag(evidence)):
                        if isinstance(said, Finding) and said.kind == "model_degraded":
                            found["any"] += 1
                            found["metrics"] += bool(said.facts["worse"])
                            found["segments"] += bool(said.facts["segments"])
                            found["stream"] += "stream" in said.facts
                    past, present = before["sums"][1] / REFERENCE, now["sums"][1] / rows
                    pooled = (before["sums"][1] + now["sums"][1]) / (REFERENCE + rows)
                    error = math.sqrt(pooled * (1 - pooled) * (1 / REFERENCE + 1 / rows))
                    found["z_test"] += (present - past) / error > 2.326
                    found["two_points"] += present - past > 0.02
                    fell.append(present - past)
                name = f"{'sessions of 50' if sessions else 'independent'}, {rows} rows, labels {weaker:.0%} random"
                report[name] = {"accuracy_fell_by": round(statistics.mean(fell), 4)} | {
                    key: round(value / seeds, 3) for key, value in found.items()
                }
    return {"seeds": seeds, **report}


# curves


def noise(random: np.random.Generator, points: int, size: float, memory: float) -> Array:
    values = random.normal(0, size * math.sqrt(1 - memory**2), points)
    for place in range(1, points):
        values[place] += memory * values[place - 1]
    return values


def healthy(random: np.random.Generator) -> tuple[Array, Array, Array, float]:
    """Progress 0…1, a training and a validation curve, and the size of the noise."""
    points = int(random.choice([40, 100, 200, 500, 1000]))
    progress = np.arange(points) / points
    start = float(random.choice([10.8, 2.3, 0.69, 5.0]))
    floor = start * random.uniform(0.1, 0.6)
    shapes = (
        (1 + progress / random.uniform(0.01, 0.1)) ** -random.uniform(0.3, 0.9),
        0.6 * (0.5 * (1 + np.cos(np.pi * progress))) ** 0.7 + 0.4 * (1 + progress / 0.05) ** -0.7,
        0.5 * np.exp(-6 * progress) + 0.25 * (progress < 0.4) + 0.15 * (progress < 0.7) + 0.1 * (1 - progress),
        np.exp(-progress * random.uniform(2, 5)),
    )
    curve = floor + (start - floor) * shapes[int(random.integers(len(shapes)))]
    size = (start - floor) * float(random.choice([0.002, 0.01, 0.03, 0.06]))
    memory = float(random.choice([0, 0.5, 0.9]))
    gap = random.uniform(0, 0.3) * (curve[0] - curve)  # validation gains less, and never stops gaining
    held_out = curve + gap + noise(random, points, size * random.uniform(0.3, 1.5), memory)
    return progress, curve + noise(random, points, size, memory), held_out, size


def as_curve(values: Array) -> list[tuple[float, float]]:
    return [(float(step), float(value)) for step, value in enumerate(values)]


def verdicts(train: Array, held_out: Array | None = None) -> list[str]:
    """What the detector says, without its prefix."""
    told = {"train_loss": as_curve(train)} | ({} if held_out is None else {"val_loss": as_curve(held_out)})
    evidence = ModelWindow("churn", Observed("now", 0), curves={name: tuple(values) for name, values in told.items()})
    found = ModelDegradation().detect(EVENT, EvidenceBag(evidence))
    return [said.kind.removeprefix("training_") for said in found if isinstance(said, Finding)]


def made_curves(count: int) -> dict[str, Any]:
    quiet: dict[str, int] = {"diverged": 0, "overfit": 0, "plateau": 0}
    sick: dict[str, int] = {}
    for seed in range(count):
        random = np.random.default_rng(seed)
        progress, train, held_out, size = healthy(random)
        for verdict in verdicts(train, held_out):
            quiet[verdict] += 1
        start, fallen, since = train[0], train[0] - train.min(), progress - random.uniform(0.2, 0.7)
        burst = np.minimum(50.0, 0.05 * np.exp(np.clip(since / 0.03, 0, 20))) * start
        cases = {
            "not a number": (np.where(since > 0, np.nan, train), None, "diverged"),
            "explodes": (train + np.where(since > 0, burst, 0), None, "diverged"),
            "falls back": (
                np.where(since > 0, 0.95 * start + noise(random, len(train), size, 0), train),
                None,
                "diverged",
            ),
            "never learns": (start + noise(random, len(train), size, 0), None, "plateau"),
            "flat after a tenth": (
                start * (0.3 + 0.7 * np.exp(-40 * progress)) + noise(random, len(train), size, 0),
                None,
                "plateau",
            ),
        }
        for rise in (0.3, 0.6):
            worse = (
                held_out.min()
                + (held_out - held_out.min()) * (progress < 0.4)
                + np.maximum(0, progress - 0.4) / 0.6 * rise * fallen
            )
            cases[f"overfits by {rise:.0%} of what was learned"] = (
                train,
                worse + noise(random, len(train), size, 0),
                "overfit",
            )
        for name, (one, other, verdict) in cases.items():
            sick[name] = sick.get(name, 0) + (verdict in verdicts(one, other))
    return {
        "curves": count,
        "false_alarms": quiet,
        "found": {name: round(hits / count, 3) for name, hits in sick.items()},
    }


def real_curves() -> dict[str, list[str]]:
    """What is said of trainings of scikit-learn's models on its own data, by the way they were made to go."""
    found: dict[str, list[str]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs, labels = load_digits(return_X_y=True)
        for name, settings in {
            "digits, network, healthy": {"learning_rate_init": 0.001},
            "digits, network, rate 3 (diverges)": {"learning_rate_init": 3.0, "solver": "sgd", "momentum": 0.0},
        }.items():
            for seed in range(3):
                model = MLPClassifier((64,), max_iter=60, random_state=seed, tol=0, n_iter_no_change=1000, **settings)
                model.fit(inputs / (16 if "healthy" in name else 1), labels)
                found[f"{name}, seed {seed}"] = verdicts(np.array(model.loss_curve_))
        inputs, labels = load_breast_cancer(return_X_y=True)
        for name, flipped, rate, trees in (
            ("cancer, trees, healthy", 0.0, 0.02, 150),
            ("cancer, trees, a third of labels flipped (overfits)", 0.33, 0.2, 300),
        ):
            for seed in range(3):
                random = np.random.default_rng(seed)
                told = np.where(random.random(len(labels)) < flipped, 1 - labels, labels)
                one, other, one_labels, other_labels = train_test_split(inputs, told, random_state=seed, test_size=0.4)
                model = GradientBoostingClassifier(n_estimators=trees, learning_rate=rate, random_state=seed)
                model.fit(one, one_labels)
                held_out = [log_loss(other_labels, stage) for stage in model.staged_predict_proba(other)]
                found[f"{name}, seed {seed}"] = verdicts(model.train_score_, np.array(held_out))
    return found


# service


def service() -> dict[str, Any]:
    """1,000 requests in five minutes with a target of 99.9 %; failures at half the budget's rate, then at 2 %."""
    target, requests, month = 0.999, 1_000, 30 * 288
    pages = naive = 0
    months = 10
    for seed in range(months):
        failed = np.random.default_rng(seed).binomial(requests, 0.0005, month)
        buckets = [(300.0 * place, float(requests), float(bad)) for place, bad in enumerate(failed)]
        burns = [slo.burning(buckets[max(0, end - 864) : end], target) is not None for end in range(1, month, 12)]
        pages += sum(now and not before for before, now in zip([False, *burns], burns, strict=False))
        naive += int((failed / requests > 1 - target).sum())
    delays = []
    for seed in range(50):
        random = np.random.default_rng([seed, 1])
        failed = np.concatenate([random.binomial(requests, 0.0005, 864), random.binomial(requests, 0.02, 288)])
        buckets = [(300.0 * place, float(requests), float(bad)) for place, bad in enumerate(failed)]
        for end in range(865, len(buckets)):
            if slo.burning(buckets[end - 864 : end], target):
                delays.append(5 * (end - 864))
                break
    return {
        "false_alarms_per_month": pages / months,
        "false_alarms_per_month_of_a_threshold_on_5_minutes": naive / months,
        "minutes_until_2_percent_failing_is_seen": statistics.median(delays),
    }


SECTIONS: Mapping[str, Callable[[int], Any]] = {
    "streams": streams,
    "estimates": lambda _: estimates(),
    "windows": windows,
    "curves": lambda seeds: {"made": made_curves(5 * seeds), "real": real_curves()},
    "service": lambda _: service(),
}


def measured(name: str, seeds: int) -> dict[str, Any]:
    begin = time.process_time()
    found = SECTIONS[name](seeds)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "command": f"python -m benchmarks degradation --only {name} --seeds {seeds} --json",
        "commit": commit,
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "cpu_seconds": round(time.process_time() - begin, 1),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--json", action="store_true", help=f"write each section into {RESULTS.name}/{FILE.name}")
    options = parser.parse_args()
    for name in options.only.split(","):
        report = measured(name, options.seeds)
        print(json.dumps({name: report}, indent=1), flush=True)
        if options.json:
            kept = json.loads(FILE.read_text()) if FILE.exists() else {}
            FILE.write_text(json.dumps({**kept, name: report}, indent=2) + "\n")


if __name__ == "__main__":
    main()

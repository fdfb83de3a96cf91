"""How often the gate promotes a model that is no better, how often one that is, and what its intervals are worth.

    python -m benchmarks gate [--only promotions,power,coverage,segments,time] [--trials 2000] [--json]

promotions  pairs of models without a true difference: how often the metric's own gate passes, and how often the gate
            as a whole opens (accuracy).
power       pairs with a true gain: the rows that the gate asks for, and how often it passes with just these, and with
            a quarter more. The true gain is that on 200,000 rows.
coverage    how often the 95 % interval of a difference holds the true one; beside the percentile interval of the same
            draws and scipy.stats.bootstrap (BCa, with fewer trials).
segments    15 healthy segments: any called worse, by significance alone and by the gate's rule; one that loses twice
            the margin, with just the rows that are asked for.
time        processor seconds of one interval with 2,000 resamples, beside scipy.stats.bootstrap (BCa).
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from actions.gate.bootstrap import Pair, sample
from actions.gate.judge import holm, judge, rows_needed, rows_to_see
from actions.gate.metrics import metric_named
from app.domain.model import GateRules
from tests.actions.trials import case, classes, evaluation, measured, scored

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "gate.json"
Make = Callable[..., tuple[dict[str, Any], dict[str, Any]]]


def pair_of(metric: str, found: tuple[dict[str, Any], dict[str, Any]], grouped: bool = False) -> Pair:
    told = metric_named(metric).told
    columns = [np.asarray(side[told], dtype=float) for side in found]
    group = np.asarray(found[0]["group"]) if grouped else None
    return Pair(np.asarray(found[0]["label"], dtype=float), columns[0], columns[1], group)


def share(hits: int, trials: int) -> dict[str, float]:
    seen = min(max(hits, 1), trials - 1)  # none and all have an error, too
    error = math.sqrt(seen * (trials - seen) / trials) / trials
    return {"share": round(hits / trials, 4), "standard_error": round(error, 4)}


def seeded(section: str, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([*section.encode(), *numbers])


# promotions

QUIET: tuple[tuple[str, Make, int, dict[str, Any]], ...] = (
    ("accuracy", classes, 200, {}),
    ("accuracy", classes, 1_000, {}),
    ("accuracy", classes, 5_000, {}),
    ("accuracy, sessions of 10", classes, 2_000, {"sessions": 10}),
    ("accuracy, sessions of 10 taken for rows", classes, 2_000, {"sessions": 10}),
    ("f1", classes, 1_000, {}),
    ("log_loss", scored, 100, {}),
    ("log_loss", scored, 1_000, {}),
    ("brier", scored, 300, {}),
    ("ece", scored, 1_000, {}),
    ("roc_auc", scored, 100, {}),
    ("roc_auc", scored, 1_000, {}),
    ("average_precision", scored, 300, {}),
    ("mae", measured, 100, {}),
    ("mae, heavy tails", measured, 100, {"heavy": True}),
    ("rmse", measured, 300, {}),
    ("r2", measured, 300, {}),
    ("pinball_0.9", measured, 300, {}),
)


def promotions(trials: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for place, (name, make, rows, more) in enumerate(QUIET):
        metric = metric_named(name.partition(",")[0])
        grouped = name.endswith("sessions of 10")
        passed = held = 0
        for trial in range(trials):
            pair = pair_of(metric.name, make(seeded("promotions", place, trial), rows, **more), grouped)
            low, high = sample(metric, pair, np.random.default_rng(trial)).interval(0.95)
            passed += low > 0
            held += low <= 0 <= high
        table[f"{name}, {rows} rows"] = {
            "promoted": share(passed, trials),
            "interval_holds_0": round(held / trials, 4),
        }
    opened = 0
    for trial in range(trials):
        before, after = classes(seeded("whole", trial), 2_600)
        opened += judge(case(evaluation(before), evaluation(after), trial=trial)).open
    table["the whole gate, accuracy, 2600 rows"] = {"promoted": share(opened, trials)}
    return table


# power

GAINS: tuple[tuple[str, Make, float], ...] = (
    ("accuracy", classes, 0.02),
    ("accuracy", classes, 0.04),
    ("f1", classes, 0.03),
    ("log_loss", scored, 0.3),
    ("roc_auc", scored, 0.3),
    ("average_precision", scored, 0.3),
    ("mae", measured, 0.1),
    ("rmse", measured, 0.1),
)


def power(trials: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for place, (name, make, gain) in enumerate(GAINS):
        metric = metric_named(name)
        large = sample(metric, pair_of(name, make(seeded("truth", place), 200_000, gain)), seeded("t"), 2)
        rules = GateRules(name, effect=large.gain)
        pilot = [
            rows_needed(
                sample(metric, pair_of(name, make(seeded("pilot", place, k), 4_000, gain)), seeded("p", k)), rules
            )
            for k in range(20)
        ]
        asked = round(statistics.median(rows or 0 for rows in pilot))
        found: dict[str, Any] = {"true_gain": round(large.gain, 4), "rows_asked": asked}
        for what, rows in (("just_these", asked), ("a_quarter_more", math.ceil(1.25 * asked))):
            passed = enough = 0
            for trial in range(trials):
                drawn = sample(
                    metric, pair_of(name, make(seeded(what, place, trial), rows, gain)), np.random.default_rng(trial)
                )
                passed += drawn.interval(0.95)[0] > 0
                enough += (rows_needed(drawn, rules) or 0) <= rows
            found[what] = {"metric_passes": share(passed, trials), "rows_are_enough": round(enough / trials, 4)}
        table[f"{name}, gain {gain:g}"] = found
    opened = 0
    for trial in range(trials):
        before, after = classes(seeded("opens", trial), 2_950, gain=0.02)
        opened += judge(case(evaluation(before), evaluation(after), trial=trial)).open
    table["the whole gate, accuracy, gain 0.02, 2950 rows"] = {"opens": share(opened, trials)}
    return table


# coverage


def skewed(random: np.random.Generator, rows: int) -> Pair:
    """Losses that are exponential and log-normal, of a true mean difference of exp(0.5) - 1."""
    return Pair(np.zeros(rows), random.lognormal(0, 1, rows), random.exponential(1, rows))


def coverage(trials: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    metric, truth = metric_named("mae"), math.exp(0.5) - 1
    for rows in (30, 100, 300, 1_000):
        ours = percentile = peer = 0
        few = min(trials, 1_000)
        misses = [0, 0]
        for trial in range(trials):
            pair = skewed(seeded("coverage", rows, trial), rows)
            found = sample(metric, pair, np.random.default_rng(trial))
            low, high = found.interval(0.95)
            ours += low <= truth <= high
            misses[0] += truth < low
            misses[1] += truth > high
            low, high = np.quantile(found.draws, [0.025, 0.975])
            percentile += low <= truth <= high
            if trial < few:
                other = stats.bootstrap(
                    (pair.champion - pair.challenger,), np.mean, n_resamples=2_000, method="BCa", batch=500,
                    rng=np.random.default_rng(trial),
                ).confidence_interval  # fmt: skip
                peer += other.low <= truth <= other.high
        table[f"{rows} rows"] = {
            "ours": round(ours / trials, 4),
            "truth_below": round(misses[0] / trials, 4),
            "truth_above": round(misses[1] / trials, 4),
            "percentile": round(percentile / trials, 4),
            "scipy": round(peer / few, 4),
            "scipy_trials": few,
        }
    return table


# segments


def segments(trials: int) -> dict[str, Any]:
    metric, rules = metric_named("accuracy"), GateRules()
    by_p = by_rule = found_bad = 0
    least = 0
    for trial in range(trials):
        random = seeded("segments", trial)
        pair = pair_of("accuracy", classes(random, 3_000))
        drawn = {}
        for column in range(3):
            value = random.integers(0, 5, 3_000)
            for name in range(5):
                drawn[f"{column} {name}"] = sample(metric, pair.of(value == name), np.random.default_rng([trial, name]))
        worse = holm({name: each.p_worse() for name, each in drawn.items()}, 0.05)
        by_p += bool(worse)
        by_rule += any(-drawn[name].gain > rules.segment_margin for name in worse)
    whole = sample(metric, pair_of("accuracy", classes(seeded("whole"), 100_000)), seeded("w"))
    least = rows_to_see(whole, rules.segment_margin, 0.05 / 15, rules.power)
    for trial in range(trials):
        pair = pair_of("accuracy", classes(seeded("bad", trial), least))
        lost = seeded("lost", trial).random(least)
        worse_by = np.where((lost < 0.1 / 0.87) & (pair.challenger == pair.label), 1 - pair.label, pair.challenger)
        bad = sample(metric, Pair(pair.label, pair.champion, worse_by), np.random.default_rng(trial))
        found_bad += bad.p_worse() <= 0.05 / 15 and -bad.gain > rules.segment_margin
    return {
        "15 healthy segments, any surely worse (Holm)": share(by_p, trials),
        "15 healthy segments, any closes the gate": share(by_rule, trials),
        "rows asked of each": least,
        "one that loses 0.1 closes the gate": share(found_bad, trials),
    }


# time


def seconds(act: Callable[[], object], times: int = 3) -> float:
    taken = []
    for _ in range(times):
        begin = time.process_time()
        act()
        taken.append(time.process_time() - begin)
    return statistics.median(taken)


def timing(_: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    peers: dict[str, Callable[..., Any]] = {
        "accuracy": lambda label, told, axis=-1: (label == told).mean(axis=axis),
        "log_loss": lambda label, told, axis=-1: -np.log(np.where(label == 1, told, 1 - told)).mean(axis=axis),
        "rmse": lambda label, told, axis=-1: np.sqrt(((label - told) ** 2).mean(axis=axis)),
        "roc_auc": lambda label, told: roc_auc_score(label, told),
    }
    makes: dict[str, Make] = {"accuracy": classes, "rmse": measured}
    for name, value in peers.items():
        for rows in (1_000, 10_000):
            pair = pair_of(name, makes.get(name, scored)(seeded("time", rows), rows))
            ours = seconds(lambda name=name, pair=pair: sample(metric_named(name), pair, np.random.default_rng(1)))
            row: dict[str, Any] = {"ours_s": round(ours, 4)}
            vectorized = name != "roc_auc"
            if vectorized or rows <= 1_000:

                def difference(label: Any, one: Any, other: Any, value: Any = value, **how: Any) -> Any:
                    return value(label, other, **how) - value(label, one, **how)

                def peer(pair: Pair = pair, difference: Any = difference, vectorized: bool = vectorized) -> object:
                    return stats.bootstrap(
                        (pair.label, pair.champion, pair.challenger), difference, paired=True, vectorized=vectorized,
                        n_resamples=2_000, method="BCa", batch=200, rng=np.random.default_rng(1),
                    )  # fmt: skip

                taken = seconds(peer, 1)
                row |= {"scipy_s": round(taken, 3), "scipy_over_ours": round(taken / ours, 1)}
            table[f"{name}, {rows} rows"] = row
    return table


SECTIONS: Mapping[str, Callable[[int], Any]] = {
    "promotions": promotions,
    "power": power,
    "coverage": coverage,
    "segments": segments,
    "time": timing,
}


def counted(name: str, trials: int) -> dict[str, Any]:
    begin = time.process_time()
    found = SECTIONS[name](trials)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "command": f"python -m benchmarks gate --only {name} --trials {trials} --json",
        "commit": commit,
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "cpu_seconds": round(time.process_time() - begin, 1),
        "trials": trials,
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas")
    parser.add_argument("--trials", type=int, default=2_000)
    parser.add_argument("--json", action="store_true", help=f"write each section into {RESULTS.name}/{FILE.name}")
    options = parser.parse_args()
    for name in options.only.split(","):
        report = counted(name, options.trials)
        print(json.dumps({name: report}, indent=1), flush=True)
        if options.json:
            kept = json.loads(FILE.read_text()) if FILE.exists() else {}
            FILE.write_text(json.dumps({**kept, name: report}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""A benchmark's report, and whether it is worse than what the same class of machine has shown before. No I/O.

What a benchmark measures varies from sample to sample and, more, from run to run; the second cannot be seen in one run.
So two things have to agree before a metric is called worse:

- the interval of its change: a bootstrap of the ratio of medians, of runs and of the samples in them (Efron and
  Tibshirani 1993, chapter 13), judged over all metrics by Holm (1979);
- the noise floor: how far a new run's median lies from the older ones' without any change, a prediction interval from
  the median absolute deviation of the known runs, with its correction for few runs (Croux and Rousseeuw 1992) and
  Student's t at the freedom that the deviation's efficiency of 37 % leaves (Rousseeuw and Croux 1993). Until eight
  runs are known it is assumed.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.special import stdtrit

from app.domain.errors import Malformed
from app.domain.interval import BENCHMARK
from app.domain.multiplicity import holm

Floats = NDArray[np.float64]

MOST_BYTES = 1024 * 1024
MOST_METRICS, MOST_SAMPLES, LEAST_SAMPLES = 20, 10_000, 5
KEPT_RUNS, KEPT_SAMPLES = 20, 31  # of a baseline; at most 180 KB of JSON
JUDGED_SAMPLES = 200  # of a new run: what has more is told by so many quantiles
KNOWN_RUNS = 8  # from so many on the noise between runs is computed
ASSUMED_FLOOR = 0.10  # until then, or more where three runs already lie further apart
DRAWS, _DRAWS_OF_A_RUN = 2_000, 200
CONFIDENCE = 0.95
_LEAST, _MOST = 1e-12, 1e15
_EFFICIENCY = 0.37
_FEW = {3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
_TIMES = frozenset({"s", "ms", "us", "µs", "μs", "ns", "min", "h"})
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:/ -]{0,59}$"
_PLACE = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


class Metric(BaseModel):
    """`samples` of one run, each above 0: a ratio says nothing of 0."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=_NAME)
    unit: str = Field(default="", max_length=20, pattern=r"^[^\x00-\x1f\x7f`|<>]*$")
    better: Literal["lower", "higher"]
    samples: list[Annotated[float, Field(ge=_LEAST, le=_MOST, allow_inf_nan=False)]] = Field(max_length=MOST_SAMPLES)


class Report(BaseModel):
    """`machine` has a `class`; what else it says is kept by whoever wants it, and not read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    machine: dict[str, Any] = Field(max_length=50)
    metrics: list[Metric] = Field(min_length=1, max_length=MOST_METRICS)

    @property
    def machine_class(self) -> str:
        return str(self.machine["class"])


def read(raw: bytes, least: int = LEAST_SAMPLES) -> Report:
    """Raises Malformed, saying what is wrong."""
    if len(raw) > MOST_BYTES:
        raise Malformed(f"it is larger than {MOST_BYTES} bytes")
    try:
        told = json.loads(raw.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, _Odd) else "it is no JSON in UTF-8"
        raise Malformed(said) from error
    return report_of(told, least)


def report_of(told: object, least: int = LEAST_SAMPLES) -> Report:
    """Raises Malformed, saying what is wrong."""
    try:
        report = Report.model_validate(told)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise Malformed("it is nested too deep") from error
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        shown = place if _PLACE.fullmatch(place) else "a key of it" if place else "the report"
        raise Malformed(f"{shown}: {first['msg']}") from error
    name = report.machine.get("class")
    if not isinstance(name, str) or not re.fullmatch(_NAME, name) or name != name.strip():
        raise Malformed("machine.class: a name of at most 60 letters, digits and _.:/- is asked for")
    names = [metric.name for metric in report.metrics]
    if twice := next((each for each in names if names.count(each) > 1), None):
        raise Malformed(f"the metric {twice} is told twice")
    if short := next((each for each in report.metrics if len(each.samples) < least), None):
        raise Malformed(f"{short.name} has {len(short.samples)} samples, and {least} are asked for")
    return report


class _Odd(ValueError):
    """JSON that is read in more than one way."""


def _no_number(word: str) -> float:
    raise _Odd(f"{word} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Odd("it has a key twice")
    return found


# --- the baseline --------------------------------------------------------------------------------------------------


def remembered(report: Report, key: str, at: str) -> dict[str, Any]:
    """What a baseline keeps of one run."""
    return {
        "key": key,
        "at": at,
        "metrics": {
            each.name: {
                "unit": each.unit,
                "better": each.better,
                "samples": [float(f"{value:.6g}") for value in quantiles(each.samples, KEPT_SAMPLES)],
            }
            for each in report.metrics
        },
    }


def before(baseline: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The newest runs of a baseline that came before this one, which may stand in it already."""
    runs = list(baseline.get("runs", ()))
    place = next((n for n, run in enumerate(runs) if run["key"] == key), len(runs))
    return runs[max(0, place - KEPT_RUNS) : place]


def with_run(baseline: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline with this run in it, once. One more is kept than is compared with: see `before`."""
    runs = [each for each in baseline.get("runs", ()) if each["key"] != run["key"]]
    return {"runs": [*runs, run][-KEPT_RUNS - 1 :]}


def quantiles(samples: Sequence[float], most: int) -> Floats:
    """The samples, or so many evenly spaced quantiles of them: what is computed from these is less certain."""
    if len(samples) <= most:
        return np.sort(np.asarray(samples, dtype=float))
    return np.asarray(np.quantile(samples, (np.arange(most) + 0.5) / most))


# --- the comparison ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """Of one metric. `worse`, `low` and `high` are relative and positive where it is worse; so is `floor`.

    `median` is the new run's, `usual` that of the known runs, `runs` how many they are.
    """

    metric: Metric
    median: float
    usual: float
    worse: float
    low: float
    high: float
    floor: float
    bar: float
    runs: int
    p: float
    regressed: bool = False

    @property
    def words(self) -> str:
        """`latency_ms got 31 % slower (95 % interval 24…38 %), noise floor 3 %`."""
        way = "slower" if self.metric.better == "lower" and self.metric.unit in _TIMES else "worse"
        way = way if self.worse >= 0 else {"slower": "faster", "worse": "better"}[way]
        sign = 1 if self.worse >= 0 else -1
        ends = sorted((sign * self.low, sign * self.high))
        assumed = " (assumed)" if self.runs < KNOWN_RUNS else ""
        return (
            f"{self.metric.name} got {percent(abs(self.worse))} % {way} "
            f"(95 % interval {percent(ends[0])}…{percent(ends[1])} %), noise floor {percent(self.floor)} %{assumed}"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """`changes`: the worst first. `fresh` are metrics that nothing is known of, `gone` those that are told no more,
    `other` those whose unit or direction is another one now."""

    changes: tuple[Change, ...]
    fresh: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def regressed(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.regressed)


def compare(report: Report, runs: Sequence[Mapping[str, Any]], tolerance: float, seed: str) -> Comparison:
    """The same arguments, the same answer."""
    found, fresh, other = [], [], []
    newest = runs[-1]["metrics"] if runs else {}
    for metric in report.metrics:
        known = [run["metrics"][metric.name] for run in runs if metric.name in run["metrics"]]
        alike = [each for each in known if (each["unit"], each["better"]) == (metric.unit, metric.better)]
        if not known:
            fresh.append(metric.name)
        elif len(alike) < len(known):
            other.append(metric.name)
        else:
            found.append((metric, [np.asarray(each["samples"]) for each in alike]))
    changes = [_change(metric, known, tolerance, seed, len(found)) for metric, known in found]
    gone = tuple(sorted(set(newest) - {metric.name for metric in report.metrics}))
    judged = sorted(_holm(sorted(changes, key=lambda each: each.p)), key=lambda each: (not each.regressed, -each.worse))
    return Comparison(tuple(judged), tuple(fresh), gone, tuple(other))


def _change(metric: Metric, known: Sequence[Floats], tolerance: float, seed: str, metrics: int) -> Change:
    digest = hashlib.sha256(f"{seed}:{metric.name}".encode()).digest()
    chance = np.random.default_rng(int.from_bytes(digest[:16], "big"))
    now = quantiles(metric.samples, JUDGED_SAMPLES)
    medians = np.array([np.median(each) for each in known])
    usual, median = float(np.median(medians)), float(np.median(metric.samples))
    floor = noise_floor(medians, metrics, metric.better)
    bar = max(tolerance, floor)
    draws = _worse(_medians(now, DRAWS, chance), _usual(known, chance), metric.better)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    p = (np.count_nonzero(draws <= bar) + 1) / (DRAWS + 1)
    return Change(
        metric=metric,
        median=median,
        usual=usual,
        worse=float(_worse(np.array([median]), np.array([usual]), metric.better)[0]),
        low=float(low),
        high=float(high),
        floor=floor,
        bar=bar,
        runs=len(known),
        p=float(p),
    )


def _worse(now: Floats, usual: Floats, better: str) -> Floats:
    """Relative: 0.31 for a latency that rose by 31 %, and for a throughput that fell by 31 %."""
    ratio = now / usual
    return ratio - 1 if better == "lower" else 1 - ratio


def _medians(samples: Floats, draws: int, chance: np.random.Generator) -> Floats:
    places = chance.integers(0, len(samples), size=(draws, len(samples)))
    return np.asarray(np.median(samples[places], axis=1))


def _usual(known: Sequence[Floats], chance: np.random.Generator) -> Floats:
    """Draws (B) of the median of the runs' medians: runs are drawn, and within each its samples."""
    table = np.stack([_medians(each, _DRAWS_OF_A_RUN, chance) for each in known])  # (runs, draws of a run)
    runs = chance.integers(0, len(known), size=(DRAWS, len(known)))
    which = chance.integers(0, _DRAWS_OF_A_RUN, size=(DRAWS, len(known)))
    return np.asarray(np.median(table[runs, which], axis=1))


def noise_floor(medians: Floats, metrics: int, better: str) -> float:
    """How much worse a new run's median may be without any change (relative), over so many metrics at once."""
    runs = len(medians)
    if runs < min(_FEW):
        return ASSUMED_FLOOR
    logs = np.log(medians)
    deviation = float(np.median(np.abs(logs - np.median(logs))))
    spread = 1.4826 * _FEW.get(runs, runs / (runs - 0.8)) * deviation
    if runs < KNOWN_RUNS:
        return max(ASSUMED_FLOOR, 2 * spread * math.sqrt(1 + 1 / runs))
    freedom = _EFFICIENCY * (runs - 1)
    reach = float(stdtrit(freedom, 1 - (1 - CONFIDENCE) / max(metrics, 1))) * spread * math.sqrt(1 + 1 / runs)
    return float(np.expm1(min(reach, 20.0)) if better == "lower" else -np.expm1(-reach))


def _holm(changes: Sequence[Change]) -> list[Change]:
    """At half of what the interval leaves out: it is its lower end that must lie above the bar."""
    standing = holm({place: each.p for place, each in enumerate(changes)}, (1 - CONFIDENCE) / 2)
    return [replace(each, regressed=place in standing) for place, each in enumerate(changes)]


def percent(share: float) -> str:
    """With one decimal below 10, whole above."""
    value = 100 * share
    told = f"{value:.1f}".removesuffix(".0") if abs(value) < 9.95 else f"{value:.0f}"
    return "0" if told == "-0" else told.replace("-", "−")


def drawing(comparison: Comparison, title: str, samples: int) -> dict[str, Any]:
    """The report for a check run and a page: gains, so that right is better, as it is with a gate."""
    return {
        "kind": BENCHMARK,
        "title": title,
        "open": not comparison.regressed,
        "confidence": CONFIDENCE,
        "rows": samples,
        "runs": max((each.runs for each in comparison.changes), default=0),
        "gates": [
            {"name": each.metric.name, "passed": not each.regressed, "says": f"{each.words}.", "missing": ""}
            for each in comparison.changes
        ],
        "intervals": [
            {
                "label": each.metric.name,
                "value": -each.worse,
                "low": -each.high,
                "high": -each.low,
                "bound": -each.bar,
                "passed": not each.regressed,
                "rows": len(each.metric.samples),
            }
            for each in comparison.changes
        ],
    }

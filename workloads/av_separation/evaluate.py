"""Evaluation: what a model gains on held-out mixtures, and what of it the lips are worth.

Each mixture is separated under several conditions. With `true` lips; with `wrong` ones, each speaker's given to the
next; with `no` lips, by sound alone, in the order that fits best; and the same true and wrong lips on mixtures of one
voice with itself, where lips are the only cue. The gap between true and wrong lips is what
following them is worth.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from workloads import seed
from workloads.av_separation import data, metrics, model
from workloads.av_separation.config import Evaluate
from workloads.av_separation.data import Example, Source
from workloads.av_separation.device import settle
from workloads.av_separation.drift import Observations
from workloads.av_separation.model import Separator
from workloads.contract import Measured, Metric, Report, Run, Unavailable

EXAMPLES = "evaluation.jsonl"
SUMMARY = "evaluation.json"
Open = Callable[..., Source]
Row = dict[str, Any]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Condition:
    """Under which a mixture is separated. `suffix` ends the names of its metrics."""

    name: str
    suffix: str
    lips: str  # true, wrong, or none
    same_voice: bool = False


CONDITIONS = (
    Condition("true_lips", "", "true"),
    Condition("wrong_lips", "_wrong_lips", "wrong"),
    Condition("no_lips", "_no_lips", "none"),
    Condition("same_voice", "_same_voice", "true", same_voice=True),
    Condition("same_voice_wrong_lips", "_same_voice_wrong_lips", "wrong", same_voice=True),
)
AS_IT_IS = Condition("mixture", "_mixture", "")
"""Nothing is separated: what PESQ and STOI begin with."""
UNITS: Mapping[str, str] = {"si_snri_db": "dB", "sdri_db": "dB", "pesq_mos": "MOS", "stoi": ""}


def run_evaluate(config: Evaluate, run: Run, *, open_source: Open = data.open_source) -> Report:
    """Separate `mixtures` held-out mixtures under each condition; one line of evaluation.jsonl for each voice."""
    device = settle(config.device, config.threads)
    separator, known = _model(config)
    separator.to(device).eval()
    run.event("data", spec=config.data, split=config.split, sha256=data.fingerprint_of(config.data))
    sources = {same: _source(config, open_source, same) for same in {each.same_voice for each in _conditions(config)}}
    observed = Observations("current")
    rows: list[Row] = []
    draft = run.out / f"{EXAMPLES}.draft"
    with draft.open("w", encoding="utf-8") as file, torch.inference_mode():
        for index in range(config.mixtures):
            run.check()
            found = list(_rows(config, separator, sources, index, observed))
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in found)
            rows += found
            run.progress(index + 1, config.mixtures, "mixtures")
    os.replace(draft, run.out / EXAMPLES)
    table = summary(rows)
    named = measured(table)
    for name, metric in named.items():
        if isinstance(metric, Measured):
            run.metric(name, metric.value, config.mixtures, metric.unit)
    (run.out / SUMMARY).write_text(json.dumps({"settings": _settings(config), "conditions": table}, indent=1) + "\n")
    path, drift = observed.write(run.out)
    artefacts = {"examples": EXAMPLES, "summary": SUMMARY, "observations": path}
    notes = (known, f"{config.mixtures} mixtures of the {config.split} part of {config.data}")
    return Report(metrics=named, artefacts=artefacts, drift=drift, notes=notes)


def lips_of(example: Example, lips: str) -> tuple[Floats, Floats]:
    """Mouths and seen of the example: as they are (true), each of the next speaker (wrong), or not there (none)."""
    match lips:
        case "true":
            return example.mouths, example.seen
        case "wrong":
            return np.roll(example.mouths, 1, axis=0), np.roll(example.seen, 1, axis=0)
        case _:
            return np.zeros_like(example.mouths), np.zeros_like(example.seen)


def summary(rows: list[Row]) -> dict[str, Any]:
    """By condition and measure: mean, its 95 % interval, and of how many voices. An interval draws whole mixtures: the
    voices of one are no independent samples."""
    table: dict[str, Any] = {}
    for name in dict.fromkeys(row["condition"] for row in rows):
        told = table[name] = {}
        for measure in UNITS:
            of = [row for row in rows if row["condition"] == name and measure in row]
            if of:
                told[measure] = _mean(of, measure)
    for gap, one, other in (
        ("lips_gap", "true_lips", "wrong_lips"),
        ("lips_gap_same_voice", "same_voice", "same_voice_wrong_lips"),
    ):
        if one in table and other in table:
            table[gap] = {"si_snri_db": _gap(rows, one, other)}
    return table


def measured(table: Mapping[str, Any]) -> dict[str, Metric]:
    """The report's metrics: `si_snri_db`, `si_snri_db_wrong_lips`, …, `lips_gap_db`, each with `_low` and `_high`."""
    suffixes = {each.name: each.suffix for each in (*CONDITIONS, AS_IT_IS)}
    found: dict[str, Metric] = {}
    for condition, measures in table.items():
        for measure, told in measures.items():
            name = f"{measure}{suffixes[condition]}" if condition in suffixes else f"{condition}_db"
            if "mean" not in told:
                found[name] = Unavailable(told["unavailable"])
                continue
            for at, key in ((name, "mean"), (f"{name}_low", "low"), (f"{name}_high", "high")):
                found[at] = Measured(told[key], UNITS[measure])
    return found


def _rows(
    config: Evaluate, separator: Separator, sources: Mapping[bool, Source], index: int, observed: Observations
) -> Iterator[Row]:
    examples = {same: source.example(index) for same, source in sources.items()}
    for condition in _conditions(config):
        example = examples[condition.same_voice]
        mouths, seen = lips_of(example, condition.lips)
        estimates = _separated(separator, example.mixture, mouths, seen)
        if condition.name == "true_lips":
            observed.add(example.mixture[None], seen[None], example.clean[None])
            if config.perceptual:
                yield from (_row(config, AS_IT_IS, example, index, at, example.mixture) for at in range(len(seen)))
        order = metrics.best_order(estimates, example.clean) if condition.lips == "none" else range(len(estimates))
        yield from (_row(config, condition, example, index, voice, estimates[at]) for voice, at in enumerate(order))


def _row(config: Evaluate, condition: Condition, example: Example, index: int, voice: int, estimate: Floats) -> Row:
    told = _measures(config, condition, estimate, example.clean[voice], example.mixture)
    return {
        "mixture": index,
        "voice": voice,
        "condition": condition.name,
        "snr_db": _number(example.snr_db),
        **{name: each.value if isinstance(each, Measured) else each.as_json() for name, each in told.items()},
    }


def _measures(
    config: Evaluate, condition: Condition, estimate: Floats, clean: Floats, mixture: Floats
) -> dict[str, Metric]:
    """SI-SNRi under every condition; the others, which take long, where lips are true or missing."""

    def gain(of: metrics.Measure) -> Metric:
        return metrics.measure(lambda *sounds: metrics.improvement(of, *sounds), "dB", estimate, clean, mixture)

    found: dict[str, Metric] = {}
    if condition is not AS_IT_IS:
        found["si_snri_db"] = gain(metrics.si_snr)
    if condition.lips == "wrong":
        return found
    if condition is not AS_IT_IS:
        found["sdri_db"] = gain(metrics.sdr)
    if config.perceptual:
        found["pesq_mos"] = metrics.measure(metrics.pesq, "MOS", estimate, clean)
        found["stoi"] = metrics.measure(metrics.stoi, "", estimate, clean)
    return found


def _separated(separator: Separator, mixture: Floats, mouths: Floats, seen: Floats) -> NDArray[np.float32]:
    """(samples), (speakers, frames, 48, 48), (speakers, frames) -> (speakers, samples)"""
    device = next(separator.parameters()).device
    given = (torch.from_numpy(np.ascontiguousarray(part))[None].to(device) for part in (mixture, mouths, seen))
    estimates: NDArray[np.float32] = separator(*given)[0].float().cpu().numpy()
    return estimates


def _mean(rows: list[Row], measure: str) -> dict[str, Any]:
    groups: dict[int, list[float]] = {}
    for row in rows:
        if isinstance(row[measure], int | float):
            groups.setdefault(row["mixture"], []).append(row[measure])
    if not groups:
        return {"unavailable": next(iter(rows))[measure]["unavailable"]}
    return _told([float(np.mean(values)) for values in groups.values()], sum(map(len, groups.values())))


def _gap(rows: list[Row], one: str, other: str) -> dict[str, Any]:
    """Of each voice under the one condition less the same under the other."""
    values = {(row["condition"], row["mixture"], row["voice"]): row.get("si_snri_db") for row in rows}
    groups: dict[int, list[float]] = {}
    for (condition, mixture, voice), value in values.items():
        beside = values.get((other, mixture, voice))
        if condition == one and isinstance(value, int | float) and isinstance(beside, int | float):
            groups.setdefault(mixture, []).append(value - beside)
    if not groups:
        return {"unavailable": "no voice was measured under both conditions"}
    return _told([float(np.mean(each)) for each in groups.values()], sum(map(len, groups.values())))


def _told(values: list[float], voices: int) -> dict[str, Any]:
    low, high = metrics.interval(values)
    mean = float(np.mean(values))
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4), "voices": voices}


def _conditions(config: Evaluate) -> tuple[Condition, ...]:
    """Of one voice alone nobody's lips are wrong, and a film of one voice with itself is none."""
    return (
        CONDITIONS
        if config.speakers > 1
        else tuple(each for each in CONDITIONS if each.name in ("true_lips", "no_lips"))
    )


def _source(config: Evaluate, open_source: Open, same_voice: bool) -> Source:
    return open_source(
        config.data,
        split=config.split,
        seconds=config.seconds,
        speakers=config.speakers,
        seed=config.seed,
        snr_db=(config.snr_low, config.snr_high),
        noise=config.noise,
        reverb=config.reverb,
        same_voice=1.0 if same_voice else 0.0,
        vary=False,
    )


def _model(config: Evaluate) -> tuple[Separator, str]:
    if config.checkpoint:
        return model.load(Path(config.checkpoint)), f"weights of {config.checkpoint}"
    seed.everything(config.seed)
    return model.build(config.preset), "these are untrained weights: the figures say nothing of the method"


def _number(value: float) -> float | None:
    """JSON has no infinity; one voice alone has no level over another."""
    return round(float(value), 3) if math.isfinite(value) else None


def _settings(config: Evaluate) -> dict[str, Any]:
    return {name: getattr(config, name) for name in Evaluate.__dataclass_fields__}

"""How often a healthy series is said to fill up, how often a full disk is foreseen, and whether the interval holds.

    python -m benchmarks trends [--trials 1000] [--seed 7] [--results FILE]

Everything is simulated, from a seed. Samples every five minutes (every minute in short windows), in percent of 100.
"Speaks" is what `resource_constraint` does with its defaults: the late end of the interval lies within 24 h and no
farther ahead than was looked back. Beside it the usual rule of monitoring: the line of the last six hours, drawn on for
24 h, crosses the limit while more than 60 % is in use (`predict_linear`, as in NodeFilesystemSpaceFillingUp).

Fleets: 60 looks' worth of runs with waits that are lognormal, longer by day, and bursts; steps that fail at the same
rate on every runner, with commits that are broken everywhere.
"""

import argparse
import json
import math
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.event import Ticked
from app.domain.evidence import EvidenceBag, Job, JobStep
from app.domain.finding import Finding
from app.domain.fleet import Fleet, Ran
from app.domain.tenant import Repository, Sender
from detectors.infrastructure_health import InfrastructureHealth
from detectors.trends import clean, outlook, sustained

RESULTS = Path(__file__).parent / "results" / "trends.json"
HORIZON_S = 24 * 3600.0
LIMIT, STEP_S, DAY = 100.0, 300.0, 288
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

Array = NDArray[np.float64]
Random = np.random.Generator


def memory(random: Random, n: int, rho: float, sd: float) -> Array:
    """Autoregressive noise that starts in its own distribution."""
    fresh = random.normal(0, sd * math.sqrt(1 - rho * rho), n)
    values = np.empty(n)
    values[0] = random.normal(0, sd)
    for index in range(1, n):
        values[index] = rho * values[index - 1] + fresh[index]
    return values


def sawtooth(random: Random, n: int, low: int = 20, high: int = 120) -> Array:
    period = random.integers(low, high)
    bottom, top = random.uniform(20, 40), random.uniform(60, 85)
    part = (np.arange(n) + random.integers(0, period)) % period / period
    return bottom + (top - bottom) * part + random.normal(0, 1, n)


def days(random: Random, n: int) -> Array:
    swing = random.uniform(5, 20)
    turn = 2 * math.pi * (np.arange(n) / DAY + random.uniform())
    return 60 + swing * np.sin(turn) + memory(random, n, 0.7, 2)


def steps(random: Random, n: int) -> Array:
    values = 50 + random.normal(0, 1, n)
    for _ in range(3):
        values[random.integers(0, n) :] += random.uniform(-10, 15)
    return np.minimum(values, 84.0)


def plateau(random: Random, n: int) -> Array:
    """A model is loaded, memory fills and stays."""
    top, pace = random.uniform(60, 85), random.uniform(5, n / 4)
    return top * (1 - np.exp(-np.arange(n) / pace)) + random.normal(0, 0.5, n)


HEALTHY: dict[str, tuple[Callable[[Random, int], Array], int, float]] = {
    "flat, independent noise, 1 day": (lambda r, n: 50 + r.normal(0, 3, n), DAY, STEP_S),
    "flat, AR(1) 0.9, 1 day": (lambda r, n: 50 + memory(r, n, 0.9, 3), DAY, STEP_S),
    "flat, AR(1) 0.99, 1 day": (lambda r, n: 50 + memory(r, n, 0.99, 8), DAY, STEP_S),
    "flat, AR(1) 0.9, 30 samples": (lambda r, n: 50 + memory(r, n, 0.9, 3), 30, 60.0),
    "sawtooth, 1 day": (sawtooth, DAY, STEP_S),
    "course of a day, 3 days": (days, 3 * DAY, STEP_S),
    "course of a day, 1 day": (days, DAY, STEP_S),
    "steps up and down": (steps, DAY, STEP_S),
    "fills and stays (a model is loaded)": (plateau, DAY, STEP_S),
    "sawtooth, 40 samples, often less than a tooth": (sawtooth, 40, 60.0),
    "course of a day, 8 hours of it": (days, 96, STEP_S),
}


def line(random: Random, noise: Callable[[int], Array], n: int, begin: int = 0) -> tuple[Array, int]:
    """A climb from 40 that reaches the limit 0.1 to 0.9 windows ahead, and three windows of it; the index where the
    line itself is full."""
    ahead = random.uniform(0.1, 0.9)
    slope = 60 / ((n - begin) * (1 + ahead))
    path = 40 + slope * np.maximum(np.arange(3 * n) - begin, 0)
    return path + noise(3 * n), int(np.argmax(path >= LIMIT))


def walk(random: Random, n: int) -> tuple[Array, int]:
    """What is written each time varies by four times its mean; there is no line, only the moment when it is full."""
    slope = 60 / (n * (1 + random.uniform(0.1, 0.9)))
    path = 40 + np.cumsum(random.normal(slope, 4 * slope, 3 * n))
    return path, int(np.argmax(path >= LIMIT)) if (path >= LIMIT).any() else 3 * n


FILLING: dict[str, tuple[Callable[[Random, int], tuple[Array, int]], int, float]] = {
    "line, sd 0.2, 1 day": (lambda r, n: line(r, lambda m: r.normal(0, 0.2, m), n), DAY, STEP_S),
    "line, sd 2, 1 day": (lambda r, n: line(r, lambda m: r.normal(0, 2, m), n), DAY, STEP_S),
    "line, AR(1) 0.9 sd 3, 1 day": (lambda r, n: line(r, lambda m: memory(r, m, 0.9, 3), n), DAY, STEP_S),
    "line, sd 2, 1 hour": (lambda r, n: line(r, lambda m: r.normal(0, 2, m), n), 60, 60.0),
    "line, AR(1) 0.9 sd 3, 1 hour": (lambda r, n: line(r, lambda m: memory(r, m, 0.9, 3), n), 60, 60.0),
    "it began lately, AR(1) 0.7 sd 1, 1 day": (
        lambda r, n: line(r, lambda m: memory(r, m, 0.7, 1), n, int(r.integers(n // 2, 3 * n // 4))),
        DAY,
        STEP_S,
    ),
    "random walk, 1 day": (walk, DAY, STEP_S),
    "random walk, 1 hour": (walk, 60, 60.0),
}


def predict_linear(points: list[tuple[float, float]]) -> bool:
    recent = [point for point in points if point[0] >= points[-1][0] - 6 * 3600]
    at, value = np.array(recent).T
    slope, level = np.polyfit(at - at[-1], value, 1)
    return bool(value[-1] > 60 and level + slope * HORIZON_S > LIMIT)


def healthy(random: Random, trials: int) -> Iterator[dict[str, Any]]:
    for name, (make, n, step_s) in HEALTHY.items():
        spoke = rule = high = 0
        for _ in range(trials):
            points = clean(zip(np.arange(n) * step_s, make(random, n), strict=True))
            seen = outlook(points, LIMIT)
            spoke += seen is not None and seen.fills_within(HORIZON_S)
            rule += predict_linear(points)
            high += bool(sustained(points, 85.0))
        yield {"series": name, "speaks": spoke / trials, "predict_linear": rule / trials, "above 85 %": high / trials}


def filling(random: Random, trials: int) -> Iterator[dict[str, Any]]:
    for name, (make, n, step_s) in FILLING.items():
        tried = spoke = first = by_line = rule = 0
        widths = []
        while tried < trials:
            values, full = make(random, n)
            if values[:n].max() >= LIMIT:
                continue
            tried += 1
            points = clean(zip(np.arange(n) * step_s, values[:n], strict=True))
            rule += predict_linear(points)
            seen = outlook(points, LIMIT)
            if seen is None or not seen.fills_within(HORIZON_S):
                continue
            spoke += 1
            hit = int(np.argmax(values >= LIMIT)) if (values >= LIMIT).any() else 3 * n
            first += seen.earliest_s <= (hit - n + 1) * step_s <= seen.latest_s
            by_line += seen.earliest_s <= (full - n + 1) * step_s <= seen.latest_s
            widths.append((seen.latest_s - seen.earliest_s) / max(seen.eta_s, step_s))
        yield {
            "series": name,
            "foreseen": spoke / trials,
            "predict_linear": rule / trials,
            "holds the line's moment": by_line / max(spoke, 1),
            "holds the first full sample": first / max(spoke, 1),
            "width / time left": float(np.median(widths)) if widths else math.nan,
        }


def _job(run: int, asked: datetime, wait_s: float, **more: Any) -> Ran:
    started = asked + timedelta(seconds=wait_s)
    told = {"name": "train", "conclusion": "success", "attempt": 1, "head_sha": str(run)} | more
    return Ran(Job(id=run, run_id=run, created_at=asked, started_at=started, completed_at=started, **told), "CI")


def queues(random: Random, slow: bool) -> Fleet:
    """100 runs over four days on three kinds of runner; slow: the last two hours wait ten times as long."""
    jobs = []
    for run in range(100):
        hours = random.uniform(0, 96) if run > 5 else random.uniform(0, 1.9)
        asked = NOW - timedelta(hours=hours)
        busy = 1 + math.sin(2 * math.pi * asked.hour / 24) + (random.uniform() < 0.1) * 5
        wait_s = float(np.exp(random.normal(3.4, 0.8))) * busy
        labels = (str(random.choice(["ubuntu-latest", "gpu", "large"])),) if run > 5 else ("gpu",)
        jobs.append(_job(run, asked, wait_s * (10 if slow and hours < 2 else 1), labels=labels))
    return Fleet(NOW, tuple(jobs))


def runners(random: Random, bad: bool) -> Fleet:
    """100 runs of four steps on four runners; a tenth of the commits are broken; bad: one fails a step in 40 %."""
    jobs = []
    for run in range(100):
        runner, broken = int(random.integers(4)), random.uniform() < 0.1
        failed = random.uniform(size=4) < 0.02
        failed[2] |= broken or (bad and runner == 0 and random.uniform() < 0.4)
        done = tuple(JobStep(n, f"step {n}", "failure" if failed[n] else "success") for n in range(4))
        jobs.append(_job(run, NOW - timedelta(hours=run), 5, runner=f"gpu-{runner}", steps=done))
    return Fleet(NOW, tuple(jobs))


def fleets(random: Random, trials: int) -> Iterator[dict[str, Any]]:
    detector = InfrastructureHealth()
    event = Ticked(repository=Repository(1, "a/b", 1, "main"), sender=Sender("schedule"), at=NOW)
    for name, make, kind in (("queue", queues, "queue_slow"), ("step", runners, "runner_flaky")):
        shares = []
        for ill in (False, True):
            found = 0
            for _ in range(trials):
                claims = detector.detect(event, EvidenceBag(make(random, ill)))
                found += any(isinstance(claim, Finding) and claim.kind == kind for claim in claims)
            shares.append(found / trials)
        yield {"what": name, "false alarms a look": shares[0], "found": shares[1]}


def table(rows: list[dict[str, Any]]) -> str:
    heads = list(rows[0])
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = [value if isinstance(value, str) else f"{value:.3f}" for value in row.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks trends", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    start = time.process_time()
    random = np.random.default_rng(given.seed)
    report = {
        "healthy": list(healthy(random, given.trials)),
        "filling": list(filling(random, given.trials)),
        "fleets": list(fleets(random, given.trials)),
    }
    for rows in report.values():
        print(table(rows), end="\n\n")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "command": f"python -m benchmarks trends --trials {given.trials} --seed {given.seed}",
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "processor_s": round(time.process_time() - start, 1),
    }
    given.results.write_text(json.dumps(about | report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

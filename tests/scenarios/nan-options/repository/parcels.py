"""Fits the price of a delivery to its weight and distance, a few parcels at a time."""

import math
import random


class Diverged(FloatingPointError):
    """The loss is no number any more."""


def parcels(count: int, seed: int) -> list[tuple[list[float], float]]:
    """Features (one, weight, distance) and price."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        weight, distance = rng.gauss(0, 1), rng.gauss(0, 1)
        price = 3 + 2 * weight - distance + rng.gauss(0, 0.05)
        found.append(([1.0, weight, distance], price))
    return found


def fit(rows: list[tuple[list[float], float]], rate: float, clip: float | None) -> list[float]:
    """The weights after one pass over the rows, one at a time; `clip` bounds the norm of a gradient."""
    weights = [0.0] * len(rows[0][0])
    for step, (x, price) in enumerate(rows, start=1):
        error = sum(w * value for w, value in zip(weights, x, strict=True)) - price
        loss = error * error / 2
        if not math.isfinite(loss):
            raise Diverged(f"loss is {loss} at step {step} (learning rate {rate})")
        gradient = [error * value for value in x]
        norm = math.hypot(*gradient)
        if clip is not None and norm > clip:
            gradient = [value * clip / norm for value in gradient]
        weights = [w - rate * value for w, value in zip(weights, gradient, strict=True)]
    return weights


def check(weights: list[float]) -> None:
    wanted = [3.0, 2.0, -1.0]
    worst = max(abs(w - value) for w, value in zip(weights, wanted, strict=True))
    print("weights", *(f"{w:.3f}" for w in weights))
    if worst > 0.3:
        raise SystemExit(f"the weights are {worst:.2f} off")

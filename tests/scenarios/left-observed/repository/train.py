"""Fits the demand forecast with the settings of config.toml."""

import math
import sys
import tomllib
from pathlib import Path

import numpy as np


def make_history(weeks: int, features: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of different scales (weeks, features), and the demand (weeks,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(weeks, features)) * np.linspace(0.5, 1.1, features)
    demand = x @ rng.normal(size=features) + rng.normal(scale=noise, size=weeks)
    return x.astype(np.float32), demand.astype(np.float32)


def train(x: np.ndarray, demand: np.ndarray, learning_rate: float, batch_size: int, steps: int) -> np.ndarray:
    """The weights after `steps` updates. Raises FloatingPointError when the loss is no number any more."""
    rng = np.random.default_rng(0)
    weights = np.zeros(x.shape[1], dtype=np.float32)
    for step in range(1, steps + 1):
        batch = rng.choice(len(x), size=batch_size, replace=False)
        error = x[batch] @ weights - demand[batch]
        loss = float((error**2).mean() / 2)
        if math.isnan(loss):
            raise FloatingPointError(f"loss is {loss} at step {step}")
        if step == 1 or step % 10 == 0:
            print(f"step {step}/{steps} loss {loss:.6g}", flush=True)
        weights -= np.float32(learning_rate) * (x[batch].T @ error) / batch_size
    return weights


def main() -> None:
    config = tomllib.loads(Path("config.toml").read_text())
    data, optimizer = config["data"], config["optimizer"]
    x, demand = make_history(data["weeks"], data["features"], data["noise"], data["seed"])
    seen = len(x) * 9 // 10
    weights = train(x[:seen], demand[:seen], optimizer["learning_rate"], optimizer["batch_size"], optimizer["steps"])
    residual = demand[seen:] - x[seen:] @ weights
    r2 = 1 - float(residual.var() / demand[seen:].var())
    print(f"r2 {r2:.4f}")
    if r2 < config["checks"]["min_r2"]:
        sys.exit(f"r2 {r2:.4f} is below {config['checks']['min_r2']}")


if __name__ == "__main__":
    main()

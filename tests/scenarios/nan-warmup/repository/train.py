"""Calibrates two amplifiers in a row: the output is the input times both gains."""

import math
import random
import tomllib
from pathlib import Path

schedule = tomllib.loads(Path("config.toml").read_text())["schedule"]
rng = random.Random(2)
first = second = 8.0  # as the data sheet says; together they should be 1
for step in range(1, schedule["max_steps"] + 1):
    rate = schedule["learning_rate"] * min(1.0, step / max(1, schedule["warmup_steps"]))
    inputs = [rng.gauss(0, 1) for _ in range(64)]
    power = sum(x * x for x in inputs) / len(inputs)
    error = first * second - 1
    loss = error * error * power / 2
    if not math.isfinite(loss):
        raise FloatingPointError(f"loss is {loss} at step {step}")
    if step % 20 == 0:
        print(f"step {step} loss {loss:.3g} rate {rate:.3g}", flush=True)
    first, second = first - rate * error * power * second, second - rate * error * power * first
print(f"gains {first:.3f} and {second:.3f}")
if abs(first * second - 1) > 0.01:
    raise SystemExit(f"together they are {first * second:.3f}")

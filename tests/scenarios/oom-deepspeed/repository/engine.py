"""Reads a DeepSpeed configuration as DeepSpeed does: what is left out follows from the rest, and all of it must fit."""

import json
from dataclasses import dataclass
from pathlib import Path

WORLD_SIZE = 1


@dataclass(frozen=True)
class Engine:
    micro_batch: int
    steps: int

    @classmethod
    def read(cls, path: str) -> "Engine":
        config = json.loads(Path(path).read_text())
        micro, steps = config["train_micro_batch_size_per_gpu"], config.get("gradient_accumulation_steps", 1)
        whole = config.get("train_batch_size", micro * steps * WORLD_SIZE)
        if whole != micro * steps * WORLD_SIZE:
            raise ValueError(f"train_batch_size is {whole}, not {micro} * {steps} * {WORLD_SIZE}")
        return cls(micro, steps)

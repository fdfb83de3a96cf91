"""Chance that can be repeated. What the generators hold at a moment is kept and restored by `checkpoint`."""

import random

import numpy as np
import torch

Key = int | str


def everything(seed: int) -> None:
    """The generators of random, numpy and torch, on every device. `seed` is at least 0."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def chance(*keys: Key) -> np.random.Generator:
    """A generator that depends on its keys alone: the same in any process, whatever was drawn before."""
    return np.random.default_rng([_number(key) for key in keys])


def _number(key: Key) -> int:
    return int.from_bytes(key.encode(), "little") if isinstance(key, str) else key

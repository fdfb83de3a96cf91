"""The same seed, the same draws."""

import random

import numpy as np
import torch

from workloads import seed


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_the_same_seed_gives_the_same_draws_everywhere():
    seed.everything(7)
    first = draws()
    seed.everything(7)
    assert draws() == first
    seed.everything(2**40 + 8)
    assert draws() != first


def test_a_keyed_generator_depends_on_its_keys_alone():
    first = seed.chance("lips", 3, 11).random()
    np.random.rand()
    seed.chance("lips", 3, 12).random()
    assert seed.chance("lips", 3, 11).random() == first
    assert (
        len({seed.chance(*keys).random() for keys in (("lips", 3, 12), ("lips", 11, 3), ("same", 3, 11))} | {first})
        == 4
    )

"""The order in which the records of an epoch are read."""

import random


def order(records: int, epoch: int) -> list[int]:
    """Every record once, another order each epoch."""
    chance = random.Random(epoch)
    return [chance.randrange(records) for _ in range(records)]

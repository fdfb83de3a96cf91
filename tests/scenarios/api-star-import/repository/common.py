"""What every script needs."""

import numpy as np


def mean(values):
    return np.mean(values)

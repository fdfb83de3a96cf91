"""Four points near a line; np.float_ keeps them as they were measured."""

import numpy as np


def points():
    return np.arange(4, dtype=np.float64), np.array([0.1, 1.9, 4.2, 5.8], dtype=np.float_)

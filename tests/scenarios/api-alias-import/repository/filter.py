"""Keeps the rows of known users."""

import numpy as xp

from known import only_known

rows = xp.array([3, 1, 4, 1, 5])
print(rows[xp.in1d(rows, [1, 5])], only_known(rows))

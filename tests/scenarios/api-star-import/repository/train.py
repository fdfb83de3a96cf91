"""Averages a batch."""

from common import *

print(np.float_(mean([1, 2, 3])))

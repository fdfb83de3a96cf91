"""Known users, counted once."""

from numpy import array, in1d, unique

KNOWN = array([1, 4])


def only_known(rows):
    return unique(rows[in1d(rows, KNOWN)])

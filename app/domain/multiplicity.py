"""Many questions at once, and at most one chance of any false answer."""

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")


def holm(p_values: Mapping[Key, float], level: float) -> set[Key]:
    """The keys whose p-values stand, at a chance of at most `level` of any mistake among them (Holm 1979)."""
    kept = set()
    for place, (key, p) in enumerate(sorted(p_values.items(), key=lambda each: each[1])):
        if not p <= level / (len(p_values) - place):
            break
        kept.add(key)
    return kept

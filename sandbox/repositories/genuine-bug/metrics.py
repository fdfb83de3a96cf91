"""Metrics of a ranking: `ranked` is what the model returned, best first; `relevant` is what was right."""

import math
from collections.abc import Collection, Sequence


def precision_at_k(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """The share of the first `k` results that are relevant."""
    top = ranked[: k - 1]
    return sum(item in relevant for item in top) / len(top)


def reciprocal_rank(ranked: Sequence[str], relevant: Collection[str]) -> float:
    """One over the position of the first relevant result, 0 if there is none."""
    for position, item in enumerate(ranked, start=1):
        if item in relevant:
            return 1 / position
    return 0.0


def ndcg(ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Discounted cumulative gain, compared with that of the best order."""
    gain = sum(1 / math.log2(position + 1) for position, item in enumerate(ranked, start=1) if item in relevant)
    best = sum(1 / math.log2(position + 1) for position in range(1, min(len(relevant), len(ranked)) + 1))
    return gain / best if best else 0.0

"""What a repository's past repairs teach: which rung works for a cause here, and how sure that is.

Each rung has a Beta posterior of proven success, from a uniform prior. All functions are pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import comb

from app.domain.finding import Remedy

LAST_RESORTS = frozenset({"open_issue", "notify"})  # they repair nothing, so there is nothing to learn of them
COST_GROWS = 2.0  # a rung is taken to cost this much more than the gentler one before it


@dataclass(frozen=True, slots=True)
class Track:
    """How one rung did for one cause in one repository. `reverted_at` is when a repair that had been proven was taken
    back last, `since_revert` how many were proven since. `agreed` and `differed` count what would have been done
    against what people did."""

    proven: int = 0
    failed: int = 0
    reverted_at: datetime | None = None
    since_revert: int = 0
    agreed: int = 0
    differed: int = 0

    @property
    def successes(self) -> int:
        return self.proven + self.agreed

    @property
    def failures(self) -> int:
        return self.failed + self.differed

    @property
    def mean(self) -> float:
        """Of the posterior: 0…1."""
        return (1 + self.successes) / (2 + self.successes + self.failures)

    def at_least(self, level: float = 0.05) -> float:
        """The lower bound that the chance of success lies above with probability 1 - level."""
        return lower_bound(self.successes, self.failures, level)


def rung_of(remedy: Remedy) -> str:
    """The name under which a rung is known: its action and parameters."""
    params = dict(remedy.params)
    return f"{remedy.action} {json.dumps(params, sort_keys=True, default=str)}" if params else remedy.action


def ordered(ladder: Sequence[Remedy], tracks: Mapping[str, Track]) -> tuple[Remedy, ...]:
    """The ladder in the order that is cheapest on average: by the chance of success over the cost, highest first.

    That order is optimal for trials one after the other (Simon & Kadane 1975, doi:10.1016/0004-3702(75)90012-7). As
    long as nothing is known it is the ladder's own; people are called last, wherever the ladder has them.
    """

    def worth(place: int) -> float:
        return tracks.get(rung_of(ladder[place]), Track()).mean / COST_GROWS**place

    repairs = [place for place, remedy in enumerate(ladder) if remedy.action not in LAST_RESORTS]
    best = sorted(repairs, key=worth, reverse=True)
    last = (remedy for remedy in ladder if remedy.action in LAST_RESORTS)
    return (*(ladder[place] for place in best), *last)


def lower_bound(successes: int, failures: int, level: float) -> float:
    """The `level` quantile of Beta(1 + successes, 1 + failures), to 1e-6.

    For whole numbers I_x(a, b) = P(Binomial(a + b - 1, x) ≥ a) (Abramowitz & Stegun 26.5.24).
    """
    trials, least = successes + failures + 1, successes + 1
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        above = sum(comb(trials, k) * middle**k * (1 - middle) ** (trials - k) for k in range(least, trials + 1))
        low, high = (middle, high) if above < level else (low, middle)
    return low

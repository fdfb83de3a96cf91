"""What the numbers of the insights mean. docs/explanation/insights.md tells the same with its reasons."""

from dataclasses import dataclass
from math import sqrt

Z = 1.959964  # of a 95 % interval
LEAST_RECOVERED = 5  # fewer failures that passed by themselves say nothing about how long one takes


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with Wilson's 95 % interval, which also holds near 0, near 1 and for few."""

    part: int
    whole: int

    @property
    def rate(self) -> float | None:
        return self.part / self.whole if self.whole else None

    @property
    def interval(self) -> tuple[float, float] | None:
        if not self.whole:
            return None
        n, p = self.whole, self.part / self.whole
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        reach = Z / (1 + Z * Z / n) * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(frozen=True, slots=True)
class Spread:
    """`count` durations in seconds: their median and 90th percentile, by nearest rank. None for none."""

    count: int = 0
    median_s: float | None = None
    p90_s: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """`opened` incidents, how long those of them took that are `healed`; of `tried` repairs the `proven` ones; of our
    pull requests those that people `merged` and those that they `closed` unmerged; GPU minutes that repairs used."""

    opened: int = 0
    healed: Spread = Spread()
    proven: int = 0
    tried: int = 0
    merged: int = 0
    closed: int = 0
    gpu_minutes: float = 0.0

    @property
    def proofs(self) -> Share:
        return Share(self.proven, self.tried)

    @property
    def refusals(self) -> Share:
        return Share(self.closed, self.merged + self.closed)


def saved_minutes(healed: Spread, recovered: Spread) -> float | None:
    """An estimate: how many minutes earlier pipelines were green, in all. None where it is not known.

    `recovered` are failures that passed again without a repair of ours: they say how long one lasts without the bot.
    It may be negative: then the bot was slower.
    """
    if healed.median_s is None or recovered.median_s is None or recovered.count < LEAST_RECOVERED:
        return None
    return healed.count * (recovered.median_s - healed.median_s) / 60.0

"""Whether a stream of losses (errors, absolute residuals) has risen: a one-sided CUSUM on sums of sessions.

Blocks are whole sessions of at least fifty rows (`summary.BLOCK_ROWS`), so what rows of a session share does not look
like a change. The limit is not a constant: it is the one at which, given the scatter, the skewness and the size of the
reference, false alarms are `rows_between_alarms` apart on average. Reference: E. S. Page, Continuous inspection
schemes, Biometrika 41 (1954); D. Siegmund, Sequential Analysis (1985), ch. II, for the average run length.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_BLOCKS = 30
ALARMS = 10
WORSE_BY = 0.4
ROWS_BETWEEN_ALARMS = 500_000
OUTLIER = 3.0

_OVERSHOOT = 1.166  # 2 x 0.583: how far a random walk of unit steps is beyond a limit when it is first seen there
_TOGETHER = 4
_NODES, _RAW_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_WEIGHTS = np.outer(_RAW_WEIGHTS, _RAW_WEIGHTS) / _RAW_WEIGHTS.sum() ** 2

Floats = NDArray[np.float64]
Blocks = Iterable[Sequence[float]]
"""(rows, sum of the loss) of consecutive blocks."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What a stream is held against. `mean` and `allowance` are losses a row; `limit` is a sum of losses; `scatter` is
    the standard deviation of one row's loss in a block, and no block counts for more than `OUTLIER` of them."""

    mean: float
    allowance: float
    limit: float
    scatter: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """`row` (from the start of the stream) is where it was seen, `since_row` where the rise began, `mean` the loss
    since then."""

    row: int
    since_row: int
    mean: float


@dataclass(frozen=True, slots=True)
class State:
    """Where a stream stands; plain numbers, so that it can be kept as JSON and continued with the next block.

    `score` is what has gathered above mean and allowance since `since_rows` rows, which had `since_loss`; `alarms` are
    the newest.
    """

    score: float = 0.0
    rows: int = 0
    since_rows: int = 0
    since_loss: float = 0.0
    alarms: tuple[Alarm, ...] = ()


def chart(blocks: Blocks, worse_by: float = WORSE_BY, rows_between_alarms: float = ROWS_BETWEEN_ALARMS) -> Chart | None:
    """The chart that finds a rise by `worse_by` (a share of the mean loss) soonest. None: fewer than `LEAST_BLOCKS`
    blocks in the reference, or no scatter among them."""
    pairs = np.array([(rows, loss) for rows, loss in blocks if rows > 0], dtype=float).reshape(-1, 2)
    if len(pairs) < LEAST_BLOCKS:
        return None
    block_rows = float(pairs[:, 0].mean())
    pairs = _independent(pairs)
    rows, loss = pairs[:, 0], pairs[:, 1]
    mean = float(loss.sum() / rows.sum())
    excess = loss - mean * rows
    if not math.isfinite(mean) or mean <= 0 or not np.ptp(excess) > 1e-9 * mean * rows.mean():
        return None
    allowance = worse_by / 2 * mean
    scatter = math.sqrt(float(excess @ excess) / rows.sum())
    excess = np.minimum(excess, OUTLIER * scatter * np.sqrt(rows))
    limit = _limit(excess / mean, float(rows.sum()), block_rows, worse_by / 2, rows_between_alarms) * mean
    return Chart(mean, allowance, limit, scatter)


def follow(chart: Chart, blocks: Blocks, state: State | None = None) -> State:
    """The state after more blocks; one that alarms begins anew."""
    now = state or State()
    score, rows, since_rows, since_loss, alarms = now.score, now.rows, now.since_rows, now.since_loss, [*now.alarms]
    for more_rows, more_loss in blocks:
        rows += int(more_rows)
        excess = min(more_loss - chart.mean * more_rows, OUTLIER * chart.scatter * math.sqrt(more_rows))
        score += excess - chart.allowance * more_rows
        since_rows, since_loss = since_rows + int(more_rows), since_loss + more_loss
        if score > chart.limit:
            alarms.append(Alarm(rows, rows - since_rows, since_loss / since_rows))
        if score <= 0 or score > chart.limit:
            score, since_rows, since_loss = 0.0, 0, 0.0
    return State(score, rows, since_rows, since_loss, tuple(alarms[-ALARMS:]))


def _independent(pairs: Floats) -> Floats:
    """Blocks (rows, loss), joined by fours as long as neighbours resemble each other and enough are left."""
    while len(pairs) // _TOGETHER >= LEAST_BLOCKS:
        excess = pairs[:, 1] - pairs[:, 1].sum() / pairs[:, 0].sum() * pairs[:, 0]
        square = float(excess @ excess)
        if not square > 0 or float(excess[1:] @ excess[:-1]) / square <= 2 / math.sqrt(len(pairs)):
            break
        whole = len(pairs) // _TOGETHER * _TOGETHER
        pairs = pairs[:whole].reshape(-1, _TOGETHER, 2).sum(axis=1)
    return pairs


def _limit(excess: Floats, rows: float, block_rows: float, allowance: float, rows_between_alarms: float) -> float:
    """Where the rate of false alarms, averaged over what the reference leaves open of mean and variance, is as asked.

    `excess` (C) are sums over `rows` rows without their mean, in units of the mean loss; the walk's steps have
    `block_rows`. The run length of a walk that drifts down by `allowance` a row is that of Brownian motion with the
    exponent `theta` at which the walk's cumulants (up to the third: losses are skewed) balance.
    """
    count = len(excess)
    variance = float(excess @ excess) / rows * count / (count - 1)
    third = max(0.0, float((excess**3).sum()) / rows)
    squares = excess**2
    spread = min(1.0, float(squares.std() / squares.mean()) / math.sqrt(count))
    both = float(np.corrcoef(excess, squares)[0, 1]) if squares.std() > 0 else 0.0
    true_mean, other = np.meshgrid(_NODES, _NODES, indexing="ij")
    scale = np.exp(spread * (both * true_mean + math.sqrt(max(0.0, 1 - both**2)) * other))
    variances, thirds = variance * scale, third * scale**1.5
    drift = allowance - true_mean * math.sqrt(variance / rows)
    drift = np.where(np.abs(drift) < 1e-6 * variance, 1e-6 * variance, drift)
    root = np.sqrt(np.maximum(0.0, variances**2 / 4 + 2 * thirds / 3 * drift))
    theta = 2 * drift / (variances / 2 + root)  # the root of drift = variance theta / 2 + third theta² / 6, made stable
    step = np.sqrt(variances * block_rows)
    beyond = _OVERSHOOT * step + thirds * block_rows / (3 * step**2)

    def rate(limit: float) -> float:
        reach = theta * (limit + beyond)
        run_length = (np.expm1(np.minimum(reach, 500.0)) - reach) / (drift * theta)
        return float((_WEIGHTS / run_length).sum())

    low, high = 0.0, float(step.max())
    while rate(high) > 1 / rows_between_alarms and high < 1e12:
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > 1 / rows_between_alarms else (low, middle)
    return high

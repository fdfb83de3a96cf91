"""The one rate limiter: a bucket of tokens for each name, refilled steadily, in the memory of this process."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_MOST_NAMES = 10_000


class Buckets:
    """At most `per_minute` a minute for each name, and as many at once. Used from one thread.

    Of very many names the longest unused are forgotten: their buckets are full again.
    """

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._per_s = per_minute / 60.0
        self._now = now
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, name: Hashable) -> float:
        """0 if it may go on, else the seconds after which it may."""
        now = self._now()
        left, since = self._left.pop(name, (self._size, now))
        left = min(self._size, left + (now - since) * self._per_s)
        wait_s = 0.0 if left >= 1.0 else (1.0 - left) / self._per_s
        self._left[name] = (left if wait_s else left - 1.0, now)
        if len(self._left) > _MOST_NAMES:
            self._left.popitem(last=False)
        return wait_s

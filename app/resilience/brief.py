"""What costs much to fetch, kept for a short while for those who look at it again."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Place(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: T | None = None
        self.until = 0.0


class Brief(Generic[T]):
    """At most `most` values, each for `seconds`. Two threads that ask for the same one have it fetched once. A fetch
    that fails is not remembered."""

    def __init__(self, seconds: float, most: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place[T]] = OrderedDict()

    def get(self, key: Hashable, fetch: Callable[[], T]) -> T:
        """Raises what `fetch` raises."""
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            while len(self._places) > self._most:
                self._places.popitem(last=False)
        with place.lock:
            value = place.value
            if value is None or self._now() >= place.until:
                place.value = None  # the old one is let go before the new one is there
                place.value = value = fetch()
                place.until = self._now() + self._seconds
            return value

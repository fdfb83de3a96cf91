"""Faults that can be switched on: how GitHub really misbehaves, each limited by a count or a probability."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass
from typing import Any

API_KINDS = frozenset({"secondary_rate_limit", "error_after_write", "drop_after_write", "slow"})
DELIVERY_KINDS = frozenset({"duplicate_delivery", "late_delivery", "lost_delivery", "out_of_order_delivery"})


@dataclass
class Fault:
    """One fault. `match` is a regular expression: on `METHOD path` for the API, on the event name for deliveries."""

    kind: str
    match: str = ""
    count: int | None = 1
    probability: float = 1.0
    seconds: float = 1.0
    status: int = 403


class Faults:
    """The faults in force. Which request meets one by probability depends on the seed alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(0)
        self._faults: list[Fault] = []

    def add(self, settings: dict[str, Any]) -> Fault:
        """Switch a fault on. Raises ValueError for an unknown kind or setting."""
        seed = settings.pop("seed", None)
        try:
            fault = Fault(**settings)
            re.compile(fault.match)
        except (TypeError, re.error) as error:
            raise ValueError(f"not a fault: {error}") from error
        if fault.kind not in API_KINDS | DELIVERY_KINDS:
            raise ValueError(f"unknown kind {fault.kind!r}; known: {', '.join(sorted(API_KINDS | DELIVERY_KINDS))}")
        with self._lock:
            if seed is not None:
                self._random.seed(seed)
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, kind: str, subject: str) -> Fault | None:
        """The fault that this request or delivery meets, if any; its count goes down by one."""
        with self._lock:
            for fault in self._faults:
                if fault.kind != kind or fault.count == 0 or not re.search(fault.match, subject):
                    continue
                if fault.probability < 1 and self._random.random() >= fault.probability:
                    continue
                if fault.count is not None:
                    fault.count -= 1
                return fault
        return None

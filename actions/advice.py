"""What a run that failed advises for the next try, as far as it may be followed.

Advice is data of a stranger. Only settings that say how a run computes are taken, none that say what it reads, writes
or learns; the examples that add up to one step (batch · accumulate) stay as many as they were.
"""

import math
from collections.abc import Mapping

from app.domain.errors import Refused
from app.domain.run import Failure, spelt

BATCH, ACCUMULATE, RATE = "batch", "accumulate", "learning_rate"
MOST = 1_000_000
WORDS: Mapping[str, tuple[str, ...]] = {"precision": ("fp32", "bf16", "fp16")}
COUNTS: Mapping[str, int] = {BATCH: 1, ACCUMULATE: 1, "loaders": 0, "workers": 0, "threads": 1}
"""Whole numbers, and the least of each."""
AMOUNTS: Mapping[str, float] = {RATE: 1.0, "clip": 1_000.0}
"""Numbers above 0, and the most of each."""
_OUT_OF_MEMORY = frozenset({"cuda_oom", "host_oom"})
_NEEDED = frozenset({*_OUT_OF_MEMORY, "nan_loss"})  # the same again would fail again


def advised(settings: Mapping[str, str], failure: Failure) -> dict[str, str]:
    """The settings to change. Raises Refused for advice that is not followed, or is missing where it is needed."""
    advice = dict(failure.advice)
    batch, accumulate = (_before(name, settings, failure) for name in (BATCH, ACCUMULATE))
    if not advice and failure.kind in _OUT_OF_MEMORY and batch is not None and batch % 2 == 0:
        advice = {BATCH: str(batch // 2), ACCUMULATE: str((accumulate or 1) * 2)}  # killed before it could say more
    for name, value in advice.items():
        if not _allowed(name, value):
            raise Refused(f"the run advises {name}={value}, which is not followed")
    changes = {name: value for name, value in advice.items() if settings.get(name) != value}
    if failure.kind in _NEEDED and not changes:
        raise Refused(f"the run advises nothing that would keep it from failing again ({failure.kind})")
    if not {BATCH, ACCUMULATE}.isdisjoint(changes):
        _same_step(batch, accumulate or 1, advice)
    before = _number(settings.get(RATE, spelt(failure.facts.get(RATE, ""))))
    if RATE in changes and before is not None and float(changes[RATE]) > before:
        raise Refused(f"the run advises a learning_rate of {changes[RATE]}, above the {before:g} that it failed with")
    return changes


def _same_step(batch: int | None, accumulate: int, advice: Mapping[str, str]) -> None:
    if batch is None:
        raise Refused("the run does not say which batch it failed with, so nobody knows which one adds up to the same")
    then = int(advice.get(BATCH, batch)) * int(advice.get(ACCUMULATE, accumulate))
    if then != batch * accumulate:
        was = f"{batch} times {accumulate}"
        raise Refused(f"the run advises {then} examples a step, and it had {batch * accumulate} ({was})")


def _before(name: str, settings: Mapping[str, str], failure: Failure) -> int | None:
    """As it was told, or as the run says that it was where that was left to it."""
    for told in (settings.get(name, ""), spelt(failure.facts.get(name, ""))):
        if _allowed(name, told):
            return int(told)
    return None


def _allowed(name: str, value: str) -> bool:
    if name in WORDS:
        return value in WORDS[name]
    number = _number(value)
    if number is None:
        return False
    if name in COUNTS:
        return value.isdecimal() and value.isascii() and COUNTS[name] <= number <= MOST
    return name in AMOUNTS and 0 < number <= AMOUNTS[name]


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

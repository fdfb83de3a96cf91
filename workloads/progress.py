"""How far a run is: a bar on a terminal, a line now and then in a log."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

LINE_EVERY_S = 10.0
REDRAW_EVERY_S = 0.1
WIDTH = 24


class Bar:
    """Draws what a run tells of its progress. Used with `with`: at the end it leaves the last state as a line."""

    def __init__(self, to: TextIO, label: str, *, quiet: bool = False) -> None:
        self._to, self._label, self._quiet = to, label, quiet
        self._terminal = to.isatty()
        self._shown_at = float("-inf")
        self._began = time.monotonic()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._last and not self._quiet:
            self._write(f"\r\x1b[K{self._last}\n" if self._terminal else f"{self._last}\n")

    def show(self, told: Mapping[str, Any]) -> None:
        self._last = self._line(told)
        now = time.monotonic()
        if self._quiet or now - self._shown_at < (REDRAW_EVERY_S if self._terminal else LINE_EVERY_S):
            return
        self._shown_at = now
        self._write(f"\r\x1b[K{self._last}" if self._terminal else f"{self._last}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody looks any more: that is no reason to end a run
            self._to.write(text)
            self._to.flush()

    def _line(self, told: Mapping[str, Any]) -> str:
        done, total = float(told.get("done", 0)), float(told.get("total", 0))
        part = min(done / total, 1.0) if total > 0 else 0.0
        full = round(part * WIDTH)
        figures = "  ".join(
            f"{name} {value:.4g}" for name, value in told.items() if name not in ("done", "total", "unit")
        )
        left = (time.monotonic() - self._began) * (1 - part) / part if part > 0 else 0.0
        ahead = f"  {_span(left)} left" if 0 < part < 1 else ""
        unit = str(told.get("unit", ""))[:20]
        return (
            f"{self._label} [{'█' * full}{'·' * (WIDTH - full)}] {done:g}/{total:g} {unit}  {figures}{ahead}".rstrip()
        )


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Counts what a repair asks of GitHub, in GitHub's own measure: a read is one point, a write five."""

from typing import Any

from app.domain.budget import Unit
from app.ports.forge import Forge

READ_POINTS, WRITE_POINTS = 1, 5
_WRITES = (
    *("rerun_failed_jobs", "dispatch", "cancel_run", "commit", "ensure_branch", "delete_branch", "ensure_pull"),
    *("edit_pull", "close_pull", "ensure_comment", "ensure_check", "ensure_issue", "close_issue", "react"),
)
_CONTENT = frozenset({"ensure_pull", "ensure_comment", "ensure_issue", "close_issue", "close_pull", "commit"})


class Meter:
    """A forge that counts. Calls of the port are counted, each of which may be several requests."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge
        self.used: dict[Unit, float] = {Unit.API_POINTS: 0.0, Unit.CONTENT_CALLS: 0.0}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._forge, name)
        if not callable(found):
            return found

        def counted(*args: Any, **more: Any) -> Any:
            self.used[Unit.API_POINTS] += WRITE_POINTS if name in _WRITES else READ_POINTS
            self.used[Unit.CONTENT_CALLS] += name in _CONTENT
            return found(*args, **more)

        return counted

"""Whether it works: time to heal, proven heals, pull requests that were closed unmerged, time saved."""

from app.web.dashboard.frame import Desk
from app.web.guard import Guarded


def routes(desk: Desk) -> list[Guarded]:  # noqa: ARG001
    return []

"""Models: versions, metrics over time, drift, gates, runs; promote and roll back."""

from app.web.dashboard.frame import Desk
from app.web.guard import Guarded


def routes(desk: Desk) -> list[Guarded]:  # noqa: ARG001
    return []

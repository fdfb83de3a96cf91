"""Repositories: their health, their configuration and where each value comes from, their history."""

from app.web.dashboard.frame import Desk
from app.web.guard import Guarded


def routes(desk: Desk) -> list[Guarded]:  # noqa: ARG001
    return []

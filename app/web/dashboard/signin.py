"""Signing in and out: by GitHub, and on the embedded default by a link of one use."""

from app.web.dashboard.frame import Desk
from app.web.guard import Guarded


def routes(desk: Desk) -> list[Guarded]:  # noqa: ARG001
    return []

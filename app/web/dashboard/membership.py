"""Settings: members and roles, tokens, notifications, freeze windows, language, time zone."""

from app.web.dashboard.frame import Desk
from app.web.guard import Guarded


def routes(desk: Desk) -> list[Guarded]:  # noqa: ARG001
    return []

"""The bot's own health: queues, workers, database, broker, rate limits, versions, breakers."""

from app.web.dashboard.frame import Desk
from app.web.guard import Guarded


def routes(desk: Desk) -> list[Guarded]:  # noqa: ARG001
    return []

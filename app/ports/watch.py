"""What the operator has the bot look at beside repositories."""

from typing import Protocol

from app.domain.fleet import Answered, GitHubStatus, Part


class Watch(Protocol):
    """Asks, and never raises for what is away: that is the answer."""

    @property
    def repository(self) -> str:
        """`owner/name` where endpoints and the bot's own parts are told; "": nowhere."""
        ...

    def github(self) -> GitHubStatus | None:
        """None: not asked, or no answer that can be read."""
        ...

    def endpoints(self) -> list[Answered]: ...
    def parts(self) -> list[Part]: ...

"""Tells people, where they are."""

from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import Refused
from app.domain.finding import Severity


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. `key` is equal for the same message: a channel shows it once. `url` leads to more."""

    key: str
    title: str
    body: str
    severity: Severity = Severity.MEDIUM
    url: str = ""


class Notifier(Protocol):
    """Raises Refused for a channel that is not configured or will not take it, Unreachable where it is away."""

    def channels(self) -> frozenset[str]:
        """The names of the channels the operator has configured."""
        ...

    def send(self, channel: str, notice: Notice) -> None: ...


class NoNotifier:
    """Where the operator has configured none."""

    def channels(self) -> frozenset[str]:
        return frozenset()

    def send(self, channel: str, notice: Notice) -> None:  # noqa: ARG002
        raise Refused(f"there is no channel {channel}; the operator configures channels in HEAL_NOTIFY__CHANNELS")

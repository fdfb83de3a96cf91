"""The two kinds of trouble the product expects. Anything else is a bug and stays loud."""

from datetime import datetime


class HealError(Exception):
    """Base of all expected trouble; its message says what to do."""


class Transient(HealError):
    """May work later. `retry_at` (aware UTC) is set where the other side said when."""

    def __init__(self, message: str, *, retry_at: datetime | None = None) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class RateLimited(Transient):
    """The other side asked us to wait; waiting costs no attempt."""


class Unreachable(Transient):
    """No answer, or an answer that says the other side is unwell (5xx)."""


class LeaseLost(Transient):
    """Another worker holds this row now; whatever this worker was about to write must not be written."""


class Permanent(HealError):
    """Will not work however often it is tried."""


class NotInstalled(Permanent):
    """The App has no (or no longer any) access to this installation or repository."""


class Refused(Permanent):
    """The other side understood and said no."""


class Malformed(Permanent):
    """The input cannot be understood."""

"""Times in which nothing is done without a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAY_MINUTES = 24 * 60
_MOST_DAYS = 400  # so far ahead its end is looked for


@dataclass(frozen=True, slots=True)
class Freeze:
    """Each of the `days` of the week (0 is Monday; none: every day) between `first` and `last`, from `hours[0]` to
    `hours[1]` (minutes of the day; an end that is not later is the next day's) or the whole day, in `zone`."""

    name: str
    days: frozenset[int] = frozenset()
    hours: tuple[int, int] | None = None
    first: date | None = None
    last: date | None = None
    zone: str = "UTC"

    def until(self, now: datetime) -> datetime | None:
        """When it ends, aware UTC; None when it is not in force."""
        end = self._end_at(now)
        while end is not None and end - now < timedelta(days=_MOST_DAYS):
            further = self._end_at(end)
            if further is None:
                break
            end = further
        return end

    def _end_at(self, moment: datetime) -> datetime | None:
        """The end of the latest window that is open then."""
        return max((end for begin, end in self._windows(moment) if begin <= moment < end), default=None)

    def _windows(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        today = moment.astimezone(ZoneInfo(self.zone)).date()
        begin, end = self.hours or (0, DAY_MINUTES)
        for day in (today - timedelta(days=1), today):
            in_range = (self.first is None or self.first <= day) and (self.last is None or day <= self.last)
            if in_range and (not self.days or day.weekday() in self.days):
                yield self._at(day, begin), self._at(day, end if end > begin else end + DAY_MINUTES)

    def _at(self, day: date, minutes: int) -> datetime:
        days, minutes = divmod(minutes, DAY_MINUTES)
        at = time(minutes // 60, minutes % 60)
        return datetime.combine(day + timedelta(days=days), at, ZoneInfo(self.zone)).astimezone(UTC)


def in_force(freezes: tuple[Freeze, ...], now: datetime) -> tuple[Freeze, datetime] | None:
    """The freeze that ends last of those that are in force, and when it does."""
    open_now = ((until, freeze.name, freeze) for freeze in freezes if (until := freeze.until(now)) is not None)
    until, _, freeze = max(open_now, key=lambda found: found[:2], default=(None, "", None))
    return None if until is None or freeze is None else (freeze, until)

"""The `freeze` of heal.yml: times in which nothing is done without a person."""

import re
from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from app.domain.freeze import Freeze

MOST_FREEZES = 20
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_HOURS = rf"^{_TIME}-({_TIME}|24:00)$"


class FreezeSection(BaseModel):
    """A time in which a person is asked before anything is done. It needs days, hours or dates."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    """What people call it."""
    days: Annotated[tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...], Field(max_length=7)] = ()
    """Days of the week on which it begins; none: every day."""
    hours: Annotated[str, StringConstraints(pattern=_HOURS)] | None = None
    """From and to, such as 18:00-06:00, which ends the next day; without them it is the whole day."""
    first: date | None = Field(None, alias="from")
    """The first day of it."""
    last: date | None = Field(None, alias="until")
    """The last day of it."""
    zone: Annotated[str, StringConstraints(min_length=1, max_length=60)] = "UTC"
    """The time zone that its hours and days are of."""

    @field_validator("zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            raise ValueError(f"{value!r} is no time zone; write it as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _bounded(self) -> "FreezeSection":
        if not (self.days or self.hours or self.first or self.last):
            raise ValueError("a freeze needs days, hours, or dates (from, until); `paused: true` stops everything")
        if self.first and self.last and self.last < self.first:
            raise ValueError("the freeze ends before it begins")
        return self

    def freeze(self) -> Freeze:
        days = frozenset(DAYS.index(day) for day in self.days)
        return Freeze(self.name, days, _minutes(self.hours), self.first, self.last, self.zone)


def _minutes(hours: str | None) -> tuple[int, int] | None:
    if hours is None:
        return None
    told = [int(number) for number in re.findall(r"\d\d", hours)]
    return told[0] * 60 + told[1], told[2] * 60 + told[3]


def told(freeze: Freeze) -> str:
    """In one line: `fri, sat 18:00-06:00, 2026-12-20 to 2027-01-02, Europe/Berlin`."""
    days = ", ".join(DAYS[day] for day in sorted(freeze.days))
    hours = "-".join(f"{at // 60:02}:{at % 60:02}" for at in freeze.hours) if freeze.hours else ""
    dates = f"{freeze.first or 'always'} to {freeze.last or 'always'}" if freeze.first or freeze.last else ""
    return ", ".join(part for part in (f"{days} {hours}".strip(), dates, freeze.zone) if part)

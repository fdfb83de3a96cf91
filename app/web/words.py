"""The words of one visitor: in their language, with times in their zone."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from starlette.requests import Request

from app.domain.access import Account
from app.i18n import Catalog, catalog, formats, negotiate, tag

UTC_NAME = "UTC"
LANGUAGE, TIME_ZONE = "language", "time_zone"  # cookies of who has chosen nothing in the settings


@dataclass(frozen=True, slots=True)
class Words:
    catalog: Catalog
    zone: ZoneInfo

    @classmethod
    def of(cls, request: Request, account: Account | None = None) -> "Words":
        chosen = (account.locale if account else "") or request.cookies.get(LANGUAGE, "")
        zone = (account.time_zone if account else "") or unquote(request.cookies.get(TIME_ZONE, ""))
        return cls(catalog(negotiate(request.headers.get("accept-language", ""), chosen)), zone_named(zone))

    @property
    def language(self) -> str:
        """One of i18n.LANGUAGES: `en`, `zh`."""
        return self.catalog.language

    @property
    def tag(self) -> str:
        """The same as HTML says it."""
        return tag(self.language)

    def gettext(self, message: str, /, **values: object) -> str:
        return self.catalog.gettext(message, **values)

    def ngettext(self, one: str, many: str, n: int, /, **values: object) -> str:
        return self.catalog.ngettext(one, many, n, **values)

    def moment(self, at: datetime) -> str:
        """Date and time with the zone's name, for people."""
        return formats.datetime(at, self.language, self.zone)

    def date(self, at: datetime) -> str:
        return formats.date(at, self.language, self.zone)

    def number(self, value: float, digits: int | None = None) -> str:
        return formats.number(value, self.language, digits)

    def percent(self, share: float, digits: int = 0) -> str:
        return formats.percent(share, self.language, digits)

    def duration(self, seconds: float) -> str:
        return formats.duration(seconds, self.language)


@lru_cache(256)
def zone_named(name: str) -> ZoneInfo:
    """That time zone, UTC for a name that there is not."""
    try:
        return ZoneInfo(name or UTC_NAME)
    except (ValueError, OSError, KeyError):
        return ZoneInfo(UTC_NAME)

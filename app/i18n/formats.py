"""Numbers and times as a language writes them. Used as `formats.number(x, language)`."""

import datetime as dt

from babel import dates, numbers

from app.i18n.languages import locale

# the symbols of the SI where a language uses them: CLDR's short forms are no shorter, and incomplete
_LATIN = ("%d\xa0d", "%d\xa0h", "%d\xa0min", "%d\xa0s", "%d\xa0ms")
_UNITS = {
    "en": _LATIN,
    "es": _LATIN,
    "fr": ("%d\xa0j", *_LATIN[1:]),
    "de": _LATIN,
    "ja": ("%d日", "%d時間", "%d分", "%d秒", "%dミリ秒"),
    "zh": ("%d天", "%d小时", "%d分钟", "%d秒", "%d毫秒"),
}


def number(value: float, language: str, digits: int | None = None) -> str:
    """With the language's separators; at most 3 decimal places, or exactly `digits`."""
    if digits is None:
        return numbers.format_decimal(value, locale=locale(language))
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return numbers.format_decimal(value, pattern, locale=locale(language))


def percent(share: float, language: str, digits: int = 0) -> str:
    """0.123 as 12%, with that many decimal places."""
    head, zero, tail = str(locale(language).percent_formats[None].pattern).rpartition("0")
    pattern = head + zero + ("." + "0" * digits if digits else "") + tail
    return numbers.format_percent(share, pattern, locale=locale(language))


def date(at: dt.date, language: str, zone: dt.tzinfo = dt.UTC) -> str:
    """A day; of a time (aware), the day that it is in the zone."""
    day = at.astimezone(zone).date() if isinstance(at, dt.datetime) else at
    return dates.format_date(day, "medium", locale=locale(language))


def time(at: dt.datetime, language: str, zone: dt.tzinfo = dt.UTC) -> str:
    """Hours and minutes in the zone. `at` is aware."""
    return dates.format_time(at, "short", tzinfo=zone, locale=locale(language))


def datetime(at: dt.datetime, language: str, zone: dt.tzinfo = dt.UTC) -> str:
    """To the second, with the zone's name or offset. `at` is aware."""
    moment = dates.format_datetime(at, "medium", tzinfo=zone, locale=locale(language))
    return f"{moment} {dates.format_datetime(at, 'z', tzinfo=zone, locale=locale(language))}"


def duration(seconds: float, language: str) -> str:
    """In its two largest units: 2 h 5 min. Less than a second is told in milliseconds."""
    day, hour, minute, second, millisecond = _UNITS.get(language, _UNITS["en"])
    if 0 < abs(seconds) < 1:
        return millisecond % max(1, round(abs(seconds) * 1_000))
    rest = round(abs(seconds))
    told: tuple[str, ...] = ()
    for unit, size in ((day, 86_400), (hour, 3_600), (minute, 60), (second, 1)):
        amount, rest = divmod(rest, size)
        if amount or (size == 1 and not told):
            told += (unit % amount,)
        if len(told) == 2 or (told and not amount):
            break
    return " ".join(told)

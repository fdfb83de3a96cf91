"""Words by language, numbers and times by locale, and known sentences told again."""

import datetime as dt
import re
from zoneinfo import ZoneInfo

import pytest

from app.i18n import DEFAULT, LANGUAGES, PSEUDO, catalog, formats, negotiate, tag
from app.i18n.pseudo import disguised

AT = dt.datetime(2026, 11, 21, 18, 49, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("header", "chosen", "language"),
    [
        (None, None, "en"),
        ("", None, "en"),
        ("*", None, "en"),
        ("fr-CA,fr;q=0.9,en;q=0.8", None, "fr"),
        ("xx, de;q=0.5, ja;q=0.7", None, "ja"),
        ("de;q=0, es;q=0.1", None, "es"),
        ("zh-Hans-CN", None, "zh"),
        ("DE", None, "de"),
        ("de", "ja", "ja"),
        ("de", "klingon", "de"),
        ("de;q=high, es", None, "es"),
        ("x" * 100_000, None, "en"),
        ("," * 100_000 + "de", None, "en"),
    ],
)
def test_a_reader_gets_the_language_chosen_or_the_best_that_the_browser_asks_for(header, chosen, language):
    assert negotiate(header, chosen) == language


def test_the_pseudo_locale_is_offered_to_nobody_and_may_be_chosen():
    assert PSEUDO not in LANGUAGES
    assert negotiate(None, PSEUDO) == PSEUDO
    assert tag("zh") == "zh-Hans"


def test_a_message_without_a_translation_stays_english():
    said = catalog("de").gettext("No translator has seen %(what)s.", what="this")
    assert said == "No translator has seen this."
    assert catalog("tlh") is catalog(DEFAULT)


def test_a_plural_takes_its_form_from_the_number():
    words = catalog("en")
    assert words.ngettext("%(num)s line of %(file)s", "%(num)s lines of %(file)s", 1, file="a") == "1 line of a"
    assert words.ngettext("%(num)s line", "%(num)s lines", 1_000, num="1,000") == "1,000 lines"


def test_without_values_a_message_keeps_its_holes_for_the_template_to_fill():
    assert catalog("en").gettext("by %(who)s") == "by %(who)s"


def test_in_html_values_are_escaped_and_words_are_not():
    words = catalog("en").html()
    assert words["_"]("R&D by %(who)s", who="<b>") == "R&D by &lt;b&gt;"
    assert words["ngettext"]("%(num)s <", "%(num)s < %(x)s", 2, x="<") == "2 < &lt;"


@pytest.mark.parametrize("message", ["Search incidents", "opened by %(who)s", "%(num)s lines", "Write `/heal why`."])
def test_the_pseudo_locale_is_longer_and_keeps_holes_and_code(message):
    text = disguised(message)
    words = re.sub(r"%\(\w+\)s|`.*`", "", message)
    assert len(text) - len(message) >= 0.35 * len(words)
    assert all(part in text for part in ("%(who)s", "%(num)s", "`/heal why`") if part in message)
    assert "e" not in text.replace("%(num)s", "").replace("%(who)s", "").replace("/heal why", "")


@pytest.mark.parametrize(
    ("language", "number", "percent", "day", "several"),
    [
        ("en", "12,345.5", "12.5%", "Nov 21, 2026", "a, b, and c"),
        ("es", "12.345,5", "12,5\xa0%", "21 nov 2026", "a, b y c"),
        ("fr", "12\u202f345,5", "12,5\xa0%", "21 nov. 2026", "a, b et c"),
        ("de", "12.345,5", "12,5\xa0%", "21.11.2026", "a, b und c"),
        ("ja", "12,345.5", "12.5%", "2026/11/21", "a、b、c"),
        ("zh", "12,345.5", "12.5%", "2026年11月21日", "a、b和c"),
    ],
)
def test_numbers_and_days_are_written_as_the_language_does(language, number, percent, day, several):
    assert formats.number(12_345.5, language) == number
    assert formats.percent(0.125, language, 1) == percent
    assert formats.date(AT, language) == day
    assert formats.list("abc", language) == several


def test_a_time_is_told_in_the_readers_zone_which_is_named():
    assert formats.datetime(AT, "en") == "Nov 21, 2026, 6:49:01\u202fPM UTC"
    assert formats.datetime(AT, "de", ZoneInfo("Europe/Berlin")) == "21.11.2026, 19:49:01 MEZ"
    assert formats.date(AT, "en", ZoneInfo("Asia/Tokyo")) == "Nov 22, 2026"
    assert formats.time(AT, "fr", ZoneInfo("Asia/Tokyo")) == "03:49"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (59.6, "1 min"),
        (3_600, "1 h"),
        (3_605, "1 h"),
        (3_725, "1 h 2 min"),
        (90_061, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, told):
    assert formats.duration(seconds, "en").replace("\xa0", " ") == told


def test_a_duration_has_the_languages_own_units():
    assert formats.duration(90_061, "ja") == "1日 1時間"
    assert formats.duration(90_061, "fr") == "1\xa0j 1\xa0h"

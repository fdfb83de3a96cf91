"""Which languages there are, and which one a reader gets."""

import re
from collections.abc import Mapping

from babel import Locale

DEFAULT = "en"
PSEUDO = "en-XA"  # English in disguise, for tests of layouts; offered to nobody
LANGUAGES: Mapping[str, str] = {
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "de": "Deutsch",
    "ja": "日本語",
    "zh": "简体中文",
}

_LOCALES = {"zh": "zh_Hans", PSEUDO: DEFAULT}
_TAGS = {"zh": "zh-Hans"}
_LENGTH = 1_000  # a header with more than this is nobody's list of languages
_PART = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


def negotiate(accept_language: str | None, chosen: str | None = None) -> str:
    """The language that was chosen, else the best of the Accept-Language header that we have, else English."""
    if chosen is not None and (chosen in LANGUAGES or chosen == PSEUDO):
        return chosen
    wanted: list[tuple[float, str]] = []
    for part in (accept_language or "")[:_LENGTH].split(","):
        match = _PART.fullmatch(part)
        if match:
            wanted.append((float(match[2] or 1), match[1]))
    for quality, name in sorted(wanted, key=lambda one: -one[0]):
        code = name if name == PSEUDO else name.partition("-")[0].lower()
        if quality > 0 and (code in LANGUAGES or code == PSEUDO):
            return code
    return DEFAULT


def tag(language: str) -> str:
    """The language for HTML's `lang` (BCP 47)."""
    return _TAGS.get(language, language)


def locale(language: str) -> Locale:
    """CLDR's locale of a language; English for one that is not known."""
    known = language in LANGUAGES or language in _LOCALES
    return Locale.parse(_LOCALES.get(language, language) if known else DEFAULT)

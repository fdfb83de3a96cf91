"""The words of one language: gettext's catalogue, read from its `.po` file at first use."""

import gettext
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from markupsafe import Markup

from app.i18n.languages import DEFAULT, LANGUAGES, PSEUDO
from app.i18n.pseudo import disguised
from app.i18n.retell import retell

DOMAIN = "heal"
LOCALES = Path(__file__).parent / "locales"


def po_file(language: str) -> Path:
    return LOCALES / language / "LC_MESSAGES" / f"{DOMAIN}.po"


class _Disguised(gettext.NullTranslations):
    def gettext(self, message: str) -> str:
        return disguised(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return disguised(msgid1 if n == 1 else msgid2)


@dataclass(frozen=True, slots=True)
class Catalog:
    """Messages are whole English sentences with named holes, `%(name)s`; what is not translated stays English.

    Without values a message is given back as it is, holes included, which is what Jinja's new-style gettext asks for.
    `ngettext` fills `%(num)s` with the number; another form of it may be given as `num`.
    """

    language: str
    _words: gettext.NullTranslations = field(repr=False, compare=False)

    def gettext(self, message: str, /, **values: object) -> str:
        text = self._words.gettext(message) if message else ""  # the entry of "" is the catalogue's header
        return text % values if values else text

    def ngettext(self, one: str, many: str, n: int, /, **values: object) -> str:
        return self.form(one, many, n) % {"num": n, **values}

    def form(self, one: str, many: str, n: int) -> str:
        """The plural form for `n`, with its holes."""
        return self._words.ngettext(one, many, n)

    def retell(self, text: str, say: Callable[..., str] | None = None) -> str:
        """A sentence that the bot wrote down in English, in this language where it is a known one.

        Values are taken over as they are: escape the whole, or give a `say(message, **values)` that escapes them.
        """
        return text if self.language == DEFAULT else retell(text, say or self.gettext)

    def html(self) -> Mapping[str, Callable[..., Markup]]:
        """`_`, `gettext` and `ngettext` for an autoescaped template that uses new-style gettext: values are escaped."""

        def gettext(message: str, /, **values: object) -> Markup:
            return Markup(self.gettext(message)) % values  # noqa: S704 -- a translation is our text

        def ngettext(one: str, many: str, n: int, /, **values: object) -> Markup:
            return Markup(self.form(one, many, n)) % {"num": n, **values}  # noqa: S704 -- as above

        return {"_": gettext, "gettext": gettext, "ngettext": ngettext}


@lru_cache(maxsize=len(LANGUAGES) + 1)
def _catalog(language: str) -> Catalog:
    if language == PSEUDO:
        return Catalog(language, _Disguised())
    if language == DEFAULT:
        return Catalog(language, gettext.NullTranslations())
    return Catalog(language, _read(po_file(language)))


def catalog(language: str) -> Catalog:
    """The words of `language`; English for a language that we have not."""
    return _catalog(language if language in LANGUAGES or language == PSEUDO else DEFAULT)


def _read(file: Path) -> gettext.NullTranslations:
    """The file as gettext wants it, compiled in memory; a message marked fuzzy is not used."""
    compiled: Any = io.BytesIO()
    with file.open("rb") as text:
        write_mo(compiled, read_po(text, abort_invalid=True))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)

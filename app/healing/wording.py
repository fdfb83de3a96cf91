"""One language's words for Markdown: the sentences are ours, whatever stands in them is masked and neutralised."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from app.i18n import DEFAULT, Catalog, catalog, formats
from app.i18n.retell import word
from app.security.markdown import Markdown, clean, code_span, inline, shorten
from app.security.masking import mask


@dataclass(frozen=True, slots=True)
class Wording:
    """`markdown` and `nmarkdown` give Markdown, `gettext` and `ngettext` plain text; `told` and `told_plainly` tell
    again what was written down in English, and leave as it is what they do not know."""

    language: str
    catalog: Catalog

    def markdown(self, message: str, /, **values: object) -> Markdown:
        return fill(self.catalog.gettext(message), values)

    def nmarkdown(self, one: str, many: str, n: int, /, **values: object) -> Markdown:
        return fill(self.catalog.form(one, many, n), {"num": n, **values})

    def gettext(self, message: str, /, **values: object) -> str:
        return self.catalog.gettext(message, **values)

    def ngettext(self, one: str, many: str, n: int, /, **values: object) -> str:
        return self.catalog.ngettext(one, many, n, **values)

    def told(self, text: object) -> str:
        """Markdown where the sentence is a known one; else the text, which is yet to be neutralised."""
        whole = "" if text is None else str(text)
        return whole if self.language == DEFAULT else self.catalog.retell(whole, self.markdown)

    def told_plainly(self, text: object) -> str:
        return self.catalog.retell("" if text is None else str(text))

    def word(self, kind: str, value: object) -> str:
        """What people call a value of an enumeration, such as an incident's state: Markdown where it is one of ours."""
        called = word(kind, str(value))
        return str(value) if called is None else Markdown(self.catalog.gettext(called))

    def percent(self, share: float) -> Markdown:
        return Markdown(formats.percent(share, self.language))


@lru_cache(maxsize=16)
def wording(language: str) -> Wording:
    words = catalog(language)
    return Wording(words.language, words)


def fill(text: str, values: Mapping[str, object]) -> Markdown:
    """Our own Markdown with values put in: between backticks as code, elsewhere as plain words, neutralised."""
    if not values:
        return Markdown(text)
    shown = {name: output(value) for name, value in values.items()}
    bare = {name: told(value, 300) for name, value in values.items()}
    parts = text.split("`")
    return Markdown("".join(code_span(part % bare) if at % 2 else part % shown for at, part in enumerate(parts)))


def output(value: object) -> str:
    """What a template's `{{ }}` gives: Markdown as it is, all else as one neutralised line."""
    if isinstance(value, Markdown):
        return value
    return "" if value is None else inline(told(value, 600), 600)


def flat(text: str) -> str:
    """One line for places that GitHub shows as they are: titles and annotations."""
    return mask(" ".join(clean(text[:8_192]).split()))


def told(value: object, limit: int) -> str:
    """Masked, and not much longer than will be shown: a secret is masked whole before the text is cut."""
    return mask(clean(str(value)[: limit + 4_096]))


def code(value: object) -> Markdown:
    return code_span(shorten(told(value, 300), 300))

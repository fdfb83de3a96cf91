"""The `.po` files: gather what the sources say, keep the files in step, and find what is wrong with them.

A file holds no dates and no line numbers, so that a change of it shows changed words and nothing else.
"""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.plurals import get_plural
from babel.messages.pofile import read_po, write_po

from app.i18n.catalogs import po_file
from app.i18n.languages import DEFAULT, LANGUAGES, locale, tag
from app.i18n.retell import SENTENCES, messages

ROOT = Path(__file__).resolve().parents[2]
TRANSLATED = tuple(language for language in LANGUAGES if language != DEFAULT)

_KEYWORDS: Mapping[str, Any] = {
    **dict.fromkeys(("_", "gettext", "t", "markdown", "N_")),
    **dict.fromkeys(("ngettext", "nt", "nmarkdown"), (1, 2)),
}
_JINJA = {
    "newstyle_gettext": "true",
    "trimmed": "true",
    "silent": "false",
    "extensions": "jinja2.ext.do,jinja2.ext.loopcontrols",
}
_METHODS: Mapping[str, tuple[str, dict[str, str]]] = {
    ".py": ("python", {}),
    ".html": ("jinja2.ext:babel_extract", _JINJA),
    ".j2": ("jinja2.ext:babel_extract", {**_JINJA, "trim_blocks": "true", "lstrip_blocks": "true"}),
}
_HOLE = re.compile(r"%\(([a-z][a-z0-9_]*)\)s")
_CODE = re.compile(r"`[^`]*`")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|&[A-Za-z]+;|&#")
_WIDTH = 110
_OPTIONAL = {"num"}  # "one line" may say its number in words


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong with a message; `language` is "" where the source itself is at fault."""

    language: str
    message: str
    why: str

    def __str__(self) -> str:
        return f"{self.language or 'source'}: {self.message!r} {self.why}"


def extract(root: Path = ROOT / "app") -> Catalog:
    """Every message that templates, Python sources and the known sentences use, by file."""
    found = Catalog(fuzzy=False)
    for file in sorted(root.rglob("*")):
        where = file.relative_to(root.parent).as_posix()
        if file == SENTENCES:
            for line, sentence in enumerate(messages(), start=1):
                found.add(sentence, None, [(where, line)])
        elif file.suffix in _METHODS and file.is_file():
            method, options = _METHODS[file.suffix]
            for line, message, comments, context in extract_from_file(
                method, file, _KEYWORDS, comment_tags=("Translators:",), options=options, strip_comment_tags=True
            ):
                found.add(message, None, [(where, line)], auto_comments=comments, context=context)
    return found


def read(language: str) -> Catalog:
    """The file of a language; an empty catalogue where there is none yet."""
    file = po_file(language)
    if not file.exists():
        return Catalog(locale=locale(language), fuzzy=False)
    with file.open("rb") as text:
        return read_po(text, locale=locale(language), abort_invalid=True)


def write(language: str, catalog: Catalog) -> None:
    body = io.BytesIO()
    write_po(body, catalog, _WIDTH, omit_header=True, sort_by_file=True, ignore_obsolete=True, include_lineno=False)
    plural = get_plural(locale(language))
    header = (
        'msgid ""',
        'msgstr ""',
        f'"Language: {tag(language)}\\n"',
        '"MIME-Version: 1.0\\n"',
        '"Content-Type: text/plain; charset=utf-8\\n"',
        '"Content-Transfer-Encoding: 8bit\\n"',
        f'"Plural-Forms: nplurals={plural.num_plurals}; plural={plural.plural_expr};\\n"',
    )
    file = po_file(language)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("\n".join([*header, "", ""]).encode() + body.getvalue().rstrip() + b"\n")


def update(language: str, found: Catalog, words: Mapping[str, str | Sequence[str]] | None = None) -> None:
    """Bring the file in step with the sources: translations are kept, `words` added, what is not used is dropped."""
    known, fresh = read(language), Catalog(locale=locale(language), fuzzy=False)
    for message in _messages(found):
        old = known.get(message.id, message.context)
        new = (words or {}).get(_key(message))
        string: Any = old.string if old is not None and old.pluralizable == message.pluralizable else None
        if new is not None:
            string = tuple([new] if isinstance(new, str) else new) if message.pluralizable else new
        flags = old.flags & {"fuzzy"} if old is not None and new is None else set()
        fresh.add(
            message.id,
            string,
            message.locations,
            message.flags | flags,
            message.auto_comments,
            old.user_comments if old is not None else (),
            context=message.context,
        )
    write(language, fresh)


def missing(language: str, found: Catalog) -> list[dict[str, Any]]:
    """What is still to be translated: {message, plural, forms, where, comment}; `forms` are how many it takes."""
    known = read(language)
    forms = get_plural(locale(language)).num_plurals
    rows = []
    for message in _messages(found):
        old = known.get(message.id, message.context)
        if old is not None and not old.fuzzy and all(_forms(old)) and old.pluralizable == message.pluralizable:
            continue
        row: dict[str, Any] = {"message": _key(message)}
        if message.pluralizable:
            row |= {"plural": message.id[1], "forms": forms}
        row["where"] = list(dict.fromkeys(name for name, _ in message.locations))
        if message.auto_comments:
            row["comment"] = " ".join(message.auto_comments)
        rows.append(row)
    return rows


def check(found: Catalog) -> list[Mistake]:
    """What is wrong with the messages themselves, and with each language's file."""
    mistakes = [Mistake("", _key(message), why) for message in _messages(found) for why in _wrong_source(message)]
    for language in TRANSLATED:
        known = read(language)
        for message in _messages(found):
            old = known.get(message.id, message.context)
            if old is None:
                mistakes.append(Mistake(language, _key(message), "is not in the file: run `python -m app.i18n update`"))
            else:
                mistakes += [Mistake(language, _key(message), why) for why in _wrong(message, old, known.num_plurals)]
        used = {(_key(message), message.context) for message in _messages(found)}
        obsolete = [message for message in _messages(known) if (_key(message), message.context) not in used]
        obsolete += known.obsolete.values()
        mistakes += [Mistake(language, _key(message), "is not used any more") for message in obsolete]
        if known.num_plurals != get_plural(locale(language)).num_plurals:
            mistakes.append(Mistake(language, "", f"says nplurals={known.num_plurals}"))
    return mistakes


def keys(found: Catalog) -> set[str]:
    """What the messages are known by in `missing` and `fill`."""
    return {_key(message) for message in _messages(found)}


def _messages(catalog: Catalog) -> Iterator[Message]:
    return (message for message in catalog if message.id)


def _key(message: Message) -> str:
    """What a message is known by: its text, of two forms the first."""
    return str(message.id if isinstance(message.id, str) else message.id[0])


def _forms(message: Message) -> list[str]:
    """The forms of the translation; an empty one where there is none."""
    string = message.string
    return [string or ""] if isinstance(string, str) or string is None else list(string)


def _holes(text: str) -> set[str]:
    return set(_HOLE.findall(text))


def _wrong_source(message: Message) -> Iterator[str]:
    ids = [message.id] if isinstance(message.id, str) else list(message.id)
    for text in ids:
        yield from _wrong_text(text)
        if text != text.strip():
            yield "begins or ends with space: put it outside the message"
    if len({frozenset(_holes(text) - _OPTIONAL) for text in ids}) > 1:
        yield "has other holes in the plural"


def _wrong_text(text: str) -> Iterator[str]:
    bare = _HOLE.sub("", text)
    if _MARKUP.search(text):
        yield "has markup in it"
    if "%" in bare.replace("%%", "") or ("%%" in bare and bare == text):
        yield "has a % that is no hole: give the share as a value, or write %% beside a hole"
    if any(ord(character) < 32 for character in text):
        yield "has a line break or control character in it"


def _wrong(message: Message, translated: Message, plurals: int) -> Iterator[str]:
    forms = _forms(translated)
    if translated.fuzzy:
        yield "is marked fuzzy"
    if translated.pluralizable != message.pluralizable or (message.pluralizable and message.id != translated.id):
        yield "has another plural in the source: run `python -m app.i18n update`"
        return
    if not all(forms):
        yield "is not translated"
        return
    if message.pluralizable and len(forms) != plurals:
        yield f"has {len(forms)} plural forms, not {plurals}"
    source = message.id if isinstance(message.id, str) else message.id[-1]
    for index, text in enumerate(forms):
        yield from _wrong_text(text)
        spare = _OPTIONAL if message.pluralizable and index < len(forms) - 1 else set()
        if _holes(text) - spare != _holes(source) - spare:
            yield f"has the holes {sorted(_holes(text))}, not {sorted(_holes(source))}"
        if text != text.strip():
            yield "begins or ends with space"
        if sorted(_CODE.findall(text)) != sorted(_CODE.findall(source)):
            yield "has other code between backticks"

"""What the bot wrote down in English, told in another language.

Findings, decisions and plans are kept as English sentences. `sentences.toml` holds their templates: a text that one of
them matches is told by its translation, with the same values; any other text stands as it is.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import re2

SENTENCES = Path(__file__).parent / "sentences.toml"

_HOLE = re.compile(r"%\(([a-z][a-z0-9_]*)\)s")
_LONGEST = 2_000  # characters; a longer text is no sentence of ours
_MEMORY = 64 * 2**20
_PROSE = frozenset({"origin", "reason", "cause"})  # the holes that hold sentences or phrases
_DEEPEST = 2


@lru_cache(maxsize=1)
def _file() -> Mapping[str, Any]:
    return tomllib.loads(SENTENCES.read_text())


def sentences() -> tuple[str, ...]:
    """The templates as they stand in the file."""
    return tuple(dict.fromkeys(one for section in _file()["sentences"].values() for one in section))


def messages() -> tuple[str, ...]:
    """All that the file has for translators: the sentences, and what the values of enumerations are called."""
    values = (called for kind in _file()["values"].values() for called in kind.values())
    return tuple(dict.fromkeys((*sentences(), *values)))


def word(kind: str, value: str) -> str | None:
    """What people call a value of an enumeration, in English; None where the file has no word for it."""
    called: str | None = _file()["values"].get(kind, {}).get(value)
    return called


def retell(text: str, say: Callable[..., str]) -> str:
    """`text` by `say`, which is a catalogue's gettext. Values are taken over as they are: escape what comes out."""
    return _retold(text, say, _DEEPEST)


def _retold(text: str, say: Callable[..., str], depth: int) -> str:
    found = _recognised(text)
    if found is None:
        return text
    template, values = found
    return say(template, **{name: _value(name, value, say, depth) for name, value in values.items()})


def _value(name: str, value: str, say: Callable[..., str], depth: int) -> str:
    """Most values are names. One that is a sentence again is told again, one of an enumeration by its word."""
    called = word(name, value)
    if called is not None:
        return say(called)
    return _retold(value, say, depth - 1) if depth and name in _PROSE else value


def recognised(text: str) -> str | None:
    """The template that `text` was made from, None where it is none of the file's."""
    found = _recognised(text)
    return found[0] if found else None


@lru_cache(maxsize=4_096)  # the same few sentences stand on every page
def _recognised(text: str) -> tuple[str, Mapping[str, str]] | None:
    return _known().match(text) if 0 < len(text) <= _LONGEST else None


@lru_cache(maxsize=1)
def _known() -> "_Known":
    return _Known(sentences())


class _Known:
    """All templates as one automaton, which reads a text once; the one with the most words of its own wins."""

    def __init__(self, templates: Sequence[str]) -> None:
        self._templates = sorted(templates, key=lambda one: (-len(_HOLE.sub("", one)), one))
        patterns = [_pattern(one) for one in self._templates]
        self._patterns = [re2.compile(pattern) for pattern in patterns]
        options = re2.Options()
        options.max_mem = _MEMORY
        self._set = re2.Set.FullMatchSet(options)
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def match(self, text: str) -> tuple[str, Mapping[str, str]] | None:
        hits = self._set.Match(text)
        if not hits:
            return None
        best = min(hits)
        return self._templates[best], self._patterns[best].fullmatch(text).groupdict()


def _pattern(template: str) -> str:
    """A template as a regular expression; of a hole that stands twice the first counts."""
    pieces, end, seen = ["(?s)"], 0, set()
    for hole in _HOLE.finditer(template):
        name = hole[1]
        pieces += [re2.escape(template[end : hole.start()].replace("%%", "%"))]
        pieces += [".+?" if name in seen else f"(?P<{name}>.+?)"]
        seen.add(name)
        end = hole.end()
    return "".join([*pieces, re2.escape(template[end:].replace("%%", "%"))])

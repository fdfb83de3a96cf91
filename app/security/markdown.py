"""Untrusted text in Markdown: it is shown, and does nothing.

Everything that comes from a log, a repository or a person goes through `inline`, `cell` or `code_block` before it
stands in a text that GitHub renders. Inside code GitHub links no mention, reference or address, so whatever is not
plainly a word is shown as code.
"""

import re
import unicodedata
from urllib.parse import quote

_ANSI = re.compile(r"\x1b(?:\[[0-?]*+[ -/]*+[@-~]?|\][^\x07\x1b\n]*+(?:\x07|\x1b\\)?|[@-Z\\^_]?)")
_UNUSUAL = re.compile(r"[^\n\t\x20-\x7e]")
_RUN = re.compile(r"`+")
_WORD = re.compile(r"[(\"“]?[^\W\d_]+(?:['’-][^\W\d_]+)*[\"”]?\)?[.,:;!?…]?")
_NUMBER = re.compile(r"[0-9]{1,6}(?:[.,][0-9]{1,6})?%?,?")
_HEX = re.compile(r"[0-9a-fA-F]{7,}")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:-]{1,255}(?:[/?#][!-~]{0,1500})?")
_SAFE_IN_ADDRESS = ":/?#=&%+,;~@-._"
_SHORT_DASHES = frozenset({"–", "—", "…"})


class Markdown(str):
    """Text that is ready to be rendered: written by us, or made harmless."""

    __slots__ = ()


def clean(text: str) -> str:
    """Without terminal colours, control, bidirectional and invisible characters; line ends are line feeds."""
    text = _ANSI.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return _UNUSUAL.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    category = unicodedata.category(match[0])
    if category in ("Zl", "Zp"):
        return "\n"
    if category == "Zs":
        return " "
    return "" if category[0] == "C" else match[0]


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, with an ellipsis where something is missing."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def inline(text: str, limit: int = 300) -> Markdown:
    """One line that carries no markup: plain words stay, everything else is shown as code."""
    pieces: list[str] = []
    odd: list[str] = []
    for word in shorten(" ".join(clean(text[: 4 * limit]).split()), limit).split():
        if _is_plain(word):
            if odd:
                pieces.append(_shown_as_code(odd))
                odd = []
            pieces.append(word)
        else:
            odd.append(word)
    if odd:
        pieces.append(_shown_as_code(odd))
    return Markdown(" ".join(pieces))


def _shown_as_code(words: list[str]) -> str:
    """The words as one code span; punctuation that ends them stays outside."""
    text = " ".join(words)
    bare = text.rstrip(".,:;!?")
    return code_span(bare) + text[len(bare) :] if bare else code_span(text)


def cell(text: str, limit: int = 300) -> Markdown:
    """`inline` for a table: a pipe does not end the cell."""
    return Markdown(inline(text, limit).replace("|", "\\|"))


def code_span(text: str) -> Markdown:
    """One line as code, whatever backticks it contains."""
    text = " ".join(clean(text).split())
    if not text:
        return Markdown("")
    fence = "`" * (max((len(run) for run in _RUN.findall(text)), default=0) + 1)
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return Markdown(f"{fence}{pad}{text}{pad}{fence}")


def code_block(text: str, *, language: str = "text", limit: int = 20_000, line_limit: int = 400) -> Markdown:
    """A fenced block whose fence no run of backticks in the text can close. `limit` caps the characters shown."""
    kept: list[str] = []
    room = limit
    lines = clean(text[: 4 * limit]).strip("\n").split("\n")
    for line in lines:
        line = shorten(line, line_limit)
        room -= len(line) + 1
        if room < 0:
            kept.append("… (cut)")
            break
        kept.append(line)
    body = "\n".join(kept)
    fence = "`" * max(3, max((len(run) for run in _RUN.findall(body)), default=0) + 1)
    return Markdown(f"{fence}{language}\n{body}\n{fence}")


def link(label: str, url: str) -> Markdown:
    """A link to an address of GitHub's or ours; only its label where the address is no plain http(s) address."""
    text = label if isinstance(label, Markdown) else inline(label)
    if not _ADDRESS.fullmatch(url):
        return text
    return Markdown(f"[{text}]({quote(url, safe=_SAFE_IN_ADDRESS)})")


def _is_plain(word: str) -> bool:
    if word in _SHORT_DASHES or _NUMBER.fullmatch(word):
        return True
    return bool(_WORD.fullmatch(word)) and not _HEX.fullmatch(word.strip('"“”().,:;!?'))

"""English in disguise: every letter accented, 40 % longer, in brackets. What still looks plain is not translated."""

import re

_LETTERS = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "ÅƁÇÐÉƑĜĤÎĴĶĻṀÑÖÞǪŔŠŢÛṼŴẊÝŽåƀçðéƒĝĥîĵķļɱñöþǫŕšţûṽŵẋýž",
)
# holes, code between backticks and addresses are not words
_KEPT = re.compile(r"%\([a-z_]+\)[a-z]|%%|`[^`]*`|https?://\S+")
_STRETCH = 1.4


def disguised(message: str) -> str:
    """`message` with its holes intact; leading and trailing space stay outside the brackets."""
    words = message.strip()
    if not words:
        return message
    pieces: list[str] = []
    end = 0
    for kept in _KEPT.finditer(words):
        pieces += [_accented(words[end : kept.start()]), kept[0]]
        end = kept.end()
    pieces.append(_accented(words[end:]))
    text = "".join(pieces)
    missing = max(0, round(len(_KEPT.sub("", words)) * _STRETCH) - len(_KEPT.sub("", text)) - len("[]"))
    longer = f"[{text}{_padding(missing)}]"
    return message.replace(words, longer, 1)


def _accented(text: str) -> str:
    return text.translate(_LETTERS)


def _padding(length: int) -> str:
    """Made of words as long as German ones, so that a line can still break."""
    return (" " + "łöñĝëŕẅöŕð " * (length // 11 + 1))[:length].rstrip()

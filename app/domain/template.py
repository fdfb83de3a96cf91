"""What stays of a line of a log when the same job runs again, elsewhere and later."""

import re
from hashlib import blake2b

CHARACTERS = 500
_NOTHING = re.compile(r"(?<![\w.,:/-])0(?![\w.,:%/-])")
_DIGITS = str.maketrans("123456789", "000000000")
_HASH = re.compile(r"\b(?:0[xX][0a-fA-F]+|(?=[a-fA-F]*0)[0a-fA-F]{7,64}(?:-[0a-fA-F]{4,12})*)\b")
_UNIT = r"[KMGTPkmgtp]?i?[Bb](?:/s)?|it/s|s/it|ms|us|µs|ns|s|secs?|seconds?|m|min|minutes?|h|hours?"
_ONE = rf"0(?:[-.,:T]?0+)*Z?(?: ?(?:{_UNIT})\b|%)?"
_NUMBER = re.compile(rf"{_ONE}(?: {_ONE})*")
_PLURAL = re.compile(r"(0 [a-z]{2,}?)s\b")
_DIRECTORY = re.compile(r"[/\\](?:[\w.@+~-]+[/\\])+")
_RULE = re.compile(r"[-=_*.#~\u2500-\u259f]{3,}")


def template(line: str) -> str:
    """The line without timestamps, hashes, addresses, directories, numbers with their units, and rules.

    Lines that differ only in these have the same template; but `0 errors` is not `3 errors`. Only the first 500
    characters count.
    """
    text = _NOTHING.sub("no", line[:CHARACTERS]).translate(_DIGITS)
    if "/" in text or "\\" in text:
        text = _DIRECTORY.sub("…/", text)
    if "0" in text:
        text = _PLURAL.sub(r"\1", _NUMBER.sub("0", _HASH.sub("#", text)))
    return " ".join(_RULE.sub("--", text).split())


def template_hash(line: str) -> int:
    """64 bits of the line's template, the same in every process."""
    return int.from_bytes(blake2b(template(line).encode("utf-8", "replace"), digest_size=8).digest())

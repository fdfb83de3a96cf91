"""Raw log lines: bytes in, batches of lines out, each cut to size and without what a progress bar overwrote.

A line ends at `\\n` and nowhere else, so numbers are those of the file. Nothing is decoded before somebody asks for it.
"""

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

LINE_CHARACTERS = 4_000
LINE_BYTES = LINE_CHARACTERS * 4 + 100  # the cut text in UTF-8, and the timestamp before it
CHUNK_BYTES = 256 * 1024

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z ?")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def batches(stream: BinaryIO) -> Iterator[list[bytes]]:
    """Every line of the stream, in order, many at a time. UTF-16 with its mark is read as text, too."""
    held = bytearray()
    for chunk in _chunks(stream):
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            if held:
                _hold(held, lines[0])
                lines[0] = bytes(held)
                held.clear()
            if b"\r" in chunk:
                lines = [_last_written(line) if b"\r" in line else line for line in lines]
            if max(map(len, lines)) > LINE_BYTES:
                lines = [line[:LINE_BYTES] for line in lines]
            yield lines
        _hold(held, rest)
    if held:
        yield [bytes(held)]


def plain(raw: bytes) -> str:
    """The text of a raw line, cut, without timestamp, colour and control characters."""
    text = _last_written(raw).decode("utf-8", "replace")
    if text.isspace() or not text:
        return ""
    text = text.lstrip("\ufeff")
    stamp = _TIMESTAMP.match(text)
    if stamp:
        text = text[stamp.end() :].lstrip("\ufeff")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text[:LINE_CHARACTERS].rstrip()


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    first = stream.read(CHUNK_BYTES)
    coding = _UTF16.get(first[:2])
    if coding is None:
        while first:
            yield first
            first = stream.read(CHUNK_BYTES)
        return
    decoder = codecs.getincrementaldecoder(coding)("replace")
    for chunk in chain((first[2:],), iter(lambda: stream.read(CHUNK_BYTES), b"")):
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _last_written(line: bytes) -> bytes:
    """What is seen of a line that `\\r` rewrites."""
    return line[line.rstrip(b"\r").rfind(b"\r") + 1 :]


def _hold(held: bytearray, piece: bytes) -> None:
    """Take one more piece of an unfinished line, which may be endless."""
    rewrite = piece.rstrip(b"\r").rfind(b"\r")
    if rewrite >= 0 or (piece.strip(b"\r") and held.endswith(b"\r")):
        held.clear()
    room = LINE_BYTES - len(held)
    if room > 0:
        held += piece[rewrite + 1 :][:room]

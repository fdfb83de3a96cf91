"""Reads a log as it lies on a disk, plain, gzipped or zipped.

One job's, GitHub's archive of a run, what GitHub's command line printed, or what any other program did.
"""

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, groupby
from typing import BinaryIO, cast

from app.adapters.github.loglines import CHUNK_BYTES, batches
from app.adapters.github.logs import LogReader, templates
from app.adapters.github.logzip import read_run_zip, read_zip_lines
from app.domain.errors import Malformed
from app.domain.evidence import Job, JobLog

IN_MEMORY_BYTES = 8_000_000
MOST_BYTES = 1_000_000_000
MOST_JOBS = 200

_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_UNNAMED_STEP = b"UNKNOWN STEP"
# `gh run view --log`: job, step and line, with tabs between them. A mark of byte order before the line may have gone
# through a Windows code page.
_TABBED = re.compile(
    rb"(?!\d{4}-\d\d-)([^\t\n]{1,120})\t([^\t\n]{1,200})\t(?:\xe2\x88\xa9\xe2\x95\x97\xe2\x94\x90)?(.*)", re.DOTALL
)


def job_logs(stream: BinaryIO, name: str = "job") -> Iterator[JobLog]:
    """The log of each job in the file, one at a time. `name` is that of the job where the file does not tell.

    How the job ended is left open (`conclusion` is empty). Raises Malformed for an archive that is damaged, and for
    more than 1 GB. Memory stays bounded.
    """
    job = Job(0, name, 0, 1, "", "")
    with _opened(stream) as (archive, text):
        if archive is not None:
            yield from read_run_zip(archive, job)
            return
        lines, tabbed = _tabbed(text)
        if tabbed:
            yield from _jobs(lines, job)
            return
        reader = LogReader()
        for some in lines:
            reader.add(some)
        yield reader.log(job)


def templates_in(stream: BinaryIO) -> frozenset[int]:
    """The hashes of the templates of all lines in the file, whichever job they are of. Raises as `job_logs` does."""
    with _opened(stream) as (archive, text):
        if archive is not None:
            return templates(read_zip_lines(archive))
        lines, tabbed = _tabbed(text)
        return (
            templates([found[3] for found in map(_TABBED.match, some) if found] for some in lines)
            if tabbed
            else templates(lines)
        )


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[tuple[BinaryIO | None, BinaryIO]]:
    """The file as an archive, or else (None, and) as text."""
    head = stream.read(4)
    whole = cast(BinaryIO, _Bounded(stream, head))
    try:
        if head.startswith(_ZIP):
            with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as archive:
                while piece := whole.read(CHUNK_BYTES):
                    archive.write(piece)
                yield cast(BinaryIO, archive), whole
        elif head.startswith(_GZIP):
            with gzip.open(whole) as unpacked:
                yield None, cast(BinaryIO, _Bounded(cast(BinaryIO, unpacked)))
        else:
            yield None, whole
    except (gzip.BadGzipFile, zlib.error, EOFError) as reason:
        raise Malformed(f"The log cannot be unpacked: {reason}") from reason


class _Bounded:
    """A stream with what was already read of it, up to a limit."""

    def __init__(self, stream: BinaryIO, head: bytes = b"") -> None:
        self._stream = stream
        self._head = head
        self._left = MOST_BYTES

    def read(self, size: int = -1) -> bytes:
        if self._head:
            end = size if size >= 0 else len(self._head)
            piece, self._head = self._head[:end], self._head[end:]
        else:
            piece = self._stream.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise Malformed(f"The log is larger than {MOST_BYTES // 1_000_000} MB.")
        return piece


def _tabbed(stream: BinaryIO) -> tuple[Iterator[list[bytes]], bool]:
    """All lines, and whether they are what GitHub's command line prints."""
    lines = batches(stream)
    first = next(lines, [])
    return chain([first], lines), 2 * sum(bool(_TABBED.match(line)) for line in first) > len(first)


def _jobs(lines: Iterable[list[bytes]], job: Job) -> Iterator[JobLog]:
    """The jobs in what GitHub's command line prints. A line without a job belongs to the one before it."""
    readers: dict[bytes, LogReader] = {}
    steps: dict[bytes, bytes] = {}
    where = (job.name.encode(), _UNNAMED_STEP)
    done = 0
    for some in lines:
        placed = []
        for line in some:
            found = _TABBED.match(line)
            if found:
                where = (found[1], found[2])
            placed.append((where, found[3] if found else line))
        for (name, step), group in groupby(placed, key=lambda item: item[0]):
            own = [line for _, line in group]
            if name in readers or len(readers) < MOST_JOBS:
                reader = readers.setdefault(name, LogReader())
                reader.skip_to(done)
                if step != steps.get(name, _UNNAMED_STEP):
                    reader.step(step.decode("utf-8", "replace"))
                steps[name] = step
                reader.add(own)
            done += len(own)
    for name, reader in readers.items():
        yield reader.log(replace(job, name=name.decode("utf-8", "replace")))

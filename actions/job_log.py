"""What a job wrote, line by line, as its program wrote it."""

import re
from collections.abc import Iterator

from app.domain.errors import Refused
from app.domain.evidence import Job
from app.ports.forge import Forge

MOST_BYTES = 8_000_000
LONGEST_LINE = 8_000  # bytes; what follows is passed over

STAMP = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT[\d:.]{8,20}Z ")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def lines_of(forge: Forge, job: Job) -> Iterator[str]:
    """The log's lines, without times and colours: of a long log its first 8 MB. None where GitHub has none any more."""
    try:
        with forge.job_log(job) as log:
            left, goes_on = MOST_BYTES, False
            while left > 0 and (raw := log.readline(LONGEST_LINE)):
                left -= len(raw)
                if not goes_on:  # the rest of a longer line begins in the middle of a word
                    text = _COLOUR.sub("", STAMP.sub("", raw.decode("utf-8", "replace").rstrip()))
                    yield from text.splitlines()
                goes_on = not raw.endswith(b"\n")
    except Refused:
        return

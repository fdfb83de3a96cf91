"""What actions read of a job's log."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from actions.job_log import LONGEST_LINE, MOST_BYTES, lines_of
from app.domain.errors import Refused
from app.domain.evidence import Job
from app.ports.forge import Forge

JOB = cast(Job, None)


class Logged:
    """A forge that knows one log; None: it has expired."""

    def __init__(self, log: bytes | None) -> None:
        self._log = log

    @contextmanager
    def job_log(self, job: Job) -> Iterator[BinaryIO]:
        if self._log is None:
            raise Refused("the log has expired")
        yield io.BytesIO(self._log)


def told(log: bytes | None) -> list[str]:
    return list(lines_of(cast(Forge, Logged(log)), JOB))


def test_times_and_colours_are_not_the_programs() -> None:
    first = b"\xef\xbb\xbf2026-11-21T10:00:00.1234567Z \x1b[31mFAILED\x1b[0m a.py::test_b\r\n"
    assert told(first + b"2026-11-21T10:00:01.1Z loss nan\n") == ["FAILED a.py::test_b", "loss nan"]


def test_each_state_of_a_progress_bar_is_a_line() -> None:
    assert told(b"step 1\rsaved a.ckpt\rloss nan\n") == ["step 1", "saved a.ckpt", "loss nan"]


def test_no_line_begins_in_the_middle_of_another() -> None:
    cut = b"x" * (LONGEST_LINE - 5) + b" runs/last.ckpt\nnext\n"
    assert told(cut)[1:] == ["next"]
    assert "last.ckpt" not in "\n".join(told(cut))


def test_no_log_is_read_without_end() -> None:
    line = b"y" * 99 + b"\n"
    assert len(told(line * (MOST_BYTES // 50))) == MOST_BYTES // 100


def test_a_log_that_has_expired_has_no_lines() -> None:
    assert told(None) == []

"""A job's whole log, as it is at GitHub at this moment: fetched when somebody looks, kept for a minute, shown in pages.

Lines are plain text (no timestamps, colours and control characters) and keep their numbers in the raw log. They are
held packed. Secrets are masked in whatever leaves: lines, search, download. Private keys, which have many lines, are
masked on the way in.
"""

import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import BinaryIO, TypeVar

from app.adapters.github.loglines import batches, plain
from app.domain.errors import HealError, NotInstalled, Refused
from app.domain.evidence import Job, JobStep
from app.domain.finding import Finding
from app.domain.tenant import Repository
from app.healing.kit import Kit
from app.resilience.brief import Brief
from app.security.markdown import clean
from app.security.masking import mask

T = TypeVar("T")

PAGE = 1_000
MOST_LINES, MOST_CHARACTERS = 500_000, 64 * 1024 * 1024
MOST_ERRORS, MOST_MATCHES, LONGEST_QUERY = 1_000, 10_000, 200
KEPT_S, KEPT, AT_ONCE = 60.0, 6, 3
_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_ENDS = "-----END "
_LONGEST_KEY = 300  # lines
_MARK = re.compile(r"##\[(error|warning|group|endgroup|section|command|debug|notice)\]")


class Missing(StrEnum):
    """Why there is no log."""

    EXPIRED = "expired"
    NO_JOB = "no_job"
    AWAY = "away"
    NOT_INSTALLED = "not_installed"
    BUSY = "busy"


class NoLog(Exception):
    def __init__(self, why: Missing, jobs: Sequence[Job] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.jobs = tuple(jobs)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the job: where its log begins, and how GitHub says that it ended ("" where that is not known)."""

    first_line: int
    name: str
    conclusion: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """`pieces` are its text cut where a search has found something: (text, found). `kind` is GitHub's mark: error,
    warning, group …"""

    number: int
    pieces: tuple[tuple[str, bool], ...]
    kind: str = ""

    @property
    def text(self) -> str:
        return "".join(piece for piece, _ in self.pieces)


@dataclass(frozen=True, slots=True)
class Fold:
    """The lines of one step on a page. `begins`: the step begins on this page."""

    step: Step
    begins: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Matches:
    """The numbers of the lines that a search has found, the first MOST_MATCHES of them."""

    numbers: tuple[int, ...]
    more: bool = False


class Log:
    """`cut`: the log is longer than what is held."""

    def __init__(
        self, job: Job, blocks: Sequence[bytes], total: int, steps: Sequence[Step], errors: Sequence[int], *, cut: bool
    ) -> None:
        self.job = job
        self.total = total
        self.steps = tuple(steps)
        self.errors = tuple(errors)
        self.cut = cut
        self._blocks = tuple(blocks)

    @property
    def first_error(self) -> int | None:
        """Where to begin to read: the first line that GitHub has marked, else the first of the step that failed."""
        failed = next((step.first_line for step in self.steps if step.conclusion == "failure"), None)
        return self.errors[0] if self.errors else failed

    def lines(self, first: int, count: int = PAGE) -> list[str]:
        """Masked."""
        found: list[str] = []
        begin, last = max(1, first), min(self.total, first + count - 1)
        for at in range((begin - 1) // PAGE, (last - 1) // PAGE + 1 if last >= begin else 0):
            block = self._masked(at)
            start = at * PAGE + 1
            found += block[max(0, begin - start) : last - start + 1]
        return found

    def text(self) -> Iterator[str]:
        """All of it, masked, in pieces that end with a line."""
        for at in range(len(self._blocks)):
            yield "\n".join(self._masked(at)) + "\n"

    def search(self, query: str) -> Matches:
        """In what is shown: nobody can feel their way to a secret by searching for its beginning."""
        sought = pattern_of(query)
        if sought is None:
            return Matches(())
        numbers: list[int] = []
        for at, packed in enumerate(self._blocks):
            block = _unpacked(packed)
            if not sought.search(block):
                continue
            found = (
                index
                for index, line in enumerate(block.split("\n"))
                if sought.search(line) and sought.search(mask(line))
            )
            numbers += [at * PAGE + index + 1 for index in found]
            if len(numbers) > MOST_MATCHES:
                return Matches(tuple(numbers[:MOST_MATCHES]), more=True)
        return Matches(tuple(numbers))

    def folds(self, first: int, query: str = "") -> tuple[Fold, ...]:
        """A page of lines by the steps that they belong to."""
        sought = pattern_of(query)
        shown = [_line(first + at, text, sought) for at, text in enumerate(self.lines(first, PAGE))]
        if not shown:
            return ()
        steps = [step for step in self.steps if step.first_line <= first + len(shown) - 1]
        within = [step for at, step in enumerate(steps) if at + 1 == len(steps) or steps[at + 1].first_line > first]
        ends = [step.first_line for step in within[1:]] + [first + len(shown)]
        return tuple(
            Fold(step, step.first_line >= first, tuple(line for line in shown if step.first_line <= line.number < end))
            for step, end in zip(within, ends, strict=True)
        )

    def _masked(self, at: int) -> list[str]:
        return mask(_unpacked(self._blocks[at])).split("\n")


def pattern_of(query: str) -> re.Pattern[str] | None:
    """As it is written, whatever the case; None for nothing to look for."""
    return re.compile(re.escape(query[:LONGEST_QUERY]), re.IGNORECASE) if query.strip() else None


def read(kit: Kit, stream: BinaryIO, job: Job) -> Log:
    """Twice: once for the steps, as the diagnosis reads them, and once for the lines."""
    parts = kit.read_log(stream, job, ()).parts
    stream.seek(0)
    conclusions = {(step.name, step.number): step for step in job.steps}
    steps: list[Step] = []
    for part in sorted(parts, key=lambda one: one.first_line):
        known: JobStep | None = conclusions.get((part.step, part.step_number))
        step = Step(part.first_line, mask(clean(part.step)), known.conclusion if known else "")
        if not steps or steps[-1].name != step.name:
            steps.append(step)
    if not steps or steps[0].first_line > 1:
        steps.insert(0, Step(1, job.name))
    blocks: list[bytes] = []
    errors: list[int] = []
    waiting: list[str] = []
    total = size = 0
    cut = False
    for text in _without_keys(_texts(stream)):
        if total >= MOST_LINES or size >= MOST_CHARACTERS:
            cut = True
            break
        total, size = total + 1, size + len(text)
        waiting.append(text)
        if "##[error]" in text and len(errors) < MOST_ERRORS:
            errors.append(total)
        if len(waiting) == PAGE:
            blocks.append(_packed(waiting))
            waiting = []
    if waiting:
        blocks.append(_packed(waiting))
    return Log(job, blocks, total, steps, errors, cut=cut)


def _texts(stream: BinaryIO) -> Iterator[str]:
    for raw in chain.from_iterable(batches(stream)):
        text = plain(raw)
        # a line separator does not end a line of the file
        yield text if text.isascii() else clean(text).replace("\n", " ")


def _without_keys(texts: Iterator[str]) -> Iterator[str]:
    """The same lines, private keys masked."""
    held: list[str] = []
    for text in texts:
        if not held and not _KEY_BEGINS.search(text):
            yield text
            continue
        held.append(text)
        if _KEY_ENDS in text or len(held) == _LONGEST_KEY:
            yield from mask("\n".join(held)).split("\n")
            held = []
    if held:
        yield from mask("\n".join(held)).split("\n")


class JobLogs:
    """The logs of runs, fetched with the App's own rights: the caller has seen to it that they may be looked at."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._kept: Brief[Log] = Brief(KEPT_S, KEPT)
        self._jobs: Brief[tuple[Job, ...]] = Brief(KEPT_S, 100)
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def jobs(self, repository: Repository, run_id: int, attempt: int) -> tuple[Job, ...]:
        """Raises NoLog."""
        forge = self._kit.app.forge(repository)
        key = (repository.id, run_id, attempt)
        return _asked(lambda: self._jobs.get(key, lambda: tuple(forge.jobs(run_id, attempt))))

    def log(self, repository: Repository, job: Job) -> Log:
        """Raises NoLog."""
        return _asked(lambda: self._kept.get((repository.id, job.id), lambda: self._fetched(repository, job)))

    def _fetched(self, repository: Repository, job: Job) -> Log:
        if not self._free.acquire(timeout=5):
            raise NoLog(Missing.BUSY)
        try:
            with self._kit.app.forge(repository).job_log(job) as stream:
                return read(self._kit, stream, job)
        finally:
            self._free.release()


def job_of(jobs: Sequence[Job], finding: Finding, chosen: int | None) -> Job:
    """The job that was asked for by its number, else the one of the finding. Raises NoLog."""
    wanted = next((job for job in jobs if job.id == chosen), None)
    found = wanted or next((job for job in jobs if job.name == finding.job), None)
    if found is None:
        raise NoLog(Missing.NO_JOB, jobs)
    return found


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except NotInstalled:
        raise NoLog(Missing.NOT_INSTALLED) from None
    except Refused:
        raise NoLog(Missing.EXPIRED) from None
    except HealError:
        raise NoLog(Missing.AWAY) from None


def _line(number: int, text: str, sought: re.Pattern[str] | None) -> Line:
    mark = _MARK.match(text)
    kind = mark[1] if mark else ""
    if sought is None:
        return Line(number, ((text, False),), kind)
    pieces: list[tuple[str, bool]] = []
    end = 0
    for found in sought.finditer(text):
        pieces += [(text[end : found.start()], False), (found[0], True)]
        end = found.end()
    pieces.append((text[end:], False))
    return Line(number, tuple(piece for piece in pieces if piece[0]), kind)


def _packed(lines: Sequence[str]) -> bytes:
    return zlib.compress("\n".join(lines).encode("utf-8", "replace"), 1)


def _unpacked(packed: bytes) -> str:
    return zlib.decompress(packed).decode()

"""Reads job logs as GitHub serves them: timestamps, colours, progress bars and groups in, steps with plain lines out.

Memory stays bounded whatever the size of the log: of a huge step the head, the tail and the surroundings of errors are
kept, of errors that look alike only the first ones. Line numbers are always those of the raw log.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO

import re2

from app.adapters.github.loglines import batches, plain
from app.domain.evidence import Annotation, Job, JobLog, JobStep, LogPart
from app.domain.template import template_hash

TOTAL_LINES = 30_000
TOTAL_BYTES = 10_000_000
HEAD_LINES, WINDOW_LINES, TAIL_LINES = 1_500, 4_000, 5_000
AREA_BYTES = 1_500_000
BEFORE_ERROR, AFTER_ERROR, BEFORE_EXIT = 40, 20, 300
ALIKE, SHAPES, SHAPE_BYTES = 3, 20_000, 150
BLOCKS = 1_000
TEMPLATES, TEMPLATE_BYTES = 200_000, 2_000

_RUN, _POST, _COMPLETE = "##[group]Run ", "Post job cleanup.", "Cleaning up orphan processes"
_EXITS = ("##[error]Process completed with exit code", "##[error]The ")
_NOT_MAIN = ("Set up job", "Set up runner", "Complete job", "Initialize containers", "Stop containers")
_LATIN = re2.Options()
_LATIN.encoding = re2.Options.Encoding.LATIN1  # bytes as they are, whatever text they may be
_MARKS = rb"##\[group\]Run |Post job cleanup\.|Cleaning up orphan processes|##\[error\]"
_NOTABLE = re2.compile(
    rb"(?i)(?:" + _MARKS + rb"|error|exception|traceback"
    rb"|fatal|fail(?:ed|ure|s|ing)?\b|killed|memory|\bnan\b|cannot|can't|could not|couldn't|unable|denied|forbidden"
    rb"|unauthorized|not found|not exist|no such|no module|no space|no matching|timed out|timeout|deadline|panic|abort"
    rb"|segmentation|core dumped|sig(?:kill|segv|term|abrt|bus)|undefined|unresolved|unsatisfiable|incompatible"
    rb"|conflict|mismatch|exceeded|cancel|invalid|illegal|refused|unreachable|assert|unexpected|missing|corrupt"
    rb"|exit(?:ed)? (?:code|status)|rate limit|too many|unhealthy|\bOOM|not supported|unsupported)[^\n]*",
    _LATIN,
)
_GRAVE = re2.compile(
    rb"(?m)(?:" + _MARKS + rb"|Error\b|Exception\b|Traceback|Killed|[Oo]ut of memory|OOM|No space|core dumped"
    rb"|Segmentation|SIG[A-Z]{3}|(?:^|[Z ])(?:ERROR|Error|error|FATAL|Fatal|fatal|FAILED|panic)\b ?:|FAILED|npm ERR"
    rb"|No matching|Could not|exit(?:ed)?(?: with)? (?:code|status)|not found|denied|No such|undefined)[^\n]*",
    _LATIN,
)
"""Errors that end a job more often than those which only say so."""
_STAMP_BYTES = len("2026-11-21T09:00:00.1234567Z ")
_STAMP = re.compile(rb"\d{4}-\d\d-\d\d[T ][\d:.,]{8,18}Z? ?")
_NOTHING = re.compile(rb"(?<![\w.,:/-])0(?![\w.,:%/-])")
_ALIKE_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_STEADY = b"0123456789abcdefABCDEF"
"""What does not tell errors apart: digits, also hexadecimal ones."""


def read_job_log(stream: BinaryIO, job: Job, annotations: Sequence[Annotation] = ()) -> JobLog:
    """The log of one job, as `GET /actions/jobs/{id}/logs` serves it."""
    reader = LogReader()
    for lines in batches(stream):
        reader.add(lines)
    return reader.log(job, annotations)


def read_templates(stream: BinaryIO) -> frozenset[int]:
    """The hashes of the templates of all lines of a log: what another run of the same job says as well."""
    return templates(batches(stream))


def templates(lines: Iterable[list[bytes]]) -> frozenset[int]:
    found: set[int] = set()
    seen: set[int] = set()
    for raw in chain.from_iterable(lines):
        stamp = _STAMP.match(raw)
        begin = stamp.end() if stamp else 0
        text = _NOTHING.sub(b"no", raw[begin : begin + TEMPLATE_BYTES])
        alike = hash(text.translate(_ALIKE_DIGITS))  # templates look through digits, but for a zero that stands alone
        if alike not in seen:
            if len(seen) >= TEMPLATES:
                break
            seen.add(alike)
            found.add(template_hash(plain(raw)))
    return frozenset(found)


class LogReader:
    """Takes the lines of one job in order, and keeps what a diagnosis may need."""

    def __init__(self) -> None:
        self.lines = 0
        self._blocks = [_Block("Set up job")]
        self._seen: dict[bytes, int] = {}
        self._worn: set[bytes] = set()
        self._places: list[tuple[str, int] | None] = [None]

    def step(self, name: str, number: int = 0) -> None:
        """What follows belongs to this step; without a number it is the next one."""
        self._open(name, (name, number or len(self._blocks) + 1))

    def skip_to(self, done: int) -> None:
        """`done` lines of the file have gone by, those of other jobs included."""
        if done != self.lines:
            self.lines = done
            self._open(self._blocks[-1].title, self._places[-1])

    def add(self, lines: list[bytes]) -> None:
        begin, first = 0, self.lines + 1
        for index in self._notable(lines):
            raw = lines[index]
            marked = b"##[" in raw or b"Post job" in raw or b"Cleaning up" in raw
            text = plain(raw) if marked else ""
            if text.startswith((_RUN, _POST, _COMPLETE)):
                if self._places[-1] is None:
                    self._blocks[-1].add(first + begin, lines[begin:index])
                    self._open(text.removeprefix("##[group]"))
                    begin = index
            elif marked or self._is_fresh(raw):
                self._blocks[-1].mark(first + index, text, grave=marked or _GRAVE.search(raw) is not None)
        self._blocks[-1].add(first + begin, lines[begin:])
        self.lines += len(lines)

    def log(self, job: Job, annotations: Sequence[Annotation] = ()) -> JobLog:
        _fit(self._blocks)
        found = _places(self._blocks, job.steps)
        places = [given or place for given, place in zip(self._places, found, strict=True)]
        return JobLog(job, _parts(zip(self._blocks, places, strict=True)), self.lines, tuple(annotations))

    def _open(self, title: str, place: tuple[str, int] | None = None) -> None:
        self._blocks[-1].shorten()
        _fit(self._blocks)
        if len(self._blocks) >= BLOCKS:
            quiet = next((i for i, block in enumerate(self._blocks) if not block.failed), 0)
            del self._blocks[quiet], self._places[quiet]
        self._blocks.append(_Block(title))
        self._places.append(place)

    def _notable(self, lines: list[bytes]) -> Iterator[int]:
        """The indices of the lines that may matter: marks of GitHub's, and errors of a shape that is not worn out."""
        if self._worn:  # then there may be very many more of them
            where = [index for index, raw in enumerate(lines) if _shape(raw) not in self._worn]
            body = b"\n".join([lines[index] for index in where])
        else:
            where, body = list(range(len(lines))), b"\n".join(lines)
        index = at = 0
        done = -1
        # of errors in more shapes than can be told apart only the grave ones may matter
        for found in (_NOTABLE if len(self._seen) < SHAPES else _GRAVE).finditer(body):
            start = found.start()
            index += body.count(b"\n", at, start)
            at = start
            if index > done:
                yield where[index]
                done = index

    def _is_fresh(self, raw: bytes) -> bool:
        """Whether this error is one of the first of its shape."""
        shape = _shape(raw)
        seen = self._seen.get(shape, 0) + 1
        if seen > ALIKE:
            self._worn.add(shape)
        elif seen > 1 or len(self._seen) < SHAPES:
            self._seen[shape] = seen
        return seen <= ALIKE


def _shape(raw: bytes) -> bytes:
    """What errors of one kind have in common: the line's beginning without its timestamp, and without digits."""
    begin = _STAMP_BYTES if raw[10:11] == b"T" and raw[27:28] == b"Z" else 0
    return raw[begin : begin + SHAPE_BYTES].translate(None, _STEADY)


class _Run:
    """Consecutive lines, `first` is the number of the first one."""

    def __init__(self, first: int = 0, lines: Sequence[bytes] = ()) -> None:
        self.first = first
        self.lines = list(lines)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.lines))

    def split(self, at: int) -> tuple["_Run", "_Run"]:
        return _Run(self.first, self.lines[:at]), _Run(self.first + at, self.lines[at:])


def _fitting(lines: Iterable[bytes], most_lines: int, most_bytes: int) -> int:
    """How many of the lines, from the first on, fit."""
    count = 0
    for line in islice(lines, max(0, most_lines)):
        most_bytes -= len(line)
        if most_bytes < 0:
            break
        count += 1
    return count


class _Windows:
    """What stands around errors: the first stay, and of the later ones the newest."""

    def __init__(self) -> None:
        self.early: deque[_Run] = deque()
        self._late: deque[_Run] = deque()
        self._wanted: deque[tuple[int, int]] = deque()

    def runs(self) -> Iterator[_Run]:
        return chain(self.early, self._late)

    def want(self, begin: int, end: int) -> None:
        while self._wanted and begin <= self._wanted[-1][1] + 1:
            begin = min(begin, self._wanted.pop()[0])
        self._wanted.append((begin, end))

    def take(self, leaving: _Run) -> None:
        """Keep what is wanted of lines that will not come back."""
        after = leaving.first + len(leaving)
        while self._wanted and self._wanted[0][0] < after:
            begin, end = self._wanted.popleft()
            if end >= after:
                self._wanted.appendleft((after, end))
            begin = max(begin, leaving.first)
            lines = leaving.lines[begin - leaving.first : max(0, end + 1 - leaving.first)]
            if lines:
                self._keep(_Run(begin, lines))

    def _keep(self, run: _Run) -> None:
        if not self._late:
            room = WINDOW_LINES // 2 - sum(map(len, self.early)), AREA_BYTES // 2 - sum(one.size for one in self.early)
            taken, run = run.split(_fitting(run.lines, *room))
            if taken.lines:
                self.early.append(taken)
        if run.lines:
            self._late.append(run)
        newest = [line for kept in self._late for line in kept.lines]
        gone = len(newest) - _fitting(reversed(newest), WINDOW_LINES // 2, AREA_BYTES // 2)
        while gone:
            cut, rest = self._late.popleft().split(gone)
            gone -= len(cut)
            if rest.lines:
                self._late.appendleft(rest)


class _Block:
    """The lines of one step as they stream in."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.alarmed = False
        self.failed = False
        self._head = _Run()
        self._grave = _Windows()
        self._other = _Windows()
        self._tail = _Run()
        self._tail_bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._runs()))

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(run.size for run in self._runs())

    def mark(self, number: int, text: str, *, grave: bool) -> None:
        """Keep what stands around the error at `number`, which `add` brings next; `text` where GitHub marked it."""
        self.alarmed = self.alarmed or text.startswith("##[error]")
        ends = text.startswith(_EXITS)
        self.failed = self.failed or ends
        windows = self._grave if grave else self._other
        windows.want(number - (BEFORE_EXIT if ends else BEFORE_ERROR), number + AFTER_ERROR)

    def add(self, first: int, lines: list[bytes]) -> None:
        if lines and not self._tail.lines and len(self._head) < HEAD_LINES:
            taken = _fitting(lines, HEAD_LINES - len(self._head), AREA_BYTES - self._head.size)
            if taken:
                self._head.first = self._head.first or first
                self._head.lines += lines[:taken]
                first, lines = first + taken, lines[taken:]
        if lines:
            self._tail.first = self._tail.first or first
            self._tail.lines += lines
            self._tail_bytes += sum(map(len, lines))
            if len(self._tail) > 2 * TAIL_LINES or self._tail_bytes > 2 * AREA_BYTES:
                self.shorten()

    def shorten(self) -> None:
        """Let go of what is too far from the end, but for what is wanted of it."""
        stay = _fitting(reversed(self._tail.lines), TAIL_LINES, AREA_BYTES)
        leaving, self._tail = self._tail.split(len(self._tail) - stay)
        self._tail_bytes = self._tail.size
        for windows in (self._grave, self._other):
            windows.take(leaving)

    def shrink(self, lines: int) -> None:
        """Keep `lines` lines: a quarter from the head, the rest from the tail."""
        everything = self._numbered()
        if len(everything) > lines:
            head = lines // 4
            kept = everything[:head] + (everything[head - lines :] if lines else [])
            self._head, self._tail, self._grave, self._other = _Run(), _Run(), _Windows(), _Windows()
            self._grave.early = deque(_Run(number, [line]) for number, line in kept)

    def lines(self) -> Iterator[tuple[int, str]]:
        for number, raw in self._numbered():
            yield number, plain(raw)

    def _numbered(self) -> list[tuple[int, bytes]]:
        found = {run.first + i: line for run in self._runs() for i, line in enumerate(run.lines)}
        return sorted(found.items())

    def _runs(self) -> Iterator[_Run]:
        yield self._head
        yield from self._grave.runs()
        yield from self._other.runs()
        yield self._tail


def _fit(blocks: Sequence[_Block]) -> None:
    """Bring finished steps down to the budget, less the room of one more step: quiet ones first, failed ones last."""
    sizes = [(len(block), block.size) for block in blocks]
    lines = sum(size[0] for size in sizes) - TOTAL_LINES + HEAD_LINES + 2 * WINDOW_LINES + TAIL_LINES
    over = sum(size[1] for size in sizes) - TOTAL_BYTES + 4 * AREA_BYTES
    for limit in (1_000, 100, 0):
        for block in sorted(blocks, key=lambda block: (block.failed, block.alarmed)):
            if lines <= 0 and over <= 0:
                return
            lines, over = lines - len(block), over - block.size
            block.shrink(limit)
            lines, over = lines + len(block), over + block.size


def _places(blocks: Sequence[_Block], steps: Sequence[JobStep]) -> list[tuple[str, int]]:
    """For each block the step it belongs to: name and number."""
    if not steps and len(blocks) == 1:
        return [("", 1)]  # a piece of a log, or one that is not GitHub's
    if not steps:
        return [(block.title, index) for index, block in enumerate(blocks, start=1)]
    ran = [step for step in steps if step.conclusion != "skipped"]
    main = [step for step in ran if not step.name.startswith("Post ") and step.name not in _NOT_MAIN]
    post = [step for step in ran if step.name.startswith("Post ")]
    groups = [i for i, block in enumerate(blocks) if block.title.startswith("Run ")]
    step_of = dict(zip(groups, _align([blocks[i] for i in groups], main), strict=True))
    current = next((step for step in ran if step.name in _NOT_MAIN), JobStep(1, "Set up job", ""))
    places = []
    for i, block in enumerate(blocks):
        if block.title == _POST and post:
            current = post.pop(0)
        elif block.title == _COMPLETE:
            current = next((step for step in ran if step.name == "Complete job"), current)
        else:
            current = step_of.get(i) or current
        places.append((current.name, current.number))
    return places


def _align(groups: Sequence[_Block], steps: Sequence[JobStep]) -> list[JobStep | None]:
    """The step that each `Run …` group opens, or None for a group inside a step (composite actions nest them).

    The best order-preserving assignment: names decide where they are default names, exit lines and order elsewhere.
    """
    steps = steps[:BLOCKS]
    best = [[0.0] * (len(steps) + 1) for _ in range(len(groups) + 1)]
    for i in range(len(groups) - 1, -1, -1):
        for j in range(len(steps) - 1, -1, -1):
            pair = _likeness(groups[i], steps[j]) + best[i + 1][j + 1]
            best[i][j] = max(pair, best[i + 1][j], best[i][j + 1])
    chosen: list[JobStep | None] = []
    i = j = 0
    while i < len(groups):
        if j < len(steps) and best[i][j] == _likeness(groups[i], steps[j]) + best[i + 1][j + 1]:
            chosen.append(steps[j])
            i, j = i + 1, j + 1
        elif j < len(steps) and best[i][j] == best[i][j + 1]:
            j += 1
        else:
            chosen.append(None)
            i += 1
    return chosen


def _likeness(group: _Block, step: JobStep) -> float:
    score = 1.0
    if step.name.startswith("Run "):
        score = 4.0 if group.title.startswith(step.name.rstrip("…").rstrip(".")[:80]) else -4.0
    elif any(word in group.title.lower() for word in re.findall(r"[a-z]{4,}", step.name.lower())[:8]):
        score = 1.5
    return score + (2.0 if group.failed == (step.conclusion == "failure") else -1.0 if group.failed else 0.0)


def _parts(placed: Iterable[tuple[_Block, tuple[str, int]]]) -> tuple[LogPart, ...]:
    parts: list[LogPart] = []
    run: list[str] = []
    begun: tuple[str, int, int] | None = None
    for block, (name, step_number) in placed:
        for number, text in block.lines():
            if begun is None or begun[:2] != (name, step_number) or number != begun[2] + len(run):
                if begun is not None:
                    parts.append(LogPart(*begun, tuple(run)))
                begun, run = (name, step_number, number), []
            run.append(text)
    if begun is not None:
        parts.append(LogPart(*begun, tuple(run)))
    return tuple(parts)

"""Reads job logs as GitHub serves them: timestamps, colours, progress bars and groups in, steps with plain lines out.

Memory stays bounded whatever the size of the log: of a huge step the head, the tail and the surroundings of errors are
kept. Line numbers are always those of the raw log, where only `\\n` ends a line.
"""

import re
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import re2

from app.domain.errors import Malformed
from app.domain.evidence import Annotation, Job, JobLog, JobStep, LogPart

LINE_CHARACTERS = 4_000
TOTAL_LINES = 20_000
TOTAL_CHARACTERS = 8_000_000
HEAD_LINES, WINDOW_LINES, TAIL_LINES = 1_000, 2_000, 3_000
AREA_CHARACTERS = 1_200_000
BEFORE_ERROR, AFTER_ERROR = 40, 20
BLOCKS = 1_000
CHUNK_BYTES = 64 * 1024

ZIP_MEMBERS = 2_000
ZIP_BYTES = 200 * 1024 * 1024
ZIP_MEMBER_BYTES = 50 * 1024 * 1024
ZIP_RATIO = 200
ZIP_NAME_CHARACTERS = 90

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z ?")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ALARM = re2.compile(r"(?i)error|exception|traceback|\bfatal\b|\bfail(?:ed|ure)?\b|killed|out of memory|\bnan\b")
_RUN, _POST, _COMPLETE = "##[group]Run ", "Post job cleanup.", "Cleaning up orphan processes"
_NOT_MAIN = ("Set up job", "Set up runner", "Complete job", "Initialize containers", "Stop containers")


def read_job_log(stream: BinaryIO, job: Job, annotations: Sequence[Annotation] = ()) -> JobLog:
    """The log of one job, as `GET /actions/jobs/{id}/logs` serves it."""
    blocks = [_Block("Set up job")]
    number = 0
    for number, text in enumerate(_plain_lines(stream), start=1):
        if text.startswith((_RUN, _POST, _COMPLETE)) and len(blocks) < BLOCKS:
            _fit(blocks)
            blocks.append(_Block(text.removeprefix("##[group]")))
        blocks[-1].add(number, text)
    _fit(blocks)
    return JobLog(job, _parts(zip(blocks, _places(blocks, job.steps), strict=True)), number, tuple(annotations))


def read_log_zip(stream: BinaryIO, job: Job, annotations: Sequence[Annotation] = ()) -> JobLog:
    """The log of one job out of a run's archive (`GET /actions/runs/{id}/logs`). Raises Malformed; writes no file."""
    try:
        with zipfile.ZipFile(stream) as archive:
            members = _checked(archive)
            steps = _step_members(members, job)
            if steps:
                return _read_steps(archive, steps, job, annotations)
            for member in members:
                name = re.fullmatch(r"\d+_(.+)\.txt", member.filename)
                if name and _key(name[1]) == _key(job.name):
                    with archive.open(member) as log:
                        return read_job_log(log, job, annotations)  # type: ignore[arg-type]
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as reason:
        raise Malformed(f"The log archive cannot be read: {reason}") from reason
    return JobLog(job, (), 0, tuple(annotations))


def _checked(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > ZIP_MEMBERS:
        raise Malformed(f"The log archive has {len(members)} members, more than {ZIP_MEMBERS}.")
    if sum(member.file_size for member in members) > ZIP_BYTES:
        raise Malformed(f"The log archive unpacks to more than {ZIP_BYTES} bytes.")
    for member in members:
        if member.file_size > ZIP_MEMBER_BYTES:
            raise Malformed(f"A member of the log archive unpacks to more than {ZIP_MEMBER_BYTES} bytes.")
        if member.file_size > ZIP_RATIO * max(member.compress_size, 1):
            raise Malformed(f"A member of the log archive is packed tighter than 1 to {ZIP_RATIO}.")
    return members


def _step_members(members: Iterable[zipfile.ZipInfo], job: Job) -> list[tuple[int, str, zipfile.ZipInfo]]:
    found = []
    for member in members:
        name = re.fullmatch(r"([^/]+)/(\d{1,6})_([^/]+)\.txt", member.filename)
        if name and _key(name[1]) == _key(job.name):
            number = int(name[2])
            told = [step.name for step in job.steps if step.number == number]
            found.append((number, told[0] if told else name[3], member))
    return sorted(found, key=lambda item: item[0])


def _read_steps(
    archive: zipfile.ZipFile,
    steps: Iterable[tuple[int, str, zipfile.ZipInfo]],
    job: Job,
    annotations: Sequence[Annotation],
) -> JobLog:
    blocks: list[_Block] = []
    places: list[tuple[str, int]] = []
    line = 0
    for number, name, member in steps:
        _fit(blocks)
        blocks.append(_Block(name))
        places.append((name, number))
        with archive.open(member) as log:
            for text in _plain_lines(log):  # type: ignore[arg-type]
                line += 1
                blocks[-1].add(line, text)
    _fit(blocks)
    return JobLog(job, _parts(zip(blocks, places, strict=True)), line, tuple(annotations))


def _key(name: str) -> str:
    """Letters and digits of a job's name: the archive drops or replaces the rest, and cuts long names."""
    return re.sub(r"[\W_]", "", name[:ZIP_NAME_CHARACTERS])


def _plain_lines(stream: BinaryIO) -> Iterator[str]:
    """One item for each raw line, cut, without timestamp, colour and what `\\r` overwrote."""
    held = bytearray()
    while chunk := stream.read(CHUNK_BYTES):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            if not held and len(piece) <= LINE_CHARACTERS and b"\r" not in piece:
                yield _plain(piece)
                continue
            _hold(held, piece)
            yield _plain(held)
            held.clear()
        _hold(held, rest)
    if held:
        yield _plain(held)


def _hold(held: bytearray, piece: bytes) -> None:
    rewrite = piece.rstrip(b"\r").rfind(b"\r")
    if rewrite >= 0 or (piece.strip(b"\r") and held.endswith(b"\r")):
        held.clear()
    room = LINE_CHARACTERS * 4 + 100 - len(held)
    if room > 0:
        held += piece[rewrite + 1 :][:room]


def _plain(raw: bytes | bytearray) -> str:
    text = raw.decode("utf-8", "replace")
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


class _Block:
    """The lines of one step as they stream in."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.alarmed = False
        self.failed = False
        self._kept: list[tuple[int, str]] = []
        self._tail: deque[tuple[int, str]] = deque()
        self._alarms: deque[int] = deque()
        self._room = [AREA_CHARACTERS, AREA_CHARACTERS, AREA_CHARACTERS]
        self._windows = WINDOW_LINES
        self._seen = 0
        self.characters = 0

    def __len__(self) -> int:
        return len(self._kept) + len(self._tail)

    def add(self, number: int, text: str) -> None:
        self._seen += 1
        self.characters += len(text)
        if text.startswith("##[error]"):
            self.alarmed = True
            self.failed = self.failed or text.startswith(("##[error]Process completed with exit code", "##[error]The "))
        if self._seen <= HEAD_LINES and self._room[0] > 0:
            self._kept.append((number, text))
            self._room[0] -= len(text)
            return
        self._tail.append((number, text))
        self._room[2] -= len(text)
        if text and _ALARM.search(text):
            self._alarms.append(number)
        while len(self._tail) > TAIL_LINES or self._room[2] < 0:
            self._leave_tail()

    def _leave_tail(self) -> None:
        number, text = self._tail.popleft()
        self._room[2] += len(text)
        while self._alarms and self._alarms[0] < number - AFTER_ERROR:
            self._alarms.popleft()
        near = bool(self._alarms) and self._alarms[0] <= number + BEFORE_ERROR
        if near and self._windows > 0 and self._room[1] > 0:
            self._kept.append((number, text))
            self._windows -= 1
            self._room[1] -= len(text)
        else:
            self.characters -= len(text)

    def shrink(self, lines: int) -> None:
        """Keep `lines` lines: a quarter from the head, the rest from the tail."""
        everything = self.lines()
        if len(everything) > lines:
            head = lines // 4
            self._kept = everything[:head] + (everything[head - lines :] if lines else [])
            self._tail.clear()
            self.characters = sum(len(text) for _, text in self._kept)

    def lines(self) -> list[tuple[int, str]]:
        return [*self._kept, *self._tail]


def _fit(blocks: Sequence[_Block]) -> None:
    """Bring finished steps down to the budget, less the room of one more step: quiet ones first, failed ones last."""
    lines = sum(map(len, blocks)) - TOTAL_LINES + HEAD_LINES + WINDOW_LINES + TAIL_LINES
    characters = sum(block.characters for block in blocks) - TOTAL_CHARACTERS + 3 * AREA_CHARACTERS
    for limit in (1_000, 100, 0):
        for block in sorted(blocks, key=lambda block: (block.failed, block.alarmed)):
            if lines <= 0 and characters <= 0:
                return
            lines, characters = lines - len(block), characters - block.characters
            block.shrink(limit)
            lines, characters = lines + len(block), characters + block.characters


def _places(blocks: Sequence[_Block], steps: Sequence[JobStep]) -> list[tuple[str, int]]:
    """For each block the step it belongs to: name and number."""
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

"""Writes a job's log as GitHub's runner does: timestamped entries, workflow commands turned into `##[…]` marks."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

STEP_LIMIT_BYTES = 64 * 1024 * 1024
LINE_LIMIT_BYTES = 1024 * 1024
TIMESTAMP_BYTES = 29
COMMAND = re.compile(r"\s*::(?P<name>[\w-]+)(?: (?P<properties>[^:]*(?::(?!:)[^:]*)*))?::(?P<value>.*)", re.DOTALL)
LEVELS = {"error": "failure", "warning": "warning", "notice": "notice"}


@dataclass(frozen=True)
class Annotation:
    """What `::error file=…::` and the runner itself attach to a check run; `level` is GitHub's annotation level."""

    level: str
    message: str
    path: str = ".github"
    line: int = 1
    title: str = ""


def now() -> datetime:
    return datetime.now(UTC)


class JobLog:
    """The growing log of one job. Values given to `mask` never appear in what is written after."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._text = bytearray()
        self._masked: set[str] = set()
        self._resume_token: str | None = None
        self._rest = b""
        self._room = STEP_LIMIT_BYTES
        self.annotations: list[Annotation] = []

    def text(self) -> str:
        # Real logs begin with a byte order mark, and readers trip over it.
        return "\ufeff" + self._text.decode()

    def mask(self, value: str) -> None:
        self._masked |= {line for line in value.splitlines() if line}

    def write(self, text: str) -> None:
        """One entry; only its first line carries the timestamp, as on GitHub."""
        for secret in sorted(self._masked, key=len, reverse=True):
            text = text.replace(secret, "***")
        # The runner's clock ticks in 100 ns; ours gives microseconds.
        at = self._clock().replace(tzinfo=None).isoformat(timespec="microseconds")
        self._text += f"{at}0Z {text}\n".encode()

    def group(self, title: str, *lines: str) -> None:
        self.write(f"##[group]{title}")
        for line in lines:
            self.write(line)
        self.write("##[endgroup]")

    def error(self, message: str) -> None:
        self.write(f"##[error]{message}")
        self.annotations.append(Annotation("failure", message))

    def begin_step(self) -> None:
        self._room = STEP_LIMIT_BYTES
        self._resume_token = None

    def feed(self, output: bytes) -> None:
        """Take raw output of a step; whole lines are written, the rest is kept for the next call."""
        if self._room <= 0:
            return
        pieces = re.split(rb"\r\n|\n|\r(?!$)", self._rest + output)
        self._rest = pieces.pop()
        if len(self._rest) > LINE_LIMIT_BYTES:
            pieces.append(self._rest)
            self._rest = b""
        for piece in pieces:
            self._line(piece.decode(errors="replace"))
            self._room -= TIMESTAMP_BYTES + len(piece)
            if self._room <= 0:
                self._rest = b""
                self.write(f"##[warning]The output after {STEP_LIMIT_BYTES // 2**20} MB of this step is not kept.")
                return

    def flush(self) -> None:
        """Write the last line of a step that did not end it."""
        if self._rest:
            self._line(self._rest.rstrip(b"\r").decode(errors="replace"))
            self._rest = b""

    def _line(self, line: str) -> None:
        command = COMMAND.fullmatch(line)
        if command is None:
            self.write(line)
        elif self._resume_token is not None:
            if command["name"] == self._resume_token:
                self._resume_token = None
            self.write(line)
        else:
            self._command(line, command["name"], command["properties"] or "", command["value"])

    def _command(self, line: str, name: str, properties: str, value: str) -> None:
        message = _unescape(value)
        if name in LEVELS:
            self._annotate(name, properties, message)
        elif name == "group":
            self.write(f"##[group]{message}")
        elif name == "endgroup":
            self.write("##[endgroup]")
        elif name == "add-mask":
            self.mask(message)
            self.write("::add-mask::***")
        elif name == "stop-commands":
            self._resume_token = message
            self.write(line)
        elif name != "debug":
            self.write(line)

    def _annotate(self, name: str, properties: str, message: str) -> None:
        self.write(f"##[{name}]{message}")
        pairs = dict(pair.partition("=")[::2] for pair in properties.strip().split(",") if pair)
        where = {key.strip(): _unescape(value, colon="%3A", comma="%2C") for key, value in pairs.items()}
        line = where.get("line", "")
        self.annotations.append(
            Annotation(
                level=LEVELS[name],
                message=message,
                path=where.get("file", ".github"),
                line=int(line) if line.isdecimal() else 1,
                title=where.get("title", ""),
            )
        )


def _unescape(text: str, colon: str = "", comma: str = "") -> str:
    escapes = {"%0D": "\r", "%0A": "\n", **({colon: ":", comma: ","} if colon else {}), "%25": "%"}
    return re.sub("|".join(escapes), lambda found: escapes[found[0]], text)

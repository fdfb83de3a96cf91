"""Which lines of a job's log to read for the cause of its failure: those of the failing step, up to its exit."""

from collections.abc import Sequence
from dataclasses import dataclass

import re2

from app.domain.evidence import JobLog, LogPart
from app.domain.template import template_hash

LINE_CHARACTERS = 4_000
ALARM = "##[error]"

_EXIT = re2.compile(
    r"##\[error\](?:Process completed with exit code [1-9]|The operation was cancell?ed|The action '.*' has timed out"
    r"|The runner has received a shutdown signal|The process '.*' failed with exit code)"
    r"|The command \".*\" (?:exited with|failed and exited with) [1-9]"  # Travis
    r"|ERROR: Job failed: |Finished: FAILURE$"  # GitLab, Jenkins
)
_EXIT_STARTS = ("##[error]", "The command ", "ERROR: Job failed: ", "Finished: ")
_CLEANUP = ("Post job cleanup.", "Cleaning up orphan processes")
_SCRIPT, _SCRIPT_END = "##[group]Run ", "##[endgroup]"

Line = tuple[int, str, str]
"""Number in the raw log, text, step."""


@dataclass(frozen=True, slots=True)
class View:
    """The lines to look at; the failing exit line is `lines[end - 1]` where `exited`.

    `alarmed`: GitHub marked some line of the log as an error. `orderly`: the job came to its cleanup.
    """

    lines: Sequence[Line]
    end: int
    exited: bool
    alarmed: bool
    orderly: bool
    green: frozenset[int] | None = None

    def is_new(self, index: int) -> bool:
        """No line like this one was in the last successful log; True where there is none."""
        return self.green is None or template_hash(self.lines[index][1]) not in self.green


def view(log: JobLog) -> View:
    """The failing step's lines, without the scripts that GitHub echoes."""
    lines, exit_at = _output(_failing_parts(log))
    if exit_at is not None and not any(text.strip() and text != _SCRIPT_END for _, text, _ in lines[:exit_at]):
        lines, exit_at = _output(log.parts)  # a silent step fails for what came before it
    cleanups = (index for index, (_, text, _) in enumerate(lines) if index and text.startswith(_CLEANUP))
    end = exit_at if exit_at is not None else next(cleanups, len(lines))
    everything = [text for part in log.parts for text in part.lines]
    return View(
        lines,
        min(len(lines), end + 1),
        exit_at is not None,
        any(text.startswith(ALARM) for text in everything),
        any(text.startswith(_CLEANUP) for text in everything[1:]),
        log.green,
    )


def _output(parts: Sequence[LogPart]) -> tuple[list[Line], int | None]:
    """The lines of these parts, and the index of the first failing exit among them."""
    lines: list[Line] = []
    exit_at = None
    echo = False
    for part in parts:
        for number, raw in enumerate(part.lines, start=part.first_line):
            echo = raw.startswith(_SCRIPT) or (echo and not raw.startswith(_SCRIPT_END))
            if not echo:
                text = _bounded(raw)
                if exit_at is None and is_exit(text):
                    exit_at = len(lines)
                lines.append((number, text, part.step))
    return lines, exit_at


def said(texts: Sequence[str], step: str) -> View:
    """What is told elsewhere than in the log, as lines without a number."""
    lines = [(0, _bounded(text), step) for text in texts if text]
    return View(lines, len(lines), False, True, False)


def is_exit(text: str) -> bool:
    return text.startswith(_EXIT_STARTS) and _EXIT.match(text) is not None


def _bounded(text: str) -> str:
    """Not too long, and with UTF-8: half of a surrogate pair, as JSON may hold, has none."""
    text = text[:LINE_CHARACTERS]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _failing_parts(log: JobLog) -> Sequence[LogPart]:
    for conclusion in ("failure", "timed_out", "cancelled"):
        for step in log.job.steps:
            if step.conclusion == conclusion:
                parts = [part for part in log.parts if part.step_number == step.number]
                if parts:
                    return parts
    for part in log.parts:
        if any(is_exit(_bounded(text)) for text in part.lines):
            return [other for other in log.parts if other.step_number == part.step_number]
    return log.parts

"""Why a job failed, as its log tells. No settings, no network, no database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from app.adapters.logfile import job_logs
from app.domain.errors import Malformed
from app.domain.finding import EvidenceLine
from app.security.markdown import clean
from app.security.masking import mask
from detectors.diagnosis import Cause, diagnose
from detectors.lines import View, view
from detectors.signatures import BUILTIN, Knowledge

NAMED_JOBS = 20

_EXITED, _ALARMED, _CANCELLED, _SILENT = range(4)
"""How a job's log shows that it failed, from the surest sign on."""
_CANCEL = ("##[error]The operation was canceled", "##[error]The operation was cancelled")


@dataclass(frozen=True, slots=True)
class Told:
    """A cause, and the job whose log tells it."""

    job: str
    cause: Cause


def causes_of(
    stream: BinaryIO, *, job: str = "", green: frozenset[int] | None = None, knowledge: Knowledge = BUILTIN
) -> list[Told]:
    """The causes in a log of any kind (app.adapters.logfile), most likely first; none where nothing failed.

    Of several jobs those that failed by themselves count, and of these the one whose cause is surest comes first; what
    else the causes may be comes at the end. `job` names the one to look at; `green` holds the templates of its last
    successful log. Raises Malformed for a file that cannot be read and for a job that it does not hold.
    """
    found: list[tuple[int, str, list[Cause]]] = []
    names = []
    for log in job_logs(stream):
        names.append(log.job.name)
        if not job or log.job.name == job:
            causes = diagnose(replace(log, green=green), knowledge)
            if causes:
                found.append((_how(view(log)), log.job.name, causes))
    if job and job not in names:
        shown = ", ".join(names[:NAMED_JOBS]) + (", …" if len(names) > NAMED_JOBS else "")
        raise Malformed(f"The log holds no job {job!r}; it holds {shown}.")
    how = {ended for ended, _, _ in found}
    counts = {_EXITED, _ALARMED} if how & {_EXITED, _ALARMED} else {min(how, default=_SILENT)}
    found.sort(key=lambda item: (item[0], -item[2][0].confidence))
    failed = [(name, causes) for ended, name, causes in found if ended in counts]
    told: dict[tuple[str, str], Told] = {}
    for name, causes in failed:
        told.setdefault((causes[0].kind, causes[0].key), Told(name, causes[0]))
    for name, causes in failed:
        for cause in causes[1:]:
            told.setdefault((cause.kind, cause.key), Told(name, cause))
    return list(told.values())


def _how(seen: View) -> int:
    if seen.exited and seen.lines[seen.end - 1][1].startswith(_CANCEL):
        return _CANCELLED
    return _EXITED if seen.exited else _ALARMED if seen.alarmed else _SILENT


def as_json(causes: Sequence[Told]) -> dict[str, Any]:
    """`lines` are the evidence, the line to read first in front; numbers are 1-based, and only `\\n` ends a line."""
    return {
        "causes": [
            {
                "kind": told.cause.kind,
                "confidence": round(told.cause.confidence, 4),
                "summary": _safe(told.cause.summary),
                "facts": _safe(told.cause.facts),
                "lines": [
                    {"number": line.number, "text": _safe(line.text), "step": _safe(line.step)}
                    for line in told.cause.ranked
                ],
            }
            for told in causes
        ]
    }


def report(causes: Sequence[Told]) -> Iterator[tuple[str, str]]:
    """What a person reads: pairs of a line and its style (rich's words, "" for none)."""
    if not causes:
        yield "Nothing failed in this log.", "green"
        return
    heads: dict[str, Told] = {}
    for told in causes:
        heads.setdefault(told.job, told)
    for told in heads.values():
        yield from _in_full(told, several=len(heads) > 1)
    others = [told for told in causes if told not in heads.values()]
    if others:
        yield "It may also be", "bold"
        for told in others:
            yield f"  {_title(told.cause)}{_where(told.cause.ranked)}", ""


def _in_full(told: Told, *, several: bool) -> Iterator[tuple[str, str]]:
    cause = told.cause
    yield _title(cause), "bold red"
    if several:
        yield f"  job {_safe(told.job)}", ""
    if not cause.actionable:
        yield "  Not sure enough to be repaired without a person.", "yellow"
    yield "", ""
    root = {line.number for line in cause.leads[:1]} or {line.number for line in cause.lines if line.root}
    shown = sorted(cause.lines, key=lambda line: line.number)
    width = len(str(max((line.number for line in shown), default=0)))
    for line in shown:
        is_root = line.number in root
        yield f"{'>' if is_root else ' '} {line.number:>{width}}  {_safe(line.text)}", "bold" if is_root else ""
    yield "", ""
    if cause.facts:
        yield "Facts", "bold"
        for name, value in sorted(cause.facts.items()):
            yield f"  {name}: {_safe(value)}", ""
    if cause.consequences:
        yield "What followed from it", "bold"
        for one in cause.consequences:
            yield f"  {one.line.number}  {one.kind}: {_safe(one.line.text)}", ""


def _title(cause: Cause) -> str:
    return f"{cause.kind} ({cause.confidence:.0%} sure): {_safe(cause.summary)}"


def _where(lines: Sequence[EvidenceLine]) -> str:
    return f", line {lines[0].number}" if lines else ""


def _safe(value: Any) -> Any:
    """Without secrets, and without what a terminal would obey."""
    if isinstance(value, str):
        return mask(clean(value)).replace("\n", " ")
    if isinstance(value, Mapping):
        return {name: _safe(item) for name, item in value.items()}
    return [_safe(item) for item in value] if isinstance(value, list | tuple) else value

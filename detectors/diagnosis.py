"""Finds the cause in the log of a failed job. Pure: the same log gives the same causes.

1. Take the step that GitHub says has failed (without steps: the whole log).
2. Cut it at its failing exit line; what follows is cleanup.
3. Look for signatures in a window above the exit that grows until it holds a strong one: 60 lines, 250, all.
4. Of several failed tests, the cause is what most of them share.
5. Of a chain, the cause is its beginning. Nothing found: `unknown`, with the most telling lines.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from string import Formatter
from typing import Any

import re2

from app.domain.evidence import JobLog, LogPart
from app.domain.finding import EvidenceLine
from detectors.signatures import RED_HERRINGS, SIGNATURES, Matcher, Signature, fact_name

UNKNOWN = "unknown"
WINDOWS = (60, 250)
STRONG, FAIR = 0.8, 0.6
CHAIN_LINES, CHAINED_LINES = 40, 200
LINES, LINE_CHARACTERS, TELLING_LINES = 20, 500, 12
SHOWN_CHARACTERS = 120
FACT_CHARACTERS, LISTED = 300, 20
EXPLAINED_BEFORE, EXPLAINED_AFTER = 40, 60
FACT_LINES_BEFORE, FACT_LINES_AFTER = 12, 30

_SIGNATURES = Matcher((pattern, signature) for signature in SIGNATURES for pattern in signature.patterns)
_RED_HERRINGS = Matcher((herring.pattern, herring) for herring in RED_HERRINGS)
_UNLESS = {herring: re2.compile(herring.unless) for herring in RED_HERRINGS if herring.unless}
_FACTS = {signature.name: Matcher((pattern, None) for pattern in signature.facts) for signature in SIGNATURES}

_EXIT = re2.compile(
    r"##\[error\](?:Process completed with exit code [1-9]|The operation was cancell?ed|The action '.*' has timed out"
    r"|The runner has received a shutdown signal|The process '.*' failed with exit code)"
)
_GROUP_MARKS = ("##[group]", "##[endgroup]")
_CLEANUP = re2.compile(r"Post job cleanup\.|Cleaning up orphan processes")
_TEST_FAILED = re2.compile(r"(?:FAILED|ERROR) (?P<test>\S+::.+?)(?: - (?P<reason>.*))?$")
_TEST_ERROR = re2.compile(r"E\s+(?P<reason>(?:\w+\.)*\w*(?:Error|Exception|Timeout|Interrupt)\b.*)")
_TELLING = re2.compile(
    r"(?i)##\[error\]|\b(?:\w+\.)*\w*(?:Error|Exception)\b|\berror\b|\bfatal\b|\bfail(?:ed|ure)?\b|cannot|could not"
    r"|unable to|denied|not found|\bassert\b|\babort",
)
_MOST_TELLING = re2.compile(r"(?i)^(?:E\s+)?(?:\w+\.)*\w*(?:Error|Exception)\b(?::|$)|^\s*(?:error|fatal)\b ?:")
_CHAIN = re2.compile(r"direct cause of the following exception|During handling of the above exception")
_EXPLAINS = re2.compile(r"Cannot install|The user requested|depends on|\bpeer |Found: |resolving: |[Bb]ecause ")
_BYTES = re2.compile(r"(?i)([\d.]+) ?([KMGTP]?)i?B")
_CHECKOUT = re2.compile(r"^(?:/.*?/work/[^/]+/[^/]+/|/__w/[^/]+/[^/]+/|/github/workspace/|\./)")
_FACT_INTEGERS = frozenset(
    ("http_status", "line", "exit_code", "minutes", "milliseconds", "count", "failed", "step", "epoch", "gpu_index")
)

_FACT_LISTS = frozenset(("tests",))
_IDENTITY = frozenset(
    (
        *("action", "architecture", "argument", "artifact", "header", "image", "input", "model", "module"),
        *("name", "package", "parameter", "path", "ref", "requirement", "symbol", "test"),
    )
)
"""Facts that name the cause; the others (sizes, messages, steps) may differ when it comes back."""

Line = tuple[int, str, str]
"""Number in the raw log, text, step."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a job failed.

    `signature` is None for `unknown`; `key` is what stays equal when the cause comes back; `nearby` are the texts that
    explain the root line, itself included.
    """

    kind: str
    confidence: float
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[EvidenceLine, ...] = ()
    signature: Signature | None = None
    key: str = ""
    nearby: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Hit:
    index: int
    pattern: Any
    signature: Signature


def diagnose(log: JobLog) -> list[Cause]:
    """The causes that the log supports, most likely first; never empty: the last resort is `unknown`."""
    return list(_diagnosed(log))


@lru_cache(maxsize=4)  # each detector asks for the same logs
def _diagnosed(log: JobLog) -> Sequence[Cause]:
    lines, exit_at = _failing_lines(log)
    causes = _causes(lines, exit_at)
    told = [annotation for annotation in log.annotations if annotation.level == "failure"]
    if told and (not causes or causes[0].confidence < STRONG):
        # A lost runner, a time limit or an invalid workflow is told in annotations only.
        said = [
            (0, _encodable(text), "annotation")
            for note in told
            for text in f"{note.title}\n{note.message}".split("\n")
            if text
        ]
        causes = sorted([*_causes(said, len(said)), *causes], key=lambda cause: -cause.confidence)
        if not lines:
            lines, exit_at = said, len(said)
    return causes or [_unknown(lines, exit_at)]


def _failing_lines(log: JobLog) -> tuple[list[Line], int]:
    """The lines to look at, without the scripts that GitHub echoes, and the index of the exit line among them."""
    parts = _failing_parts(log)
    lines: list[Line] = []
    echo = False
    for part in parts:
        for number, text in enumerate(part.lines, start=part.first_line):
            echo = text.startswith("##[group]Run ") or (echo and not text.startswith("##[endgroup]"))
            if not echo:
                lines.append((number, _encodable(text), part.step))
    for index, (_, text, _) in enumerate(lines):
        if _EXIT.match(text):
            return lines, index
    for index, (_, text, _) in enumerate(lines):
        if index and _CLEANUP.match(text):
            return lines, index
    return lines, len(lines)


def _encodable(text: str) -> str:
    """Half of a surrogate pair, as JSON may hold, has no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _failing_parts(log: JobLog) -> Sequence[LogPart]:
    for conclusion in ("failure", "timed_out", "cancelled"):
        for step in log.job.steps:
            if step.conclusion == conclusion:
                parts = [part for part in log.parts if part.step_number == step.number]
                if parts:
                    return parts
    for part in log.parts:
        if any(_EXIT.match(text) for text in part.lines):
            return [other for other in log.parts if other.step_number == part.step_number]
    return log.parts


def _causes(lines: Sequence[Line], exit_at: int) -> list[Cause]:
    end = min(len(lines), exit_at + 1)
    hits: list[_Hit] = []
    start = end
    for window in (*WINDOWS, end):
        above = max(0, end - window)
        hits = [*_hits(lines, above, start), *hits]
        start = above
        best = max((hit.signature.confidence for hit in hits), default=0.0)
        if any(_CHAIN.search(text) for _, text, _ in lines[start:end]) and window == WINDOWS[0]:
            continue
        if best >= STRONG or (best >= FAIR and window >= WINDOWS[-1]):
            break
    if not hits:
        return []
    hits = _shared_by_tests(lines[start:end], hits)
    best = max(hit.signature.confidence for hit in hits)
    floor = next((floor for floor in (STRONG, FAIR) if best >= floor), 0.0)
    leading = _beginning(lines, [hit for hit in hits if hit.signature.confidence >= floor])
    # The one line that names something tells more than one that counts; of several, the count tells more.
    named = [hit for hit in hits if hit.signature is leading.signature and _names(lines, hit)]
    chosen = [named[-1] if len({lines[hit.index][1] for hit in named}) == 1 else leading]
    kinds = [leading.signature.kind]
    for hit in sorted(hits, key=lambda hit: (-hit.signature.confidence, -hit.index)):
        if hit.signature.kind not in kinds:
            kinds.append(hit.signature.kind)
            chosen.append(hit)
    return [_cause(lines, hit, end) for hit in chosen]


def _names(lines: Sequence[Line], hit: _Hit) -> bool:
    found = hit.pattern.search(lines[hit.index][1]).groupdict()
    return any(text and fact_name(group) in _IDENTITY for group, text in found.items())


def _hits(lines: Sequence[Line], start: int, end: int) -> list[_Hit]:
    found = []
    for index in range(start, end):
        text = lines[index][1]
        matches = _SIGNATURES(text)
        if matches and not _is_red_herring(text):
            found += [_Hit(index, pattern, signature) for pattern, signature in matches]
    return found


def _is_red_herring(text: str) -> bool:
    return any(herring not in _UNLESS or not _UNLESS[herring].search(text) for _, herring in _RED_HERRINGS(text))


def _beginning(lines: Sequence[Line], hits: Sequence[_Hit]) -> _Hit:
    """The hit nearest to the exit, or what began the chain that ends there."""
    last = hits[-1]
    for hit in reversed(hits):
        apart = last.index - hit.index
        chained = any(_CHAIN.search(lines[i][1]) for i in range(hit.index, last.index))
        if apart > (CHAINED_LINES if chained else CHAIN_LINES):
            break
        if hit.signature.kind != last.signature.kind and hit.signature.confidence >= last.signature.confidence:
            last = hit
    return last


def _shared_by_tests(lines: Sequence[Line], hits: list[_Hit]) -> list[_Hit]:
    """Without the hits that explain only a minority of the failed tests."""
    reasons = [found["reason"] or "" for _, text, _ in lines if (found := _TEST_FAILED.match(text))]
    if not reasons or not any(hit.signature.kind == "test_assertion_failure" for hit in hits):
        return hits
    if all(not reason or reason.endswith("...") for reason in reasons):
        reasons = [found["reason"] for _, text, _ in lines if (found := _TEST_ERROR.match(text))]
    shares = Counter(kind for reason in reasons for kind in {match.kind for _, match in _SIGNATURES(reason)})
    return [
        hit
        for hit in hits
        if hit.signature.kind == "test_assertion_failure" or 2 * shares[hit.signature.kind] > len(reasons)
    ]


def _cause(lines: Sequence[Line], hit: _Hit, end: int) -> Cause:
    signature = hit.signature
    facts = _facts(lines, hit, end)
    needed = {name for _, name, _, _ in Formatter().parse(signature.summary) if name}
    told = bool(needed) and needed <= facts.keys()
    summary = (
        signature.summary.format_map({name: _shown(name, facts[name]) for name in needed}) if told else signature.title
    )
    return Cause(
        kind=signature.kind,
        confidence=signature.confidence,
        summary=summary,
        facts=facts,
        lines=_evidence(lines, hit.index, end),
        signature=signature,
        key=_key(signature, facts),
        nearby=_nearby(lines, hit.index, end),
    )


def _nearby(lines: Sequence[Line], root: int, end: int) -> tuple[str, ...]:
    before = [text for _, text, _ in lines[max(0, root - EXPLAINED_BEFORE) : root] if _EXPLAINS.search(text)]
    after = []
    for _, text, _ in lines[root : min(end, root + EXPLAINED_AFTER)]:
        if text.startswith("##["):
            break
        after.append(text)
    return (*before, *after)


def _shown(name: str, value: Any) -> str:
    if not name.endswith("_bytes") or not isinstance(value, int):
        return str(value)[:SHOWN_CHARACTERS]
    power = min(4, max(0, value.bit_length() - 1) // 10)
    return f"{value / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def _key(signature: Signature, facts: Mapping[str, Any]) -> str:
    """A transient cause comes back from elsewhere; a lasting one keeps its names, whatever its numbers."""
    if signature.transient:
        return ""
    return " ".join(f"{name}={value}" for name, value in sorted(facts.items()) if name in _IDENTITY)


def _facts(lines: Sequence[Line], hit: _Hit, end: int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    _add_facts(facts, hit.pattern.search(lines[hit.index][1]))
    around = [hit.index, *range(hit.index - 1, max(-1, hit.index - FACT_LINES_BEFORE - 1), -1)]
    around += range(hit.index + 1, min(end, hit.index + FACT_LINES_AFTER + 1))
    for index in around:
        for pattern, _ in _FACTS[hit.signature.name](lines[index][1]):
            _add_facts(facts, pattern.search(lines[index][1]))
    return facts


def _add_facts(facts: dict[str, Any], found: Any) -> None:
    for group, text in found.groupdict().items() if found else ():
        name = fact_name(group)
        if text and name in _FACT_LISTS:
            listed = facts.setdefault(name, [])
            if text not in listed and len(listed) < LISTED:
                listed.append(text[:FACT_CHARACTERS])
        elif text and name not in facts:
            facts[name] = _typed(name, text)


def _typed(name: str, text: str) -> Any:
    if name.endswith("_bytes"):
        size = _BYTES.fullmatch(text)
        powers = " KMGTP"
        return round(float(size[1]) * 1024 ** powers.index(size[2].upper() or " ")) if size else text[:FACT_CHARACTERS]
    if name == "path":
        text = _CHECKOUT.sub("", text)
    if name in _FACT_INTEGERS and text.isdecimal():
        return int(text)
    return text[:FACT_CHARACTERS]


def _evidence(lines: Sequence[Line], root: int, end: int) -> tuple[EvidenceLine, ...]:
    """The root line with what stands around it, and the exit line; without blank lines and a traceback's underlines."""
    chosen = sorted({*range(max(0, root - 7), min(end, root + LINES - 8)), end - 1})
    telling = (i for i in chosen if lines[i][1].strip(" \t^~"))
    return tuple(_evidence_line(lines[i], root=i == root) for i in telling)[:LINES]


def _evidence_line(line: Line, *, root: bool = False) -> EvidenceLine:
    number, text, step = line
    return EvidenceLine(number, text[:LINE_CHARACTERS], step, root)


def _is_output(text: str) -> bool:
    return (
        bool(text.strip()) and not text.startswith(_GROUP_MARKS) and not _EXIT.match(text) and not _is_red_herring(text)
    )


def _unknown(lines: Sequence[Line], exit_at: int) -> Cause:
    """The lines that tell most, nearest to the exit first chosen."""
    end = min(len(lines), exit_at + 1)
    near = range(max(0, end - WINDOWS[-1]), end)
    useful = [i for i in near if _is_output(lines[i][1])]
    telling = [i for i in useful if _TELLING.search(lines[i][1])] or useful[-TELLING_LINES:]
    strong = [i for i in telling if _MOST_TELLING.search(lines[i][1])]
    root = strong[-1] if strong else telling[-1] if telling else None
    if root is None:
        return Cause(UNKNOWN, 0.1, "The log does not say why the job failed")
    chosen = sorted({root, *telling[-(TELLING_LINES - 1) :]})
    text = lines[root][1].strip()
    return Cause(
        kind=UNKNOWN,
        confidence=0.2,
        summary=f"No known cause. The most telling line: {text[:200]}",
        lines=tuple(_evidence_line(lines[i], root=i == root) for i in chosen),
        key=text[:LINE_CHARACTERS],
    )

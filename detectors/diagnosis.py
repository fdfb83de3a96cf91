"""Finds the cause in the log of a failed job. Pure: the same log gives the same causes.

1. Take the step that GitHub says has failed (without steps: the whole log), up to its failing exit line; what follows
   is cleanup (detectors.lines).
2. Look for signatures in a window above the exit that grows until it holds a strong one: 60 lines, 250, all. Lines
   that the last successful log had as well are no cause.
3. Of several failed tests, the cause is what most of them share.
4. Of a chain, the cause is its beginning, and the rest are its consequences.
5. Nothing found: `unknown`, with the most telling lines; nothing failed: no cause at all.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import log as ln
from string import Formatter
from typing import Any

import re2

from app.domain.evidence import JobLog
from app.domain.finding import EvidenceLine
from app.domain.outcome import FAILED
from app.domain.template import template
from detectors.confidence import CALIBRATION
from detectors.facts import facts_of, key, names, shown
from detectors.lines import ALARM, View, is_exit, said, view
from detectors.signatures import BUILTIN, Knowledge, Signature

UNKNOWN = "unknown"
WINDOWS = (60, 250)
STRONG, FAIR = 0.8, 0.6
FAR, QUIET, HINT = 0.6, 0.9, 0.65
CHAIN_LINES, CHAINED_LINES = 40, 200
LINES, LINE_CHARACTERS, TELLING_LINES = 20, 500, 12
LEADS, APART, BURST_LINES = 8, 3, 40
CONSEQUENCES = 5
MOST_HITS = 50_000
EXPLAINED_BEFORE, EXPLAINED_AFTER = 40, 60

_INFORMS = re2.compile(r"^.{0,40}(?:^|[\s\[])(?:INFO|DEBUG|TRACE)(?:[\s\]:]|$)")
_GROUP_MARKS = ("##[group]", "##[endgroup]")
_TEST_FAILED = re2.compile(r"(?:FAILED|ERROR) (?P<test>\S+::.+?)(?: - (?P<reason>.*))?$")
_TEST_ERROR = re2.compile(r"E\s+(?P<reason>(?:\w+\.)*\w*(?:Error|Exception|Timeout|Interrupt)\b.*)")
_TEST_HEADING = re2.compile(r"_{3,} .+ _{3,}$")
_TELLING = re2.compile(
    r"(?i)##\[error\]|\b(?:\w+\.)*\w*(?:Error|Exception)\b|\berror\b|\bfatal\b|\bfail(?:ed|ure)?\b|cannot|could not"
    r"|unable to|denied|not found|\bassert\b|\babort",
)
_MOST_TELLING = re2.compile(
    r"(?i)^(?:E\s+)?(?:\w+\.)*\w*(?:Error|Exception)\b(?::|$)|^(?:\S+: )?\s*(?:error|fatal)\b ?:|^##\[error\]"
)
_BROKE_OFF = re2.compile(
    r"##\[error\]|^Traceback \(most recent call last\)|^--- FAIL|Exception in thread|^(?:\S+ )?Error response from"
    r"|^npm error|returned a non-zero code: [1-9]|did not complete successfully: exit code: [1-9]"
)
_CHAIN = re2.compile(r"direct cause of the following exception|During handling of the above exception")
_EXPLAINS = re2.compile(r"Cannot install|The user requested|depends on|\bpeer |Found: |resolving: |[Bb]ecause ")
_COUNTS = re2.compile(r"^=+ .*\b\d+ (?:failed|errors?)\b.*=*$|^Tests?(?: run)?:|^\d+ (?:failed|failing)|^FAILED \(")
_WRAPPER = re2.compile(
    r"CalledProcessError|ChildFailedError|ProcessRaisedException|^make(?:\[\d+\])?: \*\*\* |BrokenPipeError|Broken pipe"
    r"|\b\d+/\d+ failed!$|failed to solve|ELIFECYCLE|exit(?:ed with)? (?:code|status):? [1-9]"
)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What followed from a cause: the kind that the line would speak for if it stood alone, `exit` or `wrapper`."""

    kind: str
    line: EvidenceLine


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a job failed.

    `confidence` is calibrated, `strength` is the signature's own; `actionable` says that it is sure enough for a
    repair, below that the bot only comments. `lines` are the evidence in the log's order, `leads` the lines to read
    first, best first: the root, where the same was said before, and what else may be the cause. `signature` is None for
    `unknown`; `key` is what stays equal when the cause comes back; `nearby` are the texts that explain the root line,
    itself included. `features` are what the confidence was reckoned from.
    """

    kind: str
    confidence: float
    summary: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[EvidenceLine, ...] = ()
    signature: Signature | None = None
    key: str = ""
    nearby: tuple[str, ...] = ()
    consequences: tuple[Consequence, ...] = ()
    leads: tuple[EvidenceLine, ...] = ()
    strength: float = 0.0
    actionable: bool = False
    features: Mapping[str, float] = field(default_factory=dict)

    @property
    def ranked(self) -> tuple[EvidenceLine, ...]:
        """The leads, then the rest of the evidence; each line once."""
        told = {line.number for line in self.leads}
        return (*self.leads, *(line for line in self.lines if line.number not in told))


def ranked_lines(causes: Sequence[Cause]) -> list[int]:
    """The numbers of the lines to read, best first."""
    return list(dict.fromkeys(line.number for cause in causes for line in cause.ranked))


def diagnose(log: JobLog, knowledge: Knowledge = BUILTIN) -> list[Cause]:
    """The causes that the log supports, most likely first.

    `unknown` where something failed that no signature names, nothing where nothing failed. A job whose conclusion is a
    failure has failed, whatever its log says; of a job without a conclusion the log decides.
    """
    return list(_diagnosed(log, knowledge))


@dataclass(frozen=True, slots=True)
class _Hit:
    index: int
    pattern: Any
    signature: Signature
    weight: float
    """Of equal signatures the line tells more that sums a failed test up, looks like an error, or matches more than one
    pattern."""


@lru_cache(maxsize=4)  # each detector asks for the same logs
def _diagnosed(log: JobLog, knowledge: Knowledge) -> Sequence[Cause]:
    if log.job.conclusion == "success":
        return []
    seen = view(log)
    causes = _causes(seen, knowledge)
    told = [annotation for annotation in log.annotations if annotation.level == "failure"]
    if told and (not causes or causes[0].strength < STRONG):
        # A lost runner, a time limit or an invalid workflow is told in annotations only.
        notes = said([text for note in told for text in f"{note.title}\n{note.message}".split("\n")], "annotation")
        causes = _ordered([*_causes(notes, knowledge), *causes])
        if not seen.lines:
            seen = notes
    concluded = log.job.conclusion in FAILED or log.job.conclusion == "cancelled"
    if not concluded and _is_healthy(seen, causes, knowledge):
        return []
    return _weighed(causes) or [_unknown(seen, knowledge)]


def _ordered(causes: Iterable[Cause]) -> list[Cause]:
    return sorted(causes, key=lambda cause: -cause.strength)


def _is_healthy(seen: View, causes: Sequence[Cause], knowledge: Knowledge) -> bool:
    """Nobody said that the job failed, and its log does not say it either."""
    if seen.exited:
        return False
    alarms = (text for _, text, _ in seen.lines if text.startswith(ALARM)) if seen.alarmed else ()
    if seen.orderly and all(knowledge.is_red_herring(text) for text in alarms):
        return True
    if any(cause.strength > HINT for cause in causes):
        return False
    last = [text for _, text, _ in seen.lines[max(0, seen.end - WINDOWS[-1]) : seen.end]]
    return not any(
        (_MOST_TELLING.search(text) or _BROKE_OFF.search(text)) and not knowledge.is_red_herring(text) for text in last
    )


def _causes(seen: View, knowledge: Knowledge) -> list[Cause]:
    everything = _hits(seen, knowledge)
    if not everything:
        return []
    start, hits = _in_window(seen, everything)
    hits = _shared_by_tests(seen, start, hits, knowledge)
    best = max(_standing(seen, hit) for hit in hits)
    floor = next((floor for floor in (STRONG, FAIR) if best >= floor), 0.0)
    leading = _leading(seen, [hit for hit in hits if _standing(seen, hit) >= floor])
    # The one line that names something tells more than one that counts; of several, the count tells more.
    named = [hit for hit in hits if hit.signature is leading.signature and names(hit.pattern, seen.lines[hit.index][1])]
    if len({seen.lines[hit.index][1] for hit in named}) == 1:
        leading = named[-1]
    followed = _follows(seen, leading, hits)
    rivals = _rivals(leading, hits, {hit.signature.kind for hit in followed})
    consequences = {hit.index for hit in followed}
    others = [hit for hit in everything if hit.index not in consequences]
    first = _cause(seen, leading, knowledge, others, _leads(seen, leading, everything), followed)
    return [first, *(_cause(seen, hit, knowledge, others, (hit.index,), None) for hit in rivals)]


def _weighed(causes: Sequence[Cause]) -> list[Cause]:
    """The first with its own confidence, the others with what it leaves; only the first may be acted on."""
    rest = most = 1.0
    weighed: list[Cause] = []
    for cause in causes:
        most = min(most, rest * cause.confidence)
        rest -= most
        sure = not weighed and CALIBRATION.is_actionable(cause.kind, most, cause.features)
        weighed.append(replace(cause, confidence=most, actionable=sure))
    return weighed


def _hits(seen: View, knowledge: Knowledge) -> list[_Hit]:
    """In the log's order; of a flood only those nearest to the exit."""
    found: list[_Hit] = []
    for index in range(seen.end - 1, -1, -1):
        text = seen.lines[index][1]
        matches = knowledge.causes(text)
        if matches and not knowledge.is_red_herring(text):
            spoken = 0.04 * bool(_TEST_FAILED.match(text)) + 0.02 * bool(_MOST_TELLING.search(text))
            spoken += 0.005 * text.startswith("FAILED ")  # a test that ran says more than one that could not be set up
            spoken += 0.01 * (len(matches) > 1)
            found += [
                _Hit(index, pattern, signature, signature.confidence + spoken)
                for pattern, signature in reversed(matches)
            ]
            if len(found) > MOST_HITS:
                break
    found.reverse()
    if seen.green is not None:
        fresh = [hit for hit in found if is_exit(seen.lines[hit.index][1]) or seen.is_new(hit.index)]
        return fresh or found
    return found


def _in_window(seen: View, everything: Sequence[_Hit]) -> tuple[int, list[_Hit]]:
    """The smallest window that holds a strong hit, and its hits."""
    start, hits = 0, list(everything)
    for window in WINDOWS:
        start = max(0, seen.end - window)
        hits = [hit for hit in everything if hit.index >= start]
        best = max((hit.signature.confidence for hit in hits), default=0.0)
        chained = any(_CHAIN.search(text) for _, text, _ in seen.lines[start : seen.end])
        if window == WINDOWS[0] and chained:
            continue
        if best >= STRONG or (best >= FAIR and window >= WINDOWS[-1]):
            return start, hits
    return 0, list(everything)


def _standing(seen: View, hit: _Hit) -> float:
    """A weak signature far above the exit says less than a weaker one near it, such as a cancelled operation; what a
    program merely informs of says less than what it warns of."""
    weak = hit.signature.confidence < STRONG and seen.end - hit.index > WINDOWS[-1]
    informs = _INFORMS.search(seen.lines[hit.index][1])
    return hit.signature.confidence * (FAR if weak else 1) * (QUIET if informs else 1)


def _leading(seen: View, hits: Sequence[_Hit]) -> _Hit:
    """What began the chain that ends nearest to the exit; where several tests report errors, what most of them met."""
    headings = [i for i in range(hits[0].index, hits[-1].index) if _TEST_HEADING.match(seen.lines[i][1])]
    reports: dict[int, list[_Hit]] = {}
    for hit in hits:
        reports.setdefault(bisect(headings, hit.index), []).append(hit)
    begun = [_beginning(seen, report) for report in reports.values()]
    kinds = Counter(hit.signature.kind for hit in begun)
    most = max(kinds.values())
    return next(hit for hit in reversed(begun) if kinds[hit.signature.kind] == most)


def _beginning(seen: View, hits: Sequence[_Hit]) -> _Hit:
    """The hit nearest to the exit, or what began the chain that ends there."""
    last = hits[-1]
    for hit in reversed(hits):
        apart = last.index - hit.index
        chained = any(_CHAIN.search(text) for _, text, _ in seen.lines[hit.index : last.index])
        if apart > (CHAINED_LINES if chained else CHAIN_LINES):
            break
        if hit.signature.kind != last.signature.kind and hit.signature.confidence >= last.signature.confidence:
            last = hit
    return last


def _shared_by_tests(seen: View, start: int, hits: list[_Hit], knowledge: Knowledge) -> list[_Hit]:
    """Without the hits that explain only a minority of the failed tests."""
    texts = [text for _, text, _ in seen.lines[start : seen.end]]
    reasons = [found["reason"] or "" for text in texts if (found := _TEST_FAILED.match(text))]
    if not reasons or not any(hit.signature.kind == "test_assertion_failure" for hit in hits):
        return hits
    if all(not reason or reason.endswith("...") for reason in reasons):
        reasons = [found["reason"] for text in texts if (found := _TEST_ERROR.match(text))]
    shares = Counter(kind for reason in reasons for kind in {match.kind for _, match in knowledge.causes(reason)})
    return [
        hit
        for hit in hits
        if hit.signature.kind == "test_assertion_failure" or 2 * shares[hit.signature.kind] > len(reasons)
    ]


def _follows(seen: View, leading: _Hit, hits: Sequence[_Hit]) -> list[_Hit]:
    """Hits of other kinds that came after the cause, close enough to come from it."""
    found = [hit for hit in hits if hit.index > leading.index and hit.signature.kind != leading.signature.kind]
    reach = leading.index
    near = []
    for hit in found:
        if hit.index - reach > CHAIN_LINES and not is_exit(seen.lines[hit.index][1]):
            break
        reach = hit.index
        near.append(hit)
    return near


def _rivals(leading: _Hit, hits: Sequence[_Hit], followed: set[str]) -> list[_Hit]:
    """The best hit of each other kind, best first."""
    rivals: dict[str, _Hit] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.weight, -hit.index)):
        kind = hit.signature.kind
        if kind != leading.signature.kind and (kind not in followed or hit.index < leading.index):
            rivals.setdefault(kind, hit)
    return list(rivals.values())


def _features(seen: View, hit: _Hit, rivals: Sequence[_Hit]) -> dict[str, float]:
    """What the confidence is reckoned from: the signature's own, whether another kind's is as high anywhere in the
    step, the distance above the
    exit in powers of two, whether the line looks like an error, whether an exit was found."""
    odds = hit.signature.confidence / (1 - hit.signature.confidence)
    return {
        "strength": ln(odds),
        "contested": float(
            any(
                rival.signature.kind != hit.signature.kind and rival.signature.confidence >= hit.signature.confidence
                for rival in rivals
            )
        ),
        "far": ln(1 + max(0, seen.end - 1 - hit.index), 2),
        "spoken": float(bool(_MOST_TELLING.search(seen.lines[hit.index][1]))),
        "exited": float(seen.exited),
    }


def _leads(seen: View, leading: _Hit, everything: Sequence[_Hit]) -> tuple[int, ...]:
    """The lines to read first: the root, the best of what else was hit, where the same was said first, what tells most.

    No two of them stand together. Where the root only counts what failed, the best of what else was hit comes first.
    """
    burst: dict[str, _Hit] = {}
    for hit in sorted(everything, key=lambda hit: (-hit.weight, -hit.index)):
        burst.setdefault(hit.signature.kind, hit)
    burst.pop(leading.signature.kind, None)
    same = [hit.index for hit in everything if hit.signature is leading.signature]
    words = template(seen.lines[leading.index][1])
    first = next((index for index in same if template(seen.lines[index][1]) == words), leading.index)
    others = sorted((hit for hit in burst.values()), key=lambda hit: (-hit.weight, -hit.index))
    loud = [i for i in range(max(0, seen.end - WINDOWS[-1]), seen.end - 1) if _MOST_TELLING.search(seen.lines[i][1])]
    best = [hit.index for hit in others]
    telling = best[:1] if _COUNTS.search(seen.lines[leading.index][1]) else []
    return _spread([*telling, leading.index, first, *best, same[0], same[-1], *loud[:1], *loud[::-1]])


def _spread(indexes: Iterable[int]) -> tuple[int, ...]:
    kept: list[int] = []
    for index in indexes:
        if all(abs(index - other) >= APART for other in kept):
            kept.append(index)
    return tuple(kept[:LEADS])


def _cause(
    seen: View,
    hit: _Hit,
    knowledge: Knowledge,
    others: Sequence[_Hit],
    leads: Sequence[int],
    followed: Sequence[_Hit] | None,
) -> Cause:
    signature = hit.signature
    features = _features(seen, hit, others)
    root = seen.lines[hit.index]
    facts = facts_of(signature, hit.pattern, seen.lines[: seen.end], hit.index, knowledge)
    return Cause(
        kind=signature.kind,
        confidence=CALIBRATION.confidence(features),
        summary=_summary(signature, facts),
        facts=facts,
        lines=_evidence(seen, hit.index),
        signature=signature,
        key=key(signature, facts, root[1]),
        nearby=_nearby(seen, hit.index),
        consequences=() if followed is None else tuple(_consequences(seen, hit, followed)),
        leads=tuple(_evidence_line(seen, index, root=index == hit.index) for index in leads),
        strength=signature.confidence,
        features=features,
    )


def _summary(signature: Signature, facts: Mapping[str, Any]) -> str:
    needed = {name for _, name, _, _ in Formatter().parse(signature.summary) if name}
    if not needed or not needed <= facts.keys():
        return signature.title
    return signature.summary.format_map({name: shown(name, facts[name]) for name in needed})


def _consequences(seen: View, cause: _Hit, followed: Sequence[_Hit]) -> Iterator[Consequence]:
    kinds = {hit.index: hit.signature.kind for hit in followed}
    wrappers = [
        index for index in range(cause.index + 1, seen.end) if index in kinds or _WRAPPER.search(seen.lines[index][1])
    ]
    for index in wrappers[: CONSEQUENCES - 1] if seen.exited else wrappers[:CONSEQUENCES]:
        if not is_exit(seen.lines[index][1]):
            yield Consequence(kinds.get(index, "wrapper"), _evidence_line(seen, index))
    if seen.exited and seen.end - 1 > cause.index:
        yield Consequence("exit", _evidence_line(seen, seen.end - 1))


def _nearby(seen: View, root: int) -> tuple[str, ...]:
    lines = seen.lines
    before = [text for _, text, _ in lines[max(0, root - EXPLAINED_BEFORE) : root] if _EXPLAINS.search(text)]
    after = []
    for _, text, _ in lines[root : min(seen.end, root + EXPLAINED_AFTER)]:
        if text.startswith("##["):
            break
        after.append(text)
    return (*before, *after)


def _evidence(seen: View, root: int) -> tuple[EvidenceLine, ...]:
    """The root line with what stands around it, and the exit line; without blank lines and a traceback's underlines."""
    chosen = sorted({*range(max(0, root - 7), min(seen.end, root + LINES - 8)), seen.end - 1})
    telling = (i for i in chosen if seen.lines[i][1].strip(" \t^~"))
    return tuple(_evidence_line(seen, i, root=i == root) for i in telling)[:LINES]


def _evidence_line(seen: View, index: int, *, root: bool = False) -> EvidenceLine:
    number, text, step = seen.lines[index]
    return EvidenceLine(number, text[:LINE_CHARACTERS], step, root)


def _unknown(seen: View, knowledge: Knowledge) -> Cause:
    """The lines that tell most, nearest to the exit first chosen; those that the last successful log had as well only
    where there are no others."""
    lines = seen.lines
    near = range(max(0, seen.end - WINDOWS[-1]), seen.end)
    useful = [i for i in near if _is_output(lines[i][1], knowledge)]
    if seen.green is not None:
        useful = [i for i in useful if seen.is_new(i)] or useful
    telling = [i for i in useful if _TELLING.search(lines[i][1])] or useful[-TELLING_LINES:]
    strong = [i for i in telling if _MOST_TELLING.search(lines[i][1])]
    root = strong[-1] if strong else telling[-1] if telling else None
    if root is None:
        return Cause(UNKNOWN, 0.05, "The log does not say why the job failed")
    chosen = sorted({root, *telling[-(TELLING_LINES - 1) :]})
    leads = _spread([root, *strong[:1], *reversed(strong), *telling[:1], *reversed(telling)])
    return Cause(
        kind=UNKNOWN,
        confidence=0.1,
        summary=f"No known cause. The most telling line: {lines[root][1].strip()[:200]}",
        lines=tuple(_evidence_line(seen, i, root=i == root) for i in chosen),
        key=template(lines[root][1]),
        leads=tuple(_evidence_line(seen, i, root=i == root) for i in leads),
    )


def _is_output(text: str, knowledge: Knowledge) -> bool:
    return (
        bool(text.strip())
        and not text.startswith(_GROUP_MARKS)
        and not is_exit(text)
        and not knowledge.is_red_herring(text)
    )

"""A detector's claim."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Facts = Mapping[str, Any]


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class EvidenceLine:
    """One line that shows the cause: its 1-based number in the raw log, and its text without timestamp and colour."""

    number: int
    text: str
    step: str = ""
    root: bool = False


@dataclass(frozen=True, slots=True)
class Remedy:
    """One rung of a ladder: an action and its parameters, and what follows once it is proven."""

    action: str
    params: Facts = field(default_factory=dict)
    then: "Remedy | None" = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What broke, and how it is known.

    `kind` is the cause (`host_oom`, `network_transient`, …, `unknown`); `subject` is where (workflow and job);
    `fingerprint` is equal for the same cause in the same place across runs and machines; `confidence` is 0…1;
    `ladder` holds the remedies from the gentlest to the last resort, empty when nothing may be changed; `job` is the
    one whose log is shown, `jobs` are all of the run that failed for this cause. Not `actionable`: not sure enough, for
    causes of this kind, to be repaired without a person. `playbook` is the name under which heal.yml may say another
    ladder, "" where that is the kind.
    """

    detector: str
    kind: str
    subject: str
    severity: Severity
    confidence: float
    summary: str
    fingerprint: str
    facts: Facts = field(default_factory=dict)
    lines: tuple[EvidenceLine, ...] = ()
    ladder: tuple[Remedy, ...] = ()
    job: str = ""
    jobs: tuple[str, ...] = ()
    actionable: bool = True
    playbook: str = ""

    @property
    def failed_jobs(self) -> tuple[str, ...]:
        """The jobs that must pass again."""
        return self.jobs or (self.job,)


@dataclass(frozen=True, slots=True)
class Clear:
    """A detector looked at `subject`, and it is well: what it had found there (of these kinds; none named: of all) is
    over, `but` for the fingerprints that it still finds. With `only`, just that fingerprint is over; with `unless`,
    nothing whose facts have that member: somebody else tells when that is over. `why` says what was seen."""

    detector: str
    subject: str
    kinds: frozenset[str] = frozenset()
    why: str = ""
    but: frozenset[str] = frozenset()
    only: str = ""
    unless: str = ""


_VOLATILE = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x"),
    (re.compile(r"\b[0-9a-f]{7,64}\b"), "#"),
    (re.compile(r"(?:[A-Za-z]:)?(?:[\w.@+-]*[/\\]){2,}"), "…/"),
    (re.compile(r"\d+"), "0"),
    (re.compile(r"\s+"), " "),
)


def fingerprint(*parts: str) -> str:
    """Sixteen hexadecimal digits, equal for parts that differ only in numbers, addresses, hashes and directories."""
    steady = []
    for part in parts:
        for pattern, instead in _VOLATILE:
            part = pattern.sub(instead, part)
        steady.append(part.strip().lower())
    return hashlib.sha256("\x1f".join(steady).encode()).hexdigest()[:16]

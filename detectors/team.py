"""Joins what a team knows of its own failures with what the bot knows."""

from functools import lru_cache

from app.domain.evidence import EvidenceBag
from app.domain.finding import Remedy
from app.domain.signature import TEAM, TeamSignature
from detectors.signatures import BUILTIN, Knowledge, Signature

STRENGTH = 0.95
"""A team means its own lines: what they say counts as much as the bot's surest signatures."""


def knowledge(evidence: EvidenceBag) -> Knowledge:
    """What is known of this repository's failures."""
    return extended(evidence.signatures)


@lru_cache(maxsize=64)
def extended(signatures: tuple[TeamSignature, ...]) -> Knowledge:
    return BUILTIN.extended(map(_signature, signatures)) if signatures else BUILTIN


def _signature(one: TeamSignature) -> Signature:
    return Signature(
        name=f"{TEAM}{one.name}",
        kind=one.kind,
        detector="pipeline_failure",
        severity=one.severity,
        confidence=STRENGTH,
        transient=one.transient,
        title=one.title,
        patterns=one.patterns,
        ladder=tuple(Remedy(action) for action in one.ladder),
        examples=one.examples,
        not_this=one.not_this,
        summary=one.summary,
        facts=one.facts,
    )

"""Two models that are judged by the same rows: whose true difference is known, so that verdicts can be counted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from actions.gate.judge import Case
from actions.gate.rows import Evaluation
from app.domain.model import GateRules
from app.ports.registry import Version

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
CHAMPION = Version("churn", 3, code_sha="c" * 40, data_version="2026-10")
CHALLENGER = Version("churn", 4, code_sha="d" * 40, data_version="2026-11")

APART = 0.05  # of the rows: only one of the two is right


def evaluation(columns: Mapping[str, Sequence[Any]], segments: Mapping[str, Sequence[Any]] | None = None) -> Evaluation:
    rows = len(next(iter(columns.values())))
    return Evaluation(
        ids=[f"row-{place}" for place in range(rows)],
        segments={name: np.asarray(values).tolist() for name, values in (segments or {}).items()},
        **{name: np.asarray(values).tolist() for name, values in columns.items()},
    )


def case(before: Evaluation, after: Evaluation, rules: GateRules | None = None, trial: int = 0, **more: Any) -> Case:
    """Each trial has versions of its own: the gate's draws depend on their numbers."""
    champion, challenger = replace(CHAMPION, number=2 * trial + 3), replace(CHALLENGER, number=2 * trial + 4)
    return Case("churn", rules or GateRules(), champion, challenger, before, after, NOW, **more)


def classes(
    chance: np.random.Generator, rows: int, gain: float = 0.0, sessions: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two classes; both are right in 82 %, one of them alone in 5 % (the challenger in 5 % + gain). In sessions of that
    many rows all rows are alike."""
    drawn = (rows + sessions - 1) // sessions
    label = np.repeat(chance.integers(0, 2, drawn), sessions)[:rows]
    at = np.repeat(chance.random(drawn), sessions)[:rows]
    both = at > 2 * APART + gain + 0.08
    champion, challenger = both | (at < APART), both | ((at >= APART) & (at < 2 * APART + gain))
    group = {"group": (np.arange(rows) // sessions).tolist()} if sessions > 1 else {}
    told = [np.where(right, label, 1 - label).tolist() for right in (champion, challenger)]
    return {"label": label, "prediction": told[0], **group}, {"label": label, "prediction": told[1], **group}


def scored(chance: np.random.Generator, rows: int, gain: float = 0.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Probabilities of two models of equal skill (of more, for the challenger, with a gain)."""
    truth = chance.normal(0, 1.5, rows)
    label = (chance.random(rows) < 1 / (1 + np.exp(-truth))).astype(int)
    found = []
    for noise in (1.0, 1.0 - gain):
        margin = (truth + chance.normal(0, noise, rows)) / (1 + noise**2 / 1.5**2)
        score = 1 / (1 + np.exp(-margin))
        found.append({"label": label, "score": score, "prediction": (score > 0.5).astype(int)})
    return found[0], found[1]


def measured(
    chance: np.random.Generator, rows: int, gain: float = 0.0, heavy: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers, with errors of the same law (smaller ones for the challenger, with a gain)."""
    label = chance.normal(0, 3, rows)

    def error() -> Any:
        return chance.standard_t(5, rows) if heavy else chance.normal(0, 1, rows)

    return (
        {"label": label, "prediction": label + error()},
        {"label": label, "prediction": label + (1 - gain) * error()},
    )

"""`heal playbooks`: what is done about each cause, and where that comes from."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.finding import Remedy
from app.domain.policy import Mode, Policy, always_asks, mode_of
from app.ports.plugins import Action
from detectors.playbooks import ISSUE, OF_RUNS, PLAYBOOKS
from detectors.signatures import SIGNATURES


@dataclass(frozen=True, slots=True)
class Told:
    """A cause, its ladder, and the file that the ladder comes from ("default": the bot's own)."""

    cause: str
    title: str
    ladder: tuple[Remedy, ...]
    origin: str


def causes() -> dict[str, str]:
    """What the bot can name in a log or has a playbook for → a few words about it."""
    titles: dict[str, str] = {}
    for signature in sorted(SIGNATURES, key=lambda signature: signature.name.startswith("hint_")):
        titles.setdefault(signature.kind, signature.title)
    titles |= {kind: _of_run(kind, titles) for kind in PLAYBOOKS if kind.startswith(OF_RUNS)}
    return {**{kind: kind.replace("_", " ").capitalize() for kind in PLAYBOOKS}, **titles}


def _of_run(kind: str, titles: Mapping[str, str]) -> str:
    title = titles.get(kind.removeprefix(OF_RUNS), "")
    return f"A run on a launcher: {title[:1].lower()}{title[1:]}"


def playbook(cause: str, policy: Policy) -> Told:
    origin = policy.origin.get(f"playbooks.{cause}", "default")
    ladder = policy.playbooks.get(cause, PLAYBOOKS.get(cause, ISSUE))
    return Told(cause, causes().get(cause, ""), ladder, origin)


def playbooks(policy: Policy) -> list[Told]:
    return [playbook(cause, policy) for cause in sorted({*causes(), *policy.playbooks})]


def rungs(told: Told, policy: Policy, detector: str, actions: Mapping[str, Action]) -> Iterator[dict[str, Any]]:
    """Each rung with what it does, how it is proven, and the mode in force for it; with what follows it."""
    for remedy in told.ladder:
        step: Remedy | None = remedy
        depth = 0
        while step is not None:
            action = actions.get(step.action)
            _, mode = mode_of(policy, detector, step.action)
            does = (inspect.getdoc(inspect.getmodule(type(action))) or "").partition("\n")[0] if action else ""
            yield {
                "action": step.action,
                "params": dict(step.params),
                "follows": depth > 0,
                "does": does,
                "proof": str(action.proves) if action else "",
                "mode": str(mode),
                "asks": mode is Mode.AUTO and always_asks(policy, step),
            }
            step, depth = step.then, depth + 1


def detector_of(cause: str) -> str:
    """Which detector names that cause, if a log can show it; else ""."""
    return next((signature.detector for signature in SIGNATURES if signature.kind == cause.removeprefix(OF_RUNS)), "")

"""Every detector and action in force. Cheap to import: what looks at a configuration needs no adapter."""

import actions
from app.ports.plugins import Action, Detector
from app.registry import collect
from detectors.builtin import BUILTIN


def known_detectors() -> dict[str, Detector]:
    """By kind. Raises DuplicateKind."""
    return collect("heal.detectors", BUILTIN)


def known_actions() -> dict[str, Action]:
    """By kind. Raises DuplicateKind."""
    return collect("heal.actions", actions.BUILTIN)

"""Every detector and action in force. Cheap to import: what looks at a configuration needs no adapter."""

import actions
import detectors
from app.ports.plugins import Action, Detector
from app.registry import collect


def known_detectors() -> dict[str, Detector]:
    """By kind. Raises DuplicateKind."""
    return collect("heal.detectors", detectors.BUILTIN)


def known_actions() -> dict[str, Action]:
    """By kind. Raises DuplicateKind."""
    return collect("heal.actions", actions.BUILTIN)

"""What is done about each cause, where heal.yml says nothing else: data, in playbooks.toml."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from app.domain.finding import Remedy

ISSUE = (Remedy("open_issue"),)
OF_RUNS = "workload_"  # before a cause: what is done where a run on a launcher says that it failed for it


def parse(text: str) -> Mapping[str, tuple[Remedy, ...]]:
    """Cause → ladder. Raises ValueError naming the cause."""
    found = {}
    for kind, playbook in tomllib.loads(text).items():
        if not isinstance(playbook, dict) or set(playbook) != {"ladder"} or not playbook["ladder"]:
            raise ValueError(f"{kind}: a playbook has a ladder, and nothing else")
        found[kind] = tuple(_remedy(kind, rung) for rung in playbook["ladder"])
    return found


def _remedy(kind: str, rung: Any) -> Remedy:
    if not isinstance(rung, dict) or not {"action"} <= set(rung) <= {"action", "params", "then"}:
        raise ValueError(f"{kind}: a rung has an action, and may have params and then")
    then = _remedy(kind, rung["then"]) if "then" in rung else None
    return Remedy(rung["action"], rung.get("params", {}), then)


PLAYBOOKS = parse((files(__package__) / "playbooks.toml").read_text("utf-8"))


def ladder_of(kind: str) -> tuple[Remedy, ...]:
    """From the gentlest to the last resort; what nothing is known for is told to a person."""
    return PLAYBOOKS.get(kind, ISSUE)

"""Judges workflow files."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a workflow file. `rule` is constant."""

    rule: str
    message: str
    line: int = 0


class WorkflowCheck(Protocol):
    def faults(self, path: str, text: str) -> list[Fault]:
        """By the published schema of workflow files, and by a scanner for what attackers use. Runs nothing of it.

        Raises Unreachable when a judge cannot be asked.
        """
        ...

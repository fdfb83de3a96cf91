"""Judges workflow files."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with a workflow file. `rule` is constant; `serious` where GitHub would refuse it, or it lets
    strangers in."""

    rule: str
    message: str
    line: int = 0
    serious: bool = True


class WorkflowCheck(Protocol):
    def faults(self, path: str, text: str) -> list[Fault]:
        """By the published schema of workflow files, and by a scanner for what attackers use. Runs nothing of it.

        Raises Unreachable when a judge cannot be asked.
        """
        ...

"""Actions that a workflow takes from others by a name which those may move to other code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

GITHUBS = frozenset(("actions", "github"))

_USES = re.compile(r"""\s{0,200}(?:-\s{1,20})?["']?uses["']?\s{0,20}:\s{1,20}["']?([^\s"'#]{1,300})""")
_BLOCK = re.compile(r"(\s{0,200})(?:-\s{1,20})?[\w\"'-]{1,100}\s{0,20}:\s{1,20}[|>][+-]?[0-9]?\s*(?:#.*)?$")
_REFERENCE = re.compile(r"([A-Za-z0-9_.-]{1,100})/([A-Za-z0-9_.-]{1,100})(/[^@\s]{0,200})?@([^\s@]{1,200})")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Use:
    """`owner/name/path@version` in a line of a workflow."""

    owner: str
    action: str
    version: str
    line: int


def unpinned(text: str) -> Iterator[Use]:
    """Uses of other repositories by branch or tag. Local actions (`./`) and images (`docker://`) are not meant."""
    block: int | None = None  # how deep the key of a literal text stands
    for number, line in enumerate(text.splitlines(), start=1):
        indent = len(line) - len(line.lstrip())
        if block is not None and (indent > block or not line.strip()):
            continue
        block = None
        opens = _BLOCK.match(line[:1_000])
        if opens:
            block = len(opens[1])
            continue
        uses = _USES.match(line[:1_000])
        reference = _REFERENCE.fullmatch(uses[1]) if uses else None
        if reference and not _COMMIT.fullmatch(reference[4]):
            action = f"{reference[1]}/{reference[2]}{reference[3] or ''}"
            yield Use(reference[1].lower(), action, reference[4], number)

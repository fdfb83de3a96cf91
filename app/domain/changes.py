"""Which lines differ between two texts."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

Change = tuple[str, int, int, int, int]
"""difflib's opcode: tag (equal, replace, delete, insert), from and to in the old lines, from and to in the new ones."""

CONTEXT = 3
MOST_COMPARED = 2_000
"""Lines between the first and the last difference that are compared one with another; that takes quadratic time."""


def split(text: str) -> list[str]:
    """Lines with their ends, split at line feeds only: `str.splitlines` also splits at form feeds."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def changes(old: Sequence[str], new: Sequence[str]) -> list[Change]:
    """As `difflib.SequenceMatcher.get_opcodes`, in linear time for what the texts begin and end with in common.

    Where more than MOST_COMPARED lines lie between the first and the last difference, they are one replacement.
    """
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    old_end, new_end = len(old) - tail, len(new) - tail
    found: list[Change] = [("equal", 0, head, 0, head)] if head else []
    if head < old_end or head < new_end:
        if max(old_end, new_end) - head > MOST_COMPARED:
            found.append(("replace", head, old_end, head, new_end))
        else:
            matcher = SequenceMatcher(None, old[head:old_end], new[head:new_end], autojunk=False)
            found += [(tag, a + head, b + head, c + head, d + head) for tag, a, b, c, d in matcher.get_opcodes()]
    if tail:
        found.append(("equal", old_end, len(old), new_end, len(new)))
    return found


def unified(old: Sequence[str], new: Sequence[str], old_name: str, new_name: str) -> Iterator[str]:
    """A unified diff, as git writes it, of lines with their ends."""
    matcher = SequenceMatcher(None, "", "")
    matcher.get_opcodes = lambda: changes(old, new)  # type: ignore[method-assign,assignment,return-value]
    begun = False
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if not begun:
            begun = True
            yield f"--- {old_name}\n"
            yield f"+++ {new_name}\n"
        first, last = group[0], group[-1]
        yield f"@@ -{_span(first[1], last[2])} +{_span(first[3], last[4])} @@\n"
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                yield from (f" {line}" for line in old[old_from:old_to])
                continue
            yield from (f"-{line}" for line in old[old_from:old_to])
            yield from (f"+{line}" for line in new[new_from:new_to])


def _span(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"

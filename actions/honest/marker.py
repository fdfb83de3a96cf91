"""The one thing that a quarantine may change in a test file: the marker of one flaky test."""

import ast
import re
from datetime import date

from actions.honest.python import parsed

# A test that is marked so still runs, shows as XFAIL or XPASS, and fails no run.
MARKER = re.compile(
    r'^[ \t]*@pytest\.mark\.xfail\(strict=False, reason="quarantined by heal until (?P<until>\d{4}-\d{2}-\d{2}): '
    r'flaky, see (?P<ticket>#\d{1,9}|its ticket) \(owner (?P<owner>@?[\w./@+-]{1,120})\)"\)\r?\n$',
    re.ASCII,
)
IMPORT = re.compile(r"^import pytest\r?\n$")


def tricks(before: str | None, after: str | None) -> tuple[int, str] | None:
    """None if the marker of one test came, or went, and (with its import) nothing else."""
    if before is None or after is None:
        return 1, "belongs to the tests"
    old, new = lines(before), lines(after)
    fewer, more, whole = (old, new, after) if len(old) < len(new) else (new, old, before)
    differs = next(
        (n for n, pair in enumerate(zip(old, new, strict=False), start=1) if pair[0] != pair[1]), len(fewer) + 1
    )
    for at, line in enumerate(more):
        if not (found := MARKER.match(line)) or not _is_day(found["until"]):
            continue
        gone = _import_that_came(fewer, [*more[:at], *more[at + 1 :]])
        if gone is not None:
            if not _marks_a_test(whole, at + 1) or parsed("".join(fewer)) is None:
                return at + 1, "marks something that is no test, or is marked already"
            if gone and not _is_import(whole, {number + (number >= at) + 1 for number in gone}):
                return differs, "is more than the marker of one flaky test"
            return None
    return differs, "is more than the marker of one flaky test"


def lines(text: str) -> list[str]:
    """With their ends, split at line feeds only."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _import_that_came(fewer: list[str], more: list[str]) -> list[int] | None:
    """The lines (from 0) that `more` has besides: none, or `import pytest` with blank lines beside it; else None."""
    if more == fewer:
        return []
    for at, line in enumerate(more):
        if IMPORT.match(line):
            for low, high in ((at, at + 1), (at - 1, at + 1), (at, at + 2), (at - 1, at + 2)):
                beside = [each for n, each in enumerate(more[max(0, low) : high], start=max(0, low)) if n != at]
                if low >= 0 and not "".join(beside).strip() and more[:low] + more[high:] == fewer:
                    return list(range(low, high))
    return None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _marks_a_test(text: str, line: int) -> bool:
    tree = parsed(text)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            others = [each for each in node.decorator_list if each.lineno != line]
            if len(others) == len(node.decorator_list) - 1:
                return not any(
                    re.search(r"\b(?:xfail|skip|skipif|skipIf|expectedFailure)\b", ast.unparse(o)) for o in others
                )
    return False


def _is_import(text: str, numbers: set[int]) -> bool:
    """One of these lines (from 1) is the import, at the top level, and no other was there."""
    tree = parsed(text)
    imports = [
        node.lineno
        for node in (tree.body if tree else ())
        if isinstance(node, ast.Import) and [(name.name, name.asname) for name in node.names] == [("pytest", None)]
    ]
    return len(imports) == 1 and imports[0] in numbers

"""What never counts as a repair: an edit that only keeps the failure from being seen."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from enum import StrEnum
from pathlib import PurePosixPath

from app.domain.repair import FileEdit

_TEST_PATH = re.compile(
    r"(?:^|/)(?:tests?|testing|spec|__tests__)/|(?:^|/)(?:test_[^/]*|[^/]*_test\.[^/]+|conftest\.py"
    r"|[^/]*\.(?:test|spec)\.[^/]+)$",
    re.IGNORECASE,
)
_CI_PATH = re.compile(
    r"^\.github/(?:workflows|actions)/|^\.circleci/|^\.buildkite/|(?:^|/)\.gitlab-ci\.ya?ml$|(?:^|/)(?:tox\.ini"
    r"|noxfile\.py|pytest\.ini|\.coveragerc|mypy\.ini|ruff\.toml|\.ruff\.toml|\.flake8|\.pre-commit-config\.yaml"
    r"|azure-pipelines\.yml|Jenkinsfile)$"
)
_ASSERTION = re.compile(r"\bassert\b|\bassert_\w+\s*\(|\bassert[A-Z]\w*\s*\(|\bpytest\.raises\b|\bexpect\s*\(")
_CONDITION = re.compile(r"^\s*(?:-\s+)?(?:if|needs|on|fail_under|fail-under|min_coverage)\s*[:=]")
_SUPPRESSION = re.compile(
    r"\|\|\s*(?:true\b|:(?:\s|$)|exit\s+0)|continue-on-error|\bset\s+\+e\b|#\s*noqa|#\s*type:\s*ignore|#\s*pylint:\s*disable"
    r"|#\s*pragma:\s*no\s*cover|#\s*nosec|@ts-(?:ignore|expect-error)|eslint-disable"
    r"|\bskip(?:if)?\s*\(|\bmark\.skip|\bunittest\.skip|\bxfail\b|\bimportorskip\b|--exit-zero|--ignore-errors?\b"
    r"|--deselect\b|--no-verify\b|warnings\.(?:filterwarnings|simplefilter)\s*\(|\bexcept\b[^:]*:\s*pass\b"
    r"|\bcontextlib\.suppress\b",
    re.IGNORECASE,
)


class Allowed(StrEnum):
    """What one kind of repair is there to change, and every other may not."""

    WORKFLOWS = "workflows"  # files below .github/workflows
    QUARANTINE = "quarantine"  # a marker on a flaky test, with owner, ticket and expiry


def dishonest(edits: Sequence[FileEdit], allow: frozenset[Allowed] = frozenset()) -> str | None:
    """Why these edits are no repair, with file and line; None if they may be one."""
    for edit in edits:
        path = PurePosixPath(edit.path)
        if ".." in path.parts or path.is_absolute():
            return f"{edit.path} leaves the repository"
        if _TEST_PATH.search(edit.path):
            return f"{edit.path}:{_first_line(edit)} belongs to the tests"
        workflow = edit.path.startswith(".github/workflows/") and Allowed.WORKFLOWS in allow
        if _CI_PATH.search(edit.path) and not workflow:
            return f"{edit.path}:{_first_line(edit)} belongs to the checks"
        for number, line, added in _changed(edit):
            if _ASSERTION.search(line):
                return f"{edit.path}:{number} touches an assertion"
            if _CONDITION.search(line):
                return f"{edit.path}:{number} touches a condition"
            if added and _SUPPRESSION.search(line):
                return f"{edit.path}:{number} suppresses a failure"
    return None


def _changed(edit: FileEdit) -> Iterator[tuple[int, str, bool]]:
    """Removed lines with their old number, then added ones with their new number."""
    old, new = (edit.before or "").split("\n"), (edit.after or "").split("\n")
    for tag, old_from, old_to, new_from, new_to in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag != "equal":
            yield from ((number + 1, old[number], False) for number in range(old_from, old_to))
            yield from ((number + 1, new[number], True) for number in range(new_from, new_to))


def _first_line(edit: FileEdit) -> int:
    return next((number for number, _, _ in _changed(edit)), 1)

"""What never counts as a repair: an edit that only keeps the failure from being seen."""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import PurePosixPath

from actions.honest import marker, python, settings, shell, workflow
from actions.honest.words import ASSERTION, CHECKS, CONDITION, SUPPRESSION
from app.domain.changes import changes
from app.domain.repair import FileEdit

_TEST_PATH = re.compile(
    r"(?:^|/)(?:tests?|testing|spec|__tests__)/|(?:^|/)(?:test_[^/]*|[^/]*_test\.[^/]+|conftest\.py"
    r"|[^/]*\.(?:test|spec)\.[^/]+)$",
    re.IGNORECASE,
)
_CI_PATH = re.compile(
    r"^\.github/(?:workflows|actions)/|^\.circleci/|^\.buildkite/|(?:^|/)\.gitlab-ci\.ya?ml$|(?:^|/)(?:tox\.ini"
    r"|noxfile\.py|pytest\.(?:ini|toml)|\.pytest\.ini|\.coveragerc|\.?codecov\.ya?ml|\.?mypy\.ini|\.?ruff\.toml|\.flake8"
    r"|\.?pylintrc|pyrightconfig\.json|\.bandit|\.pre-commit-config\.ya?ml|azure-pipelines\.ya?ml|Jenkinsfile"
    r"|\.eslintrc[^/]*|eslint\.config\.[^/]+|(?:jest|vitest|playwright|karma)\.config\.[^/]+|\.nycrc[^/]*"
    r"|(?:_?pytest|unittest|sitecustomize|usercustomize)(?:/[^/]+)?\.py|[^/]*\.pth|CODEOWNERS)$"
)
_SHELL_PATH = re.compile(r"\.(?:sh|bash)$")
_SCRIPT_PATH = re.compile(
    r"(?:^|/)(?:(?:GNU)?[Mm]akefile|[^/]*\.mk|justfile|Taskfile\.ya?ml|[^/]*Dockerfile[^/]*|Procfile|(?:docker-)?compose[^/]*\.ya?ml|dvc\.ya?ml"
    r"|Snakefile)$"
)
_NO_ERRORS = re.compile(r"^\t-|^\.(?:IGNORE|SILENT)\b|^\s*SHELL\s*[:?]?=|^MAKEFLAGS\b")


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
        try:
            trick = _trick(edit, allow)
        except RecursionError:
            return f"{edit.path} is nested too deep to be looked at"
        if trick:
            return f"{edit.path}:{trick[0]} {trick[1]}"
    return None


def _trick(edit: FileEdit, allow: frozenset[Allowed]) -> tuple[int, str] | None:
    if edit.before == edit.after:
        return None
    if _TEST_PATH.search(edit.path) and not edit.path.startswith(".github/workflows/"):
        if Allowed.QUARANTINE in allow and edit.path.endswith(".py"):
            return marker.tricks(edit.before, edit.after)
        return _first_line(edit), "belongs to the tests"
    if _CI_PATH.search(edit.path):
        if Allowed.WORKFLOWS not in allow or not edit.path.startswith(".github/workflows/"):
            return _first_line(edit), "belongs to the checks"
        return next(_suppressed(edit), None) or workflow.tricks(edit.before, edit.after)
    if edit.path.endswith(".ipynb"):
        return _first_line(edit), "changes a notebook, which cannot be judged"
    if trick := next(_in_lines(edit), None) or _in_structure(edit):
        return trick
    if _CODE.search(edit.path) and (edit.before is None or edit.after is None):
        return 1, "brings or takes away a whole file of code"
    return None


_CODE = re.compile(r"\.(?:py|pyi|pyx|pth|so|ipynb|sh|bash|js|ts)$")


def _suppressed(edit: FileEdit) -> Iterator[tuple[int, str]]:
    for number, line, added in _changed(edit):
        if added and SUPPRESSION.search(line):
            yield number, "suppresses a failure"


def _in_lines(edit: FileEdit) -> Iterator[tuple[int, str]]:
    code = edit.path.endswith((".py", ".pyi", ".ipynb"))
    script = _SCRIPT_PATH.search(edit.path) is not None
    for number, line, added in _changed(edit):
        if ASSERTION.search(line):
            yield number, "touches an assertion"
        if CONDITION.search(line):
            yield number, "touches a condition"
        if added and SUPPRESSION.search(line):
            yield number, "suppresses a failure"
        if added and script and _NO_ERRORS.search(line):
            yield number, "suppresses a failure"
        if script and not added and (found := CHECKS.search(line)):
            yield number, f"changes what is checked: {found[0]}"
        for key, value in () if code else settings.pairs(line):
            if reason := settings.moved(key, value, added=added):
                yield number, reason


def _in_structure(edit: FileEdit) -> tuple[int, str] | None:
    if edit.path.endswith((".py", ".pyi")):
        return python.tricks(edit.before, edit.after)
    if _SHELL_PATH.search(edit.path) or (edit.before or edit.after or "").startswith(
        ("#!/bin/", "#!/usr/bin/env bash")
    ):
        if edit.before is None:
            return shell.new_script(edit.after or "")
        return shell.tricks(edit.before, edit.after or "")
    if reason := settings.tricks(edit.path, edit.before or "", edit.after or ""):
        return _first_line(edit), reason
    return None


def _changed(edit: FileEdit) -> Iterator[tuple[int, str, bool]]:
    """Removed lines with their old number, then added ones with their new number."""
    old, new = (edit.before or "").split("\n"), (edit.after or "").split("\n")
    for tag, old_from, old_to, new_from, new_to in changes(old, new):
        if tag != "equal":
            yield from ((number + 1, old[number], False) for number in range(old_from, old_to))
            yield from ((number + 1, new[number], True) for number in range(new_from, new_to))


def _first_line(edit: FileEdit) -> int:
    return next((number for number, _, _ in _changed(edit)), 1)

"""Tricks in files of settings: checks that are told to look away, limits that are moved, chance that is pinned."""

import configparser
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from actions.honest.words import CHANCE, LENIENT, LIMIT, STRICT, TOLERANCE
from app.security.toml import load_toml

# Tables of pyproject.toml that say what the checks look at.
_TOOLS = frozenset(
    {
        *("pytest", "coverage", "mypy", "pyright", "basedpyright", "ty", "pyre", "ruff", "black", "isort", "pylint"),
        *("flake8", "pycodestyle", "pydocstyle", "bandit", "tox", "nox", "hatch", "pdm", "poe", "taskipy", "mutmut"),
        *("deptry", "vulture", "interrogate", "importlinter", "codespell", "pre-commit", "cibuildwheel", "doit"),
    }
)
_SECTIONS = re.compile(
    r"^(?:tool:pytest|pytest|coverage:.*|mypy.*|flake8.*|pylint.*|pycodestyle|pydocstyle|isort|bandit|tox.*|aliases|test)$"
)
_SCRIPTS = ("scripts", "jest", "mocha", "ava", "c8", "nyc", "eslintConfig", "lint-staged", "husky")
_PAIR = re.compile(r"""^\s*(?:-\s+)?["']?(?P<key>[A-Za-z_][\w.\-]*)["']?\s*(?:=|:)(?P<value>[^#\n]*)""")
_OFF = frozenset({"false", "no", "off", "0", "none", "null", "never"})


def tricks(path: str, before: str, after: str) -> str:
    """Why the file as a whole may not change so; empty if it may, or is no file of settings for checks."""
    name = path.rpartition("/")[2]
    read = {"pyproject.toml": _pyproject, "setup.cfg": _setup_cfg, "package.json": _package_json}.get(name)
    if read is None:
        return ""
    try:
        new = read(after)
    except ValueError:
        return "cannot be read"
    try:
        old = read(before)
    except ValueError:
        return "could not be read before, so that nobody can tell what was changed" if before else ""
    changed = next((key for key in sorted({*old, *new}) if old.get(key) != new.get(key)), "")
    return f"changes what is checked: {changed}" if changed else ""


def pairs(line: str) -> Iterator[tuple[str, str]]:
    """`key: value` and `key = value`."""
    if found := _PAIR.match(line):
        yield found["key"].rpartition(".")[2], found["value"].strip().removesuffix(",").strip().strip("'\"")


def moved(key: str, value: str, *, added: bool) -> str:
    """Why a line with that key may not come (or go); empty if it may."""
    if TOLERANCE.match(key) or LIMIT.match(key):
        return f"changes {key}"
    if added and CHANCE.match(key) and value.lower() not in ("null", "none", "~", ""):
        return "pins chance"
    if added and STRICT.match(key) and value.lower() in _OFF:
        return f"weakens {key}"
    if not added and STRICT.match(key) and value.lower() not in _OFF:
        return f"weakens {key}"
    if added and LENIENT.match(key) and value.lower() not in _OFF:
        return "suppresses a failure"
    return ""


def _pyproject(text: str) -> Mapping[str, Any]:
    tool = load_toml(text).get("tool", {})
    if not isinstance(tool, dict):
        raise ValueError("tool is no table")  # noqa: TRY004 - it is the file that is wrong
    return {f"tool.{name}": table for name, table in tool.items() if name in _TOOLS}


def _setup_cfg(text: str) -> Mapping[str, Any]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(str(error)) from error
    return {name: dict(parser.items(name)) for name in parser.sections() if _SECTIONS.match(name)}


def _package_json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - it is the file that is wrong
    return {key: found[key] for key in _SCRIPTS if key in found}

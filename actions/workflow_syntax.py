"""Mistakes in workflow files that can be mended in one way only.

Candidates are made (a tab, a missing space after a colon, a key one letter away from a known one, one line's
indentation); those that parse are judged; what remains must all mean the same, or nothing is said.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from actions.workflow_edits import MAX_BYTES, data_of
from app.domain.errors import Malformed
from app.security.yaml import NOT_YAML

_TOP = ("name", "run-name", "on", "env", "defaults", "permissions", "concurrency", "jobs")
_JOB = (
    "name", "needs", "if", "runs-on", "environment", "concurrency", "outputs", "env", "defaults", "permissions",
    "steps", "strategy", "timeout-minutes", "continue-on-error", "container", "services", "uses", "with", "secrets",
)  # fmt: skip
_STEP = (
    "id", "name", "if", "run", "uses", "with", "env", "shell", "working-directory", "continue-on-error",
    "timeout-minutes",
)  # fmt: skip
_NOT_OURS = frozenset({"on", "if", "needs", "continue-on-error", "secrets"})
_KNOWN = frozenset({*_TOP, *_JOB, *_STEP}) - _NOT_OURS
_COLON = re.compile(r"(?P<head>[ ]*(?:-[ ]+)?)(?P<key>[a-z][a-z-]*):(?P<value>[^\s:/].*)")
_BLOCK = re.compile(r"[^#]*:\s*[|>][+-]?\d?\s*(?:#.*)?$")
_KEPT_LINE = re.compile(r"\s*(?:-\s+)?(?:on|if|needs|continue-on-error|secrets)\s*:")
_MOST_CANDIDATES = 60
_MOST_JUDGED = 8


def mended(text: str, judge: Callable[[str], bool]) -> tuple[str, str]:
    """The mended text and what was mistaken. `judge` says whether a text is a valid workflow.

    Raises Malformed where there is no such mistake, or more than one way to mend it.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise Malformed(f"larger than {MAX_BYTES} bytes")
    meanings: list[tuple[Any, str, str]] = []
    judged = 0
    for new, mistake in _candidates(text):
        if _moves_what_is_kept(text, new):
            continue
        try:
            meaning = data_of(new)
        except Malformed:
            continue
        if any(meaning == known for known, _, _ in meanings):
            continue
        if judged == _MOST_JUDGED:
            raise Malformed("there are too many ways to mend it")
        judged += 1
        if judge(new):
            meanings.append((meaning, new, mistake))
    if len(meanings) != 1:
        ways = ", ".join(mistake for _, _, mistake in meanings)
        raise Malformed(f"it can be mended in several ways: {ways}" if ways else "no plain mistake was found in it")
    return meanings[0][1], meanings[0][2]


def _moves_what_is_kept(old: str, new: str) -> bool:
    """Whether a line changed that starts the workflow, or says whether something runs or may fail.

    Tabs are all expanded alike, so a line that begins with one stays where it is among its neighbours.
    """
    lines = zip(old.split("\n"), new.split("\n"), strict=True)
    return any(line != other and _KEPT_LINE.match(other) for line, other in lines if not line.startswith("\t"))


def _candidates(text: str) -> Iterator[tuple[str, str]]:
    at = _trouble(text)
    if at is None:
        yield from _keys(text)
        return
    found = [*_tabs(text), *_colons(text), *_indentations(text, at)]
    yield from found[:_MOST_CANDIDATES]


def _trouble(text: str) -> frozenset[int] | None:
    """The lines (from 0) at which the parser gave up; None if it did not."""
    try:
        list(YAML(pure=True).compose_all(text))
    except MarkedYAMLError as error:
        marks = [mark for mark in (error.problem_mark, error.context_mark) if mark is not None]
        return frozenset(line for mark in marks for line in (mark.line - 1, mark.line) if line >= 0)
    except NOT_YAML:
        return frozenset()
    return None


def _tabs(text: str) -> Iterator[tuple[str, str]]:
    if re.search(r"(?m)^[ ]*\t", text):
        for width in (2, 4, 8):
            lines = (_expanded(line, width) for line in text.split("\n"))
            yield "\n".join(lines), "tabs where spaces must stand"


def _expanded(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    return indent.expandtabs(width) + line[len(indent) :]


def _colons(text: str) -> Iterator[tuple[str, str]]:
    """A space after each colon of a known key that has none; first of all at once, then of each alone."""
    lines = text.split("\n")
    places = {number: _spaced(line) for number, line in _outside_scripts(lines) if _spaced(line)}
    if places:
        yield "\n".join(places.get(n) or line for n, line in enumerate(lines)), "no space after a colon"
    if len(places) > 1:
        for number, line in places.items():
            yield (
                "\n".join([*lines[:number], line or "", *lines[number + 1 :]]),
                f"no space after a colon in {number + 1}",
            )


def _spaced(line: str) -> str:
    found = _COLON.fullmatch(line.rstrip("\r"))
    if found is None or found["key"] not in _KNOWN:
        return ""
    return f"{found['head']}{found['key']}: {found['value']}" + ("\r" if line.endswith("\r") else "")


def _outside_scripts(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Lines that do not stand in a block scalar, as far as indentation tells."""
    script_indent: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip(" \t"))
        if script_indent is not None and (not line.strip() or indent > script_indent):
            continue
        script_indent = indent if _BLOCK.match(line) else None
        yield number, line


def _indentations(text: str, at: frozenset[int]) -> Iterator[tuple[str, str]]:
    """One line of those in trouble, alone or with what stands below it, as far in as one of its neighbours."""
    lines = text.split("\n")
    for number in sorted(at):
        if number >= len(lines) or not lines[number].strip() or lines[number].lstrip().startswith("#"):
            continue
        line = lines[number]
        own = len(line) - len(line.lstrip(" "))
        near = [each for each in lines[max(0, number - 6) : number + 7] if each.strip()]
        columns = {len(each) - len(each.lstrip(" ")) for each in near}
        columns |= {column + 2 for column in columns}
        last = number + 1
        while last < len(lines) and lines[last].strip() and len(lines[last]) - len(lines[last].lstrip(" ")) > own:
            last += 1
        for column in sorted(columns - {own}):
            for end in {number + 1, last}:
                moved = [_moved(each, column - own) for each in lines[number:end]]
                yield "\n".join([*lines[:number], *moved, *lines[end:]]), f"the indentation of line {number + 1}"


def _moved(line: str, by: int) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * max(0, indent + by) + line.lstrip(" ")


def _keys(text: str) -> Iterator[tuple[str, str]]:
    """Each key that is not known, and is one letter away from just one that is, under its right name."""
    new, mistakes = text, []
    for index, key, known, present in sorted(_unknown(text), reverse=True):
        near = [name for name in known if _one_edit(key, name)]
        if len(near) != 1 or near[0] in present or near[0] in _NOT_OURS or text[index : index + len(key)] != key:
            return
        new = new[:index] + near[0] + new[index + len(key) :]
        mistakes.append(f"{key} for {near[0]}")
    if mistakes:
        yield new, ", ".join(reversed(mistakes))


def _unknown(text: str) -> Iterator[tuple[int, str, tuple[str, ...], frozenset[str]]]:
    """Where it stands, the key, what is known there, what is there."""
    try:
        documents = list(YAML(pure=True).compose_all(text))
    except NOT_YAML:
        return
    for node, known in _levels(documents[0]) if len(documents) == 1 else ():
        present = frozenset(key.value for key, _ in node.value)
        for key, _ in node.value:
            if key.value not in known and isinstance(key.value, str):
                yield key.start_mark.index, key.value, known, present


def _levels(root: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Mappings of a workflow whose keys are fixed, also below misspelt ones."""
    if not _is_mapping(root):
        return
    yield root, _TOP
    for key, jobs in root.value:
        if key.value != "jobs" and not _one_edit(str(key.value), "jobs"):
            continue
        for _, job in jobs.value if _is_mapping(jobs) else ():
            if not _is_mapping(job):
                continue
            yield job, _JOB
            for name, steps in job.value:
                if name.value == "steps" or _one_edit(str(name.value), "steps"):
                    for step in steps.value if isinstance(steps.value, list) else ():
                        if _is_mapping(step):
                            yield step, _STEP


def _is_mapping(node: Any) -> bool:
    return getattr(node, "id", "") == "mapping"


def _one_edit(word: str, name: str) -> bool:
    """One letter more, less or other, or two neighbours in the other order; `_` for `-` counts as one in all."""
    if word == name or abs(len(word) - len(name)) > 1 or len(word) > 40:
        return False
    if word.lower().replace("_", "-") == name:
        return True
    shorter, longer = sorted((word, name), key=len)
    if len(shorter) < len(longer):
        return any(longer[:n] + longer[n + 1 :] == shorter for n in range(len(longer)))
    odd = [n for n, (one, other) in enumerate(zip(word, name, strict=True)) if one != other]
    swapped = len(odd) == 2 and odd[1] == odd[0] + 1 and word[odd[0]] == name[odd[1]] and word[odd[1]] == name[odd[0]]
    return len(odd) == 1 or swapped

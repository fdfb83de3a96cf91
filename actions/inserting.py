"""One more requirement in a manifest, written as its neighbours are. Nothing else of the text changes."""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from packaging.utils import canonicalize_name

from actions.manifests import MAX_PLACES, Keys, Line
from app.domain.errors import Refused
from app.security.toml import load_toml


def into_requirements(text: str, words: str, lines: list[Line]) -> str:
    """At its place where the lines are in alphabetical order, else behind the last one. `lines` are this file's own."""
    end = "\r\n" if "\r\n" in text else "\n"
    split = re.split(r"(?<=\n)", text)
    if split[-1] == "":
        split.pop()
    name = canonicalize_name(re.split(r"[\[=<>~! ;]", words)[0])
    names = [line.name for line in lines]
    at = lines[-1].number if lines else len(split)
    if len(names) > 1 and names == sorted(names):
        at = next((line.number - 1 for line in lines if line.name > name), at)
    if at == len(split):
        if split and not split[-1].endswith("\n"):
            return f"{text}{end}{words}"
        return f"{text}{words}{end}"
    return "".join([*split[:at], f"{words}{end}", *split[at:]])


def into_list(path: str, text: str, document: Mapping[str, Any], keys: Keys, words: str) -> str:
    """At the end of a list of strings in TOML. Raises Refused where that place cannot be told."""
    items = _at(document, keys)
    expected = [*items, words]
    if items and isinstance(items[-1], str):
        candidates = _behind(text, items[-1], words)
    elif not items:
        key = re.escape(str(keys[-1]))
        pattern = re.compile(rf"(?:(?<![\w.-])|\"){key}\"?[ \t]*=[ \t]*\[(?P<inside>\s*)\]")
        candidates = [
            text[: m.start("inside")] + f'"{words}"' + text[m.end("inside") :] for m in pattern.finditer(text)
        ]
    else:
        candidates = []
    return _right(path, candidates[:MAX_PLACES], document, keys, expected)


def _behind(text: str, last: str, words: str) -> list[str]:
    """The text with one more element, for every place where the last one may stand."""
    end = "\r\n" if "\r\n" in text else "\n"
    found = []
    for match in re.finditer(rf"(?P<quote>[\"']){re.escape(last)}(?P=quote)", text):
        quote, here = match["quote"], match.end()
        begin = text.rfind("\n", 0, match.start()) + 1
        indent = text[begin : match.start()]
        new = f"{quote}{words}{quote}"
        if indent.strip():
            found.append(f"{text[:here]}, {new}{text[here:]}")
            continue
        stop = text.find("\n", here)
        stop = len(text) if stop < 0 else stop - (text[stop - 1] == "\r")
        rest = text[here:stop]
        if rest.lstrip().startswith(","):
            found.append(f"{text[:stop]}{end}{indent}{new},{text[stop:]}")
        elif not rest.strip() or rest.lstrip().startswith("#"):
            found.append(f"{text[:here]},{rest}{end}{indent}{new}{text[stop:]}")
        else:
            found.append(f"{text[:here]}, {new}{text[here:]}")
    return found


def into_table(path: str, text: str, document: Mapping[str, Any], keys: Keys, name: str, value: str) -> str:
    """At the end of a table of Poetry. Raises Refused where that place cannot be told."""
    end = "\r\n" if "\r\n" in text else "\n"
    header = re.compile(rf"(?m)^[ \t]*\[[ \t]*{re.escape('.'.join(map(str, keys)))}[ \t]*\][ \t]*(?:#[^\n]*)?\r?$")
    candidates = []
    for match in header.finditer(text):
        place, at = match.end(), match.end()
        for raw in re.split(r"(?<=\n)", text[at:]):
            if raw.lstrip().startswith("["):
                break
            at += len(raw)
            if raw.strip() and not raw.lstrip().startswith("#"):
                place = at - len(raw) + len(raw.rstrip("\r\n"))
        place -= text[place - 1] == "\r"
        candidates.append(f'{text[:place]}{end}{name} = "{value}"{text[place:]}')
    return _right(path, candidates, document, (*keys, name), value)


def _at(document: Mapping[str, Any], keys: Keys) -> list[Any]:
    inner: Any = document
    for key in keys:
        inner = inner[key]
    return list(inner)


def _right(path: str, candidates: list[str], document: Mapping[str, Any], keys: Keys, value: Any) -> str:
    """The candidate that says what is meant, and nothing else."""
    expected: Any = deepcopy(dict(document))
    inner = expected
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    for candidate in candidates:
        try:
            found = load_toml(candidate)
        except ValueError:
            continue
        if found == expected:
            return candidate
    raise Refused(f"{path}: {'.'.join(map(str, keys))} is written in a way that is not changed here")

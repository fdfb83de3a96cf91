"""Numbers in YAML, TOML and JSON files: where they stand, and how to change them without touching anything else."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import accumulate
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from app.domain.errors import Malformed
from app.security.toml import load_toml

Path = tuple[str | int, ...]

SUFFIXES = (".yaml", ".yml", ".toml", ".json")

_MAX_MATCHES = 40
_MAX_DEPTH = 100
_DEEP_LIST = re.compile(r"(?:-[ \t]+){50}")
_PROBE = "987654321"
_NUMBER = r"[+-]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
_PLAIN_NUMBER = re.compile(_NUMBER)
_PARTS = re.compile(r"(?P<sign>[+-]?)(?P<mantissa>[0-9_]*\.?[0-9_]*)(?:(?P<e>[eE])(?P<exponent>[+-]?[0-9]+))?")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number as written: `text[start:end] == literal`, under `path` in the parsed file."""

    path: Path
    literal: str
    start: int
    end: int

    @property
    def key(self) -> str:
        return str(self.path[-1])

    @property
    def name(self) -> str:
        return ".".join(str(part) for part in self.path)


def find(file: str, text: str, keys: frozenset[str]) -> list[Scalar]:
    """The plain numbers under one of `keys`, in the order of the file. Raises Malformed for a file it cannot read."""
    return _find_yaml(text, keys) if file.endswith((".yaml", ".yml")) else _find_by_probe(file, text, keys)


def rewrite(file: str, text: str, changes: Mapping[Scalar, str]) -> str:
    """`text` with new literals at those places, checked by parsing: nothing else may have changed its value.

    Raises Malformed if something else would change.
    """
    new = text
    for scalar in sorted(changes, key=lambda scalar: scalar.start, reverse=True):
        if text[scalar.start : scalar.end] != scalar.literal:
            raise Malformed(f"{scalar.name} is not where it was in {file}")
        new = new[: scalar.start] + changes[scalar] + new[scalar.end :]
    expected = {scalar.path for scalar, literal in changes.items() if _value(scalar.literal) != _value(literal)}
    if {path for path, _ in _leaves(file, text) ^ _leaves(file, new)} != expected:
        raise Malformed(f"{file} cannot be changed at {', '.join(scalar.name for scalar in changes)} alone")
    return new


def is_whole(literal: str) -> bool:
    return literal.lstrip("+-").replace("_", "").isdecimal()


def whole(literal: str) -> int:
    return int(literal.replace("_", ""))


def write_whole(number: int, like: str) -> str:
    """With `_` between thousands if `like` had any."""
    sign = "+" if like.startswith("+") else ""
    return sign + (f"{number:_}" if "_" in like else str(number))


def divide(literal: str, by: int) -> str:
    """A decimal number divided, in the notation that it had: 2.5 → 0.25, 1e-3 → 1e-4, .5 → .05."""
    parts = _PARTS.fullmatch(literal)
    if parts is None:
        raise Malformed(f"{literal!r} is not a decimal number")
    mantissa = parts["mantissa"].replace("_", "")
    if parts["e"]:
        power = len(str(by)) - 1
        if by == 10**power:
            return f"{parts['sign']}{parts['mantissa']}{parts['e']}{_shift(parts['exponent'], -power)}"
        shift = 0
        value = _quotient(Decimal(mantissa), by)
        while 0 < abs(value) < 1:
            value, shift = value * 10, shift - 1
        plain = f"{value:f}" if "." in mantissa else f"{value.normalize():f}"
        return f"{parts['sign']}{plain}{parts['e']}{_shift(parts['exponent'], shift)}"
    plain = f"{_quotient(Decimal(mantissa), by):f}"
    if mantissa.startswith(".") and plain.startswith("0."):
        plain = plain[1:]
    return parts["sign"] + plain


def _quotient(value: Decimal, by: int) -> Decimal:
    """Exact where twelve digits suffice, and never without the digits that were written."""
    return Context(prec=max(12, len(value.as_tuple().digits)), rounding=ROUND_HALF_EVEN).divide(value, Decimal(by))


def _shift(exponent: str, by: int) -> str:
    """With the sign and the leading zeros that it had."""
    number = int(exponent) + by
    sign = "-" if number < 0 else ("+" if exponent.startswith("+") else "")
    return sign + str(abs(number)).zfill(len(exponent.lstrip("+-")))


def _value(literal: str) -> Decimal:
    return Decimal(literal.replace("_", ""))


def _find_yaml(text: str, keys: frozenset[str]) -> list[Scalar]:
    found = []
    for path, node in _walk(_compose(text)):
        if path and path[-1] in keys and node.style is None and _PLAIN_NUMBER.fullmatch(node.value):
            start, end = node.start_mark.index, node.end_mark.index
            if text[start:end] != node.value:
                raise Malformed("the positions in this YAML file cannot be trusted")
            found.append(Scalar(path, node.value, start, end))
    return found


def _compose(text: str) -> list[Node]:
    # The parser spends seconds on depths that no settings have.
    depths = accumulate((1 if bracket in "[{" else -1) for bracket in re.findall(r"[\[\]{}]", text))
    if max(depths, default=0) > _MAX_DEPTH or _DEEP_LIST.search(text):
        raise Malformed("nested too deeply")
    try:
        return [node for node in YAML(pure=True).compose_all(text) if node is not None]
    except (YAMLError, ValueError, RecursionError) as error:
        raise Malformed(f"not YAML: {type(error).__name__}") from error


def _walk(documents: list[Node]) -> Iterator[tuple[Path, ScalarNode]]:
    """Every scalar once, in the order of the file: an alias leads to a node that was already seen."""
    seen: set[int] = set()
    waiting: list[tuple[Path, Node]] = [((), node) for node in reversed(documents)]
    if len(documents) > 1:
        waiting = [((number,), node) for number, node in reversed(list(enumerate(documents)))]
    while waiting:
        path, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            inner = [((*path, str(key.value)), value) for key, value in node.value if isinstance(key, ScalarNode)]
            waiting.extend(reversed(inner))
        elif isinstance(node, SequenceNode):
            waiting.extend(reversed([((*path, number), item) for number, item in enumerate(node.value)]))
        elif isinstance(node, ScalarNode):
            yield path, node


def _find_by_probe(file: str, text: str, keys: frozenset[str]) -> list[Scalar]:
    """Candidates by pattern; each is kept only if the parser agrees that this number is the value of that key."""
    before = _leaves(file, text)
    names = "|".join(sorted(re.escape(key) for key in keys))
    pattern = rf'"(?:{names})"\s*:\s*' if file.endswith(".json") else rf"(?<![\w-])[\"']?(?:{names})[\"']?[ \t]*=[ \t]*"
    found = []
    for number, match in enumerate(re.finditer(rf"{pattern}(?P<number>{_NUMBER})(?![\w.+-])", text)):
        if number >= _MAX_MATCHES:
            raise Malformed(f"more than {_MAX_MATCHES} numbers fit")
        start, end = match.span("number")
        try:
            changed = {path for path, _ in before ^ _leaves(file, text[:start] + _PROBE + text[end:])}
        except Malformed:
            continue
        if len(changed) == 1 and (path := changed.pop()) and path[-1] in keys:
            found.append(Scalar(path, match["number"], start, end))
    return found


def _leaves(file: str, text: str) -> set[tuple[Path, str]]:
    if file.endswith((".yaml", ".yml")):
        return {(path, f"{node.tag} {node.value}") for path, node in _walk(_compose(text))}
    try:
        data = json.loads(text) if file.endswith(".json") else load_toml(text)
        return set(_flat(data))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"cannot be parsed: {type(error).__name__}") from error


def _flat(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if inner is None:
        yield path, f"{type(data).__name__} {data!r}"
        return
    for key, value in inner:
        yield from _flat(value, (*path, key))

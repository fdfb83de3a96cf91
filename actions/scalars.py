"""Settings in YAML, TOML and JSON files: where they stand, and how to change them without touching anything else."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from typing import Any

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from app.domain.errors import Malformed
from app.security.toml import load_toml
from app.security.yaml import documents

Path = tuple[str | int, ...]

SUFFIXES = (".yaml", ".yml", ".toml", ".json")

_MAX_MATCHES = 40
_MAX_DEPTH = 100
_MOST_DIGITS = 18  # of a whole number; Python reads no more than 4300
_PROBE = "987654321"
_NUMBER = r"[+-]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
_STRING = r'"(?:[^"\\\n]|\\.){0,500}"|\'[^\'\n]{0,500}\''
_PLAIN_NUMBER = re.compile(_NUMBER)
_COLON = re.compile(r"[ \t]*:")
_PARTS = re.compile(r"(?P<sign>[+-]?)(?P<mantissa>[0-9_]*\.?[0-9_]*)(?:(?P<e>[eE])(?P<exponent>[+-]?[0-9]+))?")


class Kind(StrEnum):
    """What is written at a setting. Only the first four can be changed."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    NULL = "null"
    TEXT = "text"  # with its quotes, if it has any
    OTHER = "other"  # an interpolation, an expression, a number that others share


NUMBERS = frozenset({Kind.NUMBER})
ANY = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A setting as written: `text[start:end] == literal`, under `path` in the parsed file.

    Its key begins at `key_start`. `handed_on` where it is no setting of the file but an argument that code passes on.
    """

    path: Path
    literal: str
    start: int
    end: int
    kind: Kind = Kind.NUMBER
    key_start: int = -1
    handed_on: bool = False

    @property
    def key(self) -> str:
        return str(self.path[-1])

    @property
    def word(self) -> str:
        return word(self.key)

    @property
    def name(self) -> str:
        return ".".join(str(part) for part in self.path)


@dataclass(frozen=True, slots=True)
class Addition:
    """A setting that is not there yet, to stand beside one that is."""

    beside: Scalar
    key: str
    literal: str

    @property
    def path(self) -> Path:
        return (*self.beside.path[:-1], self.key)


def word(key: str) -> str:
    """A key without its notation: `--batch-size` and `BATCH_SIZE` are `batch_size`."""
    return key.lstrip("-").replace("-", "_").lower()


def find(file: str, text: str, keys: frozenset[str], kinds: frozenset[Kind] = NUMBERS) -> list[Scalar]:
    """What stands under one of `keys`, in the order of the file; of numbers the plain ones.

    Raises Malformed for a file it cannot read.
    """
    if file.endswith((".yaml", ".yml")):
        found = [scalar for scalar in in_yaml(text) if scalar.word in keys]
    else:
        found = _find_by_probe(file, text, keys)
    return [scalar for scalar in found if scalar.kind in kinds]


def rewrite(file: str, text: str, changes: Mapping[Scalar, str], additions: Sequence[Addition] = ()) -> str:
    """`text` with new literals at those places, checked by parsing: nothing else may have changed its value.

    Raises Malformed if something else would change.
    """
    before = _leaves(file, text)
    expected = {scalar.path for scalar, literal in changes.items() if not _equal(scalar.literal, literal)}
    for addition in additions:
        if any(path[: len(addition.path)] == addition.path for path, _ in before):
            raise Malformed(f"{addition.key} stands in {file} already")
        expected.add(addition.path)
    for inline in (False, True):
        new = splice(file, text, changes, [_insertion(file, text, addition, inline) for addition in additions])
        try:
            if {path for path, _ in before ^ _leaves(file, new)} == expected:
                return new
        except Malformed:
            if inline:
                raise
    named = ", ".join([scalar.name for scalar in changes] + [addition.key for addition in additions])
    raise Malformed(f"{file} cannot be changed at {named} alone")


def splice(file: str, text: str, changes: Mapping[Scalar, str], insertions: Sequence[tuple[int, str]]) -> str:
    """`text` with the literals replaced and the insertions made, all places as in `text`."""
    for scalar in changes:
        if text[scalar.start : scalar.end] != scalar.literal:
            raise Malformed(f"{scalar.name} is not where it was in {file}")
    parts = [(s.start, s.end, literal if s.literal else f" {literal}") for s, literal in changes.items()]
    parts += [(at, at, inserted) for at, inserted in insertions]
    for start, end, literal in sorted(parts, reverse=True):
        text = text[:start] + literal + text[end:]
    return text


def _insertion(file: str, text: str, addition: Addition, inline: bool) -> tuple[int, str]:
    """Where a new setting goes, and how it is written: on a line of its own, or behind its neighbour on the same."""
    beside = addition.beside
    if file.endswith(".json"):
        head = text[: beside.key_start]
        gap = head[len(head.rstrip(" \t\r\n")) :]
        colon = re.match(r'"[^"]*"(\s*:\s*)', text[beside.key_start : beside.start + 1])
        written = f'"{addition.key}"{colon[1] if colon else ": "}{addition.literal},{gap or " "}'
        return beside.key_start, written
    equals = ": " if file.endswith((".yaml", ".yml")) else " = "
    if inline:
        return beside.end, f", {addition.key}{equals}{addition.literal}"
    line_start = text.rfind("\n", 0, beside.key_start) + 1
    margin = re.sub(r"[^ \t]", " ", text[line_start : beside.key_start])
    line_end = text.find("\n", beside.end)
    crlf = "\r\n" if "\r\n" in text else "\n"
    if line_end < 0:
        return len(text), f"{crlf}{margin}{addition.key}{equals}{addition.literal}"
    return line_end + 1, f"{margin}{addition.key}{equals}{addition.literal}{crlf}"


def is_whole(literal: str) -> bool:
    digits = literal.lstrip("+-").replace("_", "")
    return digits.isdecimal() and len(digits) <= _MOST_DIGITS


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


def _equal(one: str, other: str) -> bool:
    if _PLAIN_NUMBER.fullmatch(one) and _PLAIN_NUMBER.fullmatch(other):
        return Decimal(one.replace("_", "")) == Decimal(other.replace("_", ""))
    return one == other


def in_yaml(text: str) -> list[Scalar]:
    """Every setting of a YAML file, in its order. Raises Malformed for a file it cannot read."""
    found = []
    for path, key, node in _walk(_compose(text)):
        if key is None:
            continue
        start, end = node.start_mark.index, node.end_mark.index
        if node.style is None and not node.value:
            colon = _COLON.match(text, key.end_mark.index)
            start = end = colon.end() if colon else key.end_mark.index
        elif node.style is None:
            start = end - len(node.value)
            if text[start:end] != node.value:
                continue  # over several lines
        elif node.style not in "'\"" or node.anchor:
            continue
        kind = _yaml_kind(node, text)
        found.append(Scalar(path, text[start:end], start, end, kind, key.start_mark.index))
    return found


def _yaml_kind(node: ScalarNode, text: str) -> Kind:
    if "${" in node.value or (node.anchor and f"*{node.anchor}" in text):
        return Kind.OTHER
    if node.style is not None:
        return Kind.TEXT
    if _PLAIN_NUMBER.fullmatch(node.value):
        return Kind.NUMBER
    if node.value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return Kind.BOOLEAN
    return Kind.NULL if node.value in ("", "~", "null", "Null", "NULL") else Kind.TEXT


def _compose(text: str) -> list[Node]:
    try:
        return documents(text, _MAX_DEPTH)
    except ValueError as error:
        raise Malformed(str(error)) from error


def _walk(documents: list[Node]) -> Iterator[tuple[Path, ScalarNode | None, ScalarNode]]:
    """Every scalar once with its key, in the order of the file: an alias leads to a node that was already seen."""
    seen: set[int] = set()
    waiting: list[tuple[Path, ScalarNode | None, Node]] = [((), None, node) for node in reversed(documents)]
    if len(documents) > 1:
        waiting = [((number,), None, node) for number, node in reversed(list(enumerate(documents)))]
    while waiting:
        path, name, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, MappingNode):
            inner = [((*path, str(key.value)), key, value) for key, value in node.value if isinstance(key, ScalarNode)]
            waiting.extend(reversed(inner))
        elif isinstance(node, SequenceNode):
            waiting.extend(reversed([((*path, number), None, item) for number, item in enumerate(node.value)]))
        elif isinstance(node, ScalarNode):
            yield path, name, node


def _find_by_probe(file: str, text: str, keys: frozenset[str]) -> list[Scalar]:
    """Candidates by pattern; each is kept only if the parser agrees that this is the value of that key."""
    before = _leaves(file, text)
    names = "|".join(sorted(re.escape(key).replace("_", "[_-]") for key in keys))
    pattern = (
        rf'"(?i:{names})"\s*:\s*' if file.endswith(".json") else rf"(?<![\w-])[\"']?(?i:{names})[\"']?[ \t]*=[ \t]*"
    )
    value = rf"(?P<number>{_NUMBER})(?![\w.+-])|(?P<boolean>true|false)\b|(?P<null>null)\b|(?P<text>{_STRING})"
    found = []
    for number, match in enumerate(re.finditer(rf"{pattern}(?P<value>{value})", text)):
        if number >= _MAX_MATCHES:
            raise Malformed(f"more than {_MAX_MATCHES} settings fit")
        start, end = match.span("value")
        try:
            changed = {path for path, _ in before ^ _leaves(file, text[:start] + _PROBE + text[end:])}
        except Malformed:
            continue
        if len(changed) == 1 and (path := changed.pop()) and word(str(path[-1])) in keys:
            kind = next(kind for kind in (Kind.NUMBER, Kind.BOOLEAN, Kind.NULL, Kind.TEXT) if match[kind.value])
            kind = Kind.OTHER if "${" in match["value"] else kind
            found.append(Scalar(path, match["value"], start, end, kind, match.start()))
    return found


def _leaves(file: str, text: str) -> set[tuple[Path, str]]:
    if file.endswith((".yaml", ".yml")):
        return {(path, f"{node.tag} {node.value}") for path, _, node in _walk(_compose(text))}
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


def defaults(text: str) -> dict[str, str] | None:
    """The `defaults` list of a composed configuration: group → option, "" → a file beside. None without such a list."""
    if not re.search(r"(?m)^defaults[ \t]*:", text):
        return None
    try:
        composed = _compose(text)
    except Malformed:
        return None
    if len(composed) != 1 or not isinstance(composed[0], MappingNode):
        return None
    found: dict[str, str] = {}
    for key, value in composed[0].value:
        if isinstance(key, ScalarNode) and key.value == "defaults" and isinstance(value, SequenceNode):
            for item in value.value:
                if isinstance(item, ScalarNode) and item.value != "_self_":
                    group, _, option = item.value.partition("@")[0].strip("/").rpartition("/")
                    found[group] = option
                elif isinstance(item, MappingNode):
                    for group_node, option_node in item.value:
                        if isinstance(group_node, ScalarNode) and isinstance(option_node, ScalarNode):
                            group = re.sub(r"^(?:override |optional )*", "", group_node.value).partition("@")[0]
                            found[group.strip("/")] = option_node.value
            return found
    return None

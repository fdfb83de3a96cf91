"""A Config from words of the form key=value, and what --help says of its fields."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from workloads.contract import Failure, RunFailed

_YES, _NO = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
LONGEST = 2_000


def pairs(words: Iterable[str]) -> dict[str, str]:
    """`key=value` each. Raises RunFailed."""
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise RunFailed(Failure.BAD_SETTING, f"--set {word[:100]!r} is not of the form name=value")
        found[name.strip()] = value
    return found


def read(config: type, told: Mapping[str, str]) -> Any:
    """A frozen Config with these settings and the defaults of the others. Raises RunFailed, naming what is wrong and
    what would be right."""
    fields = {each.name: each for each in dataclasses.fields(config)}
    kinds = typing.get_type_hints(config)
    values: dict[str, Any] = {}
    for name, text in told.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise RunFailed(Failure.BAD_SETTING, f"there is no setting {name[:100]!r}; {hint}")
        if len(text) > LONGEST:
            raise RunFailed(Failure.BAD_SETTING, f"the setting {name} is longer than {LONGEST} characters")
        values[name] = _value(name, kinds[name], text.strip(), fields[name].metadata)
    return config(**values)


def _value(name: str, kind: Any, text: str, limits: Mapping[str, Any]) -> Any:
    choices = limits.get("choices") or ()
    if choices and text not in choices:
        raise _wrong(name, text, f"is one of {', '.join(choices)}")
    if kind is bool:
        if text.lower() not in _YES | _NO:
            raise _wrong(name, text, "is true or false")
        return text.lower() in _YES
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            raise _wrong(name, text, f"is {_SPOKEN[kind]}") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise _wrong(name, text, "is a finite number")
        least, most = limits.get("least"), limits.get("most")
        if (least is not None and number < least) or (most is not None and number > most):
            raise _wrong(name, text, f"lies {_range(least, most)}")
        return number
    return text


_SPOKEN: Mapping[Any, str] = types.MappingProxyType({int: "a whole number", float: "a number"})


def _wrong(name: str, text: str, rule: str) -> RunFailed:
    return RunFailed(Failure.BAD_SETTING, f"{name}={text[:100]!r} cannot be used: it {rule}")


def _range(least: float | None, most: float | None) -> str:
    if most is None:
        return f"at or above {least:g}"
    return f"at or below {most:g}" if least is None else f"between {least:g} and {most:g}"


def positional(config: type) -> str:
    """The setting that may be given without its name; "" for none."""
    return next((each.name for each in dataclasses.fields(config) if each.metadata.get("positional")), "")


def described(config: type) -> list[str]:
    """A line for each setting: name, default, what it is, what it may be."""
    lines = []
    for each in dataclasses.fields(config):
        told = each.metadata
        default = str(each.default).lower() if isinstance(each.default, bool) else f"{each.default}"
        unit = f" {told['unit']}" if told.get("unit") else ""
        may = f" ({' | '.join(told['choices'])})" if told.get("choices") else ""
        lines.append(f"  {f'{each.name}={default}{unit}':<30} {told['help']}{may}")
    return lines


def as_json(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)

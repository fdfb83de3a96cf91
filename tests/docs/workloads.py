"""The tables of docs/reference/workloads.md, made of the workloads: `python -m tests.docs.workloads --write`."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads import catalogue
from workloads.contract import EXIT_CODES, Verb

PAGE = Path(__file__).parents[2] / "docs/reference/workloads.md"
BEGIN, END = "<!-- made: {} -->\n", "<!-- /made -->"


def parts() -> dict[str, str]:
    """What stands between the marks of each name."""
    made = {"exit codes": "| Code | Why |\n|--:|---|\n" + "".join(_codes())}
    for name in catalogue.BUILTIN:
        for verb, what in catalogue.find(name).verbs.items():
            made[f"{name} {verb}"] = "| Setting | Default | What it is |\n|---|---|---|\n" + "".join(_rows(what))
    return made


def _codes() -> Iterator[str]:
    for kind, number in sorted(EXIT_CODES.items(), key=lambda each: each[1]):
        yield f"| {number} | `{kind}` |\n"


def _rows(verb: Verb) -> Iterator[str]:
    for each in dataclasses.fields(verb.Config):
        yield f"| `{each.name}` | {_default(each)} | {each.metadata['help']}{_may(each.metadata)} |\n"


def _default(each: Any) -> str:
    if each.default == "":
        return "empty"
    told = str(each.default).lower() if isinstance(each.default, bool) else each.default
    return f"`{told}`" + (f" {each.metadata['unit']}" if each.metadata["unit"] else "")


def _may(told: Any) -> str:
    if told["choices"]:
        return f" ({', '.join(f'`{choice}`' for choice in told['choices'])})"
    least, most = told["least"], told["most"]
    if least is None and most is None:
        return ""
    return f" ({f'{least:g}' if least is not None else ''} … {f'{most:g}' if most is not None else ''})".replace(
        " )", ")"
    )


def written(text: str) -> str:
    """The page with its tables as they should be."""
    for name, made in parts().items():
        before, mark, rest = text.partition(BEGIN.format(name))
        if not mark:
            raise SystemExit(f"{PAGE.name} has no place for {name!r}")
        text = before + mark + made + rest[rest.index(END) :]
    return text


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--write", action="store_true", help="write the page; else say whether it is as it should be")
    now = PAGE.read_text(encoding="utf-8")
    if asked.parse_args().write:
        PAGE.write_text(written(now), encoding="utf-8")
    sys.exit(written(now) != now)

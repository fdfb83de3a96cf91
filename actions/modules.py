"""Which distribution provides a module: known, or not. See modules.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """`also` are other distributions of the same module; `tests`: it is a tool of tests and checks."""

    distribution: str
    source: str
    also: tuple[str, ...] = ()
    tests: bool = False


def _provider(module: str, entry: Mapping[str, Any]) -> Provider:
    if not {"distribution", "source"} <= set(entry) <= {"distribution", "source", "also", "tests"}:
        raise ValueError(f"{module}: an entry has a distribution and a source, and may have also and tests")
    return Provider(entry["distribution"], entry["source"], tuple(entry.get("also", ())), entry.get("tests", False))


PROVIDERS = {
    module: _provider(module, entry)
    for module, entry in tomllib.loads((files(__package__) / "modules.toml").read_text("utf-8")).items()
}


def provider_of(module: str) -> Provider | None:
    """Of the longest dotted name that is known: `google.cloud.storage` is another distribution than `google.auth`."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((PROVIDERS[name] for name in names if name in PROVIDERS), None)

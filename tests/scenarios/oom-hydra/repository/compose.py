"""Composes configuration as Hydra does: a list of defaults, groups of options, and interpolation."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

CONF = Path("conf")


def _load(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path) or {}


def compose(config_name: str, overrides: list[str]) -> dict[str, Any]:
    config = _load(CONF / f"{config_name}.yaml")
    chosen = {group: option for entry in config.pop("defaults") if isinstance(entry, dict) for group, option in entry.items()}
    chosen |= dict(override.split("=") for override in overrides)
    for group, option in chosen.items():
        config[group] = _load(CONF / group / f"{option}.yaml")
    return _resolve(config, config)


def _resolve(value: Any, root: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(inner, root) for key, inner in value.items()}
    if isinstance(value, str) and (match := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        for key in match[1].split("."):
            root = root[key]
        return root
    return value

"""Trains every model that has a file of settings."""

from pathlib import Path

from network import check, fit
from ruamel.yaml import YAML

for path in sorted(Path("configs").glob("*.yaml")):
    settings = YAML(typ="safe").load(path)
    check(fit(settings["batch_size"], settings["gradient_accumulation_steps"]))

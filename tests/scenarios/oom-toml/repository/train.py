import tomllib
from pathlib import Path

from network import check, fit

optimizer = tomllib.loads(Path("settings/training.toml").read_text())["optimizer"]
check(fit(optimizer["batch_size"], optimizer["accumulation_steps"], optimizer["rate"], epochs=12))

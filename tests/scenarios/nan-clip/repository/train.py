from pathlib import Path

from parcels import check, fit, parcels
from ruamel.yaml import YAML

config = YAML(typ="safe").load(Path("config.yaml"))
optimizer = config["optimizer"]
check(fit(parcels(**config["parcels"]), optimizer["learning_rate"], optimizer["max_grad_norm"]))

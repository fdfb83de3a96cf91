from pathlib import Path

from parcels import check, fit, parcels
from ruamel.yaml import YAML

for number, (name, settings) in enumerate(YAML(typ="safe").load(Path("config.yaml")).items()):
    print(name, flush=True)
    check(fit(parcels(2000, seed=number), settings["lr"], clip=None))

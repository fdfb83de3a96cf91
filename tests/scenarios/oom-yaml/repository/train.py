"""Usage: python train.py --config FILE"""

import sys
from pathlib import Path

from network import check, fit
from ruamel.yaml import YAML

settings = YAML(typ="safe").load(Path(sys.argv[2]))
train = settings["train"]
check(fit(train["batch_size"], train["gradient_accumulation_steps"], settings["rate"]))

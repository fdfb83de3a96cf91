from pathlib import Path

from loader import Loader, limit_memory
from ruamel.yaml import YAML

settings = YAML(typ="safe").load(Path("config.yaml"))["loader"]
limit_memory()
total = sum(int.from_bytes(batch, "little") for batch in Loader(**settings))
print(f"loaded {settings['num_workers']} batches, sum {total}")

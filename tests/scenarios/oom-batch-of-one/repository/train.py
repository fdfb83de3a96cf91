import tomllib
from pathlib import Path

import numpy as np
from network import limit_memory

settings = tomllib.loads(Path("config.toml").read_text())
limit_memory()
rng = np.random.default_rng(0)
width = settings["samples_a_row"]
kernel = rng.normal(size=64)
for row in range(settings["rows"]):
    batch = rng.normal(size=(settings["batch_size"], width))
    spectrum = np.fft.rfft(batch, axis=1)
    energy = float(np.abs(spectrum).mean())
    print(f"row {row} energy {energy:.3f}", flush=True)

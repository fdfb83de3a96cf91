import numpy as np
from pathlib import Path

from memory import limit_memory
from model import WIDTH, gradients
from ruamel.yaml import YAML

config = YAML(typ="safe").load(Path("config.yaml"))
limit_memory()
rng = np.random.default_rng(1)
weights = [np.eye(WIDTH) + rng.normal(scale=0.05, size=(WIDTH, WIDTH)) for _ in range(config["layers"])]
losses = []
for update in range(4):
    total = [np.zeros_like(weight) for weight in weights]
    for _ in range(config["gradient_accumulation_steps"]):
        x = rng.normal(scale=0.3, size=(config["batch_size"] * config["steps"], WIDTH))
        loss, found = gradients(weights, x, 0.5 * x, config["gradient_checkpointing"])
        for sums, gradient in zip(total, found, strict=True):
            sums += gradient / config["gradient_accumulation_steps"]
    for weight, gradient in zip(weights, total, strict=True):
        weight -= 0.05 * gradient
    losses.append(loss)
    print(f"update {update} loss {loss:.4f}", flush=True)
if losses[-1] >= losses[0]:
    raise SystemExit("nothing was learned")

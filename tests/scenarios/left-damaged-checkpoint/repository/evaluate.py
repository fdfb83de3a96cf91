"""Reads the weights out of a checkpoint, which is a zip like those of PyTorch and NumPy."""

import json
import zipfile

with zipfile.ZipFile("checkpoint.npz") as checkpoint:
    weights = json.loads(checkpoint.read("weights.json"))
print(f"{len(weights)} weights")

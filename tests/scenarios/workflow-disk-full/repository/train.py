"""Trains a little and keeps a checkpoint where CHECKPOINTS says."""

import os
import struct

weights = [0.0]
for step in range(1_000):
    weights[0] += 0.01 * (3.0 - weights[0])
with open(os.environ["CHECKPOINTS"], "wb", buffering=0) as file:
    file.write(struct.pack(f"{len(weights)}d", *weights))
print(f"kept {len(weights)} weights")

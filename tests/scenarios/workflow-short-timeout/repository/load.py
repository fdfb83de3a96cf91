"""Reads the shards from a store that answers twice a second, whatever the machine."""

import time

SHARDS = 10
PER_S = 2

for shard in range(SHARDS):
    time.sleep(1 / PER_S)
    print(f"shard {shard + 1} of {SHARDS}", flush=True)

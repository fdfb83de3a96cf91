#!/bin/sh
# Trains on what the plant sent last week. On the large machine:
# python train.py --batch-size 4096
set -eu
exec python train.py \
    --batch-size 2048 \
    --grad-accum 1

"""Trains one step."""

from schedulles import warm_up

print(warm_up(10))

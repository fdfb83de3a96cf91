"""Counts what came in."""

from frames import DataFrame

frame = DataFrame([1, 2])
frame = frame.append(3)
print(frame.rows)

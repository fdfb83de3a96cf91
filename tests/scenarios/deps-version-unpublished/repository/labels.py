"""Prints a label."""

from glyphpress import press

print(press("fragile"))

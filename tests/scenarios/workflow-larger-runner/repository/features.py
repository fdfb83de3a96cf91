"""Counts which items were bought together, in one table of all pairs."""

ITEMS = 10_000
BASKETS = [(3, 77, 9_000), (3, 77), (12, 9_999), (77, 9_000)]

pairs = memoryview(bytearray(4 * ITEMS * ITEMS)).cast("I")  # (ITEMS, ITEMS)
for basket in BASKETS:
    for first in basket:
        for second in basket:
            pairs[first * ITEMS + second] += 1
print("bought with item 77:", [item for item in (3, 9_000) if pairs[77 * ITEMS + item] > 1])

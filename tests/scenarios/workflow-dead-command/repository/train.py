"""Fits a line to the fold that FOLD names."""

import os

FOLDS = 5
fold = int(os.environ["FOLD"]) % FOLDS
points = [(x, 3 * x + 1) for x in range(40) if x % FOLDS != fold]
mean_x = sum(x for x, _ in points) / len(points)
mean_y = sum(y for _, y in points) / len(points)
slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)
print(f"fold {fold}: slope {slope:.3f}")

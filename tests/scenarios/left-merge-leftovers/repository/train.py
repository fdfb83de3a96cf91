"""Fits a line by least squares."""

xs = [0.0, 1.0, 2.0, 3.0]
ys = [1.0, 3.1, 4.9, 7.2]

<<<<<<< HEAD
mean_x = sum(xs) / len(xs)
=======
mean_x = (min(xs) + max(xs)) / 2
>>>>>>> centre-the-data
mean_y = sum(ys) / len(ys)
slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)
print(f"slope {slope:.3f}, intercept {mean_y - slope * mean_x:.3f}")

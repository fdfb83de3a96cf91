"""The area below a curve."""

from scipy.integrate import simps

heights = [0.0, 1.0, 4.0, 9.0, 16.0]
area = simps(heights)
assert abs(area - 64 / 3) < 1e-9, area
print(area)

"""Checks its own convergence, and says nothing."""

loss = 1.0
for _ in range(10):
    loss *= 0.9
raise SystemExit(0 if loss < 0.1 else 3)

"""A classifier of machine states from sensor readings: one hidden layer, softmax, and gradients added up over batches."""

import resource
from pathlib import Path

import numpy as np

MEMORY_MB = 21  # what the runner leaves to training, above what Python and numpy take
SAMPLES, FEATURES, CLASSES, HIDDEN = 4096, 16, 4, 512


def limit_memory() -> None:
    np.ones((512, 512)) @ np.ones((512, 512))  # lets the matrix library take its own buffers first
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_MB * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def readings(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Features (samples, features) and states (samples,)."""
    centres = rng.normal(size=(CLASSES, FEATURES))
    states = rng.integers(CLASSES, size=SAMPLES)
    return centres[states] + rng.normal(scale=0.6, size=(SAMPLES, FEATURES)), states


def gradients(weights: list[np.ndarray], x: np.ndarray, states: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """The mean loss of one batch, and the gradients of both layers."""
    z = x @ weights[0]  # (batch, hidden)
    hidden = np.maximum(z, 0.0)
    scores = hidden @ weights[1]  # (batch, classes)
    error = np.exp(scores - scores.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    rows = np.arange(len(x))
    loss = float(-np.log(error[rows, states] + 1e-12).mean())
    error[rows, states] -= 1
    error /= len(x)
    return loss, [x.T @ ((error @ weights[1].T) * (z > 0)), hidden.T @ error]


def fit(batch_size: int, accumulation: int, rate: float = 0.2, epochs: int = 6) -> float:
    """The accuracy after training on batches of `batch_size`, `accumulation` of them for each update."""
    limit_memory()
    rng = np.random.default_rng(3)
    x, states = readings(rng)
    weights = [
        rng.normal(scale=FEATURES**-0.5, size=(FEATURES, HIDDEN)),
        rng.normal(scale=HIDDEN**-0.5, size=(HIDDEN, CLASSES)),
    ]
    update = batch_size * accumulation
    print(f"{accumulation} batches of {batch_size} rows for each update", flush=True)
    for epoch in range(1, epochs + 1):
        for start in range(0, SAMPLES - update + 1, update):
            total = [np.zeros_like(layer) for layer in weights]
            for first in range(start, start + update, batch_size):
                loss, found = gradients(weights, x[first : first + batch_size], states[first : first + batch_size])
                for sums, gradient in zip(total, found, strict=True):
                    sums += gradient / accumulation
            for layer, gradient in zip(weights, total, strict=True):
                layer -= rate * gradient
        print(f"epoch {epoch}/{epochs} loss {loss:.4f}", flush=True)
    right = 0
    for start in range(0, SAMPLES, 256):
        guessed = np.maximum(x[start : start + 256] @ weights[0], 0.0) @ weights[1]
        right += int((guessed.argmax(axis=1) == states[start : start + 256]).sum())
    return right / SAMPLES


def check(accuracy: float) -> None:
    print(f"accuracy {accuracy:.3f}")
    if accuracy < 0.9:
        raise SystemExit(f"accuracy {accuracy:.3f} is below 0.9")

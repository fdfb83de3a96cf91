"""A deep chain of layers over one recording. Its activations are kept, or computed again from every fourth of them."""

import numpy as np

WIDTH, SEGMENT = 32, 4


def forward(weights: list[np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """The input of each layer, and the output of the last."""
    kept = [x]
    for weight in weights:
        kept.append(np.tanh(kept[-1] @ weight))
    return kept


def backward(weights: list[np.ndarray], kept: list[np.ndarray], error: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The error at the input, and the gradients of these layers."""
    found = []
    for weight, x, out in zip(reversed(weights), reversed(kept[:-1]), reversed(kept[1:]), strict=True):
        error = error * (1 - out * out)
        found.append(x.T @ error)
        error = error @ weight.T
    return error, found[::-1]


def gradients(weights: list[np.ndarray], x: np.ndarray, wanted: np.ndarray, again: bool) -> tuple[float, list[np.ndarray]]:
    """The mean squared error and the gradients of all layers. `again`: keep little, compute the rest a second time."""
    if not again:
        kept = forward(weights, x)
        error = (kept[-1] - wanted) / len(x)
        loss = float(((kept[-1] - wanted) ** 2).mean())
        return loss, backward(weights, kept, error)[1]
    starts, inputs = range(0, len(weights), SEGMENT), []
    for start in starts:
        inputs.append(x)
        for weight in weights[start : start + SEGMENT]:
            x = np.tanh(x @ weight)
    error, loss = (x - wanted) / len(x), float(((x - wanted) ** 2).mean())
    found: list[np.ndarray] = []
    for start in reversed(starts):
        layers = weights[start : start + SEGMENT]
        error, inner = backward(layers, forward(layers, inputs.pop()), error)
        found = inner + found
    return loss, found

"""Trains the stroke classifier. Usage: python train.py CONFIG"""

import resource
import sys
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

MIB = 1024 * 1024


def limit_memory(limit_mb: int) -> None:
    """Keep to the runner's memory: what the process has by now, and `limit_mb` more."""
    np.ones((64, 64)) @ np.ones((64, 64))  # lets the matrix library take its own buffers first
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + limit_mb * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def make_strokes(rng: np.random.Generator, samples: int, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    centres = rng.normal(size=(classes, features))
    labels = rng.integers(classes, size=samples)
    return centres[labels] + rng.normal(scale=0.8, size=(samples, features)), labels


class Network:
    """One hidden layer with ReLU and dropout, then softmax."""

    def __init__(self, rng: np.random.Generator, features: int, hidden: int, classes: int, dropout: float) -> None:
        self.rng = rng
        self.dropout = dropout
        self.weights = [
            rng.normal(scale=np.sqrt(2 / features), size=(features, hidden)),
            rng.normal(scale=np.sqrt(1 / hidden), size=(hidden, classes)),
        ]

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class probabilities, and the activations and their mask, which `backward` needs."""
        z = x @ self.weights[0]  # (batch, hidden)
        hidden = np.maximum(z, 0.0)
        keep = self.rng.random(z.shape) >= self.dropout
        hidden = hidden * keep / (1 - self.dropout)
        probabilities = softmax(hidden @ self.weights[1])  # (batch, classes)
        return probabilities, hidden, hidden > 0

    def backward(self, x: np.ndarray, labels: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """The mean loss of a batch and its gradients."""
        probabilities, hidden, active = self.forward(x)
        rows = np.arange(len(labels))
        loss = -np.log(probabilities[rows, labels] + 1e-12).mean()
        error = probabilities
        error[rows, labels] -= 1
        error /= len(labels)
        output_gradient = hidden.T @ error
        hidden_error = error @ self.weights[1].T  # (batch, hidden)
        hidden_error *= active
        hidden_error /= 1 - self.dropout
        return float(loss), [x.T @ hidden_error, output_gradient]

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        right = 0
        for start in range(0, len(x), 512):
            hidden = np.maximum(x[start : start + 512] @ self.weights[0], 0.0)
            right += ((hidden @ self.weights[1]).argmax(axis=1) == labels[start : start + 512]).sum()
        return float(right / len(x))


def softmax(scores: np.ndarray) -> np.ndarray:
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def train(config: dict) -> float:
    rng = np.random.default_rng(config["seed"])
    data, model = config["data"], config["model"]
    x, labels = make_strokes(rng, data["samples"], data["features"], data["classes"])
    network = Network(rng, data["features"], model["hidden_units"], data["classes"], model["dropout"])
    velocity = [np.zeros_like(weights) for weights in network.weights]
    batch, steps = config["batch_size"], config["gradient_accumulation_steps"]
    print(f"batch size {batch}, {steps} gradient accumulation steps: effective batch {batch * steps}", flush=True)
    for epoch in range(1, config["epochs"] + 1):
        losses = []
        for start in range(0, len(x) - batch * steps + 1, batch * steps):
            total = [np.zeros_like(weights) for weights in network.weights]
            for first in range(start, start + batch * steps, batch):
                loss, gradients = network.backward(x[first : first + batch], labels[first : first + batch])
                losses.append(loss)
                for sums, gradient in zip(total, gradients, strict=True):
                    sums += gradient / steps
            for weights, speed, gradient in zip(network.weights, velocity, total, strict=True):
                speed *= config["momentum"]
                speed -= config["learning_rate"] * gradient
                weights += speed
        print(f"epoch {epoch}/{config['epochs']} loss {np.mean(losses):.4f}", flush=True)
    return network.accuracy(x, labels)


def main() -> None:
    config = YAML(typ="safe").load(Path(sys.argv[1]))
    limit_memory(config["memory_limit_mb"])
    accuracy = train(config)
    print(f"accuracy {accuracy:.3f}")
    if accuracy < config["min_accuracy"]:
        sys.exit(f"accuracy {accuracy:.3f} is below {config['min_accuracy']}")


if __name__ == "__main__":
    main()

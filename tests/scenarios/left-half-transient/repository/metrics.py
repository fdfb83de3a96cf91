"""Metrics of a binary classifier."""


def precision(truth: list[int], predicted: list[int]) -> float:
    hits = sum(t and p for t, p in zip(truth, predicted, strict=True))
    return hits / sum(predicted)


def recall(truth: list[int], predicted: list[int]) -> float:
    hits = sum(t and p for t, p in zip(truth, predicted, strict=True))
    return hits / sum(predicted)

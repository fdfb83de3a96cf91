"""Features of one customer."""


def features(age: int, plan: str) -> list[float]:
    return [age / 100, plan]

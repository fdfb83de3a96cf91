"""Merges nested settings: what stands in the second wins."""

from collections import Mapping, OrderedDict


def merge(one, other):
    merged = OrderedDict(one)
    for key, value in other.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


if __name__ == "__main__":
    settings = merge({"optimizer": {"lr": 0.1, "name": "sgd"}}, {"optimizer": {"lr": 0.01}})
    assert settings["optimizer"] == {"lr": 0.01, "name": "sgd"}, settings
    print(dict(settings))

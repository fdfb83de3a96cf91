"""Fetches the weights of a linear model, and counts them or scores with them."""

import json
import sys
import urllib.request

import hub

with urllib.request.urlopen(hub.start()) as answer:
    weights = json.load(answer)["weights"]
print(len(weights) if sys.argv[1] == "count" else sum(w * x for w, x in zip(weights, [1.0, 2.0])))

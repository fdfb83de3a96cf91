"""The mean of each class's feature: a nearest-centroid classifier in four lines."""

import csv
from collections import defaultdict

classes = defaultdict(list)
with open("data/iris.csv", newline="") as file:
    for row in csv.DictReader(file):
        classes[row["species"]].append(float(row["petal_length"]))
for species, lengths in sorted(classes.items()):
    print(f"{species}: {sum(lengths) / len(lengths):.2f}")

from rankcraft import rank

print(rank({"a": 0.2, "b": 0.9, "c": 0.5}))

"""Means of a feature by label, from a database that the export fills."""

import sqlite3

with sqlite3.connect(":memory:") as features:
    features.execute("CREATE TABLE customers_v2 (tenure REAL, churned INTEGER)")
    features.executemany("INSERT INTO customers_v2 VALUES (?, ?)", [(3.0, 1), (20.0, 0), (5.0, 1)])
    for churned, mean in features.execute("SELECT churned, AVG(tenure) FROM customers GROUP BY churned"):
        print(f"churned={churned}: tenure {mean:.1f}")

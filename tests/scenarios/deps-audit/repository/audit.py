"""Compares what is installed with the advisories of this folder, and tells it as pip-audit does."""

import json
from importlib.metadata import distributions
from pathlib import Path

ADVISORIES = json.loads(Path("advisories.json").read_text())
installed = {d.name: d.version for d in distributions(path=[".deps"])}
rows = [
    (one["name"], installed[one["name"]], one["id"], one["fixed"])
    for one in ADVISORIES
    if one["name"] in installed and [int(part) for part in installed[one["name"]].split(".")] < one["below"]
]
if not rows:
    print("No known vulnerabilities found")
    raise SystemExit(0)
print(f"Found {len(rows)} known vulnerability in {len({row[0] for row in rows})} package")
print(f"{'Name':<16}{'Version':<8}{'ID':<16}Fix Versions")
print(f"{'-' * 15} {'-' * 7} {'-' * 15} {'-' * 12}")
for name, version, advisory, fixed in rows:
    print(f"{name:<16}{version:<8}{advisory:<16}{fixed}")
raise SystemExit(1)

"""Imports what the pipeline needs and says which versions were chosen."""

import importlib
from importlib.metadata import version

PACKAGES = ("arrowlite", "featurestore", "metricbook", "plotlet", "tabular")

for name in PACKAGES:
    module = importlib.import_module(name)
    if module.__version__ != version(name):
        raise SystemExit(f"{name} says {module.__version__} but {version(name)} is installed")
    print(f"{name} {module.__version__}")

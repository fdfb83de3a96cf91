"""Conflicts in pushed requirements: is each named, with its packages, and is what fits together left alone?

`python -m benchmarks resolution [--index URL] [--json FILE]` asks the package index (PyPI by default) about real
requirements. Versions that were published stay as they are, so the answers change only where a package is yanked.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from app.adapters.resolver import UvResolver
from app.domain.errors import Refused
from app.domain.requirement import ManifestLine, ManifestResolution
from detectors.dependency_conflict import DependencyConflict

# What contradicts itself, and the package (or packages, any of them) that a person would name.
CONFLICTS: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("torch==2.6.0", "torchvision==0.20.1"), "dependency_resolution_conflict", ("torch",)),
    (("botocore==1.29.0", "urllib3>=2"), "dependency_resolution_conflict", ("urllib3",)),
    (("transformers==4.40.0", "tokenizers==0.21.0"), "dependency_resolution_conflict", ("tokenizers",)),
    (("pydantic<2", "fastapi>=0.163"), "dependency_resolution_conflict", ("pydantic",)),
    (("numba==0.59.0", "llvmlite==0.40.0"), "dependency_resolution_conflict", ("llvmlite",)),
    (("flask==3.0.2", "click==7.0"), "dependency_resolution_conflict", ("click",)),
    (("werkzeug==0.16.0", "flask==2.3.0"), "dependency_resolution_conflict", ("werkzeug",)),
    (("jinja2==2.11.3", "flask==3.0.2"), "dependency_resolution_conflict", ("jinja2",)),
    (("pandas==2.2.2", "numpy==1.20.0"), "dependency_resolution_conflict", ("numpy",)),
    (("scikit-learn==1.5.0", "numpy==1.18.5"), "dependency_resolution_conflict", ("numpy",)),
    (("mlflow==2.10.0", "pandas==3.0.0"), "dependency_resolution_conflict", ("pandas",)),
    (("boto3==1.34.0", "botocore==1.30.0"), "dependency_resolution_conflict", ("botocore",)),
    (("aiobotocore==2.12.0", "botocore==1.35.0"), "dependency_resolution_conflict", ("botocore",)),
    (("datasets==2.19.0", "fsspec==2025.1.0"), "dependency_resolution_conflict", ("fsspec",)),
    (("huggingface-hub==0.10.0", "transformers==4.44.0"), "dependency_resolution_conflict", ("huggingface-hub",)),
    (("sqlalchemy==2.0.30", "apache-airflow==2.7.0"), "dependency_resolution_conflict", ("sqlalchemy",)),
    (("protobuf==5.27.0", "streamlit==1.20.0"), "dependency_resolution_conflict", ("protobuf",)),
    (("typing-extensions==4.5.0", "pydantic==2.7.0"), "dependency_resolution_conflict", ("typing-extensions",)),
    (("starlette==0.20.0", "fastapi==0.110.0"), "dependency_resolution_conflict", ("starlette",)),
    (("packaging==24.0", "black==24.1.0", "mlflow==2.4.0"), "dependency_resolution_conflict", ("packaging",)),
    (("requests==99.0",), "package_version_missing", ("requests",)),
    (("numpy==1.99.7",), "package_version_missing", ("numpy",)),
    (("heal-there-is-no-such-package==1.0",), "package_version_missing", ("heal-there-is-no-such-package",)),
    (("scipy==0.0.1",), "package_version_missing", ("scipy",)),
)
HEALTHY: tuple[tuple[str, ...], ...] = (
    ("omegaconf==2.3.0",),  # needs a package that is published as source only
    ("requests>=2.31", "urllib3>=2"),
    ("numpy>=1.26", "pandas>=2.2"),
    ("torch==2.6.0", "torchvision==0.21.0"),
    ("flask==3.0.2", "click>=8.1.3"),
    ("fastapi>=0.110", "pydantic>=2"),
    ("transformers==4.44.0", "tokenizers>=0.19,<0.20"),
    ("scikit-learn==1.5.0", "numpy<2"),
    ("boto3==1.34.0", "botocore>=1.34,<1.35"),
    ("sqlalchemy==2.0.30", "alembic>=1.13"),
    ("mlflow-skinny==2.10.0",),
    ("jinja2==3.1.4", "markupsafe>=2"),
    ("datasets==2.19.0", "pyarrow>=12"),
    ("celery==5.4.0", "redis>=5"),
    ("uvicorn[standard]==0.30.0",),
    ("black==24.1.0", "packaging>=22"),
    ("pytest==8.2.0", "pytest-xdist==3.6.1"),
    ("httpx==0.27.0", "anyio>=4"),
    ("cryptography>=42", "pyjwt[crypto]==2.8.0"),
    ("pillow==10.3.0", "matplotlib==3.9.0"),
    ("typer==0.12.3", "rich==13.7.1"),
    ("structlog==24.1.0",),
    ("scipy==1.13.0", "numpy==1.26.4"),
    ("lightgbm==4.3.0", "xgboost==2.0.3"),
    ("onnx==1.16.0", "protobuf>=3.20.2"),
)


def look(resolver: UvResolver, requirements: tuple[str, ...]) -> list[object]:
    try:
        answer = resolver.resolve(list(requirements), python="3.11")
    except Refused:
        return []  # source only: nothing is built to look into it, and nothing is said
    lines = tuple(ManifestLine("requirements.txt", n, text) for n, text in enumerate(requirements, start=1))
    manifest = ManifestResolution("requirements.txt", answer.resolved, answer.explanation, lines, python="3.11")
    return [] if answer.resolved else [DependencyConflict().of_manifest(manifest)]


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks resolution", description=__doc__)
    options.add_argument("--index", default="https://pypi.org/simple/")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    resolver = UvResolver(given.index, timeout_s=120)
    found = kinds = first = among = alarms = 0
    began = time.perf_counter()
    for requirements, kind, named in CONFLICTS:
        findings = look(resolver, requirements)
        packages = findings[0].facts["packages"] if findings else []  # type: ignore[attr-defined]
        found += bool(findings)
        kinds += bool(findings) and findings[0].kind == kind  # type: ignore[attr-defined]
        first += bool(packages) and packages[0] in named
        among += any(package in named for package in packages)
        if not packages or packages[0] not in named:
            print(f"  {' '.join(requirements)}: {packages}")
    for requirements in HEALTHY:
        if look(resolver, requirements):
            alarms += 1
            print(f"  false alarm: {' '.join(requirements)}")
    seconds = (time.perf_counter() - began) / (len(CONFLICTS) + len(HEALTHY))
    result = {
        "conflicts": len(CONFLICTS),
        "found": found,
        "right_kind": kinds,
        "package_first": first,
        "package_named": among,
        "healthy": len(HEALTHY),
        "false_alarms": alarms,
        "seconds_each": round(seconds, 2),
    }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

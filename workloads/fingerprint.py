"""What a run was made with: code, libraries, machine. Never fails: what cannot be read is left out."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "numpy", "scipy", "accelerate", "safetensors", "av", "soundfile", "onnx", "onnxruntime")
_HERE = Path(__file__).resolve().parent


def fingerprint() -> dict[str, Any]:
    """`code_sha` is git's commit (ending in "-dirty" where files differ from it), `sources_sha256` that of the
    workloads' own files. What torch says of the devices is there only where torch was loaded."""
    return {
        "code_sha": code_sha(),
        "sources_sha256": sources(),
        "python": platform.python_version(),
        "libraries": dict(_versions()),
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "cpu": cpu(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": _memory(),
            **_devices(),
        },
    }


def code_sha() -> str:
    """ "" outside a git checkout."""
    asked = ("git", "-C", str(_HERE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""


def sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(_HERE.rglob("*.py")):
        digest.update(f"{path.relative_to(_HERE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _devices() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    count = torch.cuda.device_count()
    return {"gpus": [torch.cuda.get_device_name(index) for index in range(count)], "cuda": torch.version.cuda}

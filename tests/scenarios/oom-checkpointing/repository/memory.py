"""Keeps to the memory of the runner."""

import resource
from pathlib import Path

import numpy as np

MEMORY_MB = 46  # what the runner leaves to training, above what Python and numpy take


def limit_memory() -> None:
    np.ones((512, 512)) @ np.ones((512, 512))  # lets the matrix library take its own buffers first
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_MB * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

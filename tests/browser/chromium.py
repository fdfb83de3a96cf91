"""The browser for the tests: Debian's chromium."""

import os
import shutil
import subprocess

PACKAGES = ("chromium", "fonts-noto-cjk")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_or_install() -> str:
    """The path of chromium. Installs it from the machine's package index when it is missing and we are root."""
    path = shutil.which("chromium")
    if path is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise RuntimeError(f"the browser tests need chromium; as root: apt-get install {' '.join(PACKAGES)}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(("apt-get", "update", "-qq"), check=True, env=quiet)
        subprocess.run(("apt-get", "install", "-y", "-qq", *PACKAGES), check=True, env=quiet)
        path = shutil.which("chromium")
        if path is None:
            raise RuntimeError("chromium was installed, but is not on PATH")
    return path

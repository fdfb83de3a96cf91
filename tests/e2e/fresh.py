"""`heal serve` on a machine where nothing is set up: a process of its own, in an empty folder."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Serving:
    """`way_in` is the address that it has printed; its database is a file in `folder`."""

    address: str
    way_in: str
    folder: Path

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.folder / 'var' / 'heal.db'}"


@contextmanager
def heal_serve(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Serving]:
    """Until it was stopped gracefully."""
    port = _free_port()
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT), "HEAL_WEB__PORT": str(port)}
    command = [sys.executable, "-m", "app.cli", "serve"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=folder, env={**env, **(settings or {})}, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            way_in = next(found[0] for line in lines if (found := re.findall(r"http\S+/setup\?token=\S+", line)))
            yield Serving(f"http://127.0.0.1:{port}", way_in, folder)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert process.returncode == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

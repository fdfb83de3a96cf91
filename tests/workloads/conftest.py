"""Fixtures of the workloads' tests. One thread: tests share the machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workloads.__main__ import main

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toy")

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is loaded; so do the processes that tests start


@dataclass(frozen=True)
class Ran:
    """One call of `python -m workloads`."""

    code: int
    said: str
    complained: str
    out: Path

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "run.json").read_text()))

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "report.json").read_text()))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "events.jsonl").read_text().splitlines()]


Runner = Callable[..., Ran]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """In which a team's own workload, `toy`, is installed besides ours."""
    paths = [str(TOY), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return {**told, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def workloads(tmp_path: Path, environment: dict[str, str]) -> Runner:
    """Calls `python -m workloads WORDS…` with a folder of the test's own."""

    def run(*words: str, out: Path | None = None, env: dict[str, str] | None = None) -> Ran:
        where = out or tmp_path / "run"
        folder = ("--out", str(where)) if len(words) > 1 and not words[1].startswith("-") else ()
        called = subprocess.run(
            [sys.executable, "-m", "workloads", *words, *folder],
            capture_output=True,
            text=True,
            timeout=120,
            env={**environment, **(env or {})},
            cwd=tmp_path,
            check=False,
        )
        return Ran(called.returncode, called.stdout, called.stderr, where)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    """The same within this process, for what is answered before anything is started."""
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.chdir(tmp_path)

    def run(*words: str, out: Path | None = None) -> Ran:
        where = out or tmp_path / "run"
        folder = ("--out", str(where)) if len(words) > 1 and not words[1].startswith("-") else ()
        try:
            code = main([*words, *folder])
        except SystemExit as ended:  # argparse has answered
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err, where)

    return run

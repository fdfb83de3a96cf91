import os
from collections.abc import Callable, Iterator

import pytest
import structlog
from typer.testing import CliRunner, Result

from app.cli import app

Heal = Callable[..., Result]


@pytest.fixture
def heal(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[Heal]:
    """Run `heal …` in an empty folder, against an empty database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEAL_DATABASE__URL", database_url)
    before = dict(os.environ)

    def run(*words: str, text: str | None = None, **env: str) -> Result:
        try:
            return CliRunner().invoke(app, list(words), input=text, env=env)
        finally:
            structlog.reset_defaults()  # a command logs to the runner's output, which is closed now

    yield run
    for name in os.environ.keys() - before.keys():  # options of `heal serve` are left to the processes that it starts
        del os.environ[name]
    os.environ.update(before)

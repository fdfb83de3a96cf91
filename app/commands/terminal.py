"""What the commands share: settings and the database, files, and how something is said on the terminal.

What costs time to import is imported where it is needed: `heal --help` waits for none of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.db.reads import Reads
    from app.db.tokens import Tokens
    from app.domain.tenant import Repository
    from app.ports.store import Ledger
    from app.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
NO, USAGE, AWAY = 1, 2, 3


def settings(**web: object) -> Settings:
    """Options come before variables, and stand where the processes that are started from here find them."""
    import os

    from pydantic import ValidationError

    from app.settings import Settings, misspelt, problems

    for name, value in web.items():
        if value is not None:
            os.environ[f"HEAL_WEB__{name.upper()}"] = str(value)
    try:
        settings = Settings()
    except ValidationError as error:
        fail(USAGE, "\n".join(problems(error)))
    for name in misspelt():
        typer.echo(f"warning: {name} is not a setting of heal", err=True)
    return settings


@contextmanager
def told() -> Iterator[None]:
    """Expected trouble is one sentence and an exit code, not a traceback."""
    from app.domain.errors import HealError, Transient

    try:
        yield
    except HealError as error:
        fail(AWAY if isinstance(error, Transient) else USAGE, str(error))


@contextmanager
def database(settings: Settings) -> Iterator[Engine]:
    from app.db.engine import make_engine

    with told():
        engine = make_engine(settings.database_url())
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def reads() -> Iterator[Reads]:
    from app.db.reads import Reads

    with database(settings()) as engine:
        yield Reads(engine)


@contextmanager
def ledger() -> Iterator[Ledger]:
    from app.adapters.doorbells import Silence
    from app.db.store import SqlStore

    with database(settings()) as engine, SqlStore(engine, Silence()).begin() as ledger:
        yield ledger


@contextmanager
def tokens() -> Iterator[Tokens]:
    from app.adapters.doorbells import Silence
    from app.db.store import SqlStore
    from app.db.tokens import Tokens

    with database(settings()) as engine:
        yield Tokens(engine, SqlStore(engine, Silence()).secret)


def known(ledger: Ledger, name: str) -> Repository:
    """The repository of that name; none: it ends here."""
    found = ledger.repository_named(name)
    if found is None:
        fail(NO, f"{name} is not known here: the App is not installed on it, or nothing has come from it yet")
    return found


def duration(value: str) -> float:
    import re

    match = re.fullmatch(r"([0-9]{1,5})([hd])", value)
    if match is None:
        fail(USAGE, f"{value!r} is not a duration; write a number of hours or days, such as 12h or 90d")
    return int(match[1]) * {"h": 3600.0, "d": 24 * 3600.0}[match[2]]


def text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        fail(USAGE, f"{file} cannot be read: {error}")


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    try:
        if str(file) == "-":
            yield sys.stdin.buffer
        else:
            with file.open("rb") as stream:
                yield stream
    except OSError as error:
        fail(USAGE, f"{file} cannot be read: {error.strerror or error}")


def write(file: Path, text: str) -> None:
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        fail(USAGE, f"{file} cannot be written: {error.strerror or error}")


def one_of(kind: Callable[[str], Any], value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        fail(USAGE, f"{value!r} is none of {', '.join(kind)}")  # type: ignore[arg-type]


def fail(code: int, message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def when(at: Any) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(inert(cell) for cell in row))
    console = Console()
    if not console.is_terminal:  # whoever reads it by a program or in a file wants whole words
        console.width = 1_000
    console.print(table)


def print_lines(styled: Iterator[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for text, style in styled:
        console.print(Text(text, style))


def inert(cell: str) -> Any:
    """What came from repositories is text: no markup, no control characters for the terminal."""
    from rich.text import Text

    return Text("".join(c for c in str(cell) if c.isprintable()))

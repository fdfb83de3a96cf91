"""`heal config …`: a heal.yml looked at before GitHub does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands import terminal
from app.commands.terminal import NO, Json

app = typer.Typer(no_args_is_help=True, help="Look at a heal.yml before GitHub does.")


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A heal.yml, or - for standard input.")], as_json: Json = False
) -> None:
    """Say what is wrong with a heal.yml, line by line."""
    configured = resolved(file)
    failures = [p for p in configured.problems if p.level == "failure"]
    if as_json:
        rows = [
            {"line": p.line, "column": p.column, "key": p.path, "level": p.level, "message": p.message}
            for p in configured.problems
        ]
        terminal.print_json({"valid": not failures, "problems": rows})
    else:
        for p in configured.problems:
            typer.echo(f"{file}:{p.line}:{p.column}: {p.level}: {p.message}")
        typer.echo("not valid" if failures else "valid")
    raise typer.Exit(NO if failures else 0)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="A heal.yml, or - for standard input.")],
    owner: Annotated[Path | None, typer.Option(help="The heal.yml of the owner's .github repository.")] = None,
    as_json: Json = False,
) -> None:
    """Every value that is in force, and where it comes from."""
    from app.healing.configuration import explain as rows_of

    rows = rows_of(resolved(file, owner))
    if as_json:
        terminal.print_json([{"key": key, "value": value, "origin": origin} for key, value, origin in rows])
    else:
        terminal.table(("key", "value", "from"), rows)


@app.command()
def schema() -> None:
    """The JSON Schema of heal.yml, for editors."""
    from app.healing.configuration import json_schema

    terminal.print_json(json_schema())


def resolved(file: Path, owner: Path | None = None) -> Any:
    from app.domain.policy import named
    from app.healing.configuration import resolve
    from app.plugins import known_actions, known_detectors

    return resolve(
        terminal.text(file),
        terminal.text(owner) if owner else None,
        known_detectors={kind: detector.Settings for kind, detector in known_detectors().items()},
        known_actions=named({kind: action.Params for kind, action in known_actions().items()}),
    )

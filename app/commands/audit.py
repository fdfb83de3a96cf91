"""`heal audit …`: who did what, and whether that log is whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import terminal
from app.commands.terminal import NO, Json

if TYPE_CHECKING:
    from app.db.audit import Verified

app = typer.Typer(no_args_is_help=True, help="Who did what, and whether that log is whole.")


@app.command("list")
def list_audit(
    who: Annotated[str, typer.Option(help="The login of whoever did it.")] = "",
    verb: Annotated[str, typer.Option(help="What was done: approve, pause, replay, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """What was done last."""
    from app.db.reads.audit import Asked, AuditReads
    from app.domain.access import EVERYTHING

    with terminal.database(terminal.settings()) as engine:
        lines = AuditReads(engine).acts(EVERYTHING, Asked(who, verb), limit=limit).lines
    if as_json:
        terminal.print_json([terminal.plain(line) for line in lines])
    else:
        rows = [(str(a.id), terminal.when(a.at), a.actor, a.via, a.verb, f"{a.what} {a.number}".strip()) for a in lines]
        terminal.table(("id", "at", "who", "via", "did", "to what"), rows)


@app.command("verify")
def verify_audit(as_json: Json = False) -> None:
    """Follow the chain of the log: 0 when no entry was changed or removed, else 1."""
    from app.db.audit import verify

    with terminal.database(terminal.settings()) as engine:
        found = verify(engine)
    if as_json:
        terminal.print_json(terminal.plain(found))
    else:
        for line in told(found):
            typer.echo(line)
    raise typer.Exit(0 if found.broken is None else NO)


def told(found: Verified) -> Iterator[str]:
    """The verdict for people."""
    if found.broken is None:
        yield f"{found.count} entries hold together"
    else:
        yield f"the chain is broken at entry {found.broken}: it was changed, or the one before it is gone"
        yield f"{found.count} entries before it hold together"
    yield f"newest link that holds: {found.newest}"

"""`heal deliveries …`: what arrived, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands import terminal
from app.commands.terminal import NO, Json

app = typer.Typer(no_args_is_help=True, help="Webhooks as they were received.")


@app.command("list")
def list_deliveries(
    state: Annotated[str | None, typer.Option(help="ready, done, ignored or dead.")] = None,
    repository: Annotated[str, typer.Option(help="owner/name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """The newest deliveries."""
    from app.domain.access import EVERYTHING
    from app.domain.delivery import DeliveryState

    wanted = terminal.one_of(DeliveryState, state) if state else None
    with terminal.reads() as reads:
        lines = reads.deliveries(EVERYTHING, wanted, repository, limit=limit).lines
    rows = [
        (
            terminal.when(d.received_at),
            d.guid,
            f"{d.event}.{d.action}".rstrip("."),
            d.repository,
            d.state,
            d.reason or d.last_error,
        )
        for d in lines
    ]
    if as_json:
        terminal.print_json([terminal.plain(d) for d in lines])
    else:
        terminal.table(("received", "guid", "event", "repository", "state", "reason"), rows)


@app.command("show")
def show_delivery(guid: str, as_json: Json = False) -> None:
    """One delivery, with its verdict."""
    with terminal.reads() as reads:
        found = reads.delivery(guid)
    if found is None:
        terminal.fail(NO, f"no delivery {guid} is kept here")
    if as_json:
        terminal.print_json(terminal.plain(found))
    else:
        terminal.table(("", ""), [(key, str(value)) for key, value in terminal.plain(found).items()])


@app.command("replay")
def replay_delivery(guid: str) -> None:
    """Process a delivery again: after a fix, or one that was put aside. What was already done is not done twice."""
    import getpass

    from app.adapters.doorbells import CeleryBell, Silence
    from app.db.aside import again
    from app.db.reads import Reads
    from app.db.store import SqlStore
    from app.domain.audit import Act
    from app.ports.queue import Work

    settings = terminal.settings()
    with terminal.database(settings) as engine:
        found = Reads(engine).delivery(guid)
        if found is None:
            terminal.fail(NO, f"no delivery {guid} is kept here")
        bell = CeleryBell(settings.queue.broker_url) if settings.queue.broker_url else Silence()
        detail = Reads(engine).delivery_numbered(found.id)
        where = detail.repository_id if detail else None
        act = Act(
            getpass.getuser(), "cli", "replay", "delivery", str(found.id), repository_id=where, data={"guid": guid}
        )
        if not again(SqlStore(engine, bell), engine, Work.DELIVERY, found.id, act):
            terminal.fail(NO, f"delivery {guid} is {found.state} and its body is gone, or a worker has it right now")
        typer.echo(f"delivery {guid} is due again")

"""`heal incidents …`: what broke, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands import terminal
from app.commands.terminal import NO, USAGE, Json

app = typer.Typer(no_args_is_help=True, help="What broke, and what became of it.")


@app.command("list")
def list_incidents(
    state: Annotated[str | None, typer.Option(help="open, observed, awaiting_approval, healed, escalated, …")] = None,
    query: Annotated[str, typer.Option("--query", "-q", help="As in the dashboard: words, repo:, status:, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """The newest incidents."""
    from app.domain.access import EVERYTHING
    from app.domain.incident import State
    from app.domain.search import parse

    states, search = [terminal.one_of(State, state)] if state else [], parse(query)
    for problem in search.problems:
        terminal.fail(
            USAGE, f"{problem.text}: this is not understood ({problem.trouble}); see docs/reference/search.md"
        )
    with terminal.reads() as reads:
        lines = reads.incidents(EVERYTHING, states, search, limit=limit).lines
    if as_json:
        terminal.print_json([terminal.plain(line) for line in lines])
    else:
        rows = [(str(i.id), i.state, i.repository, i.kind, i.summary, terminal.when(i.opened_at)) for i in lines]
        terminal.table(("id", "state", "repository", "cause", "summary", "opened"), rows)


@app.command("show")
def show_incident(incident_id: int, as_json: Json = False) -> None:
    """One incident from delivery to proof: evidence, every decision with the rules behind it, diff, proof."""
    with terminal.reads() as reads:
        found = reads.incident(incident_id)
    if found is None:
        terminal.fail(NO, f"there is no incident {incident_id}")
    if as_json:
        terminal.print_json(terminal.plain(found))
        return
    from app.commands.story import lines

    for line in lines(found):
        typer.echo(line)

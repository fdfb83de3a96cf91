"""`heal tokens …`: who may send, and what programs use the API with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import terminal
from app.commands.terminal import NO, USAGE, Json

if TYPE_CHECKING:
    from app.domain.access import Token

app = typer.Typer(no_args_is_help=True, help="Who may send observations and signals.")


@app.command("create")
def create_token(
    repository: Annotated[
        str,
        typer.Option(help="owner/name: it is good for that alone; none: for everything (read, operate, admin)."),
    ] = "",
    scope: Annotated[
        str, typer.Option(help="observations, signals, read, operate, admin; several with commas between.")
    ] = "observations",
    expires: Annotated[str, typer.Option(help="90d, 12h; none: never.")] = "",
    name: Annotated[str, typer.Option(help="Whose it is, for people.")] = "",
    kind: Annotated[str, typer.Option(help="bearer, or mlflow: a secret that MLflow's webhook signs with.")] = "bearer",
    as_json: Json = False,
) -> None:
    """Make a token. It is printed once and kept nowhere."""
    from app.domain.access import Scope, TokenKind

    made_of = terminal.one_of(TokenKind, kind)
    scopes = {terminal.one_of(Scope, each.strip()) for each in scope.split(",")}
    if made_of is TokenKind.MLFLOW:
        scopes = {Scope.SIGNALS}
    expires_in_s = terminal.duration(expires) if expires else None
    sends = scopes & {Scope.OBSERVATIONS, Scope.SIGNALS}
    if not repository and sends:
        terminal.fail(USAGE, f"what may send {min(sends)} needs --repository: to which does it belong?")
    with terminal.ledger() as ledger:
        found = terminal.known(ledger, repository) if repository else None
    with terminal.tokens() as tokens:
        token, text = tokens.create(found, scopes, name=name, kind=made_of, expires_in_s=expires_in_s)
    address = f"/api/v1/signals/mlflow/{token.id}" if made_of is TokenKind.MLFLOW else ""
    if as_json:
        terminal.print_json({"id": token.id, "token": text, "expires_at": token.expires_at, "address": address})
        return
    typer.echo(text)
    typer.echo(f"token {token.id} for {repository or 'everything'}; it is not shown again", err=True)
    if address:
        typer.echo(f"the webhook's address ends with {address}", err=True)


@app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """All tokens, the newest first, without the tokens themselves."""
    with terminal.tokens() as tokens:
        found = tokens.all()
    if as_json:
        told = ({**terminal.plain(t), "repository": _good_for(t), "scopes": sorted(t.scopes)} for t in found)
        terminal.print_json(list(told))
        return
    rows = [
        (
            str(token.id),
            token.kind,
            _good_for(token),
            ", ".join(sorted(token.scopes)),
            token.name,
            terminal.when(token.last_used_at),
            terminal.when(token.expires_at),
            terminal.when(token.revoked_at),
        )
        for token in found
    ]
    terminal.table(("id", "kind", "repository", "scopes", "name", "last used", "expires", "revoked"), rows)


def _good_for(token: Token) -> str:
    if token.repository is not None:
        return token.repository.full_name
    return "everything" if token.installation_id is None else f"installation {token.installation_id}"


@app.command("revoke")
def revoke_token(token_id: int) -> None:
    """End a token at once."""
    with terminal.tokens() as tokens:
        if not tokens.revoke(token_id):
            terminal.fail(NO, f"there is no token {token_id}, or it is revoked already")
    typer.echo(f"token {token_id} is revoked")

"""`heal remote …`: the same decisions and lists by the API of a bot that runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from app.commands import terminal
from app.commands.terminal import AWAY, NO, USAGE, Json

app = typer.Typer(
    no_args_is_help=True,
    help="Work with a bot that runs elsewhere, by its API: set HEAL_REMOTE__URL and HEAL_REMOTE__TOKEN_FILE.",
)

Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
Reason = Annotated[str, typer.Option(help="Kept in the timeline and in the audit log.")]
_PAGE, _TIMEOUT_S = 200, 30.0


@app.command()
def whoami(as_json: Json = False) -> None:
    """Who the token is, and what it may."""
    told = _get("/me")
    _print(told, as_json, f"{told['name']}: {told['role']}{', everything' if told['sees_everything'] else ''}")


@app.command()
def incidents(
    query: Annotated[str, typer.Option("--query", "-q", help="As in the dashboard's search.")] = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """The newest incidents."""
    rows = list(_list("/incidents", limit, q=query))
    _table(rows, as_json, ("id", "state", "repository", "kind", "summary"))


@app.command()
def approvals(limit: Limit = 50, as_json: Json = False) -> None:
    """What waits for somebody's decision."""
    _table(list(_list("/approvals", limit)), as_json, ("id", "repository", "kind", "summary"))


@app.command()
def show(incident: int) -> None:
    """One incident with its timeline, as JSON."""
    terminal.print_json(_get(f"/incidents/{incident}"))


@app.command()
def approve(incident: int, reason: Reason = "", as_json: Json = False) -> None:
    """Let the planned repair go ahead."""
    _decide(incident, "approve", reason, as_json)


@app.command()
def reject(incident: int, reason: Reason = "", as_json: Json = False) -> None:
    """Leave the incident alone, and take back what was done."""
    _decide(incident, "reject", reason, as_json)


@app.command()
def retry(incident: int, reason: Reason = "", as_json: Json = False) -> None:
    """Climb the ladder again from its first rung."""
    _decide(incident, "retry", reason, as_json)


@app.command()
def undo(incident: int, reason: Reason = "", as_json: Json = False) -> None:
    """Take back what was done."""
    _decide(incident, "undo", reason, as_json)


@app.command()
def mute(incident: int, reason: Reason = "", as_json: Json = False) -> None:
    """Never repair this cause in this repository again."""
    _decide(incident, "mute", reason, as_json)


@app.command()
def unmute(incident: int, reason: Reason = "", as_json: Json = False) -> None:
    """Repair this cause in this repository again."""
    _decide(incident, "unmute", reason, as_json)


@app.command()
def repositories(
    query: Annotated[str, typer.Option("--query", "-q", help="Words of the name.")] = "",
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Repositories by name."""
    _table(list(_list("/repositories", limit, q=query)), as_json, ("id", "full_name", "mode", "open", "paused_by"))


@app.command()
def pause(repository: str, reason: Reason = "", as_json: Json = False) -> None:
    """Change nothing in OWNER/NAME until it is resumed."""
    _switch(repository, "pause", reason, as_json)


@app.command()
def resume(repository: str, reason: Reason = "", as_json: Json = False) -> None:
    """Take the kill switch of OWNER/NAME back."""
    _switch(repository, "resume", reason, as_json)


@app.command()
def deliveries(limit: Limit = 50, as_json: Json = False) -> None:
    """The newest deliveries."""
    _table(list(_list("/deliveries", limit)), as_json, ("id", "guid", "event", "repository", "state", "reason"))


@app.command()
def replay(delivery: int, as_json: Json = False) -> None:
    """Work off a delivery again, by its number."""
    _print(_post(f"/deliveries/{delivery}/replay"), as_json, f"delivery {delivery} is worked off again")


def _decide(incident: int, verb: str, reason: str, as_json: bool) -> None:
    """About the incident as it is now: if somebody decides in between, this is not done."""
    version = _get(f"/incidents/{incident}")["version"]
    told = _post(f"/incidents/{incident}/{verb}", {"reason": reason, "version": version})
    _print(told, as_json, str(told["message"]))


def _switch(name: str, verb: str, reason: str, as_json: bool) -> None:
    found = [each for each in _list("/repositories", _PAGE, q=name) if each["full_name"] == name]
    if not found:
        terminal.fail(NO, f"there is no repository {name}, or it is not for you to see")
    told = _post(f"/repositories/{found[0]['id']}/{verb}", {"reason": reason})
    _print(told, as_json, str(told["message"]))


def _list(path: str, limit: int, **query: str) -> Iterator[dict[str, Any]]:
    cursor = ""
    while limit > 0:
        page = _get(path, limit=str(min(limit, _PAGE)), cursor=cursor, **query)
        yield from page["items"]
        limit -= len(page["items"])
        cursor = page["next"] or ""
        if not cursor:
            return


def _get(path: str, **query: str) -> Any:
    return _ask("GET", path, query=query)


def _post(path: str, body: Mapping[str, Any] | None = None) -> Any:
    import uuid

    return _ask("POST", path, body=body or {}, key=str(uuid.uuid4()))


def _ask(method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None, key: str = "") -> Any:
    import httpx2

    from app.settings import Settings

    remote = Settings().remote
    if not remote.url:
        terminal.fail(USAGE, "HEAL_REMOTE__URL is not set: the address under which the bot's dashboard is reached")
    token = remote.secret()
    if not token:
        terminal.fail(USAGE, "HEAL_REMOTE__TOKEN_FILE is not set: make a token in the dashboard under Settings")
    headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
    try:
        answer = httpx2.request(
            method,
            f"{remote.url.rstrip('/')}/api/v1{path}",
            params=query,
            json=body,
            headers=headers,
            timeout=_TIMEOUT_S,
            follow_redirects=False,
        )
    except httpx2.HTTPError as error:
        terminal.fail(AWAY, f"{remote.url} does not answer: {error}")
    told = _json(answer.content)
    if answer.is_success and told is not None:
        return told
    detail = told.get("detail") if isinstance(told, dict) else None
    if answer.status_code >= 500:
        terminal.fail(AWAY, str(detail or f"{remote.url} answers with HTTP {answer.status_code}"))
    terminal.fail(NO, str(detail or f"{remote.url} answers with HTTP {answer.status_code}: is that the bot's address?"))


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _print(told: Any, as_json: bool, line: str) -> None:
    if as_json:
        terminal.print_json(told)
    else:
        typer.echo(line)


def _table(rows: list[dict[str, Any]], as_json: bool, names: tuple[str, ...]) -> None:
    if as_json:
        terminal.print_json(rows)
        return
    terminal.table(names, [[str(row[name] if row[name] is not None else "") for name in names] for row in rows])

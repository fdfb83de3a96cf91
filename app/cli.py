"""`heal`: run the bot, look at what it knows, try out a configuration.

Exit codes: 0 done · 1 the answer is no (not valid, not ready, not found, a wrong outcome) · 2 wrong usage or missing
settings · 3 something that is needed cannot be reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer

from app.commands.remote import app as remote_app

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.db.reads import Reads
    from app.db.tokens import Tokens
    from app.domain.access import Token
    from app.domain.policy import Policy
    from app.ports.store import Ledger
    from app.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
config_app = typer.Typer(no_args_is_help=True, help="Look at a heal.yml before GitHub does.")
deliveries_app = typer.Typer(no_args_is_help=True, help="Webhooks as they were received.")
incidents_app = typer.Typer(no_args_is_help=True, help="What broke, and what became of it.")
tokens_app = typer.Typer(no_args_is_help=True, help="Who may send observations and signals.")
advisories_app = typer.Typer(no_args_is_help=True, help="Known vulnerabilities that are kept here.")
playbooks_app = typer.Typer(no_args_is_help=True, help="What is done about each cause.")
audit_app = typer.Typer(no_args_is_help=True, help="Who did what, and whether that log is whole.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
for group, name in (
    (config_app, "config"),
    (deliveries_app, "deliveries"),
    (incidents_app, "incidents"),
    (tokens_app, "tokens"),
    (advisories_app, "advisories"),
    (playbooks_app, "playbooks"),
    (audit_app, "audit"),
    (db_app, "db"),
):
    app.add_typer(group, name=name)

app.add_typer(remote_app, name="remote")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
NO, USAGE, AWAY = 1, 2, 3


# run the bot


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    processes: Annotated[int | None, typer.Option(help="Web processes; more than one needs a broker.")] = None,
    relay: Annotated[bool, typer.Option("--relay", help="Fetch deliveries from GitHub, too, as `heal relay`.")] = False,
) -> None:
    """Receive webhooks and serve the dashboard; without a broker the workers run here, too."""
    from app.commands.relay import beside
    from app.web.serve import serve as run
    from app.wiring import logs

    settings = _settings(host=host, port=port, processes=processes)
    logs(settings)
    with _told():
        if settings.embedded and settings.web.processes > 1:
            _fail(USAGE, "several web processes need a broker: set HEAL_QUEUE__BROKER_URL, or use --processes 1")
        if relay:
            if settings.web.processes > 1:
                _fail(USAGE, "--relay goes with one web process; run `heal relay` beside several")
            beside(settings)
        run(settings, _to_people, (lambda: None) if relay else (lambda: beside(settings)))


@app.command("setup")
def set_up(
    code: Annotated[str, typer.Option(help="GitHub's code, or the whole address that it led to.")] = "",
    form: Annotated[Path | None, typer.Option(help="Write GitHub's form here, for a browser elsewhere.")] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the address, or GitHub's page, in a browser.")
    ] = False,
    github: Annotated[str, typer.Option(help="GitHub's address; none: HEAL_GITHUB__WEB_URL.")] = "",
    organization: Annotated[str, typer.Option(help="Whose App it shall be; none: your own.")] = "",
    name: Annotated[str, typer.Option(help="The App's name.")] = "Self-Healing MLOps Bot",
    public_url: Annotated[str, typer.Option(help="The bot's address; none: HEAL_WEB__PUBLIC_URL.")] = "",
    relayed: Annotated[bool, typer.Option("--relay", help="GitHub does not reach that address.")] = False,
    extra: Annotated[list[str] | None, typer.Option(help="workflows, runners or alerts; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Register the App at GitHub, and show how far that has come. 0 when everything works."""
    from app.commands.setup import exchange, look, renewed

    settings = _settings()
    with _told():
        if form is not None:
            _registration_form(settings, form, github, organization, name, public_url, relayed, extra or [])
            return
        if code:
            typer.echo(f"{exchange(settings, code).name} is registered", err=True)
        progress = look(settings)
        known = bool(progress.install_url)
        address = progress.install_url if known else renewed(settings)
    if as_json:
        _print_json({**progress.as_json(), "address": address})
    else:
        marks = {"done": "ok  ", "waiting": "    ", "trouble": "FAIL"}
        for step in progress.steps:
            typer.echo(f"{marks[step.state]} {step.title}: {step.detail}")
        if not progress.done:
            told = "Install it:" if known else "While `heal serve` runs, open this address:"
            typer.echo(f"\n{told}\n\n  {address}\n")
    if open_page and not progress.done:
        typer.launch(address)
    raise typer.Exit(0 if progress.done else NO)


@app.command()
def worker(
    concurrency: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
) -> None:
    """Work off what is due, beside any number of other workers. Needs a broker; without one, `heal serve` does it."""
    settings = _settings()
    if settings.embedded:
        _fail(USAGE, "HEAL_QUEUE__BROKER_URL is not set: on the embedded default `heal serve` works by itself")
    from app.commands.worker import run, wait_until_set_up
    from app.wiring import logs

    logs(settings)
    with _told():
        ready = wait_until_set_up(settings)
    raise typer.Exit(run(concurrency) if ready else 0)


@app.command()
def relay(
    every: Annotated[
        float,
        typer.Option(min=1, help="Seconds between two looks."),  # GitHub answers 5,000 questions an hour
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and exit.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch the App's deliveries from GitHub, for machines that GitHub cannot reach. Runs beside `heal serve`."""
    import threading

    from app.commands.relay import Relay, Relayed, follow, ready
    from app.domain.errors import HealError, Permanent
    from app.wiring import logs

    settings = _settings()
    logs(settings)

    def tell(one: Relayed) -> None:
        if as_json:
            typer.echo(json.dumps(_plain(one), default=str))
            return
        what, became = f"{one.event}.{one.action}".rstrip("."), "kept" if one.fresh else "sent again"
        typer.echo(f"{_when(one.at)}  {what:<32} {one.repository or '-':<40} {became} ({one.guid})")

    def trouble(error: HealError, wait_s: float) -> None:
        if isinstance(error, Permanent):
            _fail(USAGE, str(error))
        typer.echo(f"{error}; next try in {wait_s:.0f} s", err=True)

    with _told():
        wired = ready(settings)
        clock = wired.kit.clock
        found = Relay(wired.app, wired.store, clock)
        if once:
            count = 0
            for one in found.look():
                tell(one)
                count += 1
            typer.echo(f"{count} deliveries taken over", err=True)
            return
        typer.echo(
            f"Every {every:g} s GitHub is asked what it sent to the App {wired.app.slug()}; what is not known here is "
            "kept for `heal serve` to work on. Control-C ends this; the next start goes on from here.",
            err=True,
        )
        try:
            follow(found, clock, threading.Event(), every_s=every, tell=tell, trouble=trouble)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


@app.command("sign-in-link")
def sign_in_link() -> None:
    """A link that signs in on this machine, once, within ten minutes. For the embedded default on loopback alone."""
    from app.db.accounts import Accounts
    from app.web.one_time_link import make

    settings = _settings()
    with _engine(settings) as engine:
        typer.echo(make(Accounts(engine), settings))


@app.command()
def pause(
    repository: Annotated[str, typer.Option(help="owner/name; none: everywhere.")] = "",
    reason: Annotated[str, typer.Option(help="Shown to whoever asks why.")] = "",
) -> None:
    """The kill switch: go on watching and reporting, change nothing until `heal resume`."""
    import getpass

    from app.domain.policy import Switch

    with _ledger() as ledger:
        ledger.switch_on(Switch(_scope(ledger, repository), getpass.getuser(), ledger.now(), reason))
        _write_down(ledger, "pause", repository, reason)
    typer.echo(f"paused {repository or 'everywhere'}")


@app.command()
def resume(repository: Annotated[str, typer.Option(help="owner/name; none: everywhere.")] = "") -> None:
    """Take the kill switch back. A repository that was paused by itself stays paused."""
    with _ledger() as ledger:
        ledger.switch_off(_scope(ledger, repository))
        _write_down(ledger, "resume", repository)
    typer.echo(f"resumed {repository or 'everywhere'}")


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit when all is healed; 0 only if every outcome is right.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the dashboard.")] = 8000,
    as_json: Json = False,
) -> None:
    """Break five small repositories on a local stand-in for GitHub, and watch the bot heal them."""
    from app.commands.demo import run

    raise typer.Exit(run(once=once or as_json, port=port, as_json=as_json))


@app.command()
def check(as_json: Json = False) -> None:
    """Is everything set and reachable: configuration, database, broker, GitHub?"""
    from app.commands.check import checks

    probes = checks()
    if as_json:
        _print_json([{"name": p.name, "ok": p.ok, "detail": p.detail, "hint": p.hint} for p in probes])
    else:
        for p in probes:
            typer.echo(f"{'ok  ' if p.ok else 'FAIL'} {p.name}: {p.detail}{f' — {p.hint}' if p.hint else ''}")
    raise typer.Exit(0 if all(p.ok for p in probes) else NO)


# configuration


@config_app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A heal.yml, or - for standard input.")], as_json: Json = False
) -> None:
    """Say what is wrong with a heal.yml, line by line."""
    configured = _configured(file)
    failures = [p for p in configured.problems if p.level == "failure"]
    if as_json:
        rows = [
            {"line": p.line, "column": p.column, "key": p.path, "level": p.level, "message": p.message}
            for p in configured.problems
        ]
        _print_json({"valid": not failures, "problems": rows})
    else:
        for p in configured.problems:
            typer.echo(f"{file}:{p.line}:{p.column}: {p.level}: {p.message}")
        typer.echo("not valid" if failures else "valid")
    raise typer.Exit(NO if failures else 0)


@config_app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="A heal.yml, or - for standard input.")],
    owner: Annotated[Path | None, typer.Option(help="The heal.yml of the owner's .github repository.")] = None,
    as_json: Json = False,
) -> None:
    """Every value that is in force, and where it comes from."""
    from app.healing.configuration import explain as rows_of

    rows = rows_of(_configured(file, owner))
    if as_json:
        _print_json([{"key": key, "value": value, "origin": origin} for key, value, origin in rows])
    else:
        _table(("key", "value", "from"), rows)


@config_app.command()
def schema() -> None:
    """The JSON Schema of heal.yml, for editors."""
    from app.healing.configuration import json_schema

    _print_json(json_schema())


# playbooks

HealYml = Annotated[Path | None, typer.Option("--config", help="A heal.yml whose playbooks and modes count.")]


@playbooks_app.command("list")
def playbooks_list(config: HealYml = None, json_output: Json = False) -> None:
    """Every cause and its ladder, from the gentlest repair to the last resort."""
    from app.commands.playbooks import playbooks
    from app.healing.configuration import ladder_told

    told = playbooks(_policy_of(config))
    if json_output:
        _print_json(
            [{"cause": t.cause, "title": t.title, "ladder": ladder_told(t.ladder), "origin": t.origin} for t in told]
        )
        return
    wide = max(len(each.cause) for each in told)
    for each in told:
        typer.echo(f"{each.cause:<{wide}}  {ladder_told(each.ladder)}")


@playbooks_app.command("explain")
def playbooks_explain(
    cause: Annotated[str, typer.Argument(help="A kind of cause, such as host_oom.")],
    config: HealYml = None,
    json_output: Json = False,
) -> None:
    """One cause: each rung, what it does, how it is proven, and the mode that is in force."""
    import difflib

    from app.commands.playbooks import causes, detector_of, playbook, rungs
    from app.plugins import known_actions

    policy = _policy_of(config)
    known = {*causes(), *policy.playbooks}
    if cause not in known:
        close = difflib.get_close_matches(cause, sorted(known), n=1)
        hint = f"; did you mean {close[0]}?" if close else "; `heal playbooks list` shows them"
        _fail(NO, f"no cause is called {cause!r}{hint}")
    told = playbook(cause, policy)
    steps = list(rungs(told, policy, detector_of(cause), known_actions()))
    if json_output:
        _print_json({"cause": cause, "title": told.title, "origin": told.origin, "rungs": steps})
        return
    where = "the usual playbook" if told.origin == "default" else f"playbook of {told.origin}"
    typer.echo(f"{cause}: {told.title} ({where})")
    number = 0
    for step in steps:
        number += not step["follows"]
        params = ", ".join(f"{name}={value}" for name, value in step["params"].items())
        head = "then" if step["follows"] else f"{number}."
        typer.echo(
            f"  {head:<4} {step['action']}"
            + (f" ({params})" if params else "")
            + f"  [{step['mode']}{', asks first' if step['asks'] else ''}]"
        )
        typer.echo(f"       {step['does']}")
        typer.echo(f"       proof: {_PROOFS[step['proof']]}")


_PROOFS = {
    "same_run": "the same jobs pass in a later attempt of the same run",
    "fix_branch": "the jobs that failed pass on the fix branch",
    "own": "the action looks for itself until it has held",
    "nothing": "none; it tells a person",
    "": "unknown; the action is not installed here",
}


def _policy_of(config: Path | None) -> Policy:
    from app.domain.policy import Policy

    if config is None:
        return Policy()
    configured = _configured(config)
    for problem in configured.problems:
        typer.echo(f"{config}:{problem.line}:{problem.column}: {problem.message}", err=True)
    if any(problem.level == "failure" for problem in configured.problems):
        raise typer.Exit(USAGE)
    policy: Policy = configured.policy
    return policy


# what it knows


@deliveries_app.command("list")
def list_deliveries(
    state: Annotated[str | None, typer.Option(help="ready, done, ignored or dead.")] = None,
    repository: Annotated[str, typer.Option(help="owner/name.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """The newest deliveries."""
    from app.domain.access import EVERYTHING
    from app.domain.delivery import DeliveryState

    wanted = _one_of(DeliveryState, state) if state else None
    with _reads() as reads:
        lines = reads.deliveries(EVERYTHING, wanted, repository, limit=limit).lines
    rows = [
        (
            _when(d.received_at),
            d.guid,
            f"{d.event}.{d.action}".rstrip("."),
            d.repository,
            d.state,
            d.reason or d.last_error,
        )
        for d in lines
    ]
    if as_json:
        _print_json([_plain(d) for d in lines])
    else:
        _table(("received", "guid", "event", "repository", "state", "reason"), rows)


@deliveries_app.command("show")
def show_delivery(guid: str, as_json: Json = False) -> None:
    """One delivery, with its verdict."""
    with _reads() as reads:
        found = reads.delivery(guid)
    if found is None:
        _fail(NO, f"no delivery {guid} is kept here")
    if as_json:
        _print_json(_plain(found))
    else:
        _table(("", ""), [(key, str(value)) for key, value in _plain(found).items()])


@deliveries_app.command("replay")
def replay_delivery(guid: str) -> None:
    """Process a delivery again: after a fix, or one that was put aside. What was already done is not done twice."""
    import getpass

    from app.adapters.doorbells import CeleryBell, Silence
    from app.db.aside import again
    from app.db.store import SqlStore
    from app.domain.audit import Act
    from app.ports.queue import Work

    settings = _settings()
    with _engine(settings) as engine:
        from app.db.reads import Reads

        found = Reads(engine).delivery(guid)
        if found is None:
            _fail(NO, f"no delivery {guid} is kept here")
        bell = CeleryBell(settings.queue.broker_url) if settings.queue.broker_url else Silence()
        detail = Reads(engine).delivery_numbered(found.id)
        where = detail.repository_id if detail else None
        act = Act(
            getpass.getuser(), "cli", "replay", "delivery", str(found.id), repository_id=where, data={"guid": guid}
        )
        if not again(SqlStore(engine, bell), engine, Work.DELIVERY, found.id, act):
            _fail(NO, f"delivery {guid} is {found.state} and its body is gone, or a worker has it right now")
        typer.echo(f"delivery {guid} is due again")


@audit_app.command("list")
def list_audit(
    who: Annotated[str, typer.Option(help="The login of whoever did it.")] = "",
    verb: Annotated[str, typer.Option(help="What was done: approve, pause, replay, …")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """What was done last."""
    from app.commands.audit import newest
    from app.db.reads.audit import Asked

    with _engine(_settings()) as engine:
        lines = newest(engine, Asked(who, verb), limit)
    if as_json:
        _print_json([_plain(line) for line in lines])
    else:
        rows = [(str(a.id), _when(a.at), a.actor, a.via, a.verb, f"{a.what} {a.number}".strip()) for a in lines]
        _table(("id", "at", "who", "via", "did", "to what"), rows)


@audit_app.command("verify")
def verify_audit(as_json: Json = False) -> None:
    """Follow the chain of the log: 0 when no entry was changed or removed, else 1."""
    from app.commands.audit import told
    from app.db.audit import verify

    with _engine(_settings()) as engine:
        found = verify(engine)
    if as_json:
        _print_json(_plain(found))
    else:
        for line in told(found):
            typer.echo(line)
    raise typer.Exit(0 if found.broken is None else NO)


@incidents_app.command("list")
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

    states, search = [_one_of(State, state)] if state else [], parse(query)
    for problem in search.problems:
        _fail(USAGE, f"{problem.text}: this is not understood ({problem.trouble}); see docs/reference/search.md")
    with _reads() as reads:
        lines = reads.incidents(EVERYTHING, states, search, limit=limit).lines
    if as_json:
        _print_json([_plain(line) for line in lines])
    else:
        rows = [(str(i.id), i.state, i.repository, i.kind, i.summary, _when(i.opened_at)) for i in lines]
        _table(("id", "state", "repository", "cause", "summary", "opened"), rows)


@incidents_app.command("show")
def show_incident(incident_id: int, as_json: Json = False) -> None:
    """One incident from delivery to proof: evidence, every decision with the rules behind it, diff, proof."""
    with _reads() as reads:
        found = reads.incident(incident_id)
    if found is None:
        _fail(NO, f"there is no incident {incident_id}")
    if as_json:
        _print_json(_plain(found))
        return
    from app.commands.story import lines

    for line in lines(found):
        typer.echo(line)


# who may send


@tokens_app.command("create")
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

    made_of = _one_of(TokenKind, kind)
    scopes = {_one_of(Scope, each.strip()) for each in scope.split(",")}
    if made_of is TokenKind.MLFLOW:
        scopes = {Scope.SIGNALS}
    expires_in_s = _duration(expires) if expires else None
    sends = scopes & {Scope.OBSERVATIONS, Scope.SIGNALS}
    if not repository and sends:
        _fail(USAGE, f"what may send {min(sends)} needs --repository: to which does it belong?")
    with _ledger() as ledger:
        found = ledger.repository_named(repository) if repository else None
    if found is None and repository:
        _fail(NO, f"{repository} is not known here: the App is not installed on it, or nothing has come from it yet")
    with _tokens() as tokens:
        token, text = tokens.create(found, scopes, name=name, kind=made_of, expires_in_s=expires_in_s)
    address = f"/api/v1/signals/mlflow/{token.id}" if made_of is TokenKind.MLFLOW else ""
    if as_json:
        _print_json({"id": token.id, "token": text, "expires_at": token.expires_at, "address": address})
        return
    typer.echo(text)
    typer.echo(f"token {token.id} for {repository or 'everything'}; it is not shown again", err=True)
    if address:
        typer.echo(f"the webhook's address ends with {address}", err=True)


@tokens_app.command("list")
def list_tokens(as_json: Json = False) -> None:
    """All tokens, the newest first, without the tokens themselves."""
    with _tokens() as tokens:
        found = tokens.all()
    if as_json:
        told = ({**_plain(t), "repository": _good_for(t), "scopes": sorted(t.scopes)} for t in found)
        _print_json(list(told))
        return
    rows = [
        (
            str(token.id),
            token.kind,
            _good_for(token),
            ", ".join(sorted(token.scopes)),
            token.name,
            _when(token.last_used_at),
            _when(token.expires_at),
            _when(token.revoked_at),
        )
        for token in found
    ]
    _table(("id", "kind", "repository", "scopes", "name", "last used", "expires", "revoked"), rows)


def _good_for(token: Token) -> str:
    if token.repository is not None:
        return token.repository.full_name
    return "everything" if token.installation_id is None else f"installation {token.installation_id}"


@tokens_app.command("revoke")
def revoke_token(token_id: int) -> None:
    """End a token at once."""
    with _tokens() as tokens:
        if not tokens.revoke(token_id):
            _fail(NO, f"there is no token {token_id}, or it is revoked already")
    typer.echo(f"token {token_id} is revoked")


@advisories_app.command("update")
def update_advisories(
    dump: Annotated[Path, typer.Option("--from", help="OSV's dump of one ecosystem: its all.zip.")],
) -> None:
    """Take in a dump of advisories, for machines that do not reach OSV."""
    from app.wiring import advisories

    with _told():
        kept, ecosystem = advisories(_settings()).load(dump)
    typer.echo(f"{kept} advisories kept, {ecosystem}")


@advisories_app.command("show")
def show_advisories(as_json: Json = False) -> None:
    """What is kept, and how old it is."""
    from app.wiring import advisories

    stock = advisories(_settings()).stock()
    if as_json:
        _print_json(stock)
        return
    for ecosystem, count in sorted(stock["records"].items()):
        dumped = stock["dumps"].get(ecosystem)
        typer.echo(f"{ecosystem}: {count} advisories" + (f", dump of {dumped}" if dumped else ""))
    typer.echo(
        f"{stock['versions_looked_up']} versions looked up, last at {stock['last_looked_up_at'] or 'no time yet'}"
    )


@db_app.command("upgrade")
def upgrade_database(revision: Annotated[str, typer.Argument(help="Alembic revision.")] = "head") -> None:
    """Bring the schema up to date."""
    from app.db import migrate

    with _engine(_settings()) as engine:
        migrate.upgrade(engine, revision)
        typer.echo(f"{engine.dialect.name}: at {migrate.current(engine)}")


@app.command()
def diagnose(
    log: Annotated[
        Path, typer.Argument(help="A job's log, a run's archive of logs (a zip), also gzipped; - for standard input.")
    ],
    job: Annotated[str, typer.Option(help="The job to look at, where the file holds several.")] = "",
    green: Annotated[Path | None, typer.Option(help="A log of the last successful run, to compare with.")] = None,
    config: Annotated[Path | None, typer.Option(help="A heal.yml, for the team's own signatures.")] = None,
    as_json: Json = False,
) -> None:
    """Why a job failed, as its log tells. Needs no settings, no network and no database."""
    from app.adapters.logfile import templates_in
    from app.commands.diagnose import as_json as rows_of
    from app.commands.diagnose import causes_of, report
    from detectors.team import extended

    configured = _configured(config) if config else None
    if configured and any(problem.level == "failure" for problem in configured.problems):
        _fail(USAGE, f"{config} is not valid; `heal config validate` says why")
    taught = extended(configured.policy.signatures if configured else ())
    with _told(), _bytes(log) as stream:
        known = None
        if green:
            with _bytes(green) as passed:
                known = templates_in(passed)
        causes = causes_of(stream, job=job, green=known, knowledge=taught)
    if as_json:
        _print_json(rows_of(causes))
    else:
        _lines(report(causes))


@app.command()
def drift(
    reference: Annotated[Path, typer.Argument(help="A table (Parquet, Arrow, CSV), or a profile of one.")],
    current: Annotated[Path, typer.Argument(help="The table to compare with it.")],
    html: Annotated[Path | None, typer.Option(help="Write the report as a page, too.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="A column that is no feature; may be repeated.")] = None,
    importance: Annotated[list[str] | None, typer.Option(help="NAME=WEIGHT of a column; may be repeated.")] = None,
    time: Annotated[str, typer.Option(help="The column with each row's time: compare like hours and days.")] = "",
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when something has changed.")] = False,
    as_json: Json = False,
) -> None:
    """Has a table changed? What drifted, strongest first. Needs no settings, no network and no database."""
    from app.commands.drift import compare, rows, verdict, weights

    with _told():
        compared = compare(reference, current, leave_out or (), time, weights(importance or ()))
        report = compared.report
        if html:
            _write(html, compared.page(f"{current.name} against {reference.name}"))
    if as_json:
        _print_json(report.to_json())
    else:
        typer.echo(verdict(report))
        if report.found:
            _table(("column", "change", "what is seen", "effect", "p"), list(rows(report)))
    raise typer.Exit(NO if exit_code and report.found else 0)


@app.command()
def profile(
    table: Annotated[Path, typer.Argument(help="A table: Parquet, Arrow or CSV.")],
    out: Annotated[Path, typer.Option(help="Where the profile goes.")],
    leave_out: Annotated[list[str] | None, typer.Option(help="A column that is no feature; may be repeated.")] = None,
    time: Annotated[str, typer.Option(help="The column with each row's time: keep hours and days apart.")] = "",
) -> None:
    """Keep what `heal drift` needs of a table: counts, no rows."""
    from app.commands.drift import profile_of

    with _told():
        found = profile_of(table, leave_out or (), time)
        _write(out, json.dumps(found.to_json(), separators=(",", ":"), ensure_ascii=False))
    typer.echo(f"{found.rows} rows of {len(found.columns)} columns kept in {out}")


@app.command()
def simulate(
    delivery: Annotated[Path, typer.Argument(help="A webhook's JSON body, or {event, headers, payload}.")],
    config: Annotated[Path | None, typer.Option(help="A heal.yml; none: observe only.")] = None,
    event: Annotated[str, typer.Option(help="X-GitHub-Event of the body.")] = "workflow_run",
    log: Annotated[
        Path | None,
        typer.Option(help="The failed job's log, or the run's archive of logs (a zip), as GitHub serves it."),
    ] = None,
    job: Annotated[str, typer.Option(help="The failed job's name.")] = "",
    as_json: Json = False,
) -> None:
    """What would be decided, and by which rules. Touches no network and changes nothing."""
    from app.commands.simulate import simulate as run

    text = _text(config) if config else None
    with _told():
        result = run(_text(delivery).encode(), event=event, config=text, log=log.read_bytes() if log else None, job=job)
    if as_json:
        _print_json(result.as_json())
    else:
        for line in result.lines():
            typer.echo(line)


# plumbing


def _registration_form(
    settings: Settings,
    file: Path,
    github: str,
    organization: str,
    name: str,
    public_url: str,
    relayed: bool,
    extra: list[str],
) -> None:
    from app.adapters.github.manifest import Extra, Site, Wish
    from app.commands.setup import form

    public = public_url or settings.web.public_url
    if not public:
        _fail(USAGE, "--public-url is needed: where browsers open the bot, such as https://heal.example.com")
    wish = Wish(
        Site(github or settings.github.web_url),
        public,
        name,
        organization,
        relay=relayed,
        extras=frozenset(_one_of(Extra, each) for each in extra),
    )
    _write(file, form(settings, wish))
    typer.echo(
        f"open {file} in a browser, then run `heal setup --code` with the address that GitHub leads to", err=True
    )


def _to_people(text: str) -> None:
    """To whoever looks at this terminal, never to the log: it may hold what is good for one use."""
    typer.echo(text)
    sys.stdout.flush()


def _settings(**web: object) -> Settings:
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
        _fail(USAGE, "\n".join(problems(error)))
    for name in misspelt():
        typer.echo(f"warning: {name} is not a setting of heal", err=True)
    return settings


@contextmanager
def _told() -> Iterator[None]:
    """Expected trouble is one sentence and an exit code, not a traceback."""
    from app.domain.errors import HealError, Transient

    try:
        yield
    except HealError as error:
        _fail(AWAY if isinstance(error, Transient) else USAGE, str(error))


@contextmanager
def _engine(settings: Settings) -> Iterator[Engine]:
    from app.db.engine import make_engine

    with _told():
        engine = make_engine(settings.database_url())
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def _reads() -> Iterator[Reads]:
    from app.db.reads import Reads

    with _engine(_settings()) as engine:
        yield Reads(engine)


@contextmanager
def _ledger() -> Iterator[Ledger]:
    from app.adapters.doorbells import Silence
    from app.db.store import SqlStore

    with _engine(_settings()) as engine, SqlStore(engine, Silence()).begin() as ledger:
        yield ledger


@contextmanager
def _tokens() -> Iterator[Tokens]:
    from app.adapters.doorbells import Silence
    from app.db.store import SqlStore
    from app.db.tokens import Tokens

    with _engine(_settings()) as engine:
        yield Tokens(engine, SqlStore(engine, Silence()).secret)


def _duration(value: str) -> float:
    import re

    match = re.fullmatch(r"([0-9]{1,5})([hd])", value)
    if match is None:
        _fail(USAGE, f"{value!r} is not a duration; write a number of hours or days, such as 12h or 90d")
    return int(match[1]) * {"h": 3600.0, "d": 24 * 3600.0}[match[2]]


def _scope(ledger: Ledger, repository: str) -> str:
    if not repository:
        return "app"
    found = ledger.repository_named(repository)
    if found is None:
        _fail(NO, f"{repository} is not known here: the App is not installed on it, or nothing has come from it yet")
    return f"repository:{found.id}"


def _write_down(ledger: Ledger, verb: str, repository: str, reason: str = "") -> None:
    """In the audit log, as whoever runs this."""
    import getpass

    from app.domain.audit import Act
    from app.healing.steer import said_why

    found = ledger.repository_named(repository) if repository else None
    what, number = ("repository", str(found.id)) if found else ("bot", "")
    where = {"installation_id": found.installation_id, "repository_id": found.id} if found else {}
    data = {"reason": said_why(reason)} if reason else {}
    ledger.audit(Act(getpass.getuser(), "cli", verb, what, number, data=data, **where))


def _configured(file: Path, owner: Path | None = None) -> Any:
    from app.domain.policy import named
    from app.healing.configuration import resolve
    from app.plugins import known_actions, known_detectors

    return resolve(
        _text(file),
        _text(owner) if owner else None,
        known_detectors={kind: detector.Settings for kind, detector in known_detectors().items()},
        known_actions=named({kind: action.Params for kind, action in known_actions().items()}),
    )


def _text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        _fail(USAGE, f"{file} cannot be read: {error}")


@contextmanager
def _bytes(file: Path) -> Iterator[BinaryIO]:
    try:
        if str(file) == "-":
            yield sys.stdin.buffer
        else:
            with file.open("rb") as stream:
                yield stream
    except OSError as error:
        _fail(USAGE, f"{file} cannot be read: {error.strerror or error}")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        _fail(USAGE, f"{file} cannot be written: {error.strerror or error}")


def _one_of(kind: Callable[[str], Any], value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        _fail(USAGE, f"{value!r} is none of {', '.join(kind)}")  # type: ignore[arg-type]


def _fail(code: int, message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def _when(at: Any) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(_inert(cell) for cell in row))
    console = Console()
    if not console.is_terminal:  # whoever reads it by a program or in a file wants whole words
        console.width = 1_000
    console.print(table)


def _lines(styled: Iterator[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for text, style in styled:
        console.print(Text(text, style))


def _inert(cell: str) -> Any:
    """What came from repositories is text: no markup, no control characters for the terminal."""
    from rich.text import Text

    return Text("".join(c for c in str(cell) if c.isprintable()))


def main() -> None:
    app()


if __name__ == "__main__":
    main()

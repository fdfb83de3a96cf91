"""`heal`: run the bot, look at what it knows, try out a configuration.

Exit codes: 0 done · 1 the answer is no (not valid, not ready, not found, a wrong outcome) · 2 wrong usage or missing
settings · 3 something that is needed cannot be reached.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import audit, config, deliveries, incidents, remote, terminal, tokens
from app.commands.config import resolved
from app.commands.terminal import NO, USAGE, Json

if TYPE_CHECKING:
    from app.domain.policy import Policy
    from app.ports.store import Ledger
    from app.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
advisories_app = typer.Typer(no_args_is_help=True, help="Known vulnerabilities that are kept here.")
playbooks_app = typer.Typer(no_args_is_help=True, help="What is done about each cause.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
for group, name in (
    (config.app, "config"),
    (deliveries.app, "deliveries"),
    (incidents.app, "incidents"),
    (tokens.app, "tokens"),
    (advisories_app, "advisories"),
    (playbooks_app, "playbooks"),
    (audit.app, "audit"),
    (db_app, "db"),
    (remote.app, "remote"),
):
    app.add_typer(group, name=name)


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

    settings = terminal.settings(host=host, port=port, processes=processes)
    logs(settings)
    with terminal.told():
        if settings.embedded and settings.web.processes > 1:
            terminal.fail(
                USAGE, "several web processes need a broker: set HEAL_QUEUE__BROKER_URL, or use --processes 1"
            )
        if relay:
            if settings.web.processes > 1:
                terminal.fail(USAGE, "--relay goes with one web process; run `heal relay` beside several")
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

    settings = terminal.settings()
    with terminal.told():
        if form is not None:
            _registration_form(settings, form, github, organization, name, public_url, relayed, extra or [])
            return
        if code:
            typer.echo(f"{exchange(settings, code).name} is registered", err=True)
        progress = look(settings)
        known = bool(progress.install_url)
        address = progress.install_url if known else renewed(settings)
    if as_json:
        terminal.print_json({**progress.as_json(), "address": address})
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
    settings = terminal.settings()
    if settings.embedded:
        terminal.fail(USAGE, "HEAL_QUEUE__BROKER_URL is not set: on the embedded default `heal serve` works by itself")
    from app.commands.worker import run, wait_until_set_up
    from app.wiring import logs

    logs(settings)
    with terminal.told():
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

    settings = terminal.settings()
    logs(settings)

    def tell(one: Relayed) -> None:
        if as_json:
            typer.echo(json.dumps(terminal.plain(one), default=str))
            return
        what, became = f"{one.event}.{one.action}".rstrip("."), "kept" if one.fresh else "sent again"
        typer.echo(f"{terminal.when(one.at)}  {what:<32} {one.repository or '-':<40} {became} ({one.guid})")

    def trouble(error: HealError, wait_s: float) -> None:
        if isinstance(error, Permanent):
            terminal.fail(USAGE, str(error))
        typer.echo(f"{error}; next try in {wait_s:.0f} s", err=True)

    with terminal.told():
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

    settings = terminal.settings()
    with terminal.database(settings) as engine:
        typer.echo(make(Accounts(engine), settings))


@app.command()
def pause(
    repository: Annotated[str, typer.Option(help="owner/name; none: everywhere.")] = "",
    reason: Annotated[str, typer.Option(help="Shown to whoever asks why.")] = "",
) -> None:
    """The kill switch: go on watching and reporting, change nothing until `heal resume`."""
    import getpass

    from app.domain.policy import Switch

    with terminal.ledger() as ledger:
        ledger.switch_on(Switch(_scope(ledger, repository), getpass.getuser(), ledger.now(), reason))
        _write_down(ledger, "pause", repository, reason)
    typer.echo(f"paused {repository or 'everywhere'}")


@app.command()
def resume(repository: Annotated[str, typer.Option(help="owner/name; none: everywhere.")] = "") -> None:
    """Take the kill switch back. A repository that was paused by itself stays paused."""
    with terminal.ledger() as ledger:
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
        terminal.print_json([{"name": p.name, "ok": p.ok, "detail": p.detail, "hint": p.hint} for p in probes])
    else:
        for p in probes:
            typer.echo(f"{'ok  ' if p.ok else 'FAIL'} {p.name}: {p.detail}{f' — {p.hint}' if p.hint else ''}")
    raise typer.Exit(0 if all(p.ok for p in probes) else NO)


# configuration


# playbooks

HealYml = Annotated[Path | None, typer.Option("--config", help="A heal.yml whose playbooks and modes count.")]


@playbooks_app.command("list")
def playbooks_list(config: HealYml = None, json_output: Json = False) -> None:
    """Every cause and its ladder, from the gentlest repair to the last resort."""
    from app.commands.playbooks import playbooks
    from app.healing.configuration import ladder_told

    told = playbooks(_policy_of(config))
    if json_output:
        terminal.print_json(
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
        terminal.fail(NO, f"no cause is called {cause!r}{hint}")
    told = playbook(cause, policy)
    steps = list(rungs(told, policy, detector_of(cause), known_actions()))
    if json_output:
        terminal.print_json({"cause": cause, "title": told.title, "origin": told.origin, "rungs": steps})
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
    configured = resolved(config)
    for problem in configured.problems:
        typer.echo(f"{config}:{problem.line}:{problem.column}: {problem.message}", err=True)
    if any(problem.level == "failure" for problem in configured.problems):
        raise typer.Exit(USAGE)
    policy: Policy = configured.policy
    return policy


@advisories_app.command("update")
def update_advisories(
    dump: Annotated[Path, typer.Option("--from", help="OSV's dump of one ecosystem: its all.zip.")],
) -> None:
    """Take in a dump of advisories, for machines that do not reach OSV."""
    from app.wiring import advisories

    with terminal.told():
        kept, ecosystem = advisories(terminal.settings()).load(dump)
    typer.echo(f"{kept} advisories kept, {ecosystem}")


@advisories_app.command("show")
def show_advisories(as_json: Json = False) -> None:
    """What is kept, and how old it is."""
    from app.wiring import advisories

    stock = advisories(terminal.settings()).stock()
    if as_json:
        terminal.print_json(stock)
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

    with terminal.database(terminal.settings()) as engine:
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

    configured = resolved(config) if config else None
    if configured and any(problem.level == "failure" for problem in configured.problems):
        terminal.fail(USAGE, f"{config} is not valid; `heal config validate` says why")
    taught = extended(configured.policy.signatures if configured else ())
    with terminal.told(), terminal.opened(log) as stream:
        known = None
        if green:
            with terminal.opened(green) as passed:
                known = templates_in(passed)
        causes = causes_of(stream, job=job, green=known, knowledge=taught)
    if as_json:
        terminal.print_json(rows_of(causes))
    else:
        terminal.print_lines(report(causes))


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

    with terminal.told():
        compared = compare(reference, current, leave_out or (), time, weights(importance or ()))
        report = compared.report
        if html:
            terminal.write(html, compared.page(f"{current.name} against {reference.name}"))
    if as_json:
        terminal.print_json(report.to_json())
    else:
        typer.echo(verdict(report))
        if report.found:
            terminal.table(("column", "change", "what is seen", "effect", "p"), list(rows(report)))
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

    with terminal.told():
        found = profile_of(table, leave_out or (), time)
        terminal.write(out, json.dumps(found.to_json(), separators=(",", ":"), ensure_ascii=False))
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

    text = terminal.text(config) if config else None
    with terminal.told():
        result = run(
            terminal.text(delivery).encode(), event=event, config=text, log=log.read_bytes() if log else None, job=job
        )
    if as_json:
        terminal.print_json(result.as_json())
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
        terminal.fail(USAGE, "--public-url is needed: where browsers open the bot, such as https://heal.example.com")
    wish = Wish(
        Site(github or settings.github.web_url),
        public,
        name,
        organization,
        relay=relayed,
        extras=frozenset(terminal.one_of(Extra, each) for each in extra),
    )
    terminal.write(file, form(settings, wish))
    typer.echo(
        f"open {file} in a browser, then run `heal setup --code` with the address that GitHub leads to", err=True
    )


def _to_people(text: str) -> None:
    """To whoever looks at this terminal, never to the log: it may hold what is good for one use."""
    typer.echo(text)
    sys.stdout.flush()


def _scope(ledger: Ledger, repository: str) -> str:
    from app.domain.policy import repository_scope

    return repository_scope(terminal.known(ledger, repository).id) if repository else "app"


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


def main() -> None:
    app()


if __name__ == "__main__":
    main()

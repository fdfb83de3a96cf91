"""The whole loop on five repositories that really break, against a stand-in for GitHub on this machine."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.db.accounts import Accounts
from app.db.engine import make_engine
from app.db.reads import Entry, IncidentDetail, Reads
from app.domain.access import EVERYTHING
from app.domain.errors import Unreachable
from app.domain.incident import State
from app.settings import Queue, Settings, Web
from app.web.one_time_link import make

ROOT = Path("var/demo")
_START_S = 60.0
_HEAL_S = 300.0
_SETTLED = frozenset({State.HEALED, State.ESCALATED, State.DISMISSED, State.OBSERVED, State.RECOVERED})
_STYLES = {"found": "red", "proven": "green", "healed": "bold green", "escalated": "yellow", "disproven": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the closing table. `right` is whether this is what should have happened."""

    repository: str
    broke: str
    evidence: str
    repair: str
    proof: str
    seconds: float | None
    right: bool


def run(*, once: bool, port: int, as_json: bool) -> int:
    """0 when every outcome is the right one. Without `once` it goes on serving until Ctrl-C."""
    out = Console(stderr=as_json)
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupted))
        try:
            github, sign_in, reads = _start(stack, out, port)
            scenarios = _get(f"{github}/_sandbox/scenarios")
            rows = _watch(out, github, reads, scenarios)
            if as_json:
                sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n")
            else:
                _show(out, rows)
            right = sum(row.right for row in rows)
            out.print(f"\n{right} of {len(rows)} outcomes are right.", style="bold")
            if not once:
                out.print(f"Dashboard: {sign_in()}", soft_wrap=True)
                out.print("The link is good once, for ten minutes; Enter prints another.", style="dim")
                out.print(f"The stand-in for GitHub: {github}/    Ctrl-C stops both.")
                _more(out, sign_in)
            return 0 if right == len(rows) == len(scenarios) else 1
        except KeyboardInterrupt:
            return 0
        except (_NotStarted, TimeoutError) as error:
            out.print(str(error), style="red")
            return 1


def _more(out: Console, sign_in: Callable[[], str]) -> NoReturn:
    """A new link for each line that is typed, until Ctrl-C."""
    while True:
        if not sys.stdin.isatty() or not sys.stdin.readline():
            time.sleep(3600)
        out.print(f"Dashboard: {sign_in()}", soft_wrap=True)


class _NotStarted(Exception):
    """A process of the demo did not come up; the message names its log."""


def _start(stack: contextlib.ExitStack, out: Console, port: int) -> tuple[str, Callable[[], str], Reads]:
    """The stand-in, then the bot on its embedded default, each a process of its own. Gives the stand-in's address, what
    makes a link that signs in, and what the bot knows."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write("key.pem", key.private_bytes(*_PRIVATE))
    _write("key.pub.pem", key.public_key().public_bytes(*_PUBLIC))
    _write("secret", secrets.token_hex(32).encode())
    port = _free(port)
    bot_url = f"http://127.0.0.1:{port}"
    out.print("Starting a local stand-in for GitHub (it runs only the five repositories of this demo) …")
    sandbox = _spawn(
        stack,
        "sandbox",
        [
            *(sys.executable, "-m", "sandbox", "serve", "--root", str(ROOT / "github"), "--port", "0"),
            *("--webhook-url", f"{bot_url}/webhooks/github", "--webhook-secret-file", str(ROOT / "secret")),
            *("--app-id", "1", "--app-public-key-file", str(ROOT / "key.pub.pem"), "--exit-with-parent"),
        ],
        os.environ,
    )
    assert sandbox.stdout is not None
    try:
        github = str(json.loads(sandbox.stdout.readline())["url"])
    except (ValueError, KeyError):
        raise _NotStarted(f"the stand-in for GitHub did not start; see {ROOT / 'sandbox.log'}") from None
    out.print("Starting the bot: one process, SQLite, no account anywhere …")
    database = f"sqlite:///{(ROOT / 'heal.db').absolute()}"
    bot = _spawn(
        stack, "bot", [sys.executable, "-m", "app.cli", "serve"], _environment(github, bot_url, port, database)
    )
    _wait_until_ready(bot, f"{bot_url}/readyz")
    engine = make_engine(database)
    stack.callback(engine.dispose)
    accounts = Accounts(engine)
    return github, lambda: make(accounts, _told(port)), Reads(engine)


def _told(port: int) -> Settings:
    """What the bot was told, as far as a link needs it."""
    return Settings.model_construct(queue=Queue(broker_url=""), web=Web(host="127.0.0.1", port=port))


_PRIVATE = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
_PUBLIC = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _environment(github: str, bot_url: str, port: int, database: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEAL_")}
    return inherited | {
        "HEAL_DATABASE__URL": database,
        "HEAL_GITHUB__API_URL": f"{github}/api/v3",
        "HEAL_GITHUB__WEB_URL": github,
        "HEAL_GITHUB__APP_ID": "1",
        "HEAL_GITHUB__PRIVATE_KEY_FILE": str(ROOT / "key.pem"),
        "HEAL_GITHUB__WEBHOOK_SECRETS_FILE": str(ROOT / "secret"),
        "HEAL_GITHUB__SECONDS_BETWEEN_WRITES": "0",
        "HEAL_RESOLVER__INDEX_URL": f"{github}/simple/",
        "HEAL_ADVISORIES__URL": "",
        "HEAL_ADVISORIES__CACHE": str(ROOT / "advisories.db"),
        "HEAL_WEB__PORT": str(port),
        "HEAL_WEB__PUBLIC_URL": bot_url,
        "HEAL_HEALING__LOOK_EVERY_S": "5",
    }


def _spawn(
    stack: contextlib.ExitStack, name: str, command: list[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    log = stack.enter_context((ROOT / f"{name}.log").open("wb"))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=dict(environment),
        start_new_session=True,
    )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _wait_until_ready(bot: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and bot.poll() is None:
        try:
            _get(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise _NotStarted(f"the bot did not start; see {ROOT / 'bot.log'}")


def _watch(out: Console, github: str, reads: Reads, scenarios: list[dict[str, Any]]) -> list[Row]:
    """Push the repositories, tell what happens as it happens, until every incident has come to rest."""
    began = time.monotonic()
    for scenario in scenarios:
        _post(f"{github}/_sandbox/repositories", {"name": scenario["name"], "directory": scenario["directory"]})
        _say(out, began, scenario["name"], "pushed", scenario["title"])
    told: set[int] = set()
    while time.monotonic() < began + _HEAL_S:
        with contextlib.suppress(Unreachable):
            incidents = _incidents(reads)
            for incident, entry in _news(incidents.values(), told):
                _tell(out, began, incident, entry)
            if all(scenario["name"] in incidents for scenario in scenarios) and all(
                incident.line.state in _SETTLED for incident in incidents.values()
            ):
                state = _get(f"{github}/_sandbox/state")
                return [_row(scenario, incidents[scenario["name"]], state) for scenario in scenarios]
        time.sleep(0.25)
    raise TimeoutError(f"not everything came to rest within {_HEAL_S:.0f} s; see {ROOT}/*.log and the dashboard")


def _incidents(reads: Reads) -> dict[str, IncidentDetail]:
    details = (reads.incident(line.id) for line in reads.incidents(EVERYTHING, limit=100).lines)
    return {detail.line.repository.partition("/")[2]: detail for detail in details if detail is not None}


def _news(incidents: Any, told: set[int]) -> Iterator[tuple[IncidentDetail, Entry]]:
    fresh = [
        (entry.id, incident, entry) for incident in incidents for entry in incident.timeline if entry.id not in told
    ]
    for number, incident, entry in sorted(fresh, key=lambda item: item[0]):
        told.add(number)
        yield incident, entry


def _tell(out: Console, began: float, incident: IncidentDetail, entry: Entry) -> None:
    data = entry.data
    words = {
        "found": f"{data.get('kind')}: {data.get('summary')}",
        "decided": f"{data.get('verdict')} {data.get('action')}: {data.get('reason')}",
        "planned": f"{data.get('title')}",
        "applied": f"{data.get('title')}",
        "proven": f"{data.get('job')} passed: {data.get('url')}",
        "disproven": f"{data.get('reason')}",
        "escalated": f"{data.get('reason')}",
    }.get(entry.kind, str(data.get("title") or data.get("reason") or ""))
    _say(out, began, incident.line.repository.partition("/")[2], entry.kind, words)


def _say(out: Console, began: float, repository: str, kind: str, words: str) -> None:
    line = Text(f"{_clock(began)} ")
    line.append(f"{repository:<20} ", style="bold")
    line.append(f"{kind:<10} ", style=_STYLES.get(kind, "cyan"))
    line.append("".join(c for c in words if c.isprintable())[:160])
    out.print(line, soft_wrap=True)


def _row(scenario: Mapping[str, Any], incident: IncidentDetail, state: Mapping[str, Any]) -> Row:
    line = incident.line
    proven = next((entry.data for entry in reversed(incident.timeline) if entry.kind == "proven"), None)
    applied = next((entry.data for entry in reversed(incident.timeline) if entry.kind == "applied"), None)
    repair = str(applied["action"]) if applied else "none"
    root = next((seen.text for seen in incident.finding.lines if seen.root), "")
    here = state[line.repository]
    untouched = not here["pulls"] and not [branch for branch in here["branches"] if "heal/" in branch]
    healed = line.state is State.HEALED and repair == scenario["healed_by"]
    escalated = line.state is State.ESCALATED and scenario["healed_by"] is None and untouched and bool(here["issues"])
    if line.pull_number:
        repair += f" (pull request #{line.pull_number})"
    elif line.issue_number:
        repair = f"left alone, told in issue #{line.issue_number}"
    return Row(
        repository=str(scenario["name"]),
        broke=line.kind,
        evidence=root,
        repair=repair,
        proof=f"{proven['job']}, attempt {proven['attempt']}: passed" if proven else str(line.state),
        seconds=line.heal_s,
        right=healed or escalated,
    )


def _show(out: Console, rows: list[Row]) -> None:
    if not out.is_terminal:
        out.width = 160
    table = Table(show_lines=True, pad_edge=False)
    for head in ("repository", "what broke", "evidence", "repair", "proof", "seconds to heal"):
        takes_the_rest = head == "evidence"
        table.add_column(head, ratio=1 if takes_the_rest else None, overflow="fold", no_wrap=head == "what broke")
    for row in rows:
        seconds = f"{row.seconds:.1f}" if row.seconds is not None else "–"
        cells = (row.repository, row.broke, _short(row.evidence, 120), row.repair, row.proof, seconds)
        table.add_row(*(Text(cell) for cell in cells), style="" if row.right else "red")
    out.print()
    out.print(table)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _clock(began: float) -> str:
    return f"{time.monotonic() - began:6.1f} s "


def _write(name: str, content: bytes) -> None:
    path = ROOT / name
    path.touch(mode=0o600)
    path.write_bytes(content)


def _free(wanted: int) -> int:
    """That port, or another if it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise _NotStarted("no port is free on 127.0.0.1")


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own processes, on loopback
        return json.load(answer)


def _post(url: str, body: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt

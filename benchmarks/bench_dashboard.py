"""How long the dashboard's lists take with 100,000 incidents and 1,000,000 deliveries, beside Flower's task list.

    python -m benchmarks dashboard [--requests 60] [--flower PYTHON] [--tasks 100000] [--json]

Both servers run on this machine and are asked by the same client, in turns, over one kept connection each, one request
at a time; a figure is the time from sending to the last byte. Ours answers from PostgreSQL (TEST_POSTGRES_URL,
or a private server: `python -m tests.services python -m benchmarks dashboard`), to whoever sees everything and to a
person who may see 20 of 200 repositories. Flower answers from its memory, in which `--tasks` finished tasks are put
beforehand: the page itself, and the 50 rows that its script then fetches. PYTHON is one where Flower is installed;
without it, one is made in a temporary folder.
"""

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from app.db import migrate
from app.db.accounts import Accounts
from app.db.engine import make_engine
from app.domain.access import LOCAL
from app.web.sessions import PLAIN
from tests import services
from tests.browser.site import serving
from tests.db import scale

RESULT = Path(__file__).parent / "results" / "dashboard.json"
DATABASE = "heal_bench_dashboard"
FLOWER = "flower==2.2.0"
PATHS = {
    "incidents": "/",
    "incidents, healed": "/?state=healed",
    "incidents, deep": f"/?before={scale.INCIDENTS // 4}",
    "incidents, one repository": "/?q=repo%3Aacme%2Fmodel-9",
    "incidents, action and since": "/?q=action%3Arerun_job+since%3A30d",
    "incidents, a word": "/?q=cuda",
    "incidents, a word that nothing has": "/?q=zzzz",
    "approvals": "/approvals",
    "deliveries": "/deliveries",
    "deliveries, ignored": "/deliveries?state=ignored",
    "repositories": "/repositories",
}
ORDER = {"order[0][column]": "7", "order[0][dir]": "desc", "columns[7][data]": "received"}
ROWS = {"draw": "1", "start": "0", "length": "50", "search[value]": "", **ORDER}
PEER_PATHS = {
    "tasks, the page": "/tasks",
    "tasks, its 50 rows": f"/tasks/datatable?{urlencode(ROWS)}",
    "tasks, its 50 rows, a word": f"/tasks/datatable?{urlencode({**ROWS, 'search[value]': 'process'})}",
    "tasks, its 50 rows, a word that nothing has": f"/tasks/datatable?{urlencode({**ROWS, 'search[value]': 'zzzz'})}",
}

Figures = dict[str, float]


@dataclass(frozen=True, eq=False)
class Page:
    who: str
    name: str
    address: str
    path: str
    headers: dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--flower", type=Path)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help=f"also write {RESULT.relative_to(Path.cwd())}")
    asked = parser.parse_args()
    with filled() as engine, serving(engine) as ours, flower(asked.flower, asked.tasks) as (theirs, kept):
        pages = [
            *(
                Page(who, name, ours, path, {"Cookie": f"{PLAIN}={cookie}"})
                for who, cookie in cookies(engine).items()
                for name, path in PATHS.items()
            ),
            *(Page(f"Flower, {kept:,} tasks", name, theirs, path, {}) for name, path in PEER_PATHS.items()),
        ]
        figures = measured(pages, asked.requests)
    show(figures)
    if asked.json:
        told = {
            "command": " ".join(["python -m benchmarks dashboard", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end",
            "figures": figures,
        }
        RESULT.write_text(json.dumps(told, indent=2) + "\n")
    return 0


@contextmanager
def filled() -> Iterator[Engine]:
    server = services.running_postgres()
    if server is None:
        raise SystemExit("no PostgreSQL: run `python -m tests.services python -m benchmarks dashboard`")
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(DATABASE)))
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(DATABASE)))
    engine = make_engine(make_url(server).set(database=DATABASE).render_as_string(hide_password=False))
    try:
        migrate.upgrade(engine)
        begun = time.perf_counter()
        scale.fill(engine)
        print(f"filled in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        yield engine
    finally:
        engine.dispose()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(DATABASE)))


def cookies(engine: Engine) -> dict[str, str]:
    accounts = Accounts(engine)
    accounts.remember(LOCAL, "local", operator=True)
    return {
        "everything": accounts.open(LOCAL, seconds=3_600),
        "20 of 200 repositories": accounts.open(scale.PERSON, seconds=3_600),
    }


@contextmanager
def flower(python: Path | None, tasks: int) -> Iterator[tuple[str, int]]:
    """Its address, and how many tasks it keeps."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        if python is None:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            python = Path(folder) / "bin" / "python"
            subprocess.run([python, "-m", "pip", "install", "-q", FLOWER], check=True)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        peer = Path(__file__).parent / "dashboard_peer.py"
        with subprocess.Popen([python, peer, str(port), str(tasks)], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield f"http://127.0.0.1:{port}", int(process.stdout.readline())
            finally:
                process.terminate()


def measured(pages: list[Page], rounds: int) -> dict[str, dict[str, Figures]]:
    """By server and page. All pages are asked for in turns, so that what else the machine does falls on each alike."""
    connections = {
        page.address: http.client.HTTPConnection(urlsplit(page.address).netloc, timeout=60) for page in pages
    }
    took: dict[Page, list[float]] = {page: [] for page in pages}
    sizes: dict[Page, int] = {}
    for number in range(rounds + 3):
        for page in pages:
            begun = time.perf_counter()
            connections[page.address].request("GET", page.path, headers=page.headers)
            answer = connections[page.address].getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{page.path}: {answer.status} {body[:200]!r}")
            sizes[page] = len(body)
            if number >= 3:  # the first ones open connections and fill caches
                took[page].append(1_000 * (time.perf_counter() - begun))
    found: dict[str, dict[str, Figures]] = {}
    for page, times in took.items():
        found.setdefault(page.who, {})[page.name] = {
            "median_ms": round(statistics.median(times), 1),
            "p95_ms": round(statistics.quantiles(times, n=20)[-1], 1),
            "least_ms": round(min(times), 1),
            "kilobytes": round(sizes[page] / 1024, 1),
        }
    return found


def show(figures: dict[str, dict[str, Figures]]) -> None:
    for who, pages in figures.items():
        print(f"\n{who:<45} {'median':>8} {'p95':>8} {'least':>8} ms {'KB':>8}")
        for name, each in pages.items():
            told = (
                f"{each['median_ms']:>8.1f} {each['p95_ms']:>8.1f} {each['least_ms']:>8.1f} {each['kilobytes']:>11.1f}"
            )
            print(f"  {name:<43} {told}")


if __name__ == "__main__":
    sys.exit(main())

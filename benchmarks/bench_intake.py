"""How many signed webhooks a second are kept durably, against Probot, keeping none and keeping all.

    python -m benchmarks intake [--rounds 3] [--seconds 8] [--connections 32] [--probot FOLDER] [--json]

Both servers run as one process each, in turns on the same machine (A B A B …), and get the same deliveries from `wrk`:
GitHub's own 17 KB example of `workflow_run`, varied and signed, each request with a GUID of its own. Ours answers after
the commit in PostgreSQL. Probot verifies the signature, parses, and runs one `onAny`: one that does nothing (`probot`),
and one that inserts the delivery into the same PostgreSQL (`probot_kept`), which is what it takes to lose none. FOLDER
is where `npm install probot pg` was run; without it, it is done in a temporary folder. Afterwards our rows are counted:
as many as our answers with status 202.
"""

import argparse
import asyncio
import gzip
import hmac
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from starlette.types import Receive, Scope, Send

from tests import services

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "tests" / "contract_data" / "webhook-examples.json.gz"
RESULT = Path(__file__).parent / "results" / "intake.json"
SECRET = "It's a Secret to Everybody"
BODIES = 64

_LUA = """
local bodies, signatures = dofile(os.getenv("BENCH_BODIES"))
local prefix, count = os.getenv("BENCH_PREFIX"), 0
local threads = {}
function setup(thread) threads[#threads + 1] = thread; thread:set("number", #threads) end
function init() count = 0 end
function request()
  count = count + 1
  local which = count % #bodies + 1
  return wrk.format("POST", nil, {
    ["Content-Type"] = "application/json", ["X-GitHub-Event"] = "workflow_run", ["User-Agent"] = "GitHub-Hookshot/1",
    ["X-GitHub-Hook-ID"] = "1", ["X-GitHub-Hook-Installation-Target-ID"] = "2", ["Accept"] = "*/*",
    ["X-GitHub-Hook-Installation-Target-Type"] = "integration", ["X-Hub-Signature-256"] = signatures[which],
    ["X-GitHub-Delivery"] = string.format("%s-%04d-%08d", prefix, number, count)}, bodies[which])
end
function done(summary, latency)
  io.stderr:write(string.format('{"requests": %d, "duration_us": %d, "refused": %d, "broken": %d, ' ..
    '"p50_us": %d, "p99_us": %d, "max_us": %d}', summary.requests, summary.duration, summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""

_PROBOT = """
import { run } from "probot";
import pg from "pg";
const url = process.env.BENCH_DATABASE;
const pool = url ? new pg.Pool({ connectionString: url, max: 16 }) : null;
if (pool) await pool.query(
  "CREATE TABLE IF NOT EXISTS peer (guid text PRIMARY KEY, event text, body jsonb)");
run((app) => {
  app.onAny(async ({ id, name, payload }) => {
    if (pool) await pool.query(
      "INSERT INTO peer (guid, event, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [id, name, payload]);
  });
});
"""


def make() -> Any:
    """Our server, for granian: the product's own endpoint, with a count of the answers it gave."""
    from app.adapters.doorbells import Silence
    from app.db.engine import make_engine
    from app.db.store import SqlStore
    from app.healing.receive import Intake
    from app.web.webhook import PATH, webhook_route

    intake = Intake(SqlStore(make_engine(os.environ["BENCH_DATABASE"]), Silence()))
    webhook = webhook_route(intake, [SECRET.encode()]).app
    answers = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answers
        if scope["type"] == "lifespan":
            await receive()
            intake.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await asyncio.to_thread(intake.close)
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"] == PATH:

            async def counting(message: Any) -> None:
                nonlocal answers
                answers += message.get("status") == 202
                await send(message)

            await webhook(scope, receive, counting)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"%d" % answers})

    return app


def bodies(folder: Path) -> Path:
    """Variations of GitHub's example, with their signatures, as a Lua file."""
    with gzip.open(EXAMPLES) as packed:
        example = next(event for event in json.load(packed) if event["name"] == "workflow_run")["examples"][0]
    lines = ["return {"]
    signed = []
    for number in range(BODIES):
        varied = example | {"installation": {"id": 1000 + number % 8}}
        varied["workflow_run"] = example["workflow_run"] | {"id": 289782451 + number, "conclusion": "failure"}
        varied["repository"] = example["repository"] | {"id": 17273051 + number % 16}
        body = json.dumps(varied, separators=(",", ":"))
        lines.append(f"[========[{body}]========],")
        signed.append("sha256=" + hmac.new(SECRET.encode(), body.encode(), "sha256").hexdigest())
    lines += ["}, {", *(f'"{signature}",' for signature in signed), "}"]
    path = folder / "bodies.lua"
    path.write_text("\n".join(lines))
    return path


def fire(url: str, seconds: int, connections: int, folder: Path, prefix: str) -> dict[str, float]:
    """One round of load. Rate in requests a second, latencies in milliseconds."""
    script = folder / "load.lua"
    script.write_text(_LUA)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script), url]
    env = os.environ | {"BENCH_BODIES": str(folder / "bodies.lua"), "BENCH_PREFIX": prefix}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    told = json.loads(done.stderr)
    return {
        "rate": round(told["requests"] / told["duration_us"] * 1e6, 1),
        "p50_ms": told["p50_us"] / 1000,
        "p99_ms": told["p99_us"] / 1000,
        "max_ms": told["max_us"] / 1000,
        "requests": told["requests"],
        "refused": told["refused"] + told["broken"],
    }


@contextmanager
def ours(database: str, loop: str) -> Iterator[str]:
    port = _port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "benchmarks.bench_intake:make"]
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--loop",
        loop,
        "--no-ws",
        "--log-level",
        "warning",
    ]
    with _server([*command, *options], f"http://127.0.0.1:{port}/", ROOT, {"BENCH_DATABASE": database}):
        yield f"http://127.0.0.1:{port}/webhooks/github"


@contextmanager
def probot(folder: Path, database: str = "") -> Iterator[str]:
    port = _port()
    (folder / "bench.mjs").write_text(_PROBOT)
    key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
    env = {
        "APP_ID": "1",
        "PRIVATE_KEY": key,
        "WEBHOOK_SECRET": SECRET,
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "WEBHOOK_PATH": "/webhooks/github",
        "NODE_ENV": "production",
        "LOG_LEVEL": "error",
        "BENCH_DATABASE": database,
    }
    with _server(["node", "bench.mjs"], f"http://127.0.0.1:{port}/ping", folder, env):
        yield f"http://127.0.0.1:{port}/webhooks/github"


@contextmanager
def _server(command: list[str], ready: str, folder: Path, env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=folder, env=os.environ | env)
    try:
        for _ in range(200):
            time.sleep(0.1)
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            try:
                urllib.request.urlopen(ready, timeout=1).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                continue
        else:
            raise RuntimeError(f"{ready} does not answer")
        yield
    finally:
        process.terminate()
        process.wait(30)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(one[key] for one in rounds), 2) for key in ("rate", "p50_ms", "p99_ms")}


@contextmanager
def _database(server: str) -> Iterator[str]:
    from app.db import migrate
    from app.db.engine import make_engine

    name = f"heal_bench_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    try:
        url = server.rpartition("/")[0] + f"/{name}"
        engine = make_engine(url)
        migrate.upgrade(engine)
        engine.dispose()
        yield url
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    server = services.running_postgres()
    if server is None:
        raise SystemExit(f"no PostgreSQL: run `python -m tests.services …`, or set {services.POSTGRES}")
    for program in ("wrk", "node", "npm"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not on this machine (Debian packages wrk, nodejs, npm)")
    with tempfile.TemporaryDirectory() as name, _database(server) as database:
        folder = Path(name)
        peer = Path(args.probot) if args.probot else folder
        if not (peer / "node_modules" / "probot").exists():
            subprocess.run(["npm", "install", "--silent", "--prefix", str(peer), "probot@14", "pg@8"], check=True)
        bodies(folder)
        rounds: dict[str, list[dict[str, float]]] = {"ours": [], "probot": [], "probot_kept": []}
        with ours(database, args.loop) as our_url, probot(peer) as plain, probot(peer, database) as keeping:
            urls = {"ours": our_url, "probot": plain, "probot_kept": keeping}
            for url in urls.values():
                fire(url, 2, args.connections, folder, "warm")
            for number in range(args.rounds):
                for name, url in urls.items():
                    rounds[name].append(fire(url, args.seconds, args.connections, folder, f"round-{number}"))
            time.sleep(1)
            with urllib.request.urlopen(our_url.replace("/webhooks/github", "/count")) as answer:
                accepted = int(answer.read())
        version = json.loads((peer / "node_modules" / "probot" / "package.json").read_text())["version"]
        with psycopg.connect(database) as connection:
            found = connection.execute(
                "SELECT count(*), synchronous_commit FROM deliveries, "
                "current_setting('synchronous_commit') AS synchronous_commit GROUP BY 2"
            ).fetchone()
    assert found is not None
    medians = {name: _medians(each) for name, each in rounds.items()}
    return {
        "command": "python -m benchmarks intake " + " ".join(sys.argv[1:]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {"probot": version, "loop": args.loop},
        "connections": args.connections,
        "seconds": args.seconds,
        **{name: medians[name] | {"rounds": each} for name, each in rounds.items()},
        "rate_ratio": round(medians["ours"]["rate"] / medians["probot"]["rate"], 3),
        "rate_ratio_kept": round(medians["ours"]["rate"] / medians["probot_kept"]["rate"], 3),
        "rows": found[0],
        "accepted": accepted,
        "synchronous_commit": found[1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--loop", default="auto", choices=["auto", "asyncio", "uvloop", "rloop"])
    parser.add_argument("--probot", help="a folder with node_modules/probot")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = measure(args)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    if args.json:
        print(json.dumps(result))
    else:
        for name in ("ours", "probot", "probot_kept"):
            one = result[name]
            print(f"{name:>12}: {one['rate']:8.1f}/s  p50 {one['p50_ms']} ms  p99 {one['p99_ms']} ms")
        print(f"ratio: {result['rate_ratio']} to probot, {result['rate_ratio_kept']} to probot_kept")
        print(f"rows {result['rows']}, answers with 202 {result['accepted']}")
    return 0 if result["rows"] == result["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main())

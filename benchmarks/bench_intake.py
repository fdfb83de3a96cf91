"""How many signed webhooks a second are kept durably, against Probot, keeping none and keeping all.

    python -m benchmarks intake [--rounds 3] [--seconds 8] [--connections 32] [--probot FOLDER] [--json]

Both servers run as one process each, in turns on the same machine (A B A B …), and get the same deliveries from `wrk`:
GitHub's own 17 KB example of `workflow_run`, varied and signed, each request with a GUID of its own. Ours is `heal
serve` with a broker, as in production, and answers after the commit in PostgreSQL; no worker runs. Probot verifies the
signature, parses, and runs one `onAny`: one that does nothing (`probot`), and one that inserts the delivery into the
same PostgreSQL (`probot_kept`), which is what it takes to lose none. FOLDER is where `npm install probot pg` was run;
without it, it is done in a temporary folder. Afterwards our rows are counted: every answer with status 202 must have
its row (a request that `wrk` cut off at the end of a round may have one, too).
"""

import argparse
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests import services

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "tests" / "contract_data" / "webhook-examples.json.gz"
RESULT = Path(__file__).parent / "results" / "intake.json"
SECRET = "It's a Secret to Everybody"
BODIES = 64
BROKER_DATABASE = 13  # of Redis, emptied afterwards
FIGURES = ("rate", "p50_ms", "p99_ms", "cpu_us")

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


@dataclass(frozen=True)
class Served:
    url: str
    pid: int

    def cpu_s(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
        "accepted": told["requests"] - told["refused"],
        "refused": told["refused"] + told["broken"],
    }


@contextmanager
def ours(database: str, broker: str) -> Iterator[Served]:
    port = _port()
    env = {
        "HEAL_DATABASE__URL": database.replace("postgresql:", "postgresql+psycopg:"),
        "HEAL_QUEUE__BROKER_URL": broker,
        "HEAL_GITHUB__APP_ID": "1",
        "HEAL_GITHUB__PRIVATE_KEY": _key(),
        "HEAL_GITHUB__WEBHOOK_SECRETS": SECRET,
        "HEAL_WEB__PORT": str(port),
        "HEAL_LOG__LEVEL": "warning",
    }
    with _server([sys.executable, "-m", "app.cli", "serve"], f"http://127.0.0.1:{port}/livez", ROOT, env) as pid:
        yield Served(f"http://127.0.0.1:{port}/webhooks/github", pid)


@contextmanager
def probot(folder: Path, database: str = "") -> Iterator[Served]:
    port = _port()
    (folder / "bench.mjs").write_text(_PROBOT)
    env = {
        "APP_ID": "1",
        "PRIVATE_KEY": _key(),
        "WEBHOOK_SECRET": SECRET,
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "WEBHOOK_PATH": "/webhooks/github",
        "NODE_ENV": "production",
        "LOG_LEVEL": "error",
        "BENCH_DATABASE": database,
    }
    with _server(["node", "bench.mjs"], f"http://127.0.0.1:{port}/ping", folder, env) as pid:
        yield Served(f"http://127.0.0.1:{port}/webhooks/github", pid)


@contextmanager
def _server(command: list[str], ready: str, folder: Path, env: dict[str, str]) -> Iterator[int]:
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
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _key() -> str:
    return subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(one[key] for one in rounds), 2) for key in FIGURES}


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
    running = services.running_redis()
    if running is None:
        raise SystemExit(f"no Redis: run `python -m tests.services …`, or set {services.REDIS}")
    broker = f"{running.rpartition('/')[0]}/{BROKER_DATABASE}"
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
        accepted = 0.0
        with ours(database, broker) as our, probot(peer) as plain, probot(peer, database) as keeping:
            servers = {"ours": our, "probot": plain, "probot_kept": keeping}
            for served in servers.values():
                warm = fire(served.url, 2, args.connections, folder, "warm")
                accepted += warm["accepted"] if served is our else 0
            for number in range(args.rounds):
                for name, served in servers.items():
                    before = served.cpu_s()
                    one = fire(served.url, args.seconds, args.connections, folder, f"round-{number}")
                    one["cpu_us"] = round((served.cpu_s() - before) / one["accepted"] * 1e6, 1)
                    accepted += one["accepted"] if served is our else 0
                    rounds[name].append(one)
        with redis.Redis.from_url(broker) as emptied:
            emptied.flushdb()
        version = json.loads((peer / "node_modules" / "probot" / "package.json").read_text())["version"]
        with psycopg.connect(database) as connection:
            found = connection.execute(
                "SELECT count(*), synchronous_commit FROM deliveries, "
                "current_setting('synchronous_commit') AS synchronous_commit GROUP BY 2"
            ).fetchone()
    assert found is not None
    medians = {name: _medians(each) for name, each in rounds.items()}
    return {
        "command": f"python -m benchmarks intake --rounds {args.rounds} --seconds {args.seconds}",
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {"probot": version},
        "connections": args.connections,
        "seconds": args.seconds,
        **{name: medians[name] | {"rounds": each} for name, each in rounds.items()},
        "rate_ratio": round(medians["ours"]["rate"] / medians["probot"]["rate"], 3),
        "rate_ratio_kept": round(medians["ours"]["rate"] / medians["probot_kept"]["rate"], 3),
        "rows": found[0],
        "accepted": int(accepted),
        "synchronous_commit": found[1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
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
            times = f"p50 {one['p50_ms']} ms  p99 {one['p99_ms']} ms"
            print(f"{name:>12}: {one['rate']:8.1f}/s  {times}  processor {one['cpu_us']} µs a request")
        print(f"ratio: {result['rate_ratio']} to probot, {result['rate_ratio_kept']} to probot_kept")
        print(f"rows {result['rows']}, answers with 202 {result['accepted']}")
    cut_off = args.connections * (args.rounds + 1)
    return 0 if 0 <= result["rows"] - result["accepted"] <= cut_off else 1


if __name__ == "__main__":
    sys.exit(main())

"""How many incidents a second two workers bring from claim to decision, against as many empty Celery tasks.

    python -m benchmarks loop [--rounds 3] [--tasks 1500] [--repositories 200] [--mode observe|auto] [--json]

One Celery worker with two processes, a Redis of its own (append-only) and PostgreSQL. In each round the queue is
filled first and then released at once: with empty tasks, and with the ids of kept deliveries (a failed
`workflow_run`, GitHub's own 17 KB example varied), in turns A B A B. The tasks are the product's, in its own Celery
configuration; GitHub is a twin without delay that only reads, so nothing is written there: `observe` decides to leave
the incident alone, `auto` plans its repair and does not carry it out. Every delivery has a fingerprint of its own.
The queue is empty, and no delivery waits, at the end of a round; then each delivery must have become one decided
incident.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
from celery import Celery

from app.adapters.doorbells import TASKS, Silence, celery_app
from app.db.engine import make_engine
from app.db.store import SqlStore
from app.domain.delivery import Delivery
from app.ports.queue import Work
from benchmarks.bench_intake import EXAMPLES, ROOT, _database
from tests import services

RESULTS = Path(__file__).parent / "results"
SHA = "acb5820ced9479c074f688cc328bf03f341a511d"
QUEUE, FILLING = "celery", "filling"
WORKERS = 2
WARM = 100
LONGEST_S = 120.0


def deliveries(count: int, repositories: int, first_run: int) -> list[Delivery]:
    """Failed runs, one after the other from each repository."""
    with gzip.open(EXAMPLES) as packed:
        example = next(event for event in json.load(packed) if event["name"] == "workflow_run")["examples"][0]
    run = example["workflow_run"]
    made = []
    for number in range(count):
        run_id, repository_id = first_run + number, 1 + number % repositories
        name = f"acme/trainer-{repository_id}"
        home = example["repository"] | {"id": repository_id, "full_name": name, "default_branch": "main"}
        failed = {
            "conclusion": "failure",
            "run_attempt": 1,
            "head_branch": "main",
            "head_repository": home,
            "head_sha": SHA,
        }
        content = example | {
            "installation": {"id": 1 + repository_id % 20},
            "repository": home,
            "workflow_run": run | failed | {"id": run_id, "path": ".github/workflows/build.yml"},
        }
        made.append(
            Delivery(
                guid=f"run-{run_id}",
                source="github",
                event="workflow_run",
                action="completed",
                body=json.dumps(content).encode(),
                installation_id=1 + repository_id % 20,
                repository_id=repository_id,
                repository=name,
            )
        )
    return made


class Stand:
    """A worker at rest, its broker and its database."""

    def __init__(self, database: str, broker: str) -> None:
        self.store = SqlStore(make_engine(database), Silence())
        self._redis = redis.Redis.from_url(broker)
        self._connection = psycopg.connect(database, autocommit=True)
        self._celery: Celery = celery_app(broker)

    def time(self, task: str, ids: Sequence[int]) -> float:
        """Seconds until all of these tasks are done, from the moment the queue is let go."""
        with self._celery.connection_for_write() as connection:
            for row_id in ids:
                self._celery.send_task(task, args=[row_id], queue=FILLING, connection=connection, ignore_result=True)
        begin = time.perf_counter()
        self._redis.rename(FILLING, QUEUE)
        while self._redis.exists(QUEUE) or self._count("deliveries WHERE due_at IS NOT NULL"):
            if time.perf_counter() > begin + LONGEST_S:
                raise SystemExit(f"not done within {LONGEST_S} s: {self.counts()}")
            time.sleep(0.02)
        return time.perf_counter() - begin

    def _count(self, rows: str) -> int:
        found = self._connection.execute(f"SELECT count(*) FROM {rows}".encode()).fetchone()
        assert found is not None
        return int(found[0])

    def counts(self) -> dict[str, int]:
        """What is in the database after all rounds."""
        return {
            "deliveries": self._count("deliveries"),
            "done": self._count("deliveries WHERE state = 'done' AND attempts = 1"),
            "incidents": self._count("incidents WHERE kind <> 'unknown'"),
            "decided": self._count("(SELECT DISTINCT incident_id FROM timeline WHERE kind = 'decided') AS decided"),
            "repairs": self._count("repairs"),
        }


@contextmanager
def worker(database: str, broker: str, mode: str, folder: Path) -> Iterator[None]:
    """The product's worker as `heal worker` starts it, without the poll beside it: every row is rung."""
    key = folder / "key.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    env = os.environ | {
        "HEAL_DATABASE__URL": database,
        "HEAL_QUEUE__BROKER_URL": broker,
        "HEAL_GITHUB__APP_ID": "1",
        "HEAL_GITHUB__PRIVATE_KEY_FILE": str(key),
        "HEAL_GITHUB__WEBHOOK_SECRETS": "secret",
        "BENCH_MODE": mode,
    }
    options = ["--pool=prefork", f"--concurrency={WORKERS}", "--loglevel=WARNING"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.loop_worker:celery", "worker", *options]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    server = services.running_postgres()
    if server is None:
        raise SystemExit(f"no PostgreSQL: run `python -m tests.services …`, or set {services.POSTGRES}")
    seconds: dict[str, list[float]] = {"empty": [], "loop": []}
    with tempfile.TemporaryDirectory() as name, _database(server) as database, services.private_redis() as broker:
        stand = Stand(database, broker.url)
        with worker(database, broker.url, args.mode, Path(name)):
            for number in range(args.rounds + 1):
                count = args.tasks if number else WARM
                empty_s = stand.time("bench.empty", range(count))
                kept = stand.store.keep(deliveries(count, args.repositories, 1_000_000 * (number + 1)))
                loop_s = stand.time(TASKS[Work.DELIVERY], [one.id for one in kept])
                if number:  # the first round warms up
                    seconds["empty"].append(empty_s)
                    seconds["loop"].append(loop_s)
        counts = stand.counts()
    rates = {name: [round(args.tasks / one, 1) for one in each] for name, each in seconds.items()}
    medians = {name: round(statistics.median(each), 1) for name, each in rates.items()}
    return {
        "command": "python -m benchmarks loop " + " ".join(sys.argv[1:]),
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip(),
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "mode": args.mode,
        "tasks": args.tasks,
        "repositories": args.repositories,
        "workers": WORKERS,
        "empty": {"rate": medians["empty"], "rounds": rates["empty"]},
        "loop": {"rate": medians["loop"], "rounds": rates["loop"]},
        "ratio": round(medians["loop"] / medians["empty"], 3),
        "expected": args.rounds * args.tasks + WARM,
        "counts": counts,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=1500)
    parser.add_argument("--repositories", type=int, default=200)
    parser.add_argument("--mode", choices=["observe", "auto"], default="observe")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = measure(args)
    few = "" if args.repositories >= 100 else "_few"
    name = f"loop{few}.json" if args.mode == "observe" else f"loop{few}_{args.mode}.json"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['loop']['rate']:8.1f} incidents/s  {result['loop']['rounds']}")
        print(f"{result['empty']['rate']:8.1f} empty tasks/s  {result['empty']['rounds']}")
        print(f"ratio {result['ratio']}; {result['counts']} of {result['expected']}")
    counts = result["counts"]
    complete = {counts[name] for name in ("deliveries", "done", "incidents", "decided")} == {result["expected"]}
    return 0 if complete and (counts["repairs"] > 0) == (args.mode == "auto") else 1


if __name__ == "__main__":
    sys.exit(main())

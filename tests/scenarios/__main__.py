"""`python -m tests.scenarios [NAME…]`: play scenarios outside pytest, with progress, and print how they went."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from app.db import migrate
from app.db.engine import make_engine
from tests.e2e.stage import Stage, stage
from tests.scenarios import table
from tests.scenarios.catalogue import ROOT, Broken, Scenario, demo, names, packages, read
from tests.scenarios.play import Played, play_all

SETTINGS = {"HEAL_DATABASE__LEASE_S": "30"}


def chosen(patterns: Sequence[str]) -> list[Scenario]:
    """Those whose names match; all of them, and the demonstration's, without a pattern. Raises Broken."""
    shipped = {scenario.name: scenario for scenario in demo()}
    known = [*names(), *shipped]
    wanted = [name for name in known if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]
    missing = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in known)]
    if missing:
        raise Broken(f"there is no scenario {', '.join(missing)}")
    return [shipped.get(name) or read(ROOT / name) for name in wanted]


@contextmanager
def bot_for(root: Path, scenarios: Sequence[Scenario]) -> Iterator[Stage]:
    """The embedded bot and the stand-in for GitHub, in this folder."""
    url = f"sqlite:///{root}/heal.db"
    engine = make_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = stage(root, key, database_url=url, settings=SETTINGS, packages=packages(tuple(scenarios)))
    try:
        made.start()
        yield made
    finally:
        made.end()


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every scenario ended as told, 1 when not, 2 when one cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description=__doc__)
    parser.add_argument("name", nargs="*", help="names or patterns such as 'oom-*'; all of them without any")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the bot's log and database")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="how many play at a time (2)")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="play everything N times, for --write (1)")
    parser.add_argument("--write", action="store_true", help=f"write {table.PAGE.name}, with the median times")
    told = parser.parse_args(argv)
    try:
        scenarios = chosen(told.name)
        packages(tuple(scenarios))
    except Broken as error:
        sys.stderr.write(f"{error}\n")
        return 2
    rounds = [_play(scenarios, told) for _ in range(told.times)]
    last = rounds[-1]
    if told.json:
        sys.stdout.write(json.dumps([table.outcome(played) for played in last], indent=2) + "\n")
    else:
        sys.stdout.write(table.shown(last))
    wrong = {played.scenario.name for played_once in rounds for played in played_once if not played.right}
    if told.write:
        table.write([[each for each in played if each.scenario.name not in wrong] for played in rounds])
        sys.stderr.write("".join(f"{name} is not written: it did not end as told\n" for name in sorted(wrong)))
    return 1 if wrong else 0


def _play(scenarios: Sequence[Scenario], told: argparse.Namespace) -> list[Played]:
    root = Path(tempfile.mkdtemp(prefix="scenarios-"))
    began = time.monotonic()

    def tell(name: str, text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f} s  {name:<28} {text}\n")
        sys.stderr.flush()

    with bot_for(root, scenarios) as bot:
        played = play_all(bot, scenarios, at_once=told.at_once, tell=tell)
    for each in played:
        if not each.right:
            sys.stderr.write(f"\n{'=' * 100}\n{each.story}\n")
            for promise, what in each.problems.items():
                sys.stderr.write("".join(f"WRONG ({promise}): {problem}\n" for problem in what))
    if told.keep or not all(each.right for each in played):
        sys.stderr.write(f"\nThe bot's log is {root}/web.log, its database {root}/heal.db\n")
    else:
        shutil.rmtree(root, ignore_errors=True)
    return played


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the server's native threads may still hold the interpreter

"""What was answered with "kept" is there after the process was killed."""

import signal
import subprocess
import sys

from app.db.engine import make_engine
from app.db.store import SqlStore
from tests.conftest import Bell

ENOUGH = 60

_SENDER = """
import asyncio, sys
from app.db.engine import make_engine
from app.db.store import SqlStore
from app.healing.receive import Intake
from tests.conftest import Bell
from tests.contract.things import delivery

async def send(intake, name):
    number = 0
    while True:
        number += 1
        kept = await intake.keep(delivery(f"{name}-{number}", repository_id=number))
        print(kept.guid, flush=True)

async def main():
    intake = Intake(SqlStore(make_engine(sys.argv[1]), Bell()))
    intake.start()
    await asyncio.gather(*(send(intake, f"sender-{n}") for n in range(12)))

asyncio.run(main())
"""


def test_nothing_that_was_answered_is_lost_when_the_process_is_killed(database_url: str) -> None:
    command = [sys.executable, "-c", _SENDER, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sender:
        assert sender.stdout is not None
        answered = [sender.stdout.readline().strip() for _ in range(ENOUGH)]
        sender.send_signal(signal.SIGKILL)
        answered += [line.strip() for line in sender.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    engine = make_engine(database_url)
    assert len(answered) >= ENOUGH
    assert SqlStore(engine, Bell()).known(answered) == set(answered)
    engine.dispose()

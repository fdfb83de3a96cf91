"""The README's first command, as a newcomer runs it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

RIGHT = {
    "flaky-download": ("network_transient", "rerun_failed_jobs"),
    "oversized-batch": ("host_oom", "lower_batch_size (pull request #1)"),
    "unresolvable-pins": ("dependency_resolution_conflict", "pin_dependency (pull request #1)"),
    "diverging-training": ("nan_loss", "tune_divergence (pull request #1)"),
    "genuine-bug": ("test_assertion_failure", "left alone, told in issue #1"),
}
DEMO = [sys.executable, "-m", "app.cli", "demo", "--port", "0"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_demo_heals_what_can_be_healed_and_exits_with_0(tmp_path: Path) -> None:
    done = subprocess.run([*DEMO, "--once", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["repository"]: row for row in json.loads(done.stdout)}
    assert {name: (row["broke"], row["repair"]) for name, row in rows.items()} == RIGHT
    assert all(row["right"] for row in rows.values())
    assert all(row["seconds"] for name, row in rows.items() if name != "genuine-bug")


def test_the_demo_goes_on_serving_until_it_is_interrupted_and_leaves_nothing_behind(tmp_path: Path) -> None:
    demo = subprocess.Popen(DEMO, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        line = next(line for line in demo.stdout if line.startswith("Dashboard: "))
        with urllib.request.urlopen(line.split()[1], timeout=10) as page:
            assert b"Sign in on this machine" in page.read()
        started = children(demo.pid)
        assert len(started) == 2
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in started) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not [pid for pid in started if alive(pid)]
    finally:
        demo.kill()
        demo.wait()

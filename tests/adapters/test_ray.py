"""What only the launcher of Ray jobs does, with a stand-in for the cluster; at the end, the same with a real one."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.adapters.launchers import ray
from app.adapters.launchers.ray import Insecure, RayLauncher
from app.domain.errors import Refused, Unreachable
from app.ports.launcher import RunState
from tests.adapters.launcher_worlds import COMMAND, RayWorld, ended, failure_of, ray_world, spec
from tests.adapters.ray_stand_in import StandIn
from tests.e2e.stage import wait_for


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RayWorld]:
    with ray_world(tmp_path) as made:
        yield made


def cluster_of(world: RayWorld) -> StandIn:
    assert world.cluster is not None
    return world.cluster


def submitted(world: RayWorld) -> dict[str, Any]:
    """What Ray was asked to run last."""
    bodies = [asked["body"] for asked in cluster_of(world).asked if asked["method"] == "POST" and asked["body"]]
    found: dict[str, Any] = json.loads(bodies[-1])
    return found


# --- what is asked of the cluster ----------------------------------------------------------------------------------


def test_a_run_reserves_what_the_operator_says_and_is_told_its_limits(world: RayWorld) -> None:
    launcher = world.again(cpus=4.0, gpus=0.5, memory_mib=2_048, environment={"MLFLOW_TRACKING_URI": "http://mlflow"})
    handle = launcher.start(spec("environment", timeout_s=90, data="a b; $(reboot) 'c'"))
    job = submitted(world)
    assert (job["entrypoint_num_cpus"], job["entrypoint_num_gpus"], job["entrypoint_memory"]) == (
        4.0,
        0.5,
        2_048 * 2**20,
    )
    words = shlex.split(job["entrypoint"])
    assert words[len(COMMAND) :] == [
        "toy",
        "environment",
        *("--out", str(world.out(handle))),
        *("--memory-mib", "2048"),
        *("--time-limit-s", "90"),
        "--report-line",
        *("--set", "data=a b; $(reboot) 'c'"),
    ]
    assert ended(launcher, handle).report["MLFLOW_TRACKING_URI"] == "http://mlflow"


def test_the_command_on_the_cluster_is_not_this_interpreter(world: RayWorld) -> None:
    launcher = RayLauncher(world.url, world.directory)
    launcher.start(spec("train"))
    assert submitted(world)["entrypoint"].startswith("python -m workloads toy train --out ")


def test_a_token_is_sent_only_where_nobody_can_read_it(world: RayWorld, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    world.again(token_file=token).reap(frozenset())
    assert cluster_of(world).asked[-1]["headers"]["authorization"] == "Bearer s3cret"
    world.again().reap(frozenset())
    assert "authorization" not in cluster_of(world).asked[-1]["headers"]
    with pytest.raises(Insecure):
        RayLauncher("http://head.example.com:8265", tmp_path, token_file=token)
    RayLauncher("https://head.example.com", tmp_path, token_file=token)
    for unfit in (tmp_path / "not there", tmp_path / "unfit"):
        (tmp_path / "unfit").write_text("s3crét")
        with pytest.raises(Refused, match="RAY_TOKEN_FILE") as refused:
            world.again(token_file=unfit).reap(frozenset())
        assert refused.value.__cause__ is None


@pytest.mark.parametrize("url", ["", "head:8265", "ray://head:10001", "http://user:pass@head:8265", "http://head/?a=b"])
def test_an_address_that_is_none_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Insecure, match="RAY_ADDRESS"):
        RayLauncher(url, tmp_path)


@pytest.mark.parametrize(
    ("status", "expected", "says"),
    [
        (401, Refused, "RAY_TOKEN_FILE"),
        (302, Refused, "redirects"),
        (400, Refused, "bad job"),
        (503, Unreachable, "503"),
        (200, Unreachable, "something else"),
    ],
)
def test_an_answer_that_is_trouble_says_whose(
    world: RayWorld, status: int, expected: type[Exception], says: str
) -> None:
    cluster_of(world).answers[f"GET /api/jobs/{world.launcher.handle_of('k1')}"] = (status, b"a trace\nbad job")
    with pytest.raises(expected, match=says):
        world.launcher.start(spec("train"))
    assert not any(asked["path"] == "/elsewhere" for asked in cluster_of(world).asked)


def test_a_cluster_that_is_not_there_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        RayLauncher(f"http://127.0.0.1:{_free_port()}", tmp_path).start(spec("train"))


def test_a_submission_whose_answer_was_lost_is_found(world: RayWorld) -> None:
    """It had been taken all the same; a submission that was not taken is trouble."""
    handle = world.launcher.handle_of("k1")
    stand_in = cluster_of(world)
    taken = stand_in.submit

    def submit(told: dict[str, Any]) -> tuple[int, str]:
        taken(told)
        return 500, "the agent went away"

    stand_in.submit = submit  # type: ignore[method-assign]
    assert world.launcher.start(spec("train")) == handle
    stand_in.submit = lambda told: (500, "no agent")  # type: ignore[method-assign]
    with pytest.raises(Unreachable, match="no agent"):
        world.launcher.start(spec("train", "k2"))


def test_a_run_is_not_gone_on_from_while_it_writes(world: RayWorld) -> None:
    earlier = world.launcher.start(spec("wait"))
    later = replace(spec("train", "k2"), resume=earlier)
    with pytest.raises(Unreachable, match="has not ended"):
        world.launcher.start(later)
    wait_for("the run", (world.out(earlier) / "ready").exists)
    world.launcher.cancel(earlier)
    assert ended(world.launcher, world.launcher.start(later)).state is RunState.SUCCEEDED


# --- what comes back -----------------------------------------------------------------------------------------------


def test_where_the_directory_is_not_shared_the_report_is_read_from_the_log(world: RayWorld) -> None:
    handle = world.launcher.start(spec("train", rows="7"))
    ended(world.launcher, handle)
    world.out(handle).rename(world.directory / "out of sight")
    status = world.launcher.status(handle)
    assert status.report["accuracy"] == 0.5
    assert status.tail.splitlines()[-2:] == ["toy train began", "trained"]
    assert "heal-report" not in status.tail


@pytest.mark.parametrize(
    "line", ["heal-report [1]", "heal-report {", "heal-report " + "[" * 100_000, "heal-reportx {}"]
)
def test_a_line_that_is_no_report_is_none(world: RayWorld, line: str) -> None:
    handle = world.launcher.start(spec("fail"))
    ended(world.launcher, handle)
    cluster_of(world).answers[f"GET /api/jobs/{handle}/logs"] = (200, json.dumps({"logs": line}).encode())
    assert world.launcher.status(handle).report == {}


def test_of_a_long_log_the_end_is_read(world: RayWorld) -> None:
    handle = world.launcher.start(spec("fail"))
    ended(world.launcher, handle)
    log = 'a"b\\n\U0001f600é\n' * 100_000 + 'heal-report {"outcome": "failed"}\nthe end\n'
    for cut in range(3):
        body = json.dumps({"logs": log + "x" * cut}).encode()
        cluster_of(world).answers[f"GET /api/jobs/{handle}/logs"] = (200, body)
        status = world.launcher.status(handle)
        assert status.report == {"outcome": "failed"}
        assert status.tail.splitlines()[-2:][0] == "the end" if cut else status.tail.endswith("the end")
        assert len(status.tail) < 20_000


def test_the_end_of_a_long_log_may_begin_with_anything(world: RayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with what looks like the beginning of an object."""
    handle = world.launcher.start(spec("fail"))
    ended(world.launcher, handle)
    body = json.dumps({"logs": "x" * 100 + "{".ljust(30) + "the end"}).encode()
    cluster_of(world).answers[f"GET /api/jobs/{handle}/logs"] = (200, body)
    for shift in range(40):
        monkeypatch.setattr(ray, "KEPT_OF_A_LOG", 20 + shift)
        assert world.launcher.status(handle).tail.endswith("the end")


def test_a_log_that_cannot_be_read_hides_no_end(world: RayWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node on which it lay is gone, or it is too long."""
    handle = world.launcher.start(spec("train"))
    ended(world.launcher, handle)
    cluster_of(world).answers[f"GET /api/jobs/{handle}/logs"] = (500, b"the agent does not answer")
    status = world.launcher.status(handle)
    assert (status.state, status.report["accuracy"]) == (RunState.SUCCEEDED, 0.5)
    assert "its log cannot be read" in status.tail
    cluster_of(world).answers[f"GET /api/jobs/{handle}/logs"] = (200, b"<html>")
    assert world.launcher.status(handle).state is RunState.SUCCEEDED
    cluster_of(world).answers.clear()
    monkeypatch.setattr(ray, "MOST_OF_A_LOG", 10)
    assert "longer than 10 bytes" in world.launcher.status(handle).tail


def test_a_run_that_waits_for_room_is_pending_and_says_so(world: RayWorld) -> None:
    handle = world.launcher.start(spec("wait"))
    message = "Job has not started yet. It may be waiting for resources (CPUs, GPUs) to become available."
    cluster_of(world).jobs[handle] |= {"status": "PENDING", "message": message}
    status = world.launcher.status(handle)
    assert (status.state, status.tail) == (RunState.PENDING, message)
    cluster_of(world).jobs[handle] |= {"status": "RUNNING"}


@pytest.mark.parametrize(
    ("error_type", "kind"), [("JOB_SUPERVISOR_ACTOR_DIED", "killed"), ("RUNTIME_ENV_SETUP_FAILURE", None)]
)
def test_a_run_that_ray_could_not_keep_says_what_ray_says(world: RayWorld, error_type: str, kind: str | None) -> None:
    handle = world.launcher.start(spec("killed"))
    ended(world.launcher, handle)
    more = {"error_type": error_type, "message": "The node died.\nA trace", "driver_exit_code": None}
    cluster_of(world).jobs[handle] |= more
    status = world.launcher.status(handle)
    assert status.tail.endswith("(The node died.)")
    assert (failure_of(status)["kind"] if kind else status.report.get("failure")) == kind


def test_a_404_that_is_not_rays_own_loses_no_run(world: RayWorld) -> None:
    handle = world.launcher.start(spec("train"))
    cluster_of(world).answers[f"GET /api/jobs/{handle}"] = (404, b"<h1>404 Not Found</h1> nginx")
    with pytest.raises(Unreachable, match="404"):
        world.launcher.status(handle)


def test_a_run_that_the_cluster_forgot_is_lost_and_can_be_gone_on_from(world: RayWorld) -> None:
    handle = world.launcher.start(spec("kept"))
    ended(world.launcher, handle)
    cluster_of(world).answer("DELETE", f"/api/jobs/{handle}", b"")
    status = world.launcher.status(handle)
    assert status.state is RunState.LOST
    assert (failure_of(status)["kind"], failure_of(status)["resumable"]) == ("killed", True)
    later = world.launcher.start(replace(spec("train", "k2"), resume=handle))
    assert ended(world.launcher, later).state is RunState.SUCCEEDED


# --- whose it is ---------------------------------------------------------------------------------------------------


def test_a_directory_is_kept_for_a_time_after_the_end_of_a_run_not_after_its_beginning(world: RayWorld) -> None:
    handle = world.launcher.start(spec("train"))
    ended(world.launcher, handle)
    cluster_of(world).jobs.pop(handle)
    cluster_of(world).running.pop(handle)
    began = time.time() - 1_000
    os.utime(world.out(handle).parent, (began, began))
    world.again(keep_s=500.0).reap(frozenset())
    assert world.out(handle).is_dir()
    os.utime(world.out(handle), (began, began))
    world.again(keep_s=500.0).reap(frozenset())
    assert not world.out(handle).exists()


def test_what_others_run_on_the_cluster_is_left_alone(world: RayWorld, tmp_path: Path) -> None:
    other = replace(world, directory=tmp_path / "of another bot")
    theirs = other.launcher.start(spec("wait"))
    cluster_of(world).submit(
        {"submission_id": "raysubmit_1", "entrypoint": "sleep 600", "metadata": {"heal_key": "k1"}}
    )
    ours = world.launcher.start(spec("wait"))
    assert ours != theirs
    assert world.again(keep_s=-1.0).reap(frozenset()) == [ours]
    assert other.launcher.status(theirs).state is RunState.RUNNING
    assert cluster_of(world).jobs["raysubmit_1"]["status"] == "RUNNING"


# --- a real cluster ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address: one node, started here and stopped with all that it has started. Sockets want a short path."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as place:
        port, dashboard, agent, client = (_free_port() for _ in range(4))
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
            *("--node-ip-address", "127.0.0.1", "--port", str(port)),
            *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
            *("--dashboard-agent-listen-port", str(agent), "--ray-client-server-port", str(client)),
            *("--min-worker-port", "0", "--max-worker-port", "0", "--num-cpus", "1"),
            *("--include-dashboard", "true", "--disable-usage-stats"),
            *("--object-store-memory", "80000000", "--temp-dir", place),
        ]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with (Path(place) / "head.log").open("wb") as log:
            head = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=place)
        try:
            wait_for("the cluster", lambda: _answers(head, dashboard, Path(place) / "head.log"), within_s=240)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            _stop(head, place)


@pytest.fixture
def real(cluster: str, tmp_path: Path) -> Iterator[RayWorld]:
    made = RayWorld(tmp_path / "runs", cluster)
    yield made
    made.launcher.reap(frozenset())


def test_a_real_cluster_runs_stops_and_goes_on(real: RayWorld) -> None:
    """In one test: a job of Ray's takes seconds to begin."""
    failing, waiting = real.launcher.start(spec("tells", "k1", kind="killed")), real.launcher.start(spec("wait", "k2"))
    assert real.again().start(spec("wait", "k2")) == waiting
    wait_for("the run", (real.out(waiting) / "ready").exists)
    assert real.launcher.status(waiting).state is RunState.RUNNING

    failed = ended(real.launcher, failing)
    assert (failed.state, failed.exit_code) == (RunState.FAILED, 137)
    assert "toy tells began" in failed.tail
    assert failure_of(failed)["advice"] == {"batch": "4", "accumulate": "16"}
    (real.out(failing) / "report.json").unlink()
    assert real.launcher.status(failing).report == failed.report, "the line in the log says the same"

    assert real.launcher.reap(frozenset({"k1"})) == [waiting]
    assert ended(real.launcher, waiting).state is RunState.CANCELLED
    pid = int((real.out(waiting) / "started").read_text())
    wait_for("the program to be gone", lambda: not Path(f"/proc/{pid}").exists())
    assert real.beginnings(waiting) == 1

    later = real.launcher.start(replace(spec("train", "k3"), resume=failing))
    succeeded = ended(real.launcher, later)
    assert (succeeded.state, succeeded.exit_code) == (RunState.SUCCEEDED, 0)
    assert succeeded.report["went_on_from"] == (real.out(failing) / "started").read_text()
    real.again(keep_s=-1.0).reap(frozenset({"k3"}))
    assert real.launcher.status(waiting).state is RunState.LOST, "Ray was told to forget it"
    assert real.launcher.status(later).state is RunState.SUCCEEDED


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(head: "subprocess.Popen[bytes]", port: int, log: Path) -> bool:
    assert head.poll() is None, log.read_text(errors="replace")[-3_000:]
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)):
            return False
    try:
        RayLauncher(f"http://127.0.0.1:{port}", Path("/nowhere")).reap(frozenset())
    except Unreachable:
        return False
    return True


def _stop(head: "subprocess.Popen[bytes]", place: str) -> None:
    """Not by `ray stop`, which ends all that is Ray's on this machine."""
    head.terminate()
    deadline = time.monotonic() + 20
    while (ours := _of(place)) or head.poll() is None:
        if time.monotonic() > deadline:
            for pid in ours:
                os.kill(pid, signal.SIGKILL)
            head.kill()
        time.sleep(0.1)
        assert time.monotonic() < deadline + 20, f"Ray's processes do not end: {ours}"


def _of(place: str) -> list[int]:
    """The processes that were started for this directory, or from it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if f"{place}/".encode() in told and not dead and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found

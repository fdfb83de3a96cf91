"""What only the launcher of processes does: it outlives the bot, waits for turns and GPUs, and knows who was killed."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.adapters.launchers import keeper
from app.adapters.launchers.process import ProcessLauncher
from app.domain.errors import Refused, Unreachable
from app.ports.launcher import Launcher, RunState
from tests.adapters.launcher_worlds import PROGRAM, ProcessWorld, alive, ended, failure_of, process_world, spec
from tests.e2e.stage import wait_for


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ProcessWorld]:
    with process_world(tmp_path) as made:
        yield made


def test_a_run_outlives_the_bot(world: ProcessWorld) -> None:
    """The bot that started it is killed with its whole group."""
    program = (
        "import sys, time; from pathlib import Path; from app.adapters.launchers.process import ProcessLauncher\n"
        "from app.ports.launcher import RunSpec\n"
        f"launcher = ProcessLauncher(Path({str(world.directory)!r}), command=(sys.executable, {str(PROGRAM)!r}))\n"
        "print(launcher.start(RunSpec('k1', 'toy', 'wait')), flush=True)\n"
        "time.sleep(600)\n"
    )
    bot = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert bot.stdout is not None
    handle = bot.stdout.readline().strip()
    wait_for("the run", (world.out(handle) / "ready").exists)
    os.killpg(bot.pid, signal.SIGKILL)
    bot.wait()
    bot.stdout.close()
    assert world.launcher.status(handle).state is RunState.RUNNING
    assert world.launcher.start(spec("wait")) == handle
    assert world.beginnings(handle) == 1
    world.launcher.cancel(handle)
    assert ended(world.launcher, handle).state is RunState.CANCELLED


def test_a_run_whose_keeper_is_killed_is_lost_and_does_not_run_on(world: ProcessWorld) -> None:
    handle = world.launcher.start(spec("wait"))
    wait_for("the run", (world.out(handle) / "ready").exists)
    watcher = json.loads((world.directory / handle / "begun.json").read_text())["pid"]
    os.kill(watcher, signal.SIGKILL)
    assert ended(world.launcher, handle).state is RunState.LOST
    wait_for("the run to be gone", lambda: not alive(int((world.out(handle) / "started").read_text())))
    assert world.launcher.start(spec("wait")) == handle
    assert world.launcher.status(handle).state is RunState.LOST


def test_whoever_was_stopped_before_the_run_began_goes_on(world: ProcessWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = world.again()
    monkeypatch.setattr(launcher, "_keep", lambda where: None)
    handle = launcher.start(spec("train"))
    assert launcher.status(handle).state is RunState.PENDING
    assert world.launcher.start(spec("train")) == handle
    assert ended(world.launcher, handle).state is RunState.SUCCEEDED


def test_what_never_began_can_be_cancelled(world: ProcessWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = world.again()
    monkeypatch.setattr(launcher, "_keep", lambda where: None)
    handle = launcher.start(spec("train"))
    launcher.cancel(handle)
    assert launcher.status(handle).state is RunState.CANCELLED
    assert world.launcher.start(spec("train")) == handle
    assert world.launcher.status(handle).state is RunState.CANCELLED
    assert not (world.out(handle) / "started").exists()


def test_a_run_gets_nothing_of_the_bots_secrets(world: ProcessWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAL_GITHUB__PRIVATE_KEY", "HEAL_MLFLOW__TOKEN", "AWS_SECRET_ACCESS_KEY", "heal_x"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    launcher = world.again(pass_on=("MLFLOW_TRACKING_URI", "HEAL_*", "heal_*"))
    given = dict(ended(launcher, launcher.start(spec("environment"))).report)
    assert given["MLFLOW_TRACKING_URI"] == "http://mlflow"
    assert given["CUDA_VISIBLE_DEVICES"] == "0"
    assert "s3cret" not in given.values()


def test_the_log_is_bounded_and_its_end_is_shown(world: ProcessWorld) -> None:
    status = ended(world.launcher, handle := world.launcher.start(spec("chatter", lines="30000")))
    assert status.state is RunState.SUCCEEDED
    assert status.tail.splitlines()[-1].startswith("29999 ")
    assert len(status.tail) <= 16 * 1024
    written = sum((world.directory / handle / name).stat().st_size for name in ("log", "log.1"))
    assert written <= 2 * 8 * 1024 * 1024


def test_a_program_that_is_not_there_fails_and_says_so(tmp_path: Path) -> None:
    launcher = ProcessLauncher(tmp_path / "runs", command=("/no/such/program",))
    status = ended(launcher, launcher.start(spec("train")))
    assert status.state is RunState.FAILED
    assert "/no/such/program cannot be started" in status.tail


def test_a_directory_that_cannot_be_written_is_refused_with_the_name_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(Refused, match="HEAL_LAUNCHER__DIRECTORY"):
        ProcessLauncher(tmp_path / "runs").start(spec("train"))


def test_a_full_disk_is_trouble_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(keeper, "write", full)
    with pytest.raises(Unreachable):
        ProcessLauncher(tmp_path / "runs").start(spec("train"))


def test_a_run_waits_for_the_one_that_it_goes_on_from(world: ProcessWorld) -> None:
    earlier = world.launcher.start(spec("wait"))
    wait_for("the run", (world.out(earlier) / "ready").exists)
    later = replace(spec("train", "k2"), resume=earlier)
    handle = world.launcher.start(later)
    assert world.launcher.status(handle).state is RunState.PENDING
    world.launcher.cancel(earlier)
    ended(world.launcher, earlier)
    assert world.launcher.start(later) == handle
    assert ended(world.launcher, handle).state is RunState.SUCCEEDED


def test_the_log_of_a_run_past_its_time_says_so(world: ProcessWorld) -> None:
    status = ended(world.launcher, world.launcher.start(spec("wait", timeout_s=0.3)))
    assert status.state is RunState.FAILED
    assert "time limit of 0.3 s" in status.tail


# how it failed, where it cannot say so itself


def test_the_kernels_count_of_whom_it_killed_for_memory_tells_why(world: ProcessWorld, tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom_kill 3\n")
    launcher = world.again(oom_counters=(tmp_path / "not there", counter))
    killed = ended(launcher, launcher.start(spec("killed", "k1")))
    out_of_memory = ended(launcher, launcher.start(spec("out_of_memory", "k2", counter=str(counter))))
    assert failure_of(killed)["kind"] == "killed"
    assert failure_of(out_of_memory)["kind"] == "host_oom"
    assert failure_of(out_of_memory)["resumable"] is True


@pytest.mark.parametrize(("said", "told"), [("nan_loss", "nan_loss"), ("killed", "host_oom")])
def test_what_a_run_says_of_its_failure_goes_before_except_why_it_was_killed(
    world: ProcessWorld, tmp_path: Path, said: str, told: str
) -> None:
    launcher = world.again(oom_counters=(counter := tmp_path / "memory.events",))
    counter.write_text("oom_kill 0\n")
    handle = launcher.start(spec("tells", kind=said, counter=str(counter)))
    ended(launcher, handle)
    exit_file = world.directory / handle / "exit.json"
    exit_file.write_text(json.dumps({**json.loads(exit_file.read_text()), "oom_kills": 1}))
    failure = failure_of(launcher.status(handle))
    assert failure["kind"] == told
    assert failure["advice"] == {"batch": "4", "accumulate": "16"}


def test_a_run_whose_keeper_was_killed_tells_that_it_can_be_gone_on_from(world: ProcessWorld) -> None:
    handle = world.launcher.start(spec("wait"))
    wait_for("the run", (world.out(handle) / "ready").exists)
    (world.out(handle) / "checkpoints" / "step-000000001").mkdir(parents=True)
    os.kill(json.loads((world.directory / handle / "begun.json").read_text())["pid"], signal.SIGKILL)
    status = ended(world.launcher, handle)
    assert status.state is RunState.LOST
    assert (failure_of(status)["kind"], failure_of(status)["resumable"]) == ("killed", True)


# turns, GPUs and memory


def test_a_run_waits_for_its_turn(world: ProcessWorld) -> None:
    launcher = world.again(at_once=1)
    first = launcher.start(spec("wait", "k1"))
    wait_for("the run", (world.out(first) / "ready").exists)
    second = launcher.start(spec("train", "k2"))
    assert launcher.start(spec("train", "k2")) == second
    assert not _begins(launcher, world, second)
    launcher.cancel(first)
    ended(launcher, first)
    wait_for("its turn", lambda: launcher.start(spec("train", "k2")) and _begins(launcher, world, second))
    assert ended(launcher, second).state is RunState.SUCCEEDED
    assert world.beginnings(second) == 1


def test_as_many_run_at_once_as_the_operator_says(world: ProcessWorld) -> None:
    launcher = world.again(at_once=2)
    handles = [launcher.start(spec("wait", key)) for key in ("k1", "k2")]
    for handle in handles:
        wait_for("the run", (world.out(handle) / "ready").exists)
    third = launcher.start(spec("wait", "k3"))
    assert not _begins(launcher, world, third)
    os.kill(json.loads((world.directory / handles[0] / "begun.json").read_text())["pid"], signal.SIGKILL)
    wait_for("its turn", lambda: launcher.start(spec("wait", "k3")) and _begins(launcher, world, third))


def test_a_run_that_waits_for_its_turn_can_be_cancelled(world: ProcessWorld) -> None:
    launcher = world.again(at_once=1)
    first = launcher.start(spec("wait", "k1"))
    wait_for("the run", (world.out(first) / "ready").exists)
    second = launcher.start(spec("train", "k2"))
    launcher.cancel(second)
    assert ended(launcher, second).state is RunState.CANCELLED
    assert not (world.out(second) / "started").exists()


def test_each_run_is_given_a_gpu_of_its_own_the_one_with_most_free_memory_first(
    world: ProcessWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(tmp_path, monkeypatch, {"GPU-aaaaaaaa": 1_000, "GPU-bbbbbbbb": 80_000, "GPU-cccccccc": 40_000})
    launcher = world.again()
    first, second = launcher.start(spec("wait", "k1")), None
    wait_for("the run", (world.out(first) / "ready").exists)
    second = launcher.start(spec("environment", "k2"))
    assert ended(launcher, second).report["CUDA_VISIBLE_DEVICES"] == "GPU-cccccccc"
    launcher.cancel(first)
    ended(launcher, first)
    both = world.again(gpus=2)
    third = wait_for("the GPU to be free", lambda: ended(both, both.start(spec("environment", "k3"))).report)
    assert third["CUDA_VISIBLE_DEVICES"] == "GPU-bbbbbbbb,GPU-cccccccc"


def test_a_gpu_is_shared_only_where_there_are_not_enough(
    world: ProcessWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(tmp_path, monkeypatch, {"GPU-aaaaaaaa": 1_000})
    first = world.launcher.start(spec("wait", "k1"))
    wait_for("the run", (world.out(first) / "ready").exists)
    second = ended(world.launcher, world.launcher.start(spec("environment", "k2")))
    assert second.report["CUDA_VISIBLE_DEVICES"] == "GPU-aaaaaaaa"


def test_the_operators_choice_of_a_gpu_stands(
    world: ProcessWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(tmp_path, monkeypatch, {"GPU-aaaaaaaa": 1_000})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    chosen = ended(world.launcher, world.launcher.start(spec("environment", "k1")))
    assert chosen.report["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    none = ended(world.again(), world.again(gpus=0).start(spec("environment", "k2")))
    assert "CUDA_VISIBLE_DEVICES" not in none.report


@pytest.mark.parametrize("said", ["", "No devices were found\n", "GPU-aaaaaaaa, [N/A]\n", "$(reboot), 4\n"])
def test_what_nvidia_smi_says_is_not_believed_blindly(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _nvidia_smi(tmp_path, monkeypatch, said)
    assert keeper.gpus_by_free_memory() == (["GPU-aaaaaaaa"] if "GPU-" in said else [])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("0::/a/b\n", ["/sys/fs/cgroup/a/b/memory.events", "/sys/fs/cgroup/memory.events"]),
        (
            "5:devices:/\n4:memory:/a\n",
            ["/sys/fs/cgroup/memory/a/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"],
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_the_kernel_counts_by_control_group(lines: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: lines)
    assert [str(path) for path in keeper.oom_counters()] == expected


def _begins(launcher: Launcher, world: ProcessWorld, handle: str) -> bool:
    """Once its keeper has looked whether it is its turn: it is gone then, or the run has begun."""
    begun = world.directory / handle / "begun.json"
    wait_for("the keeper to decide", lambda: begun.exists() or not _is_kept(handle))
    return launcher.status(handle).state is not RunState.PENDING


def _is_kept(handle: str) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(keeper.__file__) in (words := process.read_bytes().decode()) and handle in words:
                return True
        except OSError:
            continue
    return False


def _gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: dict[str, int]) -> None:
    _nvidia_smi(tmp_path, monkeypatch, "".join(f"{name}, {free}\n" for name, free in free_mib.items()))


def _nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """A program of that name that says so, as a machine without a GPU has none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint({says!r}, end='')\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

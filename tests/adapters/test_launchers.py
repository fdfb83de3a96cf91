"""What every launcher does: a run begins once, is followed to its end, can be gone on from, and can be ended."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.adapters.launchers.common import cancelled, failed
from app.domain.errors import Refused
from app.ports.launcher import RunSpec, RunState
from tests.adapters.launcher_worlds import World, alive, ended, failure_of, process_world, ray_world, spec
from tests.e2e.stage import wait_for


@pytest.fixture(params=["process", "ray"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with process_world(tmp_path) if request.param == "process" else ray_world(tmp_path) as made:
        yield made


def test_a_run_is_followed_to_its_end(world: World) -> None:
    handle = world.launcher.start(spec("train", rows="7", learning_rate="1e-3"))
    status = ended(world.launcher, handle)
    assert (status.state, status.exit_code) == (RunState.SUCCEEDED, 0)
    assert status.tail.splitlines()[-2:] == ["toy train began", "trained"]
    assert status.report["accuracy"] == 0.5
    assert status.report["settings"] == {"rows": "7", "learning_rate": "1e-3"}


def test_a_run_that_fails_says_with_what(world: World) -> None:
    status = ended(world.launcher, world.launcher.start(spec("fail")))
    assert (status.state, status.exit_code) == (RunState.FAILED, 3)
    assert "ValueError: no rows" in status.tail


def test_the_same_key_starts_nothing_twice(world: World) -> None:
    handle = world.launcher.start(spec("train"))
    assert world.launcher.start(spec("train")) == handle
    ended(world.launcher, handle)
    assert world.again().start(spec("train")) == handle
    other = world.launcher.start(spec("train", "k2"))
    assert other != handle
    ended(world.launcher, other)
    assert (world.beginnings(handle), world.beginnings(other)) == (1, 1)


def test_many_who_start_one_key_at_once_start_one_run(world: World) -> None:
    handles: list[str] = []
    threads = [threading.Thread(target=lambda: handles.append(world.again().start(spec("train")))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(handles)) == 1
    assert len(handles) == 6
    assert ended(world.launcher, handles[0]).state is RunState.SUCCEEDED
    assert world.beginnings(handles[0]) == 1


def test_a_run_is_cancelled(world: World) -> None:
    handle = world.launcher.start(spec("wait"))
    wait_for("the run", (world.out(handle) / "ready").exists)
    assert world.launcher.status(handle).state is RunState.RUNNING
    world.again().cancel(handle)
    world.launcher.cancel(handle)
    assert ended(world.launcher, handle).state is RunState.CANCELLED
    world.launcher.cancel(handle)
    assert world.launcher.start(spec("wait")) == handle
    assert world.launcher.status(handle).state is RunState.CANCELLED


def test_a_run_that_does_not_listen_is_killed(world: World) -> None:
    handle = world.launcher.start(spec("stubborn"))
    wait_for("the run", (world.out(handle) / "ready").exists)
    world.launcher.cancel(handle)
    assert ended(world.launcher, handle).state is RunState.CANCELLED
    assert not alive(int((world.out(handle) / "started").read_text()))


def test_what_a_run_has_started_ends_with_it(world: World) -> None:
    handle = world.launcher.start(spec("family"))
    child = int(wait_for("the child", lambda: _text(world.out(handle) / "child")))
    assert alive(child)
    world.launcher.cancel(handle)
    ended(world.launcher, handle)
    wait_for("the child to be gone", lambda: not alive(child))


def test_runs_that_nobody_wants_any_more_are_reaped(world: World) -> None:
    wanted, orphan = world.launcher.start(spec("wait", "k1")), world.launcher.start(spec("wait", "k2"))
    done = world.launcher.start(spec("train", "k3"))
    ended(world.launcher, done)
    assert world.again().reap(frozenset({"k1"})) == [orphan]
    assert ended(world.launcher, orphan).state is RunState.CANCELLED
    assert world.launcher.status(wanted).state in (RunState.PENDING, RunState.RUNNING)
    assert world.launcher.reap(frozenset({"k1"})) == []


def test_what_is_not_known_is_lost(world: World) -> None:
    assert world.launcher.status(world.unknown).state is RunState.LOST
    world.launcher.cancel(world.unknown)
    assert world.launcher.reap(frozenset()) == []


@pytest.mark.parametrize("handle", ["", "..", "../../etc", "0" * 31, "0" * 33, "A" * 32])
def test_a_handle_that_is_none_is_refused(world: World, handle: str) -> None:
    with pytest.raises(Refused):
        world.launcher.status(handle)
    with pytest.raises(Refused):
        world.launcher.cancel(handle)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(spec("train"), workload="../toy"),
        replace(spec("train"), workload="--help"),
        replace(spec("train"), verb="train; rm"),
        replace(spec("train"), settings={"a b": "1"}),
        replace(spec("train"), settings={"a": "1\n2"}),
        replace(spec("train"), settings={"a": "x" * 2_001}),
        replace(spec("train"), settings={f"a{n}": "1" for n in range(201)}),
        replace(spec("train"), timeout_s=0),
        replace(spec("train"), timeout_s=float("inf")),
    ],
    ids=lambda wrong: str(wrong)[:60],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(world: World, wrong: RunSpec) -> None:
    with pytest.raises(Refused):
        world.launcher.start(wrong)
    assert world.is_empty()


def test_a_run_goes_on_from_what_an_earlier_one_left(world: World) -> None:
    earlier = world.launcher.start(spec("fail"))
    ended(world.launcher, earlier)
    later = world.launcher.start(replace(spec("train", "k2"), resume=earlier))
    assert ended(world.launcher, later).report["went_on_from"] == (world.out(earlier) / "started").read_text()


@pytest.mark.parametrize("earlier", ["unknown", "../../etc", "itself"])
def test_going_on_from_what_is_not_there_is_refused_and_leaves_nothing(world: World, earlier: str) -> None:
    resume = {"itself": world.launcher.handle_of("k1"), "unknown": world.unknown}.get(earlier, earlier)
    with pytest.raises(Refused):
        world.launcher.start(replace(spec("train"), resume=resume))
    assert world.is_empty()


def test_directories_of_old_runs_go(world: World) -> None:
    handle = world.launcher.start(spec("train"))
    ended(world.launcher, handle)
    world.launcher.reap(frozenset())
    assert world.out(handle).exists()
    world.again(keep_s=-1.0).reap(frozenset({"k1"}))
    assert world.out(handle).exists()
    world.again(keep_s=-1.0).reap(frozenset())
    assert not world.out(handle).exists()


def test_the_directory_that_a_run_goes_on_from_stays(world: World) -> None:
    earlier = world.launcher.start(spec("fail"))
    ended(world.launcher, earlier)
    later = world.launcher.start(replace(spec("train", "k2"), resume=earlier))
    ended(world.launcher, later)
    world.again(keep_s=-1.0).reap(frozenset({"k2"}))
    assert world.out(earlier).exists()
    assert ended(world.launcher, world.launcher.start(replace(spec("train", "k2"), resume=earlier)))
    world.again(keep_s=-1.0).reap(frozenset())
    assert not world.out(earlier).exists()


@pytest.mark.parametrize(("verb", "resumable"), [("killed", False), ("kept", True)])
def test_a_run_that_was_killed_without_a_word_is_told_as_killed(world: World, verb: str, resumable: bool) -> None:
    status = ended(world.launcher, world.launcher.start(spec(verb)))
    assert status.state is RunState.FAILED
    assert status.exit_code in (-9, 137)
    assert status.report == {
        "outcome": "failed",
        "failure": {
            "kind": "killed",
            "message": "it was ended by signal 9",
            "advice": {},
            "resumable": resumable,
            "facts": {},
        },
    }


def test_a_run_past_its_time_is_ended_and_says_so(world: World) -> None:
    status = ended(world.launcher, world.launcher.start(spec("wait", timeout_s=0.3)))
    assert status.state is RunState.FAILED
    assert failure_of(status)["kind"] == "timed_out"


def test_a_run_that_was_cancelled_is_told_as_that_however_it_took_it(world: World) -> None:
    handle = world.launcher.start(spec("gives_way"))
    wait_for("the run", (world.out(handle) / "ready").exists)
    world.launcher.cancel(handle)
    status = ended(world.launcher, handle)
    assert status.state is RunState.CANCELLED
    assert (failure_of(status)["kind"], failure_of(status)["resumable"]) == ("cancelled", True)


def test_a_run_tells_why_it_failed_and_what_would_help(world: World) -> None:
    status = ended(world.launcher, world.launcher.start(spec("tells", kind="nan_loss")))
    assert status.state is RunState.FAILED
    assert failure_of(status)["kind"] == "nan_loss"
    assert failure_of(status)["advice"] == {"batch": "4", "accumulate": "16"}


def test_a_run_is_told_how_much_memory_it_may_take(world: World) -> None:
    launcher = world.again(memory_mib=2_048)
    assert ended(launcher, launcher.start(spec("train"))).report["memory_mib"] == "2048"


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("kind", [[], {}, 7, None])
def test_a_failure_that_names_no_kind_hides_no_end(kind: object) -> None:
    report = {"failure": {"kind": kind}}
    assert cancelled(report) == report
    assert failed(report, code=1, resumable=False) == report
    assert failed(report, code=-9, resumable=False)["failure"]["kind"] == "killed"
    assert failed(report, code=-9, resumable=False, out_of_memory=True)["failure"]["kind"] == "host_oom"
    assert failed(report, code=-9, resumable=False, limit_s=1.0)["failure"]["kind"] == "timed_out"


def test_a_report_is_a_file_of_its_own(world: World, tmp_path: Path) -> None:
    """A link would have the bot tell what a run may not read, and a pipe would have it wait for ever."""
    handle = world.launcher.start(spec("train"))
    ended(world.launcher, handle)
    report, secret = world.out(handle) / "report.json", tmp_path / "secret.json"
    secret.write_text('{"token": "s3cret"}')
    report.unlink()
    report.symlink_to(secret)
    assert "token" not in world.launcher.status(handle).report
    report.unlink()
    os.mkfifo(report)
    assert "token" not in world.launcher.status(handle).report

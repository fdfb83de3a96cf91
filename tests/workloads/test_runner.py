"""`python -m workloads`: a run of its own process, with a folder that says what became of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actions.benchmark_baseline import read as read_benchmark
from tests.workloads.conftest import Runner
from workloads.__main__ import _made
from workloads.child import FolderRun
from workloads.contract import EXIT_CODES, Failure


def test_a_run_leaves_its_record_its_events_and_what_the_bot_reads(workloads: Runner):
    ran = workloads("toy", "train", "--set", "steps=2")
    assert ran.code == 0, ran.complained
    assert ran.record["metrics"] == {
        "steps": {"value": 2, "unit": ""},
        "energy": {"unavailable": "no GPU"},
    }
    assert ran.record["outcome"] == ran.report["outcome"] == "succeeded"
    assert [told["event"] for told in ran.events] == [
        "began",
        "data",
        "resumed",
        "metric",
        "progress",
        "metric",
        "progress",
    ]
    assert {"code_sha", "sources_sha256", "libraries", "machine"} <= ran.record["environment"].keys()
    assert "steps" in ran.said
    assert "no GPU" in ran.said


def test_what_a_library_prints_does_not_reach_standard_output(workloads: Runner):
    ran = workloads("toy", "train", "--json", "--set", "loud=true")
    assert json.loads(ran.said)["outcome"] == "succeeded"
    assert "a library talks" in ran.complained


def test_a_benchmark_leaves_the_report_that_the_bot_compares(workloads: Runner):
    ran = workloads("toy", "benchmark", "--set", "heal_id=r1")
    read = read_benchmark((ran.out / "report.json").read_bytes())
    assert [metric.name for metric in read.metrics] == ["latency"]
    assert ran.record["heal_id"] == "r1"


def test_a_typed_failure_says_what_to_go_on_with(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=fail", "--report-line")
    assert ran.code == EXIT_CODES[Failure.HOST_OOM]
    failure = ran.report["failure"]
    assert failure["kind"] == "host_oom"
    assert failure["advice"] == {"batch": "4", "accumulate": "2"}
    assert failure["resumable"] is True
    line = ran.complained.strip().splitlines()[-1]
    assert line.startswith("heal-run: failed host_oom: batch 8 is too large; go on with --resume ")
    assert line.endswith("--set batch=4 --set accumulate=2")
    assert json.loads(ran.said.removeprefix("heal-report "))["failure"]["kind"] == "host_oom"


@pytest.mark.parametrize(
    ("how", "kind", "resumable"),
    [
        ("bug", Failure.BUG, False),
        ("killed", Failure.KILLED, True),
        ("full", Failure.DISK_FULL, True),
    ],
)
def test_how_a_run_ended_is_told_by_its_kind(workloads: Runner, how: str, kind: Failure, resumable: bool):
    ran = workloads("toy", "train", "--set", f"how={how}")
    assert ran.code == EXIT_CODES[kind]
    assert ran.report["failure"]["kind"] == kind
    assert ran.report["failure"]["resumable"] is resumable


def test_what_came_out_as_nan_is_told_as_no_number(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=nan")
    assert ran.code == 0, ran.complained
    assert ran.record["metrics"] == {"gain": {"unavailable": "it came out as nan"}}
    assert next(e for e in ran.events if e["event"] == "looked")["value"] == "nan"


def test_a_benchmark_that_measured_nan_has_failed(workloads: Runner):
    ran = workloads("toy", "benchmark", "--set", "how=nan")
    assert ran.code == EXIT_CODES[Failure.BUG]
    assert ran.report["failure"]["message"] == "latency: a measurement came out as nan"


def test_a_failure_keeps_its_kind_whatever_its_facts_are(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=nan_fact")
    assert ran.code == EXIT_CODES[Failure.NAN_LOSS]
    assert ran.report["failure"]["facts"] == {"batch": 8, "loss": "nan"}


def test_a_password_in_an_address_is_not_written_down(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=secret")
    assert "https://***@server/api" in ran.report["failure"]["message"]
    left = "".join(path.read_text() for path in ran.out.iterdir())
    assert "hidden" not in left + ran.complained + ran.said


def test_runs_of_one_second_have_a_folder_each(tmp_path: Path):
    first, second = (_made(tmp_path / "runs" / "toy", new=True) for _ in range(2))
    assert first != second
    assert _made(first, new=False) == first


def test_a_run_does_not_wait_for_who_watches_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    heard, said = os.pipe()
    os.set_blocking(said, False)
    run = FolderRun(tmp_path, None, said)
    for step in range(10_000):
        run.progress(step, 10_001, "steps", loss=0.5)
    os.close(said)
    with os.fdopen(heard) as lines:
        done = [json.loads(line)["done"] for line in lines]  # each line is whole
    assert done == list(range(len(done)))
    assert 0 < len(done) < 10_000


def test_a_run_that_was_killed_is_told_with_the_batch_it_had(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=killed")
    assert ran.report["failure"]["facts"] == {"batch": 8}
    assert ran.record["config"]["steps"] == 3


def test_a_memory_limit_is_refused_to_the_program_and_typed(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=hungry", "--memory-mib", "1000")
    assert ran.report["failure"]["kind"] == "host_oom"


@pytest.mark.parametrize(("held_mib", "kind"), [(600, "host_oom"), (1, "killed")])
def test_a_crash_near_the_memory_limit_is_put_down_to_it(workloads: Runner, held_mib: int, kind: str):
    ran = workloads("toy", "train", "--set", "how=crash", "--set", f"steps={held_mib}", "--memory-mib", "700")
    assert ran.report["failure"]["kind"] == kind


def test_a_run_ends_at_its_time_limit(workloads: Runner):
    ran = workloads("toy", "train", "--set", "how=wait", "--time-limit-s", "1")
    assert ran.code == EXIT_CODES[Failure.TIMED_OUT]
    assert ran.report["failure"]["resumable"] is True


def heard() -> None:
    """Whoever runs the tests may ignore what a terminal sends, as the background of a script does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(
    out: Path, environment: dict[str, str], how: str, before: Callable[[], object] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    words = ("toy", "train", "--set", f"how={how}", "--out", str(out))
    run = subprocess.Popen(
        [sys.executable, "-m", "workloads", *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before or heard,
    )
    try:
        until = time.monotonic() + 30
        while not (out / "waits").exists():
            assert time.monotonic() < until
            assert run.poll() is None
            time.sleep(0.02)
        yield run
    finally:
        run.kill()
        run.communicate()


@pytest.mark.parametrize(
    ("sent", "kind"), [(signal.SIGTERM, Failure.PREEMPTED), (signal.SIGINT, Failure.CANCELLED)], ids=str
)
def test_a_signal_ends_it_in_good_order(
    tmp_path: Path, environment: dict[str, str], sent: signal.Signals, kind: Failure
):
    with started(tmp_path, environment, "wait") as run:
        run.send_signal(sent)
        assert run.wait(timeout=30) == EXIT_CODES[kind]
    assert json.loads((tmp_path / "report.json").read_text())["failure"]["kind"] == kind


def test_a_signal_before_the_run_listens_ends_it_in_good_order(tmp_path: Path, environment: dict[str, str]):
    words = [sys.executable, "-m", "workloads", "toy", "train", "--set", "how=wait", "--out", str(tmp_path)]
    run = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "request.json").exists():
            assert time.monotonic() < until
        os.killpg(run.pid, signal.SIGTERM)  # as a machine that ends does: to the run, too, which has just been started
        assert run.wait(timeout=30) == EXIT_CODES[Failure.PREEMPTED]
    finally:
        run.kill()
        run.communicate()
    assert json.loads((tmp_path / "report.json").read_text())["failure"]["kind"] == "preempted"


def test_what_a_shell_lets_it_ignore_does_not_end_it(tmp_path: Path, environment: dict[str, str]):
    with started(tmp_path, environment, "wait", before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as run:
        run.send_signal(signal.SIGHUP)  # as when the terminal of a `nohup` is closed
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(timeout=0.5)
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=30) == EXIT_CODES[Failure.PREEMPTED]


@pytest.mark.parametrize(("how", "code"), [("well", 0), ("fail", EXIT_CODES[Failure.HOST_OOM])])
def test_a_reader_that_has_gone_changes_nothing_of_how_a_run_ends(
    tmp_path: Path, environment: dict[str, str], how: str, code: int
):
    words = [sys.executable, "-m", "workloads", "toy", "train", "--json", "--set", f"how={how}", "--out", str(tmp_path)]
    heard, said = os.pipe()
    os.close(heard)
    try:
        assert subprocess.run(words, env=environment, stdout=said, stderr=said, check=False).returncode == code
    finally:
        os.close(said)
    assert (tmp_path / "report.json").exists()


def test_a_run_does_not_outlive_the_kill_of_who_supervises_it(tmp_path: Path, environment: dict[str, str]):
    with started(tmp_path, environment, "stubborn") as run:
        pid = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[0])["pid"]
        run.kill()
        run.wait()
        until = time.monotonic() + 10
        while _lives(pid):
            assert time.monotonic() < until
            time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_run_in_the_same_folder_leaves_nothing_of_the_one_before(workloads: Runner):
    assert workloads("toy", "train", "--set", "how=fail").code
    ran = workloads("toy", "train")
    assert "failure" not in ran.report
    assert ran.record["outcome"] == "succeeded"


def test_a_run_is_told_what_it_goes_on_from(workloads: Runner, tmp_path: Path):
    (tmp_path / "before").mkdir()
    ran = workloads("toy", "train", "--resume", str(tmp_path / "before"))
    assert ran.record["resumed_from"] == str(tmp_path / "before")
    assert next(e for e in ran.events if e["event"] == "resumed")["folder"] == str(tmp_path / "before")


def test_a_folder_that_is_not_there_cannot_be_gone_on_from(here: Runner, tmp_path: Path):
    ran = here("toy", "train", "--resume", str(tmp_path / "nowhere"))
    assert ran.code == EXIT_CODES[Failure.DATA_MISSING]
    assert ran.report["failure"]["kind"] == "data_missing"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("stepz=3", "did you mean steps?"),
        ("steps=0", "it lies between 1 and 100000"),
        ("steps=many", "it is a whole number"),
        ("rate=nan", "it is a finite number"),
        ("rate=2", "it lies between 0 and 1"),
        ("loud=perhaps", "it is true or false"),
        ("size=huge", "it is one of small, large"),
        ("steps", "is not of the form name=value"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_runs(here: Runner, told: str, said: str):
    ran = here("toy", "train", "--set", told)
    assert ran.code == EXIT_CODES[Failure.BAD_SETTING]
    assert said in ran.complained
    assert ran.report["failure"]["resumable"] is False
    assert [path.name for path in ran.out.iterdir()] == ["report.json"]


def test_a_misspelt_workload_or_verb_is_told_what_there_is(here: Runner):
    assert "did you mean av_separation?" in here("av_seperation", "train").complained
    assert "it can train, evaluate, separate, benchmark, export" in here("av_separation", "trian").complained


def test_a_positional_setting_is_the_same_as_a_named_one(workloads: Runner):
    ran = workloads("toy", "train", "in.mp4")
    assert ran.record["settings"]["film"] == "in.mp4"


def test_a_plan_runs_nothing(here: Runner):
    ran = here("toy", "train", "--plan", "--json")
    needs = json.loads(ran.said)
    assert needs["memory_bytes"] == {"value": 2**30, "unit": "B"}
    assert needs["vram_bytes"] == {"unavailable": "not estimated"}
    assert not ran.out.exists()
    assert "1 GiB" in here("toy", "train", "--plan").said


def test_planning_loads_no_torch(environment: dict[str, str]):
    verbs = ("train", "evaluate", "separate", "benchmark", "export")
    program = f"""
import contextlib, io, sys
from workloads.__main__ import main
with contextlib.redirect_stdout(io.StringIO()):
    codes = [main(["av_separation", verb, "--plan", *words]) for verb in {verbs} for words in ([], ["--json"])]
sys.exit(bool(any(codes) or "torch" in sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_every_setting_of_every_verb_is_told_by_help(here: Runner):
    for verb in ("train", "evaluate", "separate", "benchmark", "export"):
        said = here("av_separation", verb, "--help").said
        assert "settings, with their defaults:" in said
        assert "70 cuda_oom" in said
    assert "av_separation" in here("list").said
    assert {each["name"] for each in json.loads(here("list", "--json").said)} >= {"av_separation", "toy"}


def test_a_workload_that_cannot_be_loaded_is_told_and_hides_no_other(
    here: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[heal.workloads]\nbroken = nowhere_to_be_found:WORKLOAD\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = here("list")
    assert "av_separation" in listed.said
    assert "the workload broken cannot be loaded" in listed.complained
    assert here("broken", "train").code == EXIT_CODES[Failure.NOT_INSTALLED]


def test_progress_is_a_line_in_a_log(workloads: Runner):
    ran = workloads("toy", "train", "--set", "steps=4")
    assert "train [████████████████████████] 4/4 steps  loss 0.25" in ran.complained
    assert "\x1b" not in ran.complained


def test_a_folder_that_cannot_be_written_says_so(here: Runner, tmp_path: Path):
    (tmp_path / "file").touch()
    ran = here("toy", "train", out=tmp_path / "file" / "run")
    assert ran.code == EXIT_CODES[Failure.BAD_SETTING]
    assert "name another folder with --out" in ran.complained


def test_exit_codes_are_distinct_and_none_is_success():
    assert set(EXIT_CODES) == set(Failure)
    assert len({*EXIT_CODES.values(), 0}) == len(Failure) + 1

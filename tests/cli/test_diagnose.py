import gzip
import io
import json
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.logfile import templates_in
from app.commands import diagnose
from app.commands.diagnose import as_json, causes_of, report
from app.domain.errors import Malformed
from tests.cli.conftest import Heal
from tests.detectors.logs import stamped

EXIT = "##[error]Process completed with exit code 1."
GROUP = ("##[group]Run python train.py", "shell: /usr/bin/bash -e {0}", "##[endgroup]")
MEMORY = stamped(*GROUP, "epoch 3", "MemoryError", EXIT, "Post job cleanup.", "Cleaning up orphan processes")
MODULE = stamped(*GROUP, "ModuleNotFoundError: No module named 'pandas'", EXIT, "Cleaning up orphan processes")
WELL = stamped(*GROUP, "0 errors, all well", "Post job cleanup.", "Cleaning up orphan processes")
CANCELLED = stamped(*GROUP, "epoch 3", "##[error]The operation was canceled.", "Cleaning up orphan processes")


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            written.writestr(f"{name}.txt", content)
    return stream.getvalue()


def told(content: bytes, **options: object) -> list[tuple[str, str]]:
    return [(told.job, told.cause.kind) for told in causes_of(io.BytesIO(content), **options)]


def tabbed(job: str, step: str, log: bytes) -> bytes:
    return b"".join(f"{job}\t{step}\t".encode() + line for line in log.splitlines(keepends=True))


@pytest.mark.parametrize(
    "content",
    [
        MEMORY,
        MEMORY.removeprefix(b"\xef\xbb\xbf"),
        MEMORY.replace(b"\n", b"\r\n"),
        MEMORY.decode().encode("utf-16"),
        gzip.compress(MEMORY),
        archive(**{"0_fit": MEMORY}),
        archive(**{"fit/1_Set up job": stamped("hello"), "fit/2_Train": MEMORY}),
        archive(build=MEMORY),
        tabbed("fit", "UNKNOWN STEP", MEMORY),
        tabbed("fit", "Train", MEMORY),
        b"MemoryError",
        b"\x1b[31mMemoryError\x1b[0m\n",
        b"\x00\x01\xff\xfe junk \x9c\nMemoryError\n",
        b" 10%|#   | 1/9\r 99%|### | 8/9\rMemoryError\n",
    ],
    ids=[
        *("raw", "without mark", "line ends of Windows", "utf-16", "gzip", "archive", "archive of steps", "any zip"),
        *("command line", "command line with steps", "one line", "coloured", "binary", "progress bar"),
    ],
)
def test_a_log_of_any_make_is_diagnosed(content):
    assert [kind for _, kind in told(content)] == ["host_oom"]


@pytest.mark.parametrize("content", [b"", b"\n", WELL, b"all good\n", archive(), archive(**{"0_fit": WELL})])
def test_a_log_without_a_failure_has_no_cause(content):
    assert told(content) == []


def test_a_failure_without_a_name_is_unknown():
    assert told(stamped(*GROUP, "frobnication is out of tune", EXIT)) == [("job", "unknown")]


def test_of_several_jobs_those_that_failed_by_themselves_are_told():
    content = archive(**{"0_lint": WELL, "1_fit": MEMORY, "2_sweep": CANCELLED, "3_import": MODULE, "4_again": MEMORY})
    assert sorted(told(content)) == [("fit", "host_oom"), ("import", "module_not_found")]


def test_a_job_that_was_cancelled_is_told_where_none_failed():
    assert told(archive(**{"0_lint": WELL, "2_sweep": CANCELLED})) == [("sweep", "job_timeout_cancelled")]


def test_one_job_can_be_asked_for():
    content = archive(**{"1_fit": MEMORY, "3_import": MODULE})
    assert told(content, job="import") == [("import", "module_not_found")]
    with pytest.raises(Malformed, match="no job 'fut'; it holds fit, import"):
        told(content, job="fut")


def test_the_jobs_of_a_command_line_log_keep_the_lines_of_the_file():
    content = tabbed("lint", "Run ruff", WELL) + tabbed("fit", "Train", MEMORY) + tabbed("late", "Notify", WELL)
    (cause,) = as_json(causes_of(io.BytesIO(content)))["causes"]
    assert cause["lines"][0] == {"number": WELL.count(b"\n") + 5, "text": "MemoryError", "step": "Train"}


def test_the_line_to_read_first_comes_first():
    (cause,) = as_json(causes_of(io.BytesIO(MEMORY)))["causes"]
    assert set(cause) == {"kind", "confidence", "summary", "facts", "lines"}
    assert cause["lines"][0]["number"] == 5
    assert len(cause["lines"]) > 1
    assert 0 < cause["confidence"] < 1


def test_secrets_and_what_a_terminal_would_obey_are_not_repeated():
    secret = "ghp_" + "a1B2" * 10
    content = f"echo {secret}\u202e\x1b]0;owned\x07\nModuleNotFoundError: No module named 'x{secret}'\n".encode()
    shown = json.dumps(as_json(causes_of(io.BytesIO(content))))
    assert "***" in shown
    assert secret not in shown
    assert "\\u202e" not in shown


def test_what_the_green_log_says_as_well_is_no_cause(heal: Heal, tmp_path):
    # an error that the job has always printed, and the one that is new
    always, new = (
        "ERROR: No matching distribution found for lint==1",
        "ERROR: No matching distribution found for fit==2",
    )
    (tmp_path / "red.log").write_bytes(stamped(*GROUP, new, "x", always, EXIT))
    (tmp_path / "green.zip").write_bytes(archive(**{"0_fit": stamped(*GROUP, always, "Cleaning up orphan processes")}))
    (before,) = json.loads(heal("diagnose", "red.log", "--json").stdout)["causes"]
    (after,) = json.loads(heal("diagnose", "red.log", "--green", "green.zip", "--json").stdout)["causes"]
    assert before["facts"]["requirement"] == "lint==1"
    assert after["facts"]["requirement"] == "fit==2"


def test_the_report_is_for_people(heal: Heal, tmp_path):
    (tmp_path / "run.zip").write_bytes(archive(**{"1_fit": MEMORY, "3_import": MODULE}))
    done = heal("diagnose", "run.zip")
    assert done.exit_code == 0
    assert "host_oom" in done.stdout
    assert "> 5  MemoryError" in done.stdout
    assert "job import" in done.stdout
    assert "pandas" in done.stdout


def test_a_log_in_which_nothing_failed_is_no_error(heal: Heal, tmp_path):
    (tmp_path / "job.log").write_bytes(WELL)
    assert heal("diagnose", "job.log").stdout == "Nothing failed in this log.\n"
    done = heal("diagnose", "-", "--json", text="all good\n")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"causes": []})


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.log", None, "missing.log cannot be read"),
        ("cut.zip", archive(**{"0_fit": MEMORY})[:-30], "archive cannot be read"),
        ("cut.gz", gzip.compress(MEMORY)[:-20], "cannot be unpacked"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(heal: Heal, tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = heal("diagnose", name)
    assert done.exit_code == 2
    assert complaint in done.output


def test_an_endless_log_is_refused(monkeypatch):
    monkeypatch.setattr("app.adapters.logfile.MOST_BYTES", 1_000_000)
    with pytest.raises(Malformed, match="larger than 1 MB"):
        told(gzip.compress(b"x\n" * 1_000_000))


def test_a_diagnosis_loads_neither_the_database_nor_a_server():
    code = (
        "import sys, app.cli; app.cli.app(['diagnose', '-', '--json'], standalone_mode=False);"
        "print([m for m in ('sqlalchemy', 'fastapi', 'celery', 'github', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=MEMORY, capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[-1] == "[]"
    assert json.loads(done.stdout.decode().rpartition("[]")[0])["causes"][0]["kind"] == "host_oom"


def test_the_names_of_many_jobs_are_cut(monkeypatch):
    monkeypatch.setattr(diagnose, "NAMED_JOBS", 2)
    content = archive(**{f"{i}_j{i}": WELL for i in range(3)})
    with pytest.raises(Malformed, match=r"it holds j0, j1, …\."):
        told(content, job="j9")


FRAGMENTS = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b"\t", b"\x1b[31m", b"\x1b[0m", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b" "),
        *(b"2026-11-21T09:00:00.1234567Z ", b"job\tUNKNOWN STEP\t", b"job\tTrain\t", b"other\tTrain\t"),
        *(b"##[group]Run python train.py\n", b"##[endgroup]\n", b"##[error]", EXIT.encode() + b"\n"),
        *(b"Post job cleanup.\n", b"Cleaning up orphan processes\n", b"##[error]The operation was canceled.\n"),
        *(b"MemoryError", b"Traceback (most recent call last):\n", b"FAILED tests/a.py::b - assert 1 == 2\n"),
        *(
            b"During handling of the above exception\n",
            b"[rank0]: ",
            b"ERROR: ",
            b"x" * 5_000,
            b"PK\x03\x04",
            b"\x1f\x8b",
        ),
    ]
)
LOGS = st.lists(FRAGMENTS | st.binary(max_size=12), max_size=60).map(b"".join)


@given(LOGS, st.sampled_from(["plain", "gzip", "archive"]))
def test_whatever_a_file_holds_is_told_or_refused(content, wrapped):
    packed = {"plain": content, "gzip": gzip.compress(content), "archive": archive(**{"0_fit": content})}[wrapped]
    try:
        causes = causes_of(io.BytesIO(packed))
        templates_in(io.BytesIO(packed))
    except Malformed:
        assert wrapped == "plain" or content.startswith((b"PK", b"\x1f\x8b"))
        return
    json.dumps(as_json(causes))
    assert list(report(causes))
    if b"\xff\xfe" not in content[:2]:
        numbers = [line.number for told in causes for line in told.cause.ranked]
        assert all(1 <= number <= content.count(b"\n") + 1 for number in numbers)

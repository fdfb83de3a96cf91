import io
import tracemalloc
import zipfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.adapters.github import logzip
from app.adapters.github.loglines import LINE_CHARACTERS, plain
from app.adapters.github.logs import BLOCKS, TOTAL_BYTES, TOTAL_LINES, read_job_log, read_templates
from app.adapters.github.logzip import ZIP_MEMBERS, read_log_zip
from app.domain.errors import Malformed
from app.domain.evidence import Annotation, Job, JobLog, JobStep
from app.domain.template import template_hash

STAMP = "2026-11-21T09:00:00.1234567Z "
EXIT = "##[error]Process completed with exit code 1."


def job(*steps: tuple[str, str], name: str = "train / fit") -> Job:
    numbered = tuple(JobStep(number, step, conclusion) for number, (step, conclusion) in enumerate(steps, start=1))
    return Job(id=7, name=name, run_id=5, attempt=1, head_sha="a" * 40, conclusion="failure", steps=numbered)


def read(*lines: str, of: Job | None = None) -> JobLog:
    return read_job_log(io.BytesIO("".join(f"{STAMP}{line}\n" for line in lines).encode()), of or job())


def steps_of(log: JobLog) -> list[tuple[int, str, int, tuple[str, ...]]]:
    return [(part.step_number, part.step, part.first_line, part.lines) for part in log.parts]


def numbered(log: JobLog) -> list[tuple[int, str]]:
    return [(number, line) for part in log.parts for number, line in enumerate(part.lines, start=part.first_line)]


def test_lines_lose_stamp_mark_colour_and_control_characters():
    raw = "\ufeff" + STAMP + "\x1b[31mFAILED\x1b[0m \x1b]8;;http://x\x07tests\x00/a.py\r\n" + STAMP + "\n" + "bare\n"
    log = read_job_log(io.BytesIO(raw.encode()), job())
    assert numbered(log) == [(1, "FAILED tests/a.py"), (2, ""), (3, "bare")]
    assert log.total_lines == 3


def test_a_progress_bar_that_rewrites_itself_is_one_line():
    raw = f"{STAMP} 10%|#\r 50%|##\r 99%|####Killed\nnext\rlast"
    log = read_job_log(io.BytesIO(raw.encode()), job())
    assert numbered(log) == [(1, " 99%|####Killed"), (2, "last")]


def test_bytes_that_are_no_text_are_replaced():
    log = read_job_log(io.BytesIO(b"caf\xe9\xff\n"), job())
    assert numbered(log) == [(1, "caf\ufffd\ufffd")]


def test_groups_are_mapped_to_the_steps_that_ran():
    log = read(
        "Current runner version: '2.334.0'",
        "##[group]Run actions/checkout@v4",
        "Syncing",
        "##[group]Run pip install -r requirements.txt",
        "Collecting",
        "##[group]Run python train.py",
        EXIT,
        "Post job cleanup.",
        "Cleaning up orphan processes",
        of=job(
            ("Set up job", "success"),
            ("Run actions/checkout@v4", "success"),
            ("Only on tags", "skipped"),
            ("Run pip install -r requirements.txt", "success"),
            ("Fit the model", "failure"),
            ("Upload", "skipped"),
            ("Post Run actions/checkout@v4", "success"),
            ("Complete job", "success"),
        ),
    )
    assert [(number, name, first) for number, name, first, _ in steps_of(log)] == [
        (1, "Set up job", 1),
        (2, "Run actions/checkout@v4", 2),
        (4, "Run pip install -r requirements.txt", 4),
        (5, "Fit the model", 6),
        (7, "Post Run actions/checkout@v4", 8),
        (8, "Complete job", 9),
    ]


def test_the_groups_inside_a_composite_action_belong_to_its_step():
    log = read(
        "Current runner version: '2.334.0'",
        "##[group]Run ./.github/actions/prepare",
        "##[group]Run python -m venv .venv",
        "made",
        "##[group]Run python train.py",
        EXIT,
        of=job(
            ("Set up job", "success"), ("Run ./.github/actions/prepare", "success"), ("Run python train.py", "failure")
        ),
    )
    assert [(number, first, len(lines)) for number, _, first, lines in steps_of(log)] == [
        (1, 1, 1),
        (2, 2, 3),
        (3, 5, 2),
    ]


def test_a_step_that_failed_is_the_one_with_the_exit_line():
    log = read(
        "##[group]Run make data",
        "built",
        "##[group]Run make model",
        EXIT,
        of=job(("Set up job", "success"), ("Data", "success"), ("Model", "failure"), ("Report", "cancelled")),
    )
    failed = [part for part in log.parts if part.step == "Model"]
    assert [part.lines[-1] for part in failed] == [EXIT]


def test_without_steps_the_groups_name_themselves():
    log = read("starting", "##[group]Run make", "x")
    assert [(number, name) for number, name, _, _ in steps_of(log)] == [(1, "Set up job"), (2, "Run make")]


def test_annotations_are_kept():
    told = (Annotation("failure", "lost"),)
    assert read_job_log(io.BytesIO(b""), job(), told) == JobLog(job(), (), 0, told)


class Generated(io.RawIOBase):
    """A stream that makes its lines as they are read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return next(self._pieces, b"")


def peak_mb(stream: Generated) -> tuple[float, JobLog]:
    tracemalloc.start()
    log = read_job_log(stream, job(("Set up job", "success"), ("Train", "failure")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20, log


def test_a_log_of_50_mb_keeps_head_tail_and_errors_in_little_memory():
    count, line = 1_400, f"{STAMP}step of training number %07d " + "x" * 320 + "\n"
    size = len(line % 0) * 100

    def pieces() -> Iterator[bytes]:
        yield f"{STAMP}##[group]Run python train.py\n".encode()
        for block in range(count):
            text = "".join(line % (block * 100 + i) for i in range(100))
            if block == 700:
                text = text.replace("step of training number 0070050", "RuntimeError: the first cause 0070050")
            yield text.encode()
        yield f"{STAMP}{EXIT}\n".encode()

    assert size * count >= 50 * 2**20
    peak, log = peak_mb(Generated(pieces()))
    assert peak < 64
    assert log.total_lines == count * 100 + 2
    lines = dict(numbered(log))
    assert len(lines) <= TOTAL_LINES
    assert lines[1] == "##[group]Run python train.py"
    assert lines[log.total_lines] == EXIT
    assert lines[70_052].startswith("RuntimeError: the first cause 0070050")
    assert {70_020, 70_065} <= lines.keys()
    assert {part.step for part in log.parts} == {"Train"}


def test_a_line_of_100_mb_is_cut():
    def pieces() -> Iterator[bytes]:
        yield b"first\n"
        for _ in range(1_600):
            yield b"x" * 64 * 1024
        yield b"\nlast\n"

    peak, log = peak_mb(Generated(pieces()))
    assert peak < 8
    assert [(number, len(line)) for number, line in numbered(log)] == [(1, 5), (2, LINE_CHARACTERS), (3, 4)]


NOISE = {
    "alike": lambda i: f"ERROR worker {i}: could not read sample {i * 7919 % 100_003}, retrying",
    "different": lambda i: (
        f"WARNING {chr(103 + i % 13)}{chr(103 + i // 13 % 13)}{i // 169:x}qz: failed, will try again"
    ),
}


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("at", [3_000, 30_000, 59_000])
def test_the_cause_is_kept_among_masses_of_harmless_errors(noise, at):
    texts = [NOISE[noise](i) for i in range(60_000)]
    texts[at] = "RuntimeError: the cause"
    log = read("##[group]Run python train.py", *texts, EXIT, "Post job cleanup.", "Cleaning up orphan processes")
    assert (at + 2, "RuntimeError: the cause") in numbered(log)
    assert len(numbered(log)) < 20_000


def test_much_is_kept_above_a_failing_exit_in_the_middle_of_a_huge_step():
    above = [f"quiet {i}" for i in range(20_000)]
    log = read("##[group]Run a", *above, EXIT, *above)
    kept = {number for number, _ in numbered(log)}
    assert set(range(20_002 - 300, 20_002 + 21)) <= kept
    assert 19_000 not in kept


def test_a_log_in_utf_16_is_read():
    raw = f"{STAMP}größer\r\n{STAMP}MemoryError\r\n".encode("utf-16")
    assert numbered(read_job_log(io.BytesIO(raw), job())) == [(1, "größer"), (2, "MemoryError")]


def test_of_very_many_steps_the_newest_and_the_failed_are_kept():
    steps = [line for i in range(BLOCKS + 200) for line in (f"##[group]Run make s{i}", EXIT if i == 5 else "fine")]
    parts = {part.step for part in read(*steps).parts}
    assert {"Run make s5", f"Run make s{BLOCKS + 199}"} <= parts
    assert "Run make s6" not in parts


def test_templates_are_those_of_every_line():
    lines = [f"{STAMP}\x1b[31mstep {i}\x1b[0m took {i} s" for i in range(12)] + ["bare", f"{STAMP}other"]
    lines += ["10 errors", "0 errors", "at 10:00:00 0 of 10"]
    found = read_templates(io.BytesIO("\n".join(lines).encode()))
    assert found == {template_hash(plain(line.encode())) for line in lines}
    assert template_hash("step 77 took 1234 s") in found


def test_many_long_steps_share_one_budget():
    def pieces() -> Iterator[bytes]:
        for step in range(60):
            yield f"##[group]Run make step{step}\n".encode()
            yield (b"error " + b"y" * 300 + b"\n") * 5_000
        yield b"##[group]Run make last\nMemoryError\n" + EXIT.encode() + b"\n"

    log = read_job_log(Generated(pieces()), job())
    lines = numbered(log)
    assert len(lines) <= TOTAL_LINES
    assert sum(len(line) for _, line in lines) <= TOTAL_BYTES
    assert lines[-2:] == [(log.total_lines - 1, "MemoryError"), (log.total_lines, EXIT)]


@given(st.binary(max_size=2_000))
def test_any_bytes_are_read_and_every_line_is_counted(raw):
    log = read_job_log(io.BytesIO(raw), job(("Set up job", "success"), ("Train", "failure")))
    assert log.total_lines == raw.count(b"\n") + (not raw.endswith(b"\n") and bool(raw))
    assert [number for number, _ in numbered(log)] == list(range(1, log.total_lines + 1))


PIECES = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"error", b"##[group]Run make\n", EXIT.encode() + b"\n", STAMP.encode(), b"y" * 9_000]
)


@given(st.lists(PIECES | st.binary(max_size=9), max_size=40).map(b"".join), st.integers(1, 40))
def test_how_a_log_arrives_makes_no_difference(raw, size):
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raw = b"x" + raw
    pieces = (raw[at : at + size] for at in range(0, len(raw), size))
    assert read_job_log(Generated(pieces), job()).parts == read_job_log(io.BytesIO(raw), job()).parts


def archive(members: dict[str, str], compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as written:
        for name, text in members.items():
            written.writestr(name, text)
    stream.seek(0)
    return stream


def test_an_archive_gives_the_steps_of_the_job():
    stream = archive(
        {
            "0_lint.txt": "no\n",
            "train _ fit/10_Late.txt": f"{STAMP}late\n",
            "train _ fit/2_Run make_all.txt": f"{STAMP}MemoryError\n{EXIT}\n",
            "train _ fit/1_Set up job.txt": f"{STAMP}hello\n",
            "lint/1_Set up job.txt": "no\n",
            "../../etc/1_passwd.txt": "no\n",
        }
    )
    log = read_log_zip(stream, job(("Set up job", "success"), ("Run make/all", "failure")))
    assert steps_of(log) == [
        (1, "Set up job", 1, ("hello",)),
        (2, "Run make/all", 2, ("MemoryError", EXIT)),
        (10, "Late", 4, ("late",)),
    ]


def test_an_archive_without_steps_gives_the_jobs_own_file():
    stream = archive({"0_lint.txt": "no\n", "1_train fit.txt": f"{STAMP}MemoryError\n"})
    assert numbered(read_log_zip(stream, job())) == [(1, "MemoryError")]


def test_an_archive_without_the_job_is_an_empty_log():
    assert read_log_zip(archive({"0_lint.txt": "no\n"}), job()).parts == ()


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (io.BytesIO(b"PK not an archive"), "cannot be read"),
        (archive({f"{i}_x.txt": "" for i in range(ZIP_MEMBERS + 1)}), "members"),
        (archive({f"{i}_x.txt": "x" * 2**20 for i in range(5)}, zipfile.ZIP_DEFLATED), "more than 4 MiB"),
    ],
    ids=["no archive", "too many members", "a bomb"],
)
def test_a_hostile_archive_is_malformed(stream, complaint, monkeypatch):
    monkeypatch.setattr(logzip, "ZIP_BYTES", 4 * 2**20)
    with pytest.raises(Malformed, match=complaint):
        read_log_zip(stream, job())


def test_a_damaged_member_is_malformed():
    raw = bytearray(archive({"0_train fit.txt": "hello hello hello\n"}).getvalue())
    at = raw.index(b"hello")
    raw[at : at + 5] = b"HELLO"
    with pytest.raises(Malformed):
        read_log_zip(io.BytesIO(bytes(raw)), job())

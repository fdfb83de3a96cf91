"""The Celery worker of bench_loop.py: the product's own tasks, wired as in production, but for two things.

GitHub is a twin in this process that only reads, without delay, and nobody is rung for reports and repairs, which
would write. Beside the product's tasks there is an empty one.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import BinaryIO, cast

from celery.signals import worker_process_init

from app.adapters.github.webhook import interpret
from app.db.store import SqlStore
from app.domain.evidence import Annotation, Job, JobStep
from app.domain.tenant import Repository
from app.ports.forge import App, FileText, Forge, RunInfo
from app.ports.queue import Doorbell, Work
from benchmarks.bench_loop import SHA
from workers import tasks

MODE = os.environ.get("BENCH_MODE", "observe")
BRANCH = "main"
CAUSES = (
    (
        "Traceback (most recent call last):",
        '  File "/home/runner/work/trainer/trainer/fetch.py", line 9, in <module>',
        "    urllib.request.urlopen(address, timeout=10).read()",
        "requests.exceptions.ConnectionError: ('Connection aborted.', "
        "ConnectionResetError(104, 'Connection reset by peer'))",
    ),
    (
        "epoch 0 step 0 batch 4096",
        "Traceback (most recent call last):",
        '  File "/home/runner/work/trainer/trainer/train.py", line 41, in <module>',
        "    hidden = np.maximum(batch @ weights, 0.0)",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 64.0 MiB for an array with shape (4096, 2048) "
        "and data type float64",
    ),
    (
        "  x No solution found when resolving dependencies:",
        "  ╰─▶ Because trainer-metrics==2.0 depends on trainer-base>=2 and you require trainer-base==1.4, we can",
        "      conclude that your requirements and trainer-metrics==2.0 are incompatible.",
        "      And because you require trainer-metrics==2.0, we can conclude that your requirements are unsatisfiable.",
    ),
    (
        *(f"step {step}: loss={0.7 * 3**step:.4f} learning_rate=10.0" for step in range(12)),
        "Traceback (most recent call last):",
        '  File "/home/runner/work/trainer/trainer/train.py", line 33, in <module>',
        "    raise FloatingPointError(f'loss is nan at step {step}')",
        "FloatingPointError: loss is nan at step 12",
    ),
    (
        "=================================== FAILURES ===================================",
        "E       assert 0.75 == 0.8",
        "tests/test_metric.py:14: AssertionError",
        "=========================== short test summary info ============================",
        "FAILED tests/test_metric.py::test_recall - assert 0.75 == 0.8",
        "========================= 1 failed, 11 passed in 0.31s =========================",
    ),
)


@cache
def job_log(cause: int) -> bytes:
    """About what the demo's jobs write: a hundred lines, with the failing step at their end."""
    lines = [
        "\ufeffCurrent runner version: '2.330.0'",
        "##[group]Operating System",
        "Ubuntu",
        "24.04",
        "LTS",
        "##[endgroup]",
        "Prepare workflow directory",
        "Complete job name: train",
        "##[group]Run actions/checkout@v4",
        "with:",
        "  repository: acme/trainer",
        "##[endgroup]",
        *(f"[command]/usr/bin/git config --local checkout.option-{number} true" for number in range(12)),
        "##[group]Run pip install -r requirements.txt",
        "\x1b[36;1mpip install -r requirements.txt\x1b[0m",
        "shell: /usr/bin/bash -e {0}",
        "##[endgroup]",
        *(
            f"Collecting package-{number}==1.{number}.0 (from -r requirements.txt (line {number}))"
            for number in range(20)
        ),
        *(f"  Downloading package_{number}-1.{number}.0-py3-none-any.whl (5.4 MB)" for number in range(20)),
        "Successfully installed package-0-1.0.0 package-1-1.1.0 package-2-1.2.0",
        "##[group]Run python train.py",
        "\x1b[36;1mpython train.py\x1b[0m",
        "shell: /usr/bin/bash -e {0}",
        "##[endgroup]",
        *(f"epoch 0 batch {number}: 512 rows read in 0.0{number} s" for number in range(10, 30)),
        *CAUSES[cause],
        "##[error]Process completed with exit code 1.",
        "Post job cleanup.",
        "[command]/usr/bin/git version",
        "Cleaning up orphan processes",
    ]
    return "".join(
        f"2026-11-21T09:{index // 60:02}:{index % 60:02}.1234567Z {text}\n" for index, text in enumerate(lines)
    ).encode()


class ReadOnlyForge:
    """One repository in which every run has failed. It has no method that writes: one that is called fails the round.

    The job's name tells the runs apart, so that each is an incident of its own.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def run(self, run_id: int) -> RunInfo:
        return RunInfo(
            id=run_id,
            attempt=1,
            status="completed",
            conclusion="failure",
            head_sha=SHA,
            head_branch=BRANCH,
            trigger="push",
            workflow_path=".github/workflows/build.yml",
            name="Build",
            url="",
            created_at=datetime(2026, 11, 21, tzinfo=UTC),
        )

    def jobs(self, run_id: int, attempt: int) -> list[Job]:
        names = ("Set up job", "Run actions/checkout@v4", "Run pip install -r requirements.txt", "Run python train.py")
        steps = tuple(JobStep(n, name, "failure" if n == len(names) else "success") for n, name in enumerate(names, 1))
        blank = Job(run_id, f"train ({run_id})", run_id, attempt, SHA, "failure", steps=steps)
        return [replace(blank, id=run_id + 1, name="lint", conclusion="success"), blank]

    def annotations(self, job: Job) -> list[Annotation]:  # noqa: ARG002
        return [Annotation("failure", "Process completed with exit code 1.", ".github", 94)]

    @contextmanager
    def job_log(self, job: Job) -> Iterator[BinaryIO]:
        yield io.BytesIO(job_log(job.run_id % len(CAUSES)))

    def file(self, path: str, ref: str, *, strict: bool = False) -> FileText | None:  # noqa: ARG002
        texts = {
            ".github/heal.yml": f"# how {self.repository.full_name} is healed\nversion: 1\nmode: {MODE}\n",
            "requirements.txt": "trainer-base==1.4\ntrainer-metrics==2.0\nnumpy==2.3.5\n",
        }
        return FileText(path, texts[path], "") if path in texts else None

    def owner_file(self, path: str) -> FileText | None:  # noqa: ARG002
        return None

    def paths(self, ref: str) -> list[str]:  # noqa: ARG002
        return ["README.md", "requirements.txt", "train.py", *(f"trainer/module_{number}.py" for number in range(30))]

    def branch_head(self, branch: str) -> str | None:
        return SHA if branch == BRANCH else None


class ReadOnlyApp:
    def forge(self, repository: Repository) -> Forge:
        return cast("Forge", ReadOnlyForge(repository))


class DeliveriesOnly:
    """Rings on for deliveries that waited for their mailbox; reports and repairs stay where they are."""

    def __init__(self, bell: Doorbell) -> None:
        self._bell = bell

    def ring(self, work: Work, row_id: int) -> None:
        if work is Work.DELIVERY:
            self._bell.ring(work, row_id)

    def reachable(self) -> bool:
        return self._bell.reachable()


@worker_process_init.connect
def replace_github(**_: object) -> None:
    """After the product's own wiring."""
    wired = tasks._wired[0]
    kit = replace(
        wired.kit,
        store=SqlStore(wired.engine, DeliveriesOnly(wired.bell)),
        app=cast("App", ReadOnlyApp()),
        parse=partial(interpret, app_slug="heal", app_id=1),
    )
    tasks._wired[:] = [replace(wired, kit=kit)]


@tasks.celery.task(name="bench.empty")
def empty(row_id: int) -> None:
    """What Celery alone costs."""


celery = tasks.celery

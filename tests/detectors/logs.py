"""Small logs in GitHub's format, made by hand."""

import io

from app.adapters.github.logs import read_job_log
from app.domain.event import RunFinished
from app.domain.evidence import Annotation, Job, JobLog, JobStep
from app.domain.tenant import Repository, Sender

STEPS = (
    JobStep(1, "Set up job", "success"),
    JobStep(2, "Run actions/checkout@v4", "success"),
    JobStep(3, "Train", "failure"),
    JobStep(4, "Post Run actions/checkout@v4", "success"),
    JobStep(5, "Complete job", "success"),
)


def stamped(*lines: str) -> bytes:
    return b"\xef\xbb\xbf" + "".join(f"2026-11-21T09:00:00.1234567Z {line}\n" for line in lines).encode()


def failing_log(
    *output: str,
    checkout: tuple[str, ...] = ("Syncing repository: acme/train",),
    after: tuple[str, ...] = (),
    exit_line: str = "##[error]Process completed with exit code 1.",
    name: str = "fit",
    annotations: tuple[Annotation, ...] = (),
) -> JobLog:
    """A job whose step "Train" wrote `output` and failed; `checkout` and `after` are what the steps around it wrote."""
    text = stamped(
        "Current runner version: '2.334.0'",
        "##[group]Run actions/checkout@v4",
        "with:",
        "##[endgroup]",
        *checkout,
        "##[group]Run python train.py",
        "python train.py",
        "shell: /usr/bin/bash -e {0}",
        "##[endgroup]",
        *output,
        exit_line,
        "Post job cleanup.",
        *after,
        "Cleaning up orphan processes",
    )
    return read_job_log(io.BytesIO(text), job(name), annotations)


def job(name: str = "fit", steps: tuple[JobStep, ...] = STEPS, conclusion: str = "failure") -> Job:
    return Job(id=7, name=name, run_id=5, attempt=1, head_sha="a" * 40, conclusion=conclusion, steps=steps)


def run_failed(workflow_path: str = ".github/workflows/train.yml") -> RunFinished:
    return RunFinished(
        repository=Repository(1, "acme/train", 3),
        sender=Sender("dev"),
        run_id=5,
        attempt=1,
        workflow="train",
        workflow_path=workflow_path,
        head_sha="a" * 40,
        head_branch="main",
        trigger="push",
        conclusion="failure",
    )

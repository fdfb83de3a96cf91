"""The benchmark's measure, on a small corpus made here and on a corpus beside the repository where there is one."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.bench_diagnosis import jobs_of, measure

BESIDE = Path(__file__).parents[2].parent / "shared" / "logs"
DEV = (
    ("MemoryError\n", "host_oom"),
    ("2026-11-21T09:00:00.1234567Z ERROR: No matching distribution found for a==3\n", "package_version_missing"),
    ("all good\n42 passed in 3.0s\n", "no_failure"),
    ("fit\tTrain\t\ufeff2026-11-21T09:00:00.1234567Z RuntimeError: CUDA out of memory.\n", "cuda_oom"),
)
NEEDLE = [f"epoch {i}" for i in range(900)]
NEEDLE[700] = "ModuleNotFoundError: No module named 'x'"


def made_here(folder: Path) -> Path:
    records = [
        {"id": f"made-{i}", "text": text, "label": label, "secondary_labels": []} for i, (text, label) in enumerate(DEV)
    ]
    (folder / "dev.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "needle.log.gz").write_bytes(gzip.compress("\n".join(NEEDLE).encode()))
    needle = {"id": "needle", "file": "needle.log.gz", "label": "module_not_found", "secondary_labels": []}
    where = {"root_cause_lines": [701], "equivalent_lines": [701], "tier": "gold"}
    (folder / "needles.jsonl").write_text(json.dumps(needle | where) + "\n")
    return folder


@pytest.mark.parametrize("corpus", ["made here", *([BESIDE] if BESIDE.is_dir() else [])], ids=str)
def test_the_diagnosis_holds_its_accuracy(corpus, tmp_path):
    report, _ = measure(made_here(tmp_path) if corpus == "made here" else corpus)
    assert report["dev"]["strict"] >= 0.97
    assert report["needles"]["label"] >= 0.88
    assert report["needles"]["hit@1"] >= 0.84


def test_the_jobs_of_a_command_line_log_keep_the_lines_of_the_file():
    text = (
        "lint\tRun ruff\t2026-11-21T09:00:00.1234567Z fine\n"
        "fit\tTrain\t2026-11-21T09:00:00.1234567Z MemoryError\n"
        "fit\tTrain\t2026-11-21T09:00:00.1234567Z ##[error]Process completed with exit code 1.\n"
    )
    (log,) = jobs_of(text)
    assert log.job.name == "fit"
    assert log.parts[0].lines[log.parts[0].first_line - 1 :][1] == "MemoryError"

"""The benchmark's measure, on a small corpus made here and on a corpus beside the repository where there is one."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.bench_diagnosis import Answer, Record, alternatives, answer, calibration_text, fitted, measure, records
from detectors.confidence import CALIBRATION, parse_calibration

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
    rows = [
        {"id": f"made-{i}", "text": text, "label": label, "secondary_labels": []} for i, (text, label) in enumerate(DEV)
    ]
    rows[1]["expected_fields"] = {"requirement": "a==3"}
    (folder / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "needle.log.gz").write_bytes(gzip.compress("\n".join(NEEDLE).encode()))
    needle = {"id": "needle", "file": "needle.log.gz", "label": "module_not_found", "secondary_labels": []}
    where = {"root_cause_lines": [701], "equivalent_lines": [701], "tier": "gold"}
    (folder / "needles.jsonl").write_text(json.dumps(needle | where) + "\n")
    return folder


@pytest.mark.parametrize("corpus", ["made here", *([BESIDE] if BESIDE.is_dir() else [])], ids=str)
def test_the_diagnosis_holds_its_accuracy(corpus, tmp_path):
    found = records(made_here(tmp_path) if corpus == "made here" else corpus)
    passed = [answer(record, green=True) for record in found if record.green is not None]
    report = measure([answer(record) for record in found], passed)
    assert report["dev"]["strict"] >= 0.97
    assert report["dev"]["macro F1"] >= 0.95
    assert report["dev"]["facts"] >= 0.95
    assert report["dev"]["false alarms"].startswith("0/")
    assert report["needles"]["label"] >= 0.9
    assert report["needles"]["hit@1"] >= 0.84
    assert report["needles"]["hit@5"] >= 0.95
    if passed:
        assert report["cidiff"]["hit@1"] >= 0.85
        assert report["cidiff, green"]["hit@1"] >= 0.9


def test_a_wrong_answer_lowers_the_figures(tmp_path):
    answers = [answer(record) for record in records(made_here(tmp_path))]
    answers[2] = Answer(answers[2].record, answers[0].causes)
    answers[4] = Answer(answers[4].record, answers[0].causes)
    report = measure(answers)
    assert (report["dev"]["strict"], report["dev"]["false alarms"]) == (0.75, "1/1")
    assert (report["needles"]["label"], report["needles"]["hit@5"]) == (0.0, 0.0)


def test_the_alternatives_of_a_pattern_are_told_apart_at_its_top_level():
    assert alternatives(r"(?i)a(b|c)|[|\]x]|d\|e") == [r"(?i)a(b|c)", r"(?i)[|\]x]", r"(?i)d\|e"]
    assert alternatives("[]|]a|b") == ["[]|]a", "b"]


def test_confidence_that_was_measured_is_written_and_read_back():
    assert parse_calibration(calibration_text(CALIBRATION)) == CALIBRATION


def test_what_was_answered_wrongly_is_trusted_less(tmp_path):
    record = records(made_here(tmp_path))[0]
    right = [answer(Record(**{**vars(record), "id": str(i)})) for i in range(20)]
    wrong = [Answer(Record(**{**vars(record), "label": "disk_full"}), right[0].causes)] * 10
    features = right[0].causes[0].features
    other = [Answer(Record(**{**vars(record), "label": "disk_full"}), right[0].causes)]
    assert fitted([*right, *other]).confidence(features) > fitted([*right, *wrong]).confidence(features) + 0.1
    assert fitted([*right, *other]).thresholds["host_oom"] > fitted([*right, *other]).confidence(features)

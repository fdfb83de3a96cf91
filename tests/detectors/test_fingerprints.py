"""Equal for the same cause across runs and machines, different for different causes."""

import pytest

from app.domain.evidence import EvidenceBag, JobLogs
from detectors.dependency_conflict import DependencyConflict
from detectors.pipeline_failure import PipelineFailure
from detectors.resource_constraint import ResourceConstraint
from tests.detectors.logs import failing_log, run_failed

SAME = [
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23 GiB",
        "RuntimeError: CUDA out of memory. Tried to allocate 90.00 MiB (GPU 3; 11.17 GiB total capacity; 3 GiB free)",
    ),
    ("Killed", "##[error]Process completed with exit code 137."),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/home/runner/work/train/train/data/train.csv'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/opt/actions/_work/train/train/data/train.csv'",
    ),
    (
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "curl: (6) Could not resolve host: mirror-17.example.org",
    ),
    (
        "FAILED tests/test_a.py::test_mean - assert 2.5 == 3.0",
        "FAILED tests/test_a.py::test_mean - assert 2.4999 == 3.0",
    ),
    (
        "FrobnicationError: frob 0x7ffe31 at 10.1.0.4:43121 broke after 12.5s (run 3f2a9bc0d1)",
        "FrobnicationError: frob 0x55aa at 127.0.0.1:80 broke after 3s (run deadbeef12)",
    ),
    ("Found 85 errors in 6 files (checked 13 source files)", "Found 3 errors in 1 file (checked 14 source files)"),
]
DIFFERENT = [
    ("MemoryError", "RuntimeError: CUDA out of memory."),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/home/runner/work/train/train/data/train.csv'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/home/runner/work/train/train/data/test.csv'",
    ),
    ("E   ModuleNotFoundError: No module named 'kenlm'", "E   ModuleNotFoundError: No module named 'opencc'"),
    (
        "FAILED tests/test_a.py::test_mean - assert 2.5 == 3.0",
        "FAILED tests/test_a.py::test_median - assert 2.5 == 3.0",
    ),
    (
        "ERROR: No matching distribution found for networkx==3.5",
        "ERROR: No matching distribution found for networkz==3.5",
    ),
    ("FrobnicationError: the frob is out of tune", "FrobnicationError: the frob is out of reach"),
    (
        "ValueError: Cannot convert non-finite values (NA or inf) to integer",
        "pandas.errors.EmptyDataError: No columns to parse from file",
    ),
    ("error: could not compile `tokenizers`", "src/a.c:13:10: fatal error: Python.h: No such file or directory"),
]


def fingerprint_of(*lines: str) -> str:
    evidence = EvidenceBag(JobLogs((failing_log("epoch 1", *lines),)))
    detectors = (PipelineFailure(), DependencyConflict(), ResourceConstraint())
    (finding,) = (finding for one in detectors for finding in one.detect(run_failed(), evidence))
    return finding.fingerprint


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_cause_elsewhere_has_the_same_fingerprint(one, other):
    assert fingerprint_of(one) == fingerprint_of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_causes_have_different_fingerprints(one, other):
    assert fingerprint_of(one) != fingerprint_of(other)


def test_tests_that_run_side_by_side_may_fail_in_any_order():
    mean, median = "FAILED tests/test_a.py::test_mean - assert 1 == 2", "FAILED tests/test_a.py::test_median - assert 2"
    count = "=================== 2 failed, 3 passed in 1.44s ==================="
    assert fingerprint_of(mean, median, count) == fingerprint_of(median, mean, count)

"""Exceptions are named for what they are: real ones where this machine can raise them, else their own words."""

import errno
import subprocess
import sys

import pytest
import torch

from workloads.contract import Failure, RunFailed
from workloads.failures import classify


def kind_of(error: BaseException) -> Failure | None:
    failed = classify(error)
    return failed and failed.kind


def raised(call) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_torch_without_host_memory_is_out_of_host_memory():
    failed = classify(raised(lambda: torch.empty(2**50, dtype=torch.uint8)))
    assert failed.kind is Failure.HOST_OOM
    assert failed.facts["asked_bytes"] == 2**50


def test_python_without_memory_is_out_of_host_memory():
    assert kind_of(raised(lambda: bytearray(2**60))) is Failure.HOST_OOM
    assert kind_of(OSError(errno.ENOMEM, "Cannot allocate memory")) is Failure.HOST_OOM


def test_a_cuda_oom_is_told_with_what_was_asked_for_and_free():
    said = (
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which "
        "512.00 MiB is free. Process 7 has 139.30 GiB memory in use."
    )
    failed = classify(torch.OutOfMemoryError(said))
    assert failed.kind is Failure.CUDA_OOM
    assert failed.facts == {"asked_bytes": int(2.5 * 2**30), "free_bytes": 512 * 2**20}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Failure.CUDA_OOM, RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
        (Failure.CUDA_OOM, RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported elsewhere")),
        (Failure.HOST_OOM, RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. ")),
        (Failure.HOST_OOM, RuntimeError("std::bad_alloc")),
        (
            Failure.COLLECTIVE_TIMEOUT,
            RuntimeError(
                "[../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 5000ms for recv operation to complete"
            ),
        ),
        (
            Failure.COLLECTIVE_TIMEOUT,
            RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:31337"),
        ),
        (
            Failure.COLLECTIVE_TIMEOUT,
            torch.distributed.DistBackendError(
                "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3, OpType=ALLREDUCE) "
                "ran for 600005 milliseconds before timing out."
            ),
        ),
        (Failure.COLLECTIVE_TIMEOUT, torch.distributed.DistStoreError("wait timeout after 5000ms, keys: /rank0")),
        (Failure.DISK_FULL, OSError(errno.ENOSPC, "No space left on device")),
        (Failure.DISK_FULL, OSError(errno.EDQUOT, "Disk quota exceeded")),
        (Failure.CANCELLED, KeyboardInterrupt()),
    ],
    ids=lambda each: str(each)[:40],
)
def test_what_libraries_say_is_understood(kind, error):
    assert kind_of(error) is kind


def test_a_library_that_is_missing_is_named():
    failed = classify(raised(lambda: __import__("no_such_library_xyz")))
    assert failed.kind is Failure.NOT_INSTALLED
    assert "no_such_library_xyz" in str(failed)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA out of memory"),  # somebody's words, of a class that no allocator raises
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        KeyError("timeout"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        RuntimeError("the memory of what was said is out of date"),
        ModuleNotFoundError("No module named 'workloads.gone'", name="workloads.gone"),
    ],
    ids=repr,
)
def test_what_is_not_known_is_not_named(error):
    assert classify(error) is None


def test_what_an_exception_came_from_counts():
    def call():
        try:
            bytearray(2**60)
        except MemoryError as error:
            raise ValueError("could not read the batch") from error

    assert kind_of(raised(call)) is Failure.HOST_OOM


def test_a_failure_that_was_told_stays_as_it_is():
    told = RunFailed(Failure.NAN_LOSS, "no", advice={"learning_rate": 1e-4})
    assert classify(told) is told


def test_it_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import workloads.failures"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Which failure an exception is, by its class and what it says. Standard library only: the one who asks need not have
torch. What is not known for sure is not named: None."""

import errno
import re
from collections.abc import Iterator

from workloads.contract import Failure, RunFailed

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# A message counts only on an exception of one of these classes, so that a test's or a user's text cannot pass for one.
_ERRORS = (RuntimeError, OSError, MemoryError)
_CUDA_OOM = re.compile(
    r"(CUDA|HIP) out of memory|CUDA error: out of memory|(CUBLAS|CUDNN|NCCL|CUSOLVER|CUFFT)\w*_ALLOC_FAILED"
    r"|Failed to CUDA calloc|cudaErrorMemoryAllocation",
)
_HOST_OOM = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc|Cannot allocate memory"
    r"|DataLoader worker \(pid.*\) (is killed by signal: (Killed|Bus error)|exited unexpectedly with exit code 137)"
    r"|out of shared memory"
)
_COLLECTIVE = re.compile(
    r"Watchdog caught collective operation timeout|[Tt]imed out waiting \d+ ?ms for|wait timeout after \d+ms, keys:"
    r"|NCCL.*([Tt]imeout|timed out|remote process exited)|ncclRemoteError"
    r"|client socket has (timed out|failed to connect)"
    r"|gloo.*([Tt]imeout|[Tt]imed out|Connection (closed|reset) by peer|Connection refused|Broken pipe)",
    re.DOTALL,
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+) ?(bytes|[KMGT]i?B)")
_FREE = re.compile(r"([\d.]+) ?(bytes|[KMGT]i?B) is free")
_BYTES = {"bytes": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def classify(error: BaseException) -> RunFailed | None:
    """What kind of failure this is, or what it came from; None: not one that is known, a bug.

    A RunFailed is given back as it is. Facts hold the bytes that were asked for and free, where the message tells.
    """
    for each in _chain(error):
        if isinstance(each, RunFailed):
            return each
        if (kind := _kind(each)) is not None:
            return RunFailed(kind, _message(kind, each), facts=_facts(str(each)))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from, as a traceback shows them."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _kind(error: BaseException) -> Failure | None:
    classes = {each.__name__ for each in type(error).__mro__}
    told = str(error)
    if isinstance(error, KeyboardInterrupt):
        return Failure.CANCELLED
    if isinstance(error, ModuleNotFoundError):
        # A module of our own that is missing is a bug, not something to install.
        return Failure.NOT_INSTALLED if error.name and error.name.split(".")[0] != "workloads" else None
    if not isinstance(error, _ERRORS):
        return Failure.DISK_FULL if "OperationalError" in classes and _DISK_FULL.search(told) else None
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return Failure.HOST_OOM
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return Failure.DISK_FULL
    if "OutOfMemoryError" in classes or _CUDA_OOM.search(told):
        return Failure.CUDA_OOM
    if _HOST_OOM.search(told):
        return Failure.HOST_OOM
    if classes & {"DistNetworkError", "DistStoreError"} or _COLLECTIVE.search(told):
        return Failure.COLLECTIVE_TIMEOUT
    return Failure.DISK_FULL if _DISK_FULL.search(told) else None


def _message(kind: Failure, error: BaseException) -> str:
    said = " ".join(str(error).split())[:500]
    match kind:
        case Failure.NOT_INSTALLED:
            what = "make workloads, or pip install 'self-healing-mlops-bot[workloads]', brings all that workloads need"
            return f"the library {getattr(error, 'name', said)} is not installed; {what}"
        case Failure.HOST_OOM:
            return f"out of memory: {said or type(error).__name__}"
        case Failure.COLLECTIVE_TIMEOUT:
            return f"another process of the run did not answer: {said}"
        case Failure.CANCELLED:
            return "somebody cancelled it"
        case _:
            return said or type(error).__name__


def _facts(told: str) -> dict[str, int]:
    found = {"asked_bytes": _TRIED.search(told), "free_bytes": _FREE.search(told)}
    return {
        name: int(float(at[1]) * _BYTES[at[2] if at[2] == "bytes" else at[2][0]]) for name, at in found.items() if at
    }

"""Several processes of one machine that train together: gloo on CPUs, NCCL on GPUs."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from workloads.contract import Failure, RunFailed
from workloads.failures import classify
from workloads.parent import end_with_parent

WAIT_S = 600.0  # for another process, before the run is given up
LAST_WORDS_S = 3.0  # for a process that has failed to say why
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@contextlib.contextmanager
def together(processes: int, meet: Path, backend: str, work: Callable[..., Any], *given: Any) -> Iterator[None]:
    """This process becomes the first of `processes`; each of the others runs `work(*given)`, which has to be a function
    of a module. They find each other by the file `meet`. Where another one fails, its reason is what is raised here.
    """
    if processes == 1:
        yield
        return
    meet.unlink(missing_ok=True)
    context = multiprocessing.get_context("spawn")
    words = context.SimpleQueue()
    others = [
        context.Process(target=_other, args=(rank, processes, str(meet), backend, words, work, given), daemon=True)
        for rank in range(1, processes)
    ]
    for other in others:
        other.start()
    try:
        _join(0, processes, meet, backend)
        yield
    except Exception as error:
        if isinstance(error, RunFailed) or (told := _last_words(words, error)) is None:
            raise
        raise told from error
    else:
        for other in others:
            other.join(WAIT_S)
    finally:
        for other in others:
            other.kill()
            other.join()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name in _NAMES:
            os.environ.pop(name, None)
        meet.unlink(missing_ok=True)


def _join(rank: int, processes: int, meet: Path, backend: str) -> None:
    os.environ.update(zip(_NAMES, map(str, (rank, rank, processes, processes)), strict=True))
    if backend == "nccl":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    torch.distributed.init_process_group(
        backend,
        init_method=f"file://{meet.absolute()}",
        rank=rank,
        world_size=processes,
        timeout=timedelta(seconds=WAIT_S),
    )


def _other(
    rank: int, processes: int, meet: str, backend: str, words: Any, work: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    end_with_parent()  # no process trains on for a first one that was killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first one is told, and tells
    try:
        _join(rank, processes, Path(meet), backend)
        work(*given)
        torch.distributed.destroy_process_group()
    except Exception as error:  # noqa: BLE001 - the first process tells it
        failed = classify(error) or RunFailed(Failure.BUG, f"process {rank}: {type(error).__name__}: {error}"[:2_000])
        words.put((failed.kind.value, str(failed), failed.advice, failed.facts))
        sys.exit(1)


def _last_words(words: Any, error: Exception) -> RunFailed | None:
    """Why another process failed, which is the reason, where this one has only waited for it in vain."""
    failed = classify(error)
    if failed is None or failed.kind is not Failure.COLLECTIVE_TIMEOUT:
        return failed
    until = time.monotonic() + LAST_WORDS_S
    while words.empty() and time.monotonic() < until:
        time.sleep(0.05)
    if words.empty():
        return failed
    kind, message, advice, facts = words.get()
    return RunFailed(Failure(kind), message, advice=advice, facts=facts)

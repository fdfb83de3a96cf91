"""Where mixtures come from: the bundled pack, a generated corpus, a manifest, or a folder of somebody's data.

Every source is a pure function of an example's number, so a resumed training goes on exactly where it was: the batch of
step s holds the examples s * batch … s * batch + batch - 1.
"""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from workloads.av_separation.mixing import Clip, Example, Floats, Mixer, Mixing
from workloads.av_separation.speech import corpus
from workloads.contract import Failure, RunFailed

__all__ = ["Batch", "Example", "Source", "batch_at", "batches", "fingerprint_of", "open_source"]

SPLITS = ("train", "valid", "test")
PACK = Path(__file__).parent / "speech" / "pack"


class Source(Protocol):
    def example(self, index: int) -> Example:
        """The same index gives the same example, in any process. Raises RunFailed."""
        ...


def open_source(
    spec: str,
    *,
    split: str,
    seconds: float = 2.0,
    speakers: int = 2,
    seed: int = 0,
    snr_db: tuple[float, float] = (-5.0, 5.0),
    noise: float = 0.0,
    reverb: float = 0.0,
    same_voice: float = 0.0,
    missing: float = 0.0,
    vary: bool | None = None,
) -> Source:
    """`spec` is "pack", "people" (the pack's recordings of people, who have no picture), or a path. `split` is train,
    valid or test. The shares are explained at Mixing; `vary` is on for training unless said. Raises RunFailed."""
    if split not in SPLITS:
        raise RunFailed(Failure.BAD_SETTING, f"split is {split!r}: say one of {', '.join(SPLITS)}")
    mixing = Mixing(
        seconds=seconds,
        speakers=speakers,
        seed=seed,
        snr_db=snr_db,
        noise=noise,
        reverb=reverb,
        missing=missing,
        same_voice=float(same_voice),
        vary=split == "train" if vary is None else vary,
    )
    return Mixer(_clips(spec, split), mixing)


def _clips(spec: str, split: str) -> list[Clip]:
    if spec in ("pack", "people"):
        return [*corpus.clips(PACK, split if spec == "pack" else spec)]
    path = Path(spec)
    if corpus.is_corpus(path):
        return [*corpus.clips(path, split)]
    raise RunFailed(Failure.DATA_MISSING, f"{path} is no data: say pack, or a corpus made with {corpus.__package__}")


def fingerprint_of(spec: str) -> str:
    """SHA-256 of the data: of names and contents."""
    return corpus.fingerprint(PACK if spec in ("pack", "people") else Path(spec))


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples, stacked: `mixture` (batch, samples), `mouths` (batch, speakers, frames, 48, 48), `seen` (batch,
    speakers, frames), `clean` (batch, speakers, samples), `snr_db` (batch,)."""

    mixture: Floats
    mouths: Floats
    seen: Floats
    clean: Floats
    snr_db: Floats


def batch_at(source: Source, first: int, batch: int) -> Batch:
    """The examples first … first + batch - 1."""
    examples = [source.example(first + number) for number in range(batch)]
    return Batch(
        np.stack([example.mixture for example in examples]),
        np.stack([example.mouths for example in examples]),
        np.stack([example.seen for example in examples]),
        np.stack([example.clean for example in examples]),
        np.asarray([example.snr_db for example in examples], np.float32),
    )


def batches(
    source: Source, batch: int, start: int = 0, *, step: int | None = None, workers: int = 0
) -> Iterator[Batch]:
    """Batches without end, from example `start` on; the next one begins `step` examples later (default: `batch`; more,
    where several processes share the stream). `workers` processes make them ahead, in the same order."""
    firsts = itertools.count(start, step or batch)
    if workers == 0:
        for first in firsts:
            yield batch_at(source, first, batch)
    # "spawn": a process that has started CUDA or threads must not be forked
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _take, (source,)) as pool:
        ahead = deque(pool.submit(_batch_at, next(firsts), batch) for _ in range(2 * workers))
        try:
            while True:
                made = ahead.popleft().result()
                ahead.append(pool.submit(_batch_at, next(firsts), batch))
                yield made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_taken: list[Source] = []  # of a worker's process


def _take(source: Source) -> None:
    _taken[:] = [source]


def _batch_at(first: int, batch: int) -> Batch:
    return batch_at(_taken[0], first, batch)

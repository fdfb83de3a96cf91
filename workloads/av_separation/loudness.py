"""Loudness: how loud a sound is to people, and making one as loud as another without clipping.

Integrated loudness and true peak are those of ITU-R BS.1770-5, for one channel.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import signal
from scipy.ndimage import minimum_filter1d

Floats = npt.NDArray[np.float32]

RATE = 16_000
CEILING_DBTP = -1.0  # leaves room for what a lossy codec adds
MOST_GAIN_DB = 12.0  # a voice that hardly speaks is not blown up to a roar
LOOK = 512  # samples (32 ms) over which the limiter turns the sound down and up again


def k_weighting(rate: int) -> npt.NDArray[np.float64]:
    """The two filters of ITU-R BS.1770-5, annex 1, as second-order sections (2, 6) for any rate.

    The recommendation prints coefficients for 48 kHz only. These are the analogue filters behind them (De Man,
    "Evaluation of implementations of the EBU R128 loudness measurement", AES 2018), by the bilinear transform.
    """
    k = np.tan(np.pi * 1681.974450955533 / rate)
    high, q = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    middle = high**0.4996667741545416
    a0 = 1 + k / q + k * k
    shelf = [high + middle * k / q + k * k, 2 * (k * k - high), high - middle * k / q + k * k]
    sections = [[*(np.array(shelf) / a0), 1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]]
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    a0 = 1 + k / q + k * k
    sections.append([1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0])
    return np.array(sections)


class Loudness:
    """Integrated loudness of one channel, ITU-R BS.1770-5: blocks of 400 ms, three quarters overlapping, gated at
    -70 LUFS and then 10 LU below the mean of the rest. It takes the sound in pieces."""

    def __init__(self, rate: int = RATE) -> None:
        self._sections = k_weighting(rate)
        self._state = np.zeros((len(self._sections), 2))
        self._hop = rate // 10
        self._rest = np.zeros(0)
        self._energies: list[float] = []  # mean squares of 100 ms each

    def add(self, block: Floats) -> None:
        weighted, self._state = signal.sosfilt(self._sections, block.astype(np.float64), zi=self._state)
        weighted = np.concatenate([self._rest, weighted])
        whole = len(weighted) // self._hop
        self._energies.extend(np.mean(weighted[: whole * self._hop].reshape(whole, self._hop) ** 2, axis=1).tolist())
        self._rest = weighted[whole * self._hop :]

    def value(self) -> float:
        """LUFS; -inf for silence and for less than 400 ms."""
        if len(self._energies) < 4:
            return -np.inf
        blocks = np.convolve(self._energies, np.full(4, 0.25), "valid")
        blocks = blocks[blocks > _power(-70.0)]
        if not blocks.size:
            return -np.inf
        blocks = blocks[blocks > _power(_lufs(float(blocks.mean())) - 10.0)]
        return _lufs(float(blocks.mean()))


def _lufs(power: float) -> float:
    return -0.691 + 10 * float(np.log10(power))


def _power(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def loudness(sound: Floats, rate: int = RATE) -> float:
    """Integrated loudness of `sound` (samples,), LUFS."""
    meter = Loudness(rate)
    meter.add(sound)
    return meter.value()


def true_peak(sound: Floats) -> float:
    """The greatest value between the samples, too: four times oversampled, as BS.1770-5, annex 2, asks."""
    if not sound.size:
        return 0.0
    return float(np.abs(signal.resample_poly(sound, 4, 1)).max(initial=0.0))


def limited(sound: Floats, gain: float, block: int = RATE * 10) -> Iterator[Floats]:
    """`sound` times `gain`, in pieces, nowhere above the ceiling of -1 dBTP: turned down softly around each peak.

    `sound` may be a file mapped to memory: a piece is read at a time."""
    ceiling = 10 ** (CEILING_DBTP / 20)
    for start in range(0, len(sound), block):
        stop = min(start + block, len(sound))
        left, right = max(0, start - 2 * LOOK), min(len(sound), stop + 2 * LOOK)
        piece = np.asarray(sound[left:right], np.float32) * np.float32(gain)
        core = piece[start - left : stop - left]
        if np.abs(piece).max(initial=0) < 0.5 * ceiling:  # between two samples it cannot be twice as high
            yield core
            continue
        over = np.abs(signal.resample_poly(piece, 4, 1)).reshape(-1, 4)
        wanted = np.minimum(1.0, ceiling / np.maximum(over.max(axis=1), 1e-9))
        if wanted.min() >= 1.0:
            yield core
            continue
        width = 2 * LOOK + 1
        window = np.hanning(width + 2)[1:-1]
        lowest = minimum_filter1d(wanted, width, mode="nearest")
        soft = np.convolve(np.pad(lowest, LOOK, mode="edge"), window / window.sum(), "valid")  # never above `wanted`
        yield (core * soft[start - left : stop - left]).astype(np.float32)


def matching_gain(of: float, to: float) -> float:
    """What makes a sound of loudness `of` as loud as `to` (LUFS): a factor, limited; 1 where one is silent."""
    if not (np.isfinite(of) and np.isfinite(to)):
        return 1.0
    return float(10 ** (min(to - of, MOST_GAIN_DB) / 20))

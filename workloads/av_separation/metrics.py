"""How good an estimate is. Arrays of numpy or tensors of torch go in, one number comes out.

`si_snr` and `si_sdr` (Le Roux, Wisdom, Erdogan and Hershey 2019), `sdr` of BSS Eval 3 (Vincent, Gribonval and Févotte
2006; one filter of 512 taps is forgiven) in decibels; `pesq` (ITU-T P.862.2, wide band) as MOS-LQO; `stoi` (Taal,
Hendriks, Heusdens and Jensen 2011) from 0 to 1. The last two are the packages of these names.

A number that does not exist is never made up: `Undefined` says why. `measure` turns that into `Unavailable`.
"""

import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import LinAlgError, lstsq, solve, toeplitz
from scipy.optimize import linear_sum_assignment

from workloads.contract import Measured, Metric, Unavailable

RATE = 16_000
"""Samples a second of PESQ (wide band) and STOI here."""
FILTER_TAPS = 512

Floats = NDArray[np.float64]
Measure = Callable[[Any, Any], float]


class Undefined(ValueError):
    """There is no such number for these sounds, and why."""


def si_snr(estimate: Any, clean: Any) -> float:
    """Scale-invariant SNR in dB: of both, the mean is taken away first. (samples,), (samples,)"""
    return si_sdr(estimate, clean, zero_mean=True)


def si_sdr(estimate: Any, clean: Any, *, zero_mean: bool = False) -> float:
    """Scale-invariant SDR in dB; infinite where the estimate is the voice, scaled. (samples,), (samples,)"""
    heard, voice = _pair(estimate, clean)
    if zero_mean:
        heard, voice = heard - heard.mean(), voice - voice.mean()
        _loud(heard, "the estimate")
        _loud(voice, "the clean voice")
    target = (heard @ voice) / (voice @ voice) * voice
    return _decibels(float(target @ target), float(((heard - target) ** 2).sum()))


def sdr(estimate: Any, clean: Any, *, taps: int = FILTER_TAPS) -> float:
    """SDR of BSS Eval 3 in dB: what a filter of `taps` can make of the clean voice counts as right.

    (samples,), (samples,). Equals `mir_eval.separation.bss_eval_sources` and `fast_bss_eval.sdr`.
    """
    heard, voice = _pair(estimate, clean)
    voice, heard = voice / np.linalg.norm(voice), heard / np.linalg.norm(heard)
    length = next_fast_len(len(voice) + taps - 1, real=True)
    spectrum = rfft(voice, length)
    own = irfft(np.abs(spectrum) ** 2, length)[:taps]
    cross = irfft(spectrum.conj() * rfft(heard, length), length)[:taps]
    matrix = toeplitz(own)
    try:
        filtered = solve(matrix, cross, assume_a="pos")
    except LinAlgError:  # a voice without some frequencies: many filters fit, any will do
        filtered = lstsq(matrix, cross)[0]
    right = irfft(rfft(filtered, length) * spectrum, length)[: len(voice) + taps - 1]
    wrong = np.pad(heard, (0, taps - 1)) - right
    return _decibels(float(right @ right), float(wrong @ wrong))


def pesq(estimate: Any, clean: Any) -> float:
    """PESQ, wide band, at 16 kHz: MOS-LQO from 1.0 to 4.6. Raises Undefined where it finds no speech."""
    heard, voice = _pair(estimate, clean)
    package = _package("pesq")
    # PESQ cuts to 16-bit numbers, so both are brought to one level that does not clip.
    peak = max(np.abs(heard).max(), np.abs(voice).max(), 1.0)
    try:
        return float(package.pesq(RATE, voice / peak, heard / peak, "wb"))
    except (package.NoUtterancesError, package.BufferTooShortError) as error:
        raise Undefined(f"PESQ: {_words(error)}") from None


def stoi(estimate: Any, clean: Any) -> float:
    """STOI at 16 kHz, 0 to 1 (it can fall a little below 0). Raises Undefined for less than 0.4 s of speech."""
    heard, voice = _pair(estimate, clean)
    package = _package("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # it warns and answers 1e-5 where there is too little speech
        try:
            return float(package.stoi(voice, heard, RATE, extended=False))
        except RuntimeWarning as error:
            raise Undefined(f"STOI: {_words(error)}") from None


def best_order(estimates: Any, cleans: Any) -> tuple[int, ...]:
    """For each clean voice, the estimate that is it: the order with the greatest sum of SI-SNR.

    (speakers, samples), (speakers, samples). A silent estimate fits no voice better than another.
    """
    heard, voices = _array(estimates), _array(cleans)
    if heard.ndim != 2 or heard.shape != voices.shape:
        raise ValueError(f"{heard.shape} estimates do not fit {voices.shape} voices: both are (speakers, samples)")
    table = [[_or_worst(estimate, voice) for estimate in heard] for voice in voices]
    _, columns = linear_sum_assignment(np.asarray(table), maximize=True)
    return tuple(int(column) for column in columns)


def improvement(of: Measure, estimate: Any, clean: Any, mixture: Any) -> float:
    """How much more than the mixture itself: SI-SNRi is `improvement(si_snr, …)`, SDRi `improvement(sdr, …)`."""
    return of(estimate, clean) - of(mixture, clean)


def measure(of: Callable[..., float], unit: str, *sounds: Any) -> Metric:
    """The number with its unit, or why there is none."""
    try:
        value = of(*sounds)
    except Undefined as error:
        return Unavailable(str(error))
    if not math.isfinite(value):
        return Unavailable(f"{getattr(of, '__name__', 'the measure')} is {value}: the estimate is the voice itself")
    return Measured(value, unit)


def interval(values: Sequence[float], *, seed: int = 0, draws: int = 2_000, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap of the mean (Efron and Tibshirani 1993). One value alone is its own interval."""
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        raise Undefined("there is nothing to draw from")
    chance = np.random.default_rng([seed, len(numbers)])
    means = numbers[chance.integers(len(numbers), size=(draws, len(numbers)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _array(sound: Any) -> Floats:
    if hasattr(sound, "detach"):  # a tensor; torch itself is not needed here
        sound = sound.detach().float().cpu().numpy()
    return np.asarray(sound, dtype=np.float64)


def _pair(estimate: Any, clean: Any) -> tuple[Floats, Floats]:
    heard, voice = _array(estimate), _array(clean)
    if heard.ndim != 1 or heard.shape != voice.shape or not len(voice):
        raise ValueError(f"an estimate of {heard.shape} does not fit a voice of {voice.shape}: both are (samples,)")
    for sound, name in ((heard, "the estimate"), (voice, "the clean voice")):
        if not np.isfinite(sound).all():
            raise Undefined(f"{name} holds NaN or infinite samples")
        _loud(sound, name)
    return heard, voice


def _loud(sound: Floats, name: str) -> None:
    """Sum of squares below 1e-20: nothing but rounding."""
    if sound @ sound < 1e-20:
        raise Undefined(f"{name} is silent")


def _decibels(right: float, wrong: float) -> float:
    if wrong <= 0:
        return math.inf
    return 10 * math.log10(right / wrong) if right > 0 else -math.inf


def _or_worst(estimate: Floats, voice: Floats) -> float:
    try:
        return max(min(si_snr(estimate, voice), 200.0), -200.0)
    except Undefined:
        return -200.0


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Undefined(f"the package {name} is not installed") from None


def _words(error: BaseException) -> str:
    told = error.args[0] if error.args else type(error).__name__
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told).split("\n")[0][:200]

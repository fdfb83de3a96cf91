"""Each metric equals its public oracle; what has no number says so."""

import math
import sys
import warnings

import fast_bss_eval
import numpy as np
import pesq as pesq_package
import pystoi
import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from workloads.av_separation import metrics
from workloads.av_separation.metrics import Undefined
from workloads.contract import Measured, Unavailable

ORACLE_DB = 1e-3
RATE = 16_000


def voice(seed: int, seconds: float = 1.5) -> np.ndarray:
    """Something like speech: a gliding harmonic tone in bursts, with a little noise. float32"""
    chance = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = 110 * 2 ** chance.uniform(0, 1) * (1 + 0.2 * np.sin(2 * np.pi * chance.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    bursts = np.clip(np.sin(2 * np.pi * chance.uniform(2, 4) * time + chance.uniform(0, 6)), 0.02, None)
    return (0.1 * tone * bursts + 0.003 * chance.standard_normal(len(time))).astype(np.float32)


def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    """Estimates from very good to useless, one filtered, one off by a constant."""
    clean, other = voice(1), voice(2)
    echo = np.convolve(clean, [0.6, 0, 0, 0.3, -0.2])[: len(clean)].astype(np.float32)
    leaks = [0.001, 0.1, 1.0, 10.0]
    return [(clean + leak * other, clean) for leak in leaks] + [
        (echo + 0.05 * other, clean),
        (clean + other + 0.1, clean),
    ]


@pytest.mark.parametrize(("estimate", "clean"), cases())
def test_si_snr_is_what_torchmetrics_says(estimate, clean):
    oracle = float(
        scale_invariant_signal_noise_ratio(*(torch.tensor(a, dtype=torch.float64) for a in (estimate, clean)))
    )
    assert metrics.si_snr(estimate, clean) == pytest.approx(oracle, abs=ORACLE_DB)
    assert metrics.si_snr(torch.tensor(estimate), torch.tensor(clean)) == metrics.si_snr(estimate, clean)


@pytest.mark.parametrize(("estimate", "clean"), cases())
def test_si_sdr_and_sdr_are_what_fast_bss_eval_says(estimate, clean):
    pair = clean[None].astype(np.float64), estimate[None].astype(np.float64)
    assert metrics.si_sdr(estimate, clean) == pytest.approx(fast_bss_eval.si_sdr(*pair)[0], abs=ORACLE_DB)
    assert metrics.sdr(estimate, clean) == pytest.approx(fast_bss_eval.sdr(*pair)[0], abs=ORACLE_DB)


def test_sdr_and_the_best_order_are_what_mir_eval_says():
    cleans = np.stack([voice(1), voice(2)])
    estimates = np.stack([cleans[1] + 0.2 * cleans[0], cleans[0] + 0.3 * cleans[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from mir_eval.separation import bss_eval_sources

        oracle, _, _, order = bss_eval_sources(cleans.astype(np.float64), estimates.astype(np.float64))
    mine = metrics.best_order(estimates, cleans)
    assert mine == tuple(order) == (1, 0)
    found = [metrics.sdr(estimates[mine[k]], cleans[k]) for k in range(2)]
    assert found == pytest.approx(list(oracle), abs=ORACLE_DB)


def test_the_best_order_of_five_voices_is_found_whatever_the_levels():
    cleans = np.stack([voice(seed) for seed in range(5)])
    shuffled = [3, 0, 4, 2, 1]
    estimates = np.stack([cleans[k] * 10.0 ** (k - 2) + 0.01 * cleans[(k + 1) % 5] for k in shuffled])
    assert [shuffled[k] for k in metrics.best_order(estimates, cleans)] == [0, 1, 2, 3, 4]


def test_pesq_is_told_reference_and_estimate_in_their_places():
    clean, other = voice(1), voice(2)
    worse = clean + other
    assert metrics.pesq(worse, clean) == pytest.approx(pesq_package.pesq(RATE, clean, worse, "wb"), abs=1e-3)
    assert metrics.pesq(worse, clean) != pytest.approx(pesq_package.pesq(RATE, worse, clean, "wb"), abs=1e-3)
    assert metrics.pesq(clean + 0.05 * other, clean) > metrics.pesq(worse, clean)


def test_stoi_is_told_reference_and_estimate_in_their_places():
    clean, worse = voice(1), voice(1) + voice(2)
    assert metrics.stoi(worse, clean) == pytest.approx(pystoi.stoi(clean, worse, RATE), abs=1e-6)
    assert metrics.stoi(worse, clean) != pytest.approx(pystoi.stoi(worse, clean, RATE), abs=1e-4)


def test_an_improvement_is_over_the_mixture():
    clean, other = voice(1), voice(2)
    mixture, estimate = clean + other, clean + 0.1 * other
    assert metrics.improvement(metrics.si_snr, estimate, clean, mixture) == pytest.approx(20, abs=0.5)
    assert metrics.improvement(metrics.si_snr, mixture, clean, mixture) == 0


@pytest.mark.parametrize("of", [metrics.si_snr, metrics.si_sdr, metrics.sdr, metrics.pesq, metrics.stoi])
@pytest.mark.parametrize("broken", ["silent estimate", "silent voice", "NaN"])
def test_silence_and_nan_have_no_number(of, broken):
    clean, estimate = voice(1), voice(1) + voice(2)
    match broken:
        case "silent estimate":
            estimate = np.zeros_like(clean)
        case "silent voice":
            clean = np.zeros_like(clean)
        case "NaN":
            estimate[7] = np.nan
    with pytest.raises(Undefined, match=r"silent|NaN"):
        of(estimate, clean)
    assert isinstance(metrics.measure(of, "dB", estimate, clean), Unavailable)


def test_a_constant_has_no_si_snr():
    with pytest.raises(Undefined, match="estimate is silent"):
        metrics.si_snr(np.full(8000, 0.5), voice(1, 0.5))


@pytest.mark.parametrize("of", [metrics.si_snr, metrics.sdr, metrics.pesq, metrics.stoi])
def test_sounds_of_other_lengths_are_refused(of):
    with pytest.raises(ValueError, match=r"\(100,\) does not fit a voice of \(101,\)"):
        of(np.ones(100), np.ones(101))


def test_too_little_speech_for_stoi_is_no_number():
    assert isinstance(metrics.measure(metrics.stoi, "", voice(1, 0.2) + voice(2, 0.2), voice(1, 0.2)), Unavailable)


def test_too_little_speech_for_pesq_is_no_number():
    assert isinstance(metrics.measure(metrics.pesq, "MOS", voice(1, 0.1) + voice(2, 0.1), voice(1, 0.1)), Unavailable)


@pytest.mark.parametrize(("of", "package"), [(metrics.pesq, "pesq"), (metrics.stoi, "pystoi")])
def test_a_package_that_is_not_installed_leaves_a_reason_and_no_number(monkeypatch, of, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert metrics.measure(of, "", voice(1) + voice(2), voice(1)) == Unavailable(
        f"the package {package} is not installed"
    )


def test_an_estimate_that_is_the_voice_itself_is_infinite_and_not_measured():
    clean = voice(1)
    assert metrics.si_sdr(clean, clean) == math.inf
    assert isinstance(metrics.measure(metrics.si_sdr, "dB", clean, clean), Unavailable)
    assert metrics.measure(metrics.si_sdr, "dB", clean + voice(2), clean) == Measured(
        metrics.si_sdr(clean + voice(2), clean), "dB"
    )


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says():
    chance = np.random.default_rng(3)
    held = 0
    for trial in range(200):
        low, high = metrics.interval(list(chance.normal(5, 2, size=50)), seed=trial, draws=300)
        held += low <= 5 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_the_interval_of_nothing_is_refused():
    with pytest.raises(Undefined):
        metrics.interval([])

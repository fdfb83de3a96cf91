"""An evaluation tells what lips are worth: checked with models whose gain is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from workloads.av_separation import evaluate, metrics
from workloads.av_separation.config import Evaluate
from workloads.av_separation.mixing import Example
from workloads.contract import Measured, Unavailable

CONFIG = Evaluate(preset="tiny", mixtures=4, seconds=0.64, device="cpu", perceptual=False)


class Noises:
    """Each mouth's brightness is the number of its voice, 1 or 2 tenths."""

    def __init__(self, spec: str, *, seconds: float, seed: int, same_voice: float, **_: object) -> None:
        self.frames, self.seed, self.same = round(seconds * 25), seed, bool(same_voice)

    def example(self, index: int) -> Example:
        chance = np.random.default_rng([self.seed, index, self.same])
        clean = (0.1 * chance.standard_normal((2, self.frames * 640))).astype(np.float32)
        mouths = np.ones((2, self.frames, 48, 48), np.float32) * np.array([0.1, 0.2], np.float32)[:, None, None, None]
        seen = np.ones((2, self.frames), np.float32)
        return Example(mixture=clean.sum(0), mouths=mouths, seen=seen, clean=clean, snr_db=0.0)


class Told(torch.nn.Module):
    """Knows the voices of each mixture, and gives each mouth its own with a tenth of the other: 20 dB. Where it sees
    nothing, in the wrong order and with a half: 6 dB."""

    def __init__(self) -> None:
        super().__init__()
        self.none = torch.nn.Parameter(torch.zeros(()))
        self.known = {}
        for same in (0.0, 1.0):
            source = Noises("", seconds=CONFIG.seconds, seed=CONFIG.seed, same_voice=same)
            for index in range(CONFIG.mixtures):
                example = source.example(index)
                self.known[example.mixture.tobytes()] = torch.from_numpy(example.clean)

    def forward(self, mixture, mouths, seen):
        clean = self.known[mixture[0].numpy().tobytes()]
        other = clean.flip(0)
        if not seen.any():
            return (other + 0.5 * clean)[None]
        right = (mouths[0, 0, 0, 0, 0] < 0.15) & (mouths[0, 1, 0, 0, 0] > 0.15)
        return (clean + 0.1 * other if right else other + 0.1 * clean)[None]


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "_model", lambda config: (Told(), "known"))
    monkeypatch.setattr(evaluate.data, "fingerprint_of", lambda spec: "0" * 64)
    return evaluate.run_evaluate(CONFIG, Quiet(tmp_path), open_source=Noises)


class Quiet:
    def __init__(self, out: Path) -> None:
        self.out, self.resume, self.points = out, None, {}

    def event(self, name, /, **fields): ...

    def progress(self, done, total, unit, **figures): ...

    def metric(self, name, value, step, unit=""):
        self.points[name] = value

    def check(self): ...


def test_each_condition_has_its_gain(report):
    found = {name: metric.value for name, metric in report.metrics.items() if isinstance(metric, Measured)}
    assert found["si_snri_db"] == pytest.approx(20, abs=0.5)
    assert found["si_snri_db_wrong_lips"] == pytest.approx(-20, abs=0.5)
    assert found["si_snri_db_no_lips"] == pytest.approx(6, abs=0.5)  # the order is free there
    assert found["si_snri_db_same_voice"] == pytest.approx(20, abs=0.5)
    assert found["lips_gap_db"] == pytest.approx(40, abs=1)
    assert found["lips_gap_same_voice_db"] == pytest.approx(40, abs=1)
    assert found["sdri_db"] > 19
    assert found["si_snri_db_low"] <= found["si_snri_db"] <= found["si_snri_db_high"]
    assert report.metrics["si_snri_db"].unit == "dB"


def test_what_was_not_asked_for_is_no_metric(report):
    assert not [name for name in report.metrics if "pesq" in name or "stoi" in name]


def test_every_voice_has_its_line_and_the_means_are_theirs(report, tmp_path):
    lines = [json.loads(line) for line in (tmp_path / report.artefacts["examples"]).read_text().splitlines()]
    assert len(lines) == CONFIG.mixtures * 2 * len(evaluate.CONDITIONS)
    own = [line["si_snri_db"] for line in lines if line["condition"] == "true_lips"]
    assert report.metrics["si_snri_db"].value == pytest.approx(np.mean(own), abs=1e-3)
    table = json.loads((tmp_path / report.artefacts["summary"]).read_text())
    assert table["conditions"]["true_lips"]["si_snri_db"]["voices"] == 8
    assert report.drift["batches"] == CONFIG.mixtures


def test_a_measure_without_a_number_keeps_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.data, "fingerprint_of", lambda spec: "0" * 64)
    monkeypatch.setattr(evaluate, "_model", lambda config: (Told(), "known"))
    monkeypatch.setattr(metrics, "_package", lambda name: (_ for _ in ()).throw(metrics.Undefined(f"no {name}")))
    config = Evaluate(mixtures=1, seconds=0.64, device="cpu", perceptual=True)
    found = evaluate.run_evaluate(config, Quiet(tmp_path), open_source=Noises).metrics
    assert found["pesq_mos"] == Unavailable("no pesq")
    assert found["stoi_no_lips"] == Unavailable("no pystoi")
    assert isinstance(found["si_snri_db"], Measured)


def test_the_mixture_as_it_is_stands_beside_what_was_separated(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.data, "fingerprint_of", lambda spec: "0" * 64)
    monkeypatch.setattr(evaluate, "_model", lambda config: (Told(), "known"))
    monkeypatch.setattr(metrics, "pesq", lambda estimate, clean: metrics.si_snr(estimate, clean))
    monkeypatch.setattr(metrics, "stoi", lambda estimate, clean: 0.5)
    config = Evaluate(mixtures=2, seconds=0.64, device="cpu", perceptual=True)
    found = evaluate.run_evaluate(config, Quiet(tmp_path), open_source=Noises).metrics
    assert found["pesq_mos_mixture"].value == pytest.approx(0, abs=0.5)
    assert found["pesq_mos"].value == pytest.approx(20, abs=0.5)
    assert "si_snri_db_mixture" not in found


def test_untrained_weights_are_said_to_be(tmp_path):
    _, says = evaluate._model(CONFIG)
    assert "untrained" in says

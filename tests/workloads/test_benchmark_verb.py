"""The verb `benchmark`: what it measures is what the bot's benchmark_model reads."""

import json
import sys
from pathlib import Path

import pytest
import torch

from actions.benchmark_baseline import compare, read, remembered
from benchmarks import av_peers, bench_av
from workloads.av_separation import benchmark
from workloads.av_separation.benchmark import run_benchmark
from workloads.av_separation.config import Benchmark
from workloads.av_separation.model import build, parameters, save_weights
from workloads.contract import Failure, Measured, RunFailed, Unavailable
from workloads.measure import Baselines, machine_class
from workloads.supervise import reported

QUICK = {"preset": "tiny", "seconds": 0.32, "repeats": 5, "warmup": 1, "device": "cpu", "threads": 1}


class Watched:
    """A run that keeps what it is told."""

    resume = None

    def __init__(self, out: Path, stop_after: int | None = None) -> None:
        self.out = out
        self.events: list[tuple[str, dict]] = []
        self.steps = 0
        self._stop_after = stop_after

    def event(self, name, **fields):
        self.events.append((name, fields))

    def progress(self, done, total, unit, **figures):
        self.steps += 1

    def metric(self, name, value, step, unit=""):
        pass

    def check(self):
        if self._stop_after is not None and self.steps >= self._stop_after:
            raise RunFailed(Failure.CANCELLED, "somebody cancelled it")


@pytest.fixture
def run(tmp_path):
    return Watched(tmp_path)


def written(report) -> bytes:
    """The file that the runner leaves."""
    samples = [
        {"name": each.name, "unit": each.unit, "better": each.better, "values": list(each.values)}
        for each in report.samples
    ]
    record = {"outcome": "succeeded", "samples": samples, "machine_class": machine_class()}
    return json.dumps(reported(record), allow_nan=False).encode()


def test_the_bot_reads_the_report_and_compares_it_with_itself(run):
    report = run_benchmark(Benchmark(**QUICK), run)
    told = read(written(report), least=5)
    assert [each.name for each in told.metrics] == ["latency_ms", "throughput", "peak_memory_mb"]
    assert all(len(each.samples) == 5 for each in told.metrics)
    assert not compare(told, [remembered(told, "1", "now")], 0.05, "seed").regressed
    assert run.steps == 5


def test_what_is_told_agrees_with_itself(run):
    report = run_benchmark(Benchmark(**QUICK, batch=2), run)
    figures = {name: each.value for name, each in report.metrics.items() if isinstance(each, Measured)}
    latency = {each.name: each.values for each in report.samples}["latency_ms"]
    assert min(latency) == pytest.approx(figures["latency_least_ms"])
    assert figures["real_time_factor"] == pytest.approx(figures["latency_p50_ms"] / 1000 / (2 * 0.32))
    assert figures["throughput_s_per_s"] * figures["real_time_factor"] == pytest.approx(1)
    assert figures["parameters"] == parameters(build("tiny"))
    assert figures["flops_per_audio_s"] > 1e6
    assert isinstance(report.metrics["latency_p99_ms"], Unavailable)  # of five passes
    assert "no NVIDIA GPU" in report.metrics["energy_j_per_audio_s"].reason
    assert "untrained" in report.notes[0]


def test_the_threads_are_as_they_were_afterwards(run):
    run_benchmark(Benchmark(**{**QUICK, "threads": 2}), run)
    assert torch.get_num_threads() == 1


def test_trained_weights_are_measured_and_named(run, tmp_path):
    save_weights(build("tiny"), tmp_path / "model.safetensors", "tiny")
    for place in ("model.safetensors", "."):
        report = run_benchmark(Benchmark(**{**QUICK, "preset": "small"}, checkpoint=str(tmp_path / place)), run)
        assert report.metrics["parameters"].value == parameters(build("tiny"))
        assert report.notes[0].startswith("weights model.safetensors, SHA-256 ")


@pytest.mark.parametrize("name", ["nothing.safetensors", "empty"])
def test_weights_that_are_not_there_are_told(run, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFailed) as told:
        run_benchmark(Benchmark(**QUICK, checkpoint=str(tmp_path / name)), run)
    assert told.value.kind is Failure.DATA_MISSING


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_a_bad_setting(run):
    with pytest.raises(RunFailed, match="torch sees no GPU") as told:
        run_benchmark(Benchmark(**{**QUICK, "device": "cuda"}), run)
    assert told.value.kind is Failure.BAD_SETTING


def test_half_precision_runs(run):
    assert run_benchmark(Benchmark(**QUICK, precision="bf16"), run).samples


def test_too_little_memory_advises_half_the_batch(run, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(benchmark, "_timed", full)
    with pytest.raises(RunFailed) as told:
        run_benchmark(Benchmark(**QUICK, batch=4), run)
    assert (told.value.kind, told.value.advice["batch"]) == (Failure.CUDA_OOM, 2)


def test_a_cancelled_benchmark_ends_after_the_pass_it_is_in(tmp_path):
    run = Watched(tmp_path, stop_after=2)
    with pytest.raises(RunFailed) as told:
        run_benchmark(Benchmark(**QUICK), run)
    assert told.value.kind is Failure.CANCELLED
    assert run.steps == 2


def test_a_slowdown_against_the_stored_runs_is_told_and_is_not_kept(run, tmp_path, monkeypatch):
    """With passes that are said to take so long: a machine under load would make this test a coin's toss."""
    taken = [0.010]

    def timed(forward, wait, device, repeats, run):
        forward()
        return [taken[0] * (1 + place / 1000) for place in range(repeats)], [10**8] * repeats

    monkeypatch.setattr(benchmark, "_timed", timed)
    config = Benchmark(**QUICK, baseline=str(tmp_path / "baselines"))
    reports = []
    for each in (0.010, 0.010, 0.030, 0.010):
        taken[0] = each
        reports.append(run_benchmark(config, run))
    assert [each.metrics["regressed"].value for each in reports] == [0, 0, 1, 0]
    assert "latency_ms: inconclusive: there is nothing to compare with" in reports[0].notes
    assert any(note.startswith("latency_ms: regressed: 3 times") for note in reports[2].notes)
    (file,) = (tmp_path / "baselines").iterdir()
    assert len(json.loads(file.read_text())["runs"]) == 3
    assert run.events[-1][0] == "compared"


def test_other_settings_are_another_baseline(run, tmp_path):
    for batch in (1, 2):
        run_benchmark(Benchmark(**QUICK, batch=batch, baseline=str(tmp_path)), run)
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_baseline_that_cannot_be_read_ends_the_run_and_says_why(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Baselines, "file", lambda *_: tmp_path / "broken.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RunFailed, match="remove it to begin anew"):
        run_benchmark(Benchmark(**QUICK, baseline=str(tmp_path)), run)


# --- beside others -------------------------------------------------------------------------------------------------


def test_the_comparison_with_peers_asks_for_their_code(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["benchmarks av", "--rtfs", str(tmp_path)])
    with pytest.raises(SystemExit) as told:
        bench_av.main()
    assert told.value.code == 2
    assert "checkouts of the two peers" in capsys.readouterr().err
    with pytest.raises(av_peers.Missing, match="a checkout of the peer's repository"):
        av_peers.iia_net(tmp_path)


def test_a_ratio_of_few_blocks_has_no_interval():
    few, many = bench_av.ratios((4.0,) * 4, (2.0,) * 4), bench_av.ratios((4.0,) * 12, (2.0,) * 12)
    assert (few["least"], few["median"], few["pairs"], few["pairs_low"], few["pairs_high"]) == (2, 2, 2, None, None)
    assert (many["pairs_low"], many["pairs_high"]) == (2, 2)

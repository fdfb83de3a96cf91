"""A model as ONNX: the same voices, from a file that needs no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from workloads.av_separation import export
from workloads.av_separation.config import Export
from workloads.av_separation.export import MODEL, SMALL_MODEL, Exported, run_export
from workloads.av_separation.model import PRESETS, Separator, Shape, build, save_weights
from workloads.contract import Failure, Measured, Report, RunFailed, Unavailable

# As few layers as there can be: what an export takes goes by the number of operations.
SHAPE = Shape(32, 2, 64, 0, 1, 8, 0, 32, 2, 0)


@dataclass
class Recorder:
    """A run that keeps what it is told."""

    out: Path
    resume: Path | None = None
    events: dict[str, dict[str, Any]] = field(default_factory=dict)

    def event(self, name: str, **fields: Any) -> None:
        self.events[name] = fields

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None: ...

    def metric(self, name: str, value: float, step: int, unit: str = "") -> None: ...

    def check(self) -> None: ...


def separator() -> Separator:
    torch.manual_seed(0)
    return build("tiny").eval()


@pytest.fixture(scope="module", autouse=True)
def _small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", SHAPE)  # type: ignore[arg-type] # a dict, which only says that it is read
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("export")
    save_weights(separator(), folder / "model.safetensors", "tiny")
    return run_export(Export(checkpoint=str(folder), seconds=0.4), Recorder(folder)), folder


def voices(path: Path, *given: torch.Tensor) -> torch.Tensor:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    named = {name: each.numpy() for name, each in zip(("mixture", "mouths", "seen"), given, strict=True)}
    return torch.from_numpy(session.run(None, named)[0])


def test_the_file_separates_as_torch_does(exported: tuple[Report, Path]) -> None:
    parity = exported[0].metrics["parity"]
    assert isinstance(parity, Measured)
    assert 0 < parity.value <= 1e-5


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 5), (1, 70)])
def test_one_file_serves_any_batch_and_any_length(exported: tuple[Report, Path], batch: int, frames: int) -> None:
    given = (
        0.1 * torch.randn(batch, 640 * frames),
        torch.rand(batch, 2, frames, 48, 48),
        (torch.rand(batch, 2, frames) > 0.3).float(),
    )
    with torch.inference_mode():
        expected = separator()(*given)
    found = voices(exported[1] / MODEL, *given)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_weights_of_8_bits_cost_little_and_are_smaller(exported: tuple[Report, Path]) -> None:
    report, folder = exported
    error = report.metrics["int8_error"]
    assert isinstance(error, Measured)
    assert 1e-4 < error.value <= 0.025
    assert (folder / SMALL_MODEL).stat().st_size < (folder / MODEL).stat().st_size
    assert report.artefacts == {"model": MODEL, "int8": SMALL_MODEL}


def test_the_layers_that_are_spared_stay_as_they_were(exported: tuple[Report, Path], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    for spared in ((), ("out", "open")):
        export._quantise(exported[1] / MODEL, tmp_path / "small.onnx", spared)
        graph = onnx.load(tmp_path / "small.onnx").graph
        whole = {export._layer(node) for node in graph.node if node.op_type in ("MatMul", "Gemm")}
        assert {"out", "open"} & whole == set(spared)


def test_a_file_that_differs_too_much_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "export_onnx", lambda *_, **__: Exported(tmp_path / MODEL, 2e-3, 1))
    with pytest.raises(RunFailed, match=r"differs from torch by 0\.002") as failed:
        run_export(Export(preset="tiny"), Recorder(tmp_path))
    assert failed.value.kind is Failure.BAD_SETTING


def test_a_quantised_file_that_differs_too_much_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MODEL, SMALL_MODEL):
        (tmp_path / name).write_bytes(b"onnx")
    done = Exported(tmp_path / MODEL, 1e-7, 1, tmp_path / SMALL_MODEL, 0.3)
    monkeypatch.setattr(export, "export_onnx", lambda *_, **__: done)
    report = run_export(Export(preset="tiny"), Recorder(tmp_path))
    assert report.metrics["int8_error"] == Unavailable("with 8-bit weights it differs by 0.3, more than 0.025")
    assert report.artefacts == {"model": MODEL}
    assert not (tmp_path / SMALL_MODEL).exists()


def test_a_file_that_gives_no_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "export_onnx", lambda *_, **__: Exported(tmp_path / MODEL, float("nan"), 1))
    with pytest.raises(RunFailed, match="differs from torch by nan"):
        run_export(Export(preset="tiny"), Recorder(tmp_path))


def test_untrained_weights_are_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MODEL).write_bytes(b"onnx")
    monkeypatch.setattr(export, "export_onnx", lambda *_, **__: Exported(tmp_path / MODEL, 1e-7, 1))
    report = run_export(Export(preset="tiny", int8=False), Recorder(tmp_path))
    assert report.notes[0].startswith("untrained weights")
    assert report.metrics["int8_bytes"] == Unavailable("not asked for")


def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(RunFailed, match="onnx_of_tomorrow") as missing:
        export._library("onnx_of_tomorrow")
    assert missing.value.kind is Failure.NOT_INSTALLED

"""A model as ONNX, checked against torch, and the same with 8-bit weights."""

import ast
import importlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workloads.av_separation.config import Export
from workloads.av_separation.model import MOUTH, SAMPLE_RATE, VIDEO_HOP, Separator, build, load, parameters
from workloads.contract import Failure, Measured, Metric, Report, Run, RunFailed, Unavailable

OPSET = 18
INPUTS, OUTPUT = ("mixture", "mouths", "seen"), "voices"
MODEL, SMALL_MODEL = "model.onnx", "model.int8.onnx"
SPARED = (("out", "open"), ("out", "open", "audio_in"))
"""Layers that stay in single precision where 8 bits would cost too much: first what shapes the masks, then what hears
the mixture, too."""


@dataclass(frozen=True, slots=True)
class Exported:
    """`parity`: the greatest difference of onnxruntime from torch, relative to the greatest value. `int8_error`: that
    of the 8-bit file, as root mean squares. `spared`: the layers that are not of 8 bits."""

    path: Path
    parity: float
    nodes: int
    int8_path: Path | None = None
    int8_error: float | None = None
    spared: tuple[str, ...] = ()


class _Whole(nn.Module):
    """The separator for whole video frames of sound: nothing is left to pad, so that one graph serves any length."""

    def __init__(self, model: Separator) -> None:
        super().__init__()
        self.model = model

    def forward(self, mixture: Tensor, mouths: Tensor, seen: Tensor) -> Tensor:
        return self.model.separate(mixture, mouths, seen)


def export_onnx(
    model: Separator,
    path: Path,
    *,
    speakers: int = 2,
    seconds: float = 2.0,
    int8: bool = False,
    int8_tolerance: float = 0.025,
) -> Exported:
    """Writes `path`, and beside it SMALL_MODEL where `int8` is asked for. Any batch and any length go into the file, of
    640 samples for each video frame; only the number of speakers is fixed. Attention is over the whole length under a
    mask there, so memory grows with its square: cut what is longer than half a minute or so. `seconds` is how long the
    sound is that the file is checked with. Raises RunFailed where a library is missing."""
    onnx = _library("onnx")
    _library("onnxscript")
    model = model.cpu().eval()
    frames = max(2, round(seconds * SAMPLE_RATE / VIDEO_HOP))
    batch, length = torch.export.Dim("batch"), torch.export.Dim("frames")
    example = _example(2, speakers, 4)  # a size of 1 would be taken for one that never changes
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Whole(model),
            example,
            dynamo=True,
            dynamic_shapes={
                "mixture": {0: batch, 1: VIDEO_HOP * length},
                "mouths": {0: batch, 2: length},
                "seen": {0: batch, 2: length},
            },
            input_names=INPUTS,
            output_names=(OUTPUT,),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    onnx.checker.check_model(path, full_check=True)
    nodes = len(onnx.load(path).graph.node)

    trial = _example(1, speakers, frames)
    with torch.inference_mode():
        expected = model(*trial).numpy()
    given = {name: each.numpy() for name, each in zip(INPUTS, trial, strict=True)}
    parity = _greatest(_run(path, given), expected)
    if not int8:
        return Exported(path, parity, nodes)
    small = path.with_name(SMALL_MODEL)
    error = float("inf")
    spared: tuple[str, ...] = ()
    for spared in ((), *SPARED):
        _quantise(path, small, spared)
        error = _rms(_run(small, given), expected)
        if error <= int8_tolerance:
            break
    return Exported(path, parity, nodes, small, error, spared)


def _example(batch: int, speakers: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise as loud as speech, in syllables; pictures of noise; some not seen."""
    chance = torch.Generator().manual_seed(0)
    samples = frames * VIDEO_HOP
    syllables = 0.5 + 0.5 * torch.sin(torch.arange(samples) * (2 * torch.pi * 4 / SAMPLE_RATE))
    mixture = 0.1 * torch.randn(batch, samples, generator=chance) * syllables
    seen = (torch.rand(batch, speakers, frames, generator=chance) > 0.1).float()
    mouths = torch.rand(batch, speakers, frames, MOUTH, MOUTH, generator=chance) * seen[..., None, None]
    return mixture, mouths, seen


def _run(path: Path, given: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    out: NDArray[np.float32] = session.run([OUTPUT], given)[0]
    return out


def _greatest(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def _rms(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(one - other).mean() / np.square(other).mean()))


def _quantise(path: Path, small: Path, spared: tuple[str, ...]) -> None:
    """Weights of 8 bits for each matrix product but those of the layers named; activations as they come."""
    onnx = _library("onnx")
    quantisation = _library("onnxruntime.quantization")
    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter's shapes contradict those that the quantiser infers
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    left = [node.name for node in products if _layer(node) in spared]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        bare = Path(folder, "bare.onnx")
        onnx.save(model, bare)
        quantisation.quantize_dynamic(
            bare,
            small,
            weight_type=quantisation.QuantType.QUInt8,  # with signed ones, sums saturate where there is no VNNI
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=left,
        )


def _layer(node: Any) -> str:
    """The layer of the separator that a node of the graph comes from, as the exporter has noted it."""
    for each in node.metadata_props:
        if each.key == "pkg.torch.onnx.name_scopes":
            scopes = ast.literal_eval(each.value)
            return str(scopes[-2]).removeprefix("model.") if len(scopes) > 1 else ""
    return ""


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as why:
        raise RunFailed(
            Failure.NOT_INSTALLED, f"export needs {name}: install onnx, onnxscript and onnxruntime"
        ) from why


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of libraries that nobody needs, and the quantiser of a step that dynamic shapes rule out."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration", "root")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def run_export(config: Export, run: Run) -> Report:
    """The verb `export`. Raises RunFailed, and where the file differs from torch by more than `tolerance`."""
    notes = []
    if config.checkpoint:
        model = load(Path(config.checkpoint))
    else:
        model = build(config.preset)
        notes.append(f"untrained weights of the preset {config.preset}: good for timing, not for separating")
    run.event("exporting", parameters=parameters(model))
    done = export_onnx(
        model,
        run.out / MODEL,
        speakers=config.speakers,
        seconds=config.seconds,
        int8=config.int8,
        int8_tolerance=config.int8_tolerance,
    )
    run.event("exported", parity=done.parity, int8_error=done.int8_error)
    if not done.parity <= config.tolerance:  # NaN, too
        raise RunFailed(
            Failure.BAD_SETTING,
            f"tolerance: the file differs from torch by {done.parity:.2g} of the greatest value, "
            f"and {config.tolerance:.2g} at most is asked for",
            facts={"parity": done.parity},
        )
    metrics: dict[str, Metric] = {
        "parity": Measured(done.parity),
        "parameters": Measured(float(parameters(model))),
        "model_bytes": Measured(float(done.path.stat().st_size), "B"),
        "int8_error": Unavailable("not asked for"),
        "int8_bytes": Unavailable("not asked for"),
    }
    artefacts = {"model": done.path.name}
    notes.append(
        f"any batch and any length of {VIDEO_HOP} samples for each video frame; {config.speakers} speakers; "
        f"checked on {config.seconds:g} s of noise"
    )
    if done.int8_path is not None and done.int8_error is not None:
        if done.int8_error <= config.int8_tolerance:
            metrics["int8_error"] = Measured(done.int8_error)
            metrics["int8_bytes"] = Measured(float(done.int8_path.stat().st_size), "B")
            artefacts["int8"] = done.int8_path.name
            if done.spared:
                notes.append(f"not of 8 bits, for they would cost too much: {', '.join(done.spared)}")
        else:
            done.int8_path.unlink()
            why = f"with 8-bit weights it differs by {done.int8_error:.2g}, more than {config.int8_tolerance:.2g}"
            metrics["int8_error"] = metrics["int8_bytes"] = Unavailable(why)
            notes.append(f"no 8-bit file: {why}")
    return Report(metrics=metrics, artefacts=artefacts, notes=tuple(notes))

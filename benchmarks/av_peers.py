"""RTFS-Net-4 (Pegg, Li and Hu, ICLR 2024) and IIANet (Li and others, ICML 2024) from checkouts of their public code.

Nothing of theirs is kept here. What their modules import and a forward pass never calls, Lightning and thop, is
replaced by empty classes of our own, and timm's DropPath by a small one. RTFS-Net needs the package `sru`, which
compiles its CPU kernel when it is imported: a C++ compiler and ninja have to be there.
"""

import importlib
import re
import sys
import types
from pathlib import Path
from typing import Any

from torch import Tensor, nn

RTFS = "config/lrs2_RTFSNet_4_layer.yaml"
IIA = "configs/LRS2-IIANet.yml"
VISUAL = 512
"""Features of each video frame that both take, of a lip-reading network that is not in them."""


class Missing(SystemExit):
    """A checkout or a library that a peer needs is not there."""


class _Nothing(nn.Identity):
    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


class _DropPath(nn.Module):
    """In training each example of the batch is left out with probability `drop_prob`, the others made up for it."""

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.keep = 1 - (drop_prob or 0.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.keep == 1 or not self.training:
            return x
        return x * x.new_empty(x.shape[0], *(1,) * (x.ndim - 1)).bernoulli_(self.keep) / self.keep


def rtfs_net(checkout: Path, rnn: str = "SRU") -> nn.Module:
    """(mixture (batch, samples), lips (batch, 512, frames)) -> (batch, 1, samples). `rnn`: SRU, as published, or LSTM,
    where SRU's kernels cannot be compiled."""
    _stand_in()
    if rnn == "SRU":
        _needs("sru", "RTFS-Net's recurrent layers: pip install --no-deps --target DIR sru einops, and --libraries DIR")
    else:
        _put("sru", SRU=_Nothing)
    told = _configuration(checkout, RTFS)["audionet"]
    if rnn != "SRU":
        for layer in told["audio_params"]["layers"].values():
            if "rnn_type" in layer:
                layer["rnn_type"] = rnn
    models = _from(checkout, "src.models")
    made: nn.Module = models.AVNet(**told, print_macs=False)
    return made


def iia_net(checkout: Path) -> nn.Module:
    """The same shapes."""
    _stand_in()
    told = _configuration(checkout, IIA)["audionet"]["audionet_config"]
    made: nn.Module = _from(checkout, "look2hear.models").IIANet(**told)
    return made


def commit_of(checkout: Path) -> str:
    """Of a checkout with its history, else empty."""
    head = checkout / ".git" / "HEAD"
    if not head.exists():
        return ""
    said = head.read_text().strip()
    reference = checkout / ".git" / said.removeprefix("ref: ")
    return said if re.fullmatch("[0-9a-f]{40}", said) else reference.read_text().strip() if reference.exists() else ""


def _configuration(checkout: Path, name: str) -> dict[str, Any]:
    from ruamel.yaml import YAML

    if not (checkout / name).is_file():
        raise Missing(f"{checkout} has no {name}: a checkout of the peer's repository is asked for")
    with (checkout / name).open() as file:
        told: dict[str, Any] = YAML(typ="safe", pure=True).load(file)
    return told


def _from(checkout: Path, name: str) -> types.ModuleType:
    """Their packages have no names of their own, so each is found by its folder."""
    sys.path.insert(0, str(checkout))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(checkout))


def _needs(name: str, what: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} is not there ({error}): {what}") from error


def _stand_in() -> None:
    _put("pytorch_lightning", LightningModule=nn.Module, LightningDataModule=object, __version__="0")
    _put("thop", profile=None)
    _put("timm")
    _put("timm.models")
    _put("timm.models.layers", DropPath=_DropPath)


def _put(name: str, **what: object) -> None:
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(what)

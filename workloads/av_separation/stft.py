"""The short-time Fourier transform and its inverse as convolutions with fixed kernels: they run wherever a convolution
runs, and they export to ONNX, which has no inverse transform of its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional

HOP = 160
"""Samples from one frame to the next: 10 ms at 16 kHz, a quarter of a video frame."""
WINDOW = 512
BINS = WINDOW // 2 + 1
TAIL = WINDOW - HOP
"""Frame t sees the samples from `HOP * t - TAIL` to `HOP * (t + 1)`: nothing that has not been heard by then."""
EXTRA = -(-TAIL // HOP)
"""Frames past the last sample, without which the last samples would not be whole."""


class Stft(nn.Module):
    """Nothing is learnt here, and nothing is kept in a checkpoint."""

    analysis: Tensor
    synthesis: Tensor

    def __init__(self) -> None:
        super().__init__()
        at = torch.arange(WINDOW, dtype=torch.float64)
        window = torch.sin(torch.pi * (at + 0.5) / WINDOW)
        angle = 2 * torch.pi / WINDOW * torch.arange(BINS, dtype=torch.float64)[:, None] * at
        waves = torch.cat([torch.cos(angle), -torch.sin(angle)])  # (2 * bins, window)
        # Bins other than the first and the last stand for two of the full transform.
        twice = torch.full((BINS, 1), 2.0, dtype=torch.float64)
        twice[0] = twice[-1] = 1.0
        # What all frames over one sample weigh together: it repeats every hop.
        weight = functional.pad(window.square(), (0, -WINDOW % HOP)).view(-1, HOP).sum(0).repeat(EXTRA + 1)[:WINDOW]
        back = waves * torch.cat([twice, twice]) / WINDOW * (window / weight)
        self.register_buffer("analysis", (waves * window).float()[:, None], persistent=False)
        self.register_buffer("synthesis", back.float()[:, None], persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, TAIL + HOP * frames), the first TAIL of them from before -> (batch, 2 * BINS, frames): first all real
        parts, then all imaginary ones."""
        return functional.conv1d(samples[:, None], self.analysis, stride=HOP)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """(batch, 2 * BINS, frames) -> (batch, HOP * frames + TAIL): the first TAIL samples lie before the first sound,
        and the last TAIL wait for frames to come."""
        return functional.conv_transpose1d(spectrum, self.synthesis, stride=HOP)[:, 0]

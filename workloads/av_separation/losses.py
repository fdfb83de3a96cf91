"""What training makes smaller: the negative SI-SNR of each voice, in dB.

Estimates and clean voices are (batch, speakers, samples). In target order each estimate belongs to the lips that it was
asked for with; in the best order (PIT: Yu, Kolbæk, Tan and Jensen 2017) the estimates are free to come in any.

A voice that is silent has no SI-SNR. Its loss is how loud the estimate is beside the mixture, as in FUSS (Wisdom,
Erdogan, Ellis and others 2021), so that silence is learnt and no gradient is infinite.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

SILENT = 1e-8
"""Mean square, −80 dBFS: what is below is silence."""
FLOOR = 1e-3
"""−30 dB: how far a silent voice's estimate is pushed below the mixture."""


def target_loss(estimates: Tensor, clean: Tensor, mixture: Tensor) -> Tensor:
    """Mean over voices; the k-th estimate is the k-th voice. `mixture`: (batch, samples). Returns a scalar."""
    return _by_voice(estimates, clean, mixture).mean()


def pit_loss(estimates: Tensor, clean: Tensor, mixture: Tensor) -> Tensor:
    """Mean over voices in the order of the estimates that makes it least, found for each mixture. Returns a scalar."""
    return partly_free_loss(estimates, clean, mixture, torch.ones(clean.shape[:2], dtype=torch.bool))


def partly_free_loss(estimates: Tensor, clean: Tensor, mixture: Tensor, free: Tensor) -> Tensor:
    """Mean over voices; those that are `free`, (batch, speakers) true or false, may change places with each other, as
    where nothing is seen of them; the others stand where they are. Returns a scalar."""
    free = free.cpu()
    if not (free.sum(1) > 1).any():
        return target_loss(estimates, clean, mixture)
    # (batch, voices, estimates): each voice with each estimate
    table = _by_voice(estimates[:, None, :, :], clean[:, :, None, :], mixture[:, None, :])
    # An order is a choice, it has no gradient. NaN would stop the search; it is seen in the loss all the same.
    costs = torch.nan_to_num(table.detach().float(), nan=0.0, posinf=1e6, neginf=-1e6).cpu()
    bound = ~(free[:, :, None] & free[:, None, :]) & ~torch.eye(free.shape[1], dtype=torch.bool)
    costs = costs.masked_fill(bound, 1e9)
    orders = torch.stack([torch.from_numpy(linear_sum_assignment(cost)[1]) for cost in costs.numpy()]).to(table.device)
    return table.gather(2, orders[:, :, None]).mean()


def _by_voice(estimates: Tensor, clean: Tensor, mixture: Tensor) -> Tensor:
    """(…, samples) of estimates and voices that broadcast, `mixture` with one axis less. Returns (…)"""
    # Sums of squares in full precision, whatever autocast made of the estimate.
    estimates, clean, mixture = estimates.float(), clean.float(), mixture.float()
    estimates = estimates - estimates.mean(-1, keepdim=True)
    voices = clean - clean.mean(-1, keepdim=True)
    heard = mixture.square().mean(-1, keepdim=True)
    power = voices.square().mean(-1)
    quiet = power < SILENT
    # Where a voice is silent, its branch gets a voice of ones: finite values, whose gradient `where` throws away.
    safe = torch.where(quiet[..., None], torch.ones_like(voices), voices)
    scale = (estimates * safe).sum(-1, keepdim=True) / safe.square().sum(-1, keepdim=True)
    right = scale * safe
    # A few parts in 1e8 of the mixture's power keep both logarithms finite.
    least = 1e-8 * heard + 1e-12
    ratio = 10 * (
        torch.log10((estimates - right).square().mean(-1) + least) - torch.log10(right.square().mean(-1) + least)
    )
    level = 10 * torch.log10(estimates.square().mean(-1) + FLOOR * heard + 1e-12) - 10 * torch.log10(heard + 1e-12)
    return torch.where(quiet, level, ratio)

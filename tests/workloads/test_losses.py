"""The losses are minus what the metrics measure, and stay finite where there is nothing to hear."""

import pytest
import torch

from workloads.av_separation import metrics
from workloads.av_separation.losses import partly_free_loss, pit_loss, target_loss


def sounds(seed: int, batch: int = 2, speakers: int = 3, samples: int = 2000) -> torch.Tensor:
    return 0.1 * torch.randn(batch, speakers, samples, generator=torch.Generator().manual_seed(seed))


def test_the_loss_in_target_order_is_minus_the_mean_si_snr():
    clean = sounds(1)
    estimates = clean + 0.5 * sounds(2)
    values = [
        metrics.si_snr(e, c) for es, cs in zip(estimates, clean, strict=True) for e, c in zip(es, cs, strict=True)
    ]
    assert float(target_loss(estimates, clean, clean.sum(1))) == pytest.approx(-sum(values) / len(values), abs=1e-3)


def test_the_loss_does_not_depend_on_how_loud_an_estimate_is():
    clean = sounds(1)
    estimates = clean + 0.5 * sounds(2)
    assert float(target_loss(3 * estimates, clean, clean.sum(1))) == pytest.approx(
        float(target_loss(estimates, clean, clean.sum(1))), abs=1e-4
    )


def test_the_order_is_free_in_pit_alone_and_chosen_for_each_mixture():
    clean = sounds(1)
    estimates = clean + 0.3 * sounds(2)
    moved = torch.stack([estimates[0, [2, 0, 1]], estimates[1, [1, 0, 2]]])
    in_place = target_loss(estimates, clean, clean.sum(1))
    assert float(pit_loss(moved, clean, clean.sum(1))) == pytest.approx(float(in_place), abs=1e-5)
    assert float(target_loss(moved, clean, clean.sum(1))) > float(in_place) + 10


def test_only_voices_that_are_free_change_places():
    clean = sounds(1)
    estimates = clean + 0.3 * sounds(2)
    mixture, in_place = clean.sum(1), target_loss(estimates, clean, clean.sum(1))
    moved = torch.stack([estimates[0, [0, 2, 1]], estimates[1, [1, 0, 2]]])
    fits = torch.tensor([[False, True, True], [True, True, False]])
    assert float(partly_free_loss(moved, clean, mixture, fits)) == pytest.approx(float(in_place), abs=1e-5)
    for free in (torch.tensor([[True, True, False], [True, True, False]]), torch.zeros(2, 3, dtype=torch.bool)):
        assert float(partly_free_loss(moved, clean, mixture, free)) > float(in_place) + 5


@pytest.mark.parametrize("loss", [target_loss, pit_loss])
@pytest.mark.parametrize("silent", ["one voice", "all voices", "the estimate", "everything"])
def test_silence_gives_a_finite_loss_and_a_finite_gradient(loss, silent):
    clean, estimates = sounds(1), sounds(2)
    if silent in ("one voice", "all voices", "everything"):
        clean[:, slice(0, 1) if silent == "one voice" else slice(None)] = 0
    if silent in ("the estimate", "everything"):
        estimates = torch.zeros_like(estimates)
    estimates.requires_grad_()
    mixture = torch.zeros(2, 2000) if silent == "everything" else clean.sum(1) + sounds(3)[:, 0]
    value = loss(estimates, clean, mixture)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(estimates.grad).all()


def test_a_quieter_estimate_of_a_silent_voice_is_better():
    clean = sounds(1, speakers=1)
    silence, mixture = torch.zeros_like(clean), clean[:, 0]
    loss = [float(target_loss(level * clean, silence, mixture)) for level in (1.0, 0.1, 0.0)]
    assert loss[0] > loss[1] > loss[2]
    assert loss[2] == pytest.approx(-30, abs=0.1)


def test_nan_in_an_estimate_is_seen_in_the_loss():
    clean, estimates = sounds(1), sounds(2)
    estimates[0, 0, 5] = float("nan")
    assert torch.isnan(pit_loss(estimates, clean, clean.sum(1)))
    assert torch.isnan(target_loss(estimates, clean, clean.sum(1)))


def test_a_step_along_the_gradient_makes_the_loss_smaller():
    clean = sounds(1)
    estimates = (clean + sounds(2)).requires_grad_()
    before = pit_loss(estimates, clean, clean.sum(1))
    before.backward()
    after = pit_loss(estimates.detach() - 0.01 * estimates.grad, clean, clean.sum(1))
    assert after < before

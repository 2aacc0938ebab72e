"""A score that expects events far outside the data's range is held, and no other score is changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vae_gaussians import GaussianScore, auto_encoder, real

from scorefold.data import EventScale
from scorefold.diffusion import VE, VP, DiffusionProcess
from scorefold_scorevae.scorevae.model import held_in_range

UNIT = EventScale(low=0.0, high=1.0, mean=0.5, std=0.3)
PROCESSES = {"ve": VE(sigma_min=0.01, sigma_max=10.0), "vp": VP()}


def expecting(process: DiffusionProcess, event: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The score whose denoised event is ``event``."""
    signal, noise = process.coefficients(x, t)
    return (signal * event - x) / noise**2


@pytest.mark.parametrize("name", PROCESSES)
def test_an_event_outside_goes_to_the_nearest_one_allowed(name: str) -> None:
    """Allowed are [0, 1], its width on each side, and the noise over the signal."""
    process, x, t = PROCESSES[name], real([[0.3, -0.2, 0.9, 0.1]]), real([0.4])
    signal, noise = process.coefficients(x, t)
    margin = 1 + float(noise / signal)
    event = real([[0.7, 40.0, -30.0, 0.99 + margin]])
    score = expecting(process, event, x, t)
    held = held_in_range(_model(process, UNIT), score, x, t)
    found = process.denoised_from_score(held, x, t)
    torch.testing.assert_close(found, real([[0.7, 1 + margin, -margin, 0.99 + margin]]))
    assert torch.equal(held[:, [0, 3]], score[:, [0, 3]])


@pytest.mark.parametrize("scale", [UNIT, EventScale()], ids=["all near", "no range"])
def test_other_scores_are_left_as_they_are(scale: EventScale) -> None:
    process, x, t = PROCESSES["ve"], real([[0.3, -0.2]]), real([0.4])
    event = real([[0.7, 1.9]]) if scale is UNIT else real([[0.7, 1e6]])
    score = expecting(process, event, x, t)
    assert held_in_range(_model(process, scale), score, x, t) is score


@pytest.mark.parametrize("sampler", ["dpmpp-2m", "edm", "ddim"])
def test_a_corrector_that_runs_away_does_not_end_in_nan(sampler: str) -> None:
    """Its answer grows with the cube of x. Without a hold, draws by these samplers overflow."""
    prior = GaussianScore(real([0.5, 0.5]), 0.09 * torch.eye(2).double(), process=PROCESSES["ve"])
    prior.event_scale = UNIT
    model = auto_encoder(prior, 1)
    model.event_scale, model.corrector = UNIT, Runaway()
    drawn = model.decode(real([[0.0]] * 50), sampler=sampler, steps=18, generator=torch.Generator().manual_seed(0))
    assert float(drawn.abs().max()) < 4


class Runaway(nn.Module):
    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        return -1e4 * x**3


def _model(process: DiffusionProcess, scale: EventScale) -> Any:
    return SimpleNamespace(process=process, event_scale=scale)

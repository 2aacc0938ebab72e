"""What settings change in a training by ``fit``, which keeps all but the encoder in evaluation mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from vae_networks import NETWORKS, neural_prior

from scorefold.config import TrainingConfig
from scorefold.data import DataSpec, EventScale
from scorefold_scorevae.config import ScoreVAEConfig
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_toolkit.training import fit

STEPS = 4


def build(encoder: str = "tanh", **config: Any) -> ScoreVAE:
    prior = neural_prior()
    data = DataSpec((3,), EventScale())
    settings = ScoreVAEConfig(latent=2, encoder=NETWORKS[encoder], **config)
    return ScoreVAE(settings, prior=prior, data=data).double()


def trained(model: ScoreVAE) -> list[Mapping[str, float]]:
    """What is reported after each of four steps."""
    reported: list[Mapping[str, float]] = []
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    config = TrainingConfig(steps=STEPS, batch_size=16, log_every=1)
    fit(model, x, config, metrics=lambda step, values: reported.append(values))
    return reported


def test_beta_rises_while_the_encoder_trains() -> None:
    reported = trained(build(beta=0.5, beta_warmup=1.0))
    betas = [(values["loss"] - values["data"]) / values["kl"] for values in reported]
    assert betas == pytest.approx([0.5 * (step + 1) / STEPS for step in range(STEPS)], rel=1e-6)


@pytest.mark.parametrize("encoder", NETWORKS)
def test_activations_are_recomputed_while_the_encoder_trains(encoder: str) -> None:
    """Torch's own attention too, whose fused form has no second derivative."""
    plain, recomputed = build(encoder), build(encoder, checkpoint=True)
    calls: list[Tensor] = []
    recomputed.encoder.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0]))
    losses = [[values["loss"] for values in trained(model)] for model in (plain, recomputed)]
    assert len(calls) > 2 * STEPS
    assert losses[0] == losses[1]

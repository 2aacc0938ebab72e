"""What a caller can get wrong: batches of one, codes of another dtype or width, options of another type."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from vae_gaussians import auto_encoder
from vae_networks import NETWORKS, neural_prior

from scorefold.data import DataSpec, EventScale
from scorefold.diffusion import LinearVP, PerComponent
from scorefold.errors import ConfigError, ShapeError
from scorefold_scorevae.config import ScoreVAEPlusConfig, VAEConfig
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_scorevae.scorevae.plus import ScoreVAEPlus
from scorefold_scorevae.vae import VAE
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP

SMALL = MLP(MLPConfig(width=8, blocks=1))


@pytest.fixture
def model() -> ScoreVAE:
    return auto_encoder(neural_prior(), 2, encoder=NETWORKS["tanh"])


def corrected(code: ScoreVAE) -> ScoreVAEPlus:
    return ScoreVAEPlus(ScoreVAEPlusConfig(network=SMALL), code=code).double().eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(1, size, generator=generator, dtype=torch.float64) for size in (3, 2))
    return x, torch.linspace(0.1, 0.9, 4, dtype=torch.float64), z


def test_one_event_at_several_times(model: ScoreVAE) -> None:
    """A batch of one is broadcast, and its gradient is not the sum over the batch."""
    x, t, z = inputs()
    wide, codes = x.expand(4, 3), z.expand(4, 2)
    assert torch.equal(model.correction(x, t, z), model.correction(wide, t, codes))
    for part, value in model.parts(wide, t, codes).items():
        assert torch.equal(model.parts(x, t, z)[part], value)
    plus = corrected(model)
    for part, value in plus.parts(wide, t, codes).items():
        assert torch.equal(plus.parts(x, t, z)[part], value)


def test_codes_of_another_width_or_dtype(model: ScoreVAE) -> None:
    x, t, z = inputs()
    for user in (model, corrected(model)):
        for call in (user.parts, model.correction):
            with pytest.raises(ShapeError, match=r"codes of shape \(1, 1\) were given; this model's are \(B, 2\)"):
                call(x, t, z[:, :1])
        for wrong in (z.float(), torch.zeros(1, 2, dtype=torch.long)):
            for use in (user.decode, partial(user.score, x, t), partial(user.encode_noise, x)):
                with pytest.raises(ShapeError, match=rf"the codes are {wrong.dtype} on cpu; this model is torch.float"):
                    use(wrong)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 2.5}, r"steps = 2.5; expected a whole number"),
        ({"steps": "8"}, r"steps = '8'; expected a whole number"),
        ({"guidance_interval": 0.5}, r"guidance_interval is 0.5; expected \[low, high\] within"),
        ({"guidance_interval": ["a", "b"]}, r"guidance_interval is \['a', 'b'\]; expected \[low, high\] within"),
    ],
    ids=str,
)
def test_options_of_another_type(model: ScoreVAE, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        model.decode(inputs()[2], **options)


def test_the_evidence_bound_of_nothing(model: ScoreVAE) -> None:
    x = inputs()[0]
    assert model.elbo(x[:0]).shape == (0,)
    with pytest.raises(ConfigError, match="0 draws were asked for"):
        model.elbo(x, draws=0)
    vae = VAE(VAEConfig(latent=2, encoder=SMALL, decoder=SMALL), data=DataSpec((3,), EventScale()))
    with pytest.raises(ConfigError, match="0 draws were asked for"):
        vae.elbo(x.float(), draws=0)
    model.process = PerComponent((3,), LinearVP())
    with pytest.raises(ConfigError, match="the evidence bound needs one noise level for all components"):
        model.elbo(x)

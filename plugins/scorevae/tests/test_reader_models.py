"""Priors, networks and samplers that don't go together, and what must not depend on how a model is called."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vae_gaussians import auto_encoder
from vae_networks import NETWORKS, Built, neural_prior

from scorefold.config import TrainingConfig
from scorefold.data import Condition, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import LinearLogSNR, PerComponent
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold_scorevae.config import ScoreVAEConfig, ScoreVAEPlusConfig
from scorefold_scorevae.scorevae import diagnosis
from scorefold_scorevae.scorevae.diagnosis import over_time
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_scorevae.scorevae.plus import ScoreVAEPlus
from scorefold_standard.config import DenoisingConfig, MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.scores import Denoising
from scorefold_toolkit.training import fit

SMALL = MLP(MLPConfig(width=8, blocks=1, activation="tanh"))


class Standard(ScoreModel):
    """The score of N(0, I)."""

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t)
        signal, scale = self.process.coefficients(x, t)
        return -x / (signal**2 + scale**2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(), dtype=torch.float64)


def test_inference_mode_keeps_the_code() -> None:
    model = auto_encoder(neural_prior(), 2, encoder=NETWORKS["tanh"])
    x, t, z = normal(4, 3), torch.linspace(0.1, 0.9, 4).double(), normal(4, 2)
    with torch.no_grad():
        score, decoded = model.score(x, t, z), model.decode(z, noise=x)
    with torch.inference_mode():
        assert torch.equal(model.score(x, t, z), score)
        assert torch.equal(model.score(x.clone(), t.clone(), z.clone()), score)
        assert torch.equal(model.decode(z.clone(), noise=x), decoded)


def test_a_prior_in_double_precision() -> None:
    """The encoder and the corrector are built in the prior's dtype."""
    data = DataSpec((3,), EventScale())
    prior = neural_prior()
    model = ScoreVAE(ScoreVAEConfig(latent=2, encoder=SMALL), prior=prior, data=data)
    fit(model, normal(32, 3), TrainingConfig(steps=2, batch_size=8))
    plus = ScoreVAEPlus(ScoreVAEPlusConfig(network=SMALL), code=model)
    fit(plus, normal(32, 3), TrainingConfig(steps=2, batch_size=8))
    assert plus.decode(plus.encode(normal(2, 3)), generator=generator()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_prior_in_half_precision(dtype: torch.dtype) -> None:
    with pytest.raises(ConfigError, match=rf"weights are {dtype}.*\n.*prior.float\(\).*prior_precision: bf16"):
        auto_encoder(neural_prior().to(dtype), 2)


class Answering(nn.Module):
    """x, seen by a linear layer that gives ``width`` numbers."""

    def __init__(self, dimension: int, width: int, before: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(before or nn.Identity(), nn.Linear(dimension, width))

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        out: Tensor = self.body(x)
        return out


def test_networks_that_answer_with_another_shape() -> None:
    with pytest.raises(ConfigError, match=r"encoder answers two events with shape \(2, 7\); expected \(2, 4\)"):
        auto_encoder(neural_prior(), 2, encoder=Built(lambda into, out: Answering(3, 7)))
    code = auto_encoder(neural_prior(), 2, encoder=NETWORKS["tanh"])
    network = Built(lambda into, out: Answering(3, 7))
    with pytest.raises(ConfigError, match=r"corrector answers an event with shape \(1, 7\); expected \(1, 3\)"):
        ScoreVAEPlus(ScoreVAEPlusConfig(network=network), code=code)


def test_a_corrector_that_normalises_over_the_batch_is_built() -> None:
    code = auto_encoder(neural_prior(), 2, encoder=NETWORKS["tanh"])
    network = Built(lambda into, out: Answering(3, 3, nn.BatchNorm1d(3)))
    plus = ScoreVAEPlus(ScoreVAEPlusConfig(network=network), code=code)
    assert plus.network.training
    assert not plus.network.body[0].running_mean.any()


def test_more_speeds_than_times_are_looked_at() -> None:
    prior = Standard(PerComponent((40,), LinearLogSNR(t_end=torch.linspace(0.3, 1.0, 40))), (40,))
    model = auto_encoder(prior, 2, encoder=SMALL)
    seen = over_time(model, normal(8, 40), generator(), 9)
    assert len(seen.times) == 9
    assert bool((seen.times[1:] > seen.times[:-1]).all())
    assert float(seen.times[0]) == prior.process.t_min
    assert float(seen.times[-1]) == prior.process.t_max
    model.diagnose_codes(normal(8, 40), generator())


@pytest.mark.parametrize("sampler", ["euler-maruyama", "predictor-corrector"])
def test_a_sampler_that_draws_keeps_no_noise(sampler: str) -> None:
    """Noise at the start doesn't decide what such a sampler draws, so none of an event is returned as its own."""
    x = normal(3, 3)
    model = auto_encoder(neural_prior(), 2, encoder=NETWORKS["tanh"], decoding={"sampler": sampler})
    z = model.encode(x).detach()
    with pytest.raises(ConfigError, match=f"decodes by {sampler}, which draws noise.*\n.*sampler: heun"):
        model.encode_noise(x, z)
    noise = model.encode_noise(x, z, sampler="heun")
    assert torch.allclose(model.decode(z, noise=noise, sampler="heun"), x, atol=1e-2)


def test_figures_of_a_model_whose_sampler_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row from code and noise shows the events themselves."""
    prior = Standard(neural_prior().process, (1, 4, 4))
    model = auto_encoder(prior, 2, encoder=SMALL, decoding={"sampler": "euler-maruyama"})
    shown: list[Tensor] = []
    grid = diagnosis._grid

    def keep(rows: Tensor, *rest: Any) -> Any:
        shown.append(rows)
        return grid(rows, *rest)

    monkeypatch.setattr(diagnosis, "_grid", keep)
    events = normal(3, 1, 4, 4)
    diagnosis.scorevae_figures(SimpleNamespace(model=model, events=events, report=SimpleNamespace(history=[])))
    originals, back = shown[0].flatten()[: events.numel()], shown[0].flatten()[-events.numel() :]
    assert torch.allclose(originals, back, atol=2e-2)


def test_no_events_by_a_prior_of_classes() -> None:
    spec = TensorSpec((), classes=3)
    prior = Denoising(DenoisingConfig(network=SMALL, process="vp"), data=DataSpec((3,), EventScale(), spec)).double()
    model = auto_encoder(prior.eval(), 2, encoder=SMALL, prior_class=1)
    assert model.decode(normal(0, 2), steps=2).shape == (0, 3)
    assert model.elbo(normal(0, 3)).shape == (0,)


def test_a_corrector_trained_on_data_in_other_units() -> None:
    code = auto_encoder(Standard(neural_prior().process, (3,), None, EventScale(low=-1.0, high=1.0)), 2, encoder=SMALL)
    config = ScoreVAEPlusConfig(network=SMALL)
    ScoreVAEPlus(config, code=code, data=DataSpec((3,), EventScale(low=-1.0, high=1.0)))
    with pytest.raises(
        ConfigError, match=r"the code's events lie in \[-1, 1\], the data in \[0, 1\]\n.*range: \[-1, 1\]"
    ):
        ScoreVAEPlus(config, code=code, data=DataSpec((3,), EventScale(low=0.0, high=1.0)))
    with pytest.raises(ConfigError, match=r"the code's events have shape \(3,\), the data's \(4,\)"):
        ScoreVAEPlus(config, code=code, data=DataSpec((4,), EventScale(low=-1.0, high=1.0)))


def test_variances_beyond_the_range_of_numbers_are_reported_as_text() -> None:
    def certain(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :2], x[:, :2] * 0 - 300

    model = auto_encoder(neural_prior(), 2).float()
    model.posterior = certain  # type: ignore[method-assign]
    numbers, warnings, _ = model.diagnose_codes(normal(8, 3).float(), generator())
    assert all(math.isfinite(value) for value in numbers.values())
    assert "the evidence lower bound is not finite" in warnings[0]

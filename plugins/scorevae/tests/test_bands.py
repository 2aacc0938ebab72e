"""A prior whose components are coefficients in an orthonormal basis, as those by bands are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vae_gaussians import auto_encoder

from scorefold.data import Condition, Dataset
from scorefold.diffusion import VP, DiffusionProcess, GeometricVE, PerComponent
from scorefold.diffusion.process import Orthonormal
from scorefold.interfaces import Progress, ScoreModel
from scorefold_registry import Host
from scorefold_toolkit.rotated import Rotated
from scorefold_toolkit.training import fit


class Flipped(Orthonormal):
    """Coordinates in the reverse order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)

    inverse = forward


class Known(ScoreModel):
    """The score of N(0, I) under a process with a speed a component, or of one whose coefficients have it."""

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        rotated = isinstance(self.process, Rotated)
        z = self.process.transform(x) if rotated else x
        signal, scale = (self.process.inner if rotated else self.process).coefficients(z, t)
        found = -z / (signal**2 + scale**2)
        return self.process.transform.inverse(found) if rotated else found


def speeds(*ends: float) -> DiffusionProcess:
    return PerComponent((3,), [([number], GeometricVE(0.01, end)) for number, end in enumerate(ends)])


@pytest.mark.parametrize(
    ("rotated", "plain"),
    [(Rotated(VP(), Flipped((3,))), VP()), (Rotated(speeds(1.0, 10.0, 50.0), Flipped((3,))), speeds(50.0, 10.0, 1.0))],
    ids=["one speed", "speeds"],
)
def test_bands_that_are_components_are_components(rotated: DiffusionProcess, plain: DiffusionProcess) -> None:
    found = []
    for process in (rotated, plain):
        torch.manual_seed(0)
        model = auto_encoder(Known(process, (3,)).double(), 2)
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        t, z = torch.linspace(0.1, 0.9, 5, dtype=torch.float64), x[:, :2]
        loss = model.loss(Dataset(x), progress=Progress(0, 1, ""), generator=torch.Generator().manual_seed(2)).value
        found.append([*model.posterior(x, t), model.score(x, t, z), model.noise(x, t, z), loss.detach()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["nonuniform", "multiscale"])
def test_an_encoder_of_a_prior_by_bands_trains_and_decodes(host: Host, kind: str) -> None:
    digits = host.create("data:digits", {"range": [-1, 1], "limit": 60})
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    training = {"steps": 2, "batch_size": 16}
    settings = {"network": network, "bands": {"name": "haar", "levels": 1}, "training": training}
    prior = host.create(f"score:{kind}", settings, data=digits)
    fit(prior, digits.load("train"), prior.training_config)
    config = {"latent": 2, "encoder": network, "training": training}
    model = host.create("score:scorevae", config, prior=prior, data=digits)
    fit(model, digits.load("train"), model.training_config)
    x = digits.load("test").x[:3]
    assert model.decode(model.encode(x)).shape == x.shape

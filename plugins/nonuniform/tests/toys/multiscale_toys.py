"""Multi-scale models on small Gaussian fields, exact ones among them, that several test files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import DataSpec, EventScale
from scorefold.interfaces import Network
from scorefold_nonuniform.bands.coefficients import build_bands
from scorefold_nonuniform.config import GaussianFieldConfig, MultiScaleConfig, NonUniformConfig
from scorefold_nonuniform.gaussian_field import GaussianField, gaussian_score
from scorefold_nonuniform.multiscale import MultiScaleScore
from scorefold_nonuniform.nonuniform import NonUniformScore
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_toolkit.training import fit

F64 = torch.float64


TRAINING = {"steps": 30, "batch_size": 32, "validate_every": 30, "log_every": 10, "warmup": 5}


def field(size: int = 8, points: int = 300) -> GaussianField:
    return GaussianField(GaussianFieldConfig(size=size, points=points, seed=0))


def network() -> MLP:
    return MLP(MLPConfig(width=16, blocks=1))


def model(source: Any = None, parts: list[MultiScaleScore] | None = None, **settings: Any) -> MultiScaleScore:
    torch.manual_seed(0)
    config = MultiScaleConfig.model_validate({"network": network(), "training": TRAINING, **settings})
    return MultiScaleScore(config, data=source or field(), parts=parts or [])


class Exact(Network):
    """Builds the exact noise of a Gaussian field, from the image that the published networks see."""

    def __init__(self, source: GaussianField, levels: int) -> None:
        self.source, self.levels = source, levels
        self.bands = build_bands(MultiScaleConfig(bands={"name": "haar", "levels": levels}).bands, source.event_shape)
        self.bands.double()

    def build(self, in_shape: Any, out_shape: Any, *, time: bool = False, condition: Any = None) -> nn.Module:
        return ExactNoise(self, [self.bands.shape(i) for i in range(len(self.bands))].index(tuple(in_shape)))


class ExactNoise(nn.Module):
    def __init__(self, owner: Exact, scale: int) -> None:
        super().__init__()
        self.owner, self.scale = owner, scale
        self.process: Any = None

    def forward(self, image: Tensor, level: Tensor, condition: Any = None) -> Tensor:
        bands, scale, t = self.owner.bands, self.scale, (level + 10) / 20
        if bool((t == t[0]).all()):
            t = t[:1].expand(len(t))  # one matrix for all, as samplers ask for one time
        z = bands.put(bands.analyse(image, scale), scale, image.new_zeros(len(image), *bands.event_shape))
        score = gaussian_score(self.owner.source.distribution(), bands, self.process, scale)(z, t)
        noise = -score * self.process.coefficients(z, t)[1]
        return bands.synthesise(bands.take(noise, scale), scale)


def exact_model(size: int = 8, levels: int = 2, **settings: Any) -> tuple[MultiScaleScore, GaussianField]:
    """The published construction with exact networks. The last scale has the size of the one before it."""
    source = field(size)
    networks = tuple(Exact(source, levels) for _ in range(levels + 1))
    built = model(source, bands={"name": "haar", "levels": levels}, construction="published", boundary="normal",
                  networks=networks, **settings).double()  # fmt: skip
    for scale, each in enumerate(built.networks):
        each.network.scale, each.network.process = scale, built.coefficients
    return built.eval(), source


def trained(folder: Path | None = None, only: str | None = None, **settings: Any) -> MultiScaleScore:
    source = field()
    built = model(source, **settings)
    fit(built, source.load("train"), built.training_config, seed=7, checkpoint_dir=folder, only=only)
    return built


def conditional(kind: str, spec: Any, **settings: Any) -> Any:
    if kind == "multiscale":
        return model(DataSpec((8, 8), EventScale(), spec), **settings).eval()
    config = NonUniformConfig.model_validate({"network": network(), **settings})
    return NonUniformScore(config, data=DataSpec((8, 8), EventScale(), spec)).eval()

"""Each estimator passes on the warnings about its score and its levels, where they hold and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.interfaces import ScoreModel
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.estimators.cascade import Cascade
from scorefold_iddiff.estimators.config import CascadeConfig, DenoisingLossDimensionConfig, FLIPDConfig, LanczosConfig
from scorefold_iddiff.estimators.denoising_loss import DenoisingLoss
from scorefold_iddiff.estimators.flipd import FLIPD
from scorefold_iddiff.estimators.spectral_lanczos import SpectralLanczos
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_toolkit.distributions import Mixture, Points, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]

MADE: dict[str, tuple[Any, Any]] = {
    "iddiff": (NormalBundle, NormalBundleConfig),
    "cascade": (Cascade, CascadeConfig),
    "flipd": (FLIPD, FLIPDConfig),
    "denoising-loss": (DenoisingLoss, DenoisingLossDimensionConfig),
    "spectral-lanczos": (SpectralLanczos, LanczosConfig),
}
CURVED, MEMORISED, MIXTURE = "trace differ by", "the score has memorised single points there", "of different dimensions"


def warnings_of(name: str, score: ScoreModel, x: Tensor, sigma: float, sweep: tuple[float, ...] = ()) -> list[str]:
    made, config = MADE[name]
    found = made(config.model_validate({"sigma": sigma, "sweep": sweep}), score=score)
    listed: list[str] = found.estimate(x, generator=torch.Generator().manual_seed(0)).diagnostics["warnings"]
    return listed


@pytest.mark.parametrize(("sigma", "said"), [(0.05, []), (0.2, ["of the dimension: the data are curved"])])
@pytest.mark.parametrize("name", ["iddiff", "cascade", "flipd", "spectral-lanczos"])
def test_curvature(name: str, sigma: float, said: list[str], make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(10)
    found = [text for text in warnings_of(name, make_score(distribution, (100,)), x, sigma) if CURVED in text]
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize("name", MADE)
def test_memorised_points(name: str, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """300 points of a sphere of radius 1 have their nearest neighbours about 0.1 away."""
    sphere, x = make_sphere(2, ambient=3, points=300)
    for distribution, said in ((Points(x), ["at sigma 0.02 and below"]), (sphere, [])):
        score = make_score(distribution, (3,))
        found = [text for text in warnings_of(name, score, x, 0.2, (0.01, 0.1, 0.5)) if MEMORISED in text]
        assert len(found) == len(said)
        assert all(text.startswith(part) for part, text in zip(said, found, strict=True))


@pytest.mark.parametrize("name", ["iddiff", "cascade"])
def test_several_dimensions(name: str, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, on_large = make_sphere(10, points=20)
    small, on_small = make_sphere(30, radius=0.25, points=20, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (100,))
    sweep = (0.1, 0.3, 3.0)
    (found,) = [
        text for text in warnings_of(name, score, torch.cat([on_large, on_small]), 0.005, sweep) if MIXTURE in text
    ]
    assert "10 (50%), 30 (50%)" in found
    assert not any(MIXTURE in text for text in warnings_of(name, score, on_large, 0.005, sweep))


@pytest.mark.parametrize(
    ("on", "off", "value", "said"), [(15, 5, 4, []), (12, 8, None, ["only 60% of the points have a plateau"])]
)
def test_points_without_a_plateau(
    on: int, off: int, value: float | None, said: list[str], make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """Some points of a 4-sphere, and others whose 30 variances over eight decades have another dimension everywhere."""
    sphere, x = make_sphere(4, ambient=30, points=on)
    sloped = SubspaceGaussian(torch.zeros(30).double(), torch.eye(30).double(), torch.logspace(1, -7, 30).double())
    more = torch.randn(off, 30, generator=torch.Generator().manual_seed(1)).double() * sloped.variances.sqrt()
    score = make_score(Mixture(torch.tensor([on, off]).double() / (on + off), (sphere, sloped)), (30,))
    config = NormalBundleConfig(sigma="auto", shown=20, levels=9, resamples=0, sweep=())
    found = NormalBundle(config, score=score).estimate(torch.cat([x, more]))
    assert found.value == value
    listed = found.diagnostics["warnings"]
    assert len(listed) == len(said)
    assert all(text.startswith(part) for part, text in zip(said, listed, strict=True))


@pytest.mark.parametrize(("radius", "said"), [(1.0, False), (2.0, True)])
def test_a_score_of_other_data(radius: float, said: bool, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    score = make_score(SphereDistribution(distribution.centre, distribution.basis, radius), (20,))
    found = warnings_of("denoising-loss", score, x, 0.1)
    assert any("E g (g - z) = " in text for text in found) == said
    assert any(text.startswith("the dimension is read as") for text in found) == said

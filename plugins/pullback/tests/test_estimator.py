"""Dimension by principal geodesics: known ones, what it says of mean and variance, and the rule for what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError
from scorefold_pullback.config import RiverDataConfig, SqueezedBananaDataConfig, TangentPCAConfig
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_pullback.manifolds import ShearSource
from scorefold_pullback.tangent_pca import (
    TangentPCAEstimator,
    frechet_variance,
    significant_components,
    tangent_pca,
)
from scorefold_toolkit.numerics import pushforward

Make = Callable[..., Pullback]


@pytest.mark.parametrize(
    ("name", "config"), [("squeezed", SqueezedBananaDataConfig()), ("river", RiverDataConfig())], ids=lambda v: str(v)
)
def test_bent_gaussians_have_one_dimension(
    make_geometry: Make, name: str, config: SqueezedBananaDataConfig | RiverDataConfig
) -> None:
    """1/81 and 4, or 1/25 and 3: all but 0.3 % or 1.3 % of the variance is along the curve, where a PCA sees two."""
    x = ShearSource(config).load("test").x.double()
    bent = make_geometry(name, metric="latent")
    flat = make_geometry("linear", rotation=1, dimension=2, metric="latent")
    found = TangentPCAEstimator(TangentPCAConfig(), geometry=bent).estimate(x)
    assert (found.value, found.interval) == (1, (1, 1))
    assert TangentPCAEstimator(TangentPCAConfig(), geometry=flat).estimate(x).value == 2
    assert found.diagnostics["frechet_variance"] == pytest.approx(float(frechet_variance(bent, x)))
    torch.testing.assert_close(found.diagnostics["mean"], bent.mean(x))
    torch.testing.assert_close(found.diagnostics["directions"], tangent_pca(bent, x).directions()[:1])
    assert found.spectrum is not None
    assert float(found.spectrum.sum()) == pytest.approx(found.diagnostics["frechet_variance"])
    assert "note" not in json.loads(json.dumps(found.summary()))["diagnostics"]


def test_the_metric_score_turns_the_order_round_and_says_so(make_geometry: Make) -> None:
    x = ShearSource(SqueezedBananaDataConfig()).load("test").x.double()
    found = TangentPCAEstimator(TangentPCAConfig(), geometry=make_geometry("squeezed")).estimate(x)
    whitened = make_geometry("squeezed", metric="whitened")
    mean, first = found.diagnostics["mean"][None], found.diagnostics["directions"][:1]
    across, along = pushforward(whitened.chart, mean, first)[1][0].abs().tolist()
    assert across > 50 * along
    assert "metric latent weighs directions as a PCA does" in found.diagnostics["note"]


def test_the_interval_holds_what_few_points_leave_open(make_geometry: Make) -> None:
    """These eight points leave open whether the second direction counts."""
    generator = torch.Generator().manual_seed(0)
    plane = make_geometry("linear", rotation=1, dimension=2, metric="latent")
    x = torch.randn(8, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 0.25]).double()
    config = TangentPCAConfig(unexplained=0.06, resamples=200)
    found = TangentPCAEstimator(config, geometry=plane).estimate(x, generator=generator)
    assert found.interval == (1, 2)
    without = TangentPCAEstimator(TangentPCAConfig(resamples=0), geometry=plane).estimate(x)
    assert without.interval is None
    with pytest.raises(DataError, match="at least 3 points; 2 were given"):
        TangentPCAEstimator(config, geometry=plane).estimate(x[:2])


@pytest.mark.parametrize(
    ("variances", "unexplained", "expected"),
    [
        ([0.25, 4.0], 0.1, 1),
        ([0.25, 4.0], 0.05, 2),  # 1/17 = 0.0588 is more than that
        ([1 / 25, 3.0], 0.0132, 1),  # from 0.013158 on
        ([1 / 25, 3.0], 0.0131, 2),
        ([1.0, 1.0, 1.0], 0.0, 3),
        ([1.0, 1.0, 1.0], 1.0, 1),
        ([1.0, 0.0, 0.0], 0.0, 1),
        ([1e8, 1.0, 1e-9], 1e-16, 2),  # a tail that single precision would not see
    ],
)
def test_what_is_kept(variances: list[float], unexplained: float, expected: int) -> None:
    assert significant_components(torch.tensor(variances, dtype=torch.float64), unexplained) == expected


def test_less_is_kept_the_more_may_go(generator: torch.Generator) -> None:
    variances: Tensor = torch.rand(9, generator=generator)
    ranks = [significant_components(variances, share) for share in torch.linspace(0, 1, 50).tolist()]
    assert ranks == sorted(ranks, reverse=True)
    assert (ranks[0], ranks[-1]) == (9, 1)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="expected 0 to 1"):
            significant_components(variances, wrong)

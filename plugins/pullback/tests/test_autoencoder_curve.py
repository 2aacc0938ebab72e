"""The error of a Riemannian auto-encoder as coordinates are left out, and what a PCA says of its dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scorefold.interfaces import Flow
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.autoencoder.latent_axes import (
    kept_counts,
    pca_curve,
    principal_axes,
    reconstruction_curve,
    unseen_pca_curve,
)
from scorefold_pullback.config import RiemannianAutoencoderConfig
from scorefold_pullback.flows.config import IdentityConfig
from scorefold_pullback.flows.linear import IdentityFlow
from scorefold_pullback.flows.mixture import AnisotropicNormal

close = torch.testing.assert_close
MakeFlow = Callable[..., Flow]


def coder(flow: Flow, **settings: Any) -> RiemannianAutoencoder:
    return RiemannianAutoencoder(RiemannianAutoencoderConfig.model_validate(settings), flow=flow)


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_the_curve_at_all_and_none(make_flow: MakeFlow, generator: torch.Generator) -> None:
    flow = make_flow("coupling")
    axes = principal_axes(flow)
    x = flow.sample(60, generator=generator)
    counts = kept_counts(4, 2)
    curve = reconstruction_curve(flow, axes, x, counts, batch_size=7)
    made = coder(flow, dimension=2)
    assert curve["decreasing"][2] == pytest.approx(float((made.project(x) - x).square().mean()))
    for line in curve.values():
        assert line[0] == pytest.approx(float((made.base_point() - x).square().mean()))
        assert line[4] == pytest.approx(0, abs=1e-20)
    narrow = axes.coordinates(flow(x)[0])
    narrow[:, 0] = 0
    back = flow.inverse(axes.latents(narrow, (4,)))[0]
    assert curve["increasing"][3] == pytest.approx(float((back - x).square().mean()))
    assert reconstruction_curve(flow, axes, x, counts, generator=generator_of(5)) == reconstruction_curve(
        flow, axes, x, counts, generator=generator_of(5)
    )


def test_the_curve_of_a_pca(generator: torch.Generator) -> None:
    x = torch.randn(30, 2, 3, generator=generator, dtype=torch.float64) + 5
    values = torch.linalg.svdvals((x - x.mean(0)).flatten(1)).square()
    expected = [float(values[count:].sum()) / x.numel() for count in range(7)]
    assert pca_curve(x, list(range(7))) == pytest.approx(expected, abs=1e-12)


def test_the_curve_of_many_coordinates_is_measured_at_a_few() -> None:
    assert kept_counts(3, 2) == [0, 1, 2, 3]
    counts = kept_counts(784, 137)
    assert counts == sorted(set(counts))
    assert {0, 1, 137, 784} <= set(counts)
    assert 12 <= len(counts) <= 19


@pytest.mark.parametrize(
    ("turned", "value", "pca"),
    [(True, None, 1), (False, 2, 2)],
    ids=["a line across all coordinates", "as the coordinates lie"],
)
def test_no_dimension_where_a_pca_needs_less(
    generator: torch.Generator, turned: bool, value: float | None, pca: int
) -> None:
    """A flow that leaves points where they are keeps 2 of 3 coordinates; points of a line need 1, turned to lie along
    it."""
    flow = IdentityFlow(IdentityConfig(event_shape=(3,)), dtype=torch.float64)
    base = AnisotropicNormal((3,), start=1.0, floor=1e-6, learned=True).double()
    flow.base = base  # type: ignore[assignment]
    base.set_variances(torch.tensor([2.0, 1.5, 0.1], dtype=torch.float64))
    x = flow.sample(400, generator=generator)
    if turned:
        along = torch.randn(400, 1, generator=generator, dtype=torch.float64)
        x = 1.5 * along * torch.tensor([0.9, 0.8, 0.3], dtype=torch.float64)
    found = coder(flow, unexplained=0.1).estimate(x)
    assert (found.value, found.diagnostics["kept"], found.diagnostics["pca_kept"]) == (value, 2, pca)
    if turned:
        assert "keeps 2 coordinates, and a PCA needs 1" in found.headline
    assert coder(flow, dimension=3).estimate(x).value == 3, "a number that was given is no answer that could be wrong"


def test_points_that_repeat_each_other_are_not_unseen(generator: torch.Generator) -> None:
    """50 of 100 directions, from 60 points: read in its own components, each point twice would seem to vary less."""
    x = torch.zeros(60, 100, dtype=torch.float64)
    x[:, :50] = torch.randn(60, 50, generator=generator, dtype=torch.float64)
    twice = x.repeat_interleave(2, 0)
    left, own = unseen_pca_curve(twice), pca_curve(twice, [0, 29])
    # 30 points show 29 of the 50 directions around their mean, and 42% of the variance is left: +-1.5% over 60 seeds.
    assert float(left[29] / left[0]) == pytest.approx(21 / 50, abs=0.075)
    assert float(left[29] / left[0]) > 3 * own[1] / own[0]
    close(left[30:], left[29].expand(71), atol=0, rtol=1e-9)  # 30 points have no further component


@pytest.mark.parametrize("values", [(0.0, 10.0, 0.0, 10.0), (0.0, 0.0, 10.0, 10.0)])
def test_the_halves_that_differ_more_count(values: tuple[float, ...]) -> None:
    """Each of 4 points is 10 from the mean of the other half, of every second point or of the first two."""
    left = unseen_pca_curve(torch.tensor(values, dtype=torch.float64)[:, None])
    close(left, torch.tensor([100.0, 100.0], dtype=torch.float64))


def test_a_pca_of_unseen_points(generator: torch.Generator) -> None:
    wide = torch.randn(40, 100, generator=generator, dtype=torch.float64)
    left = unseen_pca_curve(wide)
    assert len(left) == 101
    assert float(left[-1]) > 0.5, "20 points do not show 100 directions"
    assert bool((left.diff() <= 0).all())
    own = pca_curve(wide, [40])[0]
    assert own == pytest.approx(0, abs=1e-12)
    plane = torch.randn(50, 2, generator=generator, dtype=torch.float64) @ wide[:2]
    close(unseen_pca_curve(plane)[2:], torch.zeros(99, dtype=torch.float64), atol=1e-12, rtol=0)

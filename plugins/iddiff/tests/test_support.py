"""When there is a value: the best linear denoiser, levels that a score supports, and what is printed where none is."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.normal_bundle.noise_level import headline
from scorefold_iddiff.pointwise import score_warnings
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_iddiff.pointwise.support import (
    Corrected,
    DataSurvey,
    LinearDenoiser,
    check_level,
    loss_agreement,
    steady,
    survey_data,
)
from scorefold_toolkit.distributions import Mixture, Points, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]


def read(score: ScoreModel, x: Tensor | Dataset, **config: Any) -> Estimate:
    return NormalBundle(NormalBundleConfig.model_validate({"resamples": 0, **config}), score=score).estimate(x)


def warned(found: Estimate, text: str) -> bool:
    return any(text in warning for warning in found.diagnostics["warnings"])


def draws(count: int, ambient: int, seed: int = 0) -> Tensor:
    return torch.randn(count, ambient, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_rows_near_an_ellipsoid_are_noticed() -> None:
    deviations = torch.logspace(0, -1, 8, dtype=torch.float64)
    normal, cube = draws(4000, 8), 2 * draws(4000, 8).sigmoid() - 1
    shell = normal / normal.norm(dim=1, keepdim=True)
    noisy = shell + 0.05 * draws(4000, 8, seed=1)
    for rows, hollow in ((normal, False), (cube, False), (shell, True), (noisy, True)):
        rows = rows * deviations + 5
        assert ("ellipsoid" in LinearDenoiser(rows, rows[:10]).why_curved(1e-3)) == hollow
    few = (shell * deviations)[:30]
    assert LinearDenoiser(few, few).why_curved(1e-3) == "", "too few rows"


def test_rows_of_fewer_dimensions_than_directions_are_noticed() -> None:
    """Three spirals, each in a plane of its own, have six principal directions."""
    flat = draws(400, 6)
    angles = 2 * flat[:, :3]
    curves = torch.cat([flat[:, :3] * angles.cos(), flat[:, :3] * angles.sin()], 1)
    box = draws(400, 6).sigmoid()
    clusters = 5 * draws(6, 6, seed=1)[torch.arange(400) % 6] + flat
    deviations = torch.logspace(0, -0.5, 6, dtype=torch.float64)
    for rows, curved in ((flat, False), (box, False), (clusters, False), (curves, True)):
        found = LinearDenoiser(rows * deviations + 5, rows[:10]).why_curved(1e-3)
        assert found == ("neighbours show fewer dimensions than in flat data of the same covariance" if curved else "")


def test_few_rows_on_a_curved_set_of_many_directions_are_noticed() -> None:
    """Twelve discs, where the radius in each is the angle in the next (M8), have 24 principal directions."""
    p = torch.rand(12, 250, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    radius, angle = p.roll(-1, 0), 2 * torch.pi * p
    discs = torch.cat([radius * angle.cos(), radius * angle.sin()]).T
    for rows, curved in ((discs, True), (draws(250, 24), False), (draws(250, 24).sigmoid(), False)):
        assert LinearDenoiser(rows, rows[:10]).why_curved(1e-3).startswith("neighbours") == curved


def test_flat_rows_in_the_order_of_time_are_flat() -> None:
    """An autoregression of normal steps, whose neighbours in time are near-copies: rows are read at random."""
    steps, rows = draws(20_000, 5, seed=3), torch.zeros(20_000, 5, dtype=torch.float64)
    for k in range(1, len(rows)):
        rows[k] = 0.99 * rows[k - 1] + (1 - 0.99**2) ** 0.5 * steps[k]
    assert LinearDenoiser(rows[1000:], rows[:10]).why_curved(1e-3) == ""


@pytest.mark.parametrize("sigma", [0.03, 0.3, 1.0])
def test_the_linear_bound_is_the_sum_over_variances(sigma: float) -> None:
    deviations = torch.logspace(0, -3, 12, dtype=torch.float64)
    rows = draws(40_000, 12) * deviations
    found = LinearDenoiser(rows[20_000:], rows[:20_000]).errors(sigma)
    expected = float((deviations**2 / (deviations**2 + sigma**2)).sum())
    assert float(found.mean()) == pytest.approx(expected, rel=0.01)


def test_the_linear_bound_is_that_of_a_denoiser_that_exists() -> None:
    """From 6 rows in 12 coordinates: its error at other points is what a denoiser with those moments has there."""
    rows, points, noise = draws(6, 12), draws(5, 12, seed=1), draws(40_000, 12, seed=2)
    made = LinearDenoiser(rows, points)
    mean = rows.mean(0)
    centred = (rows - mean) / 6**0.5
    inside = torch.linalg.svd(centred, full_matrices=False)[2].mT[:, :5]
    complement = torch.eye(12, dtype=torch.float64) - inside @ inside.T
    covariance = centred.T @ centred + made.outside_variance * complement
    gain = covariance @ torch.linalg.inv(covariance + 0.25 * torch.eye(12, dtype=torch.float64))
    for x, error in zip(points, made.errors(0.5), strict=True):
        guess = mean + (x + 0.5 * noise - mean) @ gain.T
        assert float(error) == pytest.approx(float(((x - guess) / 0.5).square().sum(1).mean()), rel=0.02)
    assert float(made.errors(1e-4).mean()) <= 12, "no worse than to guess no noise"
    with pytest.raises(ValueError, match="given 1 rows; expected at least 2"):
        LinearDenoiser(rows[:1], points)


def reading(loss: Tensor, trace: Tensor) -> NoiseLevelReading:
    return NoiseLevelReading(trace, trace, trace, 0, loss=loss)


def test_a_level_needs_a_loss_below_the_linear_bound_and_equal_to_the_trace() -> None:
    rows = draws(4000, 10)
    linear = LinearDenoiser(rows[100:], rows[:100])
    ones = torch.ones(100, dtype=torch.float64)
    below, bound = 5 * ones, float(linear.errors(0.1).mean())
    assert bound == pytest.approx(9.9, abs=0.1)
    assert check_level(reading(below, below), linear, 0.1).sound
    above = (1.05 * bound + 0.6) * ones
    assert "above the loss of the best linear denoiser" in check_level(reading(above, above), linear, 0.1).reason
    assert check_level(reading(above, above), None, 0.1).sound, "with too few rows nothing is known of it"
    assert "trace differs" in check_level(reading(below, 6 * ones), linear, 0.1).reason
    assert "trace differs" in check_level(reading(6 * ones, below), linear, 0.1).reason
    wide = below + 3 * draws(100, 1)[:, 0]
    assert check_level(reading(wide, below), linear, 0.1).sound, "within two standard errors"


def test_count_flipd_and_loss_agree_within_a_tenth() -> None:
    at = torch.full((4,), 20.0, dtype=torch.float64)
    all_points = torch.ones(4, dtype=torch.bool)
    for off, word in ((1.9, "agree"), (2.1, "bent"), (4.9, "bent"), (5.1, "apart")):
        assert loss_agreement(20.0, Corrected(at, at + off, at), all_points) == word
        assert loss_agreement(20.0, Corrected(at, at, at - off), all_points) == word
    assert steady(10.0, [18.0, 14.0, 12.1])
    assert not steady(10.0, [18.0, 14.0, 11.9])


def test_a_score_no_better_than_linear_gives_no_value(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """A network that guesses nothing, and one that knows the covariance less than half: 784 of 784 on images."""
    distribution, x = make_sphere(5, ambient=30, points=300)
    score = make_score(distribution, (30,))
    plain = score.noise
    for share in (0.0, 0.4):
        score.noise = lambda *given, share=share: share * plain(*given)  # type: ignore[method-assign]
        found = read(score, x)
        assert (found.value, found.interval) == (None, None)
        assert found.headline.startswith("the score supports no scale: it reads ")
        assert found.headline.endswith("; no single dimension")
        assert warned(found, "the score is no better than the best linear denoiser")
        assert {row["kind"] for row in found.diagnostics["plateaus"]} <= {"undertrained"}
        assert not any(row["supported"] for row in found.diagnostics["curve"])
        named = read(score, x, sigma=0.01)
        assert (named.value, named.interval) == (None, None), "nor at a scale that is named"
    score.noise = plain  # type: ignore[method-assign]
    assert not warned(read(score, x), "the score is no better than")


def test_a_linear_score_of_curved_data_says_that_it_counts_principal_directions(
    make_score: MakeScore, make_sphere: MakeSphere, make_frame: Callable[..., Tensor]
) -> None:
    """The score of the Gaussian with a 10-sphere's covariance, which a network learns first, reads 11."""
    distribution, x = make_sphere(10, points=300)
    flat = SubspaceGaussian(torch.zeros(100).double(), distribution.basis, torch.full((11,), 1 / 11).double())
    text = "11 is the number of principal directions"
    curved = read(make_score(flat, (100,)), x)
    assert (curved.value, curved.interval) == (None, None)
    assert curved.headline.startswith(f"withheld, since {text}, and in these the data lie near an ellipsoid")
    assert warned(curved, text)
    linear = read(make_score(flat, (100,)), draws(300, 11) @ distribution.basis.T / 11**0.5)
    assert linear.value == 11
    assert warned(linear, text)
    assert not warned(read(make_score(distribution, (100,)), x), "principal directions")


def test_another_network_is_named_for_vectors_without_a_value() -> None:
    class ManifoldNetwork(torch.nn.Module): ...

    def score(*settings: str, shape: tuple[int, ...] = (2,), network: torch.nn.Module | None = None) -> Any:
        model: Any = torch.nn.Sequential(network or torch.nn.Linear(2, 2))
        model.event_shape, model.config = shape, SimpleNamespace(**dict.fromkeys(settings))
        return model

    ours = ("network", "prediction", "weighting", "training")
    assert "network:manifold-mlp" in score_warnings.of_network(None, score(*ours))[0]
    assert score_warnings.of_network(3.0, score(*ours)) == []
    assert score_warnings.of_network(None, score(*ours, shape=(1, 8, 8))) == [], "images"
    assert score_warnings.of_network(None, score(*ours, network=ManifoldNetwork())) == []
    assert score_warnings.of_network(None, score("network", "training")) == [], "a score without these settings"


def test_without_a_plateau_the_headline_is_the_range(make_score: MakeScore, make_frame: Callable[..., Tensor]) -> None:
    variances = torch.logspace(1, -7, 60, dtype=torch.float64)
    distribution = SubspaceGaussian(torch.zeros(60, dtype=torch.float64), make_frame(60, 60), variances)
    x = draws(400, 60) * variances.sqrt() @ distribution.basis.T
    found = read(make_score(distribution, (60,)), x)
    assert (found.value, found.interval) == (None, None)
    values = [row["value"] for row in found.diagnostics["curve"] if row["value"] > 0]
    assert found.headline.startswith(
        f"{max(values):.0f} at the finest scale to {min(values):.0f} at the coarsest (sigma "
    )


def test_all_coordinates_have_no_interval(make_score: MakeScore, make_frame: Callable[..., Tensor]) -> None:
    """Full-dimensional data: a value where that lasts to the data's extent, none where it does not."""
    wide = SubspaceGaussian(torch.zeros(8, dtype=torch.float64), make_frame(8, 8), torch.ones(8, dtype=torch.float64))
    found = read(make_score(wide, (8,)), draws(400, 8) @ wide.basis.T)
    assert (found.value, found.interval) == (8.0, None)
    narrow = SubspaceGaussian(wide.mean, wide.basis, torch.tensor([1.0] + [1e-4] * 7, dtype=torch.float64))
    found = read(make_score(narrow, (8,)), draws(400, 8) * narrow.variances.sqrt() @ narrow.basis.T)
    assert found.value != 8
    named = read(make_score(wide, (8,)), draws(400, 8) @ wide.basis.T, sigma=0.01)
    assert (named.value, named.interval) == (8.0, None)


def row(sigma: float, value: float, supported: bool = True) -> dict[str, Any]:
    return {"sigma": sigma, "value": value, "supported": supported}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0.01, 46), row(0.1, 3), row(1, 0)], "46 at the finest scale to 3 at the coarsest (sigma 0.01 to 0.1)"),
        (
            [row(0.01, 50, False), row(0.1, 46), row(1, 3)],
            "46 at the finest scale to 3 at the coarsest (sigma 0.1 to 1)",
        ),
        ([row(0.01, 9), row(0.1, 46), row(1, 3)], "3 to 46, depending on the scale (sigma 0.01 to 1)"),
        (
            [row(0.01, 50, False), row(1, 3, False)],
            "the score supports no scale: it reads 3 to 50 over sigma 0.01 to 1",
        ),
        ([row(0.01, 50), row(0.1, 50)], "the data fill the space at every scale reached, sigma 0.01 to 0.1"),
        ([row(0.01, 4), row(0.1, 4)], "4 at sigma 0.01 to 0.1 alone"),
        ([row(0.01, 4), row(0.1, 9, False)], "4 at sigma 0.01 alone"),
        ([row(5, 0), row(9, 0)], "no direction shows at sigma 5 and above"),
    ],
)
def test_headlines(rows: list[dict[str, Any]], said: str) -> None:
    assert headline(rows, 50) == f"{said}; no single dimension"


def test_noise_above_the_whole_spread_is_no_quiet_zero(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    from scorefold.config import VEConfig

    distribution, x = make_sphere(2, ambient=6, radius=0.01, points=100)
    with pytest.raises(ConfigError, match=r"the least noise .* is 1, and the whole spread of the data 0\.0099"):
        read(make_score(distribution, (6,), VEConfig(sigma_min=1.0, sigma_max=50.0)), x)


def test_parts_of_different_dimensions_are_those_whose_traces_differ(
    make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """Points near the faces of a cube count one direction less at some level: no part of its own. A union has some."""
    box = 2 * torch.rand(1500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    x = torch.cat([box, torch.zeros(1500, 2, dtype=torch.float64)], 1)
    cube = read(make_score(Points(x[:1200]), (5,)), x[1200:])
    assert not warned(cube, "parts of different dimensions")
    large, on_large = make_sphere(6, ambient=12, points=60)
    small, on_small = make_sphere(2, ambient=12, radius=0.25, points=60, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (12,))
    union = read(score, torch.cat([on_large, on_small]))
    assert warned(union, "parts of different dimensions, 2 (")


def test_memorising_is_what_falls(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(1, ambient=3, points=300)
    assert warned(read(make_score(Points(x), (3,)), x), "the score has memorised single points there")
    assert not warned(read(make_score(distribution, (3,)), x), "memorised")
    # Two sheets, 0.3 apart: a plane below their distance and a slab above it, at whose scale more directions count.
    sheets = [
        SubspaceGaussian(torch.tensor([0, 0, height]).double(), torch.eye(3).double()[:, :2], torch.ones(2).double())
        for height in (-0.5, 0.5)
    ]
    own = draws(60, 3)
    own[:, 2] = own[:, 2].sign() / 2
    found = read(make_score(Mixture(torch.tensor([0.5, 0.5]).double(), tuple(sheets)), (3,)), own)
    assert found.value == 2
    assert not warned(found, "memorised")


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (1e6, torch.float32, "1 of 3 coordinates hold one number each, as far as float32 goes (steps of 0.12 there)"),
        (1e6, torch.float64, "1 of 3 coordinates are constant and count as no direction"),
        (0.0, torch.float32, "1 of 3 coordinates are constant and count as no direction"),
    ],
)
def test_a_column_that_float32_merged_is_not_called_constant(value: float, dtype: torch.dtype, said: str) -> None:
    x = draws(200, 3)
    x[:, 1] = value
    look = survey_data(Dataset(x.to(dtype)), x[:2], torch.arange(2), torch.Generator().manual_seed(0))
    assert any(warning.startswith(said) for warning in score_warnings.of_data(look, 0.1, 100, 3))


def test_a_column_of_small_spread_is_not_called_constant() -> None:
    x = draws(200, 3)
    x[:, 1] = 1000 + 0.01 * x[:, 1]
    look = survey_data(Dataset(x.float()), x[:2], torch.arange(2), torch.Generator().manual_seed(0))
    assert look.constant == 0
    assert not any("constant" in warning for warning in score_warnings.of_data(look, 0.1, 100, 3))
    assert DataSurvey(1, 1.0, 0.0, 0, 0.0).step == 0

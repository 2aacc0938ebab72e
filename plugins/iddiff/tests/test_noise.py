"""Noise around a manifold: the table of noisy spheres from its closed form, and which plateau is the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.special import ive
from torch import Tensor

from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.pointwise.readings import NoiseLevelReading
from scorefold_iddiff.pointwise.support import corrected, noise_size
from scorefold_registry import Host
from scorefold_toolkit.distributions import Mixture, Points, Product, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]

AMBIENT = 100
SIGMAS = (0.003, 0.007, 0.015, 0.03, 0.07, 0.15)
TABLE: dict[tuple[int, float], str] = {
    (2, 0.005): "74.06 93.1 35.11 57.0 11.80 20.6 4.65 7.2 2.49 3.0 2.09 2.2",
    (2, 0.01): "91.91 99.3 67.77 89.4 32.15 53.0 11.80 20.6 3.96 5.9 2.41 2.9",
    (2, 0.02): "97.84 100 89.31 98.8 64.72 87.3 32.15 53.0 9.39 16.2 3.69 5.4",
    (2, 0.05): "99.65 100 98.12 100 91.91 99.3 74.06 93.1 35.10 57.0 11.78 20.6",
    (2, 0.1): "99.91 100 99.52 100 97.84 100 91.91 99.3 67.77 89.4 32.13 53.0",
    (10, 0.005): "76.18 93.7 40.40 60.5 18.98 27.1 12.36 14.8 10.05 10.8 8.45 9.7",
    (10, 0.01): "92.57 99.4 70.40 90.3 37.67 56.9 18.92 27.1 11.40 13.5 8.75 10.3",
    (10, 0.02): "98.02 100 90.17 98.9 67.58 88.3 37.62 56.8 16.39 23.0 9.92 12.7",
    (10, 0.1): "99.92 100 99.56 100 98.00 100 92.50 99.4 70.03 90.2 36.14 56.5",
    (25, 0.005): "80.14 94.7 50.31 67.1 32.37 39.2 26.51 28.9 22.78 25.1 16.29 21.9",
    (25, 0.01): "93.80 99.5 75.31 91.9 47.95 64.0 31.98 39.1 23.90 27.3 16.55 22.4",
    (25, 0.05): "99.73 100 98.53 100 93.68 99.5 79.66 94.7 47.86 66.5 24.03 36.1",
    (25, 0.1): "99.93 100 99.61 100 98.24 100 93.38 99.5 73.17 91.5 40.45 61.4",
}
"""The trace of the projector and FLIPD at each sigma, by dimension and noise, of a unit sphere in R^100: means over its
noisy points."""


def closed_form(k: int, noise: float, sigma: float, count: int = 40_000) -> tuple[Tensor, Tensor, Tensor]:
    """tr P at noised points; FLIPD at the points themselves; and its part ||eps-hat||^2: (count,) each, from Bessel
    functions.

    With kappa = r / tau^2, r the length of the part in the sphere's span, the clean projector has A / r on the k
    tangent directions and A' / tau^2 on the radial one.
    """
    n, tau = k + 1, math.hypot(noise, sigma)
    generator = torch.Generator().manual_seed(0)

    def lengths(size: float) -> Tensor:
        part = size * torch.randn(count, n, dtype=torch.float64, generator=generator)
        part[:, 0] += 1
        return part.norm(dim=1)

    def trace(r: Tensor) -> tuple[Tensor, Tensor]:
        kappa = r / tau**2
        ratio = torch.from_numpy(ive(n / 2, kappa.numpy()) / ive(n / 2 - 1, kappa.numpy()))
        radial = 1 - ratio**2 - (n - 1) * ratio / kappa
        share = (noise / tau) ** 2
        return AMBIENT * share + (1 - share) * (k * ratio / r + radial / tau**2), ratio

    noised, r = lengths(tau), lengths(noise)
    own, ratio = trace(r)
    outside = noise**2 * torch.distributions.Chi2(torch.tensor(float(AMBIENT - n), dtype=torch.float64)).mean
    square = sigma**2 * ((r - ratio) ** 2 + outside) / tau**4
    return trace(noised)[0], own + square, square


@pytest.mark.parametrize(("k", "noise"), TABLE)
def test_the_table_of_noisy_spheres_has_its_closed_form(k: int, noise: float) -> None:
    numbers = list(map(float, TABLE[k, noise].split()))
    for sigma, trace, flipd in zip(SIGMAS, numbers[::2], numbers[1::2], strict=True):
        for found, said, rounding in zip(closed_form(k, noise, sigma)[:2], (trace, flipd), (0.01, 0.1), strict=True):
            error = 5 * float(found.std()) / len(found) ** 0.5
            assert float(found.mean()) == pytest.approx(said, abs=rounding + error), sigma


def noisy(
    make_sphere: MakeSphere, k: int, noise: float, points: int = 200, **where: Any
) -> tuple[SphereDistribution, Tensor]:
    distribution, x = make_sphere(k, points=points, **where)
    distribution = replace(distribution, noise_std=noise)
    return distribution, x + noise * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(7))


def said_noise(size: float) -> str:
    return f"below sigma {size:.2g} the readings show noise in all directions: about {size:.2g} in the units"


def read(score: ScoreModel, x: Tensor, **config: Any) -> Estimate:
    return NormalBundle(NormalBundleConfig.model_validate({"resamples": 0, **config}), score=score).estimate(x)


@pytest.mark.parametrize(("k", "noise", "place"), [(2, 0.02, 3), (10, 0.02, 4), (25, 0.01, 4)])
def test_an_exact_score_reads_the_table(
    k: int, noise: float, place: int, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = noisy(make_sphere, k, noise)
    found = read(make_score(distribution, (100,)), x, sigma=SIGMAS[place], sweep=(), points=64, shown=64)
    (row,) = found.diagnostics["curve"]
    trace = float(TABLE[k, noise].split()[2 * place])
    assert row["mean_loss"] == pytest.approx(trace, abs=0.1 + 0.02 * trace)
    # The estimator adds ||eps-hat||^2 at the point to the trace around it; of 64 points, with five standard errors.
    square = float(closed_form(k, noise, SIGMAS[place])[2].mean())
    assert row["flipd"] == pytest.approx(trace + square, abs=0.2 + 5 * square * (2 / (100 - k) / 64) ** 0.5)


@pytest.mark.parametrize(("k", "noise"), TABLE)
def test_the_answer_is_the_plateau_of_the_manifold(
    k: int, noise: float, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = noisy(make_sphere, k, noise)
    found = read(make_score(distribution, (100,)), x)
    kinds = [(row["dimension"], row["kind"]) for row in found.diagnostics["plateaus"]]
    if noise == 0.1 and k > 2:
        assert found.value is None, "less than half a decade between the noise and the sphere's curvature"
        assert found.interval is None
        assert (100.0, "space") in kinds
        return
    assert found.value == k
    assert kinds[0] == (k, "manifold")
    assert (100.0, "noise") in kinds
    assert found.diagnostics["noise"] == pytest.approx(noise, rel=0.02)
    assert said_noise(noise) in found.diagnostics["note"]
    curved = any("FLIPD" in warning for warning in found.diagnostics["warnings"])
    assert curved or (k, noise) != (25, 0.05)
    assert not curved or noise > 0.01


def test_clean_spheres_have_no_noise(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(10, points=100)
    found = read(make_score(distribution, (100,)), x)
    assert (found.value, found.diagnostics["noise"]) == (10, None)
    assert "noise" not in found.diagnostics["note"]
    assert [row["kind"] for row in found.diagnostics["plateaus"]] == ["manifold"]


@pytest.mark.parametrize(("k", "ambient", "noise", "levels"), [(10, 50, 0.04, 7), (10, 50, 0.06, 13)])
def test_a_plateau_that_few_levels_see_is_found_by_more(
    k: int, ambient: int, noise: float, levels: int, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """The levels that are added are at most half as many as the sweep has."""
    distribution, x = noisy(make_sphere, k, noise, ambient=ambient)
    found = read(make_score(distribution, (ambient,)), x, levels=levels)
    assert found.value == k
    assert levels < len(found.diagnostics["curve"]) <= levels + levels // 2
    row = found.diagnostics["plateaus"][0]
    assert (row["dimension"], row["kind"]) == (k, "manifold")
    assert noise < row["least_sigma"] < row["greatest_sigma"] < 0.5
    assert said_noise(noise) in found.diagnostics["note"]


def test_noise_explains_a_rise_though_some_of_its_levels_cannot_be_read(
    make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """A network that errs at some level below the noise: the plateau above it is no coarse view."""
    distribution, x = noisy(make_sphere, 25, 0.04)
    score = make_score(distribution, (100,))
    plain = score.noise

    def noise(y: Tensor, t: Tensor, *rest: Any) -> Tensor:
        answer = plain(y, t, *rest)
        sigma = float(score.process.noise_to_signal(t[:1]))
        return answer + 0.5 * torch.sin(3000 * y) if 0.0025 < sigma < 0.009 else answer

    score.noise = noise  # type: ignore[method-assign]
    found = read(score, x)
    assert found.value == 25
    assert [row["supported"] for row in found.diagnostics["curve"]][:5] == [True, True, False, False, True]
    assert said_noise(0.04) in found.diagnostics["note"]


def test_noise_is_named_without_a_value_and_only_where_there_is_some(
    make_score: MakeScore, make_sphere: MakeSphere, make_frame: Callable[..., Tensor]
) -> None:
    distribution, x = noisy(make_sphere, 25, 0.1)
    found = read(make_score(distribution, (100,)), x)
    assert found.value is None
    assert said_noise(0.1) in found.diagnostics["note"]
    # Deviations from 1 to 0.001, so that readings slide from all 100 coordinates to 10.
    variances = torch.logspace(0, -6, 100, dtype=torch.float64)
    slope = SubspaceGaussian(torch.zeros(100, dtype=torch.float64), make_frame(100, 100), variances)
    y = torch.randn(200, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * variances.sqrt()
    sliding = read(make_score(slope, (100,)), y @ slope.basis.T)
    values = [row["value"] for row in sliding.diagnostics["curve"]]
    assert values[0] > 80
    assert min(values) < 10
    assert sliding.value is None
    assert sliding.diagnostics["noise"] is None
    assert "noise in all directions" not in sliding.diagnostics["note"]


def with_normal(levels: list[float], shares: list[float]) -> list[NoiseLevelReading]:
    """Readings at which 3 of 10 eigenvalues are 1 and the others a share."""
    values = torch.zeros(2, dtype=torch.float64)
    rows = [torch.tensor([[1.0] * 3 + [share] * 7] * 2, dtype=torch.float64) for share in shares]
    return [NoiseLevelReading(values, values, values, 0, eigenvalues=row) for row in rows]


def test_noise_has_one_size_and_a_networks_errors_have_not() -> None:
    levels = [0.01 * 10 ** (place / 4) for place in range(9)]
    true = [0.03**2 / (0.03**2 + level**2) for level in levels]
    assert noise_size(levels, with_normal(levels, true), 3, 10) == pytest.approx(0.03)
    assert noise_size(levels, with_normal(levels, [0.1] * 9), 3, 10) is None, "the same share at all levels"
    smooth = [share if level < 0.03 else share**3 for share, level in zip(true, levels, strict=True)]
    assert noise_size(levels, with_normal(levels, smooth), 3, 10) is None, "it falls off faster than noise"
    assert noise_size(levels[:3], with_normal(levels[:3], true[:3]), 3, 10) is None, "three levels are too few"
    assert noise_size(levels, with_normal(levels, true), 10, 10) is None, "no direction is normal"


def test_what_noise_adds_is_taken_out_again() -> None:
    """D m + (1 - m) k and D (1 - (1 - m)^2) + (1 - m)^2 k at k = 10, m = 0.2."""
    k, share = torch.full((2,), 10.0, dtype=torch.float64), 0.2
    read_as = NoiseLevelReading(k, k, 100 * share + (1 - share) * k, 0, loss=100 * share + (1 - share) * k)
    read_as.flipd = 100 * (1 - (1 - share) ** 2) + (1 - share) ** 2 * k
    clean = corrected(read_as, 0.02, 0.01, 100)
    for found in (clean.trace, clean.flipd, clean.loss):
        torch.testing.assert_close(found, k)
    assert corrected(read_as, 0.005, 0.01, 100).trace is not k
    torch.testing.assert_close(corrected(read_as, 0.005, 0.01, 100).trace, read_as.trace, msg="below the noise")


def test_a_product_and_a_union_of_noisy_spheres(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    first, x = noisy(make_sphere, 2, 0.01, ambient=20)
    second, y = noisy(make_sphere, 3, 0.01, ambient=20, seed=4)
    product = read(make_score(Product((first, second)), (40,)), torch.cat([x, y], 1))
    assert (product.value, product.diagnostics["mixture"]) == (5, [{"dimension": 5.0, "share": 1.0}])
    assert product.diagnostics["noise"] == pytest.approx(0.01, rel=0.02)
    union = read(make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (first, second)), (20,)), torch.cat([x, y]))
    assert {part["dimension"] for part in union.diagnostics["mixture"]} == {2.0, 3.0}
    assert union.diagnostics["noise"] == pytest.approx(0.01, rel=0.02), "it is common to all points"
    assert any("parts of different dimensions" in warning for warning in union.diagnostics["warnings"])


@pytest.mark.parametrize("name", ["M2_Affine_3to5", "M5a_Helix1d", "M7_Roll", "M11_Moebius", "M13a_Scurve"])
def test_benchmark_manifolds_have_the_same_dimension_moved(host: Host, name: str, make_score: MakeScore) -> None:
    """The exact score of 1,600 points, read at new ones: shifted by 100, three times as large, and rotated."""

    source = host.create("data:benchmark-manifold", {"name": name})
    train, test = (source.load(split).tensor().double() for split in ("train", "test"))
    truth, ambient = source.load("test").truth["dimension"], train.shape[1]
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(ambient, ambient, dtype=torch.float64, generator=generator)).Q
    for shift, factor, frame in ((0.0, 1.0, torch.eye(ambient).double()), (100.0, 3.0, turn)):
        score = make_score(Points(factor * train @ frame.T + shift), (ambient,))
        found = read(score, factor * test @ frame.T + shift)
        assert found.value == truth
        assert not any("parts of different dimensions" in warning for warning in found.diagnostics["warnings"])

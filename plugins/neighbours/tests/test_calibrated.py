"""The calibrated estimator: surrogates are what they should be, known curves are inverted, and distrust is said."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from scorefold_neighbours.calibrated.answer import Checked, _panel, calibrated_answer, plot
from scorefold_neighbours.calibrated.calibration import calibrate, flatness
from scorefold_neighbours.calibrated.estimator import Calibrated
from scorefold_neighbours.calibrated.facts import axes_above_noise, grid_steps, held_out_variances, local_range, measure
from scorefold_neighbours.calibrated.surrogates import LATENTS, SurrogateRecipe, chosen_recipes, surrogate
from scorefold_neighbours.config import CalibratedConfig, MLEConfig, PCAConfig
from scorefold_neighbours.estimators.estimator import NeighbourEstimator
from scorefold_neighbours.estimators.pca import PCAEstimator
from scorefold_registry import Host
from scorefold_standard.manifolds.benchmark import MANIFOLDS, manifold_points
from scorefold_standard.manifolds.config import SphereConfig, SubspaceConfig
from scorefold_standard.manifolds.synthetic import draw_manifold

SMALL = {"candidates": 40, "surrogates": 12, "points": 300}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plane(noise: float = 0.0, points: int = 400) -> Tensor:
    x = draw_manifold(SubspaceConfig(dimension=2, ambient=6, points=points), 0).x.double()
    x = x + noise * torch.randn(x.shape, generator=gen(9), dtype=torch.float64)
    return x - x.mean(0)


def sphere(points: int = 300) -> Tensor:
    return draw_manifold(SphereConfig(dimension=3, ambient=8, points=points), 0).x


def calibrated(*estimators: Estimator, **settings: Any) -> Calibrated:
    names = [getattr(each, "name", type(each).__name__) for each in estimators]
    return Calibrated(CalibratedConfig(**{**SMALL, **settings}), estimators, port_names={"estimators": names})


class Fake(Estimator):
    """Maximum likelihood, changed: ``how`` gets the value and the number of the call, from 0."""

    def __init__(self, name: str, how: Callable[[float, int], float] = lambda value, call: value) -> None:
        self.name, self.how, self.calls = name, how, 0
        self.sizes: set[int] = set()

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        found = NeighbourEstimator(MLEConfig(resamples=0)).estimate(data, generator=generator)
        self.sizes.add(len(data))
        self.calls += 1
        return Estimate("intrinsic dimension", self.how(found.number(), self.calls - 1))


class Other(Estimator):
    name = "other"

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate("entropy", 1.0)


def fails(value: float, call: int) -> float:
    raise ValueError("not for me")


def table_of(answer: Estimate) -> dict[str, Any]:
    return {row["estimator"]: row for row in answer.diagnostics["table"]}


# What surrogates are matched to


def test_a_plane_shows_two_axes_and_its_noise() -> None:
    facts = measure(plane(noise=0.05))
    assert len(facts.variances) == 6
    assert facts.noise == pytest.approx(0.05, rel=0.3)
    clean = measure(plane())
    assert (len(clean.variances), clean.seen) == (2, 2)
    assert clean.noise > facts.noise  # nothing varies less than the plane itself


def test_points_that_are_all_the_same_have_nothing_to_match() -> None:
    with pytest.raises(DataError, match="points are equal"):
        measure(torch.zeros(50, 3, dtype=torch.float64))


def test_a_grid_is_seen_column_by_column() -> None:
    x = torch.randn(500, 3, generator=gen(), dtype=torch.float64)
    x[:, 0] = (x[:, 0] / 0.25).round() * 0.25
    x[:, 1] = (x[:, 1] > 0).double() * 3
    assert grid_steps(x).tolist() == [pytest.approx(0.25), pytest.approx(3), 0]


def test_the_third_moment_fixes_the_signs_so_that_a_rotation_changes_nothing() -> None:
    x = torch.randn(300, 3, generator=gen(), dtype=torch.float64).exp() * torch.tensor([1.0, 2.0, 4.0])
    x = x - x.mean(0)
    turned = x @ torch.linalg.qr(torch.randn(3, 3, generator=gen(1), dtype=torch.float64)).Q
    torch.testing.assert_close(measure(turned).marginals, measure(x).marginals, rtol=1e-6, atol=1e-6)


def in_noise(x: Tensor, noise: float, ambient: int) -> Tensor:
    """Points in the first of more coordinates, with normal noise in all of them."""
    wide = torch.cat([x.double(), torch.zeros(len(x), ambient - x.shape[1], dtype=torch.float64)], 1)
    wide = wide + noise * torch.randn(wide.shape, generator=gen(5), dtype=torch.float64)
    return wide - wide.mean(0)


def test_axes_that_hold_noise_alone_are_left_out() -> None:
    x = torch.randn(400, 4, generator=gen(), dtype=torch.float64)
    noisy = in_noise(x / x.norm(dim=1, keepdim=True), 0.05, 14)
    found = axes_above_noise(torch.cat([noisy, noisy[:, :2]], 1))
    assert found is not None
    assert found.count == 10, "directions that hold nothing are not noise"
    found = axes_above_noise(noisy)
    assert found is not None
    assert found.clear
    axes, count = found.axes, found.count
    assert axes.shape == (14, 4)
    assert count == 10
    torch.testing.assert_close(axes.mT @ axes, torch.eye(4, dtype=torch.float64))
    assert float(axes[4:].abs().max()) < 0.1
    found = axes_above_noise(noisy[:, :6])
    assert found is not None
    assert found.count == 2
    assert axes_above_noise(noisy[:, :5]) is None, "one axis has no other of its size"
    assert axes_above_noise(in_noise(x, 0.7, 14)) is None, "no gap stands between the points and the noise"
    assert axes_above_noise(in_noise(torch.zeros(400, 1), 1, 50)) is None, "noise alone is the data"


@pytest.mark.parametrize("dimension", [2, 4])
@pytest.mark.parametrize(("share", "left_out"), [(0.42, True), (0.58, False)])
def test_noise_is_left_out_up_to_half_of_what_tenth_neighbours_differ_by_along_an_axis(
    dimension: int, share: float, left_out: bool
) -> None:
    """In a cube, each axis makes up one part of the squared distance of neighbours."""
    cube = torch.rand(1000, dimension, generator=gen(6), dtype=torch.float64)
    tenth = float(torch.cdist(cube, cube).kthvalue(11, dim=1).values.median())
    found = axes_above_noise(in_noise(cube, share * tenth / dimension**0.5, dimension + 4))
    assert (found is not None) == left_out
    if found is not None:
        assert (found.axes.shape, found.count) == ((dimension + 4, dimension), 4)


def test_two_directions_of_noise_among_many_are_known() -> None:
    """With ten directions of points, and where small directions of points are no smaller than what neighbours differ
    by."""
    x = torch.randn(600, 10, generator=gen(7), dtype=torch.float64)
    found = axes_above_noise(in_noise(x, 0.1, 12))
    assert found is not None
    assert found.count == 2
    assert axes_above_noise(in_noise(2.5 * x[:, :5], 1, 7)) is None, "two normal dimensions of their own"


def test_axes_that_are_thin_and_hold_points_are_kept() -> None:
    x = torch.randn(400, 2, generator=gen(), dtype=torch.float64)
    bends = 0.05 * torch.cat([(2 * x).sin(), (2 * x).cos(), (x[:, :1] + x[:, 1:]).sin(), x[:, :1] * x[:, 1:]], 1)
    bends = 0.05 * (bends - bends.mean(0)) / bends.std(0)
    curved = torch.cat([x, bends], 1)
    assert axes_above_noise(curved - curved.mean(0)) is None, "neighbours have about the same bends"
    box = 0.05 * (torch.rand(400, 8, generator=gen(1), dtype=torch.float64) - 0.5)
    solid = torch.cat([x, box], 1)
    assert axes_above_noise(solid - solid.mean(0)) is None, "a box is not normal"
    falling = torch.cat([x, torch.randn(400, 8, generator=gen(2), dtype=torch.float64) * torch.logspace(-1, -2, 8)], 1)
    assert axes_above_noise(falling - falling.mean(0)) is None, "noise has one size"
    normal = torch.randn(500, 8, generator=gen(3), dtype=torch.float64)
    for wide in (10 * torch.rand(500, 2, generator=gen(4), dtype=torch.float64), 4 * normal[:, :4].flip(0)):
        large = torch.cat([wide, normal], 1)
        assert axes_above_noise(large - large.mean(0)) is None, "neighbours differ by no more than this noise"


@pytest.mark.parametrize(("share", "left_out"), [(0.0, True), (0.3, False)])
def test_thin_axes_of_which_a_third_depends_on_others_are_kept(share: float, left_out: bool) -> None:
    """White columns of bends and of noise: neighbours differ by 0.7 of what any two points differ by."""
    x = torch.randn(1000, 2, generator=gen(0), dtype=torch.float64)
    bends = (x @ (2 * torch.randn(2, 4, generator=gen(2), dtype=torch.float64)) + torch.arange(4)).sin()
    noise = torch.randn(1000, 4, generator=gen(1), dtype=torch.float64)
    mixed = share**0.5 * whitened(bends) + (1 - share) ** 0.5 * noise
    points = torch.cat([x, 0.05 * whitened(mixed)], 1)
    assert (axes_above_noise(points - points.mean(0)) is not None) == left_out


def whitened(x: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1 without correlations."""
    return torch.linalg.svd(x - x.mean(0), full_matrices=False).U * len(x) ** 0.5


def test_held_out_points_show_the_variances_that_a_sample_scatters() -> None:
    """The principal variances of 1,000 normal points in 80 dimensions are 0.51 to 1.65 times the true one."""
    true = torch.tensor([6.0] * 80 + [1.0] * 20, dtype=torch.float64)
    x = torch.randn(1000, 100, generator=gen(9), dtype=torch.float64) * true.sqrt()
    x = x - x.mean(0)
    own = torch.linalg.eigvalsh(x.mT @ x / 1000).flip(0)
    found = held_out_variances(x)
    assert float(own[79] / own[80]) < 3
    assert float(found[79] / found[80]) == pytest.approx(6, rel=0.25)
    expected = torch.zeros(100, dtype=torch.float64)
    for start in range(5):
        others = torch.cat([x[place::5] for place in range(5) if place != start])
        expected += (x[start::5] @ torch.linalg.svd(others, full_matrices=False).Vh.T).square().sum(0) / 1000
    torch.testing.assert_close(found, expected)


def sphere_in_noise(dimension: int, ambient: int, noise: float = 0.05, points: int = 1000) -> Tensor:
    z = torch.randn(points, dimension + 1, generator=gen(8), dtype=torch.float64)
    return in_noise(z / z.norm(dim=1, keepdim=True), noise, ambient)


@pytest.mark.parametrize(("points", "columns"), [(30, 10), (30, 15), (60, 15), (100, 15)])
def test_few_points_without_noise_keep_their_directions(points: int, columns: int) -> None:
    draws = [torch.randn(points, columns, generator=gen(seed), dtype=torch.float64) for seed in range(60)]
    assert [axes_above_noise(x - x.mean(0)) for x in draws] == [None] * 60


def test_noise_of_a_sphere_of_many_dimensions_is_known() -> None:
    """Its coordinates have a variance of 1/91 and the noise's, 1/400: 5.4 times as much as noise alone."""
    found = axes_above_noise(sphere_in_noise(90, 120))
    assert found is not None
    assert (found.axes.shape, found.count, found.clear) == ((120, 91), 29, True)
    unclear = axes_above_noise(sphere_in_noise(120, 140))
    assert unclear is not None, "4.3 times as much, of which the scatter leaves 3"
    assert (unclear.axes.shape, unclear.count, unclear.clear) == ((140, 121), 19, False)
    assert axes_above_noise(sphere_in_noise(40, 50, 0.3)) is None, "the noise is larger than the sphere"


def test_a_value_that_counts_directions_of_possible_noise_is_withheld() -> None:
    facts = checked(0.05, 12.0, 20)
    found = calibrated_answer(CONFIG, facts, ["e0", "e1"], 20.0, sure=9)
    assert (found.value, found.interval) == (None, None)
    assert "11 of 20 directions may hold noise of one size" in found.headline
    assert "at most 9 without them" in found.headline
    assert found.diagnostics["counts possible noise"]
    surer = calibrated_answer(CONFIG, facts, ["e0", "e1"], 20.0, sure=13)
    assert not surer.diagnostics["counts possible noise"]
    assert surer.value == pytest.approx(12, rel=0.1)
    fake = Fake("a")
    answer = calibrated(fake).estimate(sphere_in_noise(30, 40, 0.1, points=500), generator=gen())
    assert answer.value is None
    assert "9 of 40 directions may hold noise of one size" in answer.headline
    assert (fake.calls, answer.diagnostics["candidates"]) == (1 + 12, 40), "more candidates cannot settle it"


def test_more_candidates_are_made_where_the_first_lead_to_no_answer() -> None:
    """One reading is of the data, and twelve are of surrogates at a time."""
    first = Fake("a")
    answer = calibrated(first).estimate(sphere(), generator=gen())
    assert (first.calls, answer.diagnostics["candidates"]) == (1 + 12, 40)
    assert answer.value is not None
    second = Fake("a", lambda value, call: value if call == 0 or call > 12 else 1 + call % 7)
    answer = calibrated(second).estimate(sphere(), generator=gen())
    assert (second.calls, answer.diagnostics["candidates"]) == (1 + 12 + 12, 120)
    assert answer.value == pytest.approx(3, abs=0.5)
    never = Fake("a", lambda value, call: value if call == 0 else 1 + call % 7)
    answer = calibrated(never).estimate(sphere(), generator=gen())
    assert (never.calls, answer.value) == (1 + 12 + 12, None)


def test_a_sphere_in_noise_of_many_columns_is_found() -> None:
    z = torch.randn(300, 4, generator=gen(3), dtype=torch.float64)
    x = in_noise(z / z.norm(dim=1, keepdim=True), 0.05, 50)
    answer = calibrated(Fake("a")).estimate(x, generator=gen())
    assert answer.value == pytest.approx(3, abs=0.5)
    assert answer.interval is not None
    assert answer.interval[1] <= 4
    (warning,) = answer.diagnostics["warnings"]
    assert warning == "46 of 50 principal directions hold noise of one size and nothing else, and were left out"
    on_grid = (x / 0.01).round() * 0.01
    kept, _, said = calibrated(Fake("a"))._prepared(on_grid, gen())
    assert (kept.shape, said) == ((300, 50), []), "a grid is lost in other directions"


# Surrogates


@pytest.mark.parametrize("latent", LATENTS)
def test_surrogates_have_the_spectrum_and_the_number_of_the_data(latent: str) -> None:
    facts = measure(torch.randn(500, 8, generator=gen(), dtype=torch.float64) * torch.tensor([4, 3, 2, 1, 1, 1, 1, 1]))
    x = surrogate(facts, SurrogateRecipe(3, latent, 1.0, 2, 0.0), gen(3))
    assert x.shape == (500, 8)
    torch.testing.assert_close(x.var(0), facts.variances, rtol=0.35, atol=0)


def test_a_surrogate_without_bends_spans_its_dimension() -> None:
    facts = measure(plane())
    assert torch.linalg.matrix_rank(surrogate(facts, SurrogateRecipe(1, "uniform", 0.0, 1, 0.0), gen())) <= 1
    assert torch.linalg.matrix_rank(surrogate(facts, SurrogateRecipe(2, "uniform", 1.0, 1, 0.0), gen())) == 2


def test_tangents_of_a_surrogate_number_its_dimension() -> None:
    """On a dense curve and surface, the variances in small neighbourhoods fall off after the dimension."""
    facts = measure(torch.randn(3000, 5, generator=gen(), dtype=torch.float64))
    for dimension in (1, 2):
        x = surrogate(facts, SurrogateRecipe(dimension, "uniform", 0.5, 1, 0.0), gen(1))
        near = x[torch.cdist(x[:20], x).topk(12, largest=False).indices]
        spectra = torch.linalg.svdvals(near - near.mean(1, keepdim=True)) ** 2
        shares = (spectra / spectra.sum(1, keepdim=True)).median(dim=0).values
        assert shares[:dimension].sum() > 0.95
        assert shares[dimension - 1] > 0.02


def test_surrogates_lie_on_the_grid_of_the_data() -> None:
    x = (torch.randn(400, 3, generator=gen(), dtype=torch.float64) / 0.5).round() * 0.5
    x = x.unique(dim=0)
    facts = measure(x - x.mean(0))
    made = surrogate(facts, SurrogateRecipe(2, "gaussian", 1.0, 2, 0.1), gen()) / 0.5
    torch.testing.assert_close(made, made.round())


def test_the_nearest_are_read_and_some_of_every_dimension() -> None:
    dimensions = np.repeat([1.0, 2.0, 4.0, 8.0, 16.0], 10)
    distances = np.where(dimensions == 4, 0.0, 1.0) + np.arange(50) / 1000
    places = chosen_recipes(dimensions, distances, 15)
    assert len(set(places)) == 15
    assert set(dimensions[places]) == {1, 2, 4, 8, 16}
    assert (dimensions[places] == 4).sum() >= 9


# Correction


def test_a_known_bias_is_undone_and_what_says_nothing_is_seen() -> None:
    dimensions = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    readings = np.stack([0.8 * dimensions, dimensions**0.5, np.full(12, 3.0)], axis=1)
    found = calibrate(readings[:, :2], dimensions, np.array([4.0, 5**0.5]))
    assert [curve.corrected for curve in found.curves] == [pytest.approx(5, rel=0.02)] * 2
    assert found.together.corrected == pytest.approx(5, rel=0.1)
    assert found.distance == pytest.approx(0, abs=1e-9)
    assert flatness(readings[:, 0], dimensions) < 0.01
    assert flatness(readings[:, 2], dimensions) > 0.9


def test_scatter_is_the_error() -> None:
    """Over data sets: of the readings of 30 surrogates, the error of the correction is the scatter, to a half."""
    rng = np.random.default_rng(0)
    for scatter in (0.05, 0.2):
        errors = []
        for _ in range(30):
            dimensions = rng.integers(3, 13, 30).astype(float)
            readings = (dimensions * np.exp(scatter * rng.standard_normal(30)))[:, None]
            errors.append(calibrate(readings, dimensions, np.array([6.0])).curves[0].error)
        assert np.median(errors) == pytest.approx(scatter, rel=0.5)


def checked(scatter: float, at: float, most: int, estimators: int = 2, seed: int = 0) -> Checked:
    """Estimators that read the dimension with this scatter of its logarithm, and ``at`` from the data."""
    rng = np.random.default_rng(seed)
    dimensions = np.repeat(np.arange(1.0, most + 1), 6)
    readings = dimensions[:, None] * np.exp(scatter * rng.standard_normal((len(dimensions), estimators)))
    names = [f"e{number}" for number in range(estimators)]
    return Checked(dimensions, readings, names, dict.fromkeys(names, at), {})


CONFIG = CalibratedConfig(tolerance=0.5)


def test_an_interval_ends_at_the_number_of_columns() -> None:
    found = calibrated_answer(CONFIG, checked(0.1, 12.5, 20), ["e0", "e1"], 13.0)
    assert found.value == pytest.approx(12.5, rel=0.1)
    assert found.interval is not None
    assert found.interval[0] < 11.5
    assert found.interval[1] == 13


@pytest.mark.parametrize(("at", "most", "said"), [(2.0, 4, "most of what 4 columns allow"), (6.0, 40, "too wide")])
def test_an_interval_over_most_of_what_is_possible_is_withheld(at: float, most: int, said: str) -> None:
    found = calibrated_answer(CONFIG, checked(0.3, at, most, estimators=1), ["e0"], float(most))
    assert (found.value, found.interval) == (None, None)
    assert said in found.headline
    assert "More rows, or fewer columns of noise, would help" in found.headline
    surer = calibrated_answer(CONFIG, checked(0.05, at, most, estimators=1), ["e0"], float(most))
    assert surer.value == pytest.approx(at, rel=0.1)


def test_the_value_lies_among_the_corrected_readings() -> None:
    outside = 0
    for seed in range(8):
        facts = checked(0.15, 9.0, 10, estimators=3, seed=seed)
        found = calibrated_answer(CONFIG, facts, facts.names, 1000.0)
        corrected = [row["corrected"] for row in found.diagnostics["table"]]
        assert found.value is not None
        assert min(corrected) <= found.value <= max(corrected)
        outside += not min(corrected) <= found.diagnostics["together"]["corrected"] <= max(corrected)
    assert outside > 0


def test_a_reading_that_hardly_rises_is_not_kept() -> None:
    facts = checked(0.02, 3.0, 8)
    flat = replace(facts, readings=facts.readings ** np.array([1.0, 0.1]), given={"e0": 3.0, "e1": 3.0**0.1})
    kept = {row["estimator"]: row for row in calibrated_answer(CONFIG, flat, ["e0", "e1"], 10.0).diagnostics["table"]}
    assert kept["e0"]["used"]
    assert not kept["e1"]["used"]
    assert kept["e1"]["why"] == "its readings hardly rise: by 7% at twice the dimension of the surrogates"


def test_the_axis_of_dimensions_begins_at_0() -> None:
    (axes,) = Estimate("intrinsic dimension", 25.0, (24.0, 26.0)).plot().axes
    assert axes.get_xlim()[0] == 0
    pointwise = torch.tensor([0.0, 0.0, 1.0])
    (axes,) = Estimate("intrinsic dimension", 0.3, pointwise=pointwise).plot().axes
    assert axes.get_xlim()[0] == -0.75  # a bar at 0 is whole
    (axes,) = Estimate("log-likelihood", -3.0, (-4.0, -2.0)).plot().axes
    assert axes.get_xlim()[0] < -4


# The estimator


@pytest.fixture(scope="module")
def answered() -> tuple[Estimate, Fake]:
    low = Fake("low", lambda value, call: 0.5 * value)
    panel = (
        NeighbourEstimator(MLEConfig(n_neighbors=12)),
        low,
        Fake("fails", fails),
        Other(),
        Fake("flat", lambda v, c: 2),
    )
    return calibrated(*panel, subsample={"low": 100}).estimate(sphere(), generator=gen()), low


def test_biased_estimators_are_corrected_and_unfit_ones_left_out(answered: tuple[Estimate, Fake]) -> None:
    answer, low = answered
    assert answer.value == pytest.approx(3, abs=0.5)
    assert answer.interval is not None
    assert answer.interval[0] < 3 < answer.interval[1]
    rows = table_of(answer)
    assert rows["low"]["reading"] < 2
    assert rows["low"]["corrected"] == pytest.approx(3, abs=0.7)
    assert {name: row["used"] for name, row in rows.items()} == {
        "NeighbourEstimator": True,
        "low": True,
        "fails": False,
        "other": False,
        "flat": False,
    }
    assert rows["fails"]["why"] == "it failed: not for me"
    assert "entropy" in rows["other"]["why"]
    assert "hardly change" in rows["flat"]["why"]
    assert low.sizes == {100}
    assert "2 of 5 estimators kept" in answer.diagnostics["note"]
    assert answer.diagnostics["warnings"] == []


def test_figures_have_a_panel_an_estimator(answered: tuple[Estimate, Fake]) -> None:
    figures = plot(answered[0])
    assert figures.keys() == {"curves"}, "no histogram of one number"
    assert [axes.get_title() for axes in figures["curves"].axes if axes.axison] == answered[0].diagnostics["estimators"]


def test_one_reading_everywhere_is_drawn_without_a_warning(answered: tuple[Estimate, Fake]) -> None:
    facts, axes = answered[0].diagnostics, Figure().add_subplot()
    row = {**facts["table"][0], "reading": 10.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _panel(axes, row, facts, torch.full_like(facts["surrogate_dimensions"], 10))
    low, high = axes.get_ylim()
    assert low < 10 < high


def test_no_value_where_corrected_readings_disagree() -> None:
    """One reads the data three times too high, and nothing else so: correcting both leaves them apart."""
    answer = calibrated(Fake("a"), Fake("b", lambda value, call: value * (3 if call == 0 else 1))).estimate(
        sphere(), generator=gen()
    )
    assert (answer.value, answer.interval) == (None, None)
    assert "no estimator can be trusted on these data" in answer.headline
    assert all(row["corrected"] is not None for row in answer.diagnostics["table"])


def test_no_value_where_all_fail() -> None:
    answer = calibrated(Fake("a", fails)).estimate(sphere(), generator=gen())
    assert answer.value is None
    assert "Each fails" in answer.headline
    assert plot(answer) == {}


def test_one_seed_one_answer_and_the_data_are_left_alone() -> None:
    x = sphere()
    before = x.clone()
    one, two = (calibrated(Fake("a"), Fake("b")).estimate(x, generator=gen(4)) for _ in range(2))
    assert (one.value, one.interval) == (two.value, two.interval)
    assert torch.equal(x, before)


def test_a_shift_of_a_million_changes_nothing() -> None:
    x = sphere().double()
    there, here = (calibrated(Fake("a")).estimate(points, generator=gen()).number() for points in (1e6 + 100 * x, x))
    assert there == pytest.approx(here, rel=1e-3)


def test_copies_are_warned_of() -> None:
    x = torch.cat([sphere()[:250], sphere()[:20]])
    (warning,) = calibrated(Fake("a")).estimate(x, generator=gen()).diagnostics["warnings"]
    assert warning == f"20 of {len(x)} points are copies of others, and were left out"
    assert calibrated(Fake("a")).estimate(sphere(), generator=gen()).diagnostics["warnings"] == []


def mixture(points: int = 400) -> Tensor:
    """Half of the points on a line, half on a cube of three dimensions far from it."""
    cube = torch.rand(points // 2, 3, generator=gen(5), dtype=torch.float64)
    line = torch.rand(points // 2, 1, generator=gen(6), dtype=torch.float64)
    return torch.cat([cube, 5 + line.expand(-1, 3)])


def test_the_range_of_local_dimensions_is_of_their_closed_form() -> None:
    """Around points of a mixture it is 1 or 3, in any unit; neighbours on a grid are 1, 1, ... 10, 10 away."""
    low, high = local_range(mixture(2000))
    assert 0.85 < low < 1 < 2.6 < high < 3.6
    assert local_range(7e4 * mixture(2000)) == pytest.approx((low, high), rel=1e-9)
    line = torch.arange(2000, dtype=torch.float64)[:, None]
    steps = torch.arange(1, 11, dtype=torch.float64).repeat_interleave(2)
    inside = 1 / float((math.log(10) - steps[:-1].log()).mean())
    assert local_range(line) == pytest.approx((inside, inside))


def test_data_of_several_dimensions_are_warned_of() -> None:
    (warning,) = calibrated(Fake("a"), points=400).estimate(mixture(), generator=gen()).diagnostics["warnings"]
    assert re.match(
        r"around points the dimension is from 0\.\d+ to [23]\.\d \(5% to 95% of the points\): parts", warning
    )
    few = calibrated(Fake("a"), points=150).estimate(mixture(), generator=gen())
    assert "local dimensions" not in few.diagnostics
    one = calibrated(Fake("a")).estimate(sphere(), generator=gen())
    assert one.diagnostics["warnings"] == []
    low, high = one.diagnostics["local dimensions"]
    assert 1 < high / low < 1.8


def test_more_points_than_the_limit_are_drawn_and_said() -> None:
    answer = calibrated(Fake("a"), points=100).estimate(sphere(), generator=gen())
    assert answer.diagnostics["points"] == 100
    assert "100 distinct points of 300" in answer.diagnostics["note"]


def test_bad_input_is_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match="no estimator to check"):
        Calibrated(CalibratedConfig())
    with pytest.raises(DataError, match="at least 30 points"):
        calibrated(Fake("a")).estimate(sphere(20))
    with pytest.raises(DataError, match="at least 30 distinct points; of 60, 20 are"):
        calibrated(Fake("a")).estimate(sphere(20).repeat(3, 1))
    for wrong in ({"surrogates": 5}, {"candidates": 3}, {"points": 10}, {"subsample": {"ess": 3}}, {"scale": "rows"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CalibratedConfig(**wrong)


def test_point_estimates_are_estimates_without_intervals() -> None:
    for estimator in (NeighbourEstimator(MLEConfig()), PCAEstimator(PCAConfig())):
        whole, quick = (
            estimator.estimate(sphere(), generator=gen()),
            estimator.point_estimate(sphere(), generator=gen()),
        )
        assert (quick.value, quick.interval) == (whole.value, None)
        assert whole.interval is not None


@pytest.mark.parametrize("name", ["M2_Affine_3to5", "M7_Roll"])
def test_noisy_shifted_and_scaled_benchmarks_by_what_is_installed(host: Host, name: str) -> None:
    x, truth = manifold_points(MANIFOLDS[name], 400, 0), MANIFOLDS[name].dimension
    noise = 0.01 * x.var(0).mean().sqrt() * torch.randn(x.shape, generator=gen(), dtype=torch.float64)
    some = ["mle", "twonn", "gride", "corrint", "mind-ml", "danco"]
    config = {"candidates": 80, "surrogates": 16}
    estimator = host.create("estimator:calibrated", config, estimators=[f"estimator:{each}" for each in some])
    answer = estimator.estimate(37 * (x + noise) + 1000, generator=gen())
    assert [row["estimator"] for row in answer.diagnostics["table"]] == some
    assert answer.value == pytest.approx(truth, abs=0.35)


@pytest.mark.parametrize(("digits", "said"), [(1, True), (3, False)])
def test_values_that_are_rounded_coarsely_are_a_warning(digits: int, said: bool) -> None:
    x = torch.round(plane(points=300), decimals=digits)
    found = calibrated(NeighbourEstimator(MLEConfig())).estimate(x).diagnostics["warnings"]
    assert any(text.startswith("values are rounded to steps that move neighbours by ") for text in found) == said

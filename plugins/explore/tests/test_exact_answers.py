"""Answers to the page against closed forms: a normal score with a mean, a geometry of stretched axes, a linear code."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale, TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import ConfigError
from scorefold.interfaces import Encodes, Geometry, ScoreModel
from scorefold_explore.answers import colours, conditions, maps, neighbours, points
from scorefold_explore.answers.colours import bounds, deviation_tiles, shown
from scorefold_explore.explored import Explored, ExploredModel, Group, Known
from scorefold_explore.questions import answer
from scorefold_registry import Host

F64 = torch.float64
MEAN, DEVIATION = torch.tensor([1.0, -2.0, 0.5], dtype=F64), torch.tensor([2.0, 0.5, 0.1], dtype=F64)


def opened(x: Tensor, *groups: Group, **facts: Any) -> Explored:
    whole = (Group("train", 0, len(x), "data", "train"),)
    return Explored("plain", Path("plain"), "data", x, EventScale(), groups or whole, **facts)


def of_model(x: Tensor, value: Any, **facts: Any) -> Explored:
    return opened(x, models={"m": ExploredModel("m", "kind:m", value)}, **facts)


class NormalScore(ScoreModel):
    """The score of N(MEAN, diag(DEVIATION^2)) noised by VP: -(x - a m) / (a^2 s^2 + b^2)."""

    def __init__(self, event_scale: EventScale | None = None) -> None:
        super().__init__(VP(), (3,), event_scale=event_scale)
        self.register_buffer("unit", torch.ones(1, dtype=F64))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        signal, scale = self.process.coefficients(x, t)
        return -(x - signal * MEAN) / (signal**2 * DEVIATION**2 + scale**2)


def variance_preserving(t: float) -> tuple[float, float]:
    """(a, b) of VP with beta from 0.1 to 20: B = 0.1 t + 19.9 t^2 / 2, a = exp(-B / 2), b^2 = 1 - exp(-B)."""
    total = 0.1 * t + 19.9 * t**2 / 2
    return math.exp(-total / 2), math.sqrt(1 - math.exp(-total))


@pytest.mark.parametrize("t", [0.05, 0.3, 0.8])
def test_the_denoiser_of_normal_data_has_the_derivative_of_its_regression(t: float) -> None:
    """a dE[x_0 | x_t] / dx = diag(a^2 s^2 / (a^2 s^2 + b^2)), at any point."""
    a, b = variance_preserving(t)
    found = points.denoiser_jacobian(NormalScore(), torch.tensor([3.0, 1.0, -1.0], dtype=F64), torch.tensor(t).double())
    expected = [(a * s) ** 2 / ((a * s) ** 2 + b**2) for s in DEVIATION.tolist()]
    assert torch.allclose(found, torch.diag(torch.tensor(expected, dtype=F64)), atol=1e-12)


class Skewed(NormalScore):
    """A score whose derivative is a matrix M that is not symmetric: the page takes (M + M^T) / 2 of the denoiser's."""

    matrix = torch.tensor([[-1.0, 0.4, 0.0], [0.0, -2.0, 0.6], [0.2, 0.0, -3.0]], dtype=F64)

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return x @ self.matrix.T


def test_the_derivative_of_a_denoiser_is_made_symmetric() -> None:
    """E[x_0 | x] = (x + b^2 s(x)) / a by Tweedie, so a times its derivative is 1 + b^2 M."""
    _, b = variance_preserving(0.4)
    found = points.denoiser_jacobian(Skewed(), torch.ones(3, dtype=F64), torch.tensor(0.4).double())
    whole = torch.eye(3, dtype=F64) + b**2 * Skewed.matrix
    assert torch.allclose(found, (whole + whole.T) / 2, atol=1e-12)


class Cubic(NormalScore):
    """A score -x^3, whose derivative -3 x^2 shows at which point it is taken."""

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return -(x**3)


def test_the_spectrum_at_a_point_is_taken_where_its_signal_is() -> None:
    """At x_t = a x: values 1 - 3 b^2 (a x_i)^2, greatest first, beside sigma = b / a; the dimension clips to [0, 1]."""
    x = torch.tensor([[0.5, 2.0, 1.0]])
    model = Cubic(EventScale(factor=1.0))
    found = points.by_score(of_model(x, model), "m", 0)
    times = points.levels_of(model, x[0].double()).tolist()
    assert len(found["spectra"]) == len(times) == 10
    for t, spectrum, row in zip(times, found["spectra"], found["dimensions"], strict=True):
        a, b = variance_preserving(t)
        values = [1 - 3 * b**2 * (a * one) ** 2 for one in (0.5, 1.0, 2.0)]
        assert spectrum["values"] == pytest.approx(values)
        assert spectrum["sigma"] == row["sigma"] == pytest.approx(b / a)
        assert row["dimension"] == pytest.approx(sum(min(1, max(0, value)) for value in values))


def test_levels_go_evenly_in_the_logarithm_from_the_least_noise_to_twice_the_deviation() -> None:
    """Of 81 times whose noise, to the power of 1 / 7, is spaced evenly, each the nearest to one that is wanted."""
    model = NormalScore(EventScale(std=0.7))
    low, high = (math.log(b / a) for a, b in map(variance_preserving, (VP().t_min, VP().t_max)))
    grid = [7 * math.log(math.exp(low / 7) + k / 80 * (math.exp(high / 7) - math.exp(low / 7))) for k in range(81)]
    wanted = [low + k / 9 * (math.log(1.4) - low) for k in range(10)]
    noise = [math.log(b / a) for a, b in map(variance_preserving, points.levels_of(model, MEAN).tolist())]
    assert noise == pytest.approx([min(grid, key=lambda u: abs(u - one)) for one in wanted])


def test_the_spectrum_at_a_point_has_a_greatest_number_of_coordinates(monkeypatch: pytest.MonkeyPatch) -> None:
    explored = of_model(torch.zeros(2, 3), NormalScore())
    monkeypatch.setattr(points, "WIDEST", 3)
    assert len(points.by_score(explored, "m", 1)["spectra"]) == 10
    monkeypatch.setattr(points, "WIDEST", 2)
    with pytest.raises(ConfigError, match="3 coordinates; expected at most 2"):
        points.by_score(explored, "m", 1)


def test_a_point_has_its_label_its_copies_and_its_spectra() -> None:
    """Of seven points on a line the second and the fifth are copies; labels are named as far as there are names."""
    x = torch.tensor([0.0, 1, 2, 4, 1, 8, 9])[:, None]
    labels = torch.tensor([0, 1, 2, -1, 1, 0, 0])
    known = {3: ("of a stage", torch.tensor([0.5, 0.25]))}
    explored = opened(x, labels=labels, label_names=("zero", "one"), spectra=known)
    assert [points.point_answer(explored, n)["label"] for n in (0, 1, 2, 3)] == ["zero", "one", "2", None]
    assert [points.point_answer(explored, n)["copies"] for n in (0, 1)] == [0, 1]
    found = points.point_answer(explored, 3, 2)
    assert [one["point"] for one in found["neighbours"]] == [2, 1]
    assert [one["distance"] for one in found["neighbours"]] == [2, 3]
    assert found["spectra"][0] == {"text": "of a stage", "values": [0.5, 0.25]}
    assert found["spectra"][1]["values"] == pytest.approx([float(x.std())])
    assert [row["neighbours"] for row in found["dimensions"]] == [5]


class Stretched(Geometry):
    """The plane with the metric diag(4, 1); geodesics are straight and run as the square of s, so that they differ."""

    def metric(self, x: Tensor) -> Tensor:
        return torch.diag_embed(torch.tensor([4.0, 1.0]).expand(len(x), 2))

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        bend = torch.tensor([0.0, 4.0]) * (s * (1 - s))[:, None]
        return (x[:, None] + s[:, None] * (y - x)[:, None]) + bend


def test_a_solved_geodesic_has_a_first_look_and_a_path_through_noise() -> None:
    """Of N(0, I), from (2, 0) to (0, 2): the geodesic's middle lies between the line's and the circle's."""
    plane = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 400}}
    exact = {"use": "score:analytic", "config": {"gaussian": True}, "inputs": {"data": plane}}
    solved = Host.discover().create("geometry:score", {"noise": 0.1}, score=exact, data=plane)
    explored = of_model(torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, -1.0]]), solved)
    first = answer(explored, "geodesic", {"geometry": "m", "start": 0, "end": 1, "steps": 3, "rough": True})
    found = answer(explored, "geodesic", {"geometry": "m", "start": 0, "end": 1, "steps": 3})
    assert (first["rough"], first["distance"], "noise" in first) == (True, None, False)
    assert not found["rough"]
    assert found["distance"] > 2.83
    sizes = [math.hypot(*rows["curve"]["rows"][1]) for rows in (first, found)]
    assert sizes[0] == pytest.approx(sizes[1], abs=0.05)
    assert 1.42 < sizes[1] < 2 == pytest.approx(math.hypot(*found["noise"]["rows"][1]), abs=0.1)
    assert answer(explored, "overview", {})["sketches"] == ["m"]
    same = answer(explored, "geodesic", {"geometry": "m", "start": 2, "end": 2, "steps": 3, "rough": True})
    assert same["curve_length"] == 0


def test_a_geodesic_and_a_line_have_their_own_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """From (0, 0) to (3, 4): 5 as the crow flies; by (1.5, 3) at the middle sqrt(11.25) + sqrt(3.25); distance by the
    metric sqrt(4 * 9 + 16)."""
    explored = of_model(torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, -1.0]]), Stretched())
    curve, line = maps.curve_between(explored, "m", 0, 1, 3)
    assert curve.tolist() == [[0, 0], [1.5, 3], [3, 4]]
    assert line.tolist() == [[0, 0], [1.5, 2], [3, 4]]
    found = maps.path_answer(explored, "m", 0, 1, 3, "pca")
    assert found["line_length"] == pytest.approx(5)
    assert found["curve_length"] == pytest.approx(math.sqrt(11.25) + math.sqrt(3.25))
    assert found["distance"] == pytest.approx(math.sqrt(52))
    clock = iter((1000.0, 1002.5))
    monkeypatch.setattr(maps, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert maps.path_answer(explored, "m", 0, 1, 3, "pca")["seconds"] == 2.5
    assert maps.curve_between(explored, "m", 1, 2, 5)[1].tolist() == [[3 - k / 2, 4 - 5 * k / 4] for k in range(5)]


class Linear(torch.nn.Module, Encodes):
    """z = (x_1 - x_2, 5 x_1) of points with two coordinates; it decodes to (z_1, 0)."""

    event_shape, latent_shape = (2,), (2,)

    def encode(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] - x[:, 1], 5 * x[:, 0]], 1)

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode(x), torch.zeros_like(x)

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        return torch.stack([z[:, 0], torch.zeros(len(z))], 1)


CODED = ((1.0, 1.0), (3.0, 1.0), (2.0, 4.0), (2.0, 2.0))
"""Points whose codes are (0, 5), (2, 15), (-2, 10) and (0, 10)."""


def test_sliders_reach_three_deviations_about_the_mean_code() -> None:
    """Codes have means 0 and 10 and deviations sqrt(2) and sqrt(12.5); the code that varies most comes first."""
    explored = of_model(torch.tensor(CODED), Linear())
    mean, std = maps.code_ranges(explored, "m")
    assert mean.tolist() == [0, 10]
    assert std.tolist() == pytest.approx([math.sqrt(2), math.sqrt(12.5)])
    found = maps.code_of(explored, "m", 1)
    assert (found["code"], found["order"]) == ([2, 15], [1, 0])
    assert found["low"] == pytest.approx([-3 * math.sqrt(2), 10 - 3 * math.sqrt(12.5)])
    assert found["high"] == pytest.approx([3 * math.sqrt(2), 10 + 3 * math.sqrt(12.5)])


def test_sliders_reach_the_code_of_a_point_that_is_far_off() -> None:
    far = torch.zeros(1000, 2)
    far[7] = torch.tensor([9.0, 0.0])
    found = maps.code_of(of_model(far, Linear()), "m", 7)
    assert found["high"] == pytest.approx([9, 45])
    assert found["low"] == pytest.approx([0.009 - 3 * 9 * math.sqrt(0.000999), 0.045 - 3 * 45 * math.sqrt(0.000999)])


def floats(text: str) -> list[float]:
    return np.frombuffer(base64.b64decode(text), "<f4").tolist()


def test_reconstruction_errors_are_root_mean_squares_of_coordinates() -> None:
    """(x_1, x_2) comes back as (x_1 - x_2, 0): both coordinates are off by x_2."""
    found = colours.colour_answer(of_model(torch.tensor(CODED), Linear()), "reconstruction:m")
    assert floats(found["values"]) == pytest.approx([1, 1, 4, 2])


def test_the_range_of_a_colour_is_its_percentiles() -> None:
    """Of 0 to 100: 1, 50 and 99; missing values are not known and take no part."""
    values = torch.cat([torch.arange(101.0), torch.tensor([math.nan])])
    explored = opened(torch.zeros(102, 2), known={"a": Known(values, "a", "stage")})
    found = colours.colour_answer(explored, "known:a")
    assert [found[name] for name in ("known", "low", "middle", "high")] == pytest.approx([101, 1, 50, 99])


LINE = torch.tensor([0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0, 100.0])[:, None] * torch.tensor([0.6, 0.8])
"""Points at these distances along a line."""


def test_isolation_is_the_mean_distance_of_the_five_nearest_others() -> None:
    found, known = neighbours.isolation(opened(LINE), 10)
    assert known == 8
    assert found[[0, 4]].tolist() == pytest.approx([(1 + 3 + 7 + 15 + 31) / 5, (8 + 12 + 14 + 15 + 16) / 5], rel=1e-4)


def test_neighbours_are_searched_once_for_all_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    explored = opened(LINE)
    dimension, _ = neighbours.neighbour_dimensions(explored, 10)
    monkeypatch.setattr(neighbours, "_nearest_distances", None)
    assert neighbours.isolation(explored, 10)[1] == 8
    assert torch.equal(neighbours.neighbour_dimensions(explored, 10)[0], dimension)


def test_samples_have_neighbours_among_the_data_alone() -> None:
    """The last two points are samples; one lies on the fifth point of the data, at a distance of next to none."""
    groups = Group("train", 0, 6, "data", "train"), Group("samples", 6, 8, "samples")
    explored = opened(torch.cat([LINE[:6], LINE[4:5], LINE[:1]]), *groups)
    assert neighbours.data_rows(explored).tolist() == [True] * 6 + [False] * 2
    found, _ = neighbours.isolation(explored, 10)
    assert found[[4, 6]].tolist() == pytest.approx([(8 + 12 + 14 + 15 + 16) / 5, (0 + 8 + 12 + 14 + 15) / 5], rel=2e-3)
    distances = neighbours.distances_from(explored, explored.points[4])
    near = neighbours.nearest_points(explored, 4, distances, 2, samples=False)
    assert [one["point"] for one in near] == [3, 2]
    assert [one["distance"] for one in near] == pytest.approx([8, 12])
    assert [one["point"] for one in neighbours.nearest_points(explored, 4, distances, 2, samples=True)] == [6, 7]


def test_the_dimension_of_each_point_is_its_formula_at_all_neighbours() -> None:
    """(k - 2) over the sum of ln(T_k / T_j), here with all 7 others of each."""
    found, _ = neighbours.neighbour_dimensions(opened(LINE), 10)
    distances = sorted(abs(15 - one) for one in (0, 1, 3, 7, 31, 63, 100))
    expected = 5 / sum(math.log(distances[-1] / one) for one in distances[:-1])
    assert float(found[4]) == pytest.approx(expected, rel=1e-4)


def test_the_dimension_against_scale_is_its_formula_at_each() -> None:
    """Distances 1, 2, 3 ... 8 and a copy: scales 5 and 7 have as many neighbours, and 10 has not."""
    found = neighbours.dimension_curve(torch.tensor([0.0, 3, 1, 2, 8, 7, 6, 5, 4]))
    for row, k in zip(found, (5, 7), strict=True):
        assert (row["neighbours"], row["distance"]) == (k, k)
        assert row["dimension"] == pytest.approx((k - 2) / sum(math.log(k / j) for j in range(1, k)))


def test_the_spectrum_of_neighbours_is_that_of_their_covariance() -> None:
    """Of the four nearest, (+-3, 0) and (0, +-1) about (5, 5): variances 18 / 3 and 2 / 3."""
    cross = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1], [50, 50]]) + 5
    explored = opened(cross)
    distances = neighbours.distances_from(explored, torch.tensor([5.0, 5.0]))
    assert distances.tolist() == pytest.approx([3, 3, 1, 1, math.sqrt(2) * 50])
    found = neighbours.local_spectrum(explored, distances, 4)
    assert found.tolist() == pytest.approx([math.sqrt(6), math.sqrt(2 / 3)])


def test_distances_of_wide_points_are_taken_along_their_main_axes() -> None:
    """100 coordinates of which three vary about a mean of 40: distances are the distances of the three."""
    varied = torch.zeros(50, 100)
    varied[:, [5, 50, 99]] = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    rows = neighbours.narrow_points(opened(varied + 40))
    assert rows.shape == (50, 64) or rows.shape == (50, 50)
    assert torch.allclose(torch.cdist(rows, rows), torch.cdist(varied, varied), atol=1e-3)
    assert float(rows.mean(0).abs().max()) < 1e-4


def test_a_map_of_principal_components_is_its_projection() -> None:
    """Points (+-2, 0, 0) and (0, +-1, 0) about (1, 2, 3): variances 8 and 2, shares 80 % and 20 %."""
    x = torch.tensor([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0]]) + torch.tensor([1.0, 2, 3])
    found = maps.map_of(opened(x), "pca")
    assert torch.allclose(found.positions, torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]]), atol=1e-6)
    assert found.axes == ("principal component 1 (80% of the variance)", "principal component 2 (20% of the variance)")


IMAGES = torch.tensor([[-1.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0]]).reshape(2, 1, 2, 2)


def bytes_of(found: dict[str, Any]) -> list[int]:
    return list(base64.b64decode(found["data"]))


def test_pictures_without_bounds_run_from_the_least_to_the_greatest_of_all() -> None:
    explored = opened(IMAGES)
    assert bounds(explored) == (-1, 3)
    assert bytes_of(shown(explored, IMAGES[:1])) == [0, 64, 128, 255]
    deviations = torch.tensor([0.0, 1.0, 2.0, 4.0]).reshape(1, 1, 2, 2)
    assert bytes_of(deviation_tiles(explored, deviations)) == [0, 64, 128, 255]
    assert bounds(opened(torch.ones(2, 1, 2, 2))) == (1, 2)


class Fixed(ScoreModel):
    """A conditional model that answers with two given draws."""

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        return -x

    def sample(self, n: int, condition: Any = None, **options: Any) -> Tensor:
        return torch.tensor([[[1.0, 6.0]], [[3.0, 0.0]]])


def test_samples_have_their_mean_and_their_deviation() -> None:
    """Of (1, 6) and (3, 0): mean (2, 3), deviation (1, 3), by the number of draws."""
    model = Fixed(VP(), (2,), TensorSpec((1,)))
    explored = of_model(torch.zeros(3, 2), model, condition=torch.ones(3, 1))
    found = conditions.samples_answer(explored, "m", 1, n=2, steps=3, seed=0)
    assert found["mean"]["rows"] == [[2, 3]]
    assert found["spread"]["rows"] == [[1, 3]]
    assert found["truth"]["rows"] == [[0, 0]]


@pytest.mark.parametrize(("n", "steps", "fits"), [(1, 1, True), (64, 1000, True), (65, 3, False), (2, 1001, False)])
def test_samples_have_a_greatest_number(n: int, steps: int, fits: bool) -> None:
    explored = of_model(torch.zeros(3, 2), Fixed(VP(), (2,), TensorSpec((1,))), condition=torch.ones(3, 1))
    if fits:
        assert len(conditions.condition_samples(explored, "m", 0, n=n, steps=steps, seed=0)) == 2
    else:
        with pytest.raises(ConfigError, match="expected 1 to 64 in 1 to 1000"):
            conditions.condition_samples(explored, "m", 0, n=n, steps=steps, seed=0)


def test_parts_of_a_condition_by_their_shape() -> None:
    spec = {
        "mask": TensorSpec((1, 2, 4)),
        "image": TensorSpec((3, 4, 6)),
        "kind": TensorSpec((), classes=5),
        "vector": TensorSpec((7,)),
        "volume": TensorSpec((2, 4, 6)),
    }
    explored = of_model(torch.zeros(2, 1, 2, 4), Fixed(VP(), (1, 2, 4), spec))
    found = {part["name"]: part for part in conditions.condition_parts(explored, "m")}
    assert {name: part["kind"] for name, part in found.items()} == {
        "mask": "mask", "image": "image", "kind": "classes", "vector": "vector", "volume": "vector",
    }  # fmt: skip
    assert [found["image"][side] for side in ("height", "width")] == [4, 6]
    assert "height" not in found["volume"]
    alone = of_model(torch.zeros(2, 1, 2, 4), Fixed(VP(), (1, 2, 4)))
    assert conditions.condition_parts(alone, "m") == [{"name": "mask", "kind": "mask", "height": 2, "width": 4}]
    assert conditions.condition_parts(of_model(torch.zeros(2, 3), Fixed(VP(), (3,))), "m") == []


class Noted(Fixed):
    """A conditional model that keeps the conditions that it gets."""

    def sample(self, n: int, condition: Any = None, **options: Any) -> Tensor:
        self.asked = condition
        return torch.zeros(n, 1, *self.event_shape)


def test_a_painted_image_lies_between_the_bounds_pixel_by_pixel() -> None:
    """Bytes come by rows, columns and channels; 0 is the lower bound, -1, and 255 the upper one, 3."""
    model = Noted(VP(), (3, 1, 2), TensorSpec((3, 1, 2)))
    x = torch.arange(6.0).reshape(1, 3, 1, 2)
    explored = of_model(x, model, condition=torch.zeros(1, 3, 1, 2))
    explored.scale = EventScale(low=-1.0, high=3.0)
    conditions.condition_samples(
        explored, "m", 0, n=1, steps=1, seed=0, images={"": [0.0, 51.0, 102.0, 255.0, 204.0, 153.0]}
    )
    assert model.asked.flatten().tolist() == pytest.approx([-1, 3, -0.2, 2.2, 0.6, 1.4])
    part = conditions._described(explored, torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 1, 2, 2))
    assert bytes_of(part["picture"]) == [0, 64, 128, 255]
    assert bytes_of(conditions._described(explored, torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))["picture"]) == [
        0,
        255,
    ]


def test_a_mask_hides_the_image_of_the_condition_and_nothing_else() -> None:
    """A part in the shape of the event shows what is known of it; one of another shape, and a vector, stay."""
    spec = {"mask": TensorSpec((1, 2, 2)), "shown": TensorSpec((1, 2, 2)), "small": TensorSpec((1, 1, 1))}
    model = Noted(VP(), (1, 2, 2), spec)
    given = {"mask": torch.ones(2, 1, 2, 2), "shown": torch.ones(2, 1, 2, 2), "small": torch.full((2, 1, 1, 1), 7.0)}
    explored = of_model(torch.arange(8.0).reshape(2, 1, 2, 2), model, condition=given)
    conditions.condition_samples(explored, "m", 1, n=1, steps=1, seed=0, mask=[1.0, 0.0, 0.0, 1.0])
    assert model.asked["mask"].flatten().tolist() == [1, 0, 0, 1]
    assert model.asked["shown"].flatten().tolist() == [4, 0, 0, 7]
    assert model.asked["small"].flatten().tolist() == [7]
    explored.condition = {name: 2 * part[:1] for name, part in given.items()}
    conditions.condition_samples(explored, "m", 1, n=1, steps=1, seed=0)
    assert model.asked["shown"].flatten().tolist() == [2, 2, 2, 2], "samples have the condition of the last point"


def test_known_pixels_are_noised_anew_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sampler that answers 5 and an end that answers ten times what it is given: between steps known pixels are
    a x + b z, at the end they are x, and the others are 50."""
    seen = []

    def sampler(bound: Any, process: Any, y: Tensor, times: Tensor, **options: Any) -> tuple[Tensor, None]:
        seen.append((y, times.tolist()))
        return torch.full_like(y, 5.0), None

    monkeypatch.setattr(conditions, "resolve_sampler", lambda name: sampler)
    model = Fixed(VP(), (1, 1, 2))
    model.remove_noise = lambda bound, y: 10 * y  # type: ignore[method-assign]
    x, known = torch.tensor([[[[2.0, 3.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    generator = torch.Generator().manual_seed(4)
    found = conditions._replaced(model, x, known, 2, 2, generator)
    again = torch.Generator().manual_seed(4)
    prior, noise = (torch.randn(2, 1, 1, 2, generator=again) for _ in range(2))
    (first, times), (second, later) = seen
    assert torch.allclose(first, prior)
    assert (times[0], later[1]) == pytest.approx((1.0, VP().t_min))
    assert times[1] == later[0]
    a, b = variance_preserving(times[1])
    assert torch.allclose(second[..., 0], a * 2 + b * noise[..., 0])
    assert second[..., 1].unique().tolist() == [5]
    assert found.tolist() == [[[[2, 50]]]] * 2


def test_copies_lie_at_the_least_distance_above_rounding() -> None:
    """The root of a millionth of the mean square of the points about their mean: here of +-2, +-2 and two of 0."""
    x = torch.tensor([[2.0, 0], [2, 0], [-2, 0], [-2, 0], [0, 2], [0, -2]])
    rows = neighbours.narrow_points(opened(x))
    found = neighbours._nearest_distances(rows, torch.ones(6, dtype=torch.bool), torch.tensor([0, 4]), 2)
    assert found[0].tolist() == pytest.approx([math.sqrt(4e-6), math.sqrt(8)])
    assert found[1].tolist() == pytest.approx([math.sqrt(8), math.sqrt(8)])


def test_the_spectrum_is_of_the_hundred_nearest_points() -> None:
    """Of 0, 1 ... 199 those nearest to 0 are 0 to 99, with the variance 100 * 101 / 12."""
    explored = opened(torch.arange(200.0)[:, None])
    distances = neighbours.distances_from(explored, torch.zeros(1))
    assert neighbours.local_spectrum(explored, distances).tolist() == pytest.approx([math.sqrt(100 * 101 / 12)])

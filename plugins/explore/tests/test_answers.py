"""What the page is answered: closed forms where there are any, and what the run itself found."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scorefold.data import EventScale
from scorefold.errors import ConfigError
from scorefold.stage import report, showing
from scorefold_explore.answers import colours, conditions, maps, neighbours, points
from scorefold_explore.answers.colours import deviation_tiles, shown
from scorefold_explore.answers.neighbours import computed_in_time
from scorefold_explore.explored import Explored, ExploredModel, Group, Known
from scorefold_explore.questions import answer
from scorefold_registry import Host


def plain(x: torch.Tensor, **facts: object) -> Explored:
    """Points alone, as what is open."""
    groups = (Group("train", 0, len(x), "data", "train"),)
    return Explored("plain", Path("plain"), "data", x, EventScale(), groups, **facts)  # type: ignore[arg-type]


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_map_of_principal_components_is_that_of_the_covariance(generator: torch.Generator) -> None:
    spreads = torch.tensor([0.1, 3.0, 1.0])
    explored = plain(torch.randn(4000, 3, generator=generator) * spreads + 5)
    found = maps.map_of(explored, "pca")
    assert torch.allclose(found.positions.std(0), torch.tensor([3.0, 1.0]), rtol=0.05)
    assert found.axes[0].startswith("principal component 1 (90% of")
    assert found.project is not None
    assert torch.allclose(found.project(explored.points[7:9]), found.positions[7:9], atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 1), (1, 3), (3, 2000)])
def test_few_points_and_few_or_many_coordinates_have_a_map(shape: tuple[int, int], generator: torch.Generator) -> None:
    found = maps.map_of(plain(torch.randn(shape, generator=generator)), "pca")
    assert found.positions.shape == (shape[0], 2)
    assert bool(found.positions.isfinite().all())


def needs_umap(test: Callable[..., None]) -> Callable[..., None]:
    """The mark, without umap's warning that it lacks Tensorflow."""
    return pytest.mark.needs("umap")(pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")(test))


@needs_umap
def test_umap_keeps_two_clusters_apart_and_repeats(generator: torch.Generator) -> None:
    x = torch.randn(120, 5, generator=generator) + 30 * (torch.arange(120) < 60)[:, None]
    explored = plain(x)
    assert {"name": "umap", "text": "UMAP"} in maps.map_names(explored)
    found = maps.map_of(explored, "umap")
    assert found.project is None
    one, other = found.positions[:60], found.positions[60:]
    between = float((one.mean(0) - other.mean(0)).norm())
    within = max(float((part - part.mean(0)).norm(dim=1).max()) for part in (one, other))
    assert between > 2 * within
    assert torch.equal(maps.map_of(plain(x), "umap").positions, found.positions)


@needs_umap
def test_umap_is_there_from_16_points_on(generator: torch.Generator) -> None:
    x = torch.randn(16, 3, generator=generator)
    found = maps.map_of(plain(x), "umap")
    assert found.positions.shape == (16, 2)
    assert bool(found.positions.isfinite().all())
    with pytest.raises(ConfigError, match="there is no map 'umap'; expected one of: pca"):
        maps.map_of(plain(x[:15]), "umap")


def test_missing_values_leave_the_map_of_the_others(generator: torch.Generator) -> None:
    x = torch.randn(50, 3, generator=generator)
    x[3, 1] = math.nan
    assert bool(maps.map_of(plain(x), "pca").positions.isfinite().all())
    with pytest.raises(ConfigError, match="every point has missing values"):
        maps.map_of(plain(torch.full((4, 2), math.nan)), "pca")


def test_the_chart_of_a_flow_holds_its_own_coordinates(learned: Explored) -> None:
    found = maps.map_of(learned, "chart:flow")
    with torch.no_grad():
        z = learned.models["flow"].value(learned.points)[0].flatten(1)
    order = z.double().var(0).argsort(descending=True)[:2]
    assert torch.allclose(found.positions, z[:, order], atol=1e-4)


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_neighbours_of_a_disc_have_two_dimensions(mean: float, generator: torch.Generator) -> None:
    explored = plain(torch.nn.functional.pad(torch.randn(3000, 2, generator=generator), (0, 6)) + mean)
    values, known = neighbours.neighbour_dimensions(explored, seconds=30)
    assert known == 3000
    assert float(values.median()) == pytest.approx(2.0, abs=0.15)
    curve = neighbours.dimension_curve(neighbours.distances_from(explored, explored.points[0]))
    assert np.median([row["dimension"] for row in curve]) == pytest.approx(2.0, abs=0.8)
    spectrum = neighbours.local_spectrum(explored, neighbours.distances_from(explored, explored.points[0]))
    assert float(spectrum[2]) < 1e-4 < float(spectrum[1])


def test_levina_bickel_is_its_formula() -> None:
    distances = torch.tensor([[1.0, 2.0, 4.0]])
    assert float(neighbours.levina_bickel(distances)) == pytest.approx(1 / (math.log(4) + math.log(2)))
    assert math.isnan(float(neighbours.levina_bickel(torch.ones(1, 3))))


def test_copies_are_found_and_break_no_dimension(generator: torch.Generator) -> None:
    x = torch.randn(200, 3, generator=generator)
    x[50:60], x[70] = x[0], x[1]
    explored = plain(x)
    assert neighbours.duplicate_points(explored) == [[0, *range(50, 60)], [1, 70]]
    assert answer(explored, "duplicates", {})["points"] == 11
    assert answer(explored, "point", {"point": 0})["copies"] == 10
    values, _ = neighbours.neighbour_dimensions(explored, seconds=30)
    assert bool(values[100:].isfinite().all())


def test_what_takes_too_long_is_known_of_some_points() -> None:
    seen: list[tuple[int, int]] = []

    def slow(rows: torch.Tensor) -> torch.Tensor:
        return rows.double()

    with showing(lambda done, total, text: seen.append((done, total))):
        values, known = computed_in_time(1000, slow, "points", seconds=-1, batch=10)
    assert known == int(values.isfinite().sum()) == 10
    assert seen == [(10, 1000)]


def test_a_batch_that_reports_ends_with_the_time() -> None:
    def endless(rows: torch.Tensor) -> torch.Tensor:
        if len(rows) > 1:
            for step in range(10**9):
                report(step, 10**9, "steps")
        return rows

    values, known = computed_in_time(100, endless, "points", seconds=0.3, batch=1)
    assert known == int(values.isfinite().sum()) == 1


def test_what_is_quick_is_known_of_all_points() -> None:
    whole, known = computed_in_time(1000, lambda rows: rows.double(), "points", seconds=30)
    assert known == 1000
    assert torch.equal(whole, torch.arange(1000.0))


def test_a_geodesic_is_that_of_the_geometry(learned: Explored) -> None:
    curve, line = maps.curve_between(learned, "geometry", 3, 9, 7)
    space, x = learned.models["geometry"].value, learned.points
    with torch.no_grad():
        again = space.geodesic(x[3:4], x[9:10], torch.linspace(0, 1, 7))[0]
    assert torch.equal(curve, again)
    assert torch.allclose(line[3], (x[3] + x[9]) / 2, atol=1e-6)
    assert torch.allclose(curve[[0, -1]], x[[3, 9]], atol=1e-3)
    found = answer(learned, "geodesic", {"geometry": "geometry", "start": 3, "end": 9, "steps": 7})
    assert found["curve"]["count"] == len(found["curve_map"]) == 7
    assert found["distance"] == pytest.approx(float(space.distance(x[3:4], x[9:10]).detach()))


def test_a_code_that_is_not_dragged_decodes_to_the_reconstruction(learned: Explored) -> None:
    found = maps.code_of(learned, "code", 5)
    assert len(found["code"]) == 4
    assert all(
        low <= value <= high for low, value, high in zip(found["low"], found["code"], found["high"], strict=True)
    )
    event = answer(learned, "decoded", {"coder": "code", "code": found["code"]})["event"]
    with torch.no_grad():
        back = learned.models["code"].value.reconstruct(learned.points[5:6])
    assert event["data"] == shown(learned, back)["data"]
    with pytest.raises(ConfigError, match="3 numbers was given; expected 4 finite"):
        answer(learned, "decoded", {"coder": "code", "code": [0.0, 0.0, 0.0]})


def test_colours_are_what_the_run_found(learned: Explored) -> None:
    assert set(learned.known) == {"intrinsic dimension (dimension)", "outlier score: cost (unusual)"}
    test = next(group for group in learned.groups if group.split == "test")
    values = floats(colours.colour_answer(learned, "known:outlier score: cost (unusual)")["values"])
    own = values[test.start : test.stop]
    assert np.isfinite(own).all()
    assert np.isnan(np.delete(values, range(test.start, test.stop))).all()
    with torch.no_grad():
        log_prob = learned.models["flow"].value.log_prob(learned.points[test.start : test.stop])
    # The stage draws the noise of discrete data anew.
    assert np.corrcoef(own, -log_prob.numpy())[0, 1] > 0.9


def test_likelihoods_and_errors_are_those_of_the_models(learned: Explored) -> None:
    flow = learned.models["flow"].value
    with torch.no_grad():
        expected = flow.log_prob(learned.points).numpy()
    assert np.allclose(floats(colours.colour_answer(learned, "likelihood:flow")["values"]), expected, atol=1e-2)
    error = colours.colour_answer(learned, "reconstruction:code")
    assert error["known"] == len(learned.points)
    assert error["low"] <= error["middle"] <= error["high"]
    assert answer(learned, "colour", {"name": "label"})["classes"] == [str(number) for number in range(10)]


def test_a_gaussian_score_has_the_spectrum_of_its_covariance(host: Host, generator: torch.Generator) -> None:
    spreads = torch.tensor([2.0, 1.0, 0.01])
    x = (torch.randn(5000, 3, generator=generator) * spreads).double()
    from scorefold.interfaces import TensorSource

    config = {"gaussian": True, "process": {"name": "ve", "sigma_min": 0.001, "sigma_max": 10}}
    score = host.create("score:analytic", config, data=TensorSource({"train": _dataset(x)}), dtype=torch.float64)
    explored = plain(x.float(), models={"score": ExploredModel("score", "score:analytic", score)})
    found = points.by_score(explored, "score", 0)
    for row in found["spectra"]:
        variances = np.sort(x.var(0, correction=0).numpy())[::-1]
        assert np.allclose(row["values"], variances / (variances + row["sigma"] ** 2), atol=0.02)
    dimensions = [row["dimension"] for row in found["dimensions"]]
    assert dimensions[0] > 2.9
    assert dimensions == sorted(dimensions, reverse=True)


def _dataset(x: torch.Tensor) -> object:
    from scorefold.data import Dataset

    return Dataset(x)


def test_known_pixels_stay_in_samples_of_an_unconditional_score(learned: Explored) -> None:
    mask = [1.0] * 32 + [0.0] * 32
    drawn = conditions.condition_samples(learned, "score", 4, n=3, steps=6, seed=0, mask=mask)
    assert drawn.shape == (3, 1, 8, 8)
    assert torch.allclose(drawn[:, :, :4], learned.points[4, :, :4].expand(3, 1, 4, 8), atol=1e-5)
    assert float(drawn[:, :, 4:].std(0).mean()) > 0.05
    again = conditions.condition_samples(learned, "score", 4, n=3, steps=6, seed=0, mask=mask)
    assert torch.equal(drawn, again)
    with pytest.raises(ConfigError, match="no mask was given"):
        conditions.condition_samples(learned, "score", 4, n=3, steps=6, seed=0)


def asked_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The conditions that a model is asked for, as it is asked."""
    seen: list[Any] = []
    sample = type(model).sample

    def noted(self: Any, n: int, condition: Any, **given: Any) -> Any:
        seen.append(condition)
        return sample(self, n, condition, **given)

    monkeypatch.setattr(type(model), "sample", noted)
    return seen


def test_a_conditional_model_is_shown_the_mask_that_was_drawn(holes: Explored, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asked_of(holes.models["score"].value, monkeypatch)
    mask = [0.0] * 32 + [1.0] * 32
    found = answer(holes, "samples", {"model": "score", "point": 2, "n": 2, "steps": 4, "mask": mask})
    assert found["samples"]["count"] == 2
    known = torch.tensor(mask).reshape(1, 1, 8, 8)
    assert torch.equal(seen[0]["mask"], known)
    assert torch.equal(seen[0]["image"], holes.points[2:3] * known)
    parts = answer(holes, "condition", {"model": "score", "point": 2})["parts"]
    assert [part["kind"] for part in parts] == ["image", "mask"]


def test_a_coarse_image_can_be_painted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    halved = {"operator": {"name": "box-downsample", "factor": 2}}
    source = host.create("data:paired", halved, data={"use": "data:digits", "config": {"limit": 60}})
    network = {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}
    model = host.create("score:conditional", {"estimator": "cde", "network": network}, data=source)
    train = source.load("train")
    explored = plain(
        train.x, models={"score": ExploredModel("score", "score:conditional", model)}, condition=train.condition
    )
    explored.scale = source.event_scale
    (part,) = answer(explored, "condition", {"model": "score", "point": 0})["parts"]
    assert (part["kind"], part["picture"]["height"]) == ("image", 4)
    seen = asked_of(model, monkeypatch)
    asked = {"model": "score", "point": 0, "n": 2, "steps": 3}
    answer(explored, "samples", {**asked, "images": {"": [255.0] * 16}})
    answer(explored, "samples", asked)
    assert source.event_scale.high is not None
    assert torch.equal(seen[0], torch.full((1, 1, 4, 4), source.event_scale.high))
    assert torch.equal(seen[1], train.condition[:1])
    with pytest.raises(ConfigError, match="2 numbers was given; expected 16"):
        answer(explored, "samples", {"model": "score", "point": 0, "images": {"": [1, 2]}})


def test_pictures_hold_the_bytes_between_the_bounds() -> None:
    explored = plain(torch.tensor([[[[0.0, 1.0], [0.5, 2.0]]]]))
    explored.scale = EventScale(low=0.0, high=1.0)
    found = shown(explored, explored.points)
    assert list(base64.b64decode(found["data"])) == [0, 255, 128, 255]
    assert deviation_tiles(explored, explored.points)["top"] == 2.0
    raw = plain(torch.tensor([[1.0, math.nan]]))
    raw.scale = EventScale(factor=(10.0, 1.0), shift=(5.0, 0.0))
    assert shown(raw, raw.points)["rows"] == [[15.0, None]]


def test_neighbours_of_a_point_are_data_and_samples_apart(learned: Explored) -> None:
    found = answer(learned, "point", {"point": 2})
    samples = next(group for group in learned.groups if group.samples)
    assert all(samples.start <= one["point"] < samples.stop for one in found["samples"])
    assert all(not samples.start <= one["point"] < samples.stop for one in found["neighbours"])
    distances = [one["distance"] for one in found["neighbours"]]
    assert distances == sorted(distances)
    assert 2 not in [one["point"] for one in found["neighbours"]]


@pytest.mark.parametrize(
    ("what", "asked", "message"),
    [
        ("nothing", {}, "there is no question 'nothing'"),
        ("map", {"name": "flow:none"}, "there is no map 'flow:none'"),
        ("colour", {"name": "x"}, "there is no colour 'x'"),
        ("point", {"point": 10**6}, "point 1000000 was asked for; expected 0 to"),
        ("point", {"point": -1}, "point: point: Input should be greater"),
        ("point", {"point": 1, "more": 2}, "point: more: Extra inputs"),
        (
            "geodesic",
            {"geometry": "none", "start": 0, "end": 1},
            "there is no geometry 'none' here; expected one of: geometry",
        ),
        (
            "geodesic",
            {"geometry": "geometry", "start": 0, "end": 1, "steps": 1},
            "1 steps were given; expected 2 to",
        ),
        ("samples", {"model": "score", "point": 0, "n": 1000}, "1000 samples in 30 steps"),
        ("samples", {"model": "score", "point": 0, "mask": [1.0]}, "a mask of 1 numbers was given; expected 8 x 8"),
        ("recipe", {"what": "overview"}, "nothing can be copied of 'overview'"),
    ],
)
def test_questions_that_do_not_fit_are_refused(learned: Explored, what: str, asked: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        answer(learned, what, asked)
    assert caught.value.message.startswith(message)


def test_numbers_of_a_point_are_those_that_are_known() -> None:
    explored = plain(torch.zeros(2, 2), known={"a": Known(torch.tensor([1.0, math.nan]), "a", "stage")})
    assert colours.of_point(explored, 0) == {"a": 1.0}
    assert colours.of_point(explored, 1) == {}

"""The paper's sets and the sets of FLIPD's benchmark: what is published of them, and the dimension that they have."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import least_squares
from torch import Tensor

from scorefold.config import Config
from scorefold.errors import ConfigError, DataError
from scorefold_iddiff import plugin
from scorefold_iddiff.data import config as configs
from scorefold_iddiff.data import drawn
from scorefold_iddiff.data.combined import PointCloud
from scorefold_iddiff.data.drawn import Drawn, draw_source
from scorefold_registry import Host
from scorefold_testing import Report, conformance
from scorefold_toolkit.data.manifolds import isometry
from scorefold_toolkit.distributions import Points

SMALL: list[Config] = [
    configs.NonUniformSphereConfig(dimension=3, ambient=6, points=60, tangents=True),
    configs.SpaghettiConfig(ambient=6, points=60, tangents=True, nodes=100),
    configs.SquigglyConfig(dimension=2, ambient=5, points=60, tangents=True, frequency=1.0),
    configs.SquaresConfig(squares=3, size=8, points=60, tangents=True, flatten=True),
    configs.BlobsConfig(blobs=2, size=8, points=60, tangents=True, flatten=True),
    configs.LollipopConfig(points=60, ambient=4),
]
IDS = [type(config).__name__ for config in SMALL]


SOURCES = [item for item in plugin.scorefold_components() if item.kind == "data"]


@conformance(*SOURCES, host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_distributions_of_data_hold_for_all_sources(report: Report) -> None:
    assert "truth-fits" in {check.check for check in report.checks if check.result == "passed"}


@pytest.mark.parametrize("config", SMALL, ids=IDS)
def test_points_are_drawn_by_the_seed_into_disjoint_splits(config: Config) -> None:
    one, same, other = (Drawn(config.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    assert torch.equal(one.load("test").x, same.load("test").x)
    assert not torch.equal(one.load("test").x, other.load("test").x)
    index = torch.cat([one.load(split).index for split in ("train", "validation", "test")])  # type: ignore[misc]
    assert sorted(index.tolist()) == list(range(60))
    a, b = (Drawn(config, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert not torch.equal(a.load("train").x, b.load("train").x)


@pytest.mark.parametrize("config", SMALL[:-1], ids=IDS[:-1])
def test_tangents_are_orthonormal_and_touch_the_set(config: Config) -> None:
    """Close neighbours differ by a tangent vector, up to second order in their distance."""
    drawn = draw_source(config.model_copy(update={"points": 20_000}), 0)
    assert drawn.tangent is not None
    assert isinstance(drawn.dimension, int)
    tangent = drawn.tangent[0]
    torch.testing.assert_close(tangent.mT @ tangent, torch.eye(drawn.dimension, dtype=torch.float64))
    step = drawn.x[1:] - drawn.x[0]
    near = step[step.norm(dim=1).argsort()[:3]]
    off = near - near @ tangent @ tangent.mT
    assert float((off.norm(dim=1) / near.norm(dim=1)).max()) < 3 * float(near.norm(dim=1).max())


@pytest.mark.parametrize(
    ("angle_std", "published"), [(0.5, (0.16, 0.40, 0.18, 0.079, 0.035, 0.016, 0.0068, 0.0030)), (0.25, (0.043,))]
)
def test_coordinates_of_a_non_uniform_sphere_shrink_as_published(angle_std: float, published: tuple[float]) -> None:
    config = configs.NonUniformSphereConfig(angle_std=angle_std, points=100_000, isometry=0)
    u = draw_source(config, 0).x @ isometry(100, 11, 0, published=0)
    torch.testing.assert_close(u.norm(dim=1), torch.ones(100_000, dtype=torch.float64))
    found = u.std(0)[: len(published)]
    torch.testing.assert_close(found, torch.tensor(published).double(), rtol=0.06, atol=0)
    # cos a has mean exp(-s^2 / 2) and mean square (1 + exp(-2 s^2)) / 2 for a normal of deviation s.
    square = (1 + math.exp(-2 * angle_std**2)) / 2
    assert float(u[:, 0].std()) == pytest.approx(math.sqrt(square - math.exp(-(angle_std**2))), rel=0.02)
    assert float(u[:, 1].std()) == pytest.approx(math.sqrt((1 - square) * square), rel=0.02)


def test_the_spaghetti_line_has_its_equation_length_and_norm() -> None:
    drawn = draw_source(configs.SpaghettiConfig(points=3000, tangents=True), 0)
    t = drawn.x[:, 0].asin()
    torch.testing.assert_close(drawn.x[:, 41], (42 * t).sin())
    assert float(drawn.x.norm(dim=1).mean()) == pytest.approx(7.05, abs=0.1)
    assert isinstance(drawn.distribution, Points)
    steps = (drawn.distribution.x[1:] - drawn.distribution.x[:-1]).norm(dim=1)
    assert float(steps.sum()) == pytest.approx(410.5, abs=0.5)
    assert float(steps.max()) < 0.03
    assert drawn.tangent is not None
    ahead = torch.sin((t[:, None] + 1e-6) * torch.arange(1, 101)) - drawn.x
    torch.testing.assert_close(drawn.tangent[..., 0], ahead / ahead.norm(dim=1, keepdim=True), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("count", "rank"), [(10, 10), (20, 20), (100, 99)])
def test_squares_have_the_published_places(count: int, rank: int) -> None:
    """Two of the published hundred coincide, so that the true dimension is 99."""
    config = configs.SquaresConfig(squares=count, points=30)
    places = drawn.places(config)
    assert len(set(places)) == rank
    assert {side for side, _, _ in places} == {3, 5}
    assert all(start >= 1 and start + side <= 31 for side, *starts in places for start in starts)
    found = draw_source(config, 0)
    assert found.dimension == rank
    assert found.x.shape == (30, 1, 32, 32)
    assert int(torch.linalg.matrix_rank(draw_source(config.model_copy(update={"points": 200}), 0).x.flatten(1))) == rank


def test_a_square_image_is_a_sum_of_its_squares() -> None:
    config = configs.SquaresConfig(squares=4, points=5, size=12, tangents=True)
    found = draw_source(config, 3)
    indicators = np.zeros((4, 12, 12))
    for i, (side, row, column) in enumerate(drawn.places(config)):
        indicators[i, row : row + side, column : column + side] = 1
    brightness, rest = np.linalg.lstsq(indicators.reshape(4, -1).T, found.x.flatten(1).T.numpy(), rcond=None)[:2]
    assert float(np.abs(rest).max()) < 1e-20
    assert 0 <= brightness.min() < 0.3 < 0.7 < brightness.max() <= 1
    assert found.tangent is not None
    x = found.x.flatten(1)
    torch.testing.assert_close((found.tangent @ (found.tangent.mT @ x[..., None]))[..., 0], x)


def test_one_square_is_a_line() -> None:
    drawn = draw_source(configs.SquaresConfig(squares=1, points=5, size=12, tangents=True), 0)
    assert drawn.dimension == 1
    assert drawn.tangent is not None
    assert drawn.tangent.shape == (5, 144, 1)


def test_distinct_squares_have_full_rank_and_an_end() -> None:
    assert draw_source(configs.SquaresConfig(squares=100, distinct=True, points=10), 0).dimension == 100
    # 4 x 4 places of the smaller and 2 x 2 of the larger: all of them, and not one more.
    every = configs.SquaresConfig(squares=16 + 4, size=8, distinct=True, points=10)
    assert len(set(drawn.places(every))) == 20
    with pytest.raises(ConfigError, match="21 distinct squares were asked for; an image of 8 pixels has 20"):
        Drawn(every.model_copy(update={"squares": 21}))


def _blob_image(width: npt.NDArray[np.float64], centres: list[tuple[int, int]], size: int) -> npt.NDArray[np.float64]:
    image = np.zeros((size, size))
    for s, (row, column) in zip(width, centres, strict=True):
        for i in range(size):
            for j in range(size):
                r2 = (i - row) ** 2 + (j - column) ** 2
                image[i, j] += math.exp(-r2 / (2 * s**2)) / (math.sqrt(2 * math.pi) * s)
    scaled: npt.NDArray[np.float64] = (image - image.min()) / (image.max() - image.min())
    return scaled


def test_blobs_have_their_formula_in_their_range() -> None:
    """The widths of one image are found again by least squares from the formula written out."""
    config = configs.BlobsConfig(blobs=2, size=10, points=20, widths=(1.0, 3.0))
    drawn = draw_source(config, 0)
    assert drawn.x.shape == (20, 1, 10, 10)
    assert (float(drawn.x.min()), float(drawn.x.max())) == (0, 1)
    centres = [divmod(pixel, 10) for pixel in random.Random(42).sample(range(100), 2)]
    target = drawn.x[0, 0].numpy()
    found = least_squares(lambda w: (_blob_image(w, centres, 10) - target).ravel(), [2.0, 2.0], bounds=(1.0, 3.0))
    assert found.cost < 1e-12


@pytest.mark.parametrize(
    ("count", "low", "high", "below"), [(10, 0.05, 0.45, 0), (20, 0.03, 0.25, 0), (100, 1e-4, 0.01, 5)]
)
def test_blobs_of_a_hundred_are_thin_in_some_directions(count: int, low: float, high: float, below: int) -> None:
    """The Jacobian has full rank; its smallest singular values are of the size that centres drawn at random give."""
    widths = 1 + 4 * torch.rand(4, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = drawn.blob_image(configs.BlobsConfig(blobs=count))
    values = torch.linalg.svdvals(torch.func.vmap(torch.func.jacfwd(image))(widths))
    assert low < float(values[:, -1].min()) <= float(values[:, -1].max()) < high
    assert int((values < 0.02).sum(1).min()) >= below
    assert below > 0 or int((values < 0.02).sum()) == 0


def test_a_lollipop_has_three_dimensions_in_their_places() -> None:
    config = configs.LollipopConfig(points=30_000, ambient=5)
    drawn = draw_source(config, 0)
    assert drawn.label is not None
    assert isinstance(drawn.dimension, Tensor)
    assert torch.equal(drawn.dimension, 2 - drawn.label)
    shares = torch.bincount(drawn.label) / len(drawn.label)
    torch.testing.assert_close(shares, torch.tensor([4 / 7, 2 / 7, 1 / 7]), atol=0.0145, rtol=0)
    flat = drawn.x @ isometry(5, 2, 0)
    disk, stick, dot = (flat[drawn.label == part] for part in range(3))
    radius = (disk - 3).norm(dim=1)
    assert float(radius.max()) <= 1
    assert float((radius**2).mean()) == pytest.approx(0.5, abs=0.0115)
    torch.testing.assert_close(stick[:, 0], stick[:, 1])
    assert float(stick.min()) == pytest.approx(1.5, abs=1e-3)
    assert float(stick.max()) == pytest.approx(3 - math.sqrt(0.5), abs=1e-3)
    assert float(dot.abs().max()) == 0


def test_squiggly_planes_are_bent_and_turned_gaussians() -> None:
    """One bend is found again: turned back, each coordinate is the plane's x or x + sin(f x) / 2f, up to its sign."""
    config = configs.SquigglyConfig(dimension=2, ambient=6, frequency=2.0, repeats=1, points=400)
    plain, bent = (
        draw_source(config.model_copy(update={"frequency": frequency}), 0).x @ isometry(6, 6, 0, 0)
        for frequency in (1e-9, 2)
    )
    assert int(torch.linalg.matrix_rank(plain, rtol=1e-6)) == 2
    assert int(torch.linalg.matrix_rank(bent, rtol=1e-6)) > 2
    left = (bent - plain).abs().amax(0) < 1e-12
    x = plain / 1.5  # as f goes to 0 the bend becomes x + x / 2
    sine = (bent - x - (2 * x).sin() / 4).abs().amax(0) < 1e-6
    assert bool((left ^ sine).all())
    assert 0 < int(sine.sum()) < 6


def write(folder: Path, text: str) -> str:
    path = folder / "cloud.json"
    path.write_text(text)
    return str(path)


def test_a_cloud_is_centred_scaled_and_moved(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 5.0, 0.2] + 7
    config = configs.PointCloudConfig(path=write(tmp_path, json.dumps(raw.tolist())), ambient=8, dimension=3, limit=30)
    source = PointCloud(config)
    assert [len(source.load(split)) for split in ("train", "validation", "test")] == [24, 3, 3]
    train = source.load("train")
    assert train.index is not None
    assert train.truth["dimension"] == 3
    scaled = torch.from_numpy((raw - raw.mean(0)) / np.ptp(raw[:, 1]))[train.index]
    torch.testing.assert_close(torch.cdist(train.x, train.x).double(), torch.cdist(scaled, scaled), atol=1e-5, rtol=0)
    before = source.fingerprint()
    write(tmp_path, json.dumps(raw[:35].tolist()))
    assert PointCloud(config).fingerprint() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "can't be read as a list"),
        ('{"points": [[1, 2, 3]]}', "can't be read as a list"),
        ("[[1, 2], [3, 4]]", "of shape (2, 2); expected (N, 3)"),
        ("[[1, 2, 3], [4, 5]]", "can't be read as a list"),
        ("[]", "of shape (0,); expected (N, 3)"),
        ("[[1, 2, 3], [NaN, 0, 0]]", "NaN or infinity in row 1"),
        ("[[1, 2, 3], [1, 2, 3], [1, 2, 3]]", "are equal"),
        ("[[1, 2, 3], [0, 0, 0]]", "2 points can't be split"),
    ],
)
def test_files_that_hold_no_cloud_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        PointCloud(configs.PointCloudConfig(path=write(tmp_path, text)))
    assert message in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mammoth\.json does not exist; expected a JSON file"):
        PointCloud(configs.PointCloudConfig(path=str(tmp_path / "mammoth.json")))
    with pytest.raises(DataError, match="is a folder"):
        PointCloud(configs.PointCloudConfig(path=str(tmp_path)))


@pytest.mark.parametrize(
    "config",
    [
        configs.NonUniformSphereConfig(dimension=10, ambient=10),
        configs.SquigglyConfig(dimension=4, ambient=3),
        configs.LollipopConfig(ambient=1),
    ],
    ids=lambda config: type(config).__name__,
)
def test_too_few_coordinates_are_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="needs at least") as caught:
        Drawn(config)
    assert "set ambient" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (configs.BlobsConfig, {"blobs": 63, "size": 8}, "images of 8 pixels take 62"),
        (configs.BlobsConfig, {"widths": [2.0, 1.0]}, "expected"),
        (configs.LollipopConfig, {"weights": [0, 0, 0]}, "needs a share"),
        (configs.SquaresConfig, {"size": 5}, "greater than or equal to 8"),
    ],
)
def test_configs_refuse_what_cannot_be(model: type[Config], fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.model_validate(fields)

"""Measures of draws: calibration against exact posteriors, LPIPS and features against independent computations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from lpips_weights import write_lpips
from torch import Tensor
from torch.nn import functional

from scorefold.errors import ArtefactError, ConfigError, DataError, ScorefoldError, ShapeError
from scorefold_toolkit.metrics import (
    LPIPS,
    Moments,
    consistency,
    coverage,
    diversity,
    energy_distance,
    energy_score,
    feature_network,
    features,
    frechet_distance,
    frechet_from_moments,
    joint_uniformity,
    pit,
    psnr,
    psnr_within,
    round_to_levels,
    tarp,
    uniformity,
)
from scorefold_toolkit.metrics.features import read_weights
from scorefold_toolkit.operators import Haar, Mask, Radon


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_consistency_looks_through_the_operator_and_each_image_through_its_own_mask() -> None:
    truth = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    hidden = torch.ones(2, 1, 4, 4, dtype=torch.float64)
    hidden[0, :, :2], hidden[1, :, :, 2:] = 0, 0
    x = truth + torch.where(hidden == 0, 0.5, 0.1)
    masks = Mask(hidden, (1, 4, 4))
    # An error of 0.1 on half of the pixels, the others hidden.
    assert consistency(masks, x, truth).tolist() == pytest.approx([20 + 10 * math.log10(2)] * 2)
    assert consistency(masks, x.flip(0), truth.flip(0))[0] < 15
    assert psnr_within(x, truth, hidden).tolist() == pytest.approx([20.0] * 2)
    assert psnr_within(x, truth, 1 - hidden).tolist() == pytest.approx([20 * math.log10(2)] * 2)
    assert math.isnan(float(psnr_within(x, truth, 0 * hidden)[0]))
    # An operator that widens the range has a higher peak: Haar's errors are the pixels' errors, its range is double.
    haar = Haar(1, (1, 4, 4))
    torch.testing.assert_close(consistency(haar, x, truth), psnr(x, truth) + 20 * math.log10(2))
    radon = Radon(torch.tensor([0.0]), (1, 4, 4))
    assert bool((consistency(radon, truth + 1e-3, truth) > 40).all())


def test_diversity_is_the_unbiased_spread_on_the_scale_of_bytes() -> None:
    draws = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1).expand(3, 2, 5).clone()
    draws[:, 1] *= 2
    assert diversity(draws, 2.0).tolist() == pytest.approx([127.5, 255.0])
    with pytest.raises(DataError, match="at least 2"):
        diversity(draws[:1])


def test_rounding_is_that_of_a_file_of_bytes() -> None:
    x = torch.tensor([-0.3, 0.0, 0.4999, 1.7], dtype=torch.float64)
    assert round_to_levels(x, 0.0, 1.0).tolist() == pytest.approx([0, 0, 127 / 255, 1])
    assert round_to_levels(x, -1.0, 1.0, 3).tolist() == [0.0, 0.0, 0.0, 1.0]


def test_places_are_uniform_for_draws_from_the_distribution_of_the_truth_and_for_ties() -> None:
    generator = torch.Generator().manual_seed(1)
    for draws, truth in (
        (random(4, 3000, 2, seed=2), random(3000, 2, seed=3)),
        (random(4, 3000, 2, seed=2).round(), random(3000, 2, seed=3).round()),  # discrete
        (torch.zeros(4, 3000, 2), torch.zeros(3000, 2)),  # all the same
    ):
        places = pit(draws, truth, generator)
        assert places.shape == (3000, 2)
        for column in places.T:
            assert scipy.stats.kstest(column.numpy(), "uniform").pvalue > 1e-6
    assert float(pit(torch.ones(9, 1, 1), torch.zeros(1, 1), generator)) < 0.1
    assert float(pit(torch.zeros(9, 1, 1), torch.ones(1, 1), generator)) > 0.9
    with pytest.raises(ShapeError, match=r"\(n, C, \*E\)"):
        pit(torch.zeros(3, 2, 2), torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("width", "shift", "verdict"),
    [(1.0, 0.0, "right"), (0.6, 0.0, "narrow"), (1.6, 0.0, "wide"), (1.0, 0.9, "shifted")],
)
def test_a_posterior_that_is_off_is_flagged_and_a_right_one_is_not(width: float, shift: float, verdict: str) -> None:
    centre = random(400, 3, seed=5)
    truth = centre + random(400, 3, seed=6)
    draws = centre + shift + width * random(20, 400, 3, seed=7)
    places = pit(draws, truth, torch.Generator().manual_seed(0))
    value = joint_uniformity(places)
    assert (value > 1e-6) == (verdict == "right")
    for level in (0.5, 0.9):
        inside = coverage(places, level)
        error = float(inside.std()) / 20
        distance = (float(inside.mean()) - level) / error
        expected = {"right": abs(distance) < 5, "narrow": distance < -5, "wide": distance > 5, "shifted": distance < -5}
        assert expected[verdict]


def test_coverage_counts_coordinates_and_leaves_out_what_does_not_count() -> None:
    places = torch.tensor([[0.5, 0.04, 0.9, 0.26], [math.nan, math.nan, 0.99, 0.5], [math.nan] * 4])
    assert coverage(places, 0.5).tolist()[:2] == [0.5, 0.5]
    assert coverage(places, 0.9)[:2].tolist() == [0.75, 0.5]
    assert math.isnan(coverage(places, 0.5)[2])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        coverage(places, 1.0)


def test_places_by_random_points_are_those_of_the_algorithm() -> None:
    """By hand, truth by truth: references in the range of the draws, moved by the condition, and ranks of distances."""
    units, condition = torch.tensor([1.0, 10.0]).double(), random(40, 3, seed=3) * torch.tensor([1.0, 5, 25]) + 7
    draws, truth = 20 + units * random(6, 40, 2, seed=1), 20 + units * random(40, 2, seed=2)
    places = tarp(draws, truth, torch.Generator().manual_seed(0), condition)
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(40, 2, generator=generator, dtype=torch.float64)
    towards = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    within = torch.rand(40, generator=generator, dtype=torch.float64)
    low, high, scale = draws.amin((0, 1)), draws.amax((0, 1)), draws.reshape(-1, 2).std(0, correction=0)
    given = (condition - condition.mean(0)) / condition.std(0, correction=0)
    for row in range(40):
        reference = (1 - share[row]) * low + share[row] * high + 3 * scale * (given[row] @ towards) / 3**0.5
        own, others = ((point - reference).div(scale).norm(dim=-1) for point in (truth[row], draws[:, row]))
        assert float(places[row]) == pytest.approx((int((others < own).sum()) + float(within[row])) / 7)


def test_the_test_of_uniformity_has_the_level_it_claims() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (10, 200):
        values = torch.tensor([uniformity(torch.rand(count, generator=generator))[1] for _ in range(2000)])
        for level in (0.02, 0.1, 0.5):
            share = float((values < level).double().mean())
            assert share == pytest.approx(level, abs=5 * math.sqrt(level * (1 - level) / 2000) + 0.01)
    assert uniformity((torch.arange(100) + 0.5) / 100) == (pytest.approx(0.01, abs=1e-6), 1.0)
    statistic, value = uniformity(torch.full((100,), 0.3))
    assert (statistic, value) == (pytest.approx(1.0), pytest.approx(0, abs=1e-30))
    squeezed = 0.25 + torch.rand(200, generator=generator) / 2
    assert uniformity(squeezed)[1] < 1e-6  # the median is right, the spread is not
    with pytest.raises(DataError, match="at least 8"):
        uniformity(torch.rand(7))


def test_many_coordinates_are_tested_at_once_at_one_level() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([joint_uniformity(torch.rand(40, 30, generator=generator)) for _ in range(200)])
    assert float((values < 0.05).double().mean()) < 0.11
    one_off = torch.rand(40, 30, generator=generator)
    one_off[:, 7] = 0.5 + one_off[:, 7] / 20
    assert joint_uniformity(one_off) < 1e-6
    one_off[:34, 7] = math.nan
    assert joint_uniformity(one_off) > 0.01
    with pytest.raises(DataError, match="at least 8 truths"):
        joint_uniformity(torch.rand(5, 3))


def test_moments_in_batches_are_those_of_all_points() -> None:
    x, y = random(50, 3, seed=1) @ random(3, 3, seed=2) + 100, random(40, 3, seed=3)
    parts = [Moments(), Moments()]
    for moments, points in zip(parts, (x, y), strict=True):
        for batch in points.split([1, 0, 17, len(points) - 18]):
            moments.add(batch)
    assert parts[0].count == 50
    torch.testing.assert_close(parts[0].mean, x.mean(0))
    torch.testing.assert_close(parts[0].covariance, torch.cov(x.T))
    assert parts[0].frechet(parts[1]) == pytest.approx(frechet_distance(x, y), rel=1e-10)
    few, wide = Moments(), [Moments(), Moments()]
    few.add(x[:1])
    with pytest.raises(DataError, match="at least 2"):
        few.frechet(parts[1])
    with pytest.raises(DataError, match="at least 2"):
        parts[1].frechet(few)
    # No more points than features: as the moments say, with less work; also beside a sample of many points.
    x, y = random(9, 20, seed=4), 2 * random(12, 20, seed=5) + 1
    for moments, points in zip(wide, (x, y), strict=True):
        for batch in points.split(5):
            moments.add(batch)
    many = Moments()
    many.add(random(40, 20, seed=6))
    for one, other in ((wide[0], wide[1]), (wide[1], wide[0]), (wide[0], many), (many, wide[0])):
        expected = frechet_from_moments(one.mean, one.covariance, other.mean, other.covariance)
        assert one.frechet(other) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(wide[0].covariance, torch.cov(x.T))
    torch.testing.assert_close(wide[0].mean, x.mean(0))
    assert wide[0].frechet(wide[0]) == pytest.approx(0, abs=1e-9)


def test_the_energy_score_is_least_for_the_distribution_of_the_truth_and_averages_to_its_closed_form() -> None:
    truth = random(4000, 1, seed=1)
    scores = {
        width: float(energy_score(width * random(8, 4000, 1, seed=2), truth).mean())
        for width in (0.5, 0.8, 1.0, 1.3, 2)
    }
    assert min(scores, key=lambda width: scores[width]) == 1.0
    # E|X - Y| - E|X - X'| / 2 for equal normal distributions is 1 / sqrt(pi).
    assert scores[1.0] == pytest.approx(1 / math.sqrt(math.pi), abs=0.035)
    draws, one = random(5, 2, 3, seed=3), random(2, 3, seed=4)
    pairs = [(draws[i, 0] - draws[j, 0]).norm() for i in range(5) for j in range(5) if i != j]
    by_hand = torch.stack([(draw - one[0]).norm() for draw in draws[:, 0]]).mean() - torch.stack(pairs).mean() / 2
    assert float(energy_score(draws, one)[0]) == pytest.approx(float(by_hand))
    assert energy_distance(draws[:, 0], draws[:, 1]) != 0
    with pytest.raises(DataError, match="at least 2 draws"):
        energy_score(draws[:1], one)
    with pytest.raises(ShapeError):
        energy_score(draws, one[:1])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_lpips(tmp_path_factory.mktemp("weights"))


def test_lpips_agrees_with_torchvisions_alexnet_and_the_published_recipe(weights: tuple[Path, Path]) -> None:
    from torchvision.models import alexnet

    layers = alexnet().features.eval()
    state = torch.load(weights[0], weights_only=True)
    layers.load_state_dict(
        {name.removeprefix("features."): value for name, value in state.items() if "features" in name}
    )
    heads = torch.load(weights[1], weights_only=True)
    x, y = torch.rand(2, 3, 40, 33), torch.rand(2, 3, 40, 33)

    def features(image: Tensor) -> list[Tensor]:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        image = (2 * image - 1 - shift[:, None, None]) / scale[:, None, None]
        found = []
        for number, layer in enumerate(layers[:12]):
            image = layer(image)
            if number in (1, 4, 7, 9, 11):
                found.append(functional.normalize(image.clone(), dim=1))
        return found

    with torch.no_grad():
        expected = sum(
            functional.conv2d((a - b) ** 2, heads[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
            for i, (a, b) in enumerate(zip(features(x), features(y), strict=True))
        )
    distance = LPIPS(*weights)
    torch.testing.assert_close(distance(x, y), expected, rtol=1e-4, atol=1e-5)
    assert distance(x, x).tolist() == [0.0, 0.0]
    grey = x[:, :1]
    torch.testing.assert_close(
        distance(grey, y[:, :1]), distance(grey.expand(-1, 3, -1, -1), y[:, :1].expand(-1, 3, -1, -1))
    )
    assert distance(x.double(), y.double()).dtype == torch.float32
    assert distance(torch.rand(1, 3, 31, 31), torch.rand(1, 3, 31, 31)) > 0
    for wrong in (torch.rand(1, 3, 30, 40), torch.rand(1, 2, 40, 40)):
        with pytest.raises(ShapeError, match="at least 31"):
            distance(wrong, wrong)


def test_lpips_agrees_with_torchvisions_vgg_and_the_published_recipe(tmp_path: Path) -> None:
    from torchvision.models import vgg16

    torch.manual_seed(0)
    with torch.device("meta"):
        state = {name: value for name, value in vgg16().state_dict().items() if name.startswith("features")}
    state = {name: torch.randn(value.shape) / max(1, value[0].numel()) ** 0.5 for name, value in state.items()}
    widths = (64, 128, 256, 512, 512)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}
    torch.save(state, tmp_path / "vgg16.pth")
    torch.save(heads, tmp_path / "vgg.pth")
    layers = vgg16().features.eval()
    layers.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    x, y = torch.rand(2, 3, 33, 40), torch.rand(2, 3, 33, 40)

    def features(image: Tensor) -> list[Tensor]:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        image = (2 * image - 1 - shift[:, None, None]) / scale[:, None, None]
        found = []
        for number, layer in enumerate(layers):
            image = layer(image)
            if number in (3, 8, 15, 22, 29):
                found.append(functional.normalize(image.clone(), dim=1))
        return found

    with torch.no_grad():
        expected = sum(
            functional.conv2d((a - b) ** 2, heads[f"lin{i}.model.1.weight"]).mean((1, 2, 3))
            for i, (a, b) in enumerate(zip(features(x), features(y), strict=True))
        )
    distance = LPIPS(tmp_path / "vgg16.pth", tmp_path / "vgg.pth", "VGG-16")
    torch.testing.assert_close(distance(x, y), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ShapeError, match="at least 16"):
        distance(x[..., :15], x[..., :15])
    with pytest.raises(DataError, match=r"features\.0\.weight is missing"):
        LPIPS(tmp_path / "vgg.pth", tmp_path / "vgg.pth", "VGG-16")


def test_weights_that_are_something_else_are_named(weights: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file") as refused:
        LPIPS(tmp_path / "none.pth", weights[1])
    assert "never fetched" in str(refused.value)
    with pytest.raises(DataError, match=r"features\.0\.weight is missing"):
        LPIPS(weights[1], weights[1])
    with pytest.raises(DataError, match=r"lin0\.model\.1\.weight is missing") as refused:
        LPIPS(weights[0], weights[0])
    assert "alex.pth" in str(refused.value)
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(DataError, match="can't be read"):
        LPIPS(tmp_path / "text.pth", weights[1])
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(DataError, match="holds a list"):
        read_weights(tmp_path / "list.pth", {}, "weights")
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(DataError, match=r"a is of shape \(2,\); expected \(3,\)"):
        read_weights(tmp_path / "a.pth", {"a": (3,)}, "weights")
    torch.save({"a": torch.tensor([1.0, torch.inf])}, tmp_path / "inf.pth")
    with pytest.raises(ArtefactError, match=r"the weights a in .*inf\.pth hold 1 numbers that are not finite"):
        read_weights(tmp_path / "inf.pth", {"a": (2,)}, "weights")


def test_no_code_in_a_weights_file_is_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Code()}, tmp_path / "code.pth")
    with pytest.raises(DataError, match="can't be read"):
        read_weights(tmp_path / "code.pth", {}, "weights")
    assert not (tmp_path / "ran").exists()


def test_random_features_of_images_in_parts_are_those_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = feature_network("random-conv", 1), torch.rand(7, 1, 8, 8)
    whole = network(x)
    monkeypatch.setattr(features, "_CACHED", 2 * 64)
    torch.testing.assert_close(network(x), whole)
    assert network(x[:0]).shape == (0, 64)


def test_random_features_are_fixed_and_separate_images() -> None:
    before = torch.get_rng_state()
    network, again = feature_network("random-conv", 1), feature_network("random-conv", 1)
    assert torch.equal(torch.get_rng_state(), before)
    for size in ((8, 8), (3, 5), (28, 30)):
        assert network(torch.rand(4, 1, *size)).shape == (4, 64)
    x = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(x), again(x.double()))
    y = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    same = frechet_distance(network(x), network(y))
    smoothed = functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1)), 3, 1)
    left = y * torch.cat([torch.ones(4), torch.zeros(4)])
    for changed in (smoothed, 0.9 * y, y + 0.1, left):
        assert frechet_distance(network(x), network(changed)) > 3 * same
    assert frechet_distance(network(left), network(left.flip(-1))) > 3 * same
    # What is fixed may not drift: numbers of one version stand beside numbers of another.
    assert float(network(torch.ones(1, 1, 8, 8)).sum()) == pytest.approx(FIXED, rel=1e-4)


FIXED = 6.76134


def test_pixels_are_features_as_long_as_there_are_few() -> None:
    x = torch.rand(3, 2, 4, 4)
    assert torch.equal(feature_network("pixels", 2)(x), x.flatten(1))
    with pytest.raises(ConfigError, match="random-conv"):
        feature_network("pixels", 3)(torch.rand(1, 3, 64, 64))


def test_inception_gives_what_torchvision_pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, init_weights=False, aux_logits=True).eval()
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    before = torch.get_rng_state()
    features = feature_network("inception", 3, weights=tmp_path / "inception.pth")
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(2, 3, 32, 32)
    large = functional.interpolate(x, (299, 299), mode="bilinear", antialias=True)
    pooled: list[Tensor] = []
    network.avgpool.register_forward_hook(lambda module, given, found: pooled.append(found.flatten(1)))
    with torch.no_grad():
        network(2 * large - 1)
    (expected,) = pooled
    found = features(x)
    # Untrained, its features are alike for all images: what separates two is compared, at its own scale.
    difference = expected[0] - expected[1]
    torch.testing.assert_close(found[0] - found[1], difference, rtol=0, atol=float(difference.abs().max()) / 50)
    torch.testing.assert_close(found, expected, rtol=0, atol=float(expected.abs().max()) / 1000)
    assert features(x[:1, :1]).shape == (1, 2048)
    with pytest.raises(ConfigError, match="none was named"):
        feature_network("inception", 3)
    with pytest.raises(ConfigError, match="expected pixels, random-conv, inception or published-inception"):
        feature_network("resnet", 3)  # type: ignore[arg-type]
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    with pytest.raises(ScorefoldError, match="inception needs a library that can't be imported"):
        feature_network("inception", 3, weights=tmp_path / "inception.pth")

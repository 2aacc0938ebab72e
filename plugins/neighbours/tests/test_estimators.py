"""Baseline estimators: right where the truth is known, deterministic, and clear about what they can't do."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from scorefold.config import Config
from scorefold.data import Dataset, StreamedDataset
from scorefold.errors import DataError, PluginError
from scorefold_neighbours import config as configs
from scorefold_neighbours.estimators.estimator import METHODS, NeighbourEstimator
from scorefold_neighbours.estimators.formulas import two_nn
from scorefold_neighbours.estimators.pca import PCAEstimator, component_variances, count_components
from scorefold_neighbours.estimators.points import interval_by_halves
from scorefold_standard.data.config import DigitsConfig
from scorefold_standard.data.pixels import Digits
from scorefold_standard.manifolds.config import HelixConfig, SphereConfig, SubspaceConfig
from scorefold_standard.manifolds.synthetic import draw_manifold

POINTWISE = {
    configs.MLEConfig,
    configs.LPCAConfig,
    configs.ESSConfig,
    configs.TLEConfig,
    configs.MADAConfig,
    configs.MOMConfig,
    configs.GeoMLEConfig,
}
COUNTS = configs.I3DConfig(step=0.01)
"""In steps that are small for the points here."""
ALL = [
    pytest.param(COUNTS if config is configs.I3DConfig else config(), id=config.__name__.removesuffix("Config"))
    for config in METHODS
]
# Whole-sphere methods see the linear span; ESS and DANCo are known to lean upward on curved sets.
SPAN = (configs.FisherSConfig,)


@pytest.mark.parametrize("config", ALL)
def test_methods_of_the_whole_set_read_no_neighbours(config: Config) -> None:
    """A time series can have neighbours in time that change the answer of all others."""
    assert NeighbourEstimator(config).reads_neighbours != isinstance(config, SPAN)
    assert not PCAEstimator(configs.PCAConfig()).reads_neighbours


@pytest.fixture(scope="module")
def sphere() -> torch.Tensor:
    return draw_manifold(SphereConfig(dimension=3, ambient=8, points=300), 0).x


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("config", ALL)
def test_methods_know_a_sphere(config: Any, sphere: torch.Tensor) -> None:
    cheap = config.model_copy(update={"resamples": 2 if config.resamples else 0})
    answer = NeighbourEstimator(cheap).estimate(sphere, generator=gen())
    truth = 4 if isinstance(config, SPAN) else 3
    tolerance = (
        1.0
        if isinstance(config, configs.KNNConfig | configs.DANCoConfig | configs.ESSConfig | configs.LPCAConfig)
        else 0.6
    )
    assert answer.value == pytest.approx(truth, abs=tolerance)
    assert answer.quantity == "intrinsic dimension"
    assert answer.interval is not None
    assert answer.interval[0] <= answer.value <= answer.interval[1]
    if type(config) in POINTWISE:
        assert answer.pointwise is not None
        assert answer.pointwise.shape == (300,)
    else:
        assert answer.pointwise is None


def test_two_nn_leaves_out_points_at_distance_0_of_another() -> None:
    some = torch.rand(40, 2, generator=gen(), dtype=torch.float64) + torch.tensor([1.0, 2.0])
    distances = torch.cat([torch.tensor([[0.0, 1.0], [0.0, 0.0]]), some])
    for method in ("linear", "mle"):
        config = configs.TwoNNConfig(method=method)  # type: ignore[arg-type]
        assert two_nn(config, distances) == two_nn(config, distances[2:])
        assert math.isnan(two_nn(config, distances[:2]))


def test_two_nn_of_every_ratio_leaves_out_the_share_that_has_no_logarithm(sphere: torch.Tensor) -> None:
    answer = NeighbourEstimator(configs.TwoNNConfig(discard=0, resamples=0)).estimate(sphere)
    assert answer.value == pytest.approx(3, abs=0.4)


def test_no_estimator_needs_scikit_dimension() -> None:
    code = (
        "import sys; sys.modules['skdim'] = sys.modules['numba'] = None\n"
        "import torch; from scorefold_neighbours.estimators.estimator import METHODS, NeighbourEstimator\n"
        "x = torch.randn(150, 4, generator=torch.Generator().manual_seed(0))\n"
        "for config in METHODS:\n"
        "    needs = {'step': 0.01} if 'step' in config.model_fields else {}\n"
        "    assert NeighbourEstimator(config(resamples=0, **needs)).estimate(x).value > 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


FAST = [c for c in ALL if not isinstance(c.values[0], configs.ESSConfig | configs.PHConfig)]


@pytest.mark.parametrize("config", FAST)
def test_same_generator_same_answer_and_no_mutation(config: Any, sphere: torch.Tensor) -> None:
    estimator = NeighbourEstimator(config.model_copy(update={"resamples": 4, "limit": 250}))
    before = sphere.clone()
    one, two = (estimator.estimate(sphere, generator=gen(5)) for _ in range(2))
    assert (one.value, one.interval) == (two.value, two.interval)
    assert torch.equal(sphere, before)


@pytest.mark.parametrize("config", ALL)
def test_too_few_points_are_refused_by_name(config: Any) -> None:
    method = METHODS[type(config)]
    least = method.least(config)
    with pytest.raises(DataError, match=rf"{method.name} needs at least {least} points.*; {least - 1} were given"):
        NeighbourEstimator(config).estimate(torch.randn(least - 1, 3))
    answer = NeighbourEstimator(config).estimate(torch.randn(least, 3, dtype=torch.float64, generator=gen()))
    assert math.isfinite(answer.diagnostics.get("reading", answer.value))
    assert answer.interval is None


def test_mle_is_levina_and_bickel_averaged_harmonically(sphere: torch.Tensor) -> None:
    """The closed form: 1 / mean over points and neighbours j < k of log(T_k / T_j)."""
    config = configs.MLEConfig(n_neighbors=12, resamples=0)
    distances = torch.cdist(sphere, sphere).sort(dim=1).values[:, 1:13]
    logs = (distances[:, -1:] / distances[:, :-1]).log()
    answer = NeighbourEstimator(config).estimate(sphere)
    assert answer.value == pytest.approx(1 / float(logs.mean()), rel=1e-6)
    assert answer.pointwise is not None
    torch.testing.assert_close(answer.pointwise, 11 / logs.sum(1), rtol=1e-6, atol=0)
    for combine, expected in (("mean", (11 / logs.sum(1)).mean()), ("median", (11 / logs.sum(1)).quantile(0.5))):
        update = config.model_copy(update={"combine": combine})
        assert NeighbourEstimator(update).estimate(sphere).value == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    "config", [configs.MLEConfig(resamples=2), configs.TwoNNConfig(resamples=2), configs.TLEConfig(resamples=2)]
)
def test_rotation_shift_and_scale_change_nothing(config: Any, sphere: torch.Tensor) -> None:
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=gen(), dtype=torch.float64))[0]
    moved = 3 * sphere @ rotation + 1
    one, two = (NeighbourEstimator(config).estimate(x).value for x in (sphere, moved))
    assert two == pytest.approx(one, rel=1e-6)


def test_interval_by_halves_covers_as_often_as_it_says() -> None:
    """For the mean of normal draws the interval must cover the truth in about 90 of 100 data sets."""
    covered = 0
    for seed in range(300):
        x = 5 + torch.randn(80, generator=gen(seed), dtype=torch.float64)
        interval = interval_by_halves(lambda half, x=x: float(x[half].mean()), 80, 20, 0.9, float(x.mean()), gen(seed))  # type: ignore[misc]
        assert interval is not None
        covered += interval[0] <= 5 <= interval[1]
    assert covered / 300 == pytest.approx(0.9, abs=0.06)


def test_interval_of_mle_has_the_spread_of_fresh_data() -> None:
    config = configs.MLEConfig(resamples=20, level=0.6826894921)
    answers = [
        NeighbourEstimator(config).estimate(draw_manifold(SphereConfig(dimension=3, points=300), seed).x)
        for seed in range(30)
    ]
    spread = float(torch.tensor([answer.value for answer in answers]).std())
    widths = [(answer.interval[1] - answer.interval[0]) / 2 for answer in answers if answer.interval]
    assert sum(widths) / len(widths) == pytest.approx(spread, rel=0.4)


def test_duplicates_count_once_and_come_back(sphere: torch.Tensor) -> None:
    config = configs.MLEConfig(resamples=0)
    twice = torch.cat([sphere, sphere[:100]])
    one, two = NeighbourEstimator(config).estimate(sphere), NeighbourEstimator(config).estimate(twice)
    assert two.value == pytest.approx(one.value)
    assert two.diagnostics["duplicates"] == 100
    assert two.pointwise is not None
    assert one.pointwise is not None
    torch.testing.assert_close(two.pointwise, torch.cat([one.pointwise, one.pointwise[:100]]))
    with pytest.raises(DataError, match="of 60, 1 are"):
        NeighbourEstimator(config).estimate(torch.ones(60, 3))


def test_one_coordinate_and_images_are_points_too() -> None:
    line = torch.rand(300, 1, generator=gen(), dtype=torch.float64)
    assert NeighbourEstimator(configs.TwoNNConfig(resamples=0)).estimate(line).value == pytest.approx(1, abs=0.2)
    digits = Digits(DigitsConfig()).load("test")
    answer = NeighbourEstimator(configs.MLEConfig()).estimate(digits, generator=gen())
    assert 2 < answer.value < 8
    flat = NeighbourEstimator(configs.MLEConfig()).estimate(digits.x.flatten(1), generator=gen())
    assert flat.value == answer.value


def test_a_limit_draws_points_and_says_which(sphere: torch.Tensor) -> None:
    config = configs.MLEConfig(limit=120, resamples=0)
    answer = NeighbourEstimator(config).estimate(sphere, generator=gen(1))
    assert (answer.diagnostics["points"], len(answer.diagnostics["index"])) == (120, 120)
    chosen = sphere[answer.diagnostics["index"]]
    assert NeighbourEstimator(configs.MLEConfig(resamples=0)).estimate(chosen).value == pytest.approx(answer.value)
    streamed = StreamedDataset(x=torch.empty(0, 8), fetch=lambda rows: Dataset(x=sphere[rows]), size=300)
    assert NeighbourEstimator(config).estimate(streamed, generator=gen(1)).value == pytest.approx(
        answer.value, rel=1e-4
    )
    with pytest.raises(DataError, match="its limit is 10"):
        NeighbourEstimator(configs.MLEConfig(limit=10)).estimate(sphere)


def test_points_that_are_not_finite_are_refused(sphere: torch.Tensor) -> None:
    bad = sphere.clone()
    bad[[7, 9], 2] = math.nan
    with pytest.raises(DataError, match="2 of the points are NaN or infinite, the first in row 7"):
        NeighbourEstimator(configs.MLEConfig()).estimate(bad)


def test_local_pca_by_share_of_variance_leaves_the_share_out() -> None:
    """Five equal variances: holding 95 % takes all five, leaving out half of the variance takes three."""
    x = torch.randn(400, 5, generator=gen(), dtype=torch.float64)
    for share, expected in ((0.05, 5.0), (0.5, 3.0)):
        config = configs.LPCAConfig(rule="ratio", share=share, n_neighbors=399, combine="median", resamples=0)
        assert NeighbourEstimator(config).estimate(x).value == expected, share


def test_points_without_an_answer_are_counted() -> None:
    """Corners of a cube have many neighbours at one distance, for which MADA has no number."""
    corners = torch.randint(0, 2, (200, 10), generator=gen()).float()
    answer = NeighbourEstimator(configs.MADAConfig(resamples=0)).estimate(corners)
    assert answer.pointwise is not None
    assert answer.diagnostics["points_left_out"] == int((~answer.pointwise.isfinite()).sum()) > 0


def test_what_a_method_finds_odd_ends_up_in_the_diagnostics(sphere: torch.Tensor) -> None:
    """A point of a grid has its nearest neighbours at one distance."""
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0), torch.arange(3.0))
    mixed = torch.cat([sphere[:, :3].float(), 100 + grid])
    answer = NeighbourEstimator(configs.GRIDEConfig(near=1, far=2, resamples=0)).estimate(mixed)
    assert answer.diagnostics["warnings"] == ["27 points have two neighbours at one distance, and were left out"]


def test_a_half_without_a_number_leaves_no_interval() -> None:
    def fit(half: torch.Tensor) -> float:
        return math.nan if 0 in half else 1.0

    assert interval_by_halves(fit, 10, 4, 0.9, 1.0, gen()) is None
    images = torch.randn(60, 16, generator=gen())
    answer = NeighbourEstimator(configs.FisherSConfig()).estimate(images, generator=gen())
    assert answer.interval is None
    assert any("no interval" in text for text in answer.diagnostics["warnings"])


def test_too_few_points_for_halves_are_reported_with_the_answer(sphere: torch.Tensor) -> None:
    few = NeighbourEstimator(configs.MLEConfig()).estimate(sphere[:30], generator=gen())
    assert few.interval is None
    assert few.diagnostics["warnings"] == [
        "30 points are few for MLE with n_neighbors: 20, and give no interval: half of them are less than the 21 that "
        "it needs"
    ]
    alone = NeighbourEstimator(configs.MLEConfig()).point_estimate(sphere[:30], generator=gen())
    assert "warnings" not in alone.diagnostics


@pytest.mark.parametrize("resamples", [0, 4])
def test_an_estimate_without_fault_has_neither_warning_nor_note(resamples: int, sphere: torch.Tensor) -> None:
    answer = NeighbourEstimator(configs.TwoNNConfig(resamples=resamples)).estimate(sphere, generator=gen())
    assert (answer.interval is None) == (resamples == 0)
    assert not {"warnings", "note", "points_left_out"} & answer.diagnostics.keys()


def test_what_is_no_dimension_is_refused_and_what_is_too_much_is_withheld() -> None:
    with pytest.raises(DataError, match=r"PH gives -\d+.* which is no dimension"):
        NeighbourEstimator(configs.PHConfig(resamples=0)).estimate(
            torch.randn(40, 200, generator=gen()), generator=gen()
        )
    spaced = torch.linspace(0, 1, 60)[:, None] * torch.ones(1, 5)
    answer = NeighbourEstimator(configs.TwoNNConfig(resamples=0)).estimate(spaced)
    assert answer.value is None
    assert answer.diagnostics["reading"] > 10
    assert answer.headline.endswith("in 5 coordinates, so the points are not what TwoNN assumes")


def test_a_curve_has_dimension_one() -> None:
    curve = draw_manifold(HelixConfig(points=400, ambient=6), 0).x
    assert NeighbourEstimator(configs.LPCAConfig(n_neighbors=10, resamples=0)).estimate(curve).value == pytest.approx(
        1, abs=0.05
    )
    assert NeighbourEstimator(configs.GRIDEConfig(resamples=0)).estimate(curve).value == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (configs.CorrIntConfig, {"near": 20, "far": 10}),
        (configs.GRIDEConfig, {"near": 4, "far": 4}),
        (configs.DANCoConfig, {"n_neighbors": 12}),
        (configs.DANCoConfig, {"limit": None}),
        (configs.MLEConfig, {"resamples": 3}),
        (configs.MLEConfig, {"n_neighbours": 3}),
    ],
)
def test_configs_refuse_what_cannot_be(model: type[Config], fields: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        model.model_validate(fields)


# Principal components.


def test_pca_counts_a_subspace_exactly() -> None:
    x = draw_manifold(SubspaceConfig(dimension=4, ambient=12, points=400, variances=(1.0, 0.8, 0.6, 0.5)), 0).x
    for rule in ("ratio", "gap", "fukunaga-olsen"):
        answer = PCAEstimator(configs.PCAConfig(rule=rule)).estimate(x)
        assert (answer.value, answer.interval) == (4.0, (4.0, 4.0))
        assert answer.spectrum is not None
        torch.testing.assert_close(answer.spectrum[0], torch.linalg.eigvalsh(x.mT.cov()).flip(0), atol=1e-12, rtol=1e-9)


def test_pca_sees_the_span_of_a_sphere(sphere: torch.Tensor) -> None:
    assert PCAEstimator(configs.PCAConfig(rule="gap")).estimate(sphere).value == 4.0


@pytest.mark.parametrize(
    ("rule", "variances", "expected"),
    [
        ("ratio", [5.0, 4.0, 0.6, 0.4], 3.0),
        ("gap", [5.0, 4.0, 0.5, 0.4], 2.0),
        ("gap", [5.0, 4.9, 4.8, 0.0], 3.0),
        ("gap", [5.0], 1.0),
        ("fukunaga-olsen", [5.0, 0.26, 0.25, 0.1], 2.0),
        ("participation", [3.0, 3.0, 3.0, 0.0], 3.0),
        ("participation", [2.0, 1.0], 9 / 5),
        ("ratio", [0.0, 0.0], 0.0),
    ],
)
def test_pca_rules(rule: str, variances: list[float], expected: float) -> None:
    config = configs.PCAConfig.model_validate({"rule": rule})
    assert count_components(torch.tensor(variances, dtype=torch.float64), config) == pytest.approx(expected)


def test_pca_interval_shows_a_close_call_and_is_deterministic() -> None:
    # The fifth variance holds the 95 % line up or not, as the resample has it.
    variances = (1.0, 1.0, 1.0, 0.85, 0.2)
    x = draw_manifold(SubspaceConfig(dimension=5, ambient=6, points=200, variances=variances), 0).x
    one, two = (PCAEstimator(configs.PCAConfig()).estimate(x, generator=gen(2)) for _ in range(2))
    assert one.interval == two.interval
    assert one.interval == (4.0, 5.0)


def test_pca_with_fewer_points_than_coordinates() -> None:
    x = torch.randn(6, 40, generator=gen())
    assert component_variances(x.double()).count_nonzero() == 5
    assert PCAEstimator(configs.PCAConfig(ratio=0.9999)).estimate(x).value == 5.0
    with pytest.raises(DataError, match="PCA needs at least 3 points; 2 were given"):
        PCAEstimator(configs.PCAConfig()).estimate(x[:2])


def test_pca_of_points_that_do_not_vary_is_zero() -> None:
    answer = PCAEstimator(configs.PCAConfig()).estimate(torch.ones(20, 4))
    assert (answer.value, answer.interval) == (0.0, (0.0, 0.0))


@pytest.mark.needs("torchmetrics")
def test_the_metric_is_the_estimate_of_all_batches() -> None:
    from scorefold_neighbours.during_training import dimension_metric

    x = torch.randn(400, 3, 2, generator=torch.Generator().manual_seed(0))
    metric = dimension_metric()
    for batch in x.split(100):
        metric.update(batch)
    expected = NeighbourEstimator(configs.MLEConfig(resamples=0)).estimate(x.flatten(1)).number()
    assert float(metric.compute()) == pytest.approx(expected)
    metric.reset()
    metric.update(x[:5])
    assert bool(metric.compute().isnan())  # fewer points than neighbours


def test_without_torchmetrics_the_metric_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from scorefold_neighbours.during_training import dimension_metric

    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(PluginError, match="torchmetrics") as refused:
        dimension_metric()
    assert refused.value.hint == "pip install 'scorefold-neighbours[torchmetrics]'"

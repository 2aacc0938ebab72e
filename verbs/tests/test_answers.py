"""What verbs answer with: the number, what it is, its interval and the truth beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset, EventScale
from scorefold.errors import ConfigError, DataError, PluginError, ShapeError, SplitError
from scorefold.interfaces import Allocator, DataSource, Encodes, Estimator, Flow, Geometry
from scorefold.interfaces.capabilities import KnowsDistribution
from scorefold.plugin import CORE_CAPABILITIES, CORE_KINDS, Comparison
from scorefold.results import Allocation, Estimate
from scorefold.stage import Outcome, StageContext
from scorefold_registry.host import Host
from scorefold_toolkit.distributions import (
    Distribution,
    Embedded,
    Mixture,
    Points,
    Product,
    SphereDistribution,
    SubspaceGaussian,
    log_density,
)
from scorefold_toolkit.nn import StandardNormal
from scorefold_verbs.config import (
    AllocateOptions,
    EstimateOptions,
    InterpolateOptions,
    LikelihoodOptions,
    ReconstructOptions,
)
from scorefold_verbs.estimate import allocate as verb_allocate
from scorefold_verbs.estimate import estimate as verb_estimate
from scorefold_verbs.geometry import interpolate as verb_interpolate
from scorefold_verbs.latents import reconstruct as latent_quality
from scorefold_verbs.likelihoods import evaluate_likelihood

GAUSSIAN = SubspaceGaussian(torch.tensor([1.0, 0.0]).double(), torch.eye(2).double(), torch.tensor([4.0, 1.0]).double())
CONTEXT = StageContext(stage="test")


class Source(DataSource):
    """Points in splits."""

    def __init__(self, test: Tensor, train: Tensor | None = None, truth: Mapping[str, Any] | None = None) -> None:
        self.splits = {"test": test} if train is None else {"test": test, "train": train}
        self.truth = truth or {}
        self.event_shape = tuple(test.shape[1:])
        self.event_scale = EventScale()

    def load(self, split: str) -> Dataset:
        if split not in self.splits:
            raise SplitError(f"there is no {split} split")
        return Dataset(self.splits[split], truth=self.truth)


class DensitySource(Source, KnowsDistribution):
    def distribution(self) -> Distribution:
        return GAUSSIAN


class Unit(Flow):
    """The distribution N(0, 1) in each of two coordinates."""

    def __init__(self, scale: EventScale | None = None) -> None:
        super().__init__((2,), StandardNormal(), event_scale=scale)

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(len(z))


def answer(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = outcome.result["answer"]
    return found


def test_the_density_of_a_gaussian_and_of_a_mixture() -> None:
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0)).double()
    first = torch.distributions.Normal(GAUSSIAN.mean, GAUSSIAN.variances.sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(log_density(GAUSSIAN, x), first)
    turned = torch.linalg.qr(torch.tensor([[1.0, 2.0], [0.5, -1.0]]).double()).Q
    other = SubspaceGaussian(torch.zeros(2).double(), turned, torch.tensor([0.5, 3.0]).double())
    covariance = turned @ torch.diag(other.variances) @ turned.mT
    second = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance).log_prob(x)
    torch.testing.assert_close(log_density(other, x), second)
    mixture = Mixture(torch.tensor([0.25, 0.75]), (GAUSSIAN, other))
    torch.testing.assert_close(log_density(mixture, x), (0.25 * first.exp() + 0.75 * second.exp()).log())
    both = log_density(Product((GAUSSIAN, other)), torch.cat([x, x.flip(0)], dim=1))
    torch.testing.assert_close(both, first + second.flip(0))
    torch.testing.assert_close(log_density(Embedded(GAUSSIAN, other.mean, turned), x @ turned.mT), first)


def test_distributions_without_a_density_have_none() -> None:
    x, basis = torch.zeros(3, 2), torch.eye(2).double()
    flat = SubspaceGaussian(torch.zeros(2).double(), basis[:, :1], torch.ones(1).double())
    sphere = SphereDistribution(torch.zeros(2).double(), basis, 1.0)
    for distribution in (flat, sphere, Points(x.double()), Mixture(torch.tensor([0.5, 0.5]), (GAUSSIAN, flat))):
        assert log_density(distribution, x) is None
    assert log_density(Product((GAUSSIAN, sphere)), torch.zeros(3, 4)) is None
    assert log_density(Embedded(Points(x[:, :1].double()), GAUSSIAN.mean, basis[:, :1]), x) is None


def test_distributions_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ShapeError, match="a distribution on 2 coordinates has 1 directions"):
        Embedded(GAUSSIAN, GAUSSIAN.mean, torch.eye(2, 1).double())
    with pytest.raises(ShapeError, match="no distributions"):
        Product(())


def test_a_likelihood_is_held_to_the_exact_one() -> None:
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    found = answer(evaluate_likelihood(Unit(), {"data": DensitySource(x)}, LikelihoodOptions(limit=40), CONTEXT))
    own = torch.distributions.Normal(0.0, 1.0).log_prob(x[:40]).sum(1)
    exact = log_density(GAUSSIAN, x[:40])
    assert exact is not None
    assert found["quantity"] == "negative log-likelihood (nats per dimension)"
    assert found["value"] == pytest.approx(-float(own.mean()) / 2)
    assert found["truth"] == pytest.approx(-float(exact.mean()) / 2)
    half = 1.96 * float(own.std()) / math.sqrt(40) / 2
    assert found["interval"] == pytest.approx([found["value"] - half, found["value"] + half])
    plain = answer(evaluate_likelihood(Unit(), {"data": Source(x)}, LikelihoodOptions(limit=1), CONTEXT))
    assert "truth" not in plain
    assert "interval" not in plain


def test_a_flow_on_discrete_data_answers_in_bits() -> None:
    flow, x = Unit(EventScale(low=0.0, high=1.0, levels=5)), torch.tensor([[0.25, 0.5], [1.0, 0.0]])
    outcome = evaluate_likelihood(flow, {"data": Source(x)}, LikelihoodOptions(), CONTEXT)
    assert answer(outcome)["quantity"] == "bits per dimension"
    assert answer(outcome)["value"] == pytest.approx(outcome.result["metrics"]["bits per dimension"])
    assert answer(outcome)["interval"][0] < answer(outcome)["value"] < answer(outcome)["interval"][1]


def test_log_likelihoods_of_another_shape_are_refused() -> None:
    class Column(Unit):
        def log_prob(self, *given: Any, **named: Any) -> Tensor:
            return super().log_prob(*given, **named)[:, None]

    with pytest.raises(PluginError, match=r"log_prob of .*Column returned the shape \(4, 1\) for 4 points"):
        evaluate_likelihood(Column(), {"data": Source(torch.zeros(4, 2))}, LikelihoodOptions(), CONTEXT)


@pytest.mark.parametrize(("shape", "index", "expected"), [((4, 1), None, 4), ((3,), None, 4), ((4,), [0, 2], 2)])
def test_pointwise_values_of_another_shape_are_refused(
    shape: tuple[int, ...], index: list[int] | None, expected: int
) -> None:
    facts = {} if index is None else {"index": torch.tensor(index)}

    class Wrong(Estimator):
        def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
            return Estimate("size", 1.0, pointwise=torch.zeros(shape), diagnostics=facts)

    with pytest.raises(PluginError, match=rf"pointwise values of shape .* for 4 points; expected \({expected},\)"):
        verb_estimate(Wrong(), {"data": Source(torch.zeros(4, 2))}, EstimateOptions(), CONTEXT)


class Fixed(Estimator):
    def __init__(self, quantity: str) -> None:
        self.quantity = quantity

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        return Estimate(self.quantity, 2.5, (2.0, 3.0))


def test_an_estimate_of_the_dimension_is_held_to_the_truth_and_others_are_not() -> None:
    source = Source(torch.zeros(4, 2), truth={"dimension": 2})
    found = answer(verb_estimate(Fixed("intrinsic dimension"), {"data": source}, EstimateOptions(), CONTEXT))
    assert (found["quantity"], found["value"], found["truth"]) == ("intrinsic dimension", 2.5, 2)
    assert list(found["interval"]) == [2.0, 3.0]
    other = answer(verb_estimate(Fixed("curvature"), {"data": source}, EstimateOptions(), CONTEXT))
    assert (other["quantity"], other["truth"]) == ("curvature", None)


class Shrinking(nn.Module, Encodes):
    """A code of the first coordinate alone, which comes back ``factor`` times as large."""

    latent_shape = (1,)

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def encode(self, x: Tensor) -> Tensor:
        return x[:, :1]

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        return self.factor * torch.cat([z, torch.zeros_like(z)], dim=1)

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("reconstruction asks for codes alone")


def test_the_reconstruction_error_is_one_for_the_mean_and_zero_for_the_points() -> None:
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([3.0, 1.0])
    x = x - x.mean(0)
    data = {"data": Source(x)}

    def error(factor: float, points: Mapping[str, Any] = data) -> float:
        outcome = latent_quality.reconstruct(Shrinking(factor), points, ReconstructOptions(batch_size=7), CONTEXT)
        assert answer(outcome)["quantity"] == "relative reconstruction error"
        return float(answer(outcome)["value"])

    assert error(0.0) == pytest.approx(1.0, abs=1e-6)
    line = {"data": Source(x * torch.tensor([1.0, 0.0]))}
    assert error(1.0, line) == pytest.approx(0.0, abs=1e-6)
    share = float(x[:, 1].square().sum() / x.square().sum())
    assert error(1.0) == pytest.approx(math.sqrt(share))


def test_what_cannot_be_reconstructed() -> None:
    with pytest.raises(ConfigError, match="Unit has no latent space: it can't reconstruct"):
        latent_quality.reconstruct(Unit(), {"data": Source(torch.zeros(2, 2))}, ReconstructOptions(), CONTEXT)
    with pytest.raises(DataError, match="all points are equal"):
        latent_quality.reconstruct(Shrinking(1.0), {"data": Source(torch.ones(3, 2))}, ReconstructOptions(), CONTEXT)


class Arcs(Geometry):
    """The plane in polar coordinates, where circles around the origin are straight; or as it is."""

    event_shape = (2,)

    def __init__(self, *, polar: bool) -> None:
        self.polar = polar

    def metric(self, x: Tensor) -> Tensor:
        return torch.eye(2).expand(len(x), 2, 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._out(self._in(x) + v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return self._in(y) - self._in(x)

    def _in(self, x: Tensor) -> Tensor:
        if not self.polar:
            return x
        return torch.stack([x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])], dim=1)

    def _out(self, u: Tensor) -> Tensor:
        if not self.polar:
            return u
        return torch.stack([u[:, 0] * u[:, 1].cos(), u[:, 0] * u[:, 1].sin()], dim=1)


def test_geodesics_among_the_data_have_their_middles_there() -> None:
    angles = torch.rand(400, generator=torch.Generator().manual_seed(3)) * 2 * torch.pi
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    source = {"data": Source(x[:64], x[64:])}

    def middles(*, polar: bool) -> dict[str, Any]:
        return answer(verb_interpolate(Arcs(polar=polar), source, InterpolateOptions(pairs=32, times=5), CONTEXT))

    curved, straight = middles(polar=True), middles(polar=False)
    assert 0.3 < curved["value"] < 3
    assert straight["value"] > 10
    assert curved["interval"][0] < curved["value"] < curved["interval"][1]


def test_lengths_are_compared_without_training_points() -> None:
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(4))
    for source in (Source(x), Source(x, x[:0]), Source(x, x)):
        outcome = verb_interpolate(Arcs(polar=False), {"data": source}, InterpolateOptions(pairs=4), CONTEXT)
        found = answer(outcome)
        assert found["quantity"] == "mean length"
        assert found["value"] == pytest.approx(found["baselines"]["straight"], rel=1e-5)
        assert found["verdict"].startswith("Geodesics are no shorter than straight lines")


class Planned(Allocator):
    def allocate(self, budget: int, **given: Any) -> Allocation:
        return Allocation("optimal", (), 0, predicted_loss=1 / budget if budget else None, interval=(0.0, 1.0))


def test_an_allocation_answers_with_its_loss() -> None:
    found = answer(verb_allocate(Planned(), {}, AllocateOptions(budget=4), CONTEXT))
    assert (found["quantity"], found["value"], found["interval"]) == ("predicted loss", 0.25, (0.0, 1.0))
    assert answer(verb_allocate(Planned(), {}, AllocateOptions(budget=0), CONTEXT))["value"] is None


def test_the_verbs_that_are_compared_exist(host: Host) -> None:
    kinds = {kind.name: kind for kind in host.catalogue.kinds.values()}
    assert {kind.name for kind in CORE_KINDS if kind.comparison is None} == {"data", "network"}
    for kind in kinds.values():
        if kind.comparison is not None:
            assert all(kind.verb(name) is not None for name in kind.comparison.verbs)
    (comparison,) = (item.comparison for item in CORE_CAPABILITIES if item.comparison is not None)
    for name in ("score", "flow"):
        assert all(kinds[name].verb(verb) is not None for verb in comparison.verbs)
    for verb in ("reconstruct", "traverse"):
        assert kinds["estimator"].verb(verb) == kinds["flow"].verb(verb)


@pytest.mark.parametrize("wrong", [{"verbs": ()}, {"verbs": ("fit",), "best": "least"}])
def test_a_comparison_says_what_it_lacks(wrong: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match="expected at least one verb, and truth, smallest or largest"):
        Comparison(**wrong)

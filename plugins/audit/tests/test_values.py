"""Measures of copying, diversity and dimension at the values that the controls are known to have, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, multivariate_normal
from torch import Tensor

from scorefold.data import Condition, Dataset
from scorefold.diffusion import VE, VP
from scorefold.interfaces import ScoreModel
from scorefold_audit.claims.controls import ring_points, sets
from scorefold_audit.membership.losses import (
    denoising_losses,
    local_dimensions,
    membership,
    proximal_errors,
    step_errors,
    time_at,
)
from scorefold_audit.quality.comparison import (
    cost,
    gap,
    kernel_distance_test,
    likelihood_divergence,
    log_variances,
    standardised_sets,
)
from scorefold_audit.quality.measures import cosine_distance, memorisation_informed, relative_vendi, vendi
from scorefold_audit.unusual import atypical, atypical_set, combined_p_values, low, unlikely_or_flat


def within(value: float, mean: float, deviation: float) -> bool:
    """Return True for a value of one seed within five standard deviations of the mean over seeds."""
    return abs(value - mean) < 5 * deviation


# Means and standard deviations over 20 seeds, 500 points in each set.
DIVERGENCES = {
    ("copier", "ring"): ((495.7, 138.5), (-771.5, 120.2)),
    ("right", "ring"): ((-1.5, 2.6), (-26.7, 3.7)),
    ("wide", "ring"): ((21.9, 3.1), (-15.6, 2.1)),
    ("incomplete", "ring"): ((43.8, 5.8), (-23.6, 7.2)),
    ("right", "sphere"): ((-6.0, 0.8), (-3.2, 0.8)),
    ("wide", "sphere"): ((28.0, 0.8), (-0.2, 0.6)),
    ("incomplete", "sphere"): ((-1.5, 1.0), (-3.1, 1.6)),
}


@pytest.mark.parametrize(("model", "data"), DIVERGENCES)
def test_the_likelihood_divergence_of_the_controls(model: str, data: str, generator: torch.Generator) -> None:
    value, of_gap = DIVERGENCES[model, data]
    training, held_out, samples = sets(model, data, 3)
    found = likelihood_divergence(samples, training, held_out, generator)
    assert within(found.fld, *value)
    q, t, h = standardised_sets(samples, training, held_out)
    assert within(gap(q, t, h), *of_gap)
    # Compared with the value of held-out points, a copier stands out and nothing else does.
    apart = found.gap - found.gap_of_held_out
    assert (apart < -50) == (model == "copier")


def test_a_copier_in_many_dimensions_has_no_bound(generator: torch.Generator) -> None:
    training, held_out, samples = sets("copier", "sphere", 0, 200)
    found = likelihood_divergence(samples, training, held_out, generator)
    assert found.fld > 1000
    assert found.gap < -1000


def test_the_cost_is_that_of_a_mixture() -> None:
    centres, points = torch.randn(7, 3).double(), torch.randn(5, 3).double()
    variances = torch.linspace(-1, 1, 7).double()
    densities = [
        np.mean(
            [multivariate_normal(c, math.exp(v) * np.eye(3)).pdf(x) for c, v in zip(centres, variances, strict=True)]
        )
        for x in points.numpy()
    ]
    assert cost(points, centres, variances) == pytest.approx(-np.log(densities).mean() / 3)
    # One point a centre: its likeliest variance is r^2 / D, but for the weight that the broad component has.
    alone = log_variances(torch.zeros(1, 3).double(), torch.full((1, 3), 2.0).double())
    assert alone.isfinite().all()


VENDI = {
    ("right", "ring"): (1.0, 0.007),
    ("wide", "ring"): (1.097, 0.018),
    ("incomplete", "ring"): (0.899, 0.010),
    ("copier", "sphere"): (0.977, 0.004),
    ("right", "sphere"): (1.001, 0.003),
    ("wide", "sphere"): (3.003, 0.046),
    ("incomplete", "sphere"): (0.905, 0.004),
}


@pytest.mark.parametrize(("model", "data"), VENDI)
def test_the_vendi_scores_of_the_controls(model: str, data: str) -> None:
    _, held_out, samples = sets(model, data, 4)
    assert within(relative_vendi(samples, held_out), *VENDI[model, data])


def test_vendi_counts_points_that_are_unlike() -> None:
    points = 100 * torch.eye(4).repeat(3, 1)
    assert vendi(points, 1.0) == pytest.approx(4)


def test_mifid_divides_by_the_mean_over_samples() -> None:
    """Half of the samples are one copied point: the mean over training points would hardly see it."""
    generator = torch.Generator().manual_seed(0)
    training, samples = (torch.randn(200, 6, generator=generator) for _ in range(2))
    before = cosine_distance(samples, training)
    samples[:100] = 3 * training[0]  # a direction is what counts
    nearest = cosine_distance(samples, training)
    assert nearest == pytest.approx(before / 2, rel=0.15)
    over_training = cosine_distance(training, samples)
    assert over_training > 1.3 * nearest
    assert memorisation_informed(2.0, samples, training) == pytest.approx(2.0 if nearest >= 0.1 else 2.0 / nearest)
    samples = training * 1.5 + 0.01 * torch.randn(200, 6, generator=generator)
    small = cosine_distance(samples, training)
    assert small < 0.1
    assert memorisation_informed(2.0, samples, training) == pytest.approx(2.0 / small)
    assert memorisation_informed(2.0, training, training) > 1e6


@pytest.mark.needs("torchmetrics")
def test_torchmetrics_has_the_kernel_distance_and_another_mean() -> None:
    """Its unbiased kernel distance is ours; its MiFID takes the mean over training points."""
    from torchmetrics.image.kid import poly_mmd
    from torchmetrics.image.mifid import _compute_cosine_distance

    generator = torch.Generator().manual_seed(0)
    training, samples = (torch.randn(200, 6, generator=generator).double() for _ in range(2))
    ours = kernel_distance_test(samples, training, 99, generator).value
    assert ours == pytest.approx(float(poly_mmd(training, samples)), rel=1e-6)
    samples[:100] = training[0]
    theirs = float(_compute_cosine_distance(training, samples, cosine_distance_eps=2.0))
    assert theirs == pytest.approx(cosine_distance(training, samples), rel=1e-6)
    assert theirs > 1.3 * cosine_distance(samples, training)


class Mixture(ScoreModel):
    """Isotropic Gaussians of weights, centres (k, D) and deviations (k,)."""

    def __init__(self, weights: Tensor, centres: Tensor, deviations: Tensor, process: object = None) -> None:
        super().__init__(process or VE(), (centres.shape[1],))
        self.log_weights, self.centres, self.deviations = weights.double().log(), centres.double(), deviations.double()

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        signal, noise = self.process.coefficients(x[:1], t[:1])
        return torch.func.grad(lambda y: log_density(self, y, noise, signal).sum())(x)


def log_density(model: Mixture, x: Tensor, noise: Tensor | float, signal: Tensor | float = 1.0) -> Tensor:
    """ln p (B,) of a mixture times a signal with noise."""
    variance = signal**2 * model.deviations**2 + noise**2
    squared = (x[:, None] - signal * model.centres).square().sum(2)
    densities = -0.5 * (squared / variance + x.shape[1] * (2 * math.pi * variance).log())
    return (densities + model.log_weights).logsumexp(1)


def kamkari() -> Mixture:
    """All but a millionth is N(0, I) in 10 dimensions; a millionth is a narrow Gaussian at distance 5."""
    centres = torch.zeros(2, 10)
    centres[1, 0] = 5
    return Mixture(torch.tensor([1 - 1e-6, 1e-6]), centres, torch.tensor([1.0, 1e-2]))


def test_a_narrow_peak_is_likely_and_flat() -> None:
    """The middle of the peak is likelier than any usual point by 37 nats, and has no dimension."""
    model = kamkari()
    points = torch.zeros(2, 10, dtype=torch.float64)
    points[0, 0], points[1, 1] = 5, math.sqrt(10)
    assert log_density(model, points, 0.0).tolist() == pytest.approx([23.0468, -14.1894], abs=1e-4)
    found = local_dimensions(model, Dataset(points), time_at(model, 0.1, points), 10, 0)
    assert found.tolist() == pytest.approx([0.09901, 9.99902], abs=2e-5)


@pytest.mark.parametrize("process", [VE(), VP()], ids=["ve", "vp"])
def test_the_local_dimension_is_the_derivative_by_the_noise(process: object) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Mixture(torch.ones(3) / 3, torch.randn(3, 4, generator=generator), torch.tensor([0.3, 0.5, 0.1]), process)
    points = torch.randn(6, 4, generator=generator).double()
    found = local_dimensions(model, Dataset(points), time_at(model, 0.2, points), 4, 0)

    def density(noise: float) -> np.ndarray:
        return log_density(model, points, noise).numpy()

    step = 1e-4
    slope = (density(0.2 * math.exp(step)) - density(0.2 * math.exp(-step))) / (2 * step)
    assert found == pytest.approx(4 + slope, abs=1e-4)


def test_a_memorised_point_has_no_dimension_and_data_have_theirs() -> None:
    training, held_out = (
        ring_points(300, torch.Generator().manual_seed(0)),
        ring_points(300, torch.Generator().manual_seed(1)),
    )
    angles = 2 * math.pi * torch.arange(8) / 8
    centres = 4 * torch.stack([angles.cos(), angles.sin()], 1)
    right = Mixture(torch.ones(8) / 8, centres, torch.full((8,), 0.5))
    copier = Mixture(torch.ones(300) / 300, training, torch.full((300,), 1e-5))
    points = Dataset(training.double()), Dataset(held_out.double())
    t = time_at(right, 0.01, points[0].x)
    assert np.median(local_dimensions(right, points[1], t, 100, 0)) == pytest.approx(2, abs=0.01)
    assert np.median(local_dimensions(copier, points[0], t, 100, 0)) < 0.05
    assert np.median(local_dimensions(copier, points[1], t, 100, 0)) > 10


def test_the_attacks_find_what_a_copier_knows_and_nothing_of_a_right_model() -> None:
    """A tenth of the spread as noise: losses separate 95 % of pairs, and find 39 % at 1 % false alarms."""
    training, held_out, _ = sets("right", "ring", 5)
    points = Dataset(training.double()), Dataset(held_out.double())
    copier = Mixture(torch.ones(500) / 500, training, torch.full((500,), 1e-5))
    angles = 2 * math.pi * torch.arange(8) / 8
    right = Mixture(torch.ones(8) / 8, 4 * torch.stack([angles.cos(), angles.sin()], 1), torch.full((8,), 0.5))
    attacks = {
        "loss": lambda model, each, t: denoising_losses(model, each, t, 16, 500, 0),
        "pia": lambda model, each, t: proximal_errors(model, each, t, 500, 0),
        "secmi": lambda model, each, t: step_errors(model, each, t, 500, 0),
    }
    for name, attack in attacks.items():
        t = time_at(copier, 0.05, points[0].x)
        known = membership(*(attack(copier, each, t) for each in points))
        blank = membership(*(attack(right, each, t) for each in points))
        assert known.apart.area > 0.8, name
        assert abs(blank.apart.area - 0.5) < 0.075, name
        assert blank.found is not None
        assert blank.found < 0.05, name
        if name == "loss":
            assert within(100 * known.apart.area, 95.3, 0.7)
            assert known.found is not None
            assert within(100 * known.found, 38.9, 5.7)


def test_typical_points_of_a_normal_distribution() -> None:
    rng = np.random.default_rng(0)

    def log_density(x: np.ndarray) -> np.ndarray:
        return -0.5 * (x**2).sum(1) - 25 * math.log(2 * math.pi)

    held_out = log_density(rng.standard_normal((20_000, 50)))
    assert -held_out.mean() == pytest.approx(70.9469, abs=0.1)
    # N(0, I/4) is likelier than the data themselves: likelihood has it for like the data, typicality does not.
    narrow = log_density(rng.standard_normal((2000, 50)) / 2)
    own = held_out[:2000]
    pairs_low = (narrow[:, None] < own).mean()
    apart = np.abs(-narrow + held_out.mean())[:, None] > np.abs(-own + held_out.mean())
    assert pairs_low < 1e-4
    assert apart.mean() == pytest.approx(0.99902, abs=0.002)
    assert (low(narrow, held_out) > 0.5).all()
    assert (atypical(narrow, held_out) < 0.05).mean() > 0.95
    assert atypical_set(narrow[:10], held_out, 0) < 0.001
    # Of sets of held-out points one in five is below 0.2.
    others = [atypical_set(held_out[at : at + 10], held_out, 0) for at in range(0, 2000, 10)]
    few, many = binom.interval(1 - 1e-6, len(others), 0.2)
    assert few <= sum(value < 0.2 for value in others) <= many


def test_a_list_of_points_says_why() -> None:
    p = {"alone": np.array([0.001, 0.5, 0.9]), "rare": np.array([0.5, 0.002, 0.8])}
    found = combined_p_values(p, 0.1)
    assert found.p.tolist() == pytest.approx([0.002, 0.004, 1.0])
    assert found.unlike.tolist() == [0, 1]
    assert found.why[:2] == ["alone", "rare"]
    assert unlikely_or_flat(np.array([0.4]), np.array([0.01])).tolist() == [0.02]


class Sphere(ScoreModel):
    """The unit 10-sphere with noise, turned into R^50: I_{9/2} of its density is elementary."""

    def __init__(self) -> None:
        super().__init__(VE(), (50,))
        self.basis = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).standard_normal((50, 11)))[0])

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        noise = self.process.coefficients(x[:1], t[:1])[1].squeeze()
        radius = (x @ self.basis).norm(dim=1)
        z, series, term = radius / noise**2, torch.ones(len(x)).double(), torch.ones(len(x)).double()
        for k in range(1, 5):
            term = -term * (81 - (2 * k - 1) ** 2) / (8 * k * z)
            series = series + term
        return -x.square().sum(1) / (2 * noise**2) + z - 5 * z.log() + series.log()

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        return torch.func.grad(lambda y: self.log_density(y, t).sum())(x)


def test_a_sphere_has_its_dimension_but_for_curvature() -> None:
    model = Sphere()
    training, _, wide = (x.double() for x in sets("wide", "sphere", 0))
    t = time_at(model, 0.05, training)
    found = local_dimensions(model, Dataset(training[:50]), t, 50, 0)
    assert found == pytest.approx(np.full(50, 9.950), abs=1e-3)
    assert (local_dimensions(model, Dataset(wide[:20]), t, 20, 0) > 50).all()  # far from it

"""RePaint: its closed-form bias on a Gaussian pair, what resampling fixes, and the clamped coarse band."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import EventScale
from scorefold.diffusion import VE, VP, LinearLogSNR, PerComponent, predictor_corrector
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold_conditional.config import RePaintConfig
from scorefold_conditional.solvers.repaint import RePaint, check_known_part, resampled
from scorefold_nonuniform.bands.transforms import Wavelet
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.operators import Mask
from scorefold_toolkit.rotated import Rotated

IMAGE = (1, 4, 4)
PAIR = {"name": "mask", "region": "pixels", "fraction": 0.5, "seed": 1}
"""Hides the second of two numbers."""
BOX = {"name": "box-downsample", "factor": 2}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def repaint(prior: ScoreModel, operator: Any = PAIR, **config: Any) -> RePaint:
    return RePaint(RePaintConfig(operator=operator, **config), prior=prior)


def two_scales() -> Rotated:
    """The Haar bands of a 4 x 4 image: details reach noise at t = 1/2, the coarse band at 1."""
    index = torch.zeros(IMAGE, dtype=torch.long)
    index[:, :2, :2] = 1
    ends = torch.tensor([0.5, 1.0], dtype=torch.float64)
    return Rotated(PerComponent(IMAGE, LinearLogSNR(10.0, -10.0, ends), blocks=index), Wavelet(IMAGE, 1))


@pytest.fixture
def pair(distribution: Any, prior_of: Any) -> Any:
    """Two numbers of variance 1 with correlation 0.9 under VE from 0.01 to 50."""
    covariance = torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64)
    return prior_of(distribution(torch.zeros(2, dtype=torch.float64), covariance), VE(0.01, 50.0), (2,))


SEEN = torch.tensor([1.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize(("steps", "gain", "variance"), [(1000, 0.6255, 0.3145), (100, 0.6134, 0.3515)])
def test_plain_replacement_errs_as_computed(
    steps: int, gain: float, variance: float, pair: Any, moments_of: Any
) -> None:
    """A fresh noised value at every step is what CDiffE does: the same gain and variance, not 0.9 and 0.19."""
    mean, covariance = moments_of(repaint(pair, resamples=1), SEEN, 2 * steps + 2, steps=steps)
    assert float(mean[1]) == pytest.approx(gain, abs=5e-4)
    assert float(covariance[1, 1]) - 1e-4 == pytest.approx(variance, abs=5e-4)
    assert float(mean[0]) == 1.0
    assert float(covariance[0, 0]) == 0.0


def test_the_score_walks_a_path_of_the_known_part(pair: Any, moments_of: Any) -> None:
    """One trajectory of the known part instead of fresh values: the same gain and a larger variance."""
    model = repaint(pair)
    model.sample = partial(ScoreModel.sample, model)  # type: ignore[method-assign]
    mean, covariance = moments_of(
        model, SEEN, 1001, steps=1000, sampler=partial(predictor_corrector, corrector_steps=0)
    )
    assert float(mean[1]) == pytest.approx(0.6255, abs=1e-3)
    assert float(covariance[1, 1]) - 1e-4 == pytest.approx(0.3605, abs=2e-3)


def test_resampling_fixes_a_part(pair: Any, moments_of: Any) -> None:
    """Gain and variance at 100 steps by how often each is drawn; 0.9 and 0.19 are right."""
    found = {}
    for resamples in (1, 3, 10):
        model = repaint(pair, resamples=resamples, jump_length=1)
        draws = 2 * model.calls(100) + 100 * resamples + 2
        mean, covariance = moments_of(model, SEEN, draws, steps=100)
        found[resamples] = float(mean[1]), float(covariance[1, 1]) - 1e-4
    assert found[1] == pytest.approx((0.6134, 0.3513), abs=1e-3)
    assert 0.65 < found[3][0] < found[10][0]
    assert found[10] == pytest.approx((0.8784, 0.1999), abs=1e-3)


def test_a_jump_of_ten_steps(pair: Any, moments_of: Any) -> None:
    for move, gain in (("ancestral", 0.8713), ("sampler", 0.8417)):
        model = repaint(pair, resamples=10, jump_length=10, move=move)
        mean, _ = moments_of(model, SEEN, 2000, steps=100)
        assert float(mean[1]) == pytest.approx(gain, abs=1e-3)


def test_the_clamped_coarse_band_gives_the_posterior(gaussian: Any, prior_of: Any, moments_of: Any) -> None:
    """Super-resolution by plain replacement: nearly exact where the coarse band is nearly clean when details come in,
    and far off where one noise level serves all, for the same network calls."""
    distribution, errors = gaussian(16, mean=0.0), {}
    for name, process in (("two scales", two_scales()), ("one speed", VP())):
        prior = prior_of(distribution, process, IMAGE)
        model = repaint(prior, BOX, resamples=1)
        operator = model.observations.operator
        y = operator(normal(1, *IMAGE, seed=5))[0]
        for each in (prior, model):
            each.call_rows()  # measured by calls of its own
        prior.calls = 0
        mean, covariance = moments_of(model, y, 122, steps=60)
        assert prior.calls == 60
        wanted = distribution.given(operator, y)
        assert torch.allclose(operator(mean.reshape(1, *IMAGE))[0], y, atol=1e-4)
        errors[name] = (
            float((mean - wanted.mean).norm() / wanted.mean.norm()),
            float((covariance - wanted.covariance).norm() / wanted.covariance.norm()),
        )
    assert errors["two scales"][0] < 0.015
    assert errors["two scales"][1] < 0.09
    assert errors["one speed"][0] > 0.15
    assert errors["one speed"][1] > 0.12


@pytest.mark.parametrize(
    ("steps", "jump_length", "resamples"), [(20, 5, 3), (23, 5, 2), (7, 10, 4), (12, 1, 3), (1, 1, 5)]
)
def test_the_walk(steps: int, jump_length: int, resamples: int) -> None:
    walk = list(resampled(steps, jump_length, resamples))
    assert walk[0][0] == 0
    assert walk[-1][1] == steps
    assert all(end == start + 1 or end == start - jump_length for start, end in walk)
    assert all(first[1] == second[0] for first, second in itertools.pairwise(walk))
    times = [sum((start, end) == (k, k + 1) for start, end in walk) for k in range(steps)]
    once = (steps - 1) % jump_length + 1
    assert times == [1] * once + [resamples] * (steps - once)


@pytest.mark.parametrize("move", ["ancestral", "sampler"])
def test_calls_are_counted(move: str, pair: Any) -> None:
    model = repaint(pair, resamples=3, jump_length=4, move=move)
    pair.calls = 0
    x = model.sample(5, SEEN.expand(2, 2), steps=12, generator=torch.Generator().manual_seed(0))
    assert x.shape == (5, 2, 2)
    assert pair.calls - 1 == model.calls(12) == 12 + 2 * 8
    assert bool((x[..., 0] == 1).all())


@pytest.mark.parametrize(
    "operator", [BOX, {"name": "grey"}, {"name": "bicubic-downsample", "factor": 2}, "mask", ["mask", BOX]]
)
def test_any_orthogonal_part_is_known_where_one_speed_serves_all(operator: Any, gaussian: Any, prior_of: Any) -> None:
    shape = (3, 4, 4)
    model = repaint(prior_of(gaussian(48), VP(), shape), operator, resamples=2, jump_length=2)
    y = model.observations.operator(normal(2, *shape))
    x = model.sample(3, y, steps=6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.observations.operator(x.flatten(0, 1)), y.repeat(3, 1, 1, 1), atol=1e-4)


def test_without_an_observation_it_is_the_prior(pair: Any) -> None:
    model = repaint(pair)
    x, t = normal(3, 2), torch.full((3,), 0.5, dtype=torch.float64)
    assert torch.equal(model.score(x, t), pair.score(x, t))
    first, second = (m.sample(4, steps=5, generator=torch.Generator().manual_seed(0)) for m in (model, pair))
    assert torch.equal(first, second)


def test_a_mask_of_each_event(gaussian: Any, prior_of: Any) -> None:
    each = repaint(prior_of(gaussian(16), VE(), IMAGE), {"name": "mask", "region": "square", "each": True})
    mask = (normal(2, *IMAGE) > 0).double()
    image = normal(2, *IMAGE, seed=1) * mask
    x = each.sample(3, {"image": image, "mask": mask}, steps=12, generator=torch.Generator().manual_seed(0))
    assert float(((x - image) * mask).abs().max()) < 1e-15


def test_what_can_t_be_replaced_is_refused(pair: Any, gaussian: Any, prior_of: Any) -> None:
    bands = prior_of(gaussian(16), two_scales(), IMAGE)
    with pytest.raises(ConfigError, match="'mask' shows of an event does not diffuse by itself under this process"):
        repaint(bands, "mask")
    with pytest.raises(ConfigError, match="'bicubic-downsample' shows of an event does not diffuse by itself"):
        repaint(bands, {"name": "bicubic-downsample", "factor": 2})
    eye = torch.eye(2, dtype=torch.float64)
    drift = torch.tensor([[-1, 0.5], [0, -1]], dtype=torch.float64)
    with pytest.raises(ConfigError, match="several speeds or drive others"):
        repaint(prior_of(pair.distribution, MatrixProcess(drift, eye, start=1e-4 * eye), (2,)))
    with pytest.raises(ConfigError, match="'gaussian-blur' hides nothing of an event, so there is nothing to sample"):
        repaint(prior_of(gaussian(16), VE(0.01, 20.0), IMAGE), {"name": "gaussian-blur"})
    skew = [{"name": "bicubic-downsample", "factor": 2}, {"name": "mask", "fraction": 0.5}]
    with pytest.raises(ConfigError, match="'compose' shows of an event is no orthogonal part of it"):
        repaint(prior_of(gaussian(64), VP(), (1, 8, 8)), skew)
    with pytest.raises(ConfigError, match="prior of score:repaint, a GaussianPrior, takes a condition"):
        repaint(prior_of(pair.distribution, VE(), (2,), 3))
    ranged = prior_of(gaussian(48), VP(), (3, 4, 4))
    ranged.event_scale = EventScale(low=0.0, high=1.0)
    with pytest.raises(ConfigError, match="score:repaint needs the adjoint of a linear operator, and Edges is not"):
        repaint(ranged, "edges")


@pytest.mark.parametrize("hole", [0, 1, 2])
def test_small_holes_hide_something(hole: int) -> None:
    seen = torch.ones(1, 256, 256)
    seen[:, :hole, :hole] = 0
    operator = Mask(seen, (3, 256, 256))
    if hole:
        return check_known_part(operator, VE(0.01, 20.0), torch.zeros(1), "mask")
    with pytest.raises(ConfigError, match="'mask' hides nothing of an event"):
        check_known_part(operator, VE(0.01, 20.0), torch.zeros(1), "mask")
    return None


def test_what_does_not_fit_a_draw_is_refused(pair: Any) -> None:
    model = repaint(pair)
    with pytest.raises(ConfigError, match=r"guidance = 2\.0 was asked of score:repaint"):
        model.sample(2, SEEN[None], guidance=2.0)
    with pytest.raises(ConfigError, match="guidance = 3"):
        model.bind(SEEN[None], guidance=3)
    with pytest.raises(ConfigError, match="-1 draws"):
        model.sample(-1, SEEN[None])
    with pytest.raises(ConfigError, match="knows no sampling option consistency"):
        model.sample(1, SEEN[None], consistency=1.0)
    with pytest.raises(ConfigError, match="there is no sampler 'dim'"):
        model.sample(1, SEEN[None], sampler="dim")
    with pytest.raises(ShapeError, match=r"shape \(1, 3\); this operator \(Mask\) gives \(C, 2\)"):
        model.sample(1, torch.zeros(1, 3, dtype=torch.float64))
    assert model.sample(0, SEEN[None], steps=3).shape == (0, 1, 2)
    assert math.isclose(model.calls(100), 910)


def test_the_score_is_zero_where_the_known_part_is_expected(gaussian: Any, prior_of: Any) -> None:
    """Its part of the score pulls x towards the noised observation: in bands of their own speed, too."""
    model = repaint(prior_of(gaussian(16), two_scales(), IMAGE), BOX)
    operator = model.observations.operator
    y = operator(normal(2, *IMAGE))
    t = torch.full((2,), 0.3, dtype=torch.float64)
    there, _ = model.process.marginal(operator.pseudo_inverse(y), t)
    assert float(operator(model.score(there, t, y)).abs().max()) < 1e-9
    assert float(operator(model.score(there + 0.1, t, y)).min().abs()) > 1e-3

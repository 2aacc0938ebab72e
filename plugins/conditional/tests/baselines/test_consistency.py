"""Projections of a score's denoised estimate onto what an observation says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.diffusion import VE, VP, DiffusionProcess, GeometricVE, LinearVP, PerComponent
from scorefold.errors import ConfigError, ShapeError
from scorefold_conditional.inverse import project, solve_semidefinite
from scorefold_nonuniform.bands.transforms import Wavelet
from scorefold_toolkit.config.operators import (
    BicubicDownsampleConfig,
    BoxDownsampleConfig,
    GaussianBlurConfig,
    GreyConfig,
    MaskConfig,
)
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.operators import LinearOperator, as_linear, build_operator
from scorefold_toolkit.rotated import Rotated

SHAPE = (3, 4, 4)
OPERATORS = {
    "mask": MaskConfig(fraction=0.3),
    "box": BoxDownsampleConfig(factor=2),
    "bicubic": BicubicDownsampleConfig(factor=2),
    "grey": GreyConfig(weights="luma"),
}


def operator_called(name: str, shape: tuple[int, ...] = SHAPE) -> LinearOperator:
    configs: dict[str, Any] = {**OPERATORS, "blur": GaussianBlurConfig(sigma=0.6)}
    return as_linear(build_operator(configs[name], shape), "a test")


def process_called(name: str, shape: tuple[int, ...] = SHAPE) -> DiffusionProcess:
    """Processes of one speed, of one a component, of one a coefficient, and one whose components drive each other."""
    size = torch.Size(shape).numel()
    generator = torch.Generator().manual_seed(3)
    if name in ("ve", "vp"):
        return VE(0.01, 20.0) if name == "ve" else VP()
    if name == "matrix":
        drift = 0.2 * torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
        eye = torch.eye(size, dtype=torch.float64)
        return MatrixProcess(drift - eye, 1.4 * eye, shape, start=1e-4 * eye)
    speeds = torch.rand(shape, generator=generator, dtype=torch.float64)
    if name == "per-component":
        return PerComponent(shape, GeometricVE(0.01 + 0.01 * speeds, 10 + 20 * speeds))
    return Rotated(PerComponent(shape, LinearVP(0.1 + speeds, 10 + 10 * speeds)), Wavelet(shape, 1))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PROCESSES = ("ve", "vp", "per-component", "rotated", "matrix")


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "heun", "euler-maruyama", "predictor-corrector"])
def test_samples_agree_with_the_observation(name: str, sampler: str, gaussian: Any, prior_of: Any) -> None:
    operator, process = operator_called(name), VE(1e-7, 20.0)
    prior = prior_of(gaussian(48), process, SHAPE)
    y = operator(normal(2, *SHAPE))
    bound = project(prior.score, process, operator, y)
    prior.bind = lambda *_, **__: bound
    x = prior.sample(4, steps=60, sampler=sampler, generator=torch.Generator().manual_seed(1))
    assert float((operator(x) - y.repeat(2, 1, 1, 1)).abs().max()) < 1e-6


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("process_name", PROCESSES)
def test_the_denoised_estimate_agrees_with_the_observation_at_every_time(
    name: str, process_name: str, gaussian: Any, prior_of: Any
) -> None:
    operator, process = operator_called(name), process_called(process_name)
    prior = prior_of(gaussian(48), process, SHAPE)
    y, x = operator(normal(3, *SHAPE)), normal(3, *SHAPE, seed=1)
    for t in torch.linspace(process.t_min, process.t_max, 4, dtype=torch.float64):
        times = t.expand(3)
        once = project(prior.score, process, operator, y)
        s = once(x, times)
        estimate = process.denoised_from_score(s, x, times)
        size = float(process.denoised_from_score(prior.score(x, times), x, times).abs().max()) + 1
        assert float((operator(estimate) - y).abs().max()) < 1e-9 * size
        twice = process.denoised_from_score(project(once, process, operator, y)(x, times), x, times)
        assert float((twice - estimate).abs().max()) < 1e-9 * size, "the projection is idempotent"
        part = project(prior.score, process, operator, y, strength=0.3)(x, times)
        before = process.denoised_from_score(prior.score(x, times), x, times)
        wanted = 0.3 * estimate + 0.7 * before
        assert float((process.denoised_from_score(part, x, times) - wanted).abs().max()) < 1e-9 * size


def test_strength_0_leaves_the_score_to_the_last_digit(gaussian: Any, prior_of: Any) -> None:
    operator, process = operator_called("box"), process_called("vp")
    prior = prior_of(gaussian(48), process, SHAPE)
    y, x, t = operator(normal(2, *SHAPE)), normal(2, *SHAPE, seed=1), torch.full((2,), 0.3, dtype=torch.float64)
    for noise_std in (0.0, 0.5):
        same = project(prior.score, process, operator, y, strength=0.0, noise_std=noise_std)(x, t)
        assert torch.equal(same, prior.score(x, t))


@pytest.mark.parametrize("name", [*OPERATORS, "blur"])
@pytest.mark.parametrize("process_name", PROCESSES)
def test_noise_is_weighed_as_bayes_does_under_a_flat_prior(name: str, process_name: str, distribution: Any) -> None:
    """With a score of 0 the estimate is S^-1 x, and x_0 given x_t and y is Gaussian with a mean in closed form."""
    operator, process = operator_called(name), process_called(process_name)
    y, x = operator(normal(1, *SHAPE)), normal(1, *SHAPE, seed=1)
    for share in (0.2, 0.6):
        t = torch.full((1,), process.t_min + share * (process.t_max - process.t_min), dtype=torch.float64)
        flat = project(lambda x, t: torch.zeros_like(x), process, operator, y, noise_std=0.3)
        found = process.denoised_from_score(flat(x, t), x, t)
        units = torch.eye(48, dtype=torch.float64).reshape(48, *SHAPE)
        times = t.expand(48)
        zero = torch.zeros_like(units)
        signal = process.perturb(units, times, zero).flatten(1).mT
        scale = process.perturb(zero, times, units).flatten(1).mT
        back = torch.linalg.inv(signal)
        around = distribution(back @ x.flatten(), back @ scale @ scale.mT @ back.mT)
        wanted = around.given(operator, y, 0.3).mean
        assert torch.allclose(found.flatten(), wanted, rtol=1e-7, atol=1e-7)


def test_noise_that_vanishes_is_the_projection(gaussian: Any, prior_of: Any) -> None:
    operator, process = operator_called("bicubic"), process_called("ve")
    prior = prior_of(gaussian(48), process, SHAPE)
    y, x, t = operator(normal(2, *SHAPE)), normal(2, *SHAPE, seed=1), torch.full((2,), 0.7, dtype=torch.float64)
    without = project(prior.score, process, operator, y)(x, t)
    nearly = project(prior.score, process, operator, y, noise_std=1e-6)(x, t)
    assert torch.allclose(without, nearly, rtol=1e-8, atol=1e-8)
    much = project(prior.score, process, operator, y, noise_std=1e6)(x, t)
    assert torch.allclose(much, prior.score(x, t), rtol=1e-8, atol=1e-8)


def test_observations_serve_events_in_turn(gaussian: Any, prior_of: Any) -> None:
    operator, process = operator_called("mask"), process_called("ve")
    prior = prior_of(gaussian(48), process, SHAPE)
    y, x, t = operator(normal(2, *SHAPE)), normal(4, *SHAPE, seed=1), torch.full((4,), 0.7, dtype=torch.float64)
    together = project(prior.score, process, operator, y)(x, t)
    for row in range(4):
        alone = project(prior.score, process, operator, y[row % 2, None])(x[row, None], t[:1])
        assert torch.allclose(together[row], alone[0])


def test_what_does_not_fit_is_refused() -> None:
    operator, process = operator_called("box"), process_called("ve")
    y = operator(normal(2, *SHAPE))
    with pytest.raises(ConfigError, match=r"strength = 1\.5"):
        project(lambda x, t: x, process, operator, y, strength=1.5)
    with pytest.raises(ConfigError, match=r"noise_std = -0\.1"):
        project(lambda x, t: x, process, operator, y, noise_std=-0.1)
    with pytest.raises(ShapeError, match=r"\(2, 3, 4, 4\); this operator \(Separable\) gives \(C, 3, 2, 2\)") as failed:
        project(lambda x, t: x, process, operator, normal(2, *SHAPE))
    assert str(failed.value.hint).startswith("pass operator(x)")
    with pytest.raises(ShapeError, match=r"has shape \(2, 3, 3\); .*\s+give a tensor \(C, 3, 2, 2\), or an operator"):
        project(lambda x, t: x, process, operator, normal(2, 3, 3))
    with pytest.raises(ShapeError, match=r"type dict; .*\s.*which data:paired gives with mask: false"):
        project(lambda x, t: x, process, operator, {"image": y, "mask": y})  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="3 events were given with 2 conditions"):
        project(lambda x, t: x, process, operator, y)(normal(3, *SHAPE), torch.ones(3, dtype=torch.float64))


def test_semidefinite_systems_are_solved_and_solved_rows_rest() -> None:
    factor = normal(6, 6)
    matrix, b = factor @ factor.mT, normal(3, 6, seed=1)
    b[1] = 0
    found = solve_semidefinite(lambda v: v @ matrix, b, 30)
    assert torch.allclose(found @ matrix, b, atol=1e-8)
    assert torch.equal(found[1], torch.zeros(6, dtype=torch.float64))
    half = torch.tensor([1.0, 1, 1, 0, 0, 0], dtype=torch.float64)
    assert torch.allclose(solve_semidefinite(lambda v: 2 * half * v, half * b, 30), half * b / 2), "singular"


def test_conjugate_gradients_end_where_every_row_is_solved() -> None:
    """Two distinct eigenvalues take two steps; a further row of one eigenvalue does not lengthen them. Inside a
    transform, where nothing may depend on values, all steps are taken and the answer is the same."""
    eigenvalues = torch.tensor([1.0, 1.0, 3.0, 3.0], dtype=torch.float64)
    b = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, 0.0, 2.0, 1.0]], dtype=torch.float64)
    calls = []

    def matrix(v: Tensor) -> Tensor:
        calls.append(1)
        return eigenvalues * v

    assert torch.allclose(solve_semidefinite(matrix, b, 50), b / eigenvalues, rtol=1e-14)
    assert 2 <= len(calls) <= 3
    calls.clear()
    inside = torch.func.vmap(lambda row: solve_semidefinite(matrix, row[None], 50)[0])(b)
    assert len(calls) == 4
    assert torch.allclose(inside, b / eigenvalues, rtol=1e-14)

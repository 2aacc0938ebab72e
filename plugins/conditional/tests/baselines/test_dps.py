"""Guidance by the misfit of the denoised estimate: distributions where the posterior is known, and what it errs by
elsewhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import DataSpec, EventScale
from scorefold.diffusion import VE, VP, GeometricVE, LinearVP, PerComponent, probability_flow_log_prob
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold_conditional.config import DiffPIRConfig, DPSConfig
from scorefold_conditional.inverse import largest_singular
from scorefold_conditional.solvers.dps import DPS
from scorefold_nonuniform.bands.transforms import Wavelet
from scorefold_registry import Host
from scorefold_standard.config import DenoisingConfig, MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.scores import Denoising
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.operators import as_linear, build_operator
from scorefold_toolkit.rotated import Rotated

SHAPE = (3, 2, 2)
OPERATORS: dict[str, Any] = {
    "mask": {"name": "mask", "region": "pixels", "fraction": 0.5},
    "box": {"name": "box-downsample", "factor": 2},
    "grey": {"name": "grey", "weights": "luma"},
    "blur": {"name": "gaussian-blur", "sigma": 0.4},
}
PAIR = {"name": "mask", "region": "pixels", "fraction": 0.5, "seed": 1}
"""Hides the second of two numbers."""


def process_called(name: str) -> Any:
    speeds = torch.linspace(0, 1, 12, dtype=torch.float64).reshape(SHAPE)
    if name == "matrix":
        eye = torch.eye(12, dtype=torch.float64)
        drift = 0.1 * torch.randn(12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - eye
        return MatrixProcess(drift, 1.4 * eye, SHAPE, start=1e-4 * eye)
    return {
        "ve": lambda: VE(0.01, 20.0),
        "vp": VP,
        "per-component": lambda: PerComponent(SHAPE, GeometricVE(0.01 + 0.01 * speeds, 10 + 20 * speeds)),
        "rotated": lambda: Rotated(PerComponent(SHAPE, LinearVP(0.1 + speeds, 10 + 10 * speeds)), Wavelet(SHAPE, 1)),
    }[name]()


def dps(prior: ScoreModel, operator: Any = "mask", **config: Any) -> DPS:
    named = OPERATORS.get(operator, operator) if isinstance(operator, str) else operator
    return DPS(DPSConfig.model_validate({"variant": "pigdm", "operator": named, **config}), prior=prior)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("process_name", ["ve", "vp", "per-component", "rotated", "matrix"])
@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_pigdm_with_the_denoisers_jacobian_is_exact_for_gaussian_data(
    operator: str, process_name: str, noise_std: float, gaussian: Any, prior_of: Any
) -> None:
    distribution, process = gaussian(12), process_called(process_name)
    model = dps(
        prior_of(distribution, process, SHAPE), operator, covariance="tweedie", solver_steps=40, noise_std=noise_std
    )
    a = as_linear(build_operator(DPSConfig(operator=OPERATORS[operator]).operator, SHAPE), "a test")
    y = a(normal(1, *SHAPE)) + noise_std * normal(1, *a.out_shape, seed=1)
    posterior = distribution.given(a, y, noise_std)
    x = normal(3, *SHAPE, seed=2)
    for share in (0.1, 0.5, 0.9):
        t = torch.full((3,), process.t_min + share * (process.t_max - process.t_min), dtype=torch.float64)
        found = model.score(x, t, y.expand(3, *a.out_shape))
        wanted = posterior.score(process, x, t)
        # The blur hardly passes some directions, which the solver then leaves out where there is no noise.
        tolerance = 1e-3 if (operator, noise_std) == ("blur", 0.0) else 1e-6
        assert float((found - wanted).abs().max() / wanted.abs().max()) < tolerance


@pytest.mark.parametrize("process_name", ["ve", "vp", "per-component", "rotated"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_pigdm_with_one_variance_is_exact_for_data_of_one_variance(
    operator: str, process_name: str, distribution: Any, prior_of: Any
) -> None:
    data, process = distribution(normal(12), 0.49 * torch.eye(12, dtype=torch.float64)), process_called(process_name)
    model = dps(prior_of(data, process, SHAPE), operator, noise_std=0.2)
    a = model.observations.operator
    y = a(normal(1, *SHAPE, seed=1))
    x, t = normal(4, *SHAPE, seed=2), torch.tensor([0.01, 0.3, 0.6, 0.9], dtype=torch.float64)
    wanted = data.given(a, y, 0.2).score(process, x, t)
    assert torch.allclose(model.score(x, t, y.expand(4, *a.out_shape)), wanted, rtol=1e-7, atol=1e-7)


def test_without_noise_and_with_much_guidance_goes_from_exact_to_none(gaussian: Any, prior_of: Any) -> None:
    distribution, process = gaussian(12), VE(0.01, 20.0)
    prior = prior_of(distribution, process, SHAPE)
    x, t, y = normal(2, *SHAPE), torch.full((2,), 0.5, dtype=torch.float64), normal(2, 3, 1, 1, seed=1)
    deaf = dps(prior, "box", covariance="tweedie", noise_std=1e6)
    assert torch.allclose(deaf.score(x, t, y), prior.score(x, t), rtol=1e-9)
    assert torch.equal(deaf.score(x, t), prior.score(x, t)), "without an observation it is the prior"
    keen = dps(prior, "box", covariance="tweedie")
    mixed = keen.bind(y, guidance=3.0)(x, t)
    assert torch.allclose(mixed, 3 * keen.score(x, t, y) - 2 * prior.score(x, t))


@pytest.mark.parametrize("process_name", ["ve", "vp", "rotated", "matrix"])
def test_dps_moves_the_estimate_against_the_gradient_of_the_misfit(
    process_name: str, gaussian: Any, prior_of: Any
) -> None:
    process = process_called(process_name)
    prior = prior_of(gaussian(12), process, SHAPE)
    model = dps(prior, "box", variant="dps", step=0.4)
    a = model.observations.operator
    x, t = normal(2, *SHAPE), torch.full((2,), 0.4, dtype=torch.float64)
    y = a(normal(2, *SHAPE, seed=1))
    point = x.clone().requires_grad_()
    misfit = (y - a(prior.denoise(point, t))).flatten(1).norm(dim=1).sum()
    (gradient,) = torch.autograd.grad(misfit, point)
    units = torch.eye(12, dtype=torch.float64).reshape(12, *SHAPE)
    signal = process.perturb(units, t[:1].expand(12), torch.zeros_like(units)).flatten(1).mT
    # 3 numbers are observed, and block means of four pixels have the largest singular value 1/2.
    length = 0.4 * math.sqrt(3) * prior.event_scale.std / 0.25
    wanted = prior.denoise(x, t) - length * (gradient.flatten(1) @ signal).reshape(x.shape)
    assert torch.allclose(model.denoise(x, t, y), wanted, rtol=1e-8, atol=1e-8)


def test_the_step_is_the_same_for_processes_that_differ_by_a_scaling(gaussian: Any, prior_of: Any) -> None:
    distribution, ve, vp = gaussian(12), VE(0.01, 20.0), VP()
    t = torch.tensor([0.2, 0.6], dtype=torch.float64)
    level, signal = vp.noise_to_signal(t), vp.coefficients(torch.ones(2, 1), t)[0].reshape(2, 1, 1, 1)
    x, y = normal(2, *SHAPE), normal(2, 3, 1, 1, seed=1)
    exploding, preserving = (dps(prior_of(distribution, process, SHAPE), "box", variant="dps") for process in (ve, vp))
    first = exploding.denoise(x, ve.time_at(level), y)
    assert torch.allclose(first, preserving.denoise(signal * x, t, y), rtol=1e-7)


RHO = 0.9


@pytest.mark.parametrize(
    ("config", "gain", "variance"),
    [
        ({"covariance": "tweedie", "solver_steps": 2}, (0.899, 0.901), (0.189, 0.191)),
        # One variance for both numbers: the hidden one is pulled by the gradient alone, and too little.
        ({}, (0.853, 0.855), (0.213, 0.215)),
    ],
)
def test_what_pigdm_draws(
    config: Any, gain: Any, variance: Any, distribution: Any, prior_of: Any, moments_of: Any
) -> None:
    """Of a pair with correlation 0.9, given the first number: a gain of 0.9 and a variance of 0.19 are right."""
    pair = distribution(torch.zeros(2, dtype=torch.float64), torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64))
    model = dps(prior_of(pair, VE(0.01, 50.0), (2,)), PAIR, **config)
    known = int(model.observations.operator.mask.argmax())
    y = torch.zeros(2, dtype=torch.float64)
    y[known] = 1
    mean, covariance = moments_of(model, y, 1001, steps=1000, sampler="euler-maruyama")
    assert gain[0] < float(mean[1 - known]) < gain[1]
    assert variance[0] < float(covariance[1 - known, 1 - known]) - 1e-4 < variance[1]
    assert abs(float(mean[known]) - 1) < 1e-3
    assert float(covariance[known, known]) < 3e-4


def test_what_dps_draws_is_not_the_posterior(distribution: Any, prior_of: Any) -> None:
    """The same pair with the published guidance: its answers hang on the step, and none of them is right."""
    pair = distribution(torch.zeros(2, dtype=torch.float64), torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64))
    prior = prior_of(pair, VE(0.01, 50.0), (2,))
    found = {}
    for step in (0.25, 1.0, 4.0):
        model = dps(prior, PAIR, variant="dps", step=step)
        known = int(model.observations.operator.mask.argmax())
        y = torch.zeros(1, 2, dtype=torch.float64)
        y[:, known] = 1
        x = model.sample(4000, y, steps=300, sampler="euler-maruyama", generator=torch.Generator().manual_seed(0))[:, 0]
        found[step] = (
            float(x[:, 1 - known].mean()),
            float(x[:, 1 - known].var()),
            float((x[:, known] - 1).abs().mean()),
        )
    gains, variances, misfits = zip(*found.values(), strict=True)
    assert gains[0] < gains[1] < gains[2] + 0.02
    assert variances[0] > variances[1] > variances[2]
    assert misfits[2] > misfits[1], "a long step chatters about what is observed"
    assert all(abs(v - 0.19) > 0.015 for v in variances)


def test_the_likelihood_is_that_of_the_posterior(distribution: Any, prior_of: Any) -> None:
    """The probability flow differentiates through the guidance forward, over its own backward pass."""
    pair = distribution(torch.zeros(2, dtype=torch.float64), torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64))
    process = VE(0.05, 200.0)
    model = dps(prior_of(pair, process, (2,)), PAIR, covariance="tweedie", solver_steps=2, noise_std=0.5)
    y = torch.tensor([[0.7, 0.7]], dtype=torch.float64) * model.observations.operator.mask
    posterior = pair.given(model.observations.operator, y, 0.5)
    x, options = normal(3, 2), {"rtol": 1e-6, "atol": 1e-6}
    wanted = probability_flow_log_prob(lambda x, t: posterior.score(process, x, t), process, x, **options)
    assert torch.allclose(model.log_prob(x, y.expand(3, 2), **options), wanted, atol=1e-4)


@pytest.mark.parametrize("variant", ["dps", "pigdm"])
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m", "heun", "euler-maruyama", "predictor-corrector"])
def test_every_sampler_draws_towards_the_observation(sampler: str, variant: str, gaussian: Any, prior_of: Any) -> None:
    """Steps are uniform in the log-SNR: where an observation without noise leaves nothing open, the last steps of a
    grid uniform in the time of VP are too long for methods that are not exponential."""
    prior = prior_of(gaussian(12, mean=0.0), VP(), SHAPE)
    model = dps(prior, "mask", variant=variant)
    operator = model.observations.operator
    y = operator(normal(2, *SHAPE, seed=4))
    options: dict[str, Any] = {"steps": 60, "sampler": sampler, "spacing": "log-snr"}
    x = model.sample(8, y, generator=torch.Generator().manual_seed(0), **options)
    free = model.sample(16, generator=torch.Generator().manual_seed(0), **options)
    assert x.shape == (8, 2, *SHAPE)
    misfit, before = (float((operator(v) - y.repeat(8, 1, 1, 1)).square().mean()) for v in (x.flatten(0, 1), free))
    assert misfit < (0.01 if variant == "pigdm" else 0.2) * before


def test_a_mask_of_each_event_comes_with_the_condition(gaussian: Any, prior_of: Any) -> None:
    distribution, process = gaussian(12), VE(0.01, 20.0)
    prior = prior_of(distribution, process, SHAPE)
    pixels = {"name": "mask", "region": "pixels", "fraction": 0.5, "each": True}
    each = dps(prior, pixels, covariance="tweedie", solver_steps=9)
    mask = torch.tensor([[[[1.0, 0], [1, 0]]], [[[0, 1], [1, 1]]]], dtype=torch.float64)
    image = normal(2, *SHAPE) * mask
    x, t = normal(4, *SHAPE, seed=1), torch.full((4,), 0.5, dtype=torch.float64)
    found = each.score(x, t, {"image": image.repeat(2, 1, 1, 1), "mask": mask.repeat(2, 1, 1, 1)})
    assert each.sample(2, {"image": image, "mask": mask}, steps=3).shape == (2, 2, *SHAPE)
    for row in range(4):
        operator = as_linear(build_operator(DPSConfig(operator="mask").operator, SHAPE), "a test")
        operator.mask = mask[row % 2].expand(SHAPE)  # type: ignore[attr-defined]
        wanted = distribution.given(operator, image[row % 2]).score(process, x[row, None], t[:1])
        assert torch.allclose(found[row], wanted[0], rtol=1e-4)
    with pytest.raises(ShapeError, match="a tensor was observed; a mask of each event needs image and mask"):
        each.score(x[:2], t[:2], image)
    with pytest.raises(ShapeError, match=r"masks have shape \(2, 3, 2, 2\); expected \(C, 1, 2, 2\)"):
        each.score(x[:2], t[:2], {"image": image, "mask": mask.expand(2, *SHAPE)})


def network_prior(**data: Any) -> Denoising:
    torch.manual_seed(0)
    config = DenoisingConfig(network=MLP(MLPConfig(width=16, blocks=1)))  # type: ignore[arg-type]
    return Denoising(config, data=DataSpec((1, 4, 4), **data))


def test_it_differentiates_through_a_network_in_single_precision() -> None:
    prior = network_prior().eval()
    for config in ({"variant": "dps"}, {}, {"covariance": "tweedie"}):
        model = dps(prior, "box", **config)
        x = model.sample(2, torch.zeros(3, 1, 2, 2), steps=5, generator=torch.Generator().manual_seed(0))
        assert x.dtype == torch.float32
        assert bool(x.isfinite().all())
        assert all(parameter.grad is None for parameter in prior.parameters())


def test_an_auto_encoder_without_a_code_is_the_prior_that_it_was_made_from(host: Host) -> None:
    digits = host.create("data:digits", {"limit": 50})
    prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=digits)
    encoder = {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}
    code = host.create("score:scorevae", {"latent": 2, "encoder": encoder}, prior=prior, data=digits).eval()
    x, t, y = torch.rand(3, 1, 8, 8), torch.tensor([0.1, 0.5, 0.9]), torch.rand(3, 1, 4, 4)
    operator = {"operator": {"name": "box-downsample", "factor": 2}}
    scores = [host.create("score:dps", operator, prior=each).score(x, t, y) for each in (prior, code)]
    assert torch.equal(*scores)
    assert not torch.allclose(scores[0], prior.score(x, t))


def test_what_does_not_fit_is_refused(gaussian: Any, prior_of: Any) -> None:
    with pytest.raises(ConfigError, match="prior, a Denoising, was never trained, and score:dps would take it as it"):
        dps(network_prior())
    with pytest.raises(ConfigError, match="prior of score:dps, a GaussianPrior, takes a condition") as refused:
        dps(prior_of(gaussian(12), VP(), SHAPE, 3))
    assert "unconditional: true" in str(refused.value.hint)
    with pytest.raises(ConfigError, match="prior of score:diffpir, a GaussianPrior, takes a condition"):
        DPS(
            DiffPIRConfig.model_validate({"operator": {"name": "box-downsample", "factor": 2}}),
            prior=prior_of(gaussian(12), VP(), SHAPE, 3),
        )
    prior = prior_of(gaussian(12), VP(), SHAPE)
    for option in ({"noise_std": 0.1}, {"covariance": "tweedie"}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} weighs the misfit, and the guidance of dps is a"):
            dps(prior, variant="dps", **option)
    with pytest.raises(ConfigError, match="multiples of 3"):
        dps(prior, {"name": "box-downsample", "factor": 3})
    prior.event_scale = EventScale(low=0.0, high=1.0)
    with pytest.raises(ConfigError, match="score:dps needs the adjoint of a linear operator, and Edges is not"):
        dps(prior, "edges")
    each = {"name": "mask", "region": "pixels", "each": True}
    with pytest.raises(ConfigError, match="a mask of each event as one step of several"):
        dps(prior, [each, "grey"])
    with pytest.raises(ConfigError, match="isotropic is a variance a component, and MatrixProcess couples them"):
        dps(prior_of(gaussian(12), process_called("matrix"), SHAPE))
    with pytest.raises(ShapeError, match=r"shape \(2, 3, 2, 2\); this operator \(Separable\) gives \(C, 3, 1, 1\)"):
        dps(prior, "box").score(normal(2, *SHAPE), torch.ones(2, dtype=torch.float64), normal(2, *SHAPE))


def test_the_largest_singular_value() -> None:
    for name, size in (("mask", 1.0), ("box", 0.5)):
        operator = as_linear(build_operator(DPSConfig(operator=OPERATORS[name]).operator, SHAPE), "a test")
        assert largest_singular(operator) == pytest.approx(size)

"""The contract of score models: what the base gives, on a model whose distribution is known."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from scorefold.data import Condition, TensorSpec, repeat_condition
from scorefold.diffusion import VE, VP, DiffusionProcess, ddim
from scorefold.errors import ConfigError, PluginError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold_toolkit.matrix_process import MatrixProcess

F64 = torch.float64


class Normal(ScoreModel):
    """x ~ N(shift + condition, variance) with independent components."""

    def __init__(self, process: DiffusionProcess, shape=(2,), conditional: bool = False, dtype=F64) -> None:
        super().__init__(process, shape, TensorSpec(shape) if conditional else None)
        self.shift = torch.nn.Parameter(torch.full(shape, 0.5, dtype=dtype))
        self.variance = 0.25
        self.batches: list[int] = []

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        self.batches.append(len(x))
        mean = self.shift if condition is None else self.shift + condition
        signal, scale = self.process.coefficients(x, t)
        return -(x - signal * mean) / (signal**2 * self.variance + scale**2)


def test_noise_and_denoise_follow_from_the_score() -> None:
    """eps-hat = -scale score; Tweedie's denoiser is the posterior mean of the Gaussian."""
    for process in (VE(), VP()):
        model = Normal(process)
        x, t = torch.randn(5, 2, dtype=F64), torch.linspace(0.1, 0.9, 5, dtype=F64)
        signal, scale = process.coefficients(x, t)
        torch.testing.assert_close(model.noise(x, t), -scale * model.score(x, t))
        weight = signal * 0.25 / (signal**2 * 0.25 + scale**2)
        torch.testing.assert_close(model.denoise(x, t), 0.5 + weight * (x - signal * 0.5))


@pytest.mark.parametrize("shape", [(), (1, 2), (5,), (5, 1, 2)])
def test_a_score_of_another_shape_is_refused_and_not_broadcast(shape: tuple[int, ...]) -> None:
    class Wrong(Normal):
        def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
            return torch.zeros(shape, dtype=F64)

    model, x, t = Wrong(VE()), torch.ones(5, 2, dtype=F64), torch.ones(5, dtype=F64)
    said = rf"score of .*Wrong returned the shape {re.escape(str(shape))} for 5 events; expected \(5, 2\)"
    for call in (model.score, model.noise, model.denoise, model.bind()):
        with pytest.raises(PluginError, match=said):
            call(x, t)


def test_a_batch_of_one_broadcasts() -> None:
    model = Normal(VP(), conditional=True)
    x, t = torch.randn(5, 2, dtype=F64), torch.linspace(0.1, 0.9, 5, dtype=F64)
    c = torch.randn(5, 2, dtype=F64)
    for method in (model.score, model.noise, model.denoise):
        torch.testing.assert_close(method(x, t[:1], c[:1]), method(x, t[:1].repeat(5), c[:1].repeat(5, 1)))
        torch.testing.assert_close(method(x[:1], t, c[:1]), method(x[:1].repeat(5, 1), t, c[:1].repeat(5, 1)))
        torch.testing.assert_close(method(x[:1], t[:1], c), method(x[:1].repeat(5, 1), t[:1].repeat(5), c))
        assert method(x[:0], t[:1], c[:1]).shape == (0, 2)
        assert method(x[:0], t[:0], c[:0]).shape == (0, 2)


def test_what_does_not_fit_is_refused() -> None:
    model, conditional = Normal(VP()), Normal(VP(), conditional=True)
    x, t = torch.randn(5, 2, dtype=F64), torch.linspace(0.1, 0.9, 5, dtype=F64)
    for call, match in (
        (lambda: model.score(x[:, :1], t), r"takes \(B, 2\)"),
        (lambda: model.score(x, t[:3]), "one batch size"),
        (lambda: model.score(x, t[:, None]), "one batch size"),
        (lambda: model.score(x.float(), t.float()), "model is torch.float64"),
        (lambda: model.score(x, t.float()), "t is torch.float32"),
        (lambda: model.score(x.to("meta"), t), "on meta"),
        (lambda: model.score(x, t, x), "takes none"),
        (lambda: conditional.score(x, t, x[:2]), "2 rows"),
        (lambda: model.log_prob(x.float()), "model is torch.float64"),
        (lambda: conditional.log_prob(x, x[:2]), "5 events were given with 2 conditions"),
    ):
        with pytest.raises(ShapeError, match=match):
            call()
    with pytest.raises(ConfigError, match="no sampling option pathwise"):
        model.sample(1, pathwise=True)
    with pytest.raises(ConfigError, match="0 or more"):
        model.sample(-1)
    with pytest.raises(ConfigError, match="did you mean heun"):
        model.sample(1, sampler="huen")


@pytest.mark.parametrize("sampler", ["euler-maruyama", "predictor-corrector", "heun", "ddim", "dpmpp-2m", ddim])
def test_samples_have_the_distribution_of_the_model(sampler, generator) -> None:
    """4,000 draws of N(.5, .25) from VP noise: within 5 standard errors and the error of 100 steps."""
    model = Normal(VP())
    x = model.sample(4000, steps=100, sampler=sampler, spacing="log-snr", generator=generator)
    assert x.shape == (4000, 2)
    assert x.dtype == F64
    assert float((x.mean(0) - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(4000) + 0.01
    assert float((x.std(0) - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(2 * 4000) + 0.02


def test_sampling_leaves_the_global_generator_and_the_graph_alone(generator) -> None:
    model = Normal(VE())
    state = torch.random.get_rng_state()
    one = model.sample(3, steps=4, sampler="euler-maruyama", generator=generator.manual_seed(1))
    two = model.sample(3, steps=4, sampler="euler-maruyama", generator=generator.manual_seed(1))
    assert torch.equal(one, two)
    assert not one.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)


def test_conditional_samples(generator) -> None:
    """n draws for each of C conditions, (n, C, *E), each around its own mean."""
    model = Normal(VP(), conditional=True)
    condition = torch.tensor([[-3.0, 0.0], [0.0, 3.0], [3.0, 6.0]], dtype=F64)
    x = model.sample(500, condition, steps=30, generator=generator)
    assert x.shape == (500, 3, 2)
    torch.testing.assert_close(x.mean(0), condition + 0.5, atol=0.15, rtol=0)
    assert model.sample(0, condition, steps=3).shape == (0, 3, 2)
    assert model.sample(2, condition[:0], steps=3).shape == (2, 0, 2)
    assert model.sample(0, steps=3).shape == (0, 2)


def test_conditions_repeat_in_turn() -> None:
    named = {"class": torch.tensor([1, 2]), "image": torch.randn(2, 3)}
    repeated = repeat_condition(named, 6)
    assert repeated["class"].tolist() == [1, 2, 1, 2, 1, 2]
    assert torch.equal(repeated["image"][4:], named["image"])
    assert repeat_condition(None, 3) is None
    with pytest.raises(ShapeError, match="3 events were given with 2"):
        repeat_condition(named, 3)
    for broken in ({}, {"a": torch.zeros(2), "b": torch.zeros(3)}, torch.zeros(())):
        with pytest.raises(ShapeError, match="one number of rows"):
            repeat_condition(broken, 2)
    with pytest.raises(ShapeError, match="a condition of list was given; expected torch tensors"):
        Normal(VP(), conditional=True).sample(2, [[1.0, 2.0]])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"1.5 draws were asked for; expected a whole number"):
        Normal(VP(), conditional=True).sample(1.5)  # type: ignore[arg-type]


def test_guidance_mixes_the_scores() -> None:
    model = Normal(VP(), conditional=True)
    x, t, c = torch.randn(4, 2, dtype=F64), torch.full((4,), 0.4, dtype=F64), torch.randn(4, 2, dtype=F64)
    guided = model.bind(c, guidance=2.5)(x, t)
    torch.testing.assert_close(guided, 2.5 * model.score(x, t, c) - 1.5 * model.score(x, t))
    torch.testing.assert_close(model.bind(c)(x, t), model.score(x, t, c))
    torch.testing.assert_close(model.bind(guidance=3.0)(x, t), model.score(x, t))


def flow_log_prob(model: Normal, x: Tensor, mean: Tensor) -> Tensor:
    """The prior's log-density at x_T = alpha_T m + r (x - alpha_0 m), plus D log r: the exact flow's answer."""
    ends = torch.tensor([model.process.t_min, model.process.t_max], dtype=F64)
    signal, scale = (part[:, 0] for part in model.process.coefficients(torch.ones(2, 1, dtype=F64), ends))
    spread = (signal**2 * model.variance + scale**2).sqrt()
    ratio = spread[1] / spread[0]
    return model.process.prior_log_prob(signal[1] * mean + ratio * (x - signal[0] * mean)) + 2 * ratio.log()


def test_log_prob_of_the_model(generator) -> None:
    x = torch.randn(6, 2, dtype=F64, generator=generator)
    condition = torch.randn(6, 2, dtype=F64, generator=generator)
    model = Normal(VP(), conditional=True)
    expected = flow_log_prob(model, x, condition + 0.5)
    torch.testing.assert_close(model.log_prob(x, condition), expected, atol=2e-3, rtol=0)
    distribution = torch.distributions.Normal(condition + 0.5, 0.5)
    torch.testing.assert_close(expected, distribution.log_prob(x).sum(1), atol=0.1, rtol=0)
    probed = model.log_prob(x, condition, trace="hutchinson", generator=generator)
    torch.testing.assert_close(probed, expected, atol=2e-3, rtol=0)  # the score's Jacobian is diagonal
    one = model.log_prob(x, condition[:1])
    torch.testing.assert_close(one, flow_log_prob(model, x, condition[:1] + 0.5), atol=2e-3, rtol=0)
    assert model.log_prob(x[:0], condition[:0]).shape == (0,)


def test_bind_gets_the_generator_of_samples_and_likelihoods(generator) -> None:
    """A model that noises its condition draws from it, and from nothing global."""
    seen = []

    class Noising(Normal):
        def bind(self, condition=None, *, generator=None, guidance=1.0, **options):
            seen.append(generator)
            return super().bind(condition, generator=generator, guidance=guidance, **options)

    model = Noising(VP())
    model.sample(1, steps=2, generator=generator)
    model.log_prob(torch.zeros(1, 2, dtype=F64), generator=generator)
    assert seen == [generator, generator]


def test_single_precision_models_sample_in_single_precision(generator) -> None:
    model = Normal(VP(), shape=(1, 2, 2), dtype=torch.float32)
    x = model.sample(3, steps=5, generator=generator)
    assert x.dtype == torch.float32
    assert x.shape == (3, 1, 2, 2)
    assert model.log_prob(x).dtype == torch.float32


class Coupled(ScoreModel):
    """x ~ N(0, I) under a matrix process."""

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, _ = self.match_inputs(x, t, condition)
        signal, scale = self.process.coefficients(x, t)
        covariance = signal.matrix @ signal.matrix.mT + scale.matrix @ scale.matrix.mT
        return -torch.linalg.solve(covariance, x[:, :, None])[:, :, 0]


def test_matrix_processes_serve_score_models(generator) -> None:
    """Samples and log-likelihood of N(0, I) under critically damped Langevin diffusion."""
    drift = torch.tensor([[0.0, 1.0], [-1.0, -2.0]], dtype=F64)
    dispersion = torch.tensor([[0.0, 0.0], [0.0, 2.0]], dtype=F64)
    eye = torch.eye(2, dtype=F64)
    process = MatrixProcess(drift, dispersion, speed=(1.0, 10.0), t_min=0.01, start=0.1 * eye, prior_covariance=eye)
    model = Coupled(process, (2,))
    for sampler in ("euler-maruyama", "predictor-corrector", "heun"):
        x = model.sample(4000, steps=150, sampler=sampler, spacing="uniform", to_zero=False, generator=generator)
        assert float((x.var(0) - 1.1).abs().max()) < 3 * 1.1 * math.sqrt(2 / 4000) + 0.05
    signal, scale = process.coefficients(x, torch.tensor([0.01], dtype=F64))
    covariance = (signal.matrix @ signal.matrix.mT + scale.matrix @ scale.matrix.mT)[0]
    exact = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=F64), covariance).log_prob(x[:5])
    torch.testing.assert_close(model.log_prob(x[:5]), exact, atol=0.02, rtol=0)
    assert model.sample(2).shape == (2, 2), "heun is the default where edm can't serve"
    with pytest.raises(ConfigError, match="couples the components"):
        model.sample(2, sampler="edm")

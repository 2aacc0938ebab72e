"""The diffusion decoder trained from scratch: exact where its network is, at the optimum where it is trained."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vae_networks import Built

from scorefold.config import TrainingConfig, VPConfig
from scorefold.data import ConditionSpec, Dataset, DataSpec, EventScale
from scorefold.diffusion import VP
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import EncodesNoise, Prepares, Progress, ScoreModel
from scorefold_registry import Host
from scorefold_scorevae.config import DiffDecoderConfig, HalfUNetConfig
from scorefold_scorevae.diff_decoder import DiffDecoder
from scorefold_scorevae.half_unet import HalfUNet
from scorefold_standard.config import MLPConfig, UNetConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.networks.unet import UNet
from scorefold_toolkit.training import fit

END = Progress(9, 10, "fit")


def real(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


WEIGHT = real([1.0, 0.0], [0.0, 0.5], [1.0, 0.0], [0.0, 0.5])
MEAN = real(0.3, -0.2, 0.1, 0.0)
REST = 0.04
"""Data made from the code: z ~ N(0, I), x = W z + m + N(0, r I), so that p(x | z) and q(z | x) are closed forms."""
SCALE = EventScale(mean=0.05, std=0.9)


class ExactEncoder(nn.Module):
    """Mean and log-variance of the exact q(z | x), from events as the model shows them."""

    def forward(self, shown: Tensor) -> Tensor:
        x = SCALE.mean + SCALE.std * shown
        precision = 1 + WEIGHT.square().sum(0) / REST
        mean = (x - MEAN) @ WEIGHT / REST / precision
        return torch.cat([mean, -precision.log().expand(len(x), -1)], 1)


class ExactNoise(nn.Module):
    """The expected noise s (x_t - a (W z + m)) / (a^2 r + s^2), from x_t as the model shows it and log(s / a)."""

    def forward(self, shown: Tensor, level: Tensor, z: Tensor) -> Tensor:
        signal = (-2 * level).sigmoid().sqrt()[:, None]
        scale = (1 - signal.square()).sqrt()
        x = signal * SCALE.mean + ((signal * SCALE.std) ** 2 + scale**2).sqrt() * shown
        answer: Tensor = scale * (x - signal * (z @ WEIGHT.T + MEAN)) / (signal.square() * REST + scale.square())
        return answer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def small(event: tuple[int, ...] = (4,), scale: EventScale | None = None, **changed: Any) -> DiffDecoder:
    torch.manual_seed(0)
    network = MLP(MLPConfig(width=16, blocks=1))
    settings: dict[str, Any] = {"latent": 2, "encoder": network, "network": network, "process": VPConfig()}
    return DiffDecoder(
        DiffDecoderConfig(**{**settings, **changed}), data=DataSpec(event, scale or EventScale())
    ).double()


def awake(model: DiffDecoder) -> DiffDecoder:
    """The model with the layers of its network that start as 0 made random, so that what reaches them can be seen."""
    torch.manual_seed(1)
    for parameter in model.network.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def exact(**changed: Any) -> DiffDecoder:
    """The model with the exact networks in place."""
    model = small(scale=SCALE, prediction="eps", **changed)
    model.encoder, model.network = ExactEncoder(), ExactNoise()
    return model.eval()


def drawn(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Codes and events of the distribution."""
    z = normal(count, 2, seed=seed)
    return z, z @ WEIGHT.T + MEAN + math.sqrt(REST) * normal(count, 4, seed=seed + 1)


def test_with_exact_networks_the_score_is_the_closed_form() -> None:
    """The numbers of the linear-Gaussian model at two times."""
    model = exact()
    x, z = real([1.0, -0.5, 0.2, 0.7]), real([0.4, -1.0])
    for t, expected in (
        (0.1, (-2.41669, -1.16577, 1.95861, -8.40702)),
        (0.5, (-0.86914, 0.32807, -0.06429, -0.90963)),
    ):
        torch.testing.assert_close(model.score(x, real(t), z)[0], real(*expected), atol=6e-6, rtol=0)


def test_codes_are_drawn_from_the_posterior_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (_, x), codes = exact(beta=0.02), drawn(4000), list[Tensor]()
    monkeypatch.setattr(model, "_expected_noise", lambda x, t, z, known: codes.append(z) or torch.zeros_like(x))
    model.loss(Dataset(x), progress=END, generator=generator(7))
    mean, std = model.encode_distribution(x)
    white = (codes[0] - mean) / std
    assert float(white.mean()) == pytest.approx(0, abs=5 / math.sqrt(white.numel()))
    assert float(white.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / white.numel()))


def test_with_exact_networks_the_data_term_is_the_trace_of_the_residual() -> None:
    """1/2 E tr Cov(eps | x_t, z) = .16192, and for the likelihood 1/2 sum ln (1 + r SNR(t_min)) / (1 + r SNR(1))."""
    _, x = drawn(40000)
    loss = exact(beta=0.02).loss(Dataset(x), progress=END, generator=generator(7))
    assert float(loss.parts["data"]) == pytest.approx(0.16192, rel=0.02)
    mean, std = exact().encode_distribution(x)
    kl = float((mean.square() + std.square() - 1 - 2 * std.log()).sum(1).mean() / 2)
    assert float(loss.parts["kl"]) == pytest.approx(kl)
    assert float(loss.value) == pytest.approx(float(loss.parts["data"]) + 0.02 * kl)
    snr = VP().log_snr(real(1e-5, 1.0)).exp()
    bound = 2 * float(((1 + REST * snr[0]) / (1 + REST * snr[1])).log())
    likely = exact(weighting="likelihood", times="log-snr")
    data = likely.loss(Dataset(x), progress=END, generator=generator(7)).parts["data"]
    assert float(data) == pytest.approx(bound, rel=0.02)


def test_with_exact_networks_decoding_draws_from_the_distribution_given_the_code() -> None:
    model, z = exact(), real([0.4, -1.0])
    draws = model.decode(z.expand(20000, -1), generator=generator(), steps=64)
    torch.testing.assert_close(draws.mean(0), z[0] @ WEIGHT.T + MEAN, atol=0.008, rtol=0)
    torch.testing.assert_close(torch.cov(draws.T), REST * torch.eye(4).double(), atol=0.002, rtol=0)


def test_with_exact_networks_the_bound_is_the_likelihood() -> None:
    """Encoder and score belong to the distribution, so nothing is lost but what the ends of the diffusion leave
    open."""
    model = exact()
    _, x = drawn(4)
    distribution = torch.distributions.MultivariateNormal(MEAN, WEIGHT @ WEIGHT.T + REST * torch.eye(4).double())
    # One draw has a deviation of 30 nats.
    excess = model.elbo(x, generator=generator(), draws=60000) - distribution.log_prob(x)
    assert float(excess.mean()) == pytest.approx(0, abs=0.2)
    assert float(excess.abs().max()) < 0.4
    numbers, _, _ = model.diagnose_codes(x, generator())
    assert math.isfinite(numbers["evidence lower bound (nats)"])
    with pytest.raises(ConfigError, match="deterministic code bounds no likelihood"):
        small(beta=0.0).elbo(x)
    assert small(beta=0.0).diagnose_codes(x, generator()) == ({}, (), {})


def test_the_noise_of_an_event_brings_it_back() -> None:
    """Its error is of the second order in the steps or better: four times less with twice as many."""
    model = exact()
    _, x = drawn(50)
    z = model.encode(x)

    def error(steps: int) -> float:
        return float((model.decode(z, noise=model.encode_noise(x, z, steps=steps), steps=steps) - x).abs().max())

    assert error(64) < 1e-3
    assert error(64) / error(128) > 3.8


class LinearAtLevel(nn.Module):
    """F = A(level) [x, z] with the matrix from a small network: the optimum for Gaussian data is of this form."""

    def __init__(self, size: int, out: int, condition: ConditionSpec | None) -> None:
        super().__init__()
        columns = size + condition.shape[0]  # type: ignore[union-attr]
        self.matrix = nn.Sequential(
            nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, out * columns)
        )

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        level = torch.stack([t / 5, (t / 2).tanh()], 1)
        matrix = self.matrix(level).unflatten(1, (x.shape[1], -1))
        answer: Tensor = (matrix @ torch.cat([x, z], 1)[..., None])[..., 0]
        return answer


def linear(into: tuple[int, ...], out: tuple[int, ...], time: bool, condition: ConditionSpec | None) -> nn.Module:
    return LinearAtLevel(into[0], out[0], condition) if time else nn.Linear(into[0], out[0])


LINEAR = Built(linear, seed=None, conditioned=True)


def test_trained_on_gaussian_data_it_comes_to_reverse_water_filling() -> None:
    """Data N(0, diag(2, .5, .1, .01)), two coordinates, beta .02: KL 4.7238, data term .11840, in all .21288.

    kappa per coded direction solves E_t a^2 s^2 kappa / (a^2 kappa + s^2)^2 = beta, for any decoder. The optimum is
    flat along the trade of one term for the other.
    """
    x = normal(8192, 4)
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / len(x)), x.T, upper=False).T
    x = x * real(2.0, 0.5, 0.1, 0.01).sqrt()
    training = TrainingConfig(steps=4000, batch_size=256, learning_rate=1e-2, ema=0.99, clip=None)
    scale = EventScale(std=float(x.std()))
    process = VPConfig(t_min=1e-3)
    parts = {"encoder": LINEAR, "network": LINEAR, "process": process}
    model = small(scale=scale, beta=0.02, prediction="v", training=training, **parts)
    fit(model, Dataset(x), training, seed=0)
    with torch.no_grad():
        losses = [model.loss(Dataset(x), progress=END, generator=generator(seed)) for seed in range(20)]
    found = {name: sum(float(loss.parts[name]) for loss in losses) / len(losses) for name in ("data", "kl")}
    assert found["kl"] == pytest.approx(4.7238, rel=0.05)
    assert found["data"] == pytest.approx(0.11840, rel=0.05)
    assert found["data"] + 0.02 * found["kl"] == pytest.approx(0.21288, rel=0.02)
    assert model.training_warnings(Dataset(x)) == ()


@pytest.mark.parametrize("prediction", ["eps", "edm", "x0", "v"])
def test_at_first_it_is_the_best_guess_without_a_network(prediction: str) -> None:
    """network:mlp starts as 0, so each prediction starts from what it is added to."""
    model = small(prediction=prediction, scale=EventScale(mean=1.0, std=2.0))
    x, t, z = normal(3, 4), real(0.2, 0.5, 0.9), normal(3, 2)
    signal, scale = model.process.coefficients(x, t)
    centred = x - signal
    expected = {
        "eps": torch.zeros_like(x),
        "edm": scale * centred / (4 * signal**2 + scale**2),
        "x0": centred / scale,
        "v": scale * centred / (signal**2 + scale**2),
    }
    torch.testing.assert_close(model.noise(x, t, z), expected[prediction])
    torch.testing.assert_close(awake(model).noise(x, t, z), -scale * model.score(x, t, z))


def test_a_deterministic_code_is_shown_at_unit_size_to_begin_with() -> None:
    model = awake(small(beta=0.0))
    x = normal(400, 4)
    with torch.no_grad():
        model.encoder.get_submodule("last").weight.mul_(50)
        model.encoder.get_submodule("last").bias.add_(7)
    mean, std = model.encode_distribution(x)
    assert mean.shape == (400, 2)
    assert not std.any()
    seen: list[Tensor] = []
    model.network.register_forward_pre_hook(lambda _module, given: seen.append(given[2].detach()))
    model.prepare(Dataset(x), generator())
    model.noise(x, torch.full((400,), 0.5).double(), mean)
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(2).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(seen[0].std(0, correction=0), torch.ones(2).double())
    model.train()
    before = model.code_mean.clone()
    loss = model.loss(Dataset(x + 1), progress=END, generator=generator())
    assert set(loss.parts) == {"data"}
    assert torch.equal(model.code_mean, before)
    loss.value.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    with pytest.raises(ConfigError, match="no distribution"):
        model.draw_codes(3)


def test_codes_are_drawn_from_the_distribution_that_they_are_held_to() -> None:
    codes = small().draw_codes(20000, generator=generator())
    torch.testing.assert_close(torch.cov(codes.T), torch.eye(2).double(), atol=0.04, rtol=0)


def test_without_its_code_it_is_refused_unless_it_was_trained_so() -> None:
    x, t = normal(3, 4), real(0.2, 0.5, 0.9)
    model = small()
    with pytest.raises(ConfigError, match="trained with a code and got none") as caught:
        model.score(x, t)
    assert "condition_dropout" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="got none"):
        model.decode(normal(3, 2), guidance=2.0)


def test_with_dropout_it_is_guided_and_knows_no_code_from_the_code_0() -> None:
    model = awake(small(condition_dropout=0.3))
    x, t, z = normal(3, 4), real(0.2, 0.5, 0.9), normal(3, 2)
    alone, given = model.score(x, t), model.score(x, t, z)
    assert not torch.allclose(alone, model.score(x, t, torch.zeros_like(z)))
    torch.testing.assert_close(model.bind(z, guidance=2.0)(x, t), 2 * given - alone)
    torch.testing.assert_close(model.bind(z, guidance=0.0)(x, t), alone)
    model.train()
    seen: list[Tensor] = []
    model.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[2].detach()))
    model.loss(Dataset(normal(4000, 4)), progress=END, generator=generator())
    known = seen[0][:, 2]
    assert set(known.tolist()) == {0.0, 1.0}
    assert float(known.mean()) == pytest.approx(0.7, abs=0.03)
    assert not seen[0][known == 0].any()


def test_beta_rises_in_training_alone() -> None:
    model = small(beta=2.0, beta_warmup=0.5)
    x = Dataset(normal(8, 4))

    def beta(step: int) -> float:
        loss = model.loss(x, progress=Progress(step, 100, "fit"), generator=generator())
        return float((loss.value.detach() - loss.parts["data"]) / loss.parts["kl"])

    assert [beta(step) for step in (0, 24, 49, 99)] == pytest.approx([0.04, 1.0, 2.0, 2.0])
    model.eval()
    assert beta(0) == pytest.approx(2.0)


def test_a_silent_code_is_warned_of() -> None:
    model = small(beta=10.0)
    with torch.no_grad():
        for parameter in model.encoder.get_submodule("last").parameters():
            parameter.zero_()
    (said,) = model.training_warnings(Dataset(normal(20, 4)))
    assert "says nothing of its event" in said
    assert "beta is 10, and from 0.089" in said
    assert small(beta=0.0).training_warnings(Dataset(normal(20, 4))) == ()


@pytest.mark.parametrize("beta", [0.01, 0.0])
def test_half_precision_trains_nearly_the_same(beta: float) -> None:
    losses = []
    for precision in ("no", "bf16"):
        training = TrainingConfig(steps=6, batch_size=64, log_every=6)
        model = small(beta=beta, condition_dropout=0.2, training=training).float()
        report = fit(model, Dataset(normal(128, 4).float()), training, seed=0, precision=precision)
        losses.append(float(report.history[-1]["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_images() -> None:
    model = small(
        (1, 8, 8),
        encoder=HalfUNet(HalfUNetConfig(channels=(4, 8), blocks=1, groups=2)),
        network=UNet(UNetConfig(channels=(8, 16), groups=4)),
    )
    assert isinstance(model, ScoreModel)
    assert isinstance(model, EncodesNoise)
    x = normal(2, 1, 8, 8)
    model.loss(Dataset(x), progress=END, generator=generator()).value.backward()
    with torch.no_grad():
        back = model.eval().decode(model.encode(x), generator=generator(), steps=3, sampler="ddim")
    assert back.shape == x.shape
    assert bool(back.isfinite().all())


class Measured(nn.Linear, Prepares):
    prediction = "eps"

    def __init__(self) -> None:
        super().__init__(4, 4)

    def prepare(self, x: Tensor, unit: float, generator: torch.Generator) -> None:
        raise AssertionError


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the encoder of score:diff-decoder is .* not been built"):
        small(encoder="network:mlp")
    with pytest.raises(ConfigError, match=r"the network of score:diff-decoder is .* not been built"):
        small(network="network:mlp")
    with pytest.raises(ConfigError, match="Measured takes statistics of events alone"):
        small(network=Built(lambda into, out: Measured()))
    model = small()
    with pytest.raises(ShapeError, match=r"\(3, 5\)"):
        model.encode(normal(3, 5))
    with pytest.raises(ShapeError, match=r"codes of shape \(3, 4\)"):
        model.decode(normal(3, 4))
    with pytest.raises(ConfigError, match="banana"):
        model.decode(normal(3, 2), banana=1)
    with pytest.raises(ConfigError, match="heun"):
        model.encode_noise(normal(3, 4), normal(3, 2), sampler="ddim")


def test_by_name_in_a_host(host: Host, tmp_path: Any) -> None:
    data = host.create("data:digits", config={"limit": 100})
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    config = {"latent": 3, "encoder": network, "network": network, "beta": 0.0, "training": {"steps": 3}}
    model = host.create("score:diff-decoder", config=config, data=data, generator=generator())
    fit(model, data.load("train"), model.training_config, seed=0)
    host.save(model, tmp_path / "decoder")
    again = host.load(tmp_path / "decoder")
    x = data.load("test").x[:4]
    assert bool(model.code_mean.any())
    torch.testing.assert_close(again.encode(x), model.encode(x))
    first, second = (one.decode(one.encode(x), generator=generator(), steps=3) for one in (model, again))
    assert torch.equal(first, second)


def test_the_reference_of_the_loss_knows_neither_code_nor_network() -> None:
    """With networks that answer 0 no noise is expected and no code differs from N(0, I): 1/2 E |eps|^2 is D / 2."""
    model, (_, x) = exact(), drawn(20_000)

    def own() -> float:
        return float(model.loss(Dataset(x), progress=END, generator=generator(7)).value.detach())

    found = model.loss_reference(Dataset(x), own, "fit")
    assert found.of == "networks that answer 0"
    assert found.value == pytest.approx(2.0, rel=0.02)
    assert own() != pytest.approx(2.0, rel=0.1)

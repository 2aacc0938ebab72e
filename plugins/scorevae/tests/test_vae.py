"""The variational auto-encoder: closed forms of linear ones on Gaussian data, its units, its noise, its refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from vae_networks import Built

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, DataSpec, EventScale
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import Encodes, Progress, TensorSource
from scorefold_registry import Host
from scorefold_scorevae.config import HalfUNetConfig, MirrorDecoderConfig, VAEConfig
from scorefold_scorevae.half_unet import HalfUNet, MirrorDecoder
from scorefold_scorevae.vae import VAE
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_toolkit.training import fit

VARIANCES = torch.tensor([2.0, 0.5, 0.2, 0.01], dtype=torch.float64)
START = Progress(9, 10, "fit")


LINEAR = Built(lambda into, out: nn.Linear(into[0], out[0]), seed=None)
WRONG = Built(lambda into, out: nn.Linear(into[0], 5), seed=None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def gaussian_points(count: int = 4096) -> Tensor:
    """Points whose mean and covariance are (1, 0, -1, 2) and Q diag(VARIANCES) Q^T to rounding."""
    x = normal(count, 4)
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / count), x.T, upper=False).T
    q, _ = torch.linalg.qr(normal(4, 4, seed=1))
    return (x * VARIANCES.sqrt()) @ q.T + torch.tensor([1.0, 0.0, -1.0, 2.0], dtype=torch.float64)


def linear(beta: float, latent: int, x: Tensor, **changed: Any) -> VAE:
    torch.manual_seed(0)
    training = {"batch_size": 256, "learning_rate": 2e-2, "ema": 0.99, "clip": None, **changed.pop("training", {})}
    config = VAEConfig(
        latent=latent, beta=beta, encoder=LINEAR, decoder=LINEAR, training=TrainingConfig(**training), **changed
    )
    return VAE(config, data=TensorSource(x)).double()


def small(event: tuple[int, ...] = (4,), scale: EventScale | None = None, **changed: Any) -> VAE:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"latent": 2, "encoder": MLP(MLPConfig(width=16, blocks=1))}
    settings |= {"decoder": MLP(MLPConfig(width=16, blocks=1)), **changed}
    return VAE(VAEConfig(**settings), data=DataSpec(event, scale or EventScale())).double()


def optimum(beta: float, latent: int) -> tuple[float, float]:
    """The KL divergence and the summed squared residual of the best linear code of the Gaussian points.

    Reverse water-filling: along a coded direction of variance lam, min D / 2 + beta 1/2 ln(lam / D) is at D = beta.
    """
    coded = [lam for lam in VARIANCES[:latent].tolist() if lam > beta]
    rate = sum(math.log(lam / beta) / 2 for lam in coded)
    return rate, beta * len(coded) + float(VARIANCES.sum()) - sum(coded)


@torch.no_grad()
def measured(model: VAE, x: Tensor) -> tuple[float, float]:
    """The same of a linear model, the mean over its codes in closed form."""
    mean, std = model.encode_distribution(x)
    weight = model.decoder.get_parameter("weight") * model.event_scale.std
    kl = (mean.square() + std.square() - 1 - 2 * std.log()).sum(1).mean() / 2
    residual = (model.decoded_mean(mean) - x).square().sum(1) + (std.square() * weight.square().sum(0)).sum(1)
    return float(kl), float(residual.mean())


@pytest.mark.parametrize(("beta", "latent", "coded"), [(0.05, 3, 3), (0.05, 1, 1), (0.3, 3, 2)])
def test_a_linear_one_trains_to_reverse_water_filling(beta: float, latent: int, coded: int) -> None:
    """kappa = beta along each coded direction; directions of less variance, and units too many, say nothing."""
    x = gaussian_points()
    model = linear(beta, latent, x, training={"steps": 3000, "learning_rate": 3e-2})
    fit(model, Dataset(x), model.training_config, seed=0)
    (kl, residual), (best_kl, best_residual) = measured(model, x), optimum(beta, latent)
    assert kl == pytest.approx(best_kl, rel=0.02)
    assert residual == pytest.approx(best_residual, rel=0.02)
    best = best_residual / 2 + beta * best_kl
    assert best - 1e-9 <= residual / 2 + beta * kl <= 1.02 * best
    assert 4 * float(model.residual_std) ** 2 == pytest.approx(residual, rel=0.05)
    mean, std = model.encode_distribution(x)
    assert int((mean.var(0) > 0.05 * std.square().mean(0)).sum()) == coded
    assert model.training_warnings(Dataset(x)) == ()


def test_at_the_optimum_the_loss_is_the_closed_form() -> None:
    """Weights of the optimum by hand: z_j = a x_j + noise of variance s^2 = beta / lam, decoded by a lam."""
    beta, x = 0.05, normal(20000, 2) * VARIANCES[:2].sqrt()
    lam = x.square().mean(0)
    x = x - x.mean(0)
    model = linear(beta, 2, x)
    scale = model.event_scale
    noise = beta / lam
    gain = ((1 - noise) / lam).sqrt()
    with torch.no_grad():
        for layer in (model.encoder, model.decoder):
            for value in layer.parameters():
                value.zero_()
        model.encoder.get_parameter("weight")[:2] = torch.diag(gain * scale.std)
        model.encoder.get_parameter("bias")[:2] = gain * scale.mean
        model.encoder.get_parameter("bias")[2:] = noise.log()
        model.decoder.get_parameter("weight").copy_(torch.diag(gain * lam / scale.std))
        model.decoder.get_parameter("bias").fill_(-scale.mean / scale.std)
    loss = model.loss(Dataset(x), progress=START, generator=generator(7))
    kl = float((lam / beta).log().sum() / 2)
    assert float(loss.parts["kl"]) == pytest.approx(kl, rel=1e-3)
    assert float(loss.parts["reconstruction"]) == pytest.approx(beta, rel=0.036)
    assert float(loss.value.detach()) == pytest.approx(beta + beta * kl, rel=0.01)


def test_the_bound_of_probabilistic_pca_is_its_likelihood() -> None:
    """With the exact posterior the evidence lower bound is ln N(x; m, W W^T + sigma^2 I)."""
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.5], [1.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    mean = torch.tensor([0.3, -0.2, 0.1, 0.0], dtype=torch.float64)
    sigma = 0.2
    distribution = torch.distributions.MultivariateNormal(mean, weight @ weight.T + sigma**2 * torch.eye(4).double())
    x = mean + normal(6, 2) @ weight.T + sigma * normal(6, 4, seed=1)
    torch.manual_seed(0)
    model = VAE(VAEConfig(latent=2, encoder=LINEAR, decoder=LINEAR), data=DataSpec((4,))).double()
    precision = weight.square().sum(0) / sigma**2 + 1
    towards = weight.T / sigma**2 / precision[:, None]
    with torch.no_grad():
        model.encoder.get_parameter("weight").copy_(torch.cat([towards, torch.zeros(2, 4)]))
        model.encoder.get_parameter("bias").copy_(torch.cat([-towards @ mean, -precision.log()]))
        model.decoder.get_parameter("weight").copy_(weight)
        model.decoder.get_parameter("bias").copy_(mean)
        model.residual_std.fill_(sigma)
    bound = model.elbo(x, generator=generator(), draws=4000)
    torch.testing.assert_close(bound, distribution.log_prob(x), atol=0.08, rtol=0)
    assert model.elbo(x, generator=generator(), draws=1).shape == (6,)
    numbers, _, _ = model.diagnose_codes(x, generator())
    assert numbers["residual standard deviation"] == pytest.approx(sigma)
    assert numbers["beta"] == 1
    assert numbers["evidence lower bound (nats)"] == pytest.approx(float(distribution.log_prob(x).mean()), abs=1)
    model.encoder.get_parameter("bias").data[:2] += 0.3
    assert bool((model.elbo(x, generator=generator(), draws=4000) < distribution.log_prob(x) - 0.1).all())


@pytest.mark.parametrize("name", ["squared", "norm"])
def test_the_loss_is_what_it_says(name: str) -> None:
    """In the data's own units, on images, with the KL divergence of torch's distributions."""
    model = small((1, 3, 2), EventScale(mean=3.0, std=2.0), beta=0.3, loss=name)
    x = 3 + 2 * normal(5, 1, 3, 2)
    loss = model.loss(Dataset(x), progress=START, generator=generator(7))
    mean, std = model.encode_distribution(x)
    back = model.decoded_mean(mean + std * normal(5, 2, seed=7))
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(std))
    ).sum(1)
    distance = (back - x).flatten(1).norm(dim=1)
    misfit = distance.square() / 2 if name == "squared" else distance
    torch.testing.assert_close(loss.value, (misfit + 0.3 * kl).mean())
    torch.testing.assert_close(loss.parts["kl"], kl.mean().detach())


def test_gradients_of_the_loss_are_right() -> None:
    model = small(beta=0.3).eval()
    weights = {name: p for name, p in model.named_parameters() if name.endswith(("first.weight", "last.weight"))}
    inputs = tuple(p.detach().clone().requires_grad_() for p in weights.values())
    x = Dataset(normal(3, 4))

    class Value(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self) -> Tensor:
            return model.loss(x, progress=START, generator=generator()).value

    def value(*given: Tensor) -> Tensor:
        named = {f"model.{name}": tensor for name, tensor in zip(weights, given, strict=True)}
        found: Tensor = torch.func.functional_call(Value(), named, ())
        return found

    assert torch.autograd.gradcheck(value, inputs, fast_mode=True)


def test_beta_rises_in_training_alone() -> None:
    model = small(beta=2.0, beta_warmup=0.5)

    def beta(step: int) -> float:
        progress = Progress(step, 100, "fit")
        return float(model.loss(Dataset(normal(8, 4)), progress=progress, generator=generator()).parts["beta"])

    assert [beta(step) for step in (0, 24, 49, 50, 99)] == pytest.approx([0.04, 1.0, 2.0, 2.0, 2.0])
    model.eval()
    assert beta(0) == 2.0


def test_beta_moves_until_the_code_holds_what_it_should() -> None:
    """At the KL divergence asked for, beta is the one that water-filling gives: (lam_1 lam_2 lam_3)^1/3 e^(-2 KL / 3).

    It starts far above the variance of the third direction, which must not be lost by that.
    """
    x = gaussian_points()
    model = linear(1.0, 3, x, target_kl=4.0, training={"steps": 6000})
    fit(model, Dataset(x), model.training_config, seed=0)
    kl, _ = measured(model, x)
    assert kl == pytest.approx(4.0, rel=0.02)
    assert float(model.beta) == pytest.approx(0.2 ** (1 / 3) * math.exp(-8 / 3), rel=0.03)
    assert model.training_warnings(Dataset(x)) == ()
    assert float(model.state_dict()["beta"]) == float(model.beta)


def test_noise_is_what_training_left_over() -> None:
    model = small().eval()
    model.residual_std.fill_(0.25)
    z = normal(1, 2).expand(4000, -1)
    assert torch.equal(model.decode(z, generator=generator()), model.decoded_mean(z))
    drawn = model.decode(z, generator=generator(), noise_scale=1.0)
    torch.testing.assert_close(drawn.std(0), torch.full((4,), 0.25).double(), rtol=0.06, atol=0)
    torch.testing.assert_close(drawn.mean(0), model.decoded_mean(z)[0], rtol=0, atol=0.02)
    half = model.decode(z, generator=generator(), noise_scale=0.5)
    torch.testing.assert_close(half - model.decoded_mean(z), (drawn - model.decoded_mean(z)) / 2)
    noisy = small(residual="isotropic").eval()
    noisy.residual_std.fill_(0.25)
    assert torch.equal(noisy.decode(z, generator=generator()), drawn)
    assert torch.equal(noisy.decode(z, noise_scale=0.0), noisy.decoded_mean(z))
    assert torch.equal(model.reconstruct(z.new_ones(1, 4)), model.decode(model.encode(z.new_ones(1, 4))))


def test_codes_are_drawn_from_the_distribution_that_they_are_held_to() -> None:
    """N(0, I), whatever training left over."""
    model = small()
    model.residual_std.fill_(0.25)
    codes = model.draw_codes(20000, generator=generator())
    torch.testing.assert_close(codes, normal(20000, 2))
    assert codes.dtype == torch.float64
    torch.testing.assert_close(torch.cov(codes.T), torch.eye(2).double(), atol=0.055, rtol=0)
    assert torch.equal(codes, model.draw_codes(20000, generator=generator()))


def test_bounded_reconstructions_keep_the_bounds() -> None:
    model = small(scale=EventScale(low=-1.0, high=3.0, mean=1.0, std=1.0), output="bounded")
    nn.init.normal_(model.decoder.get_submodule("last").weight)
    back = model.decode(5 * normal(200, 2))
    assert float(back.detach().min()) > -1
    assert float(back.detach().max()) < 3
    assert float(back.detach().std()) > 0.5
    with pytest.raises(ConfigError, match="these data have none") as caught:
        small(output="bounded")
    assert caught.value.hint == "output: linear"


def test_units_of_the_data_change_nothing_but_the_units() -> None:
    x = normal(50, 4)
    one, other = small(beta=0.1), small(scale=EventScale(mean=5.0, std=10.0), beta=10.0)
    losses = [
        float(model.loss(Dataset(points), progress=START, generator=generator()).value.detach())
        for model, points in ((one, x), (other, 5 + 10 * x))
    ]
    assert losses[1] == pytest.approx(100 * losses[0])
    torch.testing.assert_close(other.encode(5 + 10 * x), one.encode(x))
    torch.testing.assert_close(other.decode(one.encode(x)), 5 + 10 * one.decode(one.encode(x)))


def test_a_start_off_the_saddle() -> None:
    """network:mlp starts as 0; as an encoder it must separate events from the first step on."""
    model = small()
    assert float(model.encode(normal(50, 4)).detach().std(0).min()) > 0.01
    loss = model.loss(Dataset(normal(50, 4)), progress=START, generator=generator())
    assert float(loss.parts["kl"]) > 1e-4


def test_collapse_and_a_missed_target_are_warned_of() -> None:
    x = gaussian_points(512)
    silent = linear(3.0, 2, x, training={"steps": 600})
    fit(silent, Dataset(x), silent.training_config, seed=0)
    (said,) = silent.training_warnings(Dataset(x))
    assert "posterior collapse" in said
    assert "beta 3" in said
    missed = linear(1.0, 2, x, target_kl=6.0, training={"steps": 20})
    fit(missed, Dataset(x), missed.training_config, seed=0)
    (said,) = missed.training_warnings(Dataset(x))
    assert "was to be 6 (target_kl)" in said


def test_images_through_the_half_u_net_and_its_mirror() -> None:
    config = {"channels": (4, 8), "blocks": 1, "groups": 2}
    model = small(
        (7, 6),
        EventScale(low=0.0, high=1.0, mean=0.3, std=0.2),
        encoder=HalfUNet(HalfUNetConfig(**config)),
        decoder=MirrorDecoder(MirrorDecoderConfig(**config)),
        output="bounded",
    )
    x = normal(3, 7, 6).sigmoid()
    assert model.encode(x).shape == (3, 2)
    assert model.reconstruct(x).shape == x.shape
    loss = model.loss(Dataset(x), progress=START, generator=generator())
    loss.value.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.encode(x[:0]).shape == (0, 2)
    assert model.decode(model.encode(x[:0])).shape == (0, 7, 6)


def test_half_precision_trains_nearly_the_same() -> None:
    losses = []
    for precision in ("no", "bf16"):
        training = TrainingConfig(steps=6, batch_size=64, log_every=6)
        model = small(target_kl=1.0, training=training).float()
        report = fit(model, Dataset(normal(128, 4).float()), training, seed=0, precision=precision)
        losses.append(float(report.history[-1]["loss"]))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the decoder of autoencoder:vae gives \(B, 5\) and has to give \(B, 4\)"):
        small(decoder=WRONG)
    with pytest.raises(ConfigError, match=r"the encoder of autoencoder:vae gives \(B, 5\) and has to give \(B, 4\)"):
        small(encoder=WRONG)
    with pytest.raises(ConfigError, match="not been built"):
        VAE(VAEConfig(latent=2), data=DataSpec((4,)))
    model = small()
    with pytest.raises(ConfigError, match="knows no option steps") as caught:
        model.decode(normal(1, 2), steps=5)
    assert caught.value.hint == "it knows noise_scale"
    with pytest.raises(ShapeError, match=r"takes \(B, 4\)"):
        model.encode(normal(3, 5))
    with pytest.raises(ShapeError, match=r"z has shape \(2,\); this auto-encoder takes \(B, 2\)"):
        model.decode(normal(2))
    with pytest.raises(ShapeError, match=r"float32 .* is torch.float64"):
        model.encode(normal(3, 4).float())
    with pytest.raises(ValidationError, match="beta is 0"):
        VAEConfig(latent=2, beta=0.0, target_kl=3.0)


def test_by_name_in_a_host(host: Host, tmp_path: Any) -> None:
    data = host.create("data:digits", config={"limit": 100})
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    config = {"latent": 3, "encoder": network, "decoder": network, "output": "bounded", "training": {"steps": 3}}
    model = host.create("autoencoder:vae", config=config, data=data, generator=generator())
    assert isinstance(model, Encodes)
    fit(model, data.load("train"), model.training_config, seed=0)
    host.save(model, tmp_path / "vae")
    again = host.load(tmp_path / "vae")
    x = data.load("test").x
    assert torch.equal(again.reconstruct(x), model.reconstruct(x))
    assert torch.equal(again.residual_std, model.residual_std)
    assert float(model.residual_std) != data.event_scale.std


@pytest.mark.parametrize("loss", ["squared", "norm"])
def test_the_reference_of_the_loss_is_the_mean_of_the_data(loss: str) -> None:
    x = gaussian_points()
    found = linear(1.0, 2, x, loss=loss).loss_reference(Dataset(x), lambda: 0.0, "fit")
    apart = (x - x.mean(0)).norm(dim=1)
    assert found.value == pytest.approx(float(VARIANCES.sum() / 2 if loss == "squared" else apart.mean()), rel=1e-6)

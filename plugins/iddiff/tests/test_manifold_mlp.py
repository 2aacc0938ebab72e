"""The network for data on manifolds: what it knows before training, and what no training can spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.config import ProcessConfig, SubVPConfig, VEConfig, VPConfig
from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Prepares
from scorefold_iddiff.config import ManifoldMLPConfig
from scorefold_iddiff.manifold_mlp import GatedBlock, ManifoldMLP, ManifoldNetwork, principal
from scorefold_registry import Host
from scorefold_standard.config import DenoisingConfig
from scorefold_standard.scores import Denoising

SMALL = {"width": 16, "blocks": 1}
WIDE = VEConfig(sigma_min=1e-3, sigma_max=10.0, relative=True)
PROCESSES = [WIDE, VPConfig(), SubVPConfig()]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    values: Tensor = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return values


def flat(generator: torch.Generator, ambient: int = 6, rank: int = 3, points: int = 500) -> Tensor:
    """Points of unequal variances on a plane that is not through the origin."""
    frame: Tensor = torch.linalg.qr(drawn(generator, ambient, rank)).Q
    scales = torch.logspace(0, -1, rank, dtype=torch.float64)
    return drawn(generator, points, rank) * scales @ frame.mT + drawn(generator, ambient)


def score_of(
    x: Tensor, process: ProcessConfig = WIDE, stirred: bool = False, network: dict[str, Any] | None = None
) -> Denoising:
    units = EventScale(mean=float(x.mean()), std=float(x.std(correction=0)))
    settings = DenoisingConfig(
        process=process, prediction="eps", network=ManifoldMLP(ManifoldMLPConfig(**SMALL | (network or {})))
    )
    torch.manual_seed(0)
    score = Denoising(settings, data=DataSpec(tuple(x.shape[1:]), units, None)).double()  # type: ignore[arg-type]
    score.prepare(Dataset(x), torch.Generator().manual_seed(0))
    if stirred:
        stir(score)
    return score


def stir(module: nn.Module) -> None:
    """Weights as training might leave them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=parameter.dtype))


def noise_at(score: Denoising, y: Tensor, sigma: float) -> Tensor:
    """The expected noise at points y around the data, at a noise-to-signal ratio, whatever the process."""
    time = score.process.time_at(y.new_tensor([sigma]))  # type: ignore[operator, union-attr]
    signal, _ = score.process.coefficients(y, time)
    with torch.no_grad():
        return score.noise(signal * y, time.expand(len(y)))


def linear_guess(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """sigma (S + sigma^2)^-1 (y - m) with the mean and the covariance of x."""
    centred = x - x.mean(0)
    noised = centred.mT @ centred / len(x) + sigma**2 * torch.eye(x.shape[1], dtype=x.dtype)
    solved: Tensor = torch.linalg.solve(noised, (y - x.mean(0)).mT)
    return sigma * solved.mT


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_untrained_it_has_the_exact_score_of_the_gaussian_with_the_datas_covariance(
    process: ProcessConfig, generator: torch.Generator
) -> None:
    x = flat(generator)
    y = x[:8] + 0.3 * drawn(generator, 8, 6)
    for sigma in (0.03, 0.3, 2.0):
        guess = linear_guess(x, y, sigma)
        torch.testing.assert_close(noise_at(score_of(x, process), y, sigma), guess, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("network", [{}, {"quadrics": 0}, {"gates": False}, {"directions": 4}], ids=str)
def test_directions_without_variance_are_exact_whatever_is_learned(
    network: dict[str, Any], generator: torch.Generator
) -> None:
    x = flat(generator)
    frame = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[3:].mT
    y = x[:8] + 0.1 * drawn(generator, 8, 6)
    noise = noise_at(score_of(x, stirred=True, network=network), y, 0.1)
    torch.testing.assert_close(noise @ frame, (y - x.mean(0)) @ frame / 0.1, rtol=1e-6, atol=1e-8)
    assert float((noise - linear_guess(x, y, 0.1)).abs().max()) > 0.1


def test_it_sees_and_gives_what_it_says(generator: torch.Generator) -> None:
    """The guess, sqrt(lambda / (lambda + sigma^2)) F and the normals where the linear guess of the point is."""
    x, sigma = flat(generator), 0.2
    network = ManifoldNetwork(ManifoldMLPConfig(**SMALL), (6,), (6,), time=True).double()
    network.prepare(x, 1.0, generator)
    stir(network)
    seen: list[tuple[Tensor, Tensor]] = []
    network.body.register_forward_hook(lambda _, given, answer: seen.append((given[0], answer)))
    y = x[:8] + sigma * drawn(generator, 8, 6)
    noise = network(y / (1 + sigma**2) ** 0.5, torch.full((8,), sigma, dtype=torch.float64).log())
    ((features, answer),) = seen
    u, variances = (y - network.mean) @ network.basis, network.variances
    total = variances + sigma**2
    assert network.quadrics is not None
    distances, normals = network.quadrics(u, (variances / total).expand_as(u))
    visible = (sigma**2 + network.quadrics.distances**2).sqrt()
    torch.testing.assert_close(features, torch.cat([variances.sqrt() * u / total, distances / visible], 1))
    normal = (answer[:, 6:, None] * normals).sum(1)
    assert float(normal.detach().abs().max()) > 0.1
    along = sigma * u / total + (variances / total).sqrt() * answer[:, :6] + normal
    torch.testing.assert_close(noise, along @ network.basis.mT)


def test_gates_multiply_two_maps_of_the_layer_and_its_context(generator: torch.Generator) -> None:
    block = GatedBlock(4, 3).double()
    h, context = drawn(generator, 5, 4), drawn(generator, 5, 3)
    torch.testing.assert_close(block(h, context), h, atol=0, rtol=0)
    stir(block)
    assert block.from_context is not None
    level = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    maps = level @ block.factors.weight.mT + block.factors.bias + context @ block.from_context.weight.mT
    torch.testing.assert_close(block(h, context), h + block.second(maps[:, :4] * maps[:, 4:]))


def test_it_starts_the_same_in_any_rotation(generator: torch.Generator) -> None:
    x = flat(generator)
    turn = torch.linalg.qr(drawn(generator, 6, 6)).Q
    y = x[:8] + drawn(generator, 8, 6)
    turned = noise_at(score_of(x @ turn.mT), y @ turn.mT, 0.2)
    torch.testing.assert_close(turned, noise_at(score_of(x), y, 0.2) @ turn.mT, rtol=1e-6, atol=1e-8)


def test_coordinates_that_are_zero_change_nothing(generator: torch.Generator) -> None:
    x, zeros = flat(generator), torch.zeros(500, 5, dtype=torch.float64)
    noise = 0.1 * drawn(generator, 8, 11)
    near = score_of(x, stirred=True, network={"directions": 6})
    padded = score_of(torch.cat([x, zeros], 1), stirred=True, network={"directions": 6})
    found = noise_at(padded, torch.cat([x, zeros], 1)[:8] + noise, 0.1)
    torch.testing.assert_close(found[:, :6], noise_at(near, x[:8] + noise[:, :6], 0.1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[:, 6:], noise[:, 6:] / 0.1, rtol=1e-6, atol=1e-8)


def test_the_units_of_the_data_change_nothing(generator: torch.Generator) -> None:
    x = flat(generator)
    y = x[:8] + 0.1 * drawn(generator, 8, 6)
    small, large = score_of(x, stirred=True), score_of(1000 * x, stirred=True)
    assert large.process.coefficients(y, torch.zeros(1).double())[1] > 1
    torch.testing.assert_close(noise_at(large, 1000 * y, 100.0), noise_at(small, y, 0.1), rtol=1e-6, atol=1e-8)


def test_fewer_directions_take_the_mean_variance_of_the_others(generator: torch.Generator) -> None:
    """Which is exact where these are equal: data of variances 4, 1 and four times 0.09."""
    white = drawn(generator, 400, 6)
    white = white - white.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.mT @ white / 400)).mT
    x = white * torch.tensor([2, 1, 0.3, 0.3, 0.3, 0.3], dtype=torch.float64)
    y = x[:8] + drawn(generator, 8, 6)
    score = score_of(x, network={"directions": 2})
    torch.testing.assert_close(noise_at(score, y, 0.5), linear_guess(x, y, 0.5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("skip", [True, False])
def test_the_level_is_beside_the_spread_of_all_coordinates(skip: bool, generator: torch.Generator) -> None:
    """Also of those that have no direction of their own: two of six have one."""
    x = drawn(generator, 500, 6) * torch.tensor([4, 2, 1, 1, 0.5, 0.5], dtype=torch.float64)
    network = ManifoldNetwork(ManifoldMLPConfig(**SMALL, directions=2, skip=skip), (6,), (6,), time=True).double()
    network.prepare(x, 1.0, generator)
    total = float((x - x.mean(0)).square().sum(1).mean())
    if not skip:
        assert [*network.variances.tolist(), float(network.rest)] == pytest.approx([total / 6] * 3, rel=0.01)
    seen: list[Tensor] = []
    network.body.register_forward_hook(lambda _, given, answer: seen.append(given[1]))
    network(x[:4], torch.full((4,), 0.3, dtype=torch.float64).log())
    assert seen[0].flatten().tolist() == pytest.approx([0.3 / total**0.5] * 4, rel=0.01)


def test_without_its_parts_it_starts_from_one_variance_and_has_plain_blocks(generator: torch.Generator) -> None:
    x = flat(generator)
    plain = score_of(x, network={"skip": False, "gates": False, "quadrics": 0})
    y = x[:8] + drawn(generator, 8, 6)
    variance = float((x - x.mean(0)).square().mean())
    guess = 0.2 * (y - x.mean(0)) / (variance + 0.04)
    torch.testing.assert_close(noise_at(plain, y, 0.2), guess, rtol=1e-6, atol=1e-8)
    names = {type(module).__name__ for module in plain.modules()}
    assert "ResidualBlock" in names
    assert not names & {"GatedBlock", "Quadrics"}
    assert {"GatedBlock", "Quadrics"} <= {type(module).__name__ for module in score_of(x).modules()}


def test_principal_directions_of_large_events_are_those_of_the_covariance(generator: torch.Generator) -> None:
    x = flat(generator, ambient=12, rank=4)
    mean, basis, variances, rest = principal(x, 5, generator)
    _, exact, exact_variances, _ = principal(x, 12, generator)
    torch.testing.assert_close(basis[:, :4], exact[:, :4], rtol=0, atol=1e-5)
    torch.testing.assert_close(variances, exact_variances[:5], rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(mean, x.mean(0))
    assert float(rest) < 1e-12


def test_variances_that_few_points_leave_uncertain_are_one(generator: torch.Generator) -> None:
    _, _, variances, _ = principal(drawn(generator, 6, 8), 8, generator)
    assert len(variances[:3].unique()) == 3
    assert len(variances[3:].unique()) == 1


def test_points_that_are_all_the_same_are_refused() -> None:
    network = ManifoldMLP(ManifoldMLPConfig(**SMALL)).build((3,), (3,), time=True)
    assert isinstance(network, Prepares)
    with pytest.raises(ConfigError, match="the data don't vary"):
        network.prepare(torch.ones(5, 3), 1.0, torch.Generator())


@pytest.mark.parametrize("out", [(4,), (6,), (2, 2)])
def test_without_a_time_or_for_another_shape_it_is_a_network_like_others(out: tuple[int, ...]) -> None:
    builder = ManifoldMLP(ManifoldMLPConfig(**SMALL))
    timeless, timed = builder.build((6,), out), builder.build((6,), out, time=True)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    for network in (timeless, timed):
        stir(network)
    assert timeless(x).shape == timed(x, torch.zeros(3)).shape == (3, *out)
    with pytest.raises(ConfigError, match="was built without a time"):
        timeless(x, torch.zeros(3))
    with pytest.raises(ConfigError, match="was built with a time"):
        timed(x)


def test_a_condition_is_seen() -> None:
    spec = TensorSpec((), classes=3)
    network = ManifoldMLP(ManifoldMLPConfig(**SMALL)).build((4,), (4,), time=True, condition=spec)
    stir(network)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    t, one, two = torch.zeros(3), torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2])
    differs = (network(x, t, one) != network(x, t, two)).any(1)
    assert differs.tolist() == [False, True, False]


def test_what_it_took_from_the_data_is_in_its_state(generator: torch.Generator) -> None:
    x = flat(generator).float()
    build: Callable[[], ManifoldNetwork] = lambda: ManifoldMLP(ManifoldMLPConfig(**SMALL)).build((6,), (6,), time=True)  # type: ignore[assignment, return-value]  # noqa: E731
    first, second = build(), build()
    first.prepare(x, 2.0, generator)
    stir(first)
    t = torch.zeros(8)
    assert not torch.equal(first(x[:8], t), second(x[:8], t))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x[:8], t), second(x[:8], t))


def test_a_trained_score_is_saved_and_loaded_to_the_bit(host: Host, tmp_path: Path) -> None:
    from scorefold_toolkit.training import fit

    data = host.create("data:sphere", {"dimension": 2, "ambient": 5, "points": 200, "seed": 0})
    config = {
        "prediction": "eps",
        "network": {"use": "network:manifold-mlp", "config": SMALL},
        "training": {"steps": 5, "batch_size": 32, "warmup": 1},
    }
    score = host.create("score:denoising", config, data=data)
    fit(score, data.load("train"), score.training_config, seed=0)
    host.save(score, tmp_path / "score")
    x, t = data.load("test").x[:4], torch.full((4,), 0.3)
    assert torch.equal(host.load(tmp_path / "score").score(x, t), score.score(x, t))

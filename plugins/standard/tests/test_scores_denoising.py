"""Denoising score models: exact parametrisations, a Wiener start, conditions, and a score that training really
learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorefold.config import SubVPConfig, TrainingConfig, VEConfig, VPConfig
from scorefold.data import Condition, ConditionSpec, Dataset, DataSpec, EventScale, TensorSpec
from scorefold.diffusion import PerComponent, time_grid
from scorefold.diffusion.process import SigmaStep, each_step
from scorefold.diffusion.schedules import GeometricVE
from scorefold.errors import ConfigError
from scorefold.interfaces import Network, Prepares, Progress, TensorSource
from scorefold_standard.config import DenoisingConfig, MLPConfig, UNetConfig
from scorefold_standard.networks.mlp import MLP
from scorefold_standard.networks.unet import UNet
from scorefold_standard.noised_distributions import noised_distribution
from scorefold_standard.scores import Denoising
from scorefold_toolkit.config.common import LogNormalLevels, MixtureLevels
from scorefold_toolkit.distributions import Mixture, SubspaceGaussian
from scorefold_toolkit.training import fit

PREDICTIONS = ["eps", "edm", "x0", "v"]
PROCESSES = [VEConfig(sigma_min=0.01, sigma_max=20), VPConfig(), SubVPConfig()]
UNITS = EventScale(mean=1.5, std=0.7)
PROGRESS = Progress(0, 1, "fit")


def build(
    shape: tuple[int, ...] = (6,),
    *,
    units: EventScale = UNITS,
    spec: ConditionSpec | None = None,
    network: Network | None = None,
    **config: Any,
) -> Denoising:
    settings = DenoisingConfig(network=network or MLP(MLPConfig(width=32, blocks=1)), **config)
    return Denoising(settings, data=DataSpec(shape, units, spec))  # type: ignore[arg-type]


class Answers(nn.Module):
    """A network that knows what it should say, and remembers what it was shown."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[Any] = []

    def forward(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        self.seen = [x, t, condition]
        return self.answer


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_network_that_is_right_gives_the_noise_the_datum_and_the_score(
    prediction: str, process: VEConfig | VPConfig | SubVPConfig
) -> None:
    model = build(prediction=prediction, process=process).double()
    x0, z = UNITS.mean + UNITS.std * torch.randn(8, 6, dtype=torch.float64), torch.randn(8, 6, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 8, dtype=torch.float64)
    a, b = model.process.coefficients(x0, t)
    standard = (x0 - UNITS.mean) / UNITS.std
    r, c = ((a * UNITS.std) ** 2 + b**2).sqrt(), (a**2 + b**2).sqrt()
    right = {
        "eps": z,
        "x0": standard,
        "edm": (a * UNITS.std * z - b * standard) / r,
        "v": (a * z - b * (x0 - UNITS.mean)) / c,
    }[prediction]
    network = Answers(right)
    model.network = network
    x = a * x0 + b * z
    torch.testing.assert_close(model.noise(x, t), z)
    torch.testing.assert_close(model.denoise(x, t), x0)
    torch.testing.assert_close(model.score(x, t), -z / b)
    torch.testing.assert_close(network.seen[0], (x - a * UNITS.mean) / r)
    torch.testing.assert_close(network.seen[1], (b / a).log()[:, 0])


@pytest.mark.parametrize("centre", [None, (9.0, -3.0)], ids=["one mean", "a mean for each"])
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_sampler_has_the_scores_of_any_times(
    prediction: str, process: VEConfig | VPConfig | SubVPConfig, centre: tuple[float, ...] | None
) -> None:
    """A sampler's times have numbers in place of tensors of a row for each event."""
    units = EventScale(mean=3.0, std=0.7, centre=centre)
    model = build((2,), units=units, prediction=prediction, process=process).double()
    nn.init.normal_(model.network.last.weight)
    x = torch.randn(3, 2, dtype=torch.float64)
    for step, _ in each_step(model.process, x, time_grid(model.process, 5), SigmaStep.of):
        copy = step.t.clone()
        torch.testing.assert_close(model.score(x, step.t), model.score(x, copy))
        torch.testing.assert_close(model.noise(x, step.t), model.noise(x, copy))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_what_the_network_sees_has_unit_size_at_every_level(process: VEConfig | VPConfig | SubVPConfig) -> None:
    model = build(process=process)
    model.network = Answers(torch.zeros(4000, 6))
    x0, z = UNITS.mean + UNITS.std * torch.randn(4000, 6), torch.randn(4000, 6)
    for t in (model.process.t_min, 0.3, 1.0):
        time = torch.full((4000,), t)
        model.noise(model.process.perturb(x0, time, z), time)
        seen = model.network.seen[0]
        assert float(seen.mean()) == pytest.approx(0, abs=0.033)
        assert float(seen.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_before_training_edm_is_the_best_linear_denoiser(process: VEConfig | VPConfig | SubVPConfig) -> None:
    """The exact score of N(mean, std^2 I), because the network starts at zero."""
    model = build(prediction="edm", process=process).double()
    x, t = torch.randn(5, 6, dtype=torch.float64), torch.linspace(0.01, 1, 5, dtype=torch.float64)
    a, b = model.process.coefficients(x, t)
    torch.testing.assert_close(model.score(x, t), -(x - a * UNITS.mean) / ((a * UNITS.std) ** 2 + b**2))


def test_coefficients_may_differ_by_component() -> None:
    """Under a speed a component the parametrisation holds elementwise, and the network gets one level."""
    model = build(prediction="edm").double()
    model.process = PerComponent((6,), GeometricVE(0.01, torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]).double()))
    x, t = torch.randn(3, 6, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    _, b = model.process.coefficients(x, t)
    torch.testing.assert_close(model.score(x, t), -(x - UNITS.mean) / (UNITS.std**2 + b**2))
    network = Answers(torch.zeros_like(x))
    model.network = network
    model.noise(x, t)
    torch.testing.assert_close(network.seen[1], b.log().mean(1))


@pytest.mark.parametrize("weighting", ["likelihood", "simple", "sigma2"])
def test_the_loss_is_that_of_its_weighting_and_of_its_generator(weighting: str, generator: torch.Generator) -> None:
    model = build(weighting=weighting, process=VEConfig())
    batch = Dataset(torch.randn(64, 6))
    state = torch.random.get_rng_state()
    losses = [model.loss(batch, progress=PROGRESS, generator=generator.manual_seed(3)).value for _ in range(2)]
    assert torch.equal(losses[0], losses[1])
    assert losses[0].dim() == 0
    other = model.loss(batch, progress=PROGRESS, generator=generator.manual_seed(4)).value
    assert not torch.equal(losses[0], other)
    assert torch.equal(torch.random.get_rng_state(), state), "no global random state is touched"
    simple = build(weighting="simple", process=VEConfig())
    simple.load_state_dict(model.state_dict())
    base = simple.loss(batch, progress=PROGRESS, generator=generator.manual_seed(3)).value
    factor = {"simple": 1.0, "sigma2": 6.0, "likelihood": 6 * math.log(5000)}[weighting]
    torch.testing.assert_close(losses[0], factor * base, rtol=1e-4, atol=0)


SPECS: dict[str, ConditionSpec] = {
    "class": TensorSpec((), classes=3),
    "vector": TensorSpec((2,)),
    "both": {"digit": TensorSpec((), classes=3), "vector": TensorSpec((2,))},
}


def conditions(name: str, rows: int) -> Condition:
    digit, vector = torch.arange(rows) % 3, torch.linspace(1, 2, 2 * rows).reshape(rows, 2)
    given: dict[str, Condition] = {"class": digit, "vector": vector, "both": {"digit": digit, "vector": vector}}
    return given[name]


@pytest.mark.parametrize("name", list(SPECS))
def test_conditions_are_dropped_as_often_as_asked(name: str, generator: torch.Generator) -> None:
    model = build(spec=SPECS[name], condition_dropout=0.25)
    network = Answers(torch.zeros(4000, 6))
    model.network = network
    given = conditions(name, 4000)
    model.loss(Dataset(torch.randn(4000, 6), condition=given), progress=PROGRESS, generator=generator)
    shown = network.seen[2]
    pairs = [(shown, given)] if isinstance(given, Tensor) else [(shown[key], given[key]) for key in given]
    dropped = []
    for seen, original in pairs:
        absent = seen == 3 if not seen.is_floating_point() else (seen == 0).all(1)
        dropped.append(absent)
        assert torch.equal(seen[~absent], original[~absent])
        assert float(absent.float().mean()) == pytest.approx(0.25, abs=0.035)
    assert all(torch.equal(absent, dropped[0]) for absent in dropped), "a row loses all of its condition or none"


def test_each_number_of_a_condition_is_shown_in_units_of_its_own(generator: torch.Generator) -> None:
    given = torch.tensor([1000.0, 0.0]) + torch.tensor([50.0, 1e-3]) * torch.randn(4000, 2)
    model = build(spec=TensorSpec((2,)))
    model.prepare(Dataset(torch.randn(4000, 6), condition=given), generator)
    network = Answers(torch.zeros(4000, 6))
    model.network = network
    model.score(torch.randn(4000, 6), torch.full((4000,), 0.5), given)
    torch.testing.assert_close(network.seen[2], (given - given.mean(0)) / given.std(0, correction=0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", list(SPECS))
def test_no_condition_is_the_null_condition_and_guidance_mixes_the_two(name: str) -> None:
    model = build(spec=SPECS[name], condition_dropout=0.25)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, t, given = torch.randn(4, 6), torch.full((4,), 0.3), conditions(name, 4)
    with_it, without = model.score(x, t, given), model.score(x, t)
    assert not torch.allclose(with_it, without)
    guided = model.bind(given, guidance=2.5)(x, t)
    torch.testing.assert_close(guided, 2.5 * with_it - 1.5 * without)
    assert model.sample(2, given, steps=3, guidance=2.0, generator=torch.Generator().manual_seed(0)).shape == (2, 4, 6)


def test_a_conditional_score_without_dropout_asks_for_its_condition() -> None:
    model = build(spec=SPECS["class"])
    with pytest.raises(ConfigError, match="condition_dropout"):
        model.score(torch.randn(2, 6), torch.full((2,), 0.5))


def test_a_network_that_was_not_built_is_said() -> None:
    with pytest.raises(ConfigError, match=r"Host\.create"):
        Denoising(DenoisingConfig(), data=DataSpec((6,)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "network"),
    [((1, 8, 8), UNet(UNetConfig(channels=(8, 16), groups=4))), ((1, 8, 8), MLP(MLPConfig(width=16)))],
)
def test_images_with_an_image_for_condition(
    shape: tuple[int, ...], network: Network, generator: torch.Generator
) -> None:
    model = build(shape, spec={"low": TensorSpec((1, 8, 8)), "digit": TensorSpec((), classes=4)}, network=network)
    condition = {"low": torch.randn(3, 1, 8, 8), "digit": torch.tensor([0, 1, 3])}
    loss = model.loss(Dataset(torch.randn(3, *shape), condition=condition), progress=PROGRESS, generator=generator)
    loss.value.backward()
    assert model.score(torch.randn(3, *shape), torch.full((1,), 0.4), condition).shape == (3, *shape)


def test_a_batch_of_one_broadcasts_and_an_empty_one_stays_empty() -> None:
    model = build()
    nn.init.normal_(next(parameter for parameter in model.network.last.parameters()))  # type: ignore[union-attr]
    x, t = torch.randn(3, 6), torch.tensor([0.2, 0.5, 0.9])
    torch.testing.assert_close(model.score(x[:1], t), model.score(x[:1].expand(3, 6), t))
    assert model.score(x[:0], t[:0]).shape == (0, 6)


class Centres(nn.Module, Prepares):
    """A network that takes the mean of the data, and remembers what it was shown."""

    prediction = "eps"
    mean: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.layer = nn.Linear(features, features)

    def prepare(self, x: Tensor, unit: float, generator: torch.Generator) -> None:
        self.shown, self.unit = x, unit
        self.mean.copy_(x.mean(0) + 0.1 * torch.randn(x.shape[1:], generator=generator))

    def forward(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        answer: Tensor = self.layer(x - self.mean)
        return answer


class CentresBuilder(Network):
    def build(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], **_: Any) -> nn.Module:
        return Centres(in_shape[0])


def test_a_network_that_asks_for_the_data_gets_them_as_it_sees_them(generator: torch.Generator) -> None:
    model = build(network=CentresBuilder(), prediction="eps")
    x = UNITS.mean + UNITS.std * torch.randn(50, 6, generator=generator)
    model.prepare(Dataset(x), torch.Generator().manual_seed(7))
    shown = (x - UNITS.mean) / UNITS.std
    torch.testing.assert_close(model.network.shown, shown)
    drawn = torch.randn(6, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(model.network.mean, shown.mean(0) + 0.1 * drawn)
    assert model.network.unit == UNITS.std


def test_a_network_is_shown_no_more_coordinates_than_fit_in_memory(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = build(network=CentresBuilder(), prediction="eps"), torch.randn(50, 6, generator=generator)
    for most, events in ((60, 10), (5, 1)):
        monkeypatch.setattr("scorefold.data.MEASURED", most)
        model.prepare(Dataset(x), generator)
        torch.testing.assert_close(model.network.shown, (x[:events] - UNITS.mean) / UNITS.std)


def test_what_a_network_gives_must_be_what_the_score_takes_it_for() -> None:
    with pytest.raises(ConfigError, match=r"prediction is edm, and this network \(Centres\) gives eps") as caught:
        build(network=CentresBuilder())
    assert caught.value.hint == "set prediction: eps"


def test_a_network_that_took_the_data_goes_on_from_a_checkpoint_to_the_same_bits(
    tmp_path: Path, generator: torch.Generator
) -> None:
    x = UNITS.mean + UNITS.std * torch.randn(50, 6, generator=generator)
    training = TrainingConfig(steps=12, batch_size=8, warmup=1, checkpoint_every=5, log_every=1)
    states = []

    def stop(step: int, values: Any) -> None:
        if step == 8:
            raise KeyboardInterrupt

    for folder, metrics in (("whole", None), ("parts", stop)):
        torch.manual_seed(0)
        model = build(network=CentresBuilder(), prediction="eps")
        if metrics is not None:
            with pytest.raises(KeyboardInterrupt):
                fit(model, x, training, seed=0, checkpoint_dir=tmp_path / folder, metrics=metrics)
            model = build(network=CentresBuilder(), prediction="eps")
        fit(model, x, training, seed=0, checkpoint_dir=tmp_path / folder)
        states.append(model.state_dict())
    assert "network.mean" in states[0]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_relative_noise_is_in_units_of_the_datas_spread() -> None:
    model = build(process=VEConfig(sigma_min=0.01, sigma_max=2, relative=True))
    _, scale = model.process.coefficients(torch.zeros(1, 6), torch.zeros(1))
    assert float(scale) == pytest.approx(0.01 * UNITS.std * 6**0.5)


def test_training_learns_the_score_of_a_mixture(generator: torch.Generator) -> None:
    """Two Gaussians in the plane, one narrow: the score of a trained model against the closed form."""
    parts = [
        SubspaceGaussian(torch.tensor(mean).double(), torch.eye(2).double(), torch.full((2,), variance).double())
        for mean, variance in (([-1.0, 0.0], 0.05), ([1.0, 0.5], 0.25))
    ]
    distribution = noised_distribution(Mixture(torch.tensor([0.4, 0.6]).double(), tuple(parts)), torch.float32)
    label = torch.rand(4000, generator=generator) < 0.6
    noise = torch.randn(4000, 2, generator=generator)
    x = torch.where(
        label[:, None], torch.tensor([1.0, 0.5]) + 0.5 * noise, torch.tensor([-1.0, 0.0]) + 0.05**0.5 * noise
    )
    data = TensorSource({"train": Dataset(x)})
    process = VEConfig(sigma_min=0.05, sigma_max=10)
    training = TrainingConfig(steps=1200, batch_size=256, learning_rate=2e-3, ema=0.99)
    torch.manual_seed(0)
    config = DenoisingConfig(process=process, network=MLP(MLPConfig(width=64, blocks=2)), training=training)
    model = Denoising(config, data=data)
    before = relative_error(model, distribution.score, x)
    fit(model, data.load("train"), training, seed=0)
    after = relative_error(model, distribution.score, x)
    assert after < 0.05, (before, after)
    assert after < before / 4


def relative_error(model: Denoising, exact: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> float:
    """E |scale (s - s*)|^2 / E |scale s*|^2 over noised points at five levels."""
    generator = torch.Generator().manual_seed(9)
    wrong = total = 0.0
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        time = torch.full((2000,), t)
        _, scale = model.process.coefficients(x[:2000], time)
        noisy = x[:2000] + scale * torch.randn(2000, 2, generator=generator)
        with torch.no_grad():
            answer = model.score(noisy, time)
        truth = exact(noisy, scale[:, 0])
        wrong += float((scale * (answer - truth)).square().mean())
        total += float((scale * truth).square().mean())
    return wrong / total


def test_a_network_that_gives_the_noise_sees_no_more_of_high_noise_than_published() -> None:
    """The default weighting counts what it errs at high noise by the square of that noise."""
    assert DenoisingConfig(prediction="eps").levels == LogNormalLevels()
    assert DenoisingConfig(prediction="x0").levels == DenoisingConfig().levels == MixtureLevels(share=0.25)


def test_a_prior_is_trained_on_data_with_conditions_as_if_they_had_none() -> None:
    spec = TensorSpec((1,))
    training = TrainingConfig(steps=5, batch_size=32)
    network: Any = MLP(MLPConfig(width=8, blocks=1))
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    found = []
    for given, condition in ((spec, x[:, :1]), (None, None)):
        torch.manual_seed(0)
        config = DenoisingConfig(network=network, training=training, unconditional=given is not None)
        score = Denoising(config, data=DataSpec((2,), EventScale(), given))
        fit(score, Dataset(x, condition=condition), training)
        assert score.condition_spec is None
        found.append(score.score(x, torch.full((100,), 0.5)).detach())
    assert torch.equal(*found)

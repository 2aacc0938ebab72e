"""What ``Flow`` gives to every flow: densities, dequantisation, sampling, latents, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.errors import ConfigError, PluginError, ShapeError
from scorefold.interfaces import Flow
from scorefold_toolkit.nn import DiagonalNormal, StandardNormal


class Shift(Flow):
    """z = (x - condition - 1) / 2, whose distribution is known: N(1 + condition, 4)."""

    def __init__(
        self, shape: tuple[int, ...] = (2, 3), *, scale: EventScale | None = None, split: bool = False
    ) -> None:
        super().__init__(shape, StandardNormal(), condition_spec=TensorSpec(()), event_scale=scale)
        self.offset = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.split = split

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((2, 1), (4,)) if self.split else super().latent_shapes

    def _centre(self, x: Tensor, condition: Condition | None) -> Tensor:
        if condition is None:
            return self.offset
        assert isinstance(condition, Tensor)
        return self.offset + condition.reshape(-1, *[1] * (x.dim() - 1))

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        z = (x - self._centre(x, condition)) / 2
        return z, z.new_full((z.shape[0],), -self.dimension * math.log(2))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        x = 2 * z + self._centre(z, condition)
        return x, x.new_full((x.shape[0],), self.dimension * math.log(2))


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_log_prob_is_the_known_density() -> None:
    x, condition = _x(4, 2, 3), _x(4)
    distribution = torch.distributions.Normal(1 + condition[:, None, None], 2.0)
    torch.testing.assert_close(Shift().log_prob(x, condition), distribution.log_prob(x).sum((1, 2)))
    assert Shift().log_prob(x[:0]).shape == (0,)


def test_dequantisation_adds_the_bin_and_integrates_to_the_probability_of_a_level(generator: torch.Generator) -> None:
    scale = EventScale(low=0.0, high=3.0, levels=7)
    flow = Shift((1,), scale=scale)
    assert flow.bin_width == 0.5
    distribution = torch.distributions.Normal(torch.tensor(1.0, dtype=torch.float64), 2.0)
    x = torch.full((1, 1), 1.5, dtype=torch.float64)
    # Without a generator u = 1/2: the density at the level itself times the bin.
    assert flow.log_prob(x).detach().item() == pytest.approx(distribution.log_prob(x).item() + math.log(0.5))
    # With one, exp of the log-likelihood averages to the probability of the bin around the level.
    draws = flow.log_prob(x.expand(100_000, 1), generator=generator).exp().detach()
    truth = float(distribution.cdf(x + 0.25) - distribution.cdf(x - 0.25))
    assert draws.mean().item() == pytest.approx(truth, abs=5 * float(draws.std()) / math.sqrt(100_000))
    assert float(draws.std()) > 0


def test_every_coordinate_of_discrete_data_has_a_bin() -> None:
    """log p of a level is the density there times bin^D, and bits are -log2 of it over D."""
    x = _x(4, 2, 3)
    flow = Shift(scale=EventScale(low=0.0, high=3.0, levels=7))
    expected = Shift().log_prob(x) + 6 * math.log(0.5)
    torch.testing.assert_close(flow.log_prob(x), expected)
    torch.testing.assert_close(flow.bits_per_dim(x), -expected / math.log(2) / 6)


def test_bits_per_dim_of_a_uniform_distribution_on_levels() -> None:
    class Uniform(Shift):
        def log_prob(
            self, x: Tensor, condition: Condition | None = None, generator: torch.Generator | None = None
        ) -> Tensor:
            return x.new_full((x.shape[0],), -self.dimension * math.log(256))

    flow = Uniform(scale=EventScale(low=0.0, high=1.0, levels=256))
    assert flow.bits_per_dim(_x(3, 2, 3)).tolist() == pytest.approx([8.0] * 3)
    with pytest.raises(ConfigError, match="levels"):
        Shift().bits_per_dim(_x(3, 2, 3))


def test_samples_follow_the_distribution_and_the_temperature(generator: torch.Generator) -> None:
    flow = Shift((1,))
    x = flow.sample(40_000, generator=generator)
    assert x.dtype == torch.float64
    assert not x.requires_grad
    assert x.mean().item() == pytest.approx(1.0, abs=0.05)
    assert x.std().item() == pytest.approx(2.0, rel=0.02)

    def draw(temperature: float) -> Tensor:
        return flow.sample(5, temperature=temperature, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(draw(0.5) - 1, (draw(1.0) - 1) / 2)
    torch.testing.assert_close(draw(0.0), torch.ones(5, 1, dtype=torch.float64))


def test_a_temperature_contracts_to_the_centre_of_the_base() -> None:
    flow = Shift((1,))
    flow.base = DiagonalNormal((1,)).double()
    nn.init.constant_(flow.base.mean, 3.0)
    torch.testing.assert_close(flow.sample(2, temperature=0.0), torch.full((2, 1), 7.0, dtype=torch.float64))


def test_one_temperature_a_latent() -> None:
    flow = Shift(split=True)
    x = flow.sample(3, temperature=(0.0, 1.0), generator=torch.Generator().manual_seed(1))
    first, second = flow.unpack((x - 1) / 2)
    assert first.shape == (3, 2, 1)
    assert second.shape == (3, 4)
    assert float(first.abs().max()) == 0
    assert float(second.abs().min()) > 0
    with pytest.raises(ShapeError, match="3 temperatures were given for 2 latents"):
        flow.sample(1, temperature=(1.0, 1.0, 1.0))
    with pytest.raises(ConfigError, match="0 or more"):
        flow.sample(1, temperature=(1.0, -1.0))


def test_draws_for_conditions_have_shape_n_by_conditions(generator: torch.Generator) -> None:
    condition = torch.tensor([0.0, 100.0, 200.0], dtype=torch.float64)
    x = Shift().sample(500, condition, generator=generator)
    assert x.shape == (500, 3, 2, 3)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([1.0, 101.0, 201.0], abs=0.2)
    assert Shift().sample(0, condition).shape == (0, 3, 2, 3)
    assert Shift().sample(0).shape == (0, 2, 3)


def test_sampling_touches_no_global_random_state(generator: torch.Generator) -> None:
    before = torch.random.get_rng_state()
    flow = Shift(scale=EventScale(low=0.0, high=1.0, levels=3))
    flow.log_prob(flow.sample(3, generator=generator), generator=generator)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_flow_without_parameters_takes_any_dtype() -> None:
    class Halving(Flow):
        def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
            return x / 2, x.new_full((len(x),), -math.log(2))

        def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
            return 2 * z, z.new_full((len(z),), math.log(2))

    flow = Halving((1,), StandardNormal())
    for dtype in (torch.float32, torch.float64):
        x = torch.randn(3, 1).to(dtype)
        assert flow.log_prob(x).dtype == dtype
        torch.testing.assert_close(flow.log_prob(x), torch.distributions.Normal(0.0, 2.0).log_prob(x).sum(1))


def test_events_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"takes \(B, 2, 3\)"):
        Shift().log_prob(_x(4, 3, 2))
    for wrong in (_x(4, 2, 3).numpy(), _x(4, 2, 3).tolist()):
        with pytest.raises(ShapeError, match=r"pass torch\.as_tensor\(x\); this model takes \(B, 2, 3\)"):
            Shift().log_prob(wrong)
    with pytest.raises(ShapeError, match=r"torch.float32 on cpu; this model is torch.float64"):
        Shift().log_prob(_x(4, 2, 3).float())
    with pytest.raises(ShapeError, match="on meta"):
        Shift().log_prob(_x(4, 2, 3).to("meta"))
    with pytest.raises(ConfigError, match="-1 samples"):
        Shift().sample(-1)


@pytest.mark.parametrize("volume", [torch.zeros(4, 1), torch.zeros(()), torch.zeros(3)])
def test_a_log_determinant_of_another_shape_is_refused(volume: Tensor) -> None:
    class Wrong(Shift):
        def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
            return x, volume

    with pytest.raises(PluginError, match=r"forward of .*Wrong returned the shape .* for 4 events; expected \(4,\)"):
        Wrong().log_prob(torch.zeros(4, 2, 3, dtype=torch.float64))

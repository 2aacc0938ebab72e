"""Series that code makes, compared with what is known of them in closed form."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from scorefold.errors import ConfigError, DataError
from scorefold_standard.config import LorenzConfig, PulsesConfig
from scorefold_standard.series.sources import Lorenz, Pulses, beats, runge_kutta_step, trajectory, velocity

DEFAULT = LorenzConfig()


def test_the_fixed_points_of_lorenz() -> None:
    """0, and both points with x = y = +-root(beta (rho - 1)), z = rho - 1."""
    side = math.sqrt(DEFAULT.beta * (DEFAULT.rho - 1))
    for point in ((0.0, 0.0, 0.0), (side, side, DEFAULT.rho - 1), (-side, -side, DEFAULT.rho - 1)):
        assert velocity(point, DEFAULT) == pytest.approx((0.0, 0.0, 0.0), abs=1e-13)
        assert runge_kutta_step(point, 0.01, DEFAULT) == pytest.approx(point, abs=1e-12)


def test_the_divergence_is_constant() -> None:
    """The trace of the Jacobian is -(sigma + 1 + beta) everywhere, by central differences of a quadratic field."""
    for point in np.random.default_rng(0).normal(scale=20, size=(5, 3)):
        trace = 0.0
        for axis in range(3):
            ahead, behind = point.copy(), point.copy()
            ahead[axis] += 0.5
            behind[axis] -= 0.5
            trace += velocity(tuple(ahead), DEFAULT)[axis] - velocity(tuple(behind), DEFAULT)[axis]
        assert trace == pytest.approx(-(10 + 1 + 8 / 3), rel=1e-12)


def test_the_integrator_is_of_order_four() -> None:
    """Half the step leaves a sixteenth of the error."""

    def after(steps: int) -> np.ndarray:
        state = (1.0, 2.0, 25.0)
        for _ in range(steps):
            state = runge_kutta_step(state, 0.4 / steps, DEFAULT)
        return np.array(state)

    exact = after(6400)
    errors = [np.linalg.norm(after(steps) - exact) for steps in (50, 100, 200)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(4, abs=0.15)


def test_lyapunov_exponents_and_the_kaplan_yorke_dimension() -> None:
    """Volumes shrink at the rate of the divergence. Sprott (2003) has 0.906, 0 and -14.57, and 2 + l1 / |l3| = 2.06."""
    state, step, steps = (1.0, 2.0, 25.0), 0.005, 12_000
    for _ in range(5000):
        state = runge_kutta_step(state, step, DEFAULT)
    frame, logs, small = np.eye(3), np.zeros(3), 1e-7
    for _ in range(steps):
        ahead = runge_kutta_step(state, step, DEFAULT)
        moved = [runge_kutta_step(tuple(np.array(state) + small * column), step, DEFAULT) for column in frame.T]
        frame, upper = np.linalg.qr((np.array(moved) - np.array(ahead)).T / small)
        logs += np.log(np.abs(upper.diagonal()))
        state = ahead
    found = logs / (step * steps)
    assert found.sum() == pytest.approx(-(10 + 1 + 8 / 3), abs=1e-3)
    assert found[0] == pytest.approx(0.906, abs=0.1)
    assert found[1] == pytest.approx(0.0, abs=0.1)
    assert 2 + (found[0] + found[1]) / -found[2] == pytest.approx(2.06, abs=0.005)


def test_the_attractor_is_symmetric_and_bounded() -> None:
    """x and y go to -x and -y by symmetry, and no state leaves x^2 + y^2 + (z - sigma - rho)^2 <= R^2."""
    states = trajectory((1.0, 2.0, 25.0), LorenzConfig(length=20_000, step=0.03))
    assert abs(states[:, 0].mean()) < 2  # the deviation of x is 8, and x forgets its sign in a few units of time
    radius = (DEFAULT.sigma + DEFAULT.rho) * DEFAULT.beta / (2 * math.sqrt(DEFAULT.beta - 1))
    assert np.linalg.norm(states - [0, 0, DEFAULT.sigma + DEFAULT.rho], axis=1).max() <= radius
    assert states[:, 2].min() > 0


def test_rows_are_a_step_apart_and_noise_has_its_size() -> None:
    short = LorenzConfig(length=50, step=0.02, fractions=(1.0, 0.0, 0.0), scale="none", seed=3)
    x = Lorenz(short).load("train").x.double()
    state = tuple(x[10].tolist())
    for _ in range(4):
        state = runge_kutta_step(state, 0.005, DEFAULT)
    assert state == pytest.approx(x[11].tolist(), abs=1e-4)
    long = short.model_copy(update={"length": 4000})
    noise = Lorenz(long.model_copy(update={"noise_std": 0.5})).load("train").x - Lorenz(long).load("train").x
    assert float(noise.std()) == pytest.approx(0.5, rel=5 / math.sqrt(2 * 12_000))


def test_coordinates_are_those_that_were_asked_for() -> None:
    both = Lorenz(LorenzConfig(length=400, seed=0, scale="none"))
    some = Lorenz(LorenzConfig(length=400, seed=0, scale="none", columns=("z", "x")))
    assert torch.equal(some.load("train").x, both.load("train").x[:, [2, 0]])
    with pytest.raises(ValidationError, match="every coordinate once"):
        LorenzConfig(columns=("x", "x"))


@pytest.mark.parametrize(
    "wrong", [{"length": 1}, {"step": 0}, {"sigma": -1}, {"rho": 0}, {"beta": 0}, {"noise_std": -1}]
)
def test_settings_of_lorenz_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="greater than"):
        LorenzConfig.model_validate(wrong)


@pytest.mark.parametrize("settings", [{"rho": 10}, {"sigma": 400}, {"rho": 10, "columns": ("x",)}])
def test_a_system_at_rest_is_refused_with_a_fix_that_works(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"column 'x' of the Lorenz series is -?\d\S* in every training row") as found:
        Lorenz(LorenzConfig(length=2000, **settings))
    assert found.value.hint is not None
    fix = dict(re.findall(r"(\w+): ([\d.]+)", found.value.hint))
    assert fix.keys() == {"sigma", "rho", "beta", "step"}
    Lorenz(LorenzConfig.model_validate({"length": 2000, **settings, **fix}))


def test_an_integration_that_diverges_is_named() -> None:
    with pytest.raises(ConfigError, match=r"diverged at sigma 1000, rho 28 and beta 2\.66667: it changes too fast"):
        Lorenz(LorenzConfig(sigma=1000, length=20))


@pytest.mark.parametrize("wrong", [{"beat": 3}, {"variability": 0.5}, {"length": 0}])
def test_settings_of_pulses_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=r"(greater|less) than"):
        PulsesConfig.model_validate(wrong)


def test_beats_of_equal_length_have_their_period() -> None:
    """Without variability peaks of R, which are the only values near 1, are ``beat`` rows apart."""
    values = beats(PulsesConfig(length=4000, beat=50, variability=0.0), 0)
    peaks = np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:]) & (values[1:-1] > 0.6)) + 1
    assert len(peaks) == pytest.approx(4000 / 50, abs=1)
    assert set(np.diff(peaks)) <= {49, 50, 51}


def test_beats_vary_as_they_should() -> None:
    values = beats(PulsesConfig(length=200_000, beat=60, variability=0.1), 0)
    peaks = np.flatnonzero((values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:]) & (values[1:-1] > 0.6)) + 1
    lengths = np.diff(peaks)
    assert lengths.mean() == pytest.approx(60, abs=5 * 6 / math.sqrt(len(lengths)))
    assert lengths.std() == pytest.approx(6, rel=0.1)


def test_the_seed_makes_the_series() -> None:
    same, other = (Pulses(PulsesConfig(length=2000, seed=seed)).load("train").x for seed in (1, 2))
    assert torch.equal(Pulses(PulsesConfig(length=2000, seed=1)).load("train").x, same)
    assert not torch.equal(same, other)
    assert same.shape[1:] == (1, 128)

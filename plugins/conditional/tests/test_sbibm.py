"""Tasks of sbibm: simulators and priors by their moments in closed form, and the wheel by a small one of its form."""

from __future__ import annotations

import bz2
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError, ScorefoldError
from scorefold_conditional import sbibm as wheels
from scorefold_conditional.sbibm import TASKS, stimulus, summary_of
from scorefold_registry import Host

COUNT = 200_000
HOST = Host.discover()


def simulated(name: str, theta: list[float], count: int = COUNT) -> Tensor:
    parameters = torch.tensor([theta], dtype=torch.float64).expand(count, -1)
    return TASKS[name].simulate(parameters, torch.Generator().manual_seed(0))


def drawn(name: str, count: int = COUNT) -> Tensor:
    return TASKS[name].prior(count, torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor | float, spread: float, count: int = COUNT) -> bool:
    """Return True where means of ``count`` draws of a deviation are within six standard errors."""
    return bool(((found - expected).abs() <= 6 * spread / math.sqrt(count)).all())


def test_two_moons_are_arcs_of_radius_a_tenth() -> None:
    x = simulated("two-moons", [0.5, -0.2])
    from_centre = x - torch.tensor([0.25 - 0.3 / math.sqrt(2), -0.7 / math.sqrt(2)], dtype=torch.float64)
    radius, angle = from_centre.norm(dim=1), torch.atan2(from_centre[:, 1], from_centre[:, 0])
    assert close(radius.mean(), 0.1, 0.01)
    assert close((radius - 0.1).square().mean().sqrt(), 0.01, 0.0071)
    assert angle.abs().max() <= math.pi / 2
    assert close(angle.mean(), 0.0, math.pi / math.sqrt(12))
    assert close(angle.square().mean(), math.pi**2 / 12, math.pi**2 / 4)
    mirrored = simulated("two-moons", [-0.5, 0.2]).mean(0)
    assert close(mirrored[0], x.mean(0)[0], 0.3), "|t1 + t2| makes the second moon"
    assert close(mirrored[1], -x.mean(0)[1], 0.3)


def test_a_point_of_the_mixture_has_one_deviation_for_both_coordinates() -> None:
    off = simulated("gaussian-mixture", [3.0, -7.0]) - torch.tensor([3.0, -7.0], dtype=torch.float64)
    squares = off.square()
    assert close(squares.mean(0), (1 + 0.01) / 2, 1.5)
    # E[s^4] = 0.50005 with one s, 0.505^2 = 0.255 with one for each coordinate.
    assert close(squares.prod(1).mean(), (1 + 1e-4) / 2, 3.0)


@pytest.mark.parametrize("name", ["gaussian-linear", "gaussian-linear-uniform"])
def test_a_tenth_is_the_variance_of_the_linear_tasks(name: str) -> None:
    theta = [0.1 * i for i in range(10)]
    x = simulated(name, theta)
    assert close(x.mean(0), torch.tensor(theta, dtype=torch.float64), 0.32)
    assert close(x.var(0), 0.1, 0.15)


def test_slcp_is_four_points_of_one_gaussian() -> None:
    x = simulated("slcp", [0.7, -2.9, -1.2, 0.8, 0.5]).reshape(COUNT, 4, 2)
    first, second, rho = 1.2**2, 0.8**2, math.tanh(0.5)
    covariance = torch.tensor([[first**2, rho * first * second], [rho * first * second, second**2]]).double()
    for number in range(4):
        assert close(x[:, number].mean(0), torch.tensor([0.7, -2.9], dtype=torch.float64), first)
        assert close(x[:, number].T.cov(), covariance, 1.5 * first**2)
    assert close((x[:, 0] * x[:, 1]).mean(0), torch.tensor([0.7, -2.9], dtype=torch.float64) ** 2, 10.0)


def test_the_neuron_counts_spikes_and_sums_the_stimulus_before_them() -> None:
    drive = stimulus()
    torch.testing.assert_close(drive[:2], torch.tensor([0.49671414, -0.1382643], dtype=torch.float64))
    spikes = (torch.rand(3, 100, generator=torch.Generator().manual_seed(0)) < 0.3).double()
    found = summary_of(spikes)
    for row in range(3):
        at = [t for t in range(100) if spikes[row, t]]
        assert found[row, 0] == len(at)
        for lag in range(9):
            expected = sum(float(drive[t - lag]) for t in at if t >= lag)
            assert found[row, 1 + lag] == pytest.approx(expected, abs=1e-12)
    quiet = simulated("bernoulli-glm", [-40.0] + [0.0] * 9, 10)
    assert not quiet.any(), "no spike at chance 0"
    half = simulated("bernoulli-glm", [0.0] * 10, 20_000)
    assert close(half[:, 0].mean(), 50.0, 5.0, 20_000)


def test_the_prior_of_the_filter_has_its_precision() -> None:
    difference = np.eye(9) - np.diag(np.ones(8), -1)
    root = difference @ difference + np.diag(np.sqrt(np.arange(9) / 9))
    expected = np.zeros((10, 10))
    expected[0, 0], expected[1:, 1:] = 2.0, np.linalg.inv(root.T @ root)
    found = drawn("bernoulli-glm").T.cov()
    scale = torch.from_numpy(np.sqrt(np.outer(expected.diagonal(), expected.diagonal())))
    assert bool(((found - torch.from_numpy(expected)).abs() <= 9 * scale / math.sqrt(COUNT)).all())


def test_points_of_slcp_without_deviations_have_a_thousandth() -> None:
    """The root of the 1e-6 on the diagonal."""
    x = simulated("slcp", [0.7, -2.9, 0.0, 0.0, 0.5]).reshape(-1, 2)
    assert x.std(0).tolist() == pytest.approx([1e-3, 1e-3], rel=0.1)


@pytest.mark.parametrize(("name", "bound"), [("two-moons", 1), ("gaussian-mixture", 10), ("slcp", 3)])
def test_uniform_priors_fill_their_box(name: str, bound: float) -> None:
    theta = drawn(name)
    assert TASKS[name].bound == bound
    assert 0.9999 * bound < theta.abs().max() <= bound
    assert close(theta.mean(0), 0.0, bound)
    assert close(theta.square().mean(0), bound**2 / 3, bound**2)


def test_the_linear_prior_has_a_variance_of_a_tenth() -> None:
    assert close(drawn("gaussian-linear").var(0), 0.1, 0.15)


def test_hunters_and_prey_keep_what_their_equation_keeps() -> None:
    """delta X - gamma log X + beta Y - alpha log Y does not change with time."""
    theta = drawn("lotka-volterra", 2000)
    alpha, beta, gamma, delta = theta.T[..., None]
    logs = wheels._solved(wheels._hunted, theta, (30.0, 1.0), 2.1)
    prey, hunters = logs.unbind(2)
    parts = torch.stack([delta * prey.exp(), -gamma * prey, beta * hunters.exp(), -alpha * hunters])
    inside = (logs > math.log(2e-10)).all(2)
    off = (parts.sum(0) - parts.sum(0)[:, :1]).abs() / parts.abs().sum(0)
    assert off[inside].max() < 1e-4
    assert inside.double().mean() > 0.9
    torch.testing.assert_close(logs[:, 0].exp(), torch.tensor([30.0, 1.0]).double().expand(2000, 2))


def test_an_equation_that_steps_do_not_solve_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand parameters a few need more than 64 steps between observations."""
    monkeypatch.setattr(wheels, "_MOST_STEPS", 64)
    with pytest.raises(DataError, match=r"64 steps of 0\.03 days do not solve the equation of \d+ of 1000 parameters"):
        TASKS["lotka-volterra"].simulate(drawn("lotka-volterra", 1000), torch.Generator())


def test_prey_and_hunters_apart_grow_and_die_as_exponentials() -> None:
    x = simulated("lotka-volterra", [0.2, 0.0, 0.3, 0.0], 20_000)
    days = 2.1 * torch.arange(10, dtype=torch.float64)
    expected = torch.cat([math.log(30) + 0.2 * days, -0.3 * days])
    assert close(x.log().mean(0), expected, 0.1, 20_000)
    assert close(x.log().std(0), 0.1, 0.071, 20_000)
    crowded = simulated("lotka-volterra", [1.0, 0.0, 1.0, 0.0], 20_000)
    assert close(crowded[:, 9].log().mean(), math.log(1e4), 0.1, 20_000), "no more than 10,000"


def test_an_epidemic_keeps_what_its_equation_keeps() -> None:
    """I + S - N gamma / beta log S does not change with time, and people are counted by a binomial distribution."""
    theta = drawn("sir", 2000)
    logs = wheels._solved(wheels._epidemic, theta, (1e6 - 1, 1.0), 17.0)
    healthy, ill = logs.unbind(2)
    kept = (healthy.exp() + ill.exp()) / 1e6 - theta[:, 1:] / theta[:, :1] * healthy
    assert (kept - kept[:, :1]).abs().max() < 1e-4
    counted = simulated("sir", [0.4, 0.125], 20_000)
    share = wheels._solved(wheels._epidemic, torch.tensor([[0.4, 0.125]]).double(), (1e6 - 1, 1.0), 17.0)[0, :, 1]
    share = share.exp() / 1e6
    assert torch.equal(counted, counted.round())
    spread = (1000 * share * (1 - share)).sqrt()
    assert bool(((counted.mean(0) - 1000 * share).abs() <= 6 * spread / math.sqrt(20_000) + 1e-3).all())
    assert counted.std(0)[3:6].tolist() == pytest.approx(spread[3:6].tolist(), rel=0.05)
    falling = simulated("sir", [0.0, 0.1], 10)
    assert not falling.any(), "one of a million who infects nobody"


@pytest.mark.parametrize(
    ("name", "logs", "spreads"),
    [("sir", [0.4, 0.125], [0.5, 0.2]), ("lotka-volterra", [math.exp(m) for m in (-0.125, -3, -0.125, -3)], [0.5] * 4)],
)
def test_rates_are_log_normal(name: str, logs: list[float], spreads: list[float]) -> None:
    theta = drawn(name, 50_000).log()
    for column, (middle, spread) in enumerate(zip(logs, spreads, strict=True)):
        assert close(theta[:, column].mean(), math.log(middle), spread, 50_000)
        assert close(theta[:, column].std(), spread, spread, 50_000)


def small_wheel(path: Path, draws: int = 10_000, observed: int = 2) -> Path:
    """A file of the form of the published wheel, with made-up numbers of two-moons."""
    body = "\n".join(f"{i / draws},{-i / draws}" for i in range(draws))
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1, 11):
            folder = f"sbibm/tasks/two_moons/files/num_observation_{number}/"
            names = ",".join(f"data_{i + 1}" for i in range(observed))
            archive.writestr(folder + "observation.csv", names + "\n" + ",".join(["0.5"] * observed) + "\n")
            archive.writestr(folder + "true_parameters.csv", f"parameter_1,parameter_2\n0.{number},-0.25\n")
            packed = bz2.compress(f"parameter_1,parameter_2\n{body}\n".encode())
            archive.writestr(folder + "reference_posterior_samples.csv.bz2", packed)
    return path


def test_the_test_split_is_the_published_observations(host: Host, tmp_path: Path) -> None:
    wheel = small_wheel(tmp_path / "sbibm.whl")
    source = host.create("data:sbibm", {"task": "two-moons", "simulations": 50, "wheel": str(wheel)})
    test = source.load("test")
    assert len(source.load("train")) == 45
    assert len(source.load("validation")) == 5
    assert test.x[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.10])
    assert test.condition.unique().tolist() == [0.5]
    assert test.truth["posterior"].shape == (10, 10_000, 2)
    assert test.truth["posterior"][3, 5000].tolist() == pytest.approx([0.5, -0.5])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "folder")
    unpacked = host.create("data:sbibm", {"task": "two-moons", "simulations": 50, "wheel": str(tmp_path / "folder")})
    assert torch.equal(unpacked.load("test").truth["posterior"], test.truth["posterior"])
    assert torch.equal(unpacked.load("train").x, source.load("train").x)


def test_simulations_do_not_depend_on_the_wheel_and_splits_share_none(host: Host, tmp_path: Path) -> None:
    config = {"task": "two-moons", "simulations": 100, "seed": 3}
    plain = host.create("data:sbibm", config)
    other = host.create("data:sbibm", {**config, "wheel": str(small_wheel(tmp_path / "sbibm.whl"))})
    assert plain.load("test").x.shape == (1000, 2)
    rows = torch.cat([plain.load(split).index for split in ("train", "validation", "test")])
    assert rows.unique().numel() == 1100
    assert torch.equal(plain.load("train").index, other.load("train").index)


def test_several_observations_are_simulations_of_one_parameter(host: Host) -> None:
    """Their mean has a fourth of the variance about the parameter, and one observation is as without the setting."""
    config = {"task": "gaussian-linear", "simulations": 3000, "seed": 2}
    several = host.create("data:sbibm", {**config, "observations": 4})
    points = several.load("train")
    assert several.condition_spec.shape == points.condition.shape[1:] == (4, 10)
    off = points.condition - points.x[:, None]
    assert float(off.var()) == pytest.approx(0.1, rel=0.03)
    assert float(off.mean(1).var()) == pytest.approx(0.025, rel=0.03)
    one = host.create("data:sbibm", {**config, "observations": 1}).load("train")
    assert torch.equal(one.condition, host.create("data:sbibm", config).load("train").condition)
    assert torch.equal(one.x, points.x)
    with pytest.raises(ScorefoldError, match="the wheel has one observation of each parameter, and observations is 4"):
        host.create("data:sbibm", {**config, "observations": 4, "wheel": "sbibm.whl"})


def test_a_file_that_is_no_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, expected in (("none.whl", "there is no file"), ("text.whl", "can't be read as the wheel")):
        path = tmp_path / name
        if name == "text.whl":
            path.write_text("no zip")
        with pytest.raises(DataError, match=expected) as failed:
            wheels.published(path, "two-moons", 2, 2)
        assert "pip download --no-deps sbibm==1.1.0" in str(failed.value.hint)
    whole = small_wheel(tmp_path / "sbibm.whl")
    with pytest.raises(DataError, match=r"no true_parameters\.csv of observation 1 of slcp"):
        wheels.published(whole, "slcp", 5, 8)
    for other in (small_wheel(tmp_path / "few.whl", draws=10), small_wheel(tmp_path / "wide.whl", observed=3)):
        with pytest.raises(DataError, match=r"observation 1 of two-moons in .* holds tables of shapes"):
            wheels.published(other, "two-moons", 2, 2)

"""DiffPIR, TMPD, MMPS and DAPS: exact posteriors of Gaussians where they are exact, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scorefold.data import Dataset, EventScale
from scorefold.diffusion import VE, VP, GeometricVE, PerComponent
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import TensorSource
from scorefold_conditional.config import DAPSConfig, DiffPIRConfig, DPSConfig, MMPSConfig, RePaintConfig, TMPDConfig
from scorefold_conditional.solvers.daps import DAPS
from scorefold_conditional.solvers.dps import DPS, EXACT
from scorefold_conditional.solvers.repaint import RePaint
from scorefold_registry import Host, compare
from scorefold_toolkit.nn.conditions import far_conditions

SHAPE = (3, 2, 2)
MASK = {"name": "mask", "region": "pixels", "fraction": 0.5}
BOX = {"name": "box-downsample", "factor": 2}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def processes() -> dict[str, Any]:
    speeds = torch.linspace(0, 1, 12, dtype=torch.float64).reshape(SHAPE)
    bands = PerComponent(SHAPE, GeometricVE(0.01 + 0.01 * speeds, 10 + 20 * speeds))
    return {"ve": VE(0.01, 20.0), "vp": VP(), "per-component": bands}


def scores(model: Any, posterior: Any, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The score found and the score of the posterior, at three shares of the time."""
    process, x = model.process, normal(3, *SHAPE, seed=2)
    pairs = []
    for share in (0.1, 0.5, 0.9):
        t = torch.full((3,), process.t_min + share * (process.t_max - process.t_min), dtype=torch.float64)
        pairs.append((model.score(x, t, y.expand(3, *y.shape[1:])), posterior.score(process, x, t)))
    return pairs


@pytest.mark.parametrize("name", ["ve", "vp", "per-component"])
@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_row_sums_are_exact_where_the_covariance_is_diagonal(
    name: str, noise_std: float, distribution: Any, prior_of: Any
) -> None:
    """Independent coordinates seen through a mask."""
    variances = 0.2 + normal(12, seed=4).abs()
    data = distribution(normal(12), torch.diag(variances))
    prior = prior_of(data, processes()[name], SHAPE)
    model = DPS(TMPDConfig.model_validate({"operator": MASK, "noise_std": noise_std}), prior=prior)
    a = model.observations.operator
    y = a(normal(1, *SHAPE, seed=1))
    for found, wanted in scores(model, data.given(a, y, noise_std), y):
        assert torch.allclose(found, wanted, rtol=1e-7, atol=1e-7)


def test_row_sums_below_zero_count_as_none(gaussian: Any, prior_of: Any) -> None:
    """Coordinates that are correlated negatively have row sums that are no variances: the score stays finite."""
    data = gaussian(12)
    model = DPS(TMPDConfig.model_validate({"operator": MASK}), prior=prior_of(data, VE(0.01, 20.0), SHAPE))
    x, t = normal(2, *SHAPE), torch.full((2,), 0.3, dtype=torch.float64)
    found = model.score(x, t, model.observations.operator(normal(2, *SHAPE, seed=1)))
    assert found.isfinite().all()


def test_mmps_is_pigdm_with_the_jacobian_and_exact_for_gaussians(gaussian: Any, prior_of: Any) -> None:
    data = gaussian(12)
    prior = prior_of(data, VE(0.01, 20.0), SHAPE)
    model = DPS(MMPSConfig.model_validate({"operator": BOX, "noise_std": 0.2, "solver_steps": 40}), prior=prior)
    a = model.observations.operator
    y = a(normal(1, *SHAPE, seed=1))
    for found, wanted in scores(model, data.given(a, y, 0.2), y):
        assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)


COLUMNS = EventScale(shift=(1e3, 5.0, -2.0), factor=(50.0, 0.01, 3.0))
TABLE = EventScale(shift=(1e3, 5.0, -2.0), factor=4.0)
SUMS = {"name": "matrix", "rows": [[0.02, 30.0, 0.0], [0.0, 0.0, 1.0]]}


@pytest.mark.parametrize("scale", [COLUMNS, TABLE], ids=["columns", "table"])
def test_an_observation_in_the_units_of_the_file_has_its_posterior(
    scale: EventScale, distribution: Any, gaussian: Any, prior_of: Any
) -> None:
    data, shape = gaussian(3), (3,)
    prior = prior_of(data, VE(0.01, 20.0), shape)
    prior.event_scale = scale
    config = {"operator": SUMS, "noise_std": 0.7, "solver_steps": 10, "y_units": "file"}
    model = DPS(MMPSConfig.model_validate(config), prior=prior)
    factors = scale.to_raw(torch.ones(1, 3, dtype=torch.float64))[0] - scale.to_raw(torch.zeros(1, 3).double())[0]
    centre = scale.to_raw(data.mean[None])[0]
    raw = distribution(centre, factors.diag() @ data.covariance @ factors.diag())
    a = model.observations.operator
    y = a(centre[None] + factors * normal(1, 3, seed=1))
    found = raw.given(a, y, 0.7)
    inverse = (1 / factors).diag()
    posterior = distribution(scale.from_raw(found.mean[None])[0], inverse @ found.covariance @ inverse)
    x, t = normal(3, 3, seed=2), torch.full((3,), 0.4, dtype=torch.float64)
    wanted = posterior.score(model.process, x, t)
    assert torch.allclose(model.score(x, t, y.expand(3, 2)), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operator", [{"name": "matrix", "rows": [[1.0, 2.0, 0.0, 1.0]]}, BOX], ids=["rows", "box"])
def test_an_exact_observation_in_units_of_columns_is_kept_by_the_shortest_step(
    operator: dict[str, Any], gaussian: Any, prior_of: Any
) -> None:
    """The denoised estimate moves at right angles to {x : A (factor x + shift) = y}, for images too."""
    factors, shifts = (50.0, 0.01, 3.0, 1.0), (1e3, 5.0, -2.0, 0.0)
    shape = (1, 2, 2) if operator is BOX else (4,)
    prior = prior_of(gaussian(4), VE(0.01, 20.0), shape)
    prior.event_scale = EventScale(shift=shifts, factor=factors)
    config = {"operator": operator, "noise_std": 0.0, "y_units": "file"}
    model = DPS(DiffPIRConfig.model_validate(config), prior=prior)
    a = model.observations.operator
    y = a(prior.event_scale.to_raw(normal(1, *shape, seed=1)))
    x, t = normal(1, *shape, seed=2), torch.full((1,), 0.4, dtype=torch.float64)
    rows = a(torch.eye(4, dtype=torch.float64).reshape(4, *shape)).flatten(1).mT * torch.tensor(factors).double()
    gap = y.flatten() - a(prior.event_scale.to_raw(torch.zeros_like(x))).flatten()
    clean = prior.denoise(x, t).flatten()
    wanted = clean + torch.linalg.pinv(rows) @ (gap - rows @ clean)
    assert torch.allclose(model.denoise(x, t, y).flatten(), wanted, rtol=1e-6, atol=1e-8)


def test_scaled_data_ask_for_the_units_of_an_observation(gaussian: Any, prior_of: Any) -> None:
    prior = prior_of(gaussian(3), VE(0.01, 20.0), (3,))
    prior.event_scale = COLUMNS
    for config, solver in ((MMPSConfig, DPS), (DAPSConfig, DAPS), (RePaintConfig, RePaint)):
        with pytest.raises(ConfigError, match="were scaled, so y = A x can be in two units"):
            solver(config.model_validate({"operator": SUMS}), prior=prior)
    model = DPS(MMPSConfig.model_validate({"operator": SUMS, "y_units": "model"}), prior=prior)
    assert torch.equal(model.observations.read(torch.ones(1, 2))[1], torch.ones(1, 2))


def test_units_of_the_file_are_refused_where_observations_have_others(host: Host) -> None:
    images = host.create("data:digits", {})
    prior = host.create("score:analytic", {"gaussian": True}, data=images)
    with pytest.raises(ConfigError, match="y_units: file was set for score:mmps, and the events of the prior have bou"):
        host.create("score:mmps", {"operator": MASK, "y_units": "file"}, prior=prior)
    points = 1e3 + 50 * normal(100, 3).float()
    scale = EventScale(shift=1e3, factor=50.0)
    table = TensorSource({"train": Dataset((points - 1e3) / 50)}, scale)
    prior = host.create("score:analytic", {"gaussian": True}, data=table)
    seen = host.create("data:paired", {"operator": SUMS}, data=table)
    with pytest.raises(ConfigError, match="the data plugged in hold observations of scaled events"):
        host.create("score:mmps", {"y_units": "file"}, prior=prior, data=seen)


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_diffpir_takes_the_proximal_point_of_the_denoised_estimate(
    noise_std: float, gaussian: Any, prior_of: Any
) -> None:
    """argmin |y - A x|^2 / noise_std^2 + |x - x0-hat|^2 / sigma^2, solved densely."""
    prior = prior_of(gaussian(12), VE(0.01, 20.0), SHAPE)
    model = DPS(DiffPIRConfig.model_validate({"operator": BOX, "noise_std": noise_std}), prior=prior)
    a = model.observations.operator
    rows = a(torch.eye(12, dtype=torch.float64).reshape(12, *SHAPE)).flatten(1).mT
    y = a(normal(1, *SHAPE, seed=1))
    x, t = normal(1, *SHAPE, seed=2), torch.full((1,), 0.4, dtype=torch.float64)
    sigma = float(prior.process.noise_to_signal(t))
    clean = prior.denoise(x, t).flatten()
    if noise_std:
        matrix = rows.mT @ rows / noise_std**2 + torch.eye(12, dtype=torch.float64) / sigma**2
        wanted = torch.linalg.solve(matrix, rows.mT @ y.flatten() / noise_std**2 + clean / sigma**2)
    else:
        wanted = clean + torch.linalg.pinv(rows) @ (y.flatten() - rows @ clean)
    assert torch.allclose(model.denoise(x, t, y).flatten(), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["ve", "vp"])
@pytest.mark.parametrize("operator", [MASK, BOX])
@pytest.mark.parametrize("noise_std", [0.0, 0.25])
def test_daps_draws_the_posterior_of_data_of_one_variance(
    name: str, operator: Any, noise_std: float, distribution: Any, prior_of: Any, moments_of: Any
) -> None:
    """Mean and covariance of the draws, exactly, from a linear map of unit impulses."""
    process = {"ve": VE(0.01, 200.0), "vp": VP()}[name]
    data = distribution(torch.zeros(12, dtype=torch.float64), 0.49 * torch.eye(12, dtype=torch.float64))
    config = DAPSConfig.model_validate({"operator": operator, "noise_std": noise_std, "ode_steps": 0})
    model = DAPS(config, prior=prior_of(data, process, SHAPE))
    a = model.observations.operator
    y = a(normal(1, *SHAPE, seed=1))
    posterior = data.given(a, y, noise_std)
    mean, covariance = moments_of(model, y[0], draws=20, steps=4, to_zero=True)
    assert torch.allclose(mean, posterior.mean, atol=2e-3)
    assert torch.allclose(covariance, posterior.covariance, atol=2e-3)


def test_daps_keeps_the_observation_and_its_noise_of_the_last_level(gaussian: Any, prior_of: Any) -> None:
    model = DAPS(DAPSConfig.model_validate({"operator": BOX}), prior=prior_of(gaussian(12), VE(0.01, 20.0), SHAPE))
    a = model.observations.operator
    y = a(normal(2, *SHAPE, seed=1))
    drawn = model.sample(3, y, steps=4, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 2, *SHAPE)
    assert torch.allclose(a(drawn.flatten(0, 1)), y.repeat(3, 1, 1, 1), atol=1e-8)
    noisy = model.sample(200, y[:1], steps=4, to_zero=False, generator=torch.Generator().manual_seed(0))
    off = a(noisy.flatten(0, 1)) - y[:1]
    # Means of four pixels with noise of 0.01 each.
    assert float(off.std()) == pytest.approx(0.005, rel=0.15)


def test_the_ode_ends_where_the_gaussian_flow_does(distribution: Any, prior_of: Any) -> None:
    """The flow of N(0, s^2) scales by (s^2 + end^2)^(1/2) / (s^2 + sigma^2)^(1/2), then the end is denoised."""
    s, sigma, end = 0.7, 3.0, 0.01
    data = distribution(torch.zeros(12, dtype=torch.float64), s**2 * torch.eye(12, dtype=torch.float64))
    process = VE(end, 20.0)
    model = DAPS(DAPSConfig.model_validate({"operator": BOX, "ode_steps": 2000}), prior=prior_of(data, process, SHAPE))
    x = normal(1, *SHAPE)
    t = process.time_at(torch.tensor([sigma], dtype=torch.float64))
    found = model._centre(x, t, "ddim", None)
    factor = ((s**2 + end**2) / (s**2 + sigma**2)) ** 0.5 * s**2 / (s**2 + end**2)
    assert torch.allclose(found, factor * x, rtol=5e-3)


def test_settings_that_do_not_fit_are_refused(gaussian: Any, prior_of: Any) -> None:
    with pytest.raises(ValueError, match="covariance is for pigdm"):
        DPSConfig.model_validate({"operator": BOX, "variant": "diffpir", "covariance": "tweedie"})
    model = DAPS(DAPSConfig.model_validate({"operator": BOX}), prior=prior_of(gaussian(12), VE(0.01, 20.0), SHAPE))
    with pytest.raises(ConfigError, match=r"guidance = 2\.0 was asked of score:daps"):
        model.sample(1, torch.zeros(1, 3, 1, 1, dtype=torch.float64), guidance=2.0)
    with pytest.raises(ConfigError, match="euler-maruyama was asked of score:daps, which solves an ODE"):
        model.sample(1, torch.zeros(1, 3, 1, 1, dtype=torch.float64), sampler="euler-maruyama")
    without = model.sample(2, steps=3, generator=torch.Generator().manual_seed(0))
    assert without.shape == (2, *SHAPE)


@pytest.mark.parametrize("name", ["dps", "diffpir", "tmpd", "mmps", "daps", "repaint"])
def test_the_operator_of_the_data_is_taken_where_none_is_set(name: str, host: Host) -> None:
    digits = host.create("data:digits", {"limit": 60})
    prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=digits)
    pixels = host.create("data:paired", {"operator": MASK}, data=digits)
    plugged = host.create(f"score:{name}", {}, prior=prior, data=pixels)
    named = host.create(f"score:{name}", {"operator": MASK}, prior=prior)
    points = pixels.load("test").take(torch.arange(2))
    x, t = points.x + 0.3, torch.full((2,), 0.4)
    assert torch.equal(plugged.score(x, t, points.condition), named.score(x, t, points.condition))
    halved = host.create("data:paired", {"operator": BOX}, data=digits)
    both = host.create(f"score:{name}", {"operator": MASK}, prior=prior, data=halved)
    assert both.condition_spec == named.condition_spec, "the config goes before the data"


@pytest.mark.parametrize("name", ["diffpir", "tmpd", "mmps", "daps"])
def test_the_noise_of_the_data_is_taken_where_none_is_set(name: str, host: Host) -> None:
    digits = host.create("data:digits", {"limit": 60})
    prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=digits)
    noisy = host.create("data:paired", {"operator": MASK, "noise_std": 0.2}, data=digits)
    points = noisy.load("test").take(torch.arange(2))
    x, t = points.x + 0.3, torch.full((2,), 0.4)
    plugged, named, exact = (
        host.create(f"score:{name}", config, prior=prior, data=noisy).score(x, t, points.condition)
        for config in ({}, {"noise_std": 0.2}, {"noise_std": 0})
    )
    assert torch.equal(plugged, named)
    assert not torch.allclose(plugged, exact)


def test_noise_that_a_solver_does_not_take_is_said(host: Host) -> None:
    digits = host.create("data:digits", {"limit": 60})
    prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=digits)
    photons = host.create("data:paired", {"operator": MASK, "poisson_peak": 20, "noise_std": 0.1}, data=digits)
    for name in ("diffpir", "tmpd", "mmps", "daps"):
        with pytest.raises(ConfigError, match=f"noise of photons .*, and score:{name} takes Gaussian noise") as failed:
            host.create(f"score:{name}", {}, prior=prior, data=photons)
        assert str(failed.value.hint).startswith("set noise_std")
        assert host.create(f"score:{name}", {"noise_std": 0.2}, prior=prior, data=photons).noise_std == 0.2
    host.create("score:dps", {}, prior=prior, data=photons)  # its guidance reads no noise
    with pytest.warns(UserWarning, match=r"\(Poisson counts and Gaussian of deviation 0.1\), and score:repaint"):
        host.create("score:repaint", {}, prior=prior, data=photons)
    host.create("score:repaint", {}, prior=prior, data=host.create("data:paired", {"operator": MASK}, data=digits))


def test_data_in_another_range_than_the_prior_are_refused(host: Host) -> None:
    prior = host.create("score:analytic", {"gaussian": True}, data=host.create("data:digits", {"limit": 60}))
    signed = host.create("data:digits", {"limit": 60, "range": [-1, 1]})
    pairs = host.create("data:paired", {"operator": MASK}, data=signed)
    with pytest.raises(ConfigError, match="the data lie between -1 and 1, and the events of the prior") as failed:
        host.create("score:mmps", {}, prior=prior, data=pairs)
    assert "range: [0, 1]" in str(failed.value.hint)


def test_data_in_other_units_than_the_prior_are_refused_or_warned_of(host: Host, tmp_path: Path) -> None:
    rows = torch.randn(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
    one, far, pairs = tmp_path / "one.npy", tmp_path / "far.npy", {}
    np.save(one, rows)
    np.save(far, 1000 + 50 * rows)
    tables = {"one": {"path": str(one)}, "far": {"path": str(far)}, "scaled": {"path": str(far), "scale": "table"}}
    data = {name: host.create("data:array", config) for name, config in tables.items()}
    for name, each in data.items():
        pairs[name] = host.create("data:paired", {"operator": MASK, "noise_std": 0.2}, data=each)
    priors = {
        name: host.create("score:analytic", {"gaussian": True, "process": {"name": "ve", "relative": True}}, data=each)
        for name, each in data.items()
    }
    for name in data:
        assert host.create("score:mmps", {}, prior=priors[name], data=pairs[name]).remarks == ()
    (said,) = host.create("score:mmps", {}, prior=priors["one"], data=pairs["far"]).remarks
    assert re.match(
        r"the data of score:mmps lie [\d.e+]+ deviations from the data of its prior, and spread 50 times", said
    )
    for prior, given in (("one", "scaled"), ("scaled", "far")):
        with pytest.raises(ConfigError, match="the data of score:mmps are scaled with shift") as failed:
            host.create("score:mmps", {}, prior=priors[prior], data=pairs[given])
        assert "the prior was trained on" in str(failed.value.hint)


SOLVERS = {
    "dps": (DPS, DPSConfig, {}),
    "mmps": (DPS, MMPSConfig, {"noise_std": 0.2}),
    "tmpd": (DPS, TMPDConfig, {"noise_std": 0.2}),
    "diffpir": (DPS, DiffPIRConfig, {"noise_std": 0.2}),
    "daps": (DAPS, DAPSConfig, {"noise_std": 0.2}),
    "repaint": (RePaint, RePaintConfig, {}),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_an_observation_that_is_not_finite_is_refused(name: str, wrong: float, gaussian: Any, prior_of: Any) -> None:
    """Some solvers gave samples of the prior, as if nothing had been observed."""
    solver, config, fields = SOLVERS[name]
    prior = prior_of(gaussian(12), VE(0.01, 20.0), SHAPE)
    model = solver(config.model_validate({"operator": MASK, **fields}), prior=prior)
    y = torch.zeros(2, *SHAPE, dtype=torch.float64)
    y[1, 2, 0, 1] = wrong
    with pytest.raises(DataError, match=rf"the condition is {wrong} in row 1 at position \(2, 0, 1\)") as failed:
        model.sample(3, y, steps=2)
    assert "set them to 0" in str(failed.value.hint)


@pytest.mark.parametrize("name", SOLVERS)
def test_an_observation_may_be_an_array_of_numpy(name: str, gaussian: Any, prior_of: Any) -> None:
    solver, config, fields = SOLVERS[name]
    model = solver(
        config.model_validate({"operator": MASK, **fields}), prior=prior_of(gaussian(12), VE(0.01, 20.0), SHAPE)
    )
    y = np.ones((2, *SHAPE), dtype=np.float32)
    y[0] = 2
    flipped, big = y[::-1], y.astype(">f4")
    drawn = [
        model.sample(2, given, steps=2, generator=torch.Generator().manual_seed(0))
        for given in (y, torch.tensor(y).double(), big, flipped[::-1])
    ]
    assert all(torch.equal(one, drawn[0]) for one in drawn)
    with pytest.raises(DataError, match="an array of complex64; expected real numbers"):
        model.sample(2, y * 1j, steps=2)


@pytest.mark.parametrize("name", SOLVERS)
def test_noise_that_nobody_gave_is_said_to_be_none(name: str, gaussian: Any, prior_of: Any) -> None:
    solver, config, fields = SOLVERS[name]
    prior = prior_of(gaussian(12), VE(0.01, 20.0), SHAPE)
    given, silent = ({"operator": MASK, **more} for more in (fields, {}))
    assert solver(config.model_validate(given), prior=prior).remarks == ()
    said = solver(config.model_validate(silent), prior=prior).remarks
    assert said == ((EXACT,) if "noise_std" in fields else ())


@pytest.mark.parametrize("name", SOLVERS)
def test_an_observation_far_from_those_of_the_prior_is_warned_of(
    name: str, distribution: Any, gaussian: Any, prior_of: Any
) -> None:
    """Observations of 200 events are near, also where the mean of each number is far from the mean of all."""
    solver, config, fields = SOLVERS[name]
    covariance = gaussian(12).covariance
    data = distribution(100 * normal(12), covariance)
    prior = prior_of(data, VE(0.01, 2e4), SHAPE)
    model = solver(config.model_validate({"operator": MASK, **fields}), prior=prior)
    x = data.mean + normal(200, 12, seed=5) @ torch.linalg.cholesky(covariance).mT
    y = model.observations.operator(x.reshape(200, *SHAPE)) + 0.2 * normal(200, *SHAPE, seed=6)
    assert far_conditions(model, y) == far_conditions(model, y[:0]) == ""
    y[3] += 20
    assert far_conditions(model, y).startswith("1 of 200 conditions lies outside the range of the training data")


def test_solvers_without_an_operator_are_refused(host: Host) -> None:
    digits = host.create("data:digits", {"limit": 60})
    prior = host.create("score:analytic", {"gaussian": True, "process": "vp"}, data=digits)
    with pytest.raises(ConfigError, match="score:dps has no operator"):
        host.create("score:dps", {}, prior=prior)
    with pytest.raises(ConfigError, match="score:dps has no operator"):
        host.create("score:dps", {}, prior=prior, data=digits)
    other = host.create("data:paired", {"operator": MASK}, data=host.create("data:photographs", {}))
    with pytest.raises(ConfigError, match=r"the operator of the data takes events of shape .* prior of score:dps"):
        host.create("score:dps", {}, prior=prior, data=other)
    assert host.create("score:repaint", {}, prior=prior).observations.spec.shape == (1, 8, 8), "a mask"


PAGE = Path(__file__).parents[4] / "docs" / "solvers.md"


def test_the_solver_that_the_page_shows_is_exact(
    distribution: Any, prior_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normal events of one variance, seen through a mask."""
    (code,) = re.findall(r"^```python\n(# my_solver.py\n.*?)^```", PAGE.read_text(), re.M | re.S)
    (tmp_path / "my_solver.py").write_text(code)
    monkeypatch.setenv("SCOREFOLD_DEV_PLUGINS", str(tmp_path / "my_solver.py"))
    data = distribution(torch.zeros(12, dtype=torch.float64), 4 * torch.eye(12, dtype=torch.float64))
    host = Host.discover()
    for process in (VE(0.01, 20.0), VP()):
        prior = prior_of(data, process, SHAPE)
        prior.event_scale = EventScale(std=2.0)
        model = host.create("score:pull", {"operator": MASK, "noise_std": 0.5}, prior=prior)
        a = model.observations.operator
        y = a(normal(1, *SHAPE, seed=1))
        for found, wanted in scores(model, data.given(a, y, 0.5), y):
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("undrawn")
def test_one_comparison_has_any_solver_on_any_operator(host: Host, tmp_path: Path) -> None:
    """A prior is trained once for each case, without the observations of its data."""
    cases = tmp_path / "cases.yaml"
    pairs = "use: data:paired, inputs: {data: {use: data:digits, config: {limit: 100}}}, options: {conditions: 4, n: 2}"
    cases.write_text(
        f"halved: {{{pairs}, config: {{operator: {{name: box-downsample}}}}}}\n"
        f"pixels: {{{pairs}, config: {{operator: {{name: mask, region: pixels}}}}}}\n"
    )
    found = compare(
        host,
        "SolvesInverse",
        only=["diffpir", "repaint"],
        on=[str(cases)],
        plugged={"prior": "score:denoising"},
        fields={
            "denoising.unconditional": True,
            "denoising.network": {"use": "network:mlp", "config": {"width": 8, "blocks": 1}},
            "denoising.training.steps": 3,
            "repaint.resamples": 1,
        },
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    assert {(row.component, row.case) for row in found.rows} == {
        (f"score:{name}", case) for case in ("halved", "pixels") for name in ("diffpir", "repaint")
    }
    assert [row.error for row in found.rows] == [None] * 4
    assert all(row.quantity == "PSNR (dB)" and row.network_calls for row in found.rows)
    assert {row.uses for row in found.rows} == {("score:denoising",)}

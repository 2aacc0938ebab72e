"""Scores given several observations: exact posteriors of Gaussians, the bias of the plain sum, and wrong inputs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scorefold.data import Condition, EventScale, TensorSpec
from scorefold.diffusion import VE, VP, DiffusionProcess, GeometricVE, PerComponent
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold_conditional import compositional
from scorefold_conditional.compositional import Compositional, _gained
from scorefold_conditional.config import CompositionalConfig
from scorefold_registry import Host
from scorefold_toolkit.matrix_process import MatrixProcess
from scorefold_toolkit.nn.conditions import ConditionRange, far_conditions
from scorefold_toolkit.training import fit

PARAMETERS, OBSERVED, COUNT = 3, 2, 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear:
    """x = A theta + noise of a parameter theta ~ N(mean, covariance), with its posteriors in closed form."""

    def __init__(self, prior: Any, a: Tensor, noise: Tensor) -> None:
        self.prior, self.a, self.information = prior, a, torch.linalg.inv(noise)

    def given(self, x: Tensor) -> Any:
        """The posterior given rows x (n, X)."""
        inverse = torch.linalg.inv(self.prior.covariance)
        covariance = torch.linalg.inv(inverse + len(x) * self.a.mT @ self.information @ self.a)
        natural = inverse @ self.prior.mean + self.a.mT @ self.information @ x.sum(0)
        return type(self.prior)(covariance @ natural, covariance)


class Single(ScoreModel):
    """The exact score of the posterior given one observation; without one, of the prior."""

    def __init__(self, pair: Linear, process: DiffusionProcess, spec: Any = None) -> None:
        super().__init__(process, (len(pair.prior.mean),), spec or TensorSpec((len(pair.a),)), EventScale())
        self.pair = pair
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        if condition is None:
            return self.pair.prior.score(self.process, x, t)
        assert isinstance(condition, Tensor)
        at_zero = self.pair.given(torch.zeros_like(condition[:1]))
        gain = at_zero.covariance @ self.pair.a.mT @ self.pair.information
        shift = self.process.marginal(condition @ gain.mT, t)[0]
        return at_zero.score(self.process, x - shift, t)


@pytest.fixture
def pair(gaussian: Any) -> Linear:
    return Linear(gaussian(PARAMETERS), normal(OBSERVED, PARAMETERS, seed=7), gaussian(OBSERVED, 8).covariance)


def processes() -> dict[str, DiffusionProcess]:
    speeds = torch.linspace(0, 1, PARAMETERS, dtype=torch.float64)
    bands = PerComponent((PARAMETERS,), GeometricVE(0.01 + 0.01 * speeds, 10 + 20 * speeds))
    eye = torch.eye(PARAMETERS, dtype=torch.float64)
    drift = 0.4 * normal(PARAMETERS, PARAMETERS, seed=5) - 0.7 * eye
    coupled = MatrixProcess(drift, 1.4 * eye, (PARAMETERS,), start=1e-4 * eye)
    return {"ve": VE(0.01, 20.0), "vp": VP(), "per-component": bands, "matrix": coupled}


def composed(pair: Linear, process: DiffusionProcess, *, prior: Any = None, **config: Any) -> Compositional:
    settings = CompositionalConfig.model_validate({"observations": COUNT, "rule": "jacobian", **config})
    return Compositional(settings, posterior=Single(pair, process), prior=prior)


@pytest.mark.parametrize("name", ["ve", "vp", "per-component", "matrix"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("own_prior", [True, False])
def test_it_is_the_score_of_the_gaussian_posterior(
    name: str, share: float, own_prior: bool, pair: Linear, prior_of: Any
) -> None:
    process = processes()[name]
    prior = prior_of(pair.prior, process, (PARAMETERS,)) if own_prior else None
    model = composed(pair, process, prior=prior)
    y, x = normal(2, COUNT, OBSERVED, seed=3), normal(2, PARAMETERS, seed=2)
    t = torch.full((2,), process.t_min + share * (process.t_max - process.t_min), dtype=torch.float64)
    wanted = torch.cat([pair.given(y[k]).score(process, x[k, None], t[:1]) for k in range(2)])
    assert torch.allclose(model.score(x, t, y), wanted, rtol=1e-6, atol=1e-6)
    # The order of the observations doesn't matter, and without any it is the prior's.
    assert torch.allclose(model.score(x, t, y.flip(1)), wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(model.score(x, t), pair.prior.score(process, x, t))


@pytest.mark.parametrize(("rule", "variance"), [("jacobian", 0.2), ("sum", 0.0625)])
def test_samples_of_the_plain_sum_are_too_narrow(
    rule: str, variance: float, distribution: Any, moments_of: Any
) -> None:
    """theta ~ N(0, 1) and four observations with noise of variance 1: the posterior has variance 1 / 5. Each single
    posterior has v = 1 / 2, and the probability flow of the plain sum ends at v^4."""
    one, process = torch.ones(1, 1, dtype=torch.float64), VE(0.001, 200.0)
    model = composed(Linear(distribution(torch.zeros(1, dtype=torch.float64), one), one, one), process, rule=rule)
    y = torch.full((COUNT, 1), 0.5, dtype=torch.float64)
    mean, covariance = moments_of(model, y, draws=1, sampler="heun", steps=400, spacing="karras", to_zero=True)
    assert float(covariance) == pytest.approx(variance, rel=0.01)
    if rule == "jacobian":
        assert float(mean) == pytest.approx(0.4, rel=0.01)


def test_precisions_from_samples_agree_with_the_posterior_up_to_their_number(pair: Linear, prior_of: Any) -> None:
    """With 3,000 samples the score is within some per cent of the posterior's, and samples are drawn once for a set."""
    process = VE(0.01, 20.0)
    prior = prior_of(pair.prior, process, (PARAMETERS,))
    model = composed(pair, process, prior=prior, rule="samples", samples=3000)
    y, x = normal(1, COUNT, OBSERVED, seed=3), normal(2, PARAMETERS, seed=2)
    bound = model.bind(y)
    before = prior.calls
    for share in (0.1, 0.9):
        t = torch.full((2,), process.t_min + share * (process.t_max - process.t_min), dtype=torch.float64)
        wanted = pair.given(y[0]).score(process, x, t)
        found = bound(x, t)
        assert torch.allclose(found, wanted, rtol=0.1, atol=0.05 * float(wanted.abs().max()))
        assert torch.equal(model.score(x, t, y.expand(2, -1, -1)), found)
    assert prior.calls == before + 4
    assert torch.equal(composed(pair, process, prior=prior, rule="samples", samples=3000).score(x, t, y), found)
    model.posterior.unit.mul_(1.0)  # as a step of training changes a weight
    model.score(x, t, y)
    assert prior.calls > before + 10, "samples are drawn anew for other weights"
    mixed = model.bind(y, guidance=2.0)(x, t)
    assert torch.allclose(mixed, 2 * found - prior.score(x, t))


def test_precisions_are_kept_to_a_bound_and_stay_out_of_files(pair: Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    model = composed(pair, VE(0.01, 20.0), rule="samples", samples=20)
    size = len(pickle.dumps(model))
    x, t, y = normal(9, PARAMETERS), torch.full((9,), 0.5, dtype=torch.float64), normal(9, COUNT, OBSERVED)
    found = model.score(x, t, y)
    numbers = COUNT * PARAMETERS**2
    assert all(kept.untyped_storage().nbytes() == 8 * numbers for kept in model._gains.values())
    data = pickle.dumps(model)
    assert len(data) == size
    again = pickle.loads(data)
    assert torch.equal(again.score(x, t, y), found)
    monkeypatch.setattr(compositional, "_KEPT", 3 * (numbers + COUNT * OBSERVED))
    assert torch.allclose(model.score(x + 1, t, y + 1)[:2], model.score(x[:2] + 1, t[:2], y[:2] + 1))
    assert len(model._gains) == 3


def test_observations_outside_the_training_range_are_warned_of(pair: Linear) -> None:
    model = composed(pair, VE(0.01, 20.0))
    y = normal(5, COUNT, OBSERVED)
    y[3, 2, 1] = 1e3
    assert far_conditions(model, y) == ""
    model.posterior.condition_range = ConditionRange(TensorSpec((OBSERVED,)))
    model.posterior.condition_range.prepare(normal(100, OBSERVED, seed=1))
    assert far_conditions(model, y).startswith("1 of 5 conditions lies outside")
    assert far_conditions(model, y[:3]) == far_conditions(model, y[:0]) == ""


@pytest.mark.parametrize("rule", ["samples", "jacobian", "sum"])
def test_a_sum_of_scores_is_said_to_be_narrow(rule: str, pair: Linear) -> None:
    said = composed(pair, VE(0.01, 20.0), rule=rule).remarks
    assert said == ((compositional.NARROW,) if rule == "sum" else ())


def test_an_observation_that_is_not_finite_is_refused(pair: Linear) -> None:
    y = normal(2, COUNT, OBSERVED)
    y[1, 2, 1] = torch.nan
    with pytest.raises(DataError, match=r"the condition is nan in row 1 at position \(2, 1\)"):
        composed(pair, VE(0.01, 20.0)).sample(2, y)


@pytest.mark.parametrize("rule", ["samples", "jacobian", "sum"])
def test_no_events_have_no_scores(rule: str, pair: Linear) -> None:
    model = composed(pair, VE(0.01, 20.0), rule=rule, samples=20)
    none = [torch.zeros(0, *shape, dtype=torch.float64) for shape in ((PARAMETERS,), (), (COUNT, OBSERVED))]
    assert model.score(*none).shape == (0, PARAMETERS)


def test_gradients_of_weights_by_torch_func(pair: Linear) -> None:
    model = composed(pair, VE(0.01, 20.0), rule="samples", samples=20)
    x, t, y = normal(1, PARAMETERS), torch.full((1,), 0.5, dtype=torch.float64), normal(1, COUNT, OBSERVED)
    bare = torch.nn.Module()
    bare.model, bare.forward = model, lambda: model.score(x, t, y).sum()

    def scored(unit: Tensor) -> Tensor:
        return torch.func.functional_call(bare, {"model.posterior.unit": unit}, ())

    assert torch.func.grad(scored)(torch.ones((), dtype=torch.float64)) == 0, "the exact score reads no weight"


def test_information_below_0_counts_as_none(distribution: Any) -> None:
    """A single posterior that is wider than the prior, as small samples can have it, doesn't widen the result."""
    base = torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
    rotation = torch.linalg.qr(normal(2, 2))[0]
    wide = torch.stack([0.5 * base, base + rotation @ torch.diag(torch.tensor([3.0, 0.0]).double()) @ rotation.mT])
    found = _gained(base, wide[None])[0]
    assert torch.allclose(found[0], torch.zeros(2, 2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found[1], wide[1] - base, atol=1e-12)


def test_trained_scores_of_one_observation_give_the_posterior_of_five(host: Host) -> None:
    """theta ~ N(0, I / 10) and x = theta + noise of variance 1 / 10: five observations leave a variance of 1 / 60."""
    config = {"task": "gaussian-linear", "simulations": 6000, "seed": 0}
    data = host.create("data:sbibm", config)
    common = {
        "network": {"use": "network:mlp", "config": {"width": 64, "blocks": 2}},
        "process": {"name": "ve", "sigma_min": 0.01, "sigma_max": 10},
        "training": {"steps": 1000, "batch_size": 256},
    }
    parts = {}
    for name, own in (("conditional", {"estimator": "cde"}), ("denoising", {"unconditional": True})):
        parts[name] = host.create(f"score:{name}", {**common, **own}, data=data)
        fit(parts[name], data.load("train"), parts[name].training_config, seed=0)
    several = host.create("data:sbibm", {**config, "simulations": 10, "observations": 5, "seed": 1}).load("test")
    points = several.take(torch.arange(20))
    posterior = 10 * points.condition.sum(1) / 60
    found = {}
    for rule in ("samples", "sum"):
        inputs = {"posterior": parts["conditional"], "prior": parts["denoising"]}
        model = host.create("score:compositional", {"observations": 5, "rule": rule}, **inputs)
        drawn = model.sample(100, points.condition, generator=torch.Generator().manual_seed(0))
        off = (drawn.mean(0) - posterior).square().mean().sqrt() * 60**0.5
        found[rule] = (float(off), float(drawn.var(0).mean()) * 60)
    assert found["samples"][0] < 0.4  # standard deviations of the posterior
    assert 0.8 < found["samples"][1] < 1.25
    assert found["sum"][1] < 0.25


def test_devices_without_float64_are_served(tmp_path: Path) -> None:
    """The simulated device refuses float64 here, as Apple's devices do. It stays for the rest of a process."""
    script = tmp_path / "single.py"
    script.write_text(SINGLE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


SINGLE = """
import sys
import torch
from torch.overrides import TorchFunctionMode
from scorefold_conditional import compositional
from scorefold_registry import Host
from scorefold_testing.simulated import activate

activate()
compositional._SINGLE = ("simulated",)


class NoDoubles(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, (list, tuple)) else (found,):
            if isinstance(value, torch.Tensor) and value.device.type == "simulated":
                matrices = sys._getframe(1).f_code.co_filename.endswith(("compositional.py", "numerics.py"))
                assert not matrices or value.dtype != torch.float64, func
        return found


host = Host.discover()
data = host.create("data:sbibm", {"task": "two-moons", "simulations": 100})
small = {"network": {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}, "training": {"steps": 0}}
x, t, y = torch.ones(2, 2), torch.full((2,), 0.5), torch.ones(1, 3, 2)
for rule in ("samples", "jacobian", "sum"):
    one = host.create("score:conditional", {**small, "estimator": "cde", "condition_dropout": 0.2}, data=data)
    model = host.create("score:compositional", {"observations": 3, "rule": rule, "samples": 12}, posterior=one)
    wanted = model.score(x, t, y)
    model.to("simulated")
    with NoDoubles():
        found = model.score(*(value.to("simulated") for value in (x, t, y)))
    assert found.device.type == "simulated"
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-3, atol=1e-4)
"""


def test_inputs_that_do_not_fit_are_refused(pair: Linear, prior_of: Any, build: Any) -> None:
    process = VE(0.01, 20.0)
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        composed(pair, process, observations=1)
    with pytest.raises(ConfigError, match="samples is 12, and events have 3 numbers; expected at least 13 samples"):
        composed(pair, process, rule="samples", samples=12)
    other = prior_of(pair.prior, VE(0.01, 30.0), (PARAMETERS,))
    with pytest.raises(ConfigError, match=r"the processes of the posterior and the prior .* differ") as failed:
        composed(pair, process, prior=other)
    assert "train both with the same process" in str(failed.value.hint)
    with pytest.raises(ConfigError, match="differ"):
        composed(pair, process, prior=prior_of(pair.prior, VP(), (PARAMETERS,)))
    wide = prior_of(pair.prior, process, (1, PARAMETERS))
    with pytest.raises(ConfigError, match=r"events of shape \(1, 3\); the posterior has \(3,\)"):
        composed(pair, process, prior=wide)
    settings = CompositionalConfig(observations=COUNT)
    with pytest.raises(ConfigError, match="takes no condition; expected one tensor"):
        Compositional(settings, posterior=prior_of(pair.prior, process, (PARAMETERS,)))
    parts = {"x": TensorSpec((2,)), "y": TensorSpec((2,))}
    with pytest.raises(ConfigError, match=r"a condition of parts \(x, y\); expected one tensor"):
        Compositional(settings, posterior=Single(pair, process, parts))
    with pytest.raises(ConfigError, match=r"the condition of the posterior diffuses \(estimator: cmde\)"):
        Compositional(settings, posterior=build(estimator="cmde").eval())
    with pytest.raises(ConfigError, match="never trained"):
        Compositional(settings, posterior=build(estimator="cde"))
    with pytest.raises(ConfigError, match="has no prior, and its posterior can't be called without") as failed:
        Compositional(settings, posterior=build(estimator="cde").eval())
    assert "condition_dropout" in str(failed.value.hint)
    conditional = build(estimator="cde").eval()
    with pytest.raises(ConfigError, match="expected an unconditional score"):
        Compositional(settings, posterior=conditional, prior=conditional)
    model = composed(pair, process)
    x, t = normal(2, PARAMETERS), torch.full((2,), 0.5, dtype=torch.float64)
    for shape in ((2, OBSERVED), (2, COUNT + 1, OBSERVED), (2, COUNT, OBSERVED + 1)):
        with pytest.raises(ShapeError, match=r"expected \(C, 4, 2\), 4 observations of each event"):
            model.score(x, t, torch.zeros(shape, dtype=torch.float64))

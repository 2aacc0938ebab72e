"""Input that can't give a dimension, or only one with a warning: every estimator says which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError, ScorefoldError, ShapeError
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.estimators.config import DenoisingLossDimensionConfig
from scorefold_iddiff.estimators.denoising_loss import DenoisingLoss
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_registry import Host, run_file
from scorefold_toolkit.distributions import Points, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeFrame = Callable[..., Tensor]

SCORED: dict[str, dict[str, Any]] = {
    "iddiff": {"sigma": 0.01, "sweep": [], "resamples": 0},
    "flipd": {"sigma": 0.01, "sweep": []},
    "denoising-loss": {"sigma": 0.01, "sweep": [], "draws": 32},
    "spectral-lanczos": {"sigma": 0.01},
}
ALL = [*SCORED, "lidl"]
AMBIENT, RANK = 8, 3

scored = pytest.mark.parametrize("name", list(SCORED))
every = pytest.mark.parametrize("name", ALL)


def plane(basis: Tensor, points: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(points, basis.shape[1], dtype=torch.float64, generator=generator) @ basis.T


def distribution(basis: Tensor) -> SubspaceGaussian:
    return SubspaceGaussian(basis.new_zeros(len(basis)), basis, basis.new_ones(basis.shape[1]))


def read(host: Host, name: str, x: Any, score: Any, **config: Any) -> Estimate:
    """The estimate as a user asks for it; LIDL gets a flow of as many coordinates that trains for three steps."""
    if name != "lidl":
        return answer(host.create(f"estimator:{name}", {**SCORED[name], **config}, score=score), x)
    source = {"dimension": 1, "ambient": score.event_shape[0], "points": 50}
    flow = host.create(
        "flow:affine-coupling",
        {"layers": 2, "hidden": [8], "training": {"steps": 3, "warmup": 1}},
        data=host.create("data:subspace", source),
        dtype=next(score.buffers()).dtype,
    )
    return answer(host.create("estimator:lidl", {"levels": [0.01, 0.03]}, flow=flow), x)


def answer(estimator: Any, x: Any) -> Estimate:
    found = estimator.estimate(x)
    assert isinstance(found, Estimate)
    return found


def warned(found: Estimate, text: str) -> bool:
    """Whether a warning says so; no warning is in the note too."""
    warnings = found.diagnostics["warnings"]
    assert not any(warning in found.diagnostics["note"] for warning in warnings)
    return any(text in warning for warning in warnings)


def with_value(x: Tensor, value: float) -> Tensor:
    return x.index_put((torch.tensor([3]), torch.tensor([2])), x.new_tensor(value))


REFUSED: dict[str, tuple[Callable[[Tensor], Any], type[ScorefoldError], str]] = {
    "nan": (
        lambda x: with_value(x, torch.nan),
        DataError,
        "1 coordinate of the data is not finite, the first in row 3",
    ),
    "infinity": (lambda x: with_value(x, torch.inf), DataError, "not finite, the first in row 3"),
    "no point": (lambda x: x[:0], DataError, "the split has 0 points; at least 2"),
    "one point": (lambda x: x[:1], DataError, "the split has 1 point; at least 2"),
    "nothing": (lambda x: None, DataError, "data is a NoneType; expected a tensor"),
    "an array": (lambda x: x.numpy(), DataError, "data is a ndarray; expected a tensor"),
    "numbers": (lambda x: x[:, 0], ShapeError, r"expected \(N, \*E\)"),
    "integers": (lambda x: x.long(), ShapeError, "x is torch.int64"),
    "other events": (lambda x: x[:, :5], ShapeError, r"takes \(B, 8\)"),
    "images": (lambda x: x.reshape(-1, 2, 4), ShapeError, r"takes \(B, 8\)"),
}


@every
@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_no_data_for_the_model_is_refused(
    case: str, name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    basis = make_frame(AMBIENT, RANK)
    spoil, error, said = REFUSED[case]
    with pytest.raises(error, match=said):
        read(host, name, spoil(plane(basis)), make_score(distribution(basis), (AMBIENT,)))


@every
def test_a_value_that_is_not_finite_is_found_among_points_that_are_not_read(
    name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    basis = make_frame(AMBIENT, RANK)
    x, score = plane(basis, 400), make_score(distribution(basis), (AMBIENT,))
    taken = set(read(host, name, x, score).diagnostics["index"].tolist())
    row = next(row for row in range(400) if row not in taken)
    x[row, :2] = torch.nan
    with pytest.raises(DataError, match=f"2 coordinates of the data are not finite, the first in row {row}"):
        read(host, name, x, score)


@every
def test_numbers_too_coarse_for_the_noise_are_refused_and_finer_ones_are_read(
    name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    """Data around 1e8: float32 steps by 8 there, float64 by 1e-8."""
    basis = make_frame(AMBIENT, RANK)
    far = SubspaceGaussian(torch.full((AMBIENT,), 1e8, dtype=torch.float64), basis, torch.ones(RANK).double())
    x = plane(basis) + 1e8
    with pytest.raises(DataError, match=r"reach 1e\+08, where torch.float32 .* coarse.*\n.*dtype: float64"):
        read(host, name, x.float(), make_score(far, (AMBIENT,), dtype=torch.float32))
    if name != "lidl":
        assert read(host, name, x, make_score(far, (AMBIENT,))).value == pytest.approx(RANK, abs=0.6)


WARNED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "copies": (lambda x: x[:10].repeat(8, 1), "88% of the rows are copies"),
    "one point many times": (lambda x: x[:1].expand(50, -1), "all rows are equal"),
    "few points": (lambda x: x[:5], "only 5 points were read"),
    "a grid": (lambda x: (x * 4).round() / 4, "the data are discrete, in steps of 0.25"),
    "constant features": (lambda x: torch.cat([x[:, :-1], torch.ones_like(x[:, :1])], 1), "1 of 8 coordinates are con"),
}


@every
@pytest.mark.parametrize("case", list(WARNED))
def test_data_are_warned_of(case: str, name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame) -> None:
    basis = make_frame(AMBIENT, RANK)
    spoil, said = WARNED[case]
    assert warned(read(host, name, spoil(plane(basis, 400)), make_score(distribution(basis), (AMBIENT,))), said)


@scored
def test_clean_data_and_an_exact_score_gives_no_warning(
    name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    """Nor do more points than there are, and no sweep."""
    basis = make_frame(AMBIENT, RANK)
    found = read(host, name, plane(basis), make_score(distribution(basis), (AMBIENT,)), points=10_000)
    assert found.diagnostics["warnings"] == []
    assert found.value == pytest.approx(RANK, abs=0.4)


@scored
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_data_of_any_precision_are_read_in_that_of_the_score(
    dtype: torch.dtype, name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    basis = make_frame(AMBIENT, RANK)
    found = read(host, name, plane(basis).to(dtype), make_score(distribution(basis), (AMBIENT,)), sigma=0.1)
    assert found.value == pytest.approx(RANK, abs=0.4)


@scored
def test_a_score_in_half_precision_says_so_where_that_is_not_enough(
    name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    basis = make_frame(AMBIENT, RANK)
    score = make_score(distribution(basis), (AMBIENT,), dtype=torch.float16)
    with pytest.raises(DataError, match=r"torch\.float16.*\n.*dtype: float32"):
        read(host, name, plane(basis).half(), score)


@scored
def test_one_coordinate(name: str, host: Host, make_score: MakeScore) -> None:
    line = torch.ones(1, 1, dtype=torch.float64)
    found = read(host, name, plane(line), make_score(distribution(line), (1,)))
    assert found.value == pytest.approx(1, abs=0.3)
    assert warned(found, "the one direction counts as tangent")


@scored
def test_a_score_that_was_not_trained_is_reported(name: str, host: Host) -> None:
    source = host.create("data:sphere", {"dimension": 2, "ambient": 6, "points": 300})
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    score = host.create("score:denoising", {"network": network, "training": {"steps": 3}}, data=source)
    found = read(host, name, source.load("train"), score)
    assert warned(found, "all 6 directions count as tangent")


@scored
def test_a_score_of_other_data_is_reported(name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame) -> None:
    basis = make_frame(AMBIENT, RANK)
    found = read(host, name, plane(basis) + 20, make_score(distribution(basis), (AMBIENT,)))
    said = {"iddiff": "trained on other data", "spectral-lanczos": "the score is coarse"}
    assert warned(found, said.get(name, "is read as"))
    assert name in said or (found.value is None and found.headline.startswith("is withheld: it is read as"))


class Wavy(nn.Module):
    """A score whose guesses are off by waves too fine to bend the spectrum."""

    def __init__(self, score: ScoreModel, size: float) -> None:
        super().__init__()
        self.process, self.event_shape, self.condition_spec = score.process, score.event_shape, None
        self.check_events, self.call_rows = score.check_events, score.call_rows
        self.own, self.size = score, size

    def noise(self, x: Tensor, t: Tensor, condition: object = None) -> Tensor:
        return self.own.noise(x, t) + self.size * torch.sin(3000 * x)


@pytest.mark.parametrize("name", ["iddiff", "denoising-loss"])
def test_a_coarse_score_is_seen_by_its_guesses(name: str, make_score: MakeScore, make_frame: MakeFrame) -> None:
    """Waves add D size^2 / 2 to the loss, and as much to E g (g - z): the answer is too high by that."""
    basis = make_frame(AMBIENT, RANK)
    wavy: Any = Wavy(make_score(distribution(basis), (AMBIENT,)), 1.0)
    if name == "iddiff":
        config = NormalBundleConfig.model_validate(SCORED[name])
        assert warned(NormalBundle(config, score=wavy).estimate(plane(basis)), "the score is too coarse")
        return
    settings = DenoisingLossDimensionConfig.model_validate({**SCORED[name], "draws": 64})
    found = DenoisingLoss(settings, score=wavy).estimate(plane(basis))
    assert warned(found, "has E g (g - z) = ")
    assert found.diagnostics["slant"] == pytest.approx(AMBIENT / 2, abs=0.3)
    assert found.value - found.diagnostics["slant"] == pytest.approx(RANK, abs=0.3)


@scored
def test_memorised_points_are_reported(name: str, host: Host, make_score: MakeScore) -> None:
    """The exact score of 60 points of a circle: each an island at noise below their distance, a line above."""
    angle = torch.linspace(0, 6.2, 60, dtype=torch.float64)
    x = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    found = read(host, name, x, make_score(Points(x), (3,)), sigma=0.01, sweep=[0.3, 1, 10, 20])
    assert found.value == pytest.approx(0, abs=0.05)
    assert warned(found, "the score has memorised single points there")


@scored
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"sigma": 1e9}, r"sigma is 1e\+09; the noise-to-signal ratio of the score's process goes from"),
        ({"sigma": -1}, "sigma is -1 "),
        ({"sigma": []}, r"sigma is \[\]"),
        ({"sweep": [0.0]}, r"sweep\[0\] is 0"),
        ({"points": 1}, "points is 1 "),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    config: dict[str, Any], said: str, name: str, host: Host, make_score: MakeScore, make_frame: MakeFrame
) -> None:
    basis = make_frame(AMBIENT, RANK)
    with pytest.raises(ConfigError, match=said):
        read(host, name, plane(basis), make_score(distribution(basis), (AMBIENT,)), **config)


@pytest.mark.parametrize(
    ("levels", "said"),
    [([], "at least 2 entries"), ([0.1, 0.1], "2 different levels; 1 is given"), ([-1, 1], r"levels\[0\] is -1")],
)
def test_levels_without_a_slope_are_refused(levels: list[float], said: str, host: Host) -> None:
    source = host.create("data:subspace", {"dimension": 1, "ambient": 3, "points": 50})
    flow = host.create("flow:affine-coupling", {"layers": 2, "hidden": [8]}, data=source)
    with pytest.raises(ConfigError, match=said):
        host.create("estimator:lidl", {"levels": levels}, flow=flow)


@every
def test_other_components_in_the_place_of_the_model_are_refused(name: str, host: Host) -> None:
    source = host.create("data:subspace", {"dimension": 1, "ambient": 3, "points": 50})
    score = host.create("score:analytic", data=source)
    flow = host.create("flow:affine-coupling", {"layers": 2, "hidden": [8]}, data=source)
    port, other = ("flow", score) if name == "lidl" else ("score", flow)
    for wrong in (other, source):
        with pytest.raises(ConfigError, match=f"takes a component of kind {port}"):
            host.create(f"estimator:{name}", **{port: wrong})
    with pytest.raises(ConfigError, match=f"nothing is plugged into port '{port}'"):
        host.create(f"estimator:{name}")


@scored
def test_conditions_that_a_score_needs_or_does_not_know(name: str, host: Host) -> None:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    label = torch.arange(40) % 3
    given = Dataset(x, condition=label)
    source = TensorSource({"train": given})
    source.condition_spec = TensorSpec((), classes=3)
    network = {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}
    score = host.create("score:denoising", {"network": network, "training": {"steps": 3}}, data=source)
    assert read(host, name, given, score).value == pytest.approx(4, abs=0.6)
    with pytest.raises(ConfigError, match="trained with a condition and got none"):
        read(host, name, x, score)
    with pytest.raises(ShapeError, match="holds classes from 1 to 3; this model knows 0 to 2"):
        read(host, name, Dataset(x, condition=label + 1), score)
    with pytest.raises(ShapeError, match="the condition has shape"):
        read(host, name, Dataset(x, condition=torch.zeros(40, 2)), score)


RUN = """\
version: 1
name: bad
stages:
  data: {{use: data:array, config: {{path: {file}}}}}
  score: {{use: score:analytic, inputs: {{data: data}}}}
  dimension: {{use: "estimator:{name}", inputs: {{score: score, data: data}}, config: {{sigma: {sigma}}}}}
"""


@scored
@pytest.mark.parametrize(
    ("case", "sigma", "said"),
    [
        ("nan", 0.1, r"yaml:4:15: .*bad\.npy holds NaN.* in row 4"),
        ("few", 0.1, "yaml:6:20: the split has 1 point; at least 2"),
        ("fine", 1000, "yaml:6:20: sigma is 1000; the noise-to-signal ratio"),
    ],
)
def test_a_run_file_says_where(case: str, sigma: float, said: str, name: str, host: Host, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4 if case == "few" else 30, 3))
    if case == "nan":
        x[4, 1] = np.nan
    np.save(tmp_path / "bad.npy", x)
    (tmp_path / "run.yaml").write_text(RUN.format(file=tmp_path / "bad.npy", name=name, sigma=sigma))
    with pytest.raises(ScorefoldError, match=said):
        run_file(host, tmp_path / "run.yaml", runs=tmp_path / "kept", cache=tmp_path / "cache")


def test_a_column_far_from_zero_changes_no_relative_noise(host: Host) -> None:
    """A subspace of dimension 3 whose first coordinate has mean 1000, with noise relative to the data's spread."""
    plain = host.create("data:subspace", {"dimension": 3, "ambient": 10, "points": 400, "seed": 0}).load("train").x
    process = {"name": "ve", "sigma_min": 0.01, "sigma_max": 1.0, "relative": True}
    found = []
    for shift in (0.0, 1000.0):
        x = plain.double() + torch.tensor([shift, *[0.0] * 9], dtype=torch.float64)
        data = TensorSource({"train": Dataset(x), "test": Dataset(x)})
        score = host.create("score:analytic", {"process": process, "gaussian": True}, data=data).double()
        found.append(host.create("estimator:iddiff", {"resamples": 0}, score=score).estimate(x))
    assert [one.value for one in found] == [3.0, 3.0]
    assert found[0].diagnostics["sigma"] == pytest.approx(found[1].diagnostics["sigma"], rel=1e-6)

"""The Riemannian auto-encoder put to use: what it refuses, what it draws, and what a run file does with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from scorefold.data import DataSpec, TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Flow
from scorefold.results import Estimate
from scorefold_pullback.autoencoder.estimator import RiemannianAutoencoder
from scorefold_pullback.autoencoder.figures import autoencoder_figures, reconstruction, residuals, spectrum
from scorefold_pullback.config import RiemannianAutoencoderConfig
from scorefold_pullback.flows.anisotropic import AnisotropicFlow
from scorefold_pullback.flows.config import AnisotropicConfig, IdentityConfig
from scorefold_pullback.flows.linear import IdentityFlow
from scorefold_registry import Host, compare, run_file
from scorefold_standard.config import AffineCouplingConfig
from scorefold_standard.coupling_flows import CouplingFlow

MakeFlow = Callable[..., Flow]
X = torch.zeros(3, 2, dtype=torch.float64)
CONFIG = RiemannianAutoencoderConfig()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"unexplained": -0.1}, "unexplained\n  Input should be greater than or equal to 0"),
        ({"unexplained": 1.1}, "unexplained\n  Input should be less than or equal to 1"),
        ({"unexplained": math.nan}, "unexplained"),
        ({"dimension": 0}, "dimension\n  Input should be greater than or equal to 1"),
        ({"unexplained": 0.1, "dimension": 1}, "unexplained is 0.1 and dimension is 1; expected one of them"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RiemannianAutoencoderConfig.model_validate(wrong)


def test_flows_that_it_cannot_take(make_flow: MakeFlow) -> None:
    with pytest.raises(ConfigError, match="the auto-encoder's flow has a Uniform as its base, which has no variances"):
        RiemannianAutoencoder(CONFIG, flow=make_flow("without a potential"))
    classes = DataSpec((2,), condition_spec=TensorSpec((), classes=3))
    with pytest.raises(ConfigError, match="the auto-encoder's flow takes conditions"):
        RiemannianAutoencoder(CONFIG, flow=CouplingFlow(AffineCouplingConfig(), data=classes))
    with pytest.raises(ConfigError, match=r"dimension is 3; the flow's events \(2,\) have only 2"):
        RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=3), flow=make_flow("banana"))


def test_a_flow_that_was_never_trained() -> None:
    config = AffineCouplingConfig(layers=1, base="diagonal-normal")
    flow = CouplingFlow(config, data=DataSpec((4,))).double()
    x = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="flow is not fitted: its 4 variances are all 1") as refused:
        RiemannianAutoencoder(CONFIG, flow=flow).estimate(x)
    assert refused.value.hint == "train the flow first, or set dimension in place of unexplained"
    found = RiemannianAutoencoder(RiemannianAutoencoderConfig(dimension=2), flow=flow).estimate(x)
    assert any("not fitted" in text for text in found.diagnostics["warnings"])
    for answer in (RiemannianAutoencoder.encode, RiemannianAutoencoder.decode, RiemannianAutoencoder.residuals):
        with pytest.raises(ConfigError, match="flow is not fitted"):
            answer(RiemannianAutoencoder(CONFIG, flow=flow), x)
    followed = AnisotropicFlow(AnisotropicConfig(variances="closed-form"), data=DataSpec((4,))).double()
    with pytest.raises(ConfigError, match="flow is not fitted"):
        RiemannianAutoencoder(CONFIG, flow=followed).encode(x)


def test_points_and_codes_that_do_not_fit(make_flow: MakeFlow) -> None:
    made = RiemannianAutoencoder(CONFIG, flow=make_flow("banana"))
    with pytest.raises(ShapeError, match=r"x has shape \(3, 5\); this auto-encoder takes \(B, 2\)"):
        made.encode(torch.zeros(3, 5, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"z has shape \(3, 2\); this auto-encoder takes \(B, 1\)"):
        made.decode(X)
    with pytest.raises(ShapeError, match=r"data has events \(3,\); this auto-encoder takes \(2,\)"):
        made.estimate(torch.zeros(4, 3, dtype=torch.float64))
    for number in (math.nan, math.inf):
        wrong = X.clone()
        wrong[1, 0] = number
        for name, call in (("x", made.encode), ("x", made.residuals), ("data", made.estimate)):
            with pytest.raises(DataError, match=f"{name} holds NaN or infinite numbers in 1 of 3 rows"):
                call(wrong)
        with pytest.raises(DataError, match="z holds NaN or infinite numbers in 1 of 3 rows"):
            made.decode(wrong[:, :1])
    with pytest.raises(DataError, match="needs at least 2 points; 1 were given"):
        made.estimate(X[:1])
    with pytest.raises(ConfigError, match="decode takes no options; steps was given"):
        made.decode(X[:, :1], steps=3)
    for per_axis, width in ((1, 3.0), (5, 0.0), (5, math.nan)):
        with pytest.raises(ConfigError, match=f"a grid of {per_axis} steps over {width:g} deviations"):
            made.decode_grid(per_axis, width)
    for rows, columns, width in ((0, 9, 3.0), (4, 1, 3.0), (4, 9, float("nan"))):
        with pytest.raises(ConfigError, match=f"{rows} rows of {columns} columns over {width:g} deviations"):
            made.decode_axes(rows, columns, width)


def test_one_row_of_two_columns_is_the_least_that_axes_show(make_flow: MakeFlow) -> None:
    made = RiemannianAutoencoder(CONFIG, flow=make_flow("banana"))
    made.encode(X)
    line = made.decode_axes(1, 2, 3.0)
    assert line.shape == (1, 2, 2)
    ends = made.axes.variances[:1].sqrt() * torch.tensor([[-3.0], [3.0]], dtype=torch.float64)
    torch.testing.assert_close(line[0], made.decode(ends))


def test_empty_batches_are_answered(make_flow: MakeFlow) -> None:
    made = RiemannianAutoencoder(CONFIG, flow=make_flow("banana"))
    assert made.encode(X[:0]).shape == (0, 1)
    assert made.decode(X[:0, :1]).shape == (0, 2)


def test_the_estimate_is_written_in_json(make_flow: MakeFlow) -> None:
    x = make_flow("squeezed").sample(30, generator=torch.Generator().manual_seed(0))
    found = RiemannianAutoencoder(CONFIG, flow=make_flow("squeezed")).estimate(x)
    said = json.loads(json.dumps(found.summary(), allow_nan=False))["diagnostics"]
    assert said["curve"]["kept"] == [0, 1, 2]
    assert said["bound"]["points"] == 31
    assert set(found.tensors()) == {
        *("spectrum", "residuals", "measured_variances", "base_point", "shown", "decoded_axes", "decoded_grid")
    }


def estimate_on(flow: Flow, **settings: Any) -> Estimate:
    x = flow.sample(60, generator=torch.Generator().manual_seed(0))
    return RiemannianAutoencoder(RiemannianAutoencoderConfig.model_validate(settings), flow=flow).estimate(x)


def test_what_is_drawn_is_what_was_found(make_flow: MakeFlow) -> None:
    found = estimate_on(make_flow("banana"))
    figures = autoencoder_figures(found)
    assert set(figures) == {"spectrum", "reconstruction", "decoded", "residuals"}
    mine = Figure()
    for axes, draw in zip(mine.subplots(3), (spectrum, reconstruction, residuals), strict=True):
        assert draw(found, ax=axes) is mine
        assert axes.lines, draw
    lines = {str(line.get_label()): line for line in figures["reconstruction"].axes[0].lines}
    curve = found.diagnostics["curve"]
    for label, name in (
        ("the flow, widest first, from its mode", "decreasing"),
        ("PCA of these points, from their mean", "pca"),
    ):
        assert torch.as_tensor(lines[label].get_ydata()).tolist() == curve[name]
    assert "1 kept, 0.059 of the variance left" in lines
    (arc,) = figures["decoded"].axes[0].lines
    line = torch.as_tensor(arc.get_xydata())
    torch.testing.assert_close(line[:, 0], line[:, 1].square() / 9)
    cut = [line for line in figures["spectrum"].axes[0].lines if "kept" in str(line.get_label())]
    assert float(cut[0].get_xdata()[0]) == 1.5  # type: ignore[index, arg-type]


@pytest.mark.parametrize(
    ("shape", "settings", "title"),
    [
        ((1,), {}, "The learned manifold"),
        ((3,), {"dimension": 1}, "The learned manifold"),
        ((3,), {"dimension": 2}, "The learned manifold"),
        ((5,), {"dimension": 3}, "The learned manifold"),
        ((200,), {"dimension": 3}, "Each line: one axis, from -3 to 3 deviations"),
        ((1, 4, 4), {}, "Each row: one axis, from -3 to 3 deviations"),
    ],
)
def test_events_of_any_shape_are_drawn(
    tmp_path: Path, shape: tuple[int, ...], settings: dict[str, Any], title: str
) -> None:
    variances = tuple(0.5**i + 1e-9 for i in range(math.prod(shape)))
    figures = autoencoder_figures(
        estimate_on(IdentityFlow(IdentityConfig(event_shape=shape, variances=variances)), **settings)
    )
    assert figures["decoded"].axes[0].get_title() == title
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")


RUN = """
version: 1
name: arc
stages:
  data: {use: data:banana, config: {points: 400}}
  flow: {use: flow:banana}
  rae: {use: estimator:riemannian-autoencoder, inputs: {flow: flow, data: data}}
  codes: {use: rae, do: encode, inputs: {data: data}}
  back: {use: rae, do: reconstruct, inputs: {data: data}}
  again: {use: estimator:pca, inputs: {data: codes}}
"""


def test_a_run_file_estimates_encodes_and_reconstructs(host: Host, tmp_path: Path) -> None:
    (tmp_path / "arc.yaml").write_text(RUN)
    result = run_file(host, tmp_path / "arc.yaml", runs=tmp_path / "runs", cache=tmp_path / "cache")
    metrics = {stage["name"]: stage["metrics"] for stage in result.as_json()["stages"]}
    assert metrics["rae"]["intrinsic dimension"] == 1
    assert metrics["codes"] == {"points": 40, "latent dimension": 1}
    assert 0.1 < metrics["back"]["relative reconstruction error"] < 0.4
    assert metrics["again"]["intrinsic dimension"] == 1
    for name in ("spectrum", "reconstruction", "decoded", "residuals"):
        assert (result.folder / "rae" / "figures" / f"{name}.png").stat().st_size > 5_000
    again = host.load(result.folder / "rae")
    x = host.create("data:banana", {"points": 400}).load("test").x
    torch.testing.assert_close(again.encode(x), x[:, 1:])


def test_it_is_compared_with_what_else_encodes(host: Host, tmp_path: Path) -> None:
    result = compare(
        host,
        "Encodes",
        on=["banana"],
        only=["riemannian-autoencoder"],
        plugged={"flow": "flow:banana"},
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    (row,) = result.rows
    assert row.error is None
    assert row.value is not None
    assert row.quantity == "relative reconstruction error"
    assert 0.1 < row.value < 0.4

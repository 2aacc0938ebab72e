"""The plugin from outside: what it declares, a run file and its figures, states saved and loaded, its claims."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from scorefold.errors import ScorefoldError
from scorefold.stage import StageContext
from scorefold_pullback import plugin
from scorefold_pullback.geometry.figures import geometry_figures
from scorefold_pullback.geometry.iso import IsoPullback
from scorefold_pullback.geometry.pullback import Pullback
from scorefold_registry import Host, run_file
from scorefold_verbs.config import InterpolateOptions
from scorefold_verbs.geometry import interpolate as verb_interpolate

PACKAGE = Path(plugin.__file__).parent
ROOT = Path(__file__).parents[3]


def test_everything_declared_exists() -> None:
    components = list(plugin.scorefold_components())
    targets = [target for c in components for target in (c.target, c.config, c.figures) if target is not None]
    for target in [*targets, *(claim.target for claim in plugin.scorefold_claims())]:
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    for component in components:
        assert component.cite is not None
        assert "@" in (PACKAGE / component.cite).read_text()


def test_a_geometry_of_any_flow_and_psi_through_the_host(host: Host, tmp_path: Path) -> None:
    flow = host.create("flow:squeezed-banana", dtype=torch.float64)
    psi = {"use": "potential:quadratic", "config": {"variances": [0.01, 4.0], "location": [0.1, 0.0]}}
    geometry = host.create("geometry:pullback", {"metric": "whitened"}, flow=flow, psi=psi, dtype=torch.float64)
    host.save(geometry, tmp_path / "geometry", bundle=True)
    again = host.load(tmp_path / "geometry")
    x = torch.tensor([[2.0, 4.0], [2.0, -4.0]], dtype=torch.float64)
    assert torch.equal(again.distance(x[:1], x[1:]), geometry.distance(x[:1], x[1:]))
    torch.testing.assert_close(geometry.distance(x[:1], x[1:]), torch.tensor([4.0], dtype=torch.float64))


def test_the_example_runs_and_its_numbers_are_reported(host: Host, tmp_path: Path) -> None:
    file = ROOT / "examples/banana-geodesics.yaml"
    result = run_file(host, file, runs=tmp_path / "runs", cache=tmp_path / "cache")
    metrics = {stage["name"]: stage["metrics"] for stage in result.as_json()["stages"]}
    assert metrics["paths"]["middles from the data"] < metrics["straight"]["middles from the data"]
    assert metrics["dimension"]["intrinsic dimension"] == 1
    for stage, name in (("geometry", "geodesics"), ("paths", "samples")):
        assert (result.folder / stage / "figures" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["geometry:pullback", "geometry:iso-pullback"])
def test_geodesics_are_drawn_over_the_density(host: Host, name: str) -> None:
    geometry = host.create(name, flow={"use": "flow:river"})
    assert isinstance(geometry, Pullback | IsoPullback)
    axes = geometry_figures(geometry)["geodesics"].axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]  # type: ignore[arg-type]
    straight = [line for line in axes.lines if len(line.get_xdata()) == 2]  # type: ignore[arg-type]
    assert len(lines) == len(straight) == 3
    assert axes.get_aspect() == 1, "lengths are compared"
    for line, chord in zip(lines, straight, strict=True):
        curve, ends = (torch.as_tensor(each.get_xydata()) for each in (line, chord))
        torch.testing.assert_close(curve[[0, -1]], ends)
        assert float(geometry_density(geometry, curve)) > 0.9 * float(geometry_density(geometry, _chord(ends)))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["geodesics", "straight lines"]


def geometry_density(geometry: Pullback | IsoPullback, points: torch.Tensor) -> torch.Tensor:
    """The mean log-density along a curve."""
    flow = geometry.flow if isinstance(geometry, Pullback) else geometry.pullback.flow
    assert isinstance(flow, torch.nn.Module)
    found: torch.Tensor = flow.log_prob(points.float()).mean()  # type: ignore[operator]
    return found.exp()


def _chord(ends: torch.Tensor) -> torch.Tensor:
    return torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 65, dtype=ends.dtype)[:, None])


def test_events_of_other_shapes_are_drawn(host: Host) -> None:
    for shape in ([3], [1, 4, 4]):
        geometry = host.create("geometry:pullback", flow={"use": "flow:identity", "config": {"event_shape": shape}})
        assert set(geometry_figures(geometry)) == {"geodesics"}


def test_the_chart_is_the_flow_s_latent_lines(host: Host) -> None:
    flow = host.create("flow:squeezed-banana")
    axes = geometry_figures(host.create("geometry:pullback", flow=flow))["chart"].axes[0]
    curves = [torch.as_tensor(line.get_xydata()).float() for line in axes.lines]
    assert len(curves) == 22
    across, along = flow.base.log_std.exp()
    for curve in curves[:11]:
        z = flow(curve)[0]
        torch.testing.assert_close(z[:, 1], z[:1, 1].expand(len(z)), atol=1e-4, rtol=0)
        torch.testing.assert_close(z[[0, -1], 0], across * torch.tensor([-2.5, 2.5]), atol=1e-4, rtol=1e-4)
    for curve in curves[11:]:
        z = flow(curve)[0]
        torch.testing.assert_close(z[:, 0], z[:1, 0].expand(len(z)), atol=1e-4, rtol=0)
        torch.testing.assert_close(z[[0, -1], 1], along * torch.tensor([-2.5, 2.5]), atol=1e-4, rtol=1e-4)


def test_images_are_drawn_above_their_straight_lines(host: Host) -> None:
    settings = {"event_shape": [1, 4, 4]}
    geometry = host.create("geometry:pullback", flow={"use": "flow:identity", "config": settings})
    figure = geometry_figures(geometry)["geodesics"]
    rows = torch.as_tensor(figure.axes[0].images[0].get_array()).float()
    assert rows.shape[0] == 4 * 8 + 7, "eight rows of images, a pixel between them"
    # A geodesic of the identity is its straight line: the rows come in equal pairs.
    torch.testing.assert_close(rows[0:4], rows[5:9], atol=1e-5, rtol=0)
    assert not torch.allclose(rows[5:9], rows[10:14], atol=1e-2)


RUN = """version: 1
name: unfitted
stages:
  data: {use: data:banana, config: {points: 100}}
  geometry:
    use: geometry:pullback
    inputs: {flow: {use: flow:anisotropic, inputs: {data: data}}}
"""


def test_a_run_file_whose_flow_is_never_trained_is_refused(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(RUN)
    with pytest.raises(ScorefoldError, match="flow, a AnisotropicFlow, was never trained"):
        run_file(host, file, runs=tmp_path / "runs", cache=tmp_path / "cache")


def test_a_trained_flow_is_taken_and_so_is_its_saved_geometry(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    trained = "  flow: {use: flow:anisotropic, inputs: {data: data}, config: {training: {steps: 2}}}\n"
    text = RUN.replace("  geometry:\n", trained + "  geometry:\n")
    text = text.replace("{flow: {use: flow:anisotropic, inputs: {data: data}}}", "{flow: flow, data: data}")
    file.write_text(text)
    result = run_file(host, file, runs=tmp_path / "runs", cache=tmp_path / "cache")
    saved = host.load(result.folder / "geometry")
    outcome = verb_interpolate(saved, {"data": host.create("data:banana")}, InterpolateOptions(), StageContext("x"))
    assert outcome.result["metrics"]["pairs"] == 8

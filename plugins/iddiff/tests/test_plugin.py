"""The plugin from outside: what it declares, its figures, its claims, and the estimator through a host."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from scorefold.interfaces import ScoreModel
from scorefold_iddiff import plugin
from scorefold_iddiff.claims import spheres as claims
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.normal_bundle.figures import (
    dimension_against_noise,
    normal_bundle_figures,
    spectra,
    traces_against_noise,
)
from scorefold_registry import Host
from scorefold_toolkit.distributions import Mixture, SphereDistribution

PACKAGE = Path(plugin.__file__).parent


def test_everything_declared_exists() -> None:
    components = list(plugin.scorefold_components())
    targets = [target for c in components for target in (c.target, c.config, c.figures) if target is not None]
    for target in [*targets, *(claim.target for claim in plugin.scorefold_claims())]:
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    iddiff = next(component for component in components if component.name == "iddiff")
    assert iddiff.cite is not None
    assert "@inproceedings{stanczuk2024dimension" in (PACKAGE / iddiff.cite).read_text()


@pytest.mark.parametrize("example", range(2))
def test_the_examples_build_and_are_right(host: Host, example: int) -> None:
    component = next(component for component in plugin.scorefold_components() if component.name == "iddiff")
    given = component.examples[example]
    score_spec = given["inputs"]["score"]
    sphere = host.create(score_spec["inputs"]["data"]["use"], score_spec["inputs"]["data"]["config"])
    score = host.create(score_spec["use"], data=sphere)
    found = host.create("estimator:iddiff", given["config"], score=score).estimate(sphere.load("test"))
    assert found.value == 2
    assert found.interval == (2, 2)


@pytest.mark.parametrize("rule", ["projector", "reference"])
def test_figures_are_drawn_and_the_answer_is_json(
    rule: str,
    make_score: Callable[..., ScoreModel],
    make_sphere: Callable[..., tuple[object, torch.Tensor]],
    tmp_path: Path,
) -> None:
    distribution, x = make_sphere(3, ambient=10)
    config = NormalBundleConfig.model_validate({"rule": rule})
    found = NormalBundle(config, score=make_score(distribution, (10,))).estimate(x)
    figures = normal_bundle_figures(found)
    assert set(figures) == {"spectrum", "sigma", "traces"}, "all points have one value"
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    for draw in (spectra, dimension_against_noise, traces_against_noise):
        mine = Figure()
        axes = mine.subplots(2)[1]
        assert draw(found, ax=axes) is mine
        assert axes.lines, draw
        assert len(mine.axes) == 2, draw
    legend = figures["spectrum"].axes[0].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert any("dimension 3" in text for text in texts)
    assert json.loads(json.dumps(found.summary()))["value"] == 3
    config = NormalBundleConfig.model_validate({"rule": rule, "sigma": None, "sweep": []})
    alone = NormalBundle(config, score=make_score(distribution, (10,))).estimate(x)
    assert set(normal_bundle_figures(alone)) == {"spectrum"}, "one level makes no curve"


def test_figures_mark_gaps_guards_and_what_parts(
    make_score: Callable[..., ScoreModel], make_sphere: Callable[..., tuple[SphereDistribution, torch.Tensor]]
) -> None:
    """On a union: a gap for each dimension, its plateaus, the noise from which curvature parts FLIPD and the trace, and
    half the distance of neighbours."""
    (large, first), (small, second) = make_sphere(3, points=8), make_sphere(9, radius=0.25, points=8, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (100,))
    found = NormalBundle(NormalBundleConfig(), score=score).estimate(torch.cat([first, second]))
    figures = normal_bundle_figures(found)

    def legend(name: str) -> list[str]:
        shown = figures[name].axes[0].get_legend()
        assert shown is not None
        return [text.get_text() for text in shown.get_texts()]

    assert legend("spectrum") == ["dimension 3 at 8 points", "dimension 9 at 8 points"]
    assert {"half the distance of neighbours", "median over 16 points"} < set(legend("sigma"))
    notes = [text.get_text() for text in figures["sigma"].axes[0].texts]
    assert sorted(notes) == ["3 at 50% of the points", "9 at 50% of the points"]
    assert "FLIPD and trace differ by over 5%" in legend("traces")
    (shade,) = figures["traces"].axes[0].patches
    rows = found.diagnostics["curve"]
    bent = [row["sigma"] for row in rows if row["curvature"] > 0.05]
    assert bent
    left, right = shade.get_x(), shade.get_x() + shade.get_width()  # type: ignore[attr-defined]
    assert [row["sigma"] for row in rows if left <= row["sigma"] <= right] == bent
    many = NormalBundle(NormalBundleConfig(), score=score).estimate(torch.cat([first, second]))
    many.pointwise[:16] = torch.arange(16.0)  # type: ignore[index]
    shown = normal_bundle_figures(many)["spectrum"].axes[0].get_legend()
    assert shown is not None
    assert shown.get_texts()[0].get_text() == "dimensions 0 to 15 at these points"


@pytest.mark.parametrize("name", ["exact-spheres", "several-scales"])
def test_exact_claims_hold_in_the_smoke_profile(host: Host, name: str) -> None:
    claim = {claim.name: claim for claim in plugin.scorefold_claims()}[name]
    measured = getattr(claims, claim.target.split(":")[1])(host, "smoke", 1)
    assert measured == 0


@pytest.mark.parametrize("profile", ["smoke", pytest.param("quick", marks=pytest.mark.slow)])
def test_a_plain_network_gives_the_published_eleven(host: Host, profile: str) -> None:
    """A plain MLP on the 10-sphere, 400 steps (22 CPU seconds) or 2,000: 11, one above the truth, at 95 % of
    points."""
    assert claims.trained_sphere(host, profile, 0) >= 0.95

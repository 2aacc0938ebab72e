"""What is withheld, what is reported, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from known_scores import Normal
from torch import Tensor, nn

from scorefold.data import Dataset, TensorSpec
from scorefold.diffusion import VE
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold.stage import StageContext, showing
from scorefold_registry import Host
from scorefold_scoregeometry.diagnosis import _LEAVES, geodesic_figures
from scorefold_scoregeometry.from_density import FromDensity
from scorefold_toolkit.checks import VARIABLE
from scorefold_toolkit.geodesics import pictured, solve
from scorefold_verbs.config import InterpolateOptions
from scorefold_verbs.geometry import build, interpolate

PLANE = {"use": "data:subspace", "config": {"dimension": 2, "ambient": 2, "points": 200}}
EXACT = {"use": "score:analytic", "inputs": {"data": PLANE}}


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


class Modes(ScoreModel):
    """Gaussians of deviation 0.1 at (-2, 0) and (2, 0): the score alone, no gradient where ``turn`` is not 0."""

    def __init__(self, turn: float = 0.0, spec: TensorSpec | None = None, distance: float = 2.0) -> None:
        super().__init__(VE(sigma_min=1e-6, sigma_max=50.0), (2,), spec)
        self.register_buffer("means", torch.tensor([[-distance, 0.0], [distance, 0.0]], dtype=torch.float64))
        self.turn = turn

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        pulls = (self.means[:, None] - x) / 0.01
        shares = (-0.005 * pulls.square().sum(2)).softmax(0)
        found = (shares[:, :, None] * pulls).sum(0)
        return found + self.turn * torch.stack([-x[:, 1], x[:, 0]], 1) / 0.01


def near(*centres: float) -> TensorSource:
    draws = 0.1 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws[:, 0] += torch.tensor(centres, dtype=torch.float64).repeat(200)[:200]
    return TensorSource({"train": Dataset(draws[::2]), "test": Dataset(draws[1::2])})


def between_modes(host: Host, points: int) -> Any:
    """geometry:score of the two modes at lambda = 1."""
    settings: dict[str, Any] = {"noise": 1e-6, "solver": {"points": points}}
    plain: Any = host.create("geometry:score", settings, score=Modes(), data=near(-2, 2))
    return host.create("geometry:score", {**settings, "weight": plain.weight**-0.5}, score=Modes(), data=near(-2, 2))


@pytest.mark.parametrize("points", [16, 32])
def test_a_jump_over_a_gap_is_withheld(host: Host, points: int) -> None:
    """The truth is 398.6, and a solver without this check reports 28.6."""
    geometry = between_modes(host, points)
    assert geometry.weight == pytest.approx(1.0)
    found = geometry.solve(row(-2, 0), row(2, 0))
    if math.isnan(float(found.length)):
        assert found.reasons[0]
        with pytest.raises(DataError, match="1 of 1 geodesics are withheld"):
            geometry.distance(row(-2, 0), row(2, 0))
        return
    assert float(found.length) == pytest.approx(398.65, rel=0.02)


def test_a_withheld_pair_leaves_the_others(host: Host) -> None:
    geometry = between_modes(host, 16)
    x, y = torch.cat([row(-2, 0), row(-2, 0)]), torch.cat([row(2, 0), row(-1.9, 0.1)])
    found = geometry.solve(x, y)
    assert found.reasons[1] == ""
    assert math.isfinite(float(found.length[1]))
    assert geometry.reasons(x, y)[0] or math.isfinite(float(found.length[0]))


def test_interpolate_leaves_withheld_pairs_out_and_counts_them(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    data, context = near(-2), StageContext("here", split="test")
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=data)
    monkeypatch.setattr(geometry, "reasons", lambda x, y: ["not converged", "", ""])
    outcome = interpolate(geometry, {"data": data}, InterpolateOptions(pairs=3, times=5), context)
    assert outcome.result["metrics"]["pairs"] == 2
    assert outcome.result["metrics"]["pairs withheld"] == 1
    assert outcome.arrays["lengths"].isnan().tolist() == [True, False, False]
    assert outcome.arrays["geodesics"].isnan().flatten(1).all(1).tolist() == [True, False, False]
    assert outcome.result["warnings"][0] == "1 of 3 paths are withheld: not converged"
    assert len(outcome.value.load("test")) == 10
    monkeypatch.setattr(geometry, "reasons", lambda x, y: ["not converged"] * 3)
    with pytest.raises(DataError, match="all 3 geodesics are withheld: not converged"):
        interpolate(geometry, {"data": data}, InterpolateOptions(pairs=3, times=5), context)


def test_interpolate_gives_a_warning_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The diagnosis does not repeat the reasons of withheld pairs, and names other minima once."""
    data, context = near(-2), StageContext("here", split="test")
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=data)
    monkeypatch.setattr(geometry, "reasons", lambda x, y: ["not converged", "", ""])
    texts = ["1 of 3 geodesics between these points: not converged", "another"]
    monkeypatch.setattr(geometry, "diagnose_paths", lambda points, x, y: ({}, texts))
    plain = geometry._solve
    several = torch.tensor([0.5, 0.5], dtype=torch.float64)
    monkeypatch.setattr(geometry, "_solve", lambda a, b: replace(plain(a, b), excess=several))
    with pytest.warns(UserWarning, match="2 of 2 geodesics are the shortest of several") as seen:
        outcome = interpolate(geometry, {"data": data}, InterpolateOptions(pairs=3, times=5), context)
    assert len(seen) == 1
    assert [text for text in outcome.result["warnings"] if "not converged" in text or text == "another"] == [
        "1 of 3 paths are withheld: not converged",
        "another",
    ]


def test_interpolate_diagnoses_its_own_paths_and_solves_no_others(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked, seen = near(-2), InterpolateOptions(pairs=2, times=5), list[str]()
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=data)
    solved = []
    monkeypatch.setattr("scorefold_toolkit.geodesics.geometry.solve", lambda *given: solved.append(1) or solve(*given))
    with showing(lambda done, total, text: seen.append(text)):
        result = interpolate(geometry, {"data": data}, asked, StageContext("here", split="test")).result
    assert (len(solved), result["diagnostics"]["pairs"]) == (1, 2)
    assert seen[0] == "geodesics on 8 steps, iteration 1"


def test_paths_outside_the_support_have_one_wording(host: Host) -> None:
    """``do: interpolate`` finds the reason of a withheld pair in the warning of the diagnosis."""
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=near(-2))
    _, texts = geometry.path_diagnosis(geometry.solve(row(-2, 0), row(-2, 9)))
    assert any(_LEAVES in text for text in texts)


def test_what_was_solved_is_not_solved_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths of some of the pairs of the last call, and log p at ends."""
    geometry: Any = host.create("geometry:fermat", {"noise": 0.1}, score=Modes(), data=near(-2))
    x, y = torch.cat([row(-2, 0.1), row(-2, 0), row(-2.1, 0)]), torch.cat([row(-2, 0), row(-1.9, 0), row(-2, 0.1)])
    found = geometry.solve(x, y)
    wide = geometry.density.log_prob(torch.cat([x, y]))
    monkeypatch.setattr(geometry.density.model, "score", None)
    again = geometry.solve(x[[2, 0]], y[[2, 0]])
    assert again.length.tolist() == found.length[[2, 0]].tolist()
    assert torch.equal(again.paths[0], found.paths[2])
    assert geometry.density.log_prob(x[1:]).tolist() == wide[1:3].tolist()
    with pytest.raises(TypeError, match="not callable"):
        geometry.solve(y, x)


def test_build_looks_at_few_points_and_counts_what_is_withheld(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    data, context = near(-2), StageContext("here", split="test")
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=data)
    assert "distances withheld" not in build(geometry, {"data": data}, None, context).result["metrics"]
    few = geometry.lengths(data.load("test").x)
    assert few.shape == (12, 12)
    few[0, 1] = few[1, 0] = math.nan
    monkeypatch.setattr(geometry, "lengths", lambda points: few)
    metrics = build(geometry, {"data": data}, None, context).result["metrics"]
    assert (metrics["points"], metrics["distances withheld"]) == (12, 1)


def test_paths_outside_the_support_are_no_interpolation(host: Host) -> None:
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=near(-2))
    inside, outside = geometry.reasons(torch.cat([row(-2, 0), row(-2, 0)]), torch.cat([row(-2, 0.1), row(-2, 0.5)]))
    assert inside == ""
    assert outside.startswith("an end lies outside the support of the data")


def test_a_path_leaves_the_support_a_nat_below_held_out_points(host: Host) -> None:
    """Of N(0, I) with held-out points on a circle, all as likely: log p is -r^2 / 2 within 1e-10 and a constant."""
    angle = torch.linspace(0, 2 * math.pi, 41, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    data = TensorSource({"train": Dataset(circle), "test": Dataset(circle)})
    geometry: Any = host.create("geometry:score", {"noise": 1e-5}, score=Normal(torch.eye(2)), data=data)
    for level, reason in ((0.99, ""), (1.01, "an end lies outside the support of the data, more than a nat")):
        end = math.sqrt(1 + 2 * level)
        (found,) = geometry.reasons(row(1, 0), row(end, 0))
        assert found[: len(reason)] == reason
        assert bool(found) == bool(reason)


def test_a_first_look_and_a_path_through_noise_join_the_points(host: Host) -> None:
    """Of N(0, I) the path through noise is the circle, and the first look is near the geodesic."""
    geometry: Any = host.create("geometry:score", {"noise": 0.1}, score=EXACT, data=PLANE, dtype=torch.float64)
    x, y, s = torch.cat([row(2, 0), row(1, 1)]), torch.cat([row(0, 2), row(1, 1)]), torch.linspace(0, 1, 5).double()
    first, solved, noise = (way(x, y, s) for way in (geometry.sketch, geometry.geodesic, geometry.noise_path))
    torch.testing.assert_close(first, solved, atol=0.05, rtol=0)
    for path in (first, noise):
        torch.testing.assert_close(path[:, [0, -1]], torch.stack([x, y], 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(noise[0].norm(dim=1), torch.full((5,), 2.0).double(), atol=0.1, rtol=0)
    assert torch.equal(first[1], x[1].expand(5, 2))


def test_straight_lines_of_a_gaussian_are_denoised_by_its_shrinkage(host: Host) -> None:
    """E[x_0 | x] = x / (1 + sig^2) of N(0, I), so the baseline is the shrunken line. A flow has no noise."""
    geometry: Any = host.create("geometry:score", {"noise": 0.5}, score=EXACT, data=PLANE, dtype=torch.float64)
    shrink = 1 / (1 + geometry.sigma**2)
    x, y, times = row(2, 0), row(0, 2), torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    line = torch.tensor([[[2.0, 0.0], [1.5, 0.5], [0.0, 2.0]]], dtype=torch.float64)
    torch.testing.assert_close(geometry.straight_denoised(x, y, times), shrink * line, atol=1e-6, rtol=0)
    shown = pictured(geometry, line)
    expected = torch.cat([line, shrink * line, torch.lerp(x, y, torch.tensor([[0.0], [0.5], [1.0]]).double())[None]])
    torch.testing.assert_close(shown.x, torch.cat([expected, shrink * expected[2:]]), atol=1e-6, rtol=0)
    assert shown.group.count("denoised") == 2
    assert shown.rows == 4
    banana = {"flow": host.create("flow:banana"), "data": host.create("data:banana", {"points": 200})}
    of_flow = host.create("geometry:score", **banana).double()
    assert of_flow.sigma == 0
    torch.testing.assert_close(of_flow.straight_denoised(x, y, times), line, atol=0, rtol=0)
    assert pictured(of_flow, line).x.shape == (2, 3, 2)


def test_interpolate_puts_denoised_straight_lines_beside_geodesics(host: Host) -> None:
    """Held-out points (3, 0) and (0, 3), training points around the shrunken middle: the denoised line hits them."""
    context = StageContext("here", split="test")
    points = torch.tensor([[3.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    made = {"score": EXACT, "dtype": torch.float64}
    shrink = 1 / (1 + host.create("geometry:score", {"noise": 0.5}, data=PLANE, **made).sigma ** 2)
    data = TensorSource({"train": Dataset(shrink * points.mean(0, keepdim=True).repeat(2, 1)), "test": Dataset(points)})
    geometry: Any = host.create("geometry:score", {"noise": 0.5}, data=data, **made)
    geometry.reasons = lambda x, y: [""] * len(x)
    outcome = interpolate(geometry, {"data": data}, InterpolateOptions(pairs=1, times=3), context)
    metrics, answer = outcome.result["metrics"], outcome.result["answer"]
    assert metrics["denoised straight lines from the data"] == pytest.approx(0, abs=1e-6)
    assert answer["baselines"]["straight, denoised"] == metrics["denoised straight lines from the data"]
    assert 0 < answer["baselines"]["straight"] < answer["value"]
    assert "no closer than denoised straight lines" in answer["verdict"]


def test_pictures_of_images_have_denoised_rows_below_geodesics_and_lines(host: Host) -> None:
    """Four rows a geodesic, in ``interpolate`` and in the geometry's own figure."""
    draws = torch.randn(40, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    data = TensorSource({"train": Dataset(draws[:30]), "test": Dataset(draws[30:])})
    score = host.create("score:analytic", {"gaussian": True}, data=data)
    geometry: Any = host.create("geometry:score", {"noise": 0.5}, score=score, data=data)
    options, context = InterpolateOptions(pairs=4, times=5), StageContext("here", split="test")
    geometry.reasons = lambda x, y: [""] * len(x)
    shown = interpolate(geometry, {"data": data}, options, context).shown
    assert shown.x.shape == (8, 5, 1, 3, 3)
    assert shown.group == "a geodesic, its points denoised, the straight line, its points denoised"
    paths, lines = shown.x[::4], shown.x[2::4]
    for own, row in ((paths, shown.x[1::4]), (lines, shown.x[3::4])):
        torch.testing.assert_close(row, geometry.denoised(own.flatten(0, 1)).unflatten(0, (2, 5)))
        torch.testing.assert_close(own[:, [0, -1]], paths[:, [0, -1]], atol=1e-6, rtol=0)
    torch.testing.assert_close(lines[:, 2], (lines[:, 0] + lines[:, 4]) / 2)
    (figure,) = geodesic_figures(geometry).values()
    assert "its points denoised" in figure.axes[0].get_title()


def test_equal_points_and_both_directions(host: Host) -> None:
    geometry = host.create("geometry:score", {"noise": 0.3}, score=EXACT, data=PLANE, dtype=torch.float64)
    x, y = row(1.5, 0.2), row(-0.3, 1.1)
    assert geometry.distance(x, x).tolist() == [0.0]
    torch.testing.assert_close(geometry.distance(x, y), geometry.distance(y, x), atol=1e-9, rtol=0)
    assert geometry.distance_matrix(torch.cat([x, y])).diagonal().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["geometry:score", "geometry:fermat"])
def test_units_move_no_path(host: Host, name: str) -> None:
    """x -> 10 x with noise and weight kept: paths scale by 10, and lengths of both metrics too."""
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for unit in (1.0, 10.0):
        data = TensorSource({name: Dataset(unit * points[k::2]) for k, name in enumerate(("train", "test"))})
        score = host.create("score:analytic", {"gaussian": True}, data=data, dtype=torch.float64)
        geometry: Any = host.create(name, {"noise": 0.3}, score=score, data=data)
        a, b = unit * row(1.5, 0.2), unit * row(-0.3, 1.1)
        middle = geometry.geodesic(a, b, torch.tensor([0.5]))
        found.append(torch.cat([middle.flatten(), geometry.distance(a, b)]) / unit)
    torch.testing.assert_close(*found, atol=1e-6, rtol=0)


@pytest.mark.parametrize("process", ["ve", {"name": "vp", "t_min": 1e-4}, {"name": "edm", "sigma_data": 0.5}])
def test_a_process_with_a_signal_gives_the_same_geometry(host: Host, process: Any) -> None:
    score = {"use": "score:analytic", "config": {"process": process}, "inputs": {"data": PLANE}}
    geometry: Any = host.create("geometry:score", {"noise": 0.5}, score=score, data=PLANE, dtype=torch.float64)
    assert geometry.density.sigma == pytest.approx(0.5 * geometry.density.spread, rel=1e-3)
    found = geometry.density.score(row(2, 0))
    torch.testing.assert_close(found, row(-2 / (1 + geometry.density.sigma**2), 0), atol=1e-6, rtol=0)


def test_a_score_that_is_no_gradient_warns(host: Host) -> None:
    geometry = host.create("geometry:score", {"noise": 0.1}, score=Modes(turn=0.5), data=near(-2, 2))
    numbers, warnings = geometry.diagnose(near(-2, 2).load("test").x[:4])
    assert numbers["curl"] > 0.1
    assert any("no gradient" in text for text in warnings)
    true: Any = host.create("geometry:score", {"noise": 0.1}, score=Modes(), data=near(-2, 2))
    assert true.diagnose(near(-2, 2).load("test").x[:4])[0]["curl"] < 1e-6


def test_a_straight_geometry_says_so(host: Host) -> None:
    geometry = host.create(
        "geometry:score", {"noise": 0.3, "weight": 1e-3}, score=EXACT, data=PLANE, dtype=torch.float64
    )
    warnings = geometry.diagnose(torch.eye(2, dtype=torch.float64))[1]
    assert any("no different from straight lines" in text for text in warnings)


@pytest.mark.parametrize("start", ["noise", "graph"])
def test_other_starts_find_the_path_too(host: Host, start: str) -> None:
    settings = {"noise": 0.3, "solver": {"starts": [start]}}
    geometry: Any = host.create("geometry:score", settings, score=EXACT, data=PLANE, dtype=torch.float64)
    plain = host.create("geometry:score", {"noise": 0.3}, score=EXACT, data=PLANE, dtype=torch.float64)
    a, b = row(1.5, 0.2), row(-0.3, 1.1)
    found = geometry.solve(a, b)
    torch.testing.assert_close(found.length, plain.distance(a, b), atol=1e-5, rtol=0)
    assert found.starts == 3
    assert int(found.agree) == 3


def test_points_outside_the_data_warn(host: Host) -> None:
    for name in ("geometry:land", "geometry:rbf"):
        geometry: Any = host.create(name, {}, data=near(-2, 2))
        assert geometry.diagnose(row(50, 50))[1]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"t": 0.1}, "noise: 0.2 is the ratio of the noise's deviation"),
        ({"lambda": 1.0}, "weight: 1 counts log p"),
        ({"guidance": 2.0}, "gradient of no density"),
        ({"noise": -1}, "a number above 0"),
        ({"solver": {"points": 8}}, "at least 16"),
    ],
)
def test_settings_that_mean_something_else_are_refused(host: Host, config: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        host.create("geometry:score", config, score=EXACT, data=PLANE)


def test_models_that_do_not_fit_are_refused(host: Host) -> None:
    banana = {"flow": {"use": "flow:banana"}, "data": {"use": "data:banana", "config": {"points": 50}}}
    with pytest.raises(ConfigError, match="neither a score nor a flow"):
        host.create("geometry:score", data=PLANE)
    with pytest.raises(ConfigError, match="both a score and a flow"):
        host.create("geometry:score", score=EXACT, **banana)
    with pytest.raises(ConfigError, match="without noise"):
        host.create("geometry:score", {"noise": 0.2}, **banana)
    with pytest.raises(ConfigError, match="a flow denoises nothing"):
        host.create("geometry:score", {"form": "residual"}, **banana)
    with pytest.raises(ConfigError, match="takes none"):
        host.create("geometry:score", {"condition": 1}, score=EXACT, data=PLANE)
    score = Modes()
    score.process = nn.Module()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="no single noise level"):
        host.create("geometry:score", score=score, data=near(-2, 2))
    with pytest.raises(ConfigError, match="events"):
        host.create("geometry:score", score=EXACT, data={"use": "data:digits", "config": {"limit": 50}})
    with pytest.raises(ConfigError, match="no such function"):
        host.create("geometry:metric", {"target": "scorefold_scoregeometry.examples:nothing", "dimension": 2})


@pytest.mark.parametrize(
    ("spec", "given", "text"),
    [
        (TensorSpec((), classes=10), None, "a class below 10"),
        (TensorSpec((), classes=10), 10, "a class from 0 to 9"),
        (TensorSpec((3,)), (1.0, 2.0), "takes 3"),
        (TensorSpec((1, 4, 4)), None, "guided by an observation"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(host: Host, spec: TensorSpec, given: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        host.create("geometry:score", {"condition": given}, score=Modes(spec=spec), data=near(-2, 2))


@pytest.mark.parametrize(("spec", "given"), [(TensorSpec((), classes=10), 3), (TensorSpec((3,)), (1.0, 2.0, 3.0))])
def test_one_condition_serves_both_ends(host: Host, spec: TensorSpec, given: Any) -> None:
    geometry: Any = host.create(
        "geometry:score", {"condition": given, "noise": 0.1}, score=Modes(spec=spec), data=near(-2, 2)
    )
    assert float(geometry.distance(row(-2, 0), row(-2, 0.1))) > 0.1


def test_a_guided_prior_is_refused(host: Host) -> None:
    digits = {"use": "data:digits", "config": {"limit": 60}}
    prior = {"use": "score:analytic", "config": {"gaussian": True, "process": "vp"}, "inputs": {"data": digits}}
    dps = {
        "use": "score:dps",
        "config": {"operator": {"name": "box-downsample", "factor": 2}},
        "inputs": {"prior": prior},
    }
    with pytest.raises(ConfigError, match="guided by an observation"):
        host.create("geometry:score", score=dps, data=digits)


def test_a_model_whose_calls_differ_is_refused(host: Host) -> None:
    score = Modes()
    score.dropout = nn.Dropout()
    geometry = host.create("geometry:score", {"noise": 0.1}, score=score.train(), data=near(-2, 2))
    with pytest.raises(ConfigError, match=r"call model.eval\(\)"):
        geometry.distance(row(-2, 0), row(-2, 0.1))
    score.eval()
    assert float(geometry.distance(row(-2, 0), row(-2, 0.1))) > 0.1


def test_points_and_times_that_do_not_fit_are_refused(host: Host) -> None:
    geometry = host.create("geometry:score", score=EXACT, data=PLANE, dtype=torch.float64)
    x = row(1, 0)
    with pytest.raises(ShapeError, match="takes"):
        geometry.distance(torch.zeros(1, 3, dtype=torch.float64), x)
    with pytest.raises(ShapeError, match="float32"):
        geometry.distance(x.float(), x)
    with pytest.raises(DataError, match="NaN"):
        geometry.distance(row(math.nan, 0), x)
    with pytest.raises(DataError, match="times from 0 to 1"):
        geometry.geodesic(x, -x, torch.tensor([1.5], dtype=torch.float64))
    with pytest.raises(ShapeError, match="rows"):
        geometry.distance(x.repeat(2, 1), x.repeat(3, 1))
    residual: Any = host.create("geometry:score", {"form": "residual"}, score=EXACT, data=PLANE, dtype=torch.float64)
    with pytest.raises(DataError, match="u and w are parallel"):
        residual.curvature(x, x, x)


def test_a_noise_that_the_score_does_not_know(host: Host) -> None:
    score = Modes()
    score.process = VE(sigma_min=0.05, sigma_max=50.0)
    low: Any = host.create("geometry:score", {"noise": 1e-4}, score=score, data=near(-2, 2))
    with pytest.warns(UserWarning, match="below what the score knows"):
        assert low.density.sigma == pytest.approx(0.05)
    high: Any = host.create("geometry:score", {"noise": 60.0}, score=score, data=near(-2, 2))
    with pytest.raises(ConfigError, match=r"from 0.05 to 50(.|\n)*set noise: 47.5 or less"):
        high.distance(row(-2, 0), row(2, 0))


def test_matrices_that_are_no_metric_are_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    import scorefold_scoregeometry.examples as examples

    geometry = host.create("geometry:metric", {"target": "scorefold_scoregeometry.examples:normal", "dimension": 2})
    with pytest.raises(ShapeError, match="expected"):
        geometry.metric(row(1, 2))
    for matrix, text in (([[1.0, 0.5], [0.0, 1.0]], "not symmetric"), ([[1.0, 2.0], [2.0, 1.0]], "positive definite")):
        answer = torch.tensor(matrix, dtype=torch.float64)
        monkeypatch.setattr(examples, "paraboloid", lambda x, answer=answer: answer.expand(len(x), 2, 2))
        own = {"target": "scorefold_scoregeometry.examples:paraboloid", "dimension": 2}
        with pytest.raises(DataError, match=text):
            host.create("geometry:metric", own).metric(row(1, 2))


def test_trial_points_outside_the_domain_make_a_step_shorter_and_given_ones_are_refused(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Covariances by (a, b, c): 1 / det is negative outside the cone, where the matrix is not positive definite."""
    monkeypatch.setenv(VARIABLE, "known_metrics")
    geometry = host.create("geometry:metric", {"target": "known_metrics:of_covariances", "dimension": 3})
    mean = geometry.mean(torch.cat([row(4, 0, 1), row(1, 0, 9)]))
    torch.testing.assert_close(mean, row(2, 0, 3)[0], atol=1e-4, rtol=0)
    with pytest.raises(DataError, match="not positive definite, at 1 of 2 points"):
        geometry.distance(torch.cat([row(1, 0, 1), row(1, 2, 1)]), row(1, 0, 2))


def test_denoised_points_are_those_of_the_model(host: Host) -> None:
    geometry = host.create("geometry:score", {"noise": 0.5}, score=EXACT, data=PLANE, dtype=torch.float64)
    assert isinstance(geometry, FromDensity)
    sigma = geometry.density.sigma
    torch.testing.assert_close(geometry.denoised(row(2, 0)), row(2 / (1 + sigma**2), 0), atol=1e-6, rtol=0)

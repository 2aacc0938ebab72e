"""Wrong run files of geodesics from a score: each is refused with the reason and the line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from scorefold.errors import ConfigError, ScorefoldError
from scorefold_registry import Host
from scorefold_registry.run.pipeline import run_file
from scorefold_scoregeometry.config import MetricConfig
from scorefold_scoregeometry.own import MetricGeometry
from scorefold_toolkit.checks import VARIABLE

PLANE = "{use: data:subspace, config: {dimension: 2, ambient: 2, points: 400}}"
EXACT = "{use: score:analytic, inputs: {data: data}}"
FLOW = "{use: flow:banana}"
DIGITS = "{use: data:digits, config: {limit: 60}}"
LABELLED = "{use: data:digits, config: {condition: label, limit: 60}}"
TINY = "network: {use: network:mlp, config: {width: 8}}, training: {steps: 1, batch_size: 8}"
CLASSES = f"{{use: score:conditional, inputs: {{data: data}}, config: {{estimator: cde, {TINY}}}}}"
BANDS = "{use: score:%s, inputs: {data: data}, config: {network: {use: network:mlp}, training: {steps: 1}}}"
PRIOR = f"{{use: score:denoising, inputs: {{data: data}}, config: {{{TINY}}}}}"
DPS = "{use: score:dps, inputs: {prior: other, data: data}, config: {operator: {name: mask, region: square}}}"
IN_CLASSES = {"score": CLASSES, "data": LABELLED}
OF_FLOW = {"score": FLOW, "inputs": "flow: score, data: data"}
FAR = "{use: data:subspace, config: {dimension: 2, ambient: 2, points: 400, mean: [30, 0]}}"
SPACE = "{use: data:subspace, config: {dimension: 2, ambient: 3, points: 400}}"

GEOMETRY, PATHS = 6, 7
"""The lines of these stages in the run file."""


def written(
    folder: Path,
    config: str = "",
    score: str = EXACT,
    data: str = PLANE,
    inputs: str = "score: score, data: data",
    use: str = "geometry:score",
    options: str = "pairs: 2",
    ends: str = "data",
    other: str = PLANE,
) -> Path:
    """A run file with a geometry in line ``GEOMETRY`` and its paths in line ``PATHS``."""
    file = folder / "wrong.yaml"
    file.write_text(
        f"""version: 1
name: wrong
stages:
  data: {data}
  score: {score}
  geometry: {{use: {use}, inputs: {{{inputs}}}, config: {{{config}}}}}
  paths: {{use: geometry, do: interpolate, inputs: {{data: {ends}}}, options: {{{options}}}}}
  other: {other}
"""
    )
    return file


CASES: dict[str, tuple[dict[str, str], int, str]] = {
    "guidance": (
        {"config": "guidance: 2"},
        GEOMETRY,
        "guidance is 2; expected 1. A guided score is the gradient of no",
    ),
    "t": ({"config": "t: 0.5"}, GEOMETRY, "there is no setting 't'; noise: 0.2 is the ratio"),
    "lam": ({"config": "lam: 0.5"}, GEOMETRY, "there is no setting 'lam'; weight: 1 counts log p"),
    "beta": ({"config": "beta: 2", "use": "geometry:fermat"}, GEOMETRY, "no setting 'beta'; exponent: 1 is beta"),
    "no noise": ({"config": "noise: 0"}, GEOMETRY, "noise is 0 (a number); expected a number above 0"),
    "much noise": ({"config": "noise: 90"}, GEOMETRY, "noise from 0.000977 to 48.9\n  set noise: 46.4 or less"),
    "weight": ({"config": "weight: 0"}, GEOMETRY, "weight is 0 (a number); expected a number above 0"),
    "form": ({"config": "form: grph"}, GEOMETRY, "form is 'grph' (text); expected 'graph', 'residual', 'jacobian' or"),
    "points": (
        {"config": "solver: {points: 10}"},
        GEOMETRY,
        "solver.points is 10 (a number); expected a multiple of 4",
    ),
    "needless condition": ({"config": "condition: 1"}, GEOMETRY, "AnalyticScore takes none\n  leave condition out"),
    "no condition": (IN_CLASSES, GEOMETRY, "got none: both ends have one, a class below 10\n  set condition: 0"),
    "class 11": ({**IN_CLASSES, "config": "condition: 11"}, GEOMETRY, "expected a class from 0 to 9"),
    "vector": ({**IN_CLASSES, "config": "condition: [1, 2]"}, GEOMETRY, "expected a class from 0 to 9"),
    "multi-scale": ({"score": BANDS % "multiscale", "data": DIGITS}, GEOMETRY, "has no single noise level a time"),
    "non-uniform": ({"score": BANDS % "nonuniform", "data": DIGITS}, GEOMETRY, "has no single noise level a time"),
    "dps": (
        {"score": DPS, "data": DIGITS, "other": PRIOR},
        GEOMETRY,
        "DPS is guided by an observation, so its score is no gradient",
    ),
    "no model": ({"inputs": "data: data"}, GEOMETRY, "neither a score nor a flow"),
    "no data": ({"inputs": "score: score"}, GEOMETRY, "nothing is plugged into port 'data'"),
    "other data": (
        {"inputs": "score: score, data: other", "other": SPACE},
        GEOMETRY,
        "events (3,); the model's are (2,)",
    ),
    "flow as score": ({"score": FLOW}, GEOMETRY, "stage 'score', of kind flow, is plugged into it"),
    "noise of a flow": ({**OF_FLOW, "config": "noise: 0.2"}, GEOMETRY, "leave noise out"),
    "a lifted flow": ({**OF_FLOW, "config": "lift: noise"}, GEOMETRY, "leave lift out"),
    "form of a flow": ({**OF_FLOW, "config": "form: fisher"}, GEOMETRY, "a flow denoises nothing"),
    "ends outside": ({"ends": "other", "other": FAR}, PATHS, "an end lies outside the support of the data"),
    "ends in space": (
        {"ends": "other", "other": SPACE},
        PATHS,
        "data of shape (3,) with a geometry for events of shape",
    ),
    "row": ({"options": "between: [[0, 4000]]"}, PATHS, "between names row 4000"),
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_run_is_refused_with_its_line(name: str, host: Host, tmp_path: Path) -> None:
    given, line, said = CASES[name]
    with pytest.raises(ScorefoldError) as caught:
        run_file(host, written(tmp_path, **given))
    text = str(caught.value)
    assert re.search(rf"wrong\.yaml:{line}:\d+: ", text), text
    assert said in text


@pytest.mark.usefixtures("undrawn")
def test_equal_points_are_at_no_distance(host: Host, tmp_path: Path) -> None:
    result = run_file(host, written(tmp_path, options="between: [[3, 3], [4, 5]]"))
    lengths = load_file(result.folder / "paths/arrays.safetensors")["lengths"]
    assert float(lengths[0]) == 0
    assert float(lengths[1]) > 0


@pytest.mark.usefixtures("undrawn")
def test_a_run_file_runs_code_with_permission_only(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for ``data:activations``: a function in a run file is not imported before its module is allowed."""
    ran, module = tmp_path / "ran", tmp_path / "unasked_metric.py"
    text = "import torch\n\ndef flat(x):\n    return torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)\n"
    module.write_text(f"open({str(ran)!r}, 'w').close()\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    for target in ("unasked_metric:flat", "os:system"):
        name = target.partition(":")[0]
        file = written(tmp_path, f"target: '{target}', dimension: 2", use="geometry:metric", inputs="")
        with pytest.raises(ConfigError, match="only with your permission") as caught:
            run_file(host, file)
        assert f"wrong.yaml:{GEOMETRY}:" in str(caught.value)
        assert f"export {VARIABLE}={name}" in str(caught.value)
    assert not ran.exists()
    monkeypatch.setenv(VARIABLE, "unasked_metric")
    file = written(tmp_path, "target: 'unasked_metric:flat', dimension: 2", use="geometry:metric", inputs="")
    assert run_file(host, file).value("geometry").dimension == 2
    assert ran.exists()


def test_python_hands_a_function_over() -> None:
    def flat(x: Tensor) -> Tensor:
        return 4 * torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)

    own = MetricGeometry(MetricConfig(dimension=2), function=flat)
    a, b = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    assert float(own.distance(a, b)) == pytest.approx(10)
    with pytest.raises(ConfigError, match="this geometry has no function"):
        MetricGeometry(MetricConfig(dimension=2))

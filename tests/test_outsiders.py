"""Two plugins of third parties, made from the template and installed from wheels away from this repository.

One takes the place of a method of ours by a word in the run file, the other wraps one of ours and adds to it. All of
Scorefold comes from wheels there, too.
"""

from __future__ import annotations

import json
import math
import tomllib
from itertools import product
from pathlib import Path
from typing import Any

from wheel_building import BUILD, build_wheels, buildable, members

ROOT = Path(__file__).parent.parent
NAMES = ("mle", "ratio", "halves")
CASES = ("2-sphere", "sheet")

CONFIG = '''"""The settings of estimator:halves, as a run file writes them under `config`."""

from pydantic import Field
from scorefold.config import Config


class HalvesEstimatorConfig(Config):
    """How often to ask."""

    repeats: int = Field(9, ge=3, description="Random halves of the points that the other estimator is asked about")
'''

METHOD = '''"""The spread of another estimator over random halves of the points."""

from statistics import median

import torch
from scorefold.data import Dataset, as_dataset
from scorefold.errors import DataError
from scorefold.interfaces import Estimator
from scorefold.results import Estimate
from torch import Tensor

from scorefold_halves.config import HalvesEstimatorConfig


class Halves:
    """What looks at halves of the points."""


class HalvesEstimator(Estimator, Halves):
    """The median of what the estimator plugged into ``inner`` says of random halves, with the range as the interval."""

    def __init__(self, config: HalvesEstimatorConfig, *, inner: Estimator) -> None:
        self.config = config
        self.inner = inner

    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """Raises ``DataError`` for fewer than 50 points, and as ``inner`` does for half of them."""
        dataset = as_dataset(data)
        if len(dataset) < 50:
            raise DataError(f"{len(dataset)} points were given; estimator:halves needs at least 50")
        generator = generator or torch.Generator().manual_seed(0)
        found = []
        for _ in range(self.config.repeats):
            order = torch.randperm(len(dataset), generator=generator, device=generator.device)
            found.append(self.inner.estimate(dataset.take(order[: len(dataset) // 2]), generator=generator))
        values = [one.value for one in found]
        return Estimate(found[0].quantity, median(values), (min(values), max(values)))
'''

DECLARED = """        summary="The spread of another estimator over random halves of the points",
        requires=(Port("inner", kind="estimator", default={"use": "estimator:mle"}),),
        provides=("Halves",),
        examples=({"config": {"repeats": 3}},),
"""


OUTSIDE = """
    yield Component(
        kind="metric",
        name="outside",
        target="scorefold_halves.outside:Outside",
        config="scorefold.config:Config",
        summary="The share of samples beyond every held-out point",
    )
"""

VERB = '''

@hookimpl
def scorefold_verbs():
    """A verb for every estimator, ours included."""
    yield Verb(
        "count",
        takes=(Port("data", kind="data"),),
        gives="metrics",
        target="scorefold_halves.verbs:count",
        kinds=("estimator",),
        needs=("Halves",),
        examples=({"use": "estimator:halves", "inputs": {"data": {"use": "data:sphere"}}},),
    )


@hookimpl
def scorefold_capabilities():
    """What the verb needs, which a component of ours could provide too."""
    yield Capability("Halves", "scorefold_halves.estimator:Halves", "It looks at halves of the points")
'''

METRIC = '''"""The share of samples beyond every held-out point in some coordinate."""

from scorefold.config import Config
from scorefold_toolkit.metrics.measure import Measure, Metric


class Outside(Metric):
    """Of vectors and images alike."""

    def __init__(self, config):
        pass

    def start(self, units, event_shape, condition_spec):
        return Share()


class Share(Measure):
    def __init__(self):
        self.truths, self.samples = [], []

    def add(self, batch):
        self.truths += [*batch.truth.flatten(1)]
        self.samples += [*batch.draws.flatten(0, 1).flatten(1)]

    def metrics(self):
        low = [min(float(x[i]) for x in self.truths) for i in range(len(self.truths[0]))]
        high = [max(float(x[i]) for x in self.truths) for i in range(len(self.truths[0]))]
        out = [any(not a <= float(v) <= b for a, v, b in zip(low, x, high)) for x in self.samples]
        return {"share outside": sum(out) / len(out)}
'''

COUNT = '''"""The verb ``count``."""

from scorefold.stage import Outcome


def count(component, inputs, options, context):
    """How many training points there are for an estimator."""
    points = len(inputs["data"].load("train"))
    return Outcome({"points": points}, {"metrics": {"points": points}})
'''

COUNTED = """version: 1
name: counted
stages:
  data: {use: data:sphere, config: {points: 60, fractions: [1, 0, 0]}}
  counted: {use: estimator:halves, do: count, inputs: {data: data}}
"""

ASSESSED = """version: 1
name: assessed
stages:
  data: {use: data:sphere, config: {points: 90, fractions: [0.5, 0, 0.5]}}
  score: {use: score:analytic, config: {gaussian: true}, inputs: {data: data}}
  draws:
    use: score
    do: assess
    inputs: {data: data, metrics: [{use: metric:outside}]}
    options: {n: 2, conditions: 20, steps: 8}
"""


def new(environment: Any, name: str) -> Path:
    """A new estimator plugin, from the template that is installed there."""
    environment.scorefold("new", name, "--kind", "estimator")
    made: Path = environment.folder / f"scorefold-{name}"
    return made


def make_wrapper(plugin: Path) -> None:
    """Edits the new plugin ``halves`` as its author would, into one that wraps whatever estimator is plugged in."""
    package = plugin / "src" / "scorefold_halves"
    (package / "config.py").write_text(CONFIG)
    (package / "estimator.py").write_text(METHOD)
    declaration = (package / "plugin.py").read_text()
    start, end = declaration.index("        summary="), declaration.index("        cite=")
    declaration = declaration[:start] + DECLARED + declaration[end:]
    declaration = declaration.replace("Component, hookimpl", "Capability, Component, Port, Verb, hookimpl")
    (package / "plugin.py").write_text(declaration + OUTSIDE + VERB)
    (package / "verbs.py").write_text(COUNT)
    (package / "outside.py").write_text(METRIC)


def named(folder: Path) -> str:
    name: str = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"]
    return name


def swapped(file: Path, ours: str, theirs: str) -> str:
    """The text of a run file of ours in which one word was replaced."""
    text = file.read_text()
    stages = text[text.index("stages:") :]
    assert stages.count(ours) == 1
    return text.replace(stages, stages.replace(ours, theirs))


def installed(environment: Any, folder: Path) -> None:
    """All of ours and the two plugins, as wheels, each found beside the others and none in this repository."""
    ours, dist = buildable(members()), folder / "dist"
    build_wheels(dist, ours)
    offline = ("install", "--no-index", "--find-links", dist)
    # Ours are seen from the environment that runs the tests, too, and pip would leave it at that.
    environment.pip(*offline, "--no-deps", "--ignore-installed", *map(named, ours))
    theirs = [new(environment, "ratio"), new(environment, "halves")]
    make_wrapper(theirs[1])
    environment.call("-c", BUILD, dist, *theirs)
    environment.pip(*offline, *map(named, theirs))
    wanted = ["scorefold", "scorefold_registry", "scorefold_standard", "scorefold_ratio", "scorefold_halves"]
    code = f"import {', '.join(wanted)}; print(*(m.__file__ for m in ({', '.join(wanted)})), sep='\\n')"
    places = environment.call("-c", code).split()
    assert [path for path in places if not Path(path).is_relative_to(environment.site)] == []


def check_passes(answer: tuple[int, str]) -> None:
    """What ``plugins check`` printed: all checks hold, and enough of them were tried."""
    status, text = answer
    checks = json.loads(text)["checks"]
    assert status == 0, [item for item in checks if item["result"] == "failed"]
    assert ("floor", "passed") in {(item["check"], item["result"]) for item in checks}


def check_rows(answer: tuple[int, str], folder: Path) -> None:
    """What ``compare`` printed and wrote: each estimator on each case, the wrapper with the default of its port."""
    status, text = answer
    rows = {(row["component"], row["case"]): row for row in json.loads(text)["rows"]}
    assert status == 0, [row["error"] for row in rows.values()]
    assert set(rows) == set(product([f"estimator:{name}" for name in NAMES], CASES))
    assert all(row["value"] is not None and row["truth"] == 2 for row in rows.values())
    for case in CASES:
        assert "estimator:mle" in (folder / rows["estimator:halves", case]["run_file"]).read_text()
        assert abs(rows["estimator:halves", case]["difference"]) < 0.5


def dimension(answer: tuple[int, str]) -> tuple[float, float, float]:
    """The dimension that a run found, with the ends of its interval."""
    status, text = answer
    assert status == 0, text
    (found,) = [item["metrics"] for item in json.loads(text)["stages"] if item["name"] == "dimension"]
    quantity = "intrinsic dimension"
    return found[quantity], found.get(f"{quantity}, lower", math.nan), found.get(f"{quantity}, upper", math.nan)


def test_third_parties_stand_beside_us(environment: Any, tmp_path: Path) -> None:
    installed(environment, tmp_path)
    ours = ROOT / "examples" / "digits-dimension-mle.yaml"
    for name in ("ratio", "halves"):
        (environment.folder / f"{name}.yaml").write_text(swapped(ours, "estimator:mle", f"estimator:{name}"))
    plugged = "inputs: {data: data, inner: {use: estimator:twonn}}"
    text = swapped(environment.folder / "halves.yaml", "inputs: {data: data}", plugged)
    (environment.folder / "plugged.yaml").write_text(text)
    (environment.folder / "counted.yaml").write_text(COUNTED)
    (environment.folder / "incapable.yaml").write_text(COUNTED.replace("estimator:halves", "estimator:mle"))
    (environment.folder / "assessed.yaml").write_text(ASSESSED)

    ratio, halves, (_, schema), *runs, (_, counted), (status, refused), (_, assessed), compared = environment.commands(
        ("plugins", "check", "estimator:ratio", "--json"),
        ("plugins", "check", "halves", "--json"),
        ("schema", "--json"),
        *(("run", file, "--json", "--quiet") for file in (ours, "ratio.yaml", "halves.yaml", "plugged.yaml")),
        ("run", "counted.yaml", "--json", "--quiet"),
        ("run", "incapable.yaml", "--json", "--quiet"),
        ("run", "assessed.yaml", "--json", "--quiet"),
        (
            "compare",
            "estimator",
            "--only",
            ",".join(NAMES),
            "--data",
            ",".join(CASES),
            "--out",
            "table",
            "--json",
            "--quiet",
        ),
    )
    check_passes(ratio)
    check_passes(halves)
    assert [name for name in NAMES if f'"estimator:{name}"' not in schema] == []
    check_rows(compared, environment.folder / "table")
    mle, by_ratio, by_halves, by_plugged = map(dimension, runs)
    # Of digits the one counts the directions of the span; the other stays near what it wraps, and adds an interval.
    assert by_ratio[0] > 1.5 * mle[0]
    assert abs(by_halves[0] - mle[0]) < 1
    assert by_halves[1] < by_halves[0] < by_halves[2]
    assert by_plugged[0] != by_halves[0]

    assert json.loads(counted)["stages"][-1]["metrics"]["points"] == 60
    assert status == 2
    assert "needs Halves" in refused
    assert 0 <= json.loads(assessed)["stages"][-1]["metrics"]["share outside"] <= 1
    environment.pip("uninstall", "--yes", "scorefold-halves")
    (status, said), (assess_status, assess_said) = environment.commands(
        ("run", "incapable.yaml", "--json", "--quiet"), ("run", "assessed.yaml", "--json", "--quiet")
    )
    assert (status, assess_status) == (2, 2)
    assert "estimator:mle has no verb 'count'" in said
    assert "there is no 'metric:outside'" in assess_said

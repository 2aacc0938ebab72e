"""Geodesics of a score between images of Fashion-MNIST, beside straight lines, denoised lines and paths through noise.

--score is the folder of a trained score: plugins/models/src/scorefold_models/models/fashion-score, or the stage `score`
of a run of benchmarks/score_geometry_images.yaml. Several folders take turns by seed. For each seed --pairs pairs of
test images are drawn, half of one class and half of two. Each row of the table is a way from one image to the other, as
it is and with each of its points denoised at the same noise. Middles are compared with the nearest training and
held-out images, by sharpness, and by Frechet distances of 64 features of random convolutions. A classifier of the
training split reads nine times of a path. Paths whose length is withheld stay in all means, and are counted. The same
metrics of the Gaussian of the data's covariance stand beside. Numbers have standard errors. Rows are written to --out
as they come, and those there are not measured again. Gates stand in docs/evidence/score-geodesics.md.

With --pictures two PNGs are written there, of the first seed.

Run: python benchmarks/score_geometry_images.py --score FOLDER [FOLDER ...] [--pairs 16] [--seeds 3] [--noise 0.5]
     [--points 16] [--whole] [--only EXPRESSION] [--out FOLDER] [--pictures] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _path_pictures import PICTURED, Paths, curves, images
from _turns import Row, finish
from torch import Tensor, nn

from scorefold.interfaces import DataSource, ScoreModel, TensorSource
from scorefold_registry import Host
from scorefold_scoregeometry.starts import NeighbourGraph, noise_path
from scorefold_toolkit.geodesics import Diagonal
from scorefold_toolkit.metrics.distances import frechet_distance
from scorefold_toolkit.metrics.features import RandomConv
from scorefold_toolkit.metrics.images import sharpness

FASHION = "/usr/share/datasets/fashion-mnist"
TIMES, STEPS, KNOWN = 9, 16, 5000
TOLERANCE, MOST, HELD_OUT = 1e-4, 12, 48
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "graph": ("geometry:score", {"form": "graph"}),
    "fermat": ("geometry:fermat", {}),
    "residual": ("geometry:score", {"form": "residual"}),
    "graph, weight 5": ("geometry:score", {"form": "graph", "weight": 5}),
    "fermat, exponent 10": ("geometry:fermat", {"exponent": 10}),
}
GATES = ("graph", "fermat", "residual")
"""The forms at their default weight, of which gates (a) to (c) are read."""


class Counted:
    """Numbers of rows for which a score was asked, with and without a derivative."""

    def __init__(self, model: ScoreModel) -> None:
        self.rows = self.derived = 0
        inner = model.score

        def score(x: Tensor, *others: Any) -> Tensor:
            self.rows += len(x)
            self.derived += len(x) * x.requires_grad
            return inner(x, *others)

        model.score = score  # type: ignore[method-assign, assignment]


def classifier(data: DataSource, seed: int = 0) -> nn.Module:
    """A small convolutional network, trained on the training split; its accuracy on the test split is printed."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    train, test = data.load("train"), data.load("test")
    assert train.label is not None
    assert test.label is not None
    adam = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(3):
        for rows in torch.randperm(len(train)).split(128):
            adam.zero_grad()
            nn.functional.cross_entropy(network(train.x[rows]), train.label[rows]).backward()
            adam.step()
    with torch.no_grad():
        right = (network(test.x).argmax(1) == test.label).float().mean()
    print(f"classifier: {float(right):.3f} of the test images are right", flush=True)
    return network.requires_grad_(False).eval()


class Measures:
    """Measurements of paths (B, 9, 1, 28, 28) between pairs of test images, of one seed."""

    def __init__(self, data: DataSource, network: nn.Module, pairs: int, seed: int) -> None:
        test, train = data.load("test"), data.load("train")
        assert test.label is not None
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
        alike = [order[test.label[order] == label] for label in range(10)]
        chosen = [alike[k % 10][2 * (k // 10) : 2 * (k // 10) + 2] for k in range(pairs // 2)]
        used = set(torch.cat(chosen).tolist())
        rest = [row for row in order.tolist() if row not in used]
        for _ in range(pairs - len(chosen)):
            first = rest.pop(0)
            place = next(k for k, row in enumerate(rest) if test.label[row] != test.label[first])
            chosen.append(torch.tensor([first, rest.pop(place)]))
        pair = torch.stack(chosen)
        self.x, self.y = test.x[pair[:, 0]], test.x[pair[:, 1]]
        self.label, self.alike = test.label[pair[:, 0]], torch.arange(pairs) < pairs // 2
        self.rows = tuple(part.flatten(1).double() for part in (self.x, self.y))
        self.network, self.ends = network, torch.cat([self.x, self.y])
        self.train, self.held = train.x.flatten(1), test.x[rest].flatten(1)
        features = RandomConv(1)
        self.features = features
        self.known = features(test.x[rest[:KNOWN]])
        self.own = [_nearest(self.ends, known) for known in (self.train, self.held)]
        fresh = test.x[rest[KNOWN : KNOWN + pairs]]
        self.floor = frechet_distance(features(fresh), self.known)

    def of(self, paths: Tensor) -> Row:
        """Numbers of paths; values a pair where an interval is read from them."""
        paths = paths.float()
        middles, inside = paths[:, TIMES // 2], paths[:, 1:-1]
        odds = self.network(inside.flatten(0, 1).clamp(0, 1)).softmax(1).unflatten(0, inside.shape[:2])
        sure = odds.amax(2).mean(1)
        stays = (odds.argmax(2) == self.label[:, None]).all(1)
        span = (self.y - self.x).flatten(1).norm(dim=1)
        near = [
            float(_nearest(middles, known).mean() / own.mean())
            for known, own in zip((self.train, self.held), self.own, strict=True)
        ]
        return {
            "train": near[0],
            "held": near[1],
            "sharpness": float(sharpness(middles).mean() / sharpness(self.ends).mean()),
            "frechet": frechet_distance(self.features(middles.clamp(0, 1)), self.known),
            "confidence": sure.tolist(),
            "alike": self.alike.tolist(),
            "stays": stays[self.alike].tolist(),
            "length": float((paths.diff(dim=1).flatten(2).norm(dim=2).sum(1) / span).mean()),
        }


def _nearest(x: Tensor, known: Tensor) -> Tensor:
    return torch.cdist(x.flatten(1).float(), known).amin(1)


def bound_the_solver() -> None:
    """Two grids and one try: a single pair of images took 42,000 calls before it was given up."""
    solver: Any = sys.modules["scorefold_toolkit.geodesics.solve"]
    solver._DOUBLINGS, solver._surely = 0, solver._solved


Way = Callable[[Measures], tuple[Tensor, Row]]


def straight(measures: Measures, steps: int) -> Tensor:
    share = torch.linspace(0, 1, steps + 1).reshape(1, -1, 1, 1, 1)
    return (1 - share) * measures.x[:, None] + share * measures.y[:, None]


def solved(geometry: Any, counted: Counted) -> Way:
    """Geodesics (B, 17, *E), those that are withheld among them, and what the solver says."""

    def way(measures: Measures) -> tuple[Tensor, Row]:
        before = counted.rows
        found = geometry.solve(measures.x, measures.y)
        solving = (counted.rows - before) / len(measures.x)
        reasons = geometry.reasons(measures.x, measures.y)
        paths = found.at(torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)).unflatten(2, geometry.event_shape)
        said = {"gain": found.gain.tolist(), "reasons": [text.split(":")[0] for text in reasons]}
        return paths, {**said, "solver": found.calls.tolist(), "solving": solving}

    return way


def ways(
    host: Host, data: DataSource, score: ScoreModel, null: ScoreModel, counted: Counted, options: argparse.Namespace
) -> tuple[Any, dict[str, Way]]:
    """A geometry of the score at the noise, and how the paths of each row are found."""
    settings = {"points": options.points, "tolerance": TOLERANCE, "steps": MOST}
    base = {"noise": options.noise, "solver": settings}
    few = TensorSource({"train": data.load("train"), "test": data.load("test").take(torch.arange(HELD_OUT))})
    few.event_scale = data.event_scale  # log p at a held-out point takes 90 calls
    plain, other = (host.create("geometry:fermat", base, score=model, data=few) for model in (score, null))
    assert all(len(each.density.levels) for each in (plain, other))  # the support is read before calls are counted

    def noise(measures: Measures) -> tuple[Tensor, Row]:
        return noise_path(plain.density, *measures.rows).unflatten(2, plain.event_shape), {}

    def neighbours(measures: Measures) -> tuple[Tensor, Row]:
        return NeighbourGraph(data, Diagonal(torch.ones_like)).paths(*measures.rows).unflatten(2, plain.event_shape), {}

    found: dict[str, Way] = {
        "straight": lambda measures: (straight(measures, STEPS), {}),
        "noise path": noise,
        "kNN graph": neighbours,
    }
    for label, (name, config) in FORMS.items():
        for model, of, ending in ((score, plain, ""), (null, other, ", of a Gaussian")):
            geometry: Any = host.create(name, {**base, **config}, score=model, data=few)
            geometry.density = of.density  # all have one noise level, so that held-out points are read once
            found[label + ending] = solved(geometry, counted)
    return plain, found


def measured(way: Way, denoised: Callable[[Tensor], Tensor], counted: Counted, measures: Measures, folder: Path) -> Row:
    """One row of one seed, with its paths kept as a file."""
    counted.rows = counted.derived = 0
    start = time.process_time()
    paths, said = way(measures)
    pairs = len(paths)
    cost = {
        "calls": counted.rows / pairs,
        "derived": counted.derived / pairs,
        "seconds": (time.process_time() - start) / pairs,
    }
    nine = paths[:, :: STEPS // (TIMES - 1)].float()
    clean = denoised(nine.flatten(0, 1)).unflatten(0, nine.shape[:2])
    torch.save({"raw": nine.half(), "denoised": clean.half()}, folder)
    return {**said, **cost, "raw": measures.of(nine), "denoised": measures.of(clean), "floor": measures.floor}


def estimate(values: Sequence[float]) -> tuple[float, float]:
    """The mean of independent values and its standard error, NaN for fewer than two."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def of_one_class(part: Row) -> list[float]:
    """The confidence along each path within a class."""
    return [value for value, same in zip(part["confidence"], part["alike"], strict=True) if same]


def summary(rows: list[Row], kind: str) -> dict[str, tuple[float, float]]:
    """Means of one row of the table with standard errors, over pairs where a pair has a number, else over seeds.

    Energies and calls of the solver are medians of pairs.
    """
    parts = [row[kind] for row in rows]
    seeds = {key: [part[key] for part in parts] for key in ("train", "held", "sharpness", "frechet", "length")}
    pairs = {
        "confidence": [value for part in parts for value in part["confidence"]],
        "one class": [value for part in parts for value in of_one_class(part)],
        "stays": [float(value) for part in parts for value in part["stays"]],
        "given": [float(not text) for row in rows for text in row.get("reasons", [])] or [1.0],
    }
    spent = {
        key: [row[key] for row in rows if key in row] for key in ("calls", "derived", "seconds", "floor", "solving")
    }
    middle = {key: [value for row in rows for value in row.get(key, [])] for key in ("gain", "solver")}
    return {key: estimate(values or [math.nan]) for key, values in (seeds | pairs | spent).items()} | {
        key: (statistics.median(values) if values else math.nan, math.nan) for key, values in middle.items()
    }


COLUMNS = (
    *("train", "held", "sharpness", "frechet", "confidence", "one class", "stays", "gain", "length", "given"),
    *("solver", "solving", "calls", "derived", "seconds"),
)


def stem_of(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def table(rows: dict[str, list[Row]]) -> dict[str, dict[str, tuple[float, float]]]:
    """The numbers by row and kind with their standard errors, printed."""
    numbers = {f"{name}, {kind}": summary(each, kind) for name, each in rows.items() for kind in ("raw", "denoised")}
    print("row", *COLUMNS, sep=" | ")
    for name, found in numbers.items():
        print(name, *("{:.3f} ± {:.3f}".format(*found[key]) for key in COLUMNS), sep=" | ")
    for name, each in rows.items():
        reasons = [text for row in each for text in row.get("reasons", []) if text]
        print(
            f"{name}: {len(each)} seeds", *(f"{reasons.count(text)} {text}" for text in sorted(set(reasons))), sep=", "
        )
    floor = next(iter(numbers.values()))["floor"]
    print("as many held-out images: Frechet distance {:.3f} ± {:.3f}".format(*floor))
    return numbers


def along(measures: Measures, plain: Any, paths: Tensor) -> dict[str, Tensor]:
    """Numbers along paths (B, 9, 1, 28, 28): log p less log p of the start, by the trapezium rule,
    Euclidean speed over the straight line's, and what a reader sees."""
    flat = paths.flatten(2).double()
    s = plain.density.score(flat.flatten(0, 1)).unflatten(0, flat.shape[:2])
    rises = (flat.diff(dim=1) * (s[:, 1:] + s[:, :-1])).sum(2) / 2
    own, span = measures.own[1].mean(), (measures.y - measures.x).flatten(1).norm(dim=1)
    odds = measures.network(paths.flatten(0, 1).clamp(0, 1)).softmax(1).amax(1)
    near = _nearest(paths.flatten(0, 1), measures.held) / own
    return {
        "log p, less the start's": torch.cat([rises[:, :1] * 0, rises.cumsum(1)], 1),
        "Euclidean speed over the straight line's": (TIMES - 1) * flat.diff(dim=1).norm(dim=2) / span[:, None],
        "nearest held-out image, over a held-out image's own": near.unflatten(0, paths.shape[:2]),
        "confidence of the classifier": odds.unflatten(0, paths.shape[:2]),
    }


def verdicts(rows: dict[str, list[Row]]) -> list[str]:
    """The gates that do not hold; each number is printed with its standard error over seeds (a) or pairs (b, c)."""
    failed = []
    for form in GATES:
        own, null, line = (rows.get(name) for name in (form, f"{form}, of a Gaussian", "straight"))
        if own is None or null is None or line is None:
            continue
        common = min(map(len, (own, null, line)))
        own, null, line = own[:common], null[:common], line[:common]
        far, other_far = ([row["raw"]["frechet"] for row in each] for each in (own, null))
        ratio = sum(far) / sum(other_far), estimate([a / b for a, b in zip(far, other_far, strict=True)])[1]
        sure, *others = ([value for row in each for value in of_one_class(row["raw"])] for each in (own, null, line))
        above = min(estimate([a - b for a, b in zip(sure, other, strict=True)]) for other in others)
        given = summary(own, "raw")["given"]
        for gate, (value, error), good in (
            ("a: Frechet distance over the Gaussian's", ratio, ratio[0] <= 0.8),
            ("b: confidence above the line's and the Gaussian's", above, above[0] >= 0.05),
            ("c: share of pairs that are given", given, given[0] >= 0.9),
        ):
            print(f"gate {gate}, {form}: {value:.3f} ± {error:.3f}, {'passed' if good else 'failed'}")
            failed += [] if good else [f"{form}: gate {gate} is {value:.3f}"]
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--score", nargs="+", required=True, help="folders of trained scores, one a seed in turn")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--whole", action="store_true", help="with the solver's further grids and tries")
    parser.add_argument("--only", default="", help="measure the rows whose name matches this expression")
    parser.add_argument("--out", type=Path, default=Path("runs/score-geometry-images"))
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--root", default=FASHION)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.whole:
        bound_the_solver()
    options.out.mkdir(parents=True, exist_ok=True)
    host = Host.discover()
    data = host.create("data:fashion-mnist", {"root": options.root, "validation": 0.02})
    null: Any = host.create("score:analytic", {"gaussian": True}, data=data)
    network = classifier(data)
    rows: dict[str, list[Row]] = {}
    seeds = []
    for seed in range(options.seeds):
        score: Any = host.load(options.score[seed % len(options.score)]).eval()
        counted, measures = Counted(score), Measures(data, network, options.pairs, seed)
        plain, known = ways(host, data, score, null, counted, options)
        seeds.append((measures, plain))
        for name, way in known.items():
            stem = stem_of(options.out, name, seed)
            if not stem.with_suffix(".json").exists() and re.search(options.only, name):
                row = measured(way, plain.denoised, counted, measures, stem.with_suffix(".pt"))
                stem.with_suffix(".json").write_text(json.dumps(row))
                print(
                    f"{name}, seed {seed}: {row['calls']:.0f} calls and {row['seconds']:.1f} CPU s a pair", flush=True
                )
            if stem.with_suffix(".json").exists():
                rows.setdefault(name, []).append(json.loads(stem.with_suffix(".json").read_text()))
    if options.pictures:
        first, plain = seeds[0]
        found: Paths = {
            name: torch.load(file)
            for name in PICTURED
            if (file := stem_of(options.out, name, 0).with_suffix(".pt")).exists()
        }
        images(found, options.out / "paths.png")
        kinds = {name: each["raw"].float() for name, each in found.items()}
        kinds["straight, denoised"] = found["straight"]["denoised"].float()
        curves({name: along(first, plain, paths) for name, paths in kinds.items()}, options.out / "curves.png")
    numbers = table(rows)
    return finish([{"row": name, **values} for name, values in numbers.items()], verdicts(rows), as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())

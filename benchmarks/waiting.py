"""Times what people wait for from the command line, beside the script that one writes by hand.

    python benchmarks/waiting.py [--rounds N] [--only NAME,...] [--long] [--before PYTHON] [--threads N]

Each row is a command in a process of its own, in a new folder, and the same answer by hand. CPU (user and system) and
wall seconds are medians over rounds in which the sides take turns. ``--before`` is the Python of another checkout,
whose commands take turns with ours. A reused run is compared with the import of torch. ``--long`` adds rows of more
than twenty CPU seconds. Exit status 1 where the first step comes more than 20 % after the script's, or a reused run
takes more than 1.3 times the import of torch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

FIRST_STEP, REUSED = 1.2, 1.3
"""Limits: a first step beside the script by hand, and a reused run beside the import of torch."""


class Spent(NamedTuple):
    """CPU and wall seconds."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Row:
    """A command, and the script that one writes by hand. ``first`` is a command that is done before, untimed;
    ``marked`` says that time is counted up to the first step of a training, and ``long`` that it takes minutes."""

    command: tuple[str, ...]
    by_hand: str = ""
    first: tuple[str, ...] = ()
    marked: bool = False
    long: bool = False


TRAINING = """
version: 1
name: two-steps
stages:
  data: {use: data:array, config: {path: FOLDER/points.npy, scale: table}}
  score: {use: score:denoising, inputs: {data: data}, config: {training: {steps: 2, log_every: 1}}}
"""
SPHERE = """
version: 1
name: sphere-dimension
stages:
  data: {use: data:sphere, config: {dimension: 10, ambient: 100, points: 500}}
  score: {use: score:analytic, inputs: {data: data}}
  dimension: {use: estimator:iddiff, inputs: {score: score, data: data}}
"""
MARK = """
import os
import time

from scorefold.plugin import hookimpl

__plugin_api__ = "1.0"


@hookimpl
def scorefold_on_metrics(run, stage, step, metrics):
    if step == 1:
        with open(os.environ["FIRST_STEP"], "w") as file:
            file.write(f"{time.process_time()} {time.time()}")
"""
SCRIPT = """
import os
import time

import numpy as np
import torch
from torch import nn

x = np.load("points.npy")
order = np.random.default_rng(0).permutation(len(x))
x = torch.from_numpy((x[order] - x.mean(0)) / x.std()).float()
network = nn.Sequential(
    nn.Linear(11, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 10)
)
optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
for step in range(2):
    batch = x[step * 256 : step * 256 + 256]
    sigma = 0.01 * 500 ** torch.rand(len(batch), 1)
    noise = torch.randn_like(batch)
    answer = network(torch.cat([batch + sigma * noise, sigma.log()], 1))
    loss = (answer - noise).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step == 0:
        with open(os.environ["FIRST_STEP"], "w") as file:
            file.write(f"{time.process_time()} {time.time()}")
torch.save(network.state_dict(), "score.pt")
"""
NEIGHBOURS = """
import numpy as np
from scipy.spatial import cKDTree

x = np.load("POINTS")
distance = cKDTree(x).query(x, k=21)[0][:, 1:]
inverse = np.log(distance[:, -1:] / distance[:, :-1]).mean(1)
print(1 / inverse.mean())
"""
NEIGHBOURS_OF_MANY = NEIGHBOURS.replace("POINTS", "hundred.npy")
LOCAL_PCA = """
import torch
import numpy as np
from scipy.spatial import cKDTree

x = np.load("some.npy")
patches = x[cKDTree(x).query(x, k=101)[1][:, 1:]]
variances = torch.linalg.svdvals(torch.from_numpy(patches - patches.mean(1, keepdims=True))).square()
print((variances > 0.05 * variances[:, :1]).sum(1).double().mean())
"""
NEAREST_IMAGES = """
import numpy as np
import torch

names = ("train", "rest", "samples")
train, held_out, samples = (torch.from_numpy(np.load(f"{name}.npy")).flatten(1) for name in names)
near = [torch.cdist(part, train).topk(2, largest=False).values for x in (held_out, samples) for part in x.split(64)]
print(torch.cat(near).median(0))
"""
DESCRIBE = """
import pandas

table = pandas.read_csv("table.csv")
print(table.describe(), table.nunique(), table.isna().sum(), table.duplicated().sum())
"""

ROWS = {
    "first step": Row(("run", "training.yaml"), SCRIPT, marked=True),
    "run of 2 steps": Row(("run", "training.yaml"), SCRIPT),
    "all reused": Row(("run", "training.yaml"), "import torch", first=("run", "training.yaml")),
    "sphere-dimension": Row(("run", "sphere.yaml")),
    "compare mle and twonn": Row(("compare", "estimator", "--only", "mle,twonn")),
    "inspect of 10^6 x 10": Row(("inspect", "table.csv"), DESCRIBE),
    "recommend of 2000 x 12": Row(("recommend", "twelve.npy"), NEIGHBOURS.replace("POINTS", "twelve.npy"), long=True),
    "interval of 25000 x 10": Row(("run", "interval.yaml"), NEIGHBOURS.replace("POINTS", "many.npy"), long=True),
    "local PCA of 2500 x 10": Row(("run", "local.yaml"), LOCAL_PCA),
    "audit of 54000 images": Row(
        ("audit", "samples.npy", "--train", "train.npy", "--held-out", "rest.npy"), NEAREST_IMAGES, long=True
    ),
    "map of 100000 x 20": Row(("explore", "hundred.npy", "--export", "map.html"), NEIGHBOURS_OF_MANY, long=True),
    "check of one method": Row(("plugins", "check", "estimator:pca"), long=True),
}
INTERVAL = """
version: 1
name: interval
stages:
  data: {use: data:array, config: {path: FOLDER/many.npy, scale: none, fractions: [0, 0, 1]}}
  dimension: {use: estimator:mle, inputs: {data: data}}
"""
LOCAL = INTERVAL.replace("interval", "local").replace("many", "some").replace("estimator:mle", "estimator:lpca")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="names of rows, separated by commas")
    parser.add_argument("--long", action="store_true", help="rows of more than twenty CPU seconds too")
    parser.add_argument("--before", metavar="PYTHON", help="the Python of another checkout, to take turns with")
    parser.add_argument("--threads", default="1", help="OMP_NUM_THREADS of all processes; default for none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = [name.strip() for name in options.only.split(",")] if options.only else []
    rows = {name: row for name, row in ROWS.items() if (name in chosen if chosen else options.long or not row.long)}
    sides = {"before": options.before, "ours": sys.executable} if options.before else {"ours": sys.executable}
    found: dict[str, dict[str, list[Spent]]] = {name: {} for name in rows}
    for number in range(options.rounds + 1):
        for name, row in list(rows.items()):
            for side in _turns({**sides, **({"by hand": sys.executable} if row.by_hand else {})}, number):
                python = sides.get(side) or sys.executable
                try:
                    taken = measure(row, python, side == "by hand", options.threads)
                except RuntimeError as error:
                    print(f"{name} is left out: {error}", file=sys.stderr)
                    del rows[name], found[name]
                    break
                if number > 0:  # the first round writes bytecode, and fills the disk's cache
                    found[name].setdefault(side, []).append(taken)
    return print_table(found, as_json=options.json)


def _turns(sides: dict[str, str], number: int) -> list[str]:
    names = list(sides)
    return names[number % len(names) :] + names[: number % len(names)]


def measure(row: Row, python: str, by_hand: bool, threads: str) -> Spent:
    """CPU and wall seconds of one side of a row, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, row)
        variables = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        variables |= {"FIRST_STEP": str(folder / "first-step"), "SCOREFOLD_DEV_PLUGINS": str(folder / "mark.py")}
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            variables |= {} if threads == "default" else {variable: threads}
        if by_hand:
            return _spent([python, "-c", row.by_hand], folder, variables, row.marked)
        command = [python, "-m", "scorefold_registry.cli"]
        if row.first:
            _spent([*command, *row.first], folder, variables, False)
        return _spent([*command, *row.command], folder, variables, row.marked)


def _spent(command: list[str], folder: Path, variables: dict[str, str], marked: bool) -> Spent:
    before, began, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), time.time()
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    if marked:
        cpu, at = map(float, (folder / "first-step").read_text().split())
        return Spent(cpu, at - clock)
    return Spent(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


_TABLES: dict[str, Callable[[Path], object]] = {
    "points.npy": lambda path: np.save(path, _points(2000, 10)),
    "twelve.npy": lambda path: np.save(path, _points(2000, 12)),
    "many.npy": lambda path: np.save(path, _points(25_000, 10)),
    "some.npy": lambda path: np.save(path, _points(2500, 10)),
    "hundred.npy": lambda path: np.save(path, _points(100_000, 20)),
    "train.npy": lambda path: np.save(path, _images(slice(54_000))),
    "rest.npy": lambda path: np.save(path, _images(slice(54_000, 56_000))),
    "samples.npy": lambda path: np.save(path, _images(slice(56_000, 58_000))),
    "table.csv": lambda path: np.savetxt(path, _points(10**6, 10), "%.6g", ",", header=",".join("abcdefghij")),
    "training.yaml": lambda path: path.write_text(TRAINING.replace("FOLDER", str(path.parent))),
    "sphere.yaml": lambda path: path.write_text(SPHERE),
    "interval.yaml": lambda path: path.write_text(INTERVAL.replace("FOLDER", str(path.parent))),
    "local.yaml": lambda path: path.write_text(LOCAL.replace("FOLDER", str(path.parent))),
    "mark.py": lambda path: path.write_text(MARK),
}
_NEEDS = {"training.yaml": ("points.npy",), "interval.yaml": ("many.npy",), "local.yaml": ("some.npy",)}


def fill(folder: Path, row: Row) -> None:
    """Write the files that a row names; large ones once, for all rounds."""
    words = " ".join([*row.command, row.by_hand])
    named = [name for name in _TABLES if name in words]
    for name in {*named, *(need for each in named for need in _NEEDS.get(each, ())), "mark.py"}:
        if name.endswith((".npy", ".csv")):
            kept = Path(tempfile.gettempdir()) / f"scorefold-waiting-{os.getuid()}" / name
            if not kept.exists():
                kept.parent.mkdir(exist_ok=True)
                _TABLES[name](kept)
            os.link(kept, folder / name)
        else:
            _TABLES[name](folder / name)


def _points(rows: int, columns: int) -> np.ndarray:
    """Points near a curved surface of 4 dimensions, with a little noise in all columns."""
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((rows, 4))
    bent = np.sin(hidden @ generator.standard_normal((4, columns))) + 0.01 * generator.standard_normal((rows, columns))
    return bent.astype(np.float64)


def _images(rows: slice) -> np.ndarray:
    """Images of 28 x 28 pixels from 0 to 1, made from 8 numbers each, with a little noise."""
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((58_000, 8)).astype(np.float32)[rows]
    turned = hidden @ generator.standard_normal((8, 784)).astype(np.float32)
    noise = np.random.default_rng(rows.stop).standard_normal(turned.shape).astype(np.float32)
    images: np.ndarray = (1 / (1 + np.exp(-0.7 * turned)) + 0.02 * noise).reshape(-1, 1, 28, 28)
    return images


def print_table(found: dict[str, dict[str, list[Spent]]], *, as_json: bool) -> int:
    """Print a line for each row, and whether both limits hold; the exit status."""
    medians = {
        name: {
            side: Spent(*(statistics.median(each[i] for each in all_) for i in (0, 1))) for side, all_ in row.items()
        }
        for name, row in found.items()
    }
    if as_json:
        print(json.dumps({name: {side: one._asdict() for side, one in row.items()} for name, row in medians.items()}))
    sides = ("before", "ours", "by hand")
    print(f"{'CPU (wall) seconds':24}" + "".join(f"{side:>17}" for side in sides) + "   ours / by hand")
    for name, row in medians.items():
        cells = [f"{row[side].cpu:8.2f} ({row[side].wall:5.2f})" if side in row else "" for side in sides]
        ratio = f"{ratio_of(found[name]):17.2f}" if "by hand" in row else ""
        print(f"{name:24}" + "".join(f"{cell:>17}" for cell in cells) + ratio)
    failures = []
    for name, limit in (("first step", FIRST_STEP), ("all reused", REUSED)):
        if name in found and (over := ratio_of(found[name])) > limit:
            failures.append(f"{name} takes {over:.2f} times what it is compared with; at most {limit} is wanted")
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    return bool(failures)


def ratio_of(row: dict[str, list[Spent]]) -> float:
    """Our CPU time over the script's, the median of the ratios within a round."""
    return statistics.median(ours.cpu / theirs.cpu for ours, theirs in zip(row["ours"], row["by hand"], strict=True))


if __name__ == "__main__":
    sys.exit(main())

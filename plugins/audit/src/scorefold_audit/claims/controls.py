"""The controls: data of known distribution, models that copy, are right, too wide or incomplete, and their audits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import TensorSource
from scorefold.seeds import derive_seed
from scorefold.stage import StageContext
from scorefold_audit.audit import audit
from scorefold_audit.config import AuditOptions

MODES = 8
SEEDS = {"smoke": 2, "quick": 5, "long": 20}
POINTS = 500


def ring_points(count: int, generator: torch.Generator, modes: int = MODES) -> Tensor:
    """Points (count, 2) of the first ``modes`` of 8 equal Gaussians of deviation 1/2 on a circle of radius 4."""
    angle = 2 * math.pi * torch.randint(modes, (count,), generator=generator) / MODES
    centre = 4 * torch.stack([angle.cos(), angle.sin()], 1)
    return centre + 0.5 * torch.randn(count, 2, generator=generator)


def sphere_points(count: int, generator: torch.Generator, half: bool = False) -> Tensor:
    """Points (count, 50) of the unit sphere of dimension 10, or of half of it, turned into R^50."""
    x = torch.randn(count, 11, generator=generator, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True)
    if half:
        x[:, 0] = x[:, 0].abs()
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((50, 11)))[0]
    turned: Tensor = x @ torch.from_numpy(basis).T
    return turned.float()


DATA = {"ring": ring_points, "sphere": sphere_points}
WIDE = {"ring": 1.0, "sphere": 0.1}
MODELS = ("copier", "right", "tenth", "wide", "incomplete")


def samples_of(model: str, data: str, training: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Samples (count, D) of a model: ``copier``, ``right``, ``tenth`` (a tenth is of 50 training points), ``wide`` or
    ``incomplete``."""
    if model == "copier":
        rows = torch.randint(len(training), (count,), generator=generator)
        return training[rows] + 1e-4 * torch.randn(count, training.shape[1], generator=generator)
    if model == "incomplete":
        return ring_points(count, generator, 6) if data == "ring" else sphere_points(count, generator, half=True)
    x = DATA[data](count, generator)
    if model == "tenth":
        copied = torch.rand(count, generator=generator) < 0.1
        rows = torch.randint(50, (count,), generator=generator)
        x[copied] = training[rows][copied]
    if model == "wide":
        x = x + WIDE[data] * torch.randn(x.shape, generator=generator)
    return x


def sets(model: str, data: str, seed: int, size: int = POINTS) -> tuple[Tensor, Tensor, Tensor]:
    """Training points, held-out points and samples, ``size`` of each."""
    generator = torch.Generator().manual_seed(seed)
    training, held_out = DATA[data](size, generator), DATA[data](size, generator)
    return training, held_out, samples_of(model, data, training, size, generator)


def split_source(train: Tensor | None = None, test: Tensor | None = None) -> TensorSource:
    """A source of these splits, in the units of the numbers themselves."""
    splits = {"train": train, "test": test}
    return TensorSource({name: Dataset(x) for name, x in splits.items() if x is not None})


def audit_result(training: Tensor, held_out: Tensor, samples: Tensor, seed: int = 0, **options: Any) -> dict[str, Any]:
    """The result of an audit of samples alone, without an estimator of dimension."""
    asked = AuditOptions.model_validate({"scale": "none", "n": len(samples), **options})
    return audit(
        split_source(test=samples), {"data": split_source(training, held_out)}, asked, StageContext("audit", seed)
    ).result


def found(result: dict[str, Any]) -> set[str]:
    """The names of the verdicts of a result that found something by a test."""
    return {verdict["name"] for verdict in result["audit"]["verdicts"] if verdict["found"] and verdict["p"] is not None}


def _results(profile: str, seed: int, model: str, data: str) -> list[dict[str, Any]]:
    seeds = [derive_seed(seed, model, data, number) % 2**32 for number in range(SEEDS[profile])]
    return [audit_result(*sets(model, data, each), seed=each, permutations=199) for each in seeds]


def share(host: Any, profile: str, seed: int, *, model: str, data: str) -> float:
    """The copied share that audits of a model report, the mean over seeds."""
    return float(np.mean([result["answer"]["value"] for result in _results(profile, seed, model, data)]))


def rate(host: Any, profile: str, seed: int, *, model: str, data: str, verdict: str) -> float:
    """Share of audits of a model that find something: of seeds with this verdict, or with ``any``."""
    names = [found(result) for result in _results(profile, seed, model, data)]
    return float(np.mean([bool(each) if verdict == "any" else verdict in each for each in names]))

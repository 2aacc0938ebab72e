"""The manifolds that estimators of dimension are commonly compared on: 24 by name (Hein and Audibert 2005, Campadelli
et al. 2015), with the draws of scikit-dimension, and the families of GeoMLE's tables (Gomtsyan et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_seed
from scorefold_standard.data.scaling import scale_of_points, statistics_of
from scorefold_standard.manifolds.config import BenchmarkManifoldConfig, GeoMLEManifoldConfig
from scorefold_toolkit.data.manifolds import Draw, splits_of
from scorefold_toolkit.data.splits import measured_split, pick, random_positions, source_seed

Array = npt.NDArray[np.float64]
Random = np.random.RandomState
TURN = 2 * np.pi


class BenchmarkManifold(DataSource):
    """Points of a manifold that estimators of dimension are commonly compared on.

    Events are vectors; ``truth`` holds ``dimension``. M9_Affine and M12_Norm fill all their coordinates; the M10 are
    surfaces of cubes, where faces meet at edges. The config of ``data:geomle`` names a family, its dimension and the
    number of columns. Raises ``DataError`` for too few points.

    >>> from scorefold_registry import Host
    >>> manifold = Host.discover().create("data:benchmark-manifold", {"name": "M6_Nonlinear", "points": 200})
    >>> train = manifold.load("train")
    >>> train.x.shape, int(train.truth["dimension"])
    (torch.Size([160, 36]), 6)
    """

    def __init__(
        self, config: BenchmarkManifoldConfig | GeoMLEManifoldConfig, *, generator: torch.Generator | None = None
    ) -> None:
        seed = source_seed(config.seed, generator)
        if isinstance(config, BenchmarkManifoldConfig):
            x = manifold_points(MANIFOLDS[config.name], config.points, seed)
            drawn = Draw(x, MANIFOLDS[config.name].dimension)
        else:
            x = manifold_points(_of_family(config), config.points, seed, crowded=config.sampling == "nonuniform")
            drawn = Draw(x, config.dimension)
        splits = splits_of(drawn, noise_std=config.noise_std, fractions=config.fractions, seed=seed)
        self.event_shape = splits["train"].event_shape
        found = statistics_of([measured_split(splits).x.double().numpy()], every=1)
        self.event_scale = scale_of_points(found, config.scale or "none", vectors=True)
        self._splits = {
            name: replace(dataset, x=self.event_scale.from_raw(dataset.x).float()) for name, dataset in splits.items()
        }

    def load(self, split: str) -> Dataset:
        return pick(self._splits, split)


def manifold_points(manifold: NamedManifold, count: int, seed: int, crowded: bool = False) -> Tensor:
    """Points (count, D) in float64 of a manifold; ``crowded`` ones are dense in the middle of each number's range."""
    dimension, drawn = manifold.dimension, count
    if manifold.draw is _cube:
        # Faces are drawn one after the other and the list is cut off at the end: this number cuts a single point.
        faces = 2 * (dimension + 1)
        drawn = faces * (count // faces + 1) - 1
    random = (_Crowded if crowded else Random)(derive_seed(seed, "points") % 2**32)
    points = manifold.draw(random, drawn, dimension)
    full = np.zeros((drawn, manifold.columns))
    full[:, : points.shape[1]] = points
    return torch.from_numpy(full)[random_positions(drawn, count, seed)]


class _Crowded(Random):
    """Numbers between 0 and 1 that crowd near a half: normal with deviation 0.2, folded back (GeoMLE's sampler).

    The code of its authors has had 0.1 since five days after they published the table; 0.1 does not give their numbers.
    """

    def rand(self, *shape: int) -> Any:
        numbers = np.abs(0.5 + 0.2 * self.randn(*shape))
        return np.where(numbers > 1, numbers - 1, numbers)


def _of_family(config: GeoMLEManifoldConfig) -> NamedManifold:
    """The manifold that a config of GeoMLE's tables names."""
    if config.set == "Nonlinear":
        draw = _repeated(config.columns // (2 * config.dimension))
    elif config.set == "Sphere" and config.sampling == "nonuniform":
        draw = _cube_on_sphere
    else:
        draw = _FAMILIES[config.set]
    return NamedManifold(config.dimension, config.columns, draw)


@dataclass(frozen=True)
class NamedManifold:
    """The ``dimension`` of a manifold, the number of its ``columns``, and what draws so many of its points (n, D) from
    random numbers; columns that it doesn't give are 0."""

    dimension: int
    columns: int
    draw: Callable[[Random, int, int], Array]


def _sphere(random: Random, n: int, d: int) -> Array:
    z = random.randn(n, d + 1)
    found: Array = z / np.linalg.norm(z, axis=1, keepdims=True)
    return found


def _cube_on_sphere(random: Random, n: int, d: int) -> Array:
    """A cube's points, each moved to the sphere along its radius: more of them near the corners."""
    z = Random.random_sample(random, (n, d + 1)) - 0.5
    found: Array = z / np.linalg.norm(z, axis=1, keepdims=True)
    return found


def _affine_3_to_5(random: Random, n: int, d: int) -> Array:
    rows = [[1.2, -0.5, 0], [0.5, 0.9, 0], [-0.5, -0.2, 1], [0.4, -0.9, -0.1], [1.1, -0.3, 0]]
    found: Array = (np.array(rows) @ (4 * random.rand(d, n))).T + np.array([3, -1, 0, 0, 8])
    return found


def _nonlinear_4_to_6(random: Random, n: int, d: int) -> Array:
    p, q, r, s = random.rand(d, n)
    columns = [q**2 * np.cos(TURN * p), r**2 * np.sin(TURN * p), q + r + (q - s) ** 2]
    columns += [q - 2 * r + (p - s) ** 2, -q - 2 * r + (r - s) ** 2, p**2 - q**2 + r**2 - s**2]
    return np.stack(columns, 1)


def _repeated(times: int) -> Callable[[Random, int, int], Array]:
    """Each coordinate turned by the one before it, as often as there is room."""

    def draw(random: Random, n: int, d: int) -> Array:
        p = random.rand(d, n)
        after = np.roll(p, -1, axis=0)
        pairs = np.stack([after * np.cos(TURN * p), after * np.sin(TURN * p)], 1).reshape(2 * d, n)
        return np.tile(pairs.T, times)

    return draw


def _spiral(random: Random, n: int, d: int) -> Array:
    t = 5 * TURN * random.rand(n)
    return np.stack([100 * np.cos(t), 100 * np.sin(t), t], 1)


def _helix(random: Random, n: int, d: int) -> Array:
    t = TURN / n + TURN * random.rand(n)
    return np.stack([(2 + np.cos(8 * t)) * np.cos(t), (2 + np.cos(8 * t)) * np.sin(t), np.sin(8 * t)], 1)


def _helix_surface(random: Random, n: int, d: int) -> Array:
    r, p = (5 * TURN * random.rand(n) for _ in range(2))
    return np.stack([r * np.cos(p), r * np.sin(p), p / 2], 1)


def _helicoid(random: Random, n: int, d: int) -> Array:
    a, v = TURN * random.rand(n), 2.5 * TURN * random.rand(n)
    return np.stack([np.cos(v), np.sin(v) * np.cos(v), a], 1)


def _roll(random: Random, n: int, d: int) -> Array:
    t = 1.5 * np.pi * (1 + 2 * random.rand(n))
    return np.stack([t * np.cos(t), 21 * random.rand(n), t * np.sin(t)], 1)


def _s_curve(random: Random, n: int, d: int) -> Array:
    t = 3 * np.pi * (random.rand(n) - 0.5)
    return np.stack([np.sin(t), 2 * random.rand(n), np.sign(t) * (np.cos(t) - 1)], 1)


def _moebius(random: Random, n: int, d: int) -> Array:
    p, r = TURN * random.rand(n), random.rand(n) - 0.5
    reach = 1 + r * np.cos(5 * p)
    return np.stack([reach * np.cos(p), reach * np.sin(p), r * np.sin(5 * p)], 1)


def _affine(random: Random, n: int, d: int) -> Array:
    found: Array = (5 * random.rand(d, n) - 2.5).T
    return found


def _uniform(random: Random, n: int, d: int) -> Array:
    found: Array = random.rand(d, n).T
    return found


def _normal(random: Random, n: int, d: int) -> Array:
    return random.standard_normal((n, d))


def _cube(random: Random, n: int, d: int) -> Array:
    """The surface of a cube, face by face."""
    each = n // (2 * (d + 1)) + 1
    faces = []
    for place in range(2 * (d + 1)):
        face = random.rand(d + 1, each)
        face[place // 2] = place % 2
        faces.append(face)
    return np.concatenate(faces, 1).T[:n]


def _paraboloid(random: Random, n: int, d: int) -> Array:
    e = random.exponential(1, (d + 1, n))
    x = (e[0] / (e[0] + e[1:])).T
    x = np.concatenate([x, (x**2).sum(1, keepdims=True)], 1)
    return np.concatenate([x, np.sin(x), x**2], 1)


def _twisted(random: Random, n: int, d: int) -> Array:
    """Each coordinate with the one as far from the other end (Campadelli et al. 2015)."""
    x = random.random_sample((n, d))
    y = x[:, ::-1]
    return np.tile(np.concatenate([np.tan(x * np.cos(y)), np.arctan(y * np.sin(x))], 1), 2)


def _beta(random: Random, n: int, d: int) -> Array:
    """Coordinates that crowd near 1, by a Beta distribution."""
    x = random.beta(10, 0.5, (n, d))
    return np.tile(np.concatenate([x * np.sin(np.cos(TURN * x)), x * np.cos(np.sin(TURN * x))], 1), 2)


MANIFOLDS: Mapping[str, NamedManifold] = {
    "M1_Sphere": NamedManifold(10, 11, _sphere),
    "M2_Affine_3to5": NamedManifold(3, 5, _affine_3_to_5),
    "M3_Nonlinear_4to6": NamedManifold(4, 6, _nonlinear_4_to_6),
    "M4_Nonlinear": NamedManifold(4, 8, _repeated(1)),
    "M5a_Helix1d": NamedManifold(1, 3, _helix),
    "M5b_Helix2d": NamedManifold(2, 3, _helix_surface),
    "M6_Nonlinear": NamedManifold(6, 36, _repeated(3)),
    "M7_Roll": NamedManifold(2, 3, _roll),
    "M8_Nonlinear": NamedManifold(12, 72, _repeated(3)),
    "M9_Affine": NamedManifold(20, 20, _affine),
    "M10a_Cubic": NamedManifold(10, 11, _cube),
    "M10b_Cubic": NamedManifold(17, 18, _cube),
    "M10c_Cubic": NamedManifold(24, 25, _cube),
    "M10d_Cubic": NamedManifold(70, 71, _cube),
    "M11_Moebius": NamedManifold(2, 3, _moebius),
    "M12_Norm": NamedManifold(20, 20, _normal),
    "M13a_Scurve": NamedManifold(2, 3, _s_curve),
    "M13b_Spiral": NamedManifold(1, 13, _spiral),
    "Mbeta": NamedManifold(10, 40, _beta),
    "Mn1_Nonlinear": NamedManifold(18, 72, _twisted),
    "Mn2_Nonlinear": NamedManifold(24, 96, _twisted),
    "Mp1_Paraboloid": NamedManifold(3, 12, _paraboloid),
    "Mp2_Paraboloid": NamedManifold(6, 21, _paraboloid),
    "Mp3_Paraboloid": NamedManifold(9, 30, _paraboloid),
}

_FAMILIES: Mapping[str, Callable[[Random, int, int], Array]] = {
    "Sphere": _sphere,
    "Affine": _affine,
    "Affine_3to5": _affine_3_to_5,
    "Nonlinear_4to6": _nonlinear_4_to_6,
    "Spiral": _spiral,
    "Helix1d": _helix,
    "Helix2d": _helix_surface,
    "Helicoid": _helicoid,
    "Roll": _roll,
    "Scurve": _s_curve,
    "Moebius": _moebius,
    "Uniform": _uniform,
    "Norm": _normal,
    "Paraboloid": _paraboloid,
    "Cubic": _cube,
}
"""What draws a set of GeoMLE's tables, by its name there."""

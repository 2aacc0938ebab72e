"""The operator behind a condition, and data consistency: a denoised estimate is moved towards {x : A x = y}."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from scorefold.data import TensorSpec, repeat_condition
from scorefold.diffusion import DiffusionProcess
from scorefold.diffusion.process import LinearMap
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces.score import BoundScore
from scorefold_conditional.conditional.layout import spatial_axes
from scorefold_conditional.config import ConditionalConfig
from scorefold_toolkit.matrix_process import DenseMap
from scorefold_toolkit.numerics import outside_transforms
from scorefold_toolkit.operators import LinearOperator, Mask, RandomMask, as_linear, build_operator
from scorefold_toolkit.rotated import RotatedMap

_STEPS = 50


def project(
    score: BoundScore,
    process: DiffusionProcess,
    operator: LinearOperator,
    y: Tensor,
    *,
    strength: float = 1.0,
    noise_std: float = 0.0,
) -> BoundScore:
    """The score whose denoised estimate agrees with the observation y = A x + noise_std n, (C, *out_shape).

    Without noise, x0-hat - strength A^+ (A x0-hat - y): at strength 1 the orthogonal projection on {x : A x = y} (Wang,
    Yu and Zhang 2023, DDNM). What is sampled then agrees with y up to the noise at t_min, and its denoised estimate
    exactly.

    With noise, x0-hat - strength C A^T (A C A^T + noise_std^2)^-1 (A x0-hat - y) with C = (signal^T (scale scale^T)^-1
    signal)^-1, the variance of x_0 given x_t where nothing else is known of it, (scale / signal)^2 a component: the
    observation counts for less the cleaner x_t is (the proximal step of Zhu et al. 2023, DiffPIR; PiGDM's inverse, Song
    et al. 2023). For noise_std -> 0 that is the projection along C A^T, which is the one above where one noise level
    serves the whole event. The inverse is taken by 50 conjugate-gradient steps.

    x has one event for each of the C rows of y, or k C events with the rows in turn (see ``repeat_condition``). Raises
    ``ConfigError`` for a strength outside [0, 1] or a negative noise, ``ShapeError`` for observations of another shape.
    """
    if not (0 <= strength <= 1 and noise_std >= 0):
        raise ConfigError(f"strength = {strength}, noise_std = {noise_std}; expected 0 <= strength <= 1 and noise >= 0")
    y = check_observation(operator, y)

    @lru_cache(maxsize=1)
    def rows(count: int) -> Tensor:
        return check_observation(operator, repeat_condition(y, count))

    def projected(x: Tensor, t: Tensor) -> Tensor:
        s = score(x, t)
        gap = operator(process.denoised_from_score(s, x, t)) - rows(len(x))
        if noise_std == 0:
            shift = operator.pseudo_inverse(gap)
        else:

            def spread(v: Tensor) -> Tensor:
                return diffuse_covariance(process, operator.adjoint(v), x, t)

            weighed = solve_semidefinite(lambda v: operator(spread(v)) + noise_std**2 * v, gap, _STEPS)
            shift = spread(weighed)
        return shift_denoised(process, s, x, t, -strength * shift)

    return projected if strength else score


def check_observation(operator: LinearOperator, y: object) -> Tensor:
    """The observation, a tensor (C, *out_shape). Raises ``ShapeError`` for anything else."""
    if not isinstance(y, Tensor) or y.shape[1:] != operator.out_shape:
        what = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"type {type(y).__name__}"
        expected = ", ".join(["C", *map(str, operator.out_shape)])
        hint = f"give a tensor ({expected}), or an operator that gives y: a matrix has a row for each number of y"
        if isinstance(y, Mapping):
            hint = "pass the observation alone, which data:paired gives with mask: false"
        elif isinstance(y, Tensor) and y.shape[1:] == operator.in_shape:
            hint = "pass operator(x), or the condition of a paired data source with the same operator"
        raise ShapeError(
            f"the observation has {what}; this operator ({type(operator).__name__}) gives ({expected})", hint=hint
        )
    return y


def shift_denoised(process: DiffusionProcess, score: Tensor, x: Tensor, t: Tensor, shift: Tensor) -> Tensor:
    """The score (B, *E) whose denoised estimate is the denoised estimate of ``score``, plus ``shift`` (B, *E).

    It is score + (scale scale^T)^-1 signal shift. A shift of 0 leaves the score as it is, to the last digit.
    """
    signal, scale = process.coefficients(x, t)
    if isinstance(scale, Tensor):
        return score + signal * shift / scale**2
    return score - process.score_from_noise(scale.solve(signal.apply(shift)), x, t)


def diffuse_covariance(process: DiffusionProcess, v: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """C v with C = (signal^T (scale scale^T)^-1 signal)^-1, what x_t leaves open of x_0 under a flat prior: (B, *E)."""
    signal, scale = process.coefficients(x, t)
    if isinstance(scale, Tensor):
        return (scale / signal) ** 2 * v
    result: Tensor = signal.solve(scale.apply(scale.apply_transpose(_solve_transpose(signal, v))))
    return result


def _solve_transpose(signal: LinearMap, v: Tensor) -> Tensor:
    if isinstance(signal, RotatedMap):  # symmetric
        return signal.solve(v)
    if isinstance(signal, DenseMap):
        return signal.solve_transpose(v)
    raise ConfigError(
        f"the signal of this process is a {type(signal).__name__}, whose transpose can't be inverted, as a noisy "
        "observation needs",
        hint="set noise_std to 0",
    )


def solve_semidefinite(matrix: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """The solution v (B, *S) of M v = b for symmetric positive semi-definite M, row by row, from v = 0.

    Conjugate gradients are exact after as many steps as M has distinct eigenvalues on b. A row that is solved to the
    last digit rests, and they end where all rest: a mask takes two steps. For singular M and b in its range it is the
    shortest solution. Inside a transform of ``torch.func`` nothing depends on values, and every step is taken.
    """
    free = not b.is_meta and outside_transforms(b)
    v, residual = torch.zeros_like(b), b
    direction, square = residual, _dot(residual, residual)
    smallest = square * torch.finfo(b.dtype).eps ** 2
    for _ in range(min(steps, math.prod(b.shape[1:]))):
        if free and not bool((square > smallest).any()):
            break
        image = matrix(direction)
        curvature = _dot(direction, image)
        live = (square > smallest) & (curvature > 0)
        length = torch.where(live, square / curvature.where(live, torch.ones_like(curvature)), 0)
        v = v + length * direction
        residual = residual - length * image
        before, square = square, _dot(residual, residual)
        growth = torch.where(live, square / before.where(live, torch.ones_like(before)), 0)
        direction = residual + growth * direction
    return v


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Row by row, (B, 1, ...)."""
    total = (a * b).flatten(1).sum(1)
    return total.reshape(-1, *[1] * (a.dim() - 1))


def largest_singular(operator: LinearOperator) -> float:
    """The largest singular value of an operator, by 30 power iterations from a fixed start in float64."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn((1, *operator.in_shape), generator=generator, dtype=torch.float64)
    size = torch.linalg.vector_norm(v)
    for _ in range(30):
        v = operator.adjoint(operator(v / size))
        size = torch.linalg.vector_norm(v)
    return math.sqrt(float(size))


Shape = tuple[int, ...]
Measured = Callable[[Mapping[str, Tensor]], tuple[LinearOperator, Tensor]]
"""The parts of a condition, each (C, *shape), to the operator of its rows and what it measured, (C, *out_shape)."""


def mask_of(config: ConditionalConfig, event_shape: Shape) -> Tensor | None:
    """The mask as the network sees it, (1, 1, H, W), (1, 1, L) or (1, D): 1 where a coordinate is known.

    None where it is not asked for. Raises ``ConfigError`` for a mask that differs from point to point, which only the
    data know.
    """
    if not config.mask or config.operator is None:
        return None
    operator = build_operator(config.operator, event_shape)
    if not isinstance(operator, Mask):
        raise ConfigError(
            "the mask of the operator is another one for every point, so the data must give it",
            hint="leave mask out, set mask: true in data:paired, and clean: [mask] here",
        )
    if spatial_axes(event_shape):
        return operator.mask[None, :1].float()
    return operator.mask.reshape(1, math.prod(event_shape)).float()


def measured_by(config: ConditionalConfig, event_shape: Shape, specs: Mapping[str, TensorSpec]) -> Measured | None:
    """Finds the part of the condition that the operator made; None for a model without an operator.

    A mask of every point's own is read from the part that ``clean`` names. Raises ``ConfigError`` for an operator that
    is not linear, and where no part of the condition, or more than one, can be what it made.
    """
    if config.operator is None:
        return None
    operator = as_linear(build_operator(config.operator, event_shape), "score:conditional")
    made = [
        name
        for name, spec in specs.items()
        if spec.classes is None and name not in config.clean and spec.shape == operator.out_shape
    ]
    if len(made) != 1:
        shapes = ", ".join(f"{name or 'a tensor'} {spec.shape}" for name, spec in specs.items())
        raise ConfigError(
            f"the operator gives events of shape {operator.out_shape}; the condition has {shapes}: {len(made)} parts "
            "of that shape, expected one",
            hint="set operator to the one that made the condition, and name other parts of that shape under clean",
        )
    check_masks(operator, "score:conditional")
    if not isinstance(operator, RandomMask):
        return lambda parts: (operator, parts[made[0]])
    masks = [name for name in config.clean if name in specs]
    if len(masks) != 1:
        raise ConfigError(
            "the operator is a mask of every point's own, and the data must give it",
            hint="set mask: true in data:paired, and clean: [mask] here",
        )
    return lambda parts: (Mask(_widened(parts[masks[0]], event_shape), event_shape), parts[made[0]])


def check_masks(operator: LinearOperator, who: str) -> None:
    """Raises ``ConfigError`` for a mask of each event among several steps, which conditions can't show."""
    if any(isinstance(part, RandomMask) for part in getattr(operator, "operators", ())):
        raise ConfigError(
            f"the operator of {who} has a mask of each event as one step of several; expected it alone",
            hint="set the mask's each to false, or take the mask alone",
        )


def _widened(mask: Tensor, event_shape: Shape) -> Tensor:
    return torch.broadcast_to(mask, (len(mask), *event_shape))

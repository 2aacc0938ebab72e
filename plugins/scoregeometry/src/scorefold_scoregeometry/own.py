"""The geometry of a user's own metric G(x), or of a log-density in closed form."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from scorefold.diffusion.divergence import forward_rules
from scorefold.errors import ConfigError, DataError, PluginError, ScorefoldError, ShapeError
from scorefold.stage import job_function
from scorefold_scoregeometry.config import MetricConfig
from scorefold_toolkit.checks import check_module
from scorefold_toolkit.geodesics import GeodesicMetric, GraphChord, Matrices, OfDensity
from scorefold_toolkit.geodesics.geometry import SolvedGeometry

_SYMMETRIC = 1e-8
_PLACES = ("x", "y", "points")
_TRIED = 8
_BESIDE = 0.1
_STEP = 1e-4
_ALIKE, _OFF = 1e-3, 1e-2
_CHANGED = 1e-9
"""The least relative change of values over one step that counts."""

_FUNCTION = "the function is yours: try it on a tensor of points (B, D) in float64"
_PLACE = "write module:function, and put the module's folder on Python's path (PYTHONPATH)"


class MetricGeometry(SolvedGeometry):
    """Geodesics of G(x), given by ``module:function``; of the score metric where the function is a log-density.

    The function is vectorised: points (B, D) in float64 to G (B, D, D), or to log p (B,). It is differentiated by
    torch. In Python it may be handed over as ``function``. Raises ``ConfigError`` for a function that is not there, for
    values that change where torch's derivative does not, and for code that a run file names without permission. Raises
    ``ShapeError`` or ``DataError`` for answers of another shape, for matrices that are not symmetric and positive
    definite, and for what the function raises.

    >>> from scorefold_registry import Host
    >>> settings = {"target": "scorefold_scoregeometry.examples:half_plane", "dimension": 2}
    >>> half = Host.discover().create("geometry:metric", settings)
    >>> half.distance(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]])).round(decimals=4)  # log 2
    tensor([0.6931])
    >>> sphere = lambda x: torch.eye(2, dtype=x.dtype) * (2 / (1 + x.square().sum(1)[:, None, None])) ** 2
    >>> globe = MetricGeometry(MetricConfig(dimension=2), function=sphere)
    >>> globe.distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])).round(decimals=4)  # pi / 2
    tensor([1.5708])
    """

    config: MetricConfig
    target: Callable[[Tensor], Tensor]

    def __init__(self, config: MetricConfig, *, function: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(config, (config.dimension,))
        self._differentiable = False
        if function is not None:
            self.target, self.name = function, "the function"
            return
        if config.target is None:
            raise ConfigError("this geometry has no function", hint=f"target: {_PLACE}")
        self.name = config.target
        check_module(config.target.partition(":")[0])
        try:
            self.target = job_function(config.target)
        except PluginError as error:
            raise ConfigError(
                f"target is {config.target!r}, and there is no such function: {error.__cause__}",
                hint=_PLACE,
            ) from error
        if not callable(self.target):
            raise ConfigError(
                f"target is {config.target!r}, which is a {type(self.target).__name__} and no function of points",
                hint=_PLACE,
            )

    def path_metric(self) -> GeodesicMetric:
        """G itself, or the graph metric of the log-density."""
        if self.config.returns == "matrix":
            return Matrices(self._matrices)
        return GraphChord(OfDensity(self._log_prob), self.config.weight)

    def _matrices(self, x: Tensor) -> Tensor:
        found, size = self._called(x), self.dimension
        self._check(found, (len(x), size, size))
        with torch.no_grad():
            gap = (found - found.mT).abs().amax() if len(x) else x.new_zeros(())
            if float(gap) > _SYMMETRIC * (1 + float(found.abs().amax() if len(x) else 0)):
                raise DataError(
                    f"{self.name} returned a matrix that is not symmetric, by {float(gap):.3g}",
                    hint="return (g + g.mT) / 2",
                )
            outside = torch.linalg.cholesky_ex(found).info > 0
        return torch.where(outside[:, None, None], torch.nan, found)

    def _rows(self, **given: Tensor) -> list[Tensor]:
        """Points as rows. Points where G is not positive definite raise ``DataError``.

        On a trial path such points only make the step shorter.
        """
        rows = super()._rows(**given)
        self._check_derivative(torch.cat([points for name, points in zip(given, rows, strict=True) if name in _PLACES]))
        for name, points in zip(given, rows, strict=True):
            if self.config.returns == "matrix" and name in _PLACES:
                outside = self._matrices(points).isnan().flatten(1).any(1)
                if bool(outside.any()):
                    raise DataError(
                        f"{self.name} returned a matrix that is not positive definite, at "
                        f"{int(outside.sum())} of {len(points)} points",
                        hint="add a small multiple of the identity, or take points inside its domain",
                    )
        return rows

    def _log_prob(self, x: Tensor) -> Tensor:
        found = self._called(x)
        self._check(found, (len(x),))
        return found

    def _called(self, x: Tensor) -> Tensor:
        """The function's answer. What it raises is reported as its own error, with its line."""
        try:
            return self.target(x)
        except ScorefoldError:
            raise
        except Exception as error:
            own = getattr(getattr(self.target, "__code__", None), "co_filename", None)
            lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
            where = f", at {Path(lines[-1].filename).name}:{lines[-1].lineno}" if lines else ""
            raise DataError(
                f"{self.name} failed for {len(x)} points{where}: {type(error).__name__}: {error}", hint=_FUNCTION
            ) from error

    def _check_derivative(self, x: Tensor) -> None:
        """Raises ``ConfigError`` for a function whose values change near x (B, D), and whose derivative does not."""
        if self._differentiable or len(x) == 0:
            return
        values = self._matrices if self.config.returns == "matrix" else self._log_prob
        at = x[:: -(-len(x) // _TRIED)]
        along = torch.randn(at.shape, generator=torch.Generator().manual_seed(0), dtype=at.dtype)
        size = at.abs().amax(1, keepdim=True)
        along = along / along.norm(dim=1, keepdim=True) * torch.where(size > 0, size, 1.0)
        off = clear = torch.zeros(0, dtype=torch.bool)
        for beside in (0.0, _BESIDE):  # at a mode nothing changes
            with suppress(DataError):  # outside its domain
                off, clear = slopes_differ(values, at + beside * along, along)
            if bool(clear.any()):
                break
        if 2 * int(off.sum()) > int(clear.sum()):
            raise ConfigError(
                f"the values of {self.name} change near {int(off.sum())} of {int(clear.sum())} points, and its "
                "derivative by torch does not follow them: curvature, exp and shortest paths would be wrong",
                hint="compute with torch operations on x throughout, without no_grad, detach, .data, .item or numpy",
            )
        self._differentiable = bool(clear.any())

    def _check(self, found: object, shape: tuple[int, ...]) -> None:
        if not isinstance(found, Tensor) or tuple(found.shape) != shape:
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            form = "(B, D, D), G at each point" if len(shape) == 3 else "(B,), log p at each point"
            raise ShapeError(
                f"{self.name} returned {given} for {shape[0]} points; expected {shape}",
                hint=f"return a tensor {form}, or set returns: {'log_prob' if len(shape) == 3 else 'matrix'}",
            )
        if found.dtype != torch.float64:
            raise DataError(
                f"{self.name} returned {found.dtype} for points in torch.float64: energies of paths could not "
                "be compared",
                hint="make constants in the dtype of the points, such as torch.eye(2, dtype=x.dtype)",
            )


def slopes_differ(values: Callable[[Tensor], Tensor], at: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """Points where the derivative by torch along vectors (B, D) differs from differences, and points that count, (B,).

    ``values`` are a function of rows (B, D) in float64. Points count where differences over two steps, ahead and behind
    agree, which they do not at kinks, and are above rounding. The derivative is taken backwards, and forwards where the
    function's operations have a rule.
    """
    rows = len(at)

    def moved(step: float) -> Tensor:
        return values(at + step * along).reshape(rows, -1)

    with torch.no_grad():
        plain, ahead, behind = values(at).reshape(rows, -1), moved(_STEP), moved(-_STEP)
        narrow, wide = (ahead - behind) / (2 * _STEP), (moved(10 * _STEP) - moved(-10 * _STEP)) / (20 * _STEP)
    change = narrow.norm(dim=1)
    clear = ((wide - narrow).norm(dim=1) <= _ALIKE * change) & (change > _CHANGED / _STEP * plain.norm(dim=1))
    clear &= (ahead + behind - 2 * plain).norm(dim=1) <= _OFF * _STEP * change
    with torch.enable_grad():
        place = at.clone().requires_grad_()
        total = (narrow * values(place).reshape(rows, -1)).sum()
        slopes = torch.autograd.grad(total, place)[0] if total.requires_grad else torch.zeros_like(at)
    off = ((slopes * along).sum(1) - change.square()).abs() > _OFF * change.square()
    with suppress(DataError, RuntimeError):
        forward_rules()
        forwards = torch.func.jvp(values, (at,), (along,))[1].reshape(rows, -1)
        off |= (forwards - narrow).norm(dim=1) > _OFF * change
    return clear & off, clear

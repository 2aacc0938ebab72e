"""The geometry of a user's own metric G(x), or of a log-density in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scorefold.errors import ConfigError, DataError, PluginError, ShapeError
from scorefold.stage import job_function
from scorefold_scoregeometry.config import MetricConfig
from scorefold_toolkit.checks import check_module
from scorefold_toolkit.geodesics import GeodesicMetric, GraphChord, Matrices, OfDensity
from scorefold_toolkit.geodesics.geometry import SolvedGeometry

_SYMMETRIC = 1e-8
_PLACE = "write module:function, and put the module's folder on Python's path (PYTHONPATH)"


class MetricGeometry(SolvedGeometry):
    """Geodesics of G(x), given by ``module:function``; of the score metric where the function is a log-density.

    The function is vectorised: points (B, D) in float64 to G (B, D, D), or to log p (B,). It is differentiated by
    torch. In Python it may be handed over as ``function``. Raises ``ConfigError`` for a function that is not there, and
    for code that a run file names without permission. Raises ``ShapeError`` or ``DataError`` for answers of another
    shape and matrices that are not symmetric and positive definite.

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
        found, size = self.target(x), self.dimension
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
        for name, points in zip(given, rows, strict=True):
            if self.config.returns == "matrix" and name in ("x", "y", "points"):
                outside = self._matrices(points).isnan().flatten(1).any(1)
                if bool(outside.any()):
                    raise DataError(
                        f"{self.name} returned a matrix that is not positive definite, at "
                        f"{int(outside.sum())} of {len(points)} points",
                        hint="add a small multiple of the identity, or take points inside its domain",
                    )
        return rows

    def _log_prob(self, x: Tensor) -> Tensor:
        found = self.target(x)
        self._check(found, (len(x),))
        return found

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

"""The Riemannian auto-encoder: the few latent coordinates of a flow that hold nearly all of the variance."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Dataset, EventScale, as_dataset
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import Encodes, Estimator, Flow, Trainable
from scorefold.results import Estimate
from scorefold_pullback.autoencoder.bound import all_equal, error_bound, warnings_of_bound, warnings_of_variances
from scorefold_pullback.autoencoder.latent_axes import (
    PrincipalAxes,
    kept_counts,
    pca_curve,
    principal_axes,
    quadratic_base,
    reconstruction_curve,
    unseen_pca_curve,
)
from scorefold_pullback.config import RiemannianAutoencoderConfig
from scorefold_pullback.geometry.chart import check_rows, diagnose_flow, row_lengths
from scorefold_pullback.tangent_pca import significant_components

_GRID_UP_TO = 128
_GRIDS = {1: 200, 2: 25}
_ROWS, _COLUMNS = 4, 9
_ENOUGH, _MORE = 20, 1.25
"""The points, and the error over a PCA's, from which on a dimension is withheld."""


class RiemannianAutoencoder(Estimator, Encodes, nn.Module):
    """E(x) = the first d coordinates of phi(x) - m along the axes e_k of the base's covariance, and
    D(p) = phi^-1(m + sum_k p_k e_k).

    d is the fewest that leave at most a share of the variance, d_eps, or is given. E is log at the base point
    phi^-1(m), and D is exp there, in coordinates of phi: E o D is the identity, and D o E projects onto the image of
    D, the learned manifold. The estimate's value is d. Diepeveen, Batzolis et al., ICML 2025, the Riemannian
    auto-encoder.

    Raises ``ConfigError`` for a flow with conditions, a flow whose base is not normal (or a mixture of normal
    distributions with the same variances), and a dimension above D.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> pca = host.create("estimator:riemannian-autoencoder", {"dimension": 1}, flow=host.create("flow:banana"))
    >>> x = host.create("data:banana", {"points": 200}).load("train").x
    >>> pca.encode(x).shape, bool(pca.residuals(x).mean() < x.std())
    (torch.Size([160, 1]), True)
    """

    def __init__(self, config: RiemannianAutoencoderConfig, *, flow: Flow) -> None:
        super().__init__()
        if flow.condition_spec is not None:
            raise ConfigError(
                "the auto-encoder's flow takes conditions, and there are none to give",
                hint="plug in a flow trained on data without conditions",
            )
        quadratic_base(flow)
        if config.dimension is not None and config.dimension > flow.dimension:
            raise ConfigError(
                f"dimension is {config.dimension}; the flow's events {flow.event_shape} have only {flow.dimension}",
                hint=f"set dimension to at most {flow.dimension}",
            )
        self.config = config
        self.flow = flow
        self.event_shape = flow.event_shape

    @property
    def event_scale(self) -> EventScale:
        """The units of events."""
        return self.flow.event_scale

    @property
    def axes(self) -> PrincipalAxes:
        """The axes of the base as it is now."""
        return principal_axes(self.flow)

    @property
    def dimension(self) -> int:
        """d, the number of coordinates that are kept."""
        return self._rank(self.axes)

    @property
    def latent_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(d,)."""
        return (self.dimension,)

    def encode(self, x: Tensor) -> Tensor:
        """E(x), (B, d), of points (B, *E).

        Raises ``ShapeError`` for another shape, ``DataError`` for numbers that are not finite, and ``ConfigError`` for
        a flow that is not fitted (see ``check_fitted``), as ``decode`` does.
        """
        self.check_fitted()
        axes = self.axes
        coordinates = axes.coordinates(self.flow(_checked("x", x, self.event_shape))[0])
        return coordinates[:, : self._rank(axes)]

    def encode_distribution(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and its deviation 0, each (B, d)."""
        mean = self.encode(x)
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor, *, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        """D(z), (B, *E), of codes (B, d). Nothing is drawn; raises ``ConfigError`` for any option."""
        if options:
            raise ConfigError(f"decode takes no options; {', '.join(options)} was given")
        self.check_fitted()
        axes = self.axes
        codes = _checked("z", z, (self._rank(axes),))
        return self.flow.inverse(axes.latents(codes, self.event_shape))[0]

    def project(self, x: Tensor) -> Tensor:
        """D(E(x)), (B, *E): onto the learned manifold."""
        return self.decode(self.encode(x))

    def residuals(self, x: Tensor) -> Tensor:
        """|D(E(x)) - x|, (B,): how far points are from the learned manifold along the flow, large for outliers."""
        return row_lengths(self.project(x) - x)

    def base_point(self) -> Tensor:
        """phi^-1(m), (*E): where all coordinates are 0, for one normal distribution the mode of exp(-psi o phi)."""
        axes = self.axes
        return self.flow.inverse(axes.centre.reshape(1, *self.event_shape))[0][0]

    def decode_grid(self, per_axis: int = 100, width: float = 3.0) -> Tensor:
        """D over the first coordinate, or the first two: (n, *E) or (n, n, *E) for n = ``per_axis``.

        They go from -``width`` to ``width`` deviations of the base. Raises ``ConfigError`` for fewer than 2 steps and a
        width not above 0.
        """
        if per_axis < 2 or not 0 < width < math.inf:
            raise ConfigError(
                f"a grid of {per_axis} steps over {width:g} deviations was asked for; expected per_axis 2 or more and "
                "a width above 0"
            )
        axes = self.axes
        shown = min(2, self._rank(axes))
        steps = torch.linspace(-width, width, per_axis, dtype=torch.float64)
        lines = [steps * deviation for deviation in axes.variances[:shown].sqrt().cpu()]
        codes = torch.cartesian_prod(*lines).reshape(-1, shown).to(axes.centre)
        batches = codes.split(self.config.batch_size)
        parts = [self.flow.inverse(axes.latents(part, self.event_shape))[0] for part in batches]
        return torch.cat(parts).reshape(*[per_axis] * shown, *self.event_shape)

    def decode_axes(self, rows: int = _ROWS, columns: int = _COLUMNS, width: float = 3.0) -> Tensor:
        """D along each of the first coordinates, the others 0: (min(rows, d), columns, *E).

        Raises ``ConfigError`` for no rows, fewer than 2 columns and a width not above 0.
        """
        if rows < 1 or columns < 2 or not 0 < width < math.inf:
            raise ConfigError(
                f"{rows} rows of {columns} columns over {width:g} deviations were asked for; expected 1 or more, 2 or "
                "more and a width above 0"
            )
        axes = self.axes
        rows = min(rows, self._rank(axes))
        steps = torch.linspace(-width, width, columns, dtype=torch.float64)
        reach = torch.diag(axes.variances[:rows].sqrt().cpu())
        codes = (steps[:, None, None] * reach).transpose(0, 1).reshape(-1, rows).to(axes.centre)
        found = self.flow.inverse(axes.latents(codes, self.event_shape))[0]
        return found.reshape(rows, columns, *self.event_shape)

    @torch.no_grad()
    def estimate(self, data: Tensor | Dataset, *, generator: torch.Generator | None = None) -> Estimate:
        """d, with how well the points come back from their codes.

        ``spectrum`` (1, D) holds the base's variances, widest first, ``measured_variances`` (D,) the mean squares of
        the points' own coordinates. Errors are squared distances, per coordinate where the name says so.
        ``mean_squared_error`` has a ``standard_error``, a ``bound`` (see ``ErrorBound``) and the ``dropped_variance``,
        which the error is for a rigid map. ``curve`` has the errors of codes of 1, 2, ... coordinates. Next to them are
        the errors of a PCA, which is fitted on the points that it is measured on. ``residuals`` (N,) are the distances
        of points from their reconstructions. ``kept`` is d, and ``pca_kept`` the d of a PCA, where d is not given.
        ``flow`` holds the ``Diagnosis`` of the map on the points that the bound is taken over.

        There is no value where fewer components of a PCA will do, and as many coordinates of the flow err a quarter
        more, on 20 points or more: it has not found what straight directions show already.

        Raises ``DataError`` for fewer than 2 points, and ``ConfigError`` where the dimension is to be read from a flow
        whose variances were never trained.
        """
        dataset = as_dataset(data)
        self._check_data(dataset)
        axes = self.axes
        self.check_fitted()
        rank, size = self._rank(axes), self.flow.dimension
        residuals, measured = self._measured(dataset, axes, rank)
        squared = residuals.square()
        error = float(squared.mean())
        # Summed from the small end: a difference of whole sums would lose the digits of a small tail.
        dropped, total = float(axes.variances.flip(0)[: size - rank].sum()), float(axes.variances.sum())
        shown = dataset.tensor(limit=self.config.curve_points)
        few = shown[: self.config.bound_points]
        bound = error_bound(self.flow, self.flow(few)[0], dropped)
        trust = diagnose_flow(self.flow, few)
        by_pca = unseen_pca_curve(shown)
        share = self.config.share if self.config.dimension is None else None
        straight = rank if share is None else 1 + int((by_pca[1:-1] > share * by_pca[0]).sum())
        counts = kept_counts(size, rank, straight)
        curve = reconstruction_curve(
            self.flow, axes, shown, counts, batch_size=self.config.batch_size, generator=generator
        )
        headline = ""
        err = curve["decreasing"][counts.index(straight)]
        if len(shown) >= _ENOUGH and rank > straight and err > _MORE * by_pca[straight]:
            headline = (
                f"is withheld: the flow keeps {rank} coordinates, and a PCA needs {straight}, which err less than as "
                "many of the flow's: it has not found what straight directions show"
            )
        standard_error = float(squared.std()) / math.sqrt(len(squared))
        diagnostics: dict[str, Any] = {
            "points": len(dataset),
            "note": self._note(rank, dropped / total, straight),
            "unexplained": dropped / total,
            "dropped_variance": dropped,
            "total_variance": total,
            "mean_squared_error": error,
            "mean_squared_error_per_coordinate": error / size,
            "standard_error": standard_error,
            "bound": bound.numbers(),
            "flow": {name: value for name, value in trust.numbers().items() if math.isfinite(value)},
            "curve": {"points": len(shown), "kept": counts, **curve, "pca": pca_curve(shown, counts)},
            "kept": rank,
            "pca_kept": straight,
            "residuals": residuals,
            "measured_variances": measured,
            "base_point": self.base_point(),
            "shown": shown,
            "decoded_axes": self.decode_axes(),
            "warnings": [
                *warnings_of_variances(axes.variances, measured, rank, share),
                *trust.warnings(of_the_distribution=False),
                *warnings_of_bound(error, standard_error, bound),
            ],
        }
        if len(self.event_shape) == 1 and size <= _GRID_UP_TO:
            diagnostics["decoded_grid"] = self.decode_grid(_GRIDS[min(2, rank)])
        return Estimate(
            quantity="intrinsic dimension" if self.config.dimension is None else "given latent dimension",
            value=None if headline else float(rank),
            headline=headline,
            spectrum=axes.variances[None],
            diagnostics=diagnostics,
        )

    def _rank(self, axes: PrincipalAxes) -> int:
        return self.config.dimension or significant_components(axes.variances, self.config.share)

    def _check_data(self, dataset: Dataset) -> None:
        if len(dataset) < 2:
            raise DataError(f"an auto-encoder needs at least 2 points; {len(dataset)} were given", hint="give more")
        if dataset.event_shape != self.event_shape:
            raise ShapeError(f"data has events {dataset.event_shape}; this auto-encoder takes {self.event_shape}")

    def check_fitted(self) -> None:
        """Raises ``ConfigError`` where d is to be read from variances that a training would have set apart."""
        if self.config.dimension is not None or not isinstance(self.flow, Trainable):
            return
        base, variances = self.flow.base, self.axes.variances
        learned = isinstance(base, nn.Module) and any(p.requires_grad for p in base.parameters())
        if (learned or self.flow.training) and all_equal(variances):
            raise ConfigError(
                f"the auto-encoder's flow is not fitted: its {len(variances)} variances are all "
                f"{float(variances[0]):g}",
                hint="train the flow first, or set dimension in place of unexplained",
            )

    def _measured(self, dataset: Dataset, axes: PrincipalAxes, rank: int) -> tuple[Tensor, Tensor]:
        """The residuals (N,) of all points, and the mean squares (D,) of their coordinates, both in float64."""
        residuals, total = [], torch.zeros_like(axes.variances)
        for batch in dataset.batches(self.config.batch_size):
            p = axes.coordinates(self.flow(_checked("data", batch.x, self.event_shape))[0])
            back = self.flow.inverse(axes.latents(p[:, :rank], self.event_shape))[0]
            residuals.append(row_lengths((back - batch.x).double()))
            total += p.double().square().sum(0)
        return torch.cat(residuals), total / len(dataset)

    def _note(self, rank: int, share: float, straight: int) -> str:
        left = f"{rank} of {self.flow.dimension} latent coordinates leave {share:.3g} of the variance of the base"
        if self.config.dimension is not None:
            return f"{left}; their number was given, and not estimated"
        if rank > 1:
            left = f"{left}, and one fewer would leave more than {self.config.share:g}"
        return f"{left}; a PCA needs {straight}"


def _checked(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    check_rows(name, value, shape, "this auto-encoder")
    return value

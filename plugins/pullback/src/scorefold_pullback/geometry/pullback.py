"""Score-based pullback geometry: Euclidean space pulled back through F = grad psi o phi.

Diepeveen, Batzolis, Shumaylov, Schoenlieb, "Score-based pullback Riemannian geometry" (ICML 2025). With phi a flow
and p ~ exp(-psi o phi), the metric <D_xF v, D_xF w> makes (R^D, g) isometric to Euclidean space by F, so everything
about it is a few passes through the flow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, ShapeError, UntrainedWarning
from scorefold.interfaces import ClosedFormGeodesics, Flow, Geometry, Trainable, Transports
from scorefold.interfaces.geometry import barycentre_weights, check_times
from scorefold_pullback.config import PullbackConfig
from scorefold_pullback.geometry.chart import Chart, check_rows, compared_with, diagnose_flow, row_lengths
from scorefold_toolkit.nn import Quadratic
from scorefold_toolkit.numerics import jacobian
from scorefold_toolkit.potential import Potential


class Pullback(Geometry, Transports, ClosedFormGeodesics, nn.Module):
    """The geometry of a flow phi and a potential psi, which is the flow's base where none is plugged in.

    ``chart`` is F: grad psi o phi for the metric ``score``, A^-1/2 (phi - m) for ``whitened``, phi for ``latent``.
    Geodesics are straight lines of F. Where F is affine in phi, as it is for a quadratic psi, they are straight lines
    of phi, and A enters the metric, norms and distances alone.

    Points and tangent vectors are (B, *E), a batch of 1 broadcasts, and every answer can be differentiated, also by the
    parameters of the flow. Large batches go through the flow in blocks of rows, so that memory stays bounded. A flow
    that training has not left in evaluation mode is warned of where it is used, and is a warning of ``diagnose``. A
    ``reference``, such as the true geometry of made-up data, changes no answer: figures draw its geodesics beside ours,
    and ``diagnose`` says how far apart they are.

    Raises ``ConfigError`` where there is no psi, for ``whitened`` with a psi that is not quadratic, for a psi of
    another event shape, for a flow with conditions, and for a reference with events of another shape.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> bent = host.create("geometry:pullback", flow=host.create("flow:banana"))
    >>> ends = torch.tensor([[1.0, -3.0]]), torch.tensor([[1.0, 3.0]])
    >>> middle = bent.geodesic(*ends, torch.tensor([0.5]))[0]
    >>> middle.abs().round(decimals=3)  # through the bulk of the banana, not straight across
    tensor([[0., 0.]])
    """

    def __init__(
        self, config: PullbackConfig, *, flow: Flow, psi: Potential | None = None, reference: Geometry | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.event_shape = flow.event_shape
        self.flow = flow
        self.compared = compared_with(reference, self)
        # A base is not held a second time: it is part of the flow, and so of the flow's state.
        self._plugged = psi
        self._warned = False
        _check(config, flow, psi)

    @property
    def psi(self) -> Potential | None:
        """The potential: the one plugged in, else the flow's base, else None (metric ``latent`` does without)."""
        if self._plugged is not None:
            return self._plugged
        return self.flow.base if isinstance(self.flow.base, Potential) else None

    @property
    def isometry(self) -> Chart:
        """F, which is an isometry onto Euclidean space."""
        return Chart(lambda x: self._measured(self.flow(x)[0]), lambda w: self.flow.inverse(self._unmeasured(w))[0])

    @property
    def straight(self) -> Chart:
        """Coordinates in which geodesics are straight lines run at constant speed: phi where F is affine in it, else F.

        Derivatives along vectors are taken in it by exp, log and transport, which need no metric.
        """
        if self.config.metric == "score" and not isinstance(self.psi, Quadratic):
            return self.isometry
        return Chart(lambda x: self.flow(x)[0], lambda z: self.flow.inverse(z)[0])

    def chart(self, x: Tensor) -> Tensor:
        """F(x), (B, *E)."""
        return self.isometry(x)

    def chart_inverse(self, w: Tensor) -> Tensor:
        """F^-1(w), (B, *E)."""
        return self.isometry.inverse(w)

    def push(self, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """F(x) and D_xF v, each (B, *E)."""
        w, pushed = self.isometry.push(x, v)
        return w, pushed

    def push_inverse(self, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """F^-1(w) and D_wF^-1 u, each (B, *E)."""
        x, pushed = self.isometry.push_inverse(w, u)
        return x, pushed

    def _measured(self, z: Tensor) -> Tensor:
        """F of phi = z."""
        psi = self.psi
        if self.config.metric == "score" and psi is not None:
            return psi.grad(z)
        return psi.whiten(z) if self.config.metric == "whitened" and isinstance(psi, Quadratic) else z

    def _unmeasured(self, w: Tensor) -> Tensor:
        """phi of F = w."""
        psi = self.psi
        if self.config.metric == "score" and psi is not None:
            return psi.grad_inverse(w)
        return psi.unwhiten(w) if self.config.metric == "whitened" and isinstance(psi, Quadratic) else w

    def rows(self, **given: Tensor) -> list[Tensor]:
        """Tensors as batches (B, *E) of one length, a batch of 1 repeated.

        Raises ``ShapeError`` for other shapes, lengths and dtypes, and ``DataError`` for numbers that are not finite.
        """
        checked = [self._checked(name, value) for name, value in given.items()]
        lengths = {len(value) for value in checked}
        if len(lengths - {1}) > 1:
            sizes = ", ".join(f"{name} {len(value)}" for name, value in given.items())
            raise ShapeError(f"batches of different lengths were given ({sizes}); expected one length, or 1")
        rows = max(lengths) if 0 not in lengths else 0
        dtypes = {value.dtype for value in checked}
        if len(dtypes) > 1:
            raise ShapeError(f"tensors of {' and '.join(sorted(map(str, dtypes)))} were given; expected one dtype")
        return [value.expand(rows, *self.event_shape) for value in checked]

    def diagnose(self, points: Tensor) -> tuple[Mapping[str, float], Sequence[str]]:
        """Distance of the flow from an isometry of constant volume on held-out points, and the error of its inverse."""
        found = diagnose_flow(self.flow, self._checked("points", points))
        untrained = self._untrained()
        numbers = {**found.numbers(), **self.compared.errors(self, points)}
        return numbers, [*([untrained] if untrained else []), *found.warnings()]

    def metric(self, x: Tensor) -> Tensor:
        """G(x) = D_xF^T D_xF (B, D, D); for a quadratic psi and the metric ``score`` J^T A^-2 J."""
        jacobians = jacobian(self.chart, self._checked("x", x), mode="reverse")
        metric: Tensor = jacobians.mT @ jacobians
        return metric

    def inner(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """<D_xF v, D_xF w>, (B,)."""
        x, v, w = self.rows(x=x, v=v, w=w)
        pushed = torch.func.vmap(lambda u: self.push(x, u)[1])(torch.stack([v, w])).flatten(2)
        return (pushed[0] * pushed[1]).sum(1)

    def norm(self, x: Tensor, v: Tensor) -> Tensor:
        """|D_xF v|, (B,)."""
        x, v = self.rows(x=x, v=v)
        return row_lengths(self.push(x, v)[1])

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """|F(x) - F(y)|, (B,)."""
        a, b = self.pair(self.isometry, x, y)
        return row_lengths(a - b)

    def distance_matrix(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """|F(x_i) - F(y_j)|, (B1, B2)."""
        a = self._checked("F(x)", self.chart(self._checked("x", x))).flatten(1)
        b = a if y is None else self._checked("F(y)", self.chart(self._checked("y", y))).flatten(1)
        # The fast form by inner products loses the digits of small distances.
        distances: Tensor = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        return distances

    def geodesic(self, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        """F^-1((1 - s) F(x) + s F(y)), (B, T, *E). Times outside [0, 1] go on along the geodesic."""
        check_times(s)
        a, b = self.pair(self.straight, x, y)
        line = torch.lerp(a[:, None], b[:, None], s.to(a.dtype).reshape(-1, *[1] * len(self.event_shape)))
        return self.straight.inverse(line.flatten(0, 1)).reshape(line.shape)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """F^-1(F(x) + D_xF v), (B, *E)."""
        w, step = self.straight.push(*self.rows(x=x, v=v))
        return self.straight.inverse(w + step)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """D_F(x)F^-1 [F(y) - F(x)], (B, *E)."""
        w, target = self.pair(self.straight, x, y)
        return self.straight.push_inverse(w, target - w)[1]

    def transport(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """D_F(y)F^-1 D_xF v, (B, *E): independent of the path, because the space is flat."""
        x, y, v = self.rows(x=x, y=y, v=v)
        return self.straight.push_inverse(self.straight(y), self.straight.push(x, v)[1])[1]

    def mean(self, points: Tensor, weights: Tensor | None = None) -> Tensor:
        """F^-1(sum_i w_i F(x_i)), (*E): the one minimiser of the weighted sum of squared distances."""
        shares = barycentre_weights(self._checked("points", points), weights)
        centre = torch.tensordot(shares, self.straight(points), dims=1)
        return self.straight.inverse(centre[None])[0]

    def pair(self, chart: Chart, x: Tensor, y: Tensor) -> list[Tensor]:
        """The coordinates of x and of y, as batches of one length.

        They are found one after the other, not as one batch: rows of matrix products round by where they stand, and a
        point is to be at distance 0 from itself.
        """
        self.rows(x=x, y=y)
        return self.rows(**{"F(x)": chart(x), "F(y)": chart(y)})

    def _checked(self, name: str, value: Tensor) -> Tensor:
        check_rows(name, value, self.event_shape, "this geometry")
        if not self._warned and (untrained := self._untrained()):
            self._warned = True
            warnings.warn(untrained, UntrainedWarning, stacklevel=4)
        return value

    def _untrained(self) -> str | None:
        """Warning about a flow that can be trained and was not, or None."""
        if not self.flow.training or not isinstance(self.flow, Trainable):
            return None
        return (
            f"flow, a {type(self.flow).__name__}, is in training mode, as it is before it is "
            "trained: train it first, or call flow.eval() to use it as it is"
        )


def _check(config: PullbackConfig, flow: Flow, psi: Potential | None) -> None:
    """Raises ``ConfigError`` where a flow, a potential and a metric don't go together."""
    if flow.condition_spec is not None:
        raise ConfigError(
            "this flow takes conditions, and a geometry has none to give",
            hint="train the flow on data without conditions",
        )
    chosen = psi if psi is not None else flow.base
    if config.metric != "latent" and not isinstance(chosen, Potential):
        raise ConfigError(
            f"the flow's base, a {type(chosen).__name__}, is no potential, and none is plugged in",
            hint="add psi to the inputs, such as psi: {use: potential:cosh}, or set metric: latent",
        )
    if config.metric == "whitened" and not isinstance(chosen, Quadratic):
        raise ConfigError(
            f"metric whitened needs a quadratic psi; this is a {type(chosen).__name__}",
            hint="set metric: score or latent, or plug in potential:quadratic",
        )
    shape = chosen.event_shape if isinstance(chosen, Potential) else None
    if shape is not None and tuple(shape) != flow.event_shape:
        raise ConfigError(
            f"psi is for events {tuple(shape)} ({math.prod(shape)} coordinates); the flow has events {flow.event_shape}"
        )

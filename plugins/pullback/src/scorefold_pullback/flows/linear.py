"""Linear maps and the identity as flows: Gaussians, in whose geometry everything is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorefold.data import Condition
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow
from scorefold_pullback.flows.config import BananaConfig, IdentityConfig, LinearFlowConfig, Matrix, RiverConfig
from scorefold_toolkit.data.manifolds import isometry
from scorefold_toolkit.nn import DiagonalNormal


def principal_directions(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues (D,), largest first, of a covariance (D, D), and their eigenvectors as columns (D, D).

    A vector's sign is arbitrary, and libraries differ: its largest entry is positive.
    """
    values, vectors = torch.linalg.eigh(covariance)
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return values.flip(0), vectors.flip(1)


def covariance_of(rows: Matrix, whose: str) -> Tensor:
    """A covariance (D, D) in float64. Raises ``ConfigError`` unless it is symmetric and positive definite."""
    covariance = torch.tensor(rows, dtype=torch.float64)
    failed = torch.linalg.cholesky_ex(covariance).info
    if bool(failed) or not torch.allclose(covariance, covariance.mT, rtol=1e-10):
        raise ConfigError(
            f"the covariance of {whose} is singular, indefinite or not symmetric; its smallest eigenvalue is "
            f"{float(torch.linalg.eigvalsh(covariance).min()):.3g}",
            hint="a covariance is symmetric and positive definite",
        )
    return covariance


class LinearFlow(Flow):
    """z = W (x - mean) with z ~ N(0, diag(variances)): the Gaussian N(mean, W^-1 diag(variances) W^-T).

    Nothing is trained. Raises ``ConfigError`` for a W that is singular and a covariance that is not symmetric and
    positive definite.

    >>> from scorefold_registry import Host
    >>> normal = Host.discover().create("flow:linear", {"covariance": [[2.0, 1.0], [1.0, 2.0]]})
    >>> normal.sample(5000, generator=torch.Generator().manual_seed(0)).T.cov().round()
    tensor([[2., 1.],
            [1., 2.]])
    """

    matrix: Tensor
    inverse_matrix: Tensor
    shift: Tensor
    log_det: Tensor

    def __init__(self, config: LinearFlowConfig, *, dtype: torch.dtype | None = None) -> None:
        matrix, variances = _map_of(config)
        super().__init__((len(matrix),), DiagonalNormal((len(matrix),), variances))
        _, log_det = torch.linalg.slogdet(matrix)
        mean = torch.zeros(len(matrix)) if config.mean is None else torch.tensor(config.mean, dtype=torch.float64)
        self.register_buffer("matrix", matrix)
        self.register_buffer("inverse_matrix", torch.linalg.inv(matrix))
        self.register_buffer("shift", mean.double())
        self.register_buffer("log_det", log_det)
        self.requires_grad_(False)
        self.to(dtype or torch.get_default_dtype())

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        return (x - self.shift) @ self.matrix.mT, self.log_det.expand(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        return z @ self.inverse_matrix.mT + self.shift, -self.log_det.expand(len(z))


def _map_of(config: LinearFlowConfig) -> tuple[Tensor, Tensor]:
    """W (D, D) and the variances of z (D,), in float64."""
    if config.covariance is not None:
        values, vectors = torch.linalg.eigh(covariance_of(config.covariance, "a linear flow"))
        return vectors.flip(1).mT.contiguous(), values.flip(0)
    if config.rotation is not None:
        assert config.dimension is not None
        matrix = isometry(config.dimension, config.dimension, config.rotation)
    else:
        matrix = torch.tensor(config.matrix, dtype=torch.float64)
        singular = torch.linalg.svdvals(matrix)
        if not bool(singular.min() > 1e-12 * singular.max()):
            raise ConfigError(
                f"the matrix is singular: its singular values go from {float(singular.min()):.3g} to "
                f"{float(singular.max()):.3g}",
                hint="a flow needs an invertible matrix",
            )
    return matrix, torch.tensor(config.variances or (1.0,) * len(matrix), dtype=torch.float64)


class IdentityFlow(Flow):
    """z = x on events of any shape, with x ~ N(0, diag(variances)). Nothing is trained.

    Raises ``ConfigError`` for another number of variances than of coordinates.

    >>> from scorefold_registry import Host
    >>> normal = Host.discover().create("flow:identity", {"event_shape": [1], "variances": [4.0]})
    >>> normal.log_prob(torch.zeros(1, 1)).exp()  # 1 / (2 sqrt(2 pi))
    tensor([0.1995])
    """

    def __init__(self, config: IdentityConfig, *, dtype: torch.dtype | None = None) -> None:
        shape, size = config.event_shape, math.prod(config.event_shape)
        variances = torch.as_tensor(config.variances, dtype=torch.float64)
        if variances.dim() and len(variances) != size:
            raise ConfigError(f"variances has {len(variances)} numbers; expected 1 or {size}, one a coordinate")
        super().__init__(shape, DiagonalNormal(shape, variances.expand(size).reshape(shape).clone()))
        self.requires_grad_(False)
        self.to(dtype or torch.get_default_dtype())

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        return x.clone(), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        return z.clone(), z.new_zeros(len(z))


class Shear(Flow):
    """z = (x_1 - f(x_2), x_2), with f a parabola (bananas) or a sine (river), and z ~ N(0, diag(variances)).

    Nothing is trained. Made with ``dtype=``, its variances have all digits of that dtype. Diepeveen, Batzolis et al.
    2025, the two-dimensional sets.

    >>> from scorefold_registry import Host
    >>> banana = Host.discover().create("flow:banana")
    >>> banana(torch.tensor([[1.0, 3.0]]))[0].abs().round(decimals=3)  # the parabola x = y^2 / 9 becomes a line
    tensor([[0., 3.]])
    """

    base: DiagonalNormal

    def __init__(self, config: BananaConfig | RiverConfig, *, dtype: torch.dtype | None = None) -> None:
        super().__init__((2,), DiagonalNormal((2,), torch.tensor(config.variances, dtype=torch.float64)))
        self.config = config
        self.requires_grad_(False)
        self.to(dtype or torch.get_default_dtype())

    def forward(self, x: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(x)
        return torch.stack([x[:, 0] - self._bend(x[:, 1]), x[:, 1]], dim=1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor]:
        self.check_events(z)
        return torch.stack([z[:, 0] + self._bend(z[:, 1]), z[:, 1]], dim=1), z.new_zeros(len(z))

    def _bend(self, along: Tensor) -> Tensor:
        if isinstance(self.config, BananaConfig):
            return self.config.curvature * along.square()
        return self.config.amplitude * (self.config.frequency * along).sin()

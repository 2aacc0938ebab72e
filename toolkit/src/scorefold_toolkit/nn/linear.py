"""Linear layers on dimension 1: features of vectors (B, D), channels of images (B, C, H, W) (a 1x1 convolution)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scorefold.errors import DataError
from scorefold_toolkit.nn.bijection import Bijection


def apply_matrix(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix (D, D) times dimension 1 of x (B, D, ...)."""
    if x.dim() == 2:
        # Features first in memory, as couplings take them.
        return torch.mm(matrix, x.T).T
    # Faster on small channel counts than a 1x1 convolution, never slower.
    return torch.einsum("ij,bjhw->bihw", matrix, x)


def _log_det(log_scales: Tensor, x: Tensor) -> Tensor:
    """The sum of log-scales (D,) times the number of pixels of x."""
    total = log_scales.sum()
    return total if x.dim() == 2 else total * math.prod(x.shape[2:])


class ActNorm(Bijection):
    """z = exp(s) x + b, with a scale and a shift per entry of dimension 1 (Kingma and Dhariwal 2018).

    ``initialise`` sets them once, so that a batch has mean 0 and standard deviation 1 per entry. The buffer
    ``initialised`` is part of the state. Before that, the layer is the identity.

    >>> layer = ActNorm(2)
    >>> z = layer.initialise(torch.tensor([[1.0, 10.0], [3.0, 30.0]]))
    >>> z.round(decimals=3)  # of mean 0 and deviation 1
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """

    initialised: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale, shift = self._shaped(x)
        return torch.addcmul(shift, x, scale.exp()), _log_det(self.log_scale, x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scale, shift = self._shaped(z)
        return (z - shift) * (-scale).exp(), -_log_det(self.log_scale, z)

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Set scale and shift by a batch x and return z. Raises ``DataError`` for an empty batch."""
        if not bool(self.initialised):
            if x.shape[0] == 0:
                raise DataError("an activation normalisation can't start from an empty batch")
            rows = x.transpose(0, 1).flatten(1).double()
            # An entry that never changes keeps its scale: dividing by its rounding noise would explode.
            std = rows.std(1, correction=0)
            scale = torch.where(std > 1e-6 * (1 + rows.mean(1).abs()), 1 / std, 1.0)
            self.log_scale.copy_(scale.log())
            self.shift.copy_(-rows.mean(1) * scale)
            self.initialised.fill_(True)
        return super().initialise(x, condition)

    def _shaped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.dim() == 2:
            return self.log_scale, self.shift
        shape = (-1, *[1] * (x.dim() - 2))
        return self.log_scale.view(shape), self.shift.view(shape)


class LULinear(Bijection):
    """z = P L U x with P a fixed permutation, L unit lower and U upper triangular (Kingma and Dhariwal 2018).

    One matrix holds both factors: L below the diagonal, U above it, and log |diag U| on it, with the signs fixed at
    the start. It starts as a random rotation, or at the identity with ``rotated=False``, so log |det| is 0 there and
    costs a sum afterwards.

    >>> layer = LULinear(3)
    >>> z, log_det = layer(torch.ones(2, 3))
    >>> torch.allclose(layer.inverse(z)[0], torch.ones(2, 3), atol=1e-5), log_det.shape
    (True, torch.Size([]))
    """

    order: Tensor
    signs: Tensor
    unit: Tensor
    below: Tensor
    above: Tensor

    def __init__(self, features: int, *, rotated: bool = True) -> None:
        super().__init__()
        start = torch.eye(features, dtype=torch.float64)
        if rotated:
            start, _ = torch.linalg.qr(torch.randn(features, features, dtype=torch.float64))
        permutation, lower, upper = torch.linalg.lu(start)
        diagonal = upper.diagonal()
        factors = lower.tril(-1) + upper.triu(1) + diagonal.abs().log().diag()
        self.factors = nn.Parameter(factors.to(torch.get_default_dtype()))
        self.register_buffer("signs", diagonal.sign().to(torch.get_default_dtype()))
        self.register_buffer("order", permutation.argmax(1))
        # Masks are numbers: the gradient of a product takes fewer operations than the gradient of a boolean choice.
        self.register_buffer("unit", torch.eye(features), persistent=False)
        self.register_buffer("below", torch.ones(features, features).tril(-1), persistent=False)
        self.register_buffer("above", torch.ones(features, features).triu(1), persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.matrix(), x), _log_det(self.factors.diagonal(), x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.inverse_matrix(), z), -_log_det(self.factors.diagonal(), z)

    def matrix(self) -> Tensor:
        """P L U, (D, D)."""
        lower, upper = self._factors()
        return (lower @ upper).index_select(0, self.order)

    def inverse_matrix(self) -> Tensor:
        """U^-1 L^-1 P^T, (D, D)."""
        lower, upper = self._factors()
        half = torch.linalg.solve_triangular(lower, self.unit, upper=False, unitriangular=True)
        inverse: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
        return inverse.index_select(1, self.order)

    def log_abs_det(self) -> Tensor:
        """log |det P L U|, ()."""
        return self.factors.diagonal().sum()

    def _factors(self) -> tuple[Tensor, Tensor]:
        return _triangles(self.factors, self.signs, self)


def _triangles(factors: Tensor, signs: Tensor, layer: LULinear) -> tuple[Tensor, Tensor]:
    """L and U, (..., D, D), of factors (..., D, D) and signs (..., D), by a layer's masks."""
    diagonal = signs * factors.diagonal(dim1=-2, dim2=-1).exp()
    lower = torch.addcmul(layer.unit, factors, layer.below)
    return lower, torch.addcmul(diagonal.diag_embed(), factors, layer.above)


def lu_matrices(layers: Sequence[LULinear], *, inverse: bool = False) -> Tensor:
    """The matrices of layers of one size, or their inverses, (n, D, D), made at once."""
    order = torch.stack([layer.order for layer in layers])
    factors, signs = (torch.stack(each) for each in zip(*((one.factors, one.signs) for one in layers), strict=True))
    lower, upper = _triangles(factors, signs, layers[0])
    if not inverse:
        return (lower @ upper).gather(1, order[:, :, None].expand_as(lower))
    half = torch.linalg.solve_triangular(lower, layers[0].unit, upper=False, unitriangular=True)
    found: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
    return found.gather(2, order[:, None].expand_as(lower))


def reflections_product(vectors: Tensor) -> Tensor:
    """The product (D, D) of the reflections I - 2 v v^T / |v|^2 of columns v of vectors (D, K), in their order.

    It is formed at once as I - V T^-1 V^T, T the upper triangle of V^T V with half its diagonal (Joffrain et al. 2006).
    """
    v: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=0)
    products = v.T @ v
    triangle = products.triu(1) + products.diagonal().diag() / 2
    unit = torch.eye(len(v), dtype=v.dtype, device=v.device)
    solved: Tensor = torch.linalg.solve_triangular(triangle, v.T, upper=True)
    return unit - torch.matmul(v, solved)


class Householder(Bijection):
    """z = Q x with Q the product of ``reflections`` reflections; |det Q| = 1.

    ``reflections`` = D reaches every orthogonal matrix of determinant (-1)^D. It starts at random.

    >>> z, log_det = Householder(3)(torch.tensor([[3.0, 0.0, 4.0]]))
    >>> z.detach().norm().round(decimals=3), log_det  # lengths stay
    (tensor(5.), tensor(0.))
    """

    def __init__(self, features: int, reflections: int | None = None) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(features, min(reflections or features, features)))

    def matrix(self) -> Tensor:
        """Q, (D, D)."""
        return reflections_product(self.vectors)

    def inverse_matrix(self) -> Tensor:
        """Q^T, (D, D)."""
        return self.matrix().T

    def log_abs_det(self) -> Tensor:
        """0, ()."""
        return self.vectors.new_zeros(())

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.matrix(), x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.inverse_matrix(), z), z.new_zeros(())

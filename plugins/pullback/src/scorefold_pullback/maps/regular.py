"""A flow that is expressive and regular (Diepeveen and Needell, arXiv 2505.08087): normalisations, reflections, and
shifts by bounded functions of neighbours. Only the normalisations change volume, by the same factor everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold_pullback.maps.config import RegularMapConfig
from scorefold_toolkit.nn import ActNorm, Bijection, Chain
from scorefold_toolkit.nn.linear import apply_matrix, reflections_product


class Rotation(Bijection):
    """z = Q x on dimension 1, Q a product of ``reflections`` learned reflections and of those it started from, undone.

    It starts as the identity, which keeps a flow's principal axes where they are. |det Q| = 1; ``reflections`` = D
    reaches every rotation.
    """

    start: Tensor

    def __init__(self, features: int, reflections: int | None = None) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(features, min(reflections or features, features)))
        self.register_buffer("start", self.vectors.detach().flip(1).clone())

    def matrix(self) -> Tensor:
        """Q, (D, D)."""
        return reflections_product(torch.cat([self.vectors, self.start], 1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.matrix(), x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return apply_matrix(self.matrix().T, z), z.new_zeros(())


class TanhPolynomial(nn.Module):
    """sum_k c_k tanh(x)^k for k = 0 to ``order``, with coefficients of its own for each entry of dimension 1.

    All coefficients start at 0, or with ``linear`` at tanh(x).
    """

    def __init__(self, features: int, order: int, *, linear: bool = False) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(order + 1, features))
        if linear:
            nn.init.ones_(self.coefficients[1])

    def forward(self, x: Tensor) -> Tensor:
        lowest_first = self.coefficients.view(*self.coefficients.shape, *[1] * (x.dim() - 2)).unbind(0)
        u = x.tanh()
        value = torch.addcmul(lowest_first[-2], lowest_first[-1], u)
        for coefficient in reversed(lowest_first[:-2]):
            value = torch.addcmul(coefficient, value, u)
        return value


class Parity(Bijection):
    """z_i = x_i + f_{i-1}(x_{i-1}) + f_{i+1}(x_{i+1}) for features i of one parity, with f_j polynomials in tanh.

    Features of vectors (B, D), D at least 2, past either end count as none. |det| = 1.
    """

    def __init__(self, features: int, order: int, parity: int) -> None:
        super().__init__()
        self.parity = parity
        sources = len(range(1 - parity, features, 2))
        receivers = features - sources
        self.polynomials = TanhPolynomial(sources, order)
        # Zeros at the ends, such that receiver r stands between entries r and r + 1.
        self.padding = (1 - parity, receivers + parity - sources)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._shifted(x, 1.0), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._shifted(z, -1.0), z.new_zeros(())

    def _shifted(self, x: Tensor, sign: float) -> Tensor:
        bumps = functional.pad(self.polynomials(x[:, 1 - self.parity :: 2]), self.padding)
        shift = sign * (bumps[:, :-1] + bumps[:, 1:])
        # Between every two shifts a 0, for the features that stay.
        spread = torch.stack((shift, torch.zeros_like(shift)), 2).flatten(1)
        after = x.shape[1] - self.parity - spread.shape[1]
        return x + functional.pad(spread, (self.parity, after))


class ParityConvolution(Bijection):
    """Adds convolutions of the pixels of one colour of a checkerboard to the pixels of the other colour. |det| = 1.

    There are three convolutions with polynomials in tanh between them. Kernels only see pixels of the unchanged colour.
    It starts as the identity: the last polynomial at 0, the first one at tanh.
    """

    odd_offsets: Tensor
    moved: Tensor

    def __init__(self, shape: tuple[int, int, int], config: RegularMapConfig, parity: int) -> None:
        super().__init__()
        channels, height, width = shape
        sizes = (channels, config.channels, config.channels, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(sizes[i], sizes[i + 1], config.kernel, padding=config.kernel // 2) for i in range(3)
        )
        last = self.convolutions[2]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.polynomials = nn.ModuleList(
            TanhPolynomial(config.channels, config.order, linear=place == 0) for place in range(2)
        )
        self.register_buffer("odd_offsets", _colour(config.kernel, config.kernel, 1), persistent=False)
        self.register_buffer("moved", _colour(height, width, parity), persistent=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self._shift(x), x.new_zeros(())

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z - self._shift(z), z.new_zeros(())

    def _shift(self, x: Tensor) -> Tensor:
        for place, layer in enumerate(self.convolutions):
            assert isinstance(layer, nn.Conv2d)
            weight = layer.weight * self.odd_offsets
            x = functional.conv2d(x, weight, layer.bias, padding=layer.padding)
            if place < 2:
                x = self.polynomials[place](x)
        return x * self.moved


def _colour(height: int, width: int, parity: int) -> Tensor:
    """(height, width): 1 where row plus column is odd (parity 1) or even (parity 0), else 0."""
    return ((torch.arange(height)[:, None] + torch.arange(width) + parity + 1) % 2).to(torch.get_default_dtype())


def regular_map(config: RegularMapConfig, features: int) -> Bijection:
    """Blocks of (normalisation, reflections, a parity layer) on vectors; the parity changes from block to block.

    A single feature has nothing to be mixed with or shifted by, and is normalised alone.
    """
    layers: list[Bijection] = []
    for block in range(config.blocks):
        layers += _normalised_and_reflected(config, features)
        if features > 1:
            layers.append(Parity(features, config.order, parity=1 - block % 2))
    return Chain(layers)


def regular_image_map(config: RegularMapConfig, shape: tuple[int, int, int]) -> Bijection:
    """Blocks of (normalisation, reflections of the channels, parity convolutions of both colours) on images."""
    layers: list[Bijection] = []
    for _ in range(config.blocks):
        layers += _normalised_and_reflected(config, shape[0])
        layers += [ParityConvolution(shape, config, parity) for parity in (1, 0)]
    return Chain(layers)


def _normalised_and_reflected(config: RegularMapConfig, features: int) -> list[Bijection]:
    return [ActNorm(features), *([Rotation(features, config.reflections)] if features > 1 else [])]

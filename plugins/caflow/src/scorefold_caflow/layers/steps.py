"""The steps of a block, one after the other, with the matrices of all their mixings made at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scorefold_caflow.layers.mixing import Mixing, at_pixels
from scorefold_toolkit.nn import Chain, Householder, LULinear, lu_matrices


class Steps(Chain):
    """A ``Chain`` whose mixings have one number of channels: making matrices layer by layer, in many small operations,
    takes an eighth of a training step and a fifth of a draw of small images. Its layers one by one give the same."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        maps, total = self._maps(x, inverse=False)
        for place, layer in enumerate(self):
            if place in maps:
                x = at_pixels(x, *maps[place])
            else:
                x, log_det = layer(x, condition)
                total = total + log_det
        return x, total

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        maps, total = self._maps(z, inverse=True)
        for place, layer in reversed(list(enumerate(self))):
            if place in maps:
                z = at_pixels(z, *maps[place])
            else:
                z, log_det = layer.inverse(z, condition)
                total = total + log_det
        return z, total

    def _maps(self, x: Tensor, *, inverse: bool) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        """The matrix (C, C) and shift (C,) of each mixing by its place, and log |det| of all of them on images x."""
        mixings = {place: layer for place, layer in enumerate(self) if isinstance(layer, Mixing)}
        if not mixings:
            return {}, x.new_zeros(())
        scale = torch.stack([mixing.norm.log_scale for mixing in mixings.values()])
        shift = torch.stack([mixing.norm.shift for mixing in mixings.values()])
        linears = [mixing.linear for mixing in mixings.values()]
        log_det = scale.sum() + torch.stack([linear.log_abs_det() for linear in linears]).sum()
        matrix = _matrices(linears, inverse=inverse)
        if inverse:
            back = (-scale).exp()
            matrix, shift, log_det = back[:, :, None] * matrix, -back * shift, -log_det
        else:
            matrix, shift = matrix * scale.exp()[:, None], (matrix @ shift[:, :, None]).squeeze(2)
        maps = zip(matrix.unbind(), shift.unbind(), strict=True)
        return dict(zip(mixings, maps, strict=True)), log_det * (x.shape[2] * x.shape[3])


def _matrices(linears: Sequence[LULinear | Householder], *, inverse: bool) -> Tensor:
    lu = [linear for linear in linears if isinstance(linear, LULinear)]
    if lu:
        return lu_matrices(lu, inverse=inverse)
    return torch.stack([linear.inverse_matrix() if inverse else linear.matrix() for linear in linears])

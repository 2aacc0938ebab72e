"""Spectra of score vectors around points, from Gram matrices that are summed as the scores come; the rules that read
a dimension from them.

Notation: eps-hat = -scale score is the expected noise at y = signal x + scale z. Near the manifold eps-hat is the
normal part of z, so its covariance has eigenvalue 1 on normal and 0 on tangent directions, and regressing it on z
gives I - P with P the tangent projector. Sums are kept in float64, and the products too where they become squares
of singular values: in float32 these would have a floor of 3e-4.

There are three rules: the paper's, its code's and the tangent projector's. Each takes spectra (..., D) in descending
order and returns dimensions (...) and margins (...), which show how clearly each dimension was decided. Singular values
are on the scale where a normal direction has 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_iddiff.pointwise.noise_designs import Design, noises

_SPLIT_ABOVE = 512
"""Coordinates from which computing only the blocks of a Gram matrix's lower triangle saves time."""

Expectation = Callable[[Tensor, Tensor], Tensor]
"""(rows (P,) of the points, noise (P, R, D)) -> eps-hat (P, R, D)."""

Rule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Spectra (..., D) -> dimensions (...) and margins (...)."""


@dataclass
class ResponseMoments:
    """Sums over ``count`` noises z and expected noises e at P points, in float64.

    ``noise_sum``, ``response_sum`` (P, D), where a Gram matrix is centred by them; ``loss_sum`` (P,) of ||z - e||^2;
    ``noise_gram`` sum z z^T, None for a design that has count I there; ``cross_gram`` sum z e^T for the projector and
    ``response_gram`` sum e e^T for singular values: (P, D, D), or None where they were not asked for. Without
    ``cross_gram``, which has them, ``share_sum`` (P,) of z^T e and ``square_sum`` (P,) or (1,) of ||z||^2; else 0.

    Of plus-minus pairs, a row is a pair: e is half the difference of its two responses, which is free of all even
    terms, the mean and curvature among them. ``even_gram`` is the Gram matrix of half the sum, which has the even
    terms. ``kept`` has the rows themselves (noise, response and of pairs the even half), where they are wanted.
    """

    count: int
    paired: bool
    noise_sum: Tensor
    response_sum: Tensor
    loss_sum: Tensor
    share_sum: Tensor
    square_sum: Tensor
    noise_gram: Tensor | None
    cross_gram: Tensor | None
    response_gram: Tensor | None
    even_gram: Tensor | None
    kept: list[tuple[Tensor, ...]] | None

    @classmethod
    def zeros(
        cls, points: int, design: Design, device: torch.device, *, projector: bool, singular: bool, keep: bool = False
    ) -> ResponseMoments:
        ambient = design.ambient

        def gram(wanted: bool) -> Tensor | None:
            return torch.zeros(points, ambient, ambient, dtype=torch.float64, device=device) if wanted else None

        line = torch.zeros(points, ambient, dtype=torch.float64, device=device)
        return cls(
            count=0,
            paired=design.paired,
            noise_sum=line,
            response_sum=line.clone(),
            loss_sum=line.new_zeros(points),
            share_sum=line.new_zeros(points),
            square_sum=line.new_zeros(points),
            noise_gram=gram(projector and not design.white),
            cross_gram=gram(projector),
            response_gram=gram(singular),
            even_gram=gram(singular and design.paired),
            kept=[] if keep else None,
        )

    def add(self, noise: Tensor, response: Tensor, even: Tensor | None = None) -> None:
        """Add R noises (P, R, D) or (1, R, D) and responses (P, R, D), of pairs half the difference and half the
        sum."""
        self.count += noise.shape[1]
        if self.noise_gram is not None or self.response_gram is not None:
            self.response_sum += (response if even is None else even).sum(1, dtype=torch.float64)
        self.loss_sum += _squares(noise - response)
        if even is not None:
            self.loss_sum += _squares(even)
        if self.noise_gram is not None:
            self.noise_sum += noise.sum(1, dtype=torch.float64)
            self.noise_gram += _lower_gram(noise)
        if self.cross_gram is None:
            self.share_sum += (noise * response).sum((1, 2), dtype=torch.float64)
            self.square_sum += _squares(noise)
        else:
            # The eigenvalues of the projector are of order 1 and are held against 1/2, so products in the precision of
            # the scores do; squared singular values need more.
            self.cross_gram += noise.mT @ response
        if self.response_gram is not None:
            self.response_gram += _lower_gram(response.double())
        if self.even_gram is not None and even is not None:
            self.even_gram += _lower_gram(even.double())
        if self.kept is not None:
            self.kept.append((noise, response) if even is None else (noise, response, even))


def _squares(x: Tensor) -> Tensor:
    """The sum of squares of each (R, D) of x (P, R, D), (P,) in float64, without copies of that size."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=(1, 2), dtype=torch.float64)
    return norms.square()


def _lower_gram(x: Tensor) -> Tensor:
    """x^T x (P, D, D) in its lower triangle at least, which is all that the factorisations here read."""
    ambient = x.shape[-1]
    if ambient < _SPLIT_ABOVE:
        return x.mT @ x
    gram = x.new_zeros(len(x), ambient, ambient)
    width = -(-ambient // 4)
    for start in range(0, ambient, width):
        end = min(start + width, ambient)
        torch.matmul(x[..., start:end].mT, x[..., :end], out=gram[:, start:end, :end])
    return gram


def gather(
    expected_noise: Expectation,
    index: Tensor,
    design: Design,
    *,
    rows: int,
    seed: int,
    like: Tensor,
    projector: bool,
    singular: bool,
    keep: bool = False,
) -> Iterator[ResponseMoments]:
    """The moments at N points, a group of points at a time, with about ``rows`` noised points held at once.

    ``index`` (N,) numbers the points in their data, which with ``seed`` decides their noise (see ``designs``). Where
    one point's noises alone exceed ``rows`` they are streamed, so that (noises, D) is held only to ``keep`` it.
    """
    group = max(1, rows // design.count)
    at_once = rows if group == 1 else design.count
    for points in torch.arange(len(index)).split(group):
        moments = ResponseMoments.zeros(
            len(points), design, like.device, projector=projector, singular=singular, keep=keep
        )
        for noise in noises(design, index[points], seed, like, at_once):
            moments.add(noise, *responses(expected_noise, points, noise, paired=design.paired))
        yield moments


def responses(expected_noise: Expectation, points: Tensor, noise: Tensor, *, paired: bool) -> tuple[Tensor, ...]:
    """The expected noises (P, R, D) around points (P,) at noise (P or 1, R, D); of pairs, the odd and the even
    halves."""
    if not paired:
        return (expected_noise(points, noise.expand(len(points), -1, -1)),)
    both = torch.cat([noise, -noise], dim=1).expand(len(points), -1, -1)
    plus, minus = expected_noise(points, both).chunk(2, dim=1)
    return (plus - minus) / 2, (plus + minus) / 2


def response_gram(moments: ResponseMoments, *, centred: bool) -> Tensor:
    """The second moment of the expected noises, (P, D, D) in its lower triangle: about 1 on normal directions.

    ``centred`` takes the mean vector out, as the published code does and the paper does not say; of pairs, each pair's.
    """
    assert moments.response_gram is not None
    gram = moments.response_gram
    if moments.even_gram is not None and not centred:
        gram = gram + moments.even_gram
    gram = gram / moments.count
    if centred and not moments.paired:
        mean = moments.response_sum / moments.count
        gram = gram - mean[:, :, None] * mean[:, None, :]
    return gram


def singular_values(moments: ResponseMoments, *, centred: bool) -> Tensor:
    """Singular values of the K x D matrix of expected noises over sqrt(K), descending: (P, D) in float64.

    They are about 1 on normal directions and 0 on tangent ones. Divided by the noise's scale they are the singular
    values of the score vectors.
    """
    squares: Tensor = torch.linalg.eigvalsh(response_gram(moments, centred=centred))
    return squares.clamp_min(0).sqrt().flip(-1)


def slope(moments: ResponseMoments) -> Tensor:
    """A = argmin ||(E - mean) - (Z - mean) A|| over D x D matrices, (P, D, D): about I - P.

    By regression on the noise that was really drawn, sampling error of the noise's own covariance drops out.
    """
    assert moments.cross_gram is not None
    cross = moments.cross_gram / moments.count
    if moments.noise_gram is None:
        return cross
    noise_mean = moments.noise_sum / moments.count
    response_mean = moments.response_sum / moments.count
    noise = moments.noise_gram / moments.count - noise_mean[:, :, None] * noise_mean[:, None, :]
    cross = cross - noise_mean[:, :, None] * response_mean[:, None, :]
    return torch.cholesky_solve(cross, torch.linalg.cholesky(noise))


def projector(slope: Tensor) -> Tensor:
    """The fitted tangent projector I - (A + A^T) / 2 from the slope A (P, D, D)."""
    fitted = (slope + slope.mT).mul_(-0.5)
    fitted.diagonal(dim1=-2, dim2=-1).add_(1)
    return fitted


def projector_eigenvalues(moments: ResponseMoments) -> Tensor:
    """Eigenvalues of the fitted tangent projector, descending: (P, D) in float64; about 1 on tangent directions, 0
    on normal.
    """
    eigenvalues: Tensor = torch.linalg.eigvalsh(projector(slope(moments)))
    return eigenvalues.flip(-1)


def asymmetry(slope: Tensor) -> Tensor:
    """||J - J^T|| / ||J|| of the score's Jacobian J = -A / sigma^2, (P,): 0 for a gradient, up to sampling error."""
    defect: Tensor = torch.linalg.matrix_norm(slope - slope.mT)
    size: Tensor = torch.linalg.matrix_norm(slope)
    return defect / size.clamp_min(1e-12)


_FLOOR = 1e-3
"""Singular values below this are rounding, of which ratios mean nothing: in float32 it reaches 3e-4."""


def projector_rule(eigenvalues: Tensor) -> tuple[Tensor, Tensor]:
    """The number of eigenvalues of the tangent projector above 1/2, from 0 to D; margin: the least distance from
    1/2.
    """
    return (eigenvalues > 0.5).sum(-1), (eigenvalues - 0.5).abs().amin(-1)


def reference_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest gap of the singular values of centred scores, as the published code reads it, from 1 to D - 2.

    With gaps g_i = s_i - s_{i+1} counted from 0, the first is skipped and k = D - 1 - argmax_{i = 1..D-2} g_i: 0, D
    - 1 and D can't be the answer. Margin: the largest gap less the next, over the largest singular value. Raises
    ``DataError`` for D below 3, where no answer is left.
    """
    _check_ambient("reference", singular_values, 3, "1 to D - 2")
    return _widest_gap(singular_values, first=1)


def paper_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest gap over all gaps, for scores without centring (the paper's algorithm), from 1 to D - 1.

    Margin as for the reference rule. Raises ``DataError`` for D below 2.
    """
    _check_ambient("paper", singular_values, 2, "1 to D - 1")
    return _widest_gap(singular_values, first=0)


def ratio_rule(singular_values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest ratio s_i / s_{i+1} of centred singular values, from 0 to D: a gap on the log scale.

    A value of 1, what pure noise has, stands before the first, so that D is the answer where all values are small
    alike; 0 is where all are above 1/2. Values below 0.001 count as 0.001. Margin: the largest log-ratio less the next
    one, over their sum; 1 where the answer is 0.
    """
    values = singular_values.clamp_min(_FLOOR)
    logs = torch.cat([values.new_zeros(*values.shape[:-1], 1), values.clamp_max(1).log()], -1)
    drops = logs[..., :-1] - logs[..., 1:]
    largest = torch.cat([drops, torch.zeros_like(drops[..., :1])], -1).topk(2, dim=-1).values
    none = singular_values[..., -1] > 0.5
    dimension = torch.where(none, 0, drops.shape[-1] - drops.argmax(-1))
    margin = (largest[..., 0] - largest[..., 1]) / largest.sum(-1).clamp_min(1e-12)
    return dimension, torch.where(none, torch.ones_like(margin), margin)


def threshold_rule(singular_values: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """The number of centred singular values below a threshold between 0 (tangent) and 1 (normal), from 0 to D.

    Margin: the least distance from the threshold.
    """
    return (singular_values < threshold).sum(-1), (singular_values - threshold).abs().amin(-1)


def _check_ambient(rule: str, values: Tensor, least: int, answers: str) -> None:
    ambient = values.shape[-1]
    if ambient < least:
        raise DataError(
            f"the {rule} rule answers from {answers}, and events have D = {ambient} coordinate{'s' * (ambient > 1)}",
            hint="use rule: projector, which answers from 0 to D",
        )


def _widest_gap(values: Tensor, first: int) -> tuple[Tensor, Tensor]:
    gaps = (values[..., :-1] - values[..., 1:])[..., first:]
    dimension = values.shape[-1] - 1 - first - gaps.argmax(-1)
    widest = gaps.topk(min(2, gaps.shape[-1]), dim=-1).values
    runner_up = widest[..., 1] if widest.shape[-1] > 1 else torch.zeros_like(widest[..., 0])
    return dimension, (widest[..., 0] - runner_up) / values[..., 0].clamp_min(torch.finfo(values.dtype).tiny)

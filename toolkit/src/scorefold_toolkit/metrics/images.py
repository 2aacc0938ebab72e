"""Fidelity of images, one number an image, and how much draws for one condition differ."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_toolkit.operators import Operator


def _check_pair(x: Tensor, y: Tensor, data_range: float) -> None:
    if x.shape != y.shape or x.dim() < 2:
        raise ShapeError(
            f"images of shapes {tuple(x.shape)} and {tuple(y.shape)} were compared; expected equal shapes (B, *E)"
        )
    if data_range <= 0:
        raise ConfigError(f"a data range of {data_range} was given; it is high - low of the images, above 0")


def psnr(x: Tensor, y: Tensor, data_range: float = 1.0) -> Tensor:
    """The peak signal-to-noise ratio 10 log10(range^2 / MSE) in decibels, of x and y (B, *E): (B,).

    The mean is over each event. Equal images give inf. ``data_range`` is high - low. Raises ``ShapeError`` for
    shapes that differ.
    """
    _check_pair(x, y, data_range)
    error = (x - y).flatten(1).square().mean(1)
    return 10 * (data_range**2 / error).log10()


def psnr_within(x: Tensor, y: Tensor, where: Tensor, data_range: float = 1.0) -> Tensor:
    """The PSNR in decibels over a part of each event alone, (B,): ``where`` (B, *E) is 1 there and 0 elsewhere.

    nan where an event has no such part. Raises as ``psnr``.
    """
    _check_pair(x, y, data_range)
    part = where.to(x).expand(x.shape)
    error = ((x - y).square() * part).flatten(1).sum(1) / part.flatten(1).sum(1)
    return 10 * (data_range**2 / error).log10()


def consistency(operator: Operator, x: Tensor, truth: Tensor, data_range: float = 1.0) -> Tensor:
    """The PSNR in decibels between A x and A truth, for x and truth (B, *E): (B,). Higher is better.

    ``operator`` is what these very events went through: for masks that differ, ``operator.at(index)``. The peak is the
    operator's own for events of this range. Batzolis et al. 2021 report it for each of their tasks.
    """
    return psnr(operator(x), operator(truth), operator.out_range(data_range))


def diversity(draws: Tensor, data_range: float = 1.0) -> Tensor:
    """Diversity of samples (n, C, *E) for one condition: (C,), with 255 for the whole data range.

    The unbiased standard deviation over the draws, averaged over the event (Batzolis et al. 2021). It measures spread,
    not truth: a posterior too wide has more of it. Raises ``DataError`` for fewer than 2 draws.
    """
    if draws.dim() < 3 or len(draws) < 2:
        raise DataError(f"draws of shape {tuple(draws.shape)} were given; expected (n, C, *E) with n at least 2")
    return 255 / data_range * draws.std(0).flatten(1).mean(1)


def sharpness(x: Tensor) -> Tensor:
    """The mean square of the Laplacian over the inner pixels of images (B, C, H, W), or (B, H, W): (B,).

    The Laplacian is four times a pixel minus its four neighbours. Blurred images have less of it, noisy images
    more: the mean over images, divided by the mean over real images, is 1 for images as sharp as these. Raises
    ``ShapeError`` for images below 3 pixels a side.
    """
    if x.dim() not in (3, 4) or min(x.shape[-2:]) < 3:
        raise ShapeError(f"images have shape {tuple(x.shape)}; expected (B, C, H, W), H and W at least 3")
    inner = x[..., 1:-1, 1:-1]
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return (4 * inner - around).flatten(1).square().mean(1)


def speckle(x: Tensor) -> Tensor:
    """The mean distance of a pixel of images (B, C, H, W) from the median of the 3 x 3 pixels around it, (B,).

    It is 0 of flat regions and of straight edges, and the height of a pixel that stands alone. A model that is trained
    too little draws images of more speckle than real ones.
    """
    padded = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    around = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    return (x - around.median(4).values).abs().flatten(1).mean(1)


def round_to_levels(x: Tensor, low: float, high: float, levels: int = 256) -> Tensor:
    """x clipped to [low, high] and rounded to ``levels`` equally spaced values: what an image file of 8 bits keeps."""
    step = (high - low) / (levels - 1)
    return low + step * ((x.clamp(low, high) - low) / step).round()


def ssim(x: Tensor, y: Tensor, data_range: float = 1.0, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """The structural similarity of images x and y (B, C, H, W): (B,), in [-1, 1], 1 for equal images.

    Wang, Bovik, Sheikh and Simoncelli 2004, equation 13, with their constants (0.01 L)^2 and (0.03 L)^2, L the data
    range: Gaussian window of ``window`` pixels and standard deviation ``sigma``, averaged over the region where the
    window fits and over channels. Black is 0: of images from another bound on, take that bound off first. Raises
    ``ShapeError`` for images smaller than the window.
    """
    _check_pair(x, y, data_range)
    if x.dim() != 4 or min(x.shape[-2:]) < window:
        raise ShapeError(
            f"images have shape {tuple(x.shape)}; expected (B, C, H, W) with H and W at least {window}",
            hint="pass a smaller odd window",
        )
    offsets = torch.arange(window, dtype=x.dtype, device=x.device) - (window - 1) / 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def smooth(image: Tensor) -> Tensor:
        flat = image.flatten(0, 1)[:, None]
        return functional.conv2d(functional.conv2d(flat, kernel[None, None, :, None]), kernel[None, None, None, :])

    mean_x, mean_y = smooth(x), smooth(y)
    # Centred on one common value, the moments cancel less in float32.
    centre = x.mean()
    dx, dy = x - centre, y - centre
    mean_dx, mean_dy = mean_x - centre, mean_y - centre
    var_x = smooth(dx * dx) - mean_dx**2
    var_y = smooth(dy * dy) - mean_dy**2
    covariance = smooth(dx * dy) - mean_dx * mean_dy
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).reshape(x.shape[0], -1).mean(1) if x.shape[0] else x.new_empty(0)

"""Bands: which coefficients of a transform diffuse together, and what a network sees of those still active.

Bands are numbered from 0, the finest, to n - 1, the coarsest. On scale i the bands i, ..., n - 1 are active and the
finer ones are dropped (Batzolis et al. 2022): a network sees the active coefficients as a smaller image where the
transform has one, else as a vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scorefold.data import EventScale
from scorefold.diffusion import Orthonormal, PerComponent
from scorefold.errors import ConfigError, ShapeError
from scorefold_nonuniform.bands.transforms import (
    PCA,
    FromData,
    Identity,
    Learned,
    SeparableTransform,
    Wavelet,
    check_image,
    dct_matrix,
    fourier_frequencies,
    fourier_matrix,
)
from scorefold_nonuniform.config import (
    BandsConfig,
    DCTBandsConfig,
    FourierBandsConfig,
    HaarBandsConfig,
    LearnedBandsConfig,
    PCABandsConfig,
    PixelsBandsConfig,
    WaveletBandsConfig,
)


class Bands(nn.Module):
    """The coefficients z = W x of ``transform`` in bands: ``index`` (*E) holds the band of each, ``names`` theirs.

    ``views`` has a transform for each scale, of events of the shape that its active coefficients take: scale i's turns
    an image into them. They are laid out in the order that they have in the flattened event. Raises ``ShapeError``
    where index and views do not fit the transform, and for an empty band.
    """

    index: Tensor

    def __init__(
        self, transform: Orthonormal, index: Tensor, names: Sequence[str], views: Sequence[Orthonormal]
    ) -> None:
        super().__init__()
        sizes = torch.bincount(index.flatten(), minlength=len(names)).tolist()
        active = [sum(sizes[scale:]) for scale in range(len(names))]
        if tuple(index.shape) != transform.event_shape or len(sizes) != len(names) or 0 in sizes:
            raise ShapeError(
                f"bands of sizes {sizes} over a shape {tuple(index.shape)}; expected {len(names)} bands, none empty, "
                f"over {transform.event_shape}"
            )
        if [math.prod(view.event_shape) for view in views] != active:
            raise ShapeError(f"views of shapes {[view.event_shape for view in views]} for {active} active coefficients")
        self.transform, self.names, self.sizes = transform, tuple(names), tuple(sizes)
        self.views = nn.ModuleList(views)
        self.register_buffer("index", index, persistent=False)
        for scale in range(len(names)):
            where = torch.nonzero(index.flatten() >= scale).flatten()
            self.register_buffer(f"active{scale}", where, persistent=False)

    def __len__(self) -> int:
        """n, the number of bands and of scales."""
        return len(self.names)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """E, the shape of events and of their coefficients."""
        return self.transform.event_shape

    def prepare(self, x: Tensor) -> None:
        """Let a transform that is made from training points x (N, *E) see them; the others need none."""
        if isinstance(self.transform, FromData):
            self.transform.prepare(x)

    def shape(self, scale: int) -> tuple[int, ...]:
        """The shape of what scale 0 <= scale < n has active."""
        return self._view(scale).event_shape

    def take(self, z: Tensor, scale: int) -> Tensor:
        """The active coefficients of z (B, *E): (B, *shape(scale))."""
        return z.flatten(1).index_select(1, self._active(scale)).reshape(len(z), *self.shape(scale))

    def put(self, v: Tensor, scale: int, z: Tensor) -> Tensor:
        """z (B, *E) with its active coefficients replaced by v (B, *shape(scale)); z itself stays as it is."""
        return z.flatten(1).index_copy(1, self._active(scale), v.flatten(1)).reshape(z.shape)

    def synthesise(self, v: Tensor, scale: int) -> Tensor:
        """The image that a network sees of active coefficients v (B, *shape(scale)), of the same shape.

        An isometry. A level of wavelets or cosines doubles the mean: a constant image c becomes 2^scale c. For other
        transforms it is v.
        """
        return self._view(scale).inverse(v)

    def analyse(self, image: Tensor, scale: int) -> Tensor:
        """The coefficients of such an image: the inverse of ``synthesise``, and its transpose."""
        result: Tensor = self._view(scale)(image)
        return result

    def active_index(self, scale: int) -> Tensor:
        """The band of each active coefficient, in 0 ... n - 1: (*shape(scale))."""
        return self.take(self.index[None], scale)[0]

    def _view(self, scale: int) -> Orthonormal:
        view = self.views[scale]
        assert isinstance(view, Orthonormal)
        return view

    def _active(self, scale: int) -> Tensor:
        return self.get_buffer(f"active{scale}")


def build_transform(config: BandsConfig, event_shape: Sequence[int]) -> Orthonormal:
    """The transform of a ``bands:`` in a run file. Raises ``ConfigError`` for events that it is not for."""
    match config:
        case HaarBandsConfig(levels=levels):
            return Wavelet(event_shape, levels)
        case WaveletBandsConfig(levels=levels, wavelet=wavelet):
            return Wavelet(event_shape, levels, wavelet)
        case DCTBandsConfig(levels=levels):
            check_image(tuple(event_shape), "a cosine transform", levels)
            return SeparableTransform(event_shape, dct_matrix)
        case FourierBandsConfig():
            check_image(tuple(event_shape), "a Fourier transform")
            return SeparableTransform(event_shape, fourier_matrix)
        case PCABandsConfig():
            return PCA(event_shape)
        case LearnedBandsConfig(reflections=reflections, start=start):
            return Learned(PCA(event_shape) if start == "pca" else Identity(event_shape), reflections)
        case PixelsBandsConfig():
            return Identity(event_shape)


def build_bands(config: BandsConfig, event_shape: Sequence[int]) -> Bands:
    """The bands of a ``bands:`` in a run file, for events of this shape.

    Raises ``ConfigError`` for events that the transform is not for, with the nearest sizes where that is what is wrong,
    for groups that do not add up to an event, and for a ring that holds no frequency.
    """
    shape, transform = tuple(event_shape), build_transform(config, event_shape)
    match config:
        case HaarBandsConfig(levels=levels) | WaveletBandsConfig(levels=levels) | DCTBandsConfig(levels=levels):
            index = dyadic_index(shape, levels)
            names = [f"d{level}" for level in range(1, levels + 1)] + [f"a{levels}"]
            return Bands(transform, index, names, [_coarser(config, shape, scale) for scale in range(levels + 1)])
        case FourierBandsConfig(rings=rings):
            index, letter = ring_index(shape, rings), "r"
        case PixelsBandsConfig(groups=groups):
            index, letter = _runs(shape, groups), "g"
        case PCABandsConfig(groups=groups) | LearnedBandsConfig(groups=groups):
            index, letter = _runs(shape, groups).flatten().flip(0).reshape(shape), "g"
    count = int(index.max()) + 1
    views = [Identity((int((index >= scale).sum()),)) for scale in range(count)]
    return Bands(transform, index, [f"{letter}{band}" for band in range(1, count + 1)], views)


def dyadic_index(event_shape: tuple[int, ...], levels: int) -> Tensor:
    """The band of each coefficient of an image (..., H, W).

    It is L in the first corner of size H / 2^L x W / 2^L, and 0 outside the first corner of size H / 2 x W / 2.
    """
    index = torch.zeros(event_shape, dtype=torch.long)
    height, width = event_shape[-2:]
    for level in range(1, levels + 1):
        index[..., : height >> level, : width >> level] = level
    return index


def ring_index(event_shape: tuple[int, ...], rings: int | tuple[float, ...]) -> Tensor:
    """The ring of each coefficient of ``fourier_matrix`` by |k| = sqrt(k_1^2 + k_2^2), the outermost 0.

    ``rings`` is their number, each from half of where the one outside it begins (the first at half of the highest
    frequency along an axis), or where each but the innermost begins. Raises ``ConfigError`` for an empty ring.
    """
    height, width = event_shape[-2:]
    modulus = torch.hypot(fourier_frequencies(height)[:, None], fourier_frequencies(width))
    edges = [max(height, width) / 2 / 2**ring for ring in range(1, rings)] if isinstance(rings, int) else list(rings)
    index = torch.zeros(height, width, dtype=torch.long)
    for edge in edges:
        index += modulus < edge
    sizes = torch.bincount(index.flatten(), minlength=len(edges) + 1).tolist()
    if 0 in sizes:
        raise ConfigError(
            f"rings that begin at |k| = {', '.join(f'{edge:g}' for edge in edges)} hold {sizes} frequencies of images "
            f"of {height} x {width}, whose |k| reach {float(modulus.max()):.3g}",
            hint="ask for fewer rings, or set where each begins so that none is empty",
        )
    return index.expand(event_shape).contiguous()


def _runs(event_shape: tuple[int, ...], groups: int | tuple[int, ...]) -> Tensor:
    """The flattened coordinates in runs: of equal size (the first ones a coordinate longer), or of given sizes."""
    size = math.prod(event_shape)
    if isinstance(groups, int):
        groups = tuple(size // groups + (band < size % groups) for band in range(groups))
    if sum(groups) != size or 0 in groups:
        raise ConfigError(
            f"the groups have sizes {list(groups)}, in all {sum(groups)}; an event of shape {event_shape} has {size} "
            "coordinates, and each group needs one",
            hint=f"set groups to a number from 1 to {size}, or to sizes that add up to {size}",
        )
    return torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups)).reshape(event_shape)


def _coarser(
    config: HaarBandsConfig | WaveletBandsConfig | DCTBandsConfig, event_shape: tuple[int, ...], scale: int
) -> Orthonormal:
    """The transform of images of sizes H / 2^scale, W / 2^scale with the levels that are left."""
    height, width = event_shape[-2:]
    shape = (*event_shape[:-2], height >> scale, width >> scale)
    if isinstance(config, DCTBandsConfig):
        return SeparableTransform(shape, dct_matrix)
    wavelet = config.wavelet if isinstance(config, WaveletBandsConfig) else "haar"
    return Wavelet(shape, config.levels - scale, wavelet)


class BandMoments(nn.Module):
    """The mean and variance of each coefficient, (*E), and the deviation of each band about its mean, (bands,).

    Until ``take`` has seen data, the numbers are the moments of white events with the data's mean and deviation. Their
    mean is 0 where ``centred`` is False.
    """

    mean: Tensor
    variance: Tensor
    deviations: Tensor

    def __init__(self, bands: Bands, scale: EventScale, *, centred: bool = True) -> None:
        super().__init__()
        level = torch.full((1, *bands.event_shape), scale.mean if centred else 0.0)
        self.register_buffer("mean", bands.transform(level)[0].detach().clone())
        self.register_buffer("variance", torch.full(bands.event_shape, scale.std**2))
        self.register_buffer("deviations", torch.full((len(bands),), scale.std))

    @classmethod
    def of(cls, bands: Bands, x: Tensor) -> BandMoments:
        """The moments of points x (N, *E)."""
        z = bands.transform(x).detach()
        found = cls(bands, EventScale()).to(z)
        found.mean, found.variance = z.mean(0), z.var(0, correction=0)
        index = bands.index.flatten()
        total = torch.zeros_like(found.deviations).index_add_(0, index, found.variance.flatten())
        found.deviations = (total / torch.bincount(index, minlength=len(bands)).to(z)).sqrt()
        return found

    def take(self, other: BandMoments) -> None:
        """Takes over the moments that were found."""
        self.load_state_dict(other.state_dict())

    def agree(self, other: BandMoments) -> bool:
        """True if these are the moments of the same data, but for the rounding of another machine."""
        mean, variance = other.mean.to(self.mean), other.variance.to(self.mean)
        slack = 1e-3 * (self.variance + 1e-6 * self.variance.max())
        close = ((variance - self.variance).abs() <= slack) & ((mean - self.mean) ** 2 <= 1e-3 * slack)
        return bool(close.all())

    def still(self) -> list[int]:
        """The bands that are the same in all points, or differ by rounding alone."""
        floor = 1e-6 * float(self.deviations.max())
        return [band for band, deviation in enumerate(self.deviations.tolist()) if deviation <= floor]

    def match_boundaries(self, process: PerComponent) -> None:
        """Gives every component of a process a normal prior with the mean and variance that such data have at its
        end."""
        signal, scale = (
            value[0] for value in process.coefficients(self.mean[None], self.mean.new_full((1,), process.t_max))
        )
        process.set_prior(signal * self.mean, (signal**2 * self.variance + scale**2).sqrt())

"""Transforms are orthonormal and bands are what their names say, in float64."""

from __future__ import annotations

import warnings

import pytest
import pywt
import torch
from pydantic import TypeAdapter
from torch import Tensor

from scorefold.diffusion import Orthonormal
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold_nonuniform.bands.coefficients import BandMoments, Bands, build_bands, build_transform
from scorefold_nonuniform.bands.transforms import (
    PCA,
    Identity,
    Learned,
    SeparableTransform,
    Wavelet,
    dct_matrix,
    fourier_frequencies,
    fourier_matrix,
)
from scorefold_nonuniform.config import BandsConfig
from scorefold_toolkit.operators import Haar

F64 = torch.float64
IMAGE = (2, 8, 16)
ADAPTER: TypeAdapter[BandsConfig] = TypeAdapter(BandsConfig)
DYADIC = [
    {"name": "haar", "levels": 3},
    {"name": "wavelet", "wavelet": "db3", "levels": 3},
    {"name": "wavelet", "wavelet": "sym4", "levels": 2},
    {"name": "dct", "levels": 3},
]
FLAT = [
    {"name": "fourier", "rings": 3},
    {"name": "fourier", "rings": [6.0, 3.5, 1.0]},
    {"name": "pca", "groups": 3},
    {"name": "pca", "groups": [128, 100, 28]},
    {"name": "learned", "groups": [200, 56], "reflections": 4},
    {"name": "learned", "start": "pixels", "groups": 2},
    {"name": "pixels", "groups": [1, 255]},
    "pixels",
]
ALL = [*DYADIC, *FLAT]


def events(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Events without symmetry: correlated, of another spread in each coordinate, off centre."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *shape, generator=generator, dtype=F64).cumsum(-1)
    return 0.7 + x * torch.linspace(0.2, 1.9, x[0].numel(), dtype=F64).reshape(shape)


def bands_of(config, shape: tuple[int, ...] = IMAGE) -> Bands:
    bands = build_bands(ADAPTER.validate_python(config), shape).double()
    bands.prepare(events(400, shape, seed=1))
    return bands


def matrix(transform: Orthonormal) -> Tensor:
    """W, (D, D)."""
    size = torch.Size(transform.event_shape).numel()
    with torch.no_grad():
        return transform(torch.eye(size, dtype=F64).reshape(size, *transform.event_shape)).reshape(size, size).T


@pytest.mark.parametrize("config", ALL, ids=str)
@pytest.mark.parametrize("shape", [IMAGE, (8, 8)], ids=str)
def test_transforms_are_orthonormal(config, shape) -> None:
    if isinstance(config, dict) and isinstance(config.get("groups"), list):
        config = {**config, "groups": 2}
    if isinstance(config, dict) and isinstance(config.get("rings"), list):
        config = {**config, "rings": 2}
    transform = bands_of(config, shape).transform
    w = matrix(transform)
    torch.testing.assert_close(w @ w.T, torch.eye(len(w), dtype=F64), rtol=0, atol=1e-11)
    x = events(3, shape)
    z = transform(x)
    assert z.shape == x.shape
    torch.testing.assert_close(z.flatten(1), x.flatten(1) @ w.T, rtol=0, atol=1e-11)
    torch.testing.assert_close(transform.inverse(z), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(transform.inverse(x).flatten(1), x.flatten(1) @ w, rtol=0, atol=1e-10)


def test_haar_is_the_operator_of_core() -> None:
    x = events(2, (3, 8, 16))
    torch.testing.assert_close(Wavelet((3, 8, 16), 3)(x), Haar(3, (3, 8, 16))(x), rtol=0, atol=0)
    torch.testing.assert_close(Wavelet((8, 16), 2)(x[:, 0]), Haar(2, (1, 8, 16))(x[:, :1])[:, 0], rtol=0, atol=0)


def test_haar_of_a_cell() -> None:
    """(p, q; r, s) to the half-sums (p+q+r+s)/2, (p-q+r-s)/2; (p+q-r-s)/2, (p-q-r+s)/2."""
    cell = torch.tensor([[[1.0, 2.0], [5.0, 11.0]]], dtype=F64)
    expected = torch.tensor([[[9.5, -3.5], [-6.5, 2.5]]], dtype=F64)
    torch.testing.assert_close(Wavelet((2, 2), 1)(cell), expected)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db7", "sym5", "coif2"])
def test_wavelets_are_those_of_pywavelets(wavelet) -> None:
    """Coarse part and bands of each level by PyWavelets, periodic, where filters wrap around small images too."""
    x = events(2, (16, 32))
    z = Wavelet((16, 32), 3, wavelet)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyWavelets warns of filters that wrap around
        coarse, *levels = pywt.wavedec2(x.numpy(), wavelet, mode="periodization", level=3, axes=(-2, -1))
    torch.testing.assert_close(z[:, :2, :4], torch.from_numpy(coarse), rtol=0, atol=1e-10)
    height, width = 2, 4
    for along_height, along_width, both in levels:
        found = (
            z[:, height : 2 * height, :width],
            z[:, :height, width : 2 * width],
            z[:, height : 2 * height, width : 2 * width],
        )
        for band, expected in zip(found, (along_height, along_width, both), strict=True):
            torch.testing.assert_close(band, torch.from_numpy(expected), rtol=0, atol=1e-10)
        height, width = 2 * height, 2 * width


def test_wavelet_matrices_agree_with_the_fast_haar() -> None:
    """db1 by matrices is Haar by sums and differences."""
    x = events(2, (3, 8, 16))
    torch.testing.assert_close(Wavelet((3, 8, 16), 3, "db1")(x), Wavelet((3, 8, 16), 3)(x), rtol=0, atol=1e-12)


def test_db2_has_two_vanishing_moments() -> None:
    """A ramp has no details but where it wraps around."""
    x = torch.arange(16, dtype=F64).expand(1, 16, 16)
    details = Wavelet((16, 16), 1, "db2")(x)[0, 0, 8:]
    assert torch.nonzero(details.abs() > 1e-10).flatten().tolist() == [0, 7]


def test_cosines_and_waves() -> None:
    size = 7
    j = torch.arange(size, dtype=F64)
    wave = torch.cos(torch.pi * 3 * (j + 0.5) / size)
    assert torch.nonzero((dct_matrix(size) @ wave).abs() > 1e-10).flatten().tolist() == [3]
    for n in (7, 8):
        j = torch.arange(n, dtype=F64)
        assert fourier_frequencies(n).tolist() == [0, 1, 1, 2, 2, 3, 3, 4][:n]
        for k in range(n // 2 + 1):
            wave = torch.cos(2 * torch.pi * k * j / n + 0.4)
            found = torch.nonzero((fourier_matrix(n) @ wave).abs() > 1e-10).flatten()
            assert set(fourier_frequencies(n)[found].tolist()) == {k}


def test_rings_hold_whole_frequencies() -> None:
    """A plane wave of wave vector (2, 3), at any phase, lies in the ring of |k| = 3.6, and shifts stay there."""
    bands = bands_of({"name": "fourier", "rings": [3.7, 3.2, 1.5]}, (1, 8, 16))
    rows, columns = torch.arange(8, dtype=F64)[:, None], torch.arange(16, dtype=F64)
    for phase in (0.0, 0.9):
        wave = torch.cos(2 * torch.pi * (2 * rows / 8 - 3 * columns / 16) + phase)[None, None]
        z = bands.transform(wave)[0]
        assert float((z[bands.index == 1] ** 2).sum()) == pytest.approx(float((wave**2).sum()))
    assert bands.names == ("r1", "r2", "r3", "r4")
    assert int(bands.index[0, 0, 0]) == 3  # the mean is in the innermost
    assert bands_of({"name": "fourier", "rings": 3}, (16, 16)).sizes == (
        256 - 45,
        45 - 9,
        9,
    )  # points of a square lattice within 4 and 2


def test_principal_axes(generator) -> None:
    """The coefficients are uncorrelated, with decreasing variances; axes do not depend on the order of the points."""
    x = events(500, (2, 3))
    pca = PCA((2, 3)).double()
    torch.testing.assert_close(pca(x), x)  # until it has seen points
    pca.prepare(x)
    z = pca(x).flatten(1)
    covariance = torch.cov(z.T, correction=0)
    torch.testing.assert_close(covariance, pca.variances.diag(), rtol=0, atol=1e-10)
    assert bool((pca.variances[:-1] >= pca.variances[1:]).all())
    again = PCA((2, 3)).double()
    again.prepare(x[torch.randperm(500, generator=generator)])
    torch.testing.assert_close(again.axes, pca.axes)
    copy = PCA((2, 3)).double()
    copy.load_state_dict(pca.state_dict())
    torch.testing.assert_close(copy(x), pca(x))
    with pytest.raises(DataError, match="at least 2"):
        pca.prepare(x[:1])
    with pytest.raises(ShapeError, match="expected"):
        pca.prepare(x[:, :1])


def test_a_learned_matrix_starts_at_its_start_and_can_reach_another() -> None:
    """Q starts as the identity; trained, D reflections reach a rotation that packs the energy as the axes do."""
    x = events(300, (4,))
    x = x - x.mean(0)
    learned = Learned(Identity((4,)), 4).double()
    torch.testing.assert_close(learned(x), x)
    pca = PCA((4,)).double()
    pca.prepare(x)
    optimiser = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        (learned(x)[:, 1:] ** 2).sum(1).mean().backward()
        optimiser.step()
    w = matrix(learned)
    torch.testing.assert_close(w @ w.T, torch.eye(4, dtype=F64), rtol=0, atol=1e-12)
    assert float((w[0] @ pca.axes[0]).abs()) == pytest.approx(1, abs=1e-4)


def test_gradients_pass_through_transforms() -> None:
    for config in ("haar", "wavelet", "dct", "fourier", "learned"):
        transform = bands_of(config, (4, 8)).transform
        x = events(1, (4, 8)).requires_grad_()
        assert torch.autograd.gradcheck(transform, (x,))
        assert torch.autograd.gradcheck(transform.inverse, (x,))


def test_single_precision_follows_the_input() -> None:
    for config in ALL:
        bands = build_bands(ADAPTER.validate_python(config), IMAGE)
        x = events(20, IMAGE).float()
        bands.prepare(x)
        z = bands.transform(x)
        assert z.dtype == torch.float32
        torch.testing.assert_close(bands.transform.inverse(z), x, rtol=0, atol=2e-4)


@pytest.mark.parametrize("config", ALL, ids=str)
def test_views_of_the_active_coefficients(config) -> None:
    """take and put are inverse, put leaves dropped bands alone, synthesise and analyse are isometries and inverse."""
    bands = bands_of(config)
    z = bands.transform(events(3, IMAGE)).detach()
    for scale in range(len(bands)):
        active = bands.index >= scale
        v = bands.take(z, scale)
        assert v.shape == (3, *bands.shape(scale))
        torch.testing.assert_close(v.flatten(1), z[:, active])
        torch.testing.assert_close(bands.put(v, scale, z), z)
        w = torch.randn_like(v)
        put = bands.put(w, scale, z)
        torch.testing.assert_close(bands.take(put, scale), w)
        torch.testing.assert_close(put[:, ~active], z[:, ~active])
        torch.testing.assert_close(bands.active_index(scale).flatten(), bands.index[active])
        image = bands.synthesise(v, scale).detach()
        assert image.shape == v.shape
        torch.testing.assert_close((image**2).sum(), (v**2).sum())
        torch.testing.assert_close(bands.analyse(image, scale).detach(), v, rtol=0, atol=1e-10)
        inner = (bands.synthesise(w, scale) * v).sum()  # and transposes of each other
        torch.testing.assert_close(inner, (w * bands.analyse(v, scale)).sum())
    assert bands.shape(0) == IMAGE or len(bands.shape(0)) == 1
    assert sum(bands.sizes) == 256


@pytest.mark.parametrize("config", DYADIC, ids=str)
def test_dyadic_bands_are_smaller_images(config) -> None:
    """Scale 0 sees the event, scale i an image of half the size, with 2^i times the mean."""
    bands, levels = bands_of(config), config["levels"]
    assert bands.names == (*(f"d{level}" for level in range(1, levels + 1)), f"a{levels}")
    x = events(3, IMAGE)
    z = bands.transform(x)
    torch.testing.assert_close(bands.synthesise(bands.take(z, 0), 0), x, rtol=0, atol=1e-10)
    constant = bands.transform(torch.full((1, *IMAGE), 0.3, dtype=F64))
    for scale in range(levels + 1):
        assert bands.shape(scale) == (2, 8 >> scale, 16 >> scale)
        means = bands.synthesise(bands.take(z, scale), scale).mean((-2, -1))
        torch.testing.assert_close(means, 2**scale * x.mean((-2, -1)))
        flat = bands.synthesise(bands.take(constant, scale), scale)
        torch.testing.assert_close(flat, torch.full_like(flat, 0.3 * 2**scale))


def test_the_coarse_images_of_haar_are_half_sums() -> None:
    """What scale i sees is the image pooled over cells of 2^i x 2^i, times 2^i: it is d1, ..., di that are dropped."""
    bands, x = bands_of({"name": "haar", "levels": 3}), events(2, IMAGE)
    z = bands.transform(x)
    for scale in range(4):
        pooled = torch.nn.functional.avg_pool2d(x, 2**scale) * 2**scale
        torch.testing.assert_close(bands.synthesise(bands.take(z, scale), scale), pooled)


def test_bands_of_haar_hold_their_scale() -> None:
    """A pattern that changes within each cell of 2^k pixels and has no mean there lies in d_k; means lie in a_L."""
    bands = bands_of({"name": "haar", "levels": 3}, (8, 16))
    for level in (1, 2, 3):
        for pattern in ([[1.0, -1.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]):
            cell = torch.tensor(pattern, dtype=F64).repeat_interleave(2 ** (level - 1), 0)
            cell = cell.repeat_interleave(2 ** (level - 1), 1)
            cells = torch.randn(8 >> level, 16 >> level, dtype=F64)
            z = bands.transform(torch.kron(cells, cell)[None])[0]
            assert float((z[bands.index == level - 1] ** 2).sum()) == pytest.approx(float((z**2).sum()))
    z = bands.transform(torch.kron(torch.randn(1, 2, dtype=F64), torch.ones(8, 8, dtype=F64))[None])[0]
    assert float((z[bands.index == 3] ** 2).sum()) == pytest.approx(float((z**2).sum()))


def test_bands_of_cosines_are_octaves() -> None:
    bands = bands_of({"name": "dct", "levels": 2}, (8, 8))
    basis = dct_matrix(8)
    for row, column, band in ((0, 1, 2), (1, 1, 2), (2, 0, 1), (1, 3, 1), (4, 0, 0), (3, 7, 0)):
        wave = torch.outer(basis[row], basis[column])[None]
        z = bands.transform(wave)[0]
        assert float(z[bands.index == band].square().sum()) == pytest.approx(1)


def test_groups() -> None:
    """Sizes go from the finest band on; equal groups differ by one coordinate at most; the first axes are coarsest."""
    assert bands_of({"name": "pixels", "groups": [1, 5]}, (2, 3)).index.flatten().tolist() == [0, 1, 1, 1, 1, 1]
    assert bands_of({"name": "pca", "groups": [1, 5]}, (2, 3)).index.flatten().tolist() == [1, 1, 1, 1, 1, 0]
    assert bands_of({"name": "pixels", "groups": 3}, (8,)).sizes == (3, 3, 2)
    bands = bands_of({"name": "pca", "groups": 2}, (6,))
    x = events(400, (6,), seed=1)
    z = bands.transform(x - x.mean(0))
    energies = [float((z[:, bands.index == band] ** 2).mean()) for band in range(2)]
    assert energies[0] < energies[1]


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        ({"name": "haar", "levels": 3}, (3, 28, 28), "nearest sizes are 24 x 24 and 32 x 32"),
        ({"name": "dct", "levels": 2}, (10, 10), "nearest sizes are 8 x 8 and 12 x 12"),
        ({"name": "wavelet", "wavelet": "db2", "levels": 2}, (10, 8), "multiples of 4"),
        ("haar", (64,), "for images"),
        ("fourier", (64,), "for images"),
        ({"name": "wavelet", "wavelet": "dbx"}, (8, 8), "no discrete wavelet 'dbx'"),
        ({"name": "wavelet", "wavelet": "bior2.2"}, (8, 8), "not orthogonal"),
        ({"name": "wavelet", "wavelet": "dmey"}, (8, 8), "not orthogonal"),
        ({"name": "fourier", "rings": [9.0]}, (8, 8), "ask for fewer rings"),
        ({"name": "fourier", "rings": 6}, (8, 8), "ask for fewer rings"),
        ({"name": "pixels", "groups": [3, 4]}, (8,), "add up to 8"),
        ({"name": "pca", "groups": 9}, (8,), "a number from 1 to 8"),
        ("pca", (3, 64, 64), "at most 8192"),
        ("learned", (3, 64, 64), "at most 8192"),
    ],
)
def test_what_does_not_fit_is_refused(config, shape, message) -> None:
    with pytest.raises(ConfigError) as error:
        build_bands(ADAPTER.validate_python(config), shape)
    assert message in str(error.value)


def test_values_that_no_config_may_have() -> None:
    for config in ("db2", {"name": "haar", "levels": 0}, {"name": "learned", "reflections": 3}):
        with pytest.raises(ValueError):
            ADAPTER.validate_python(config)
    with pytest.raises(ValueError, match="decreasing"):
        ADAPTER.validate_python({"name": "fourier", "rings": [2.0, 3.0]})
    with pytest.raises(ConfigError, match="even"):
        Learned(Identity((4,)), 3)


def test_bands_that_do_not_fit_their_transform() -> None:
    two = [Identity((4,)), Identity((2,))]
    index = torch.tensor([0, 0, 1, 1])
    assert Bands(Identity((4,)), index, ("fine", "coarse"), two).sizes == (2, 2)
    with pytest.raises(ShapeError, match="none empty"):
        Bands(Identity((4,)), index * 2, ("a", "b", "c"), [*two, Identity((2,))])
    with pytest.raises(ShapeError, match="views"):
        Bands(Identity((4,)), index, ("fine", "coarse"), [Identity((4,)), Identity((3,))])
    with pytest.raises(ShapeError, match="over"):
        Bands(Identity((2, 2)), index, ("fine", "coarse"), two)


def test_transforms_alone() -> None:
    assert isinstance(build_transform(ADAPTER.validate_python("dct"), (8, 8)), SeparableTransform)
    assert isinstance(build_transform(ADAPTER.validate_python("pixels"), (5,)), Identity)


@pytest.mark.parametrize("config", ["haar", "dct", "pca"])
def test_the_deviation_of_a_band_is_about_the_mean_of_each_coefficient(config: str, generator) -> None:
    """The root of the mean of squares in it: bands here have deviations far from 1, where a root shows."""
    scale = torch.linspace(0.2, 5, 64, dtype=F64).reshape(1, 8, 8)
    x = 3 + scale * torch.randn(200, 1, 8, 8, generator=generator, dtype=F64)
    bands = build_bands(ADAPTER.validate_python({"name": config}), (1, 8, 8)).double()
    bands.prepare(x)
    moments, z = BandMoments.of(bands, x), bands.transform(x).flatten(1)
    assert len(bands) > 1
    for number, deviation in enumerate(moments.deviations):
        inside = z[:, bands.index.flatten() == number]
        assert inside.numel() > 0
        about = inside - inside.mean(0)
        torch.testing.assert_close(deviation, about.square().mean().sqrt(), rtol=1e-10, atol=0)

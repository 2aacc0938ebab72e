"""Linear operators: adjoints by the dot-product test, pseudo-inverses by Moore and Penrose, closed forms."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from scorefold.data import EventScale
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold_toolkit.config.operators import OperatorConfig
from scorefold_toolkit.operators import (
    Composition,
    Edges,
    LinearOperator,
    Mask,
    Operator,
    OperatorChain,
    Radon,
    RandomMask,
    as_linear,
    build_operator,
    strip_matrix,
)

SHAPE = (3, 8, 12)
CASES = [
    "mask",
    {"name": "mask", "region": "right", "fraction": 0.5},
    {"name": "mask", "region": "square", "seed": 3},
    {"name": "mask", "region": "pixels", "fraction": 0.4},
    {"name": "box-downsample", "factor": 4},
    "bicubic-downsample",
    "upsample",
    {"name": "upsample", "factor": 3, "kernel": "bicubic"},
    ["bicubic-downsample", {"name": "upsample", "kernel": "bicubic"}],
    {"name": "gaussian-blur", "sigma": 0.7},
    {"name": "gaussian-blur", "sigma": 6.0},
    "grey",
    {"name": "grey", "weights": "luma"},
    {"name": "haar", "levels": 2},
    ["gaussian-blur", "box-downsample", "grey"],
    [{"name": "mask", "region": "pixels", "fraction": 0.4}, "box-downsample"],
    {"name": "radon", "angles": 7},
    {"name": "radon", "angles": [0, 33, 90, 135.5], "bins": 9},
]
SQUARE = {"name": "mask", "region": "square", "each": True}
adapter: TypeAdapter[OperatorConfig] = TypeAdapter(OperatorConfig)


def operator_of(raw: object, shape: tuple[int, ...] = SHAPE, **scale: float) -> Operator:
    units = EventScale(**({"low": 0.0, "high": 1.0} | scale))
    return build_operator(adapter.validate_python(raw), shape, scale=units)


def build(raw: object, shape: tuple[int, ...] = SHAPE) -> LinearOperator:
    return as_linear(operator_of(raw, shape), "this test")


def dense(operator: LinearOperator) -> Tensor:
    size = int(torch.tensor(operator.in_shape).prod())
    unit = torch.eye(size, dtype=torch.float64).reshape(size, *operator.in_shape)
    return operator(unit).flatten(1).T


@pytest.mark.parametrize("raw", CASES, ids=str)
def test_adjoint_by_dot_products(raw: object) -> None:
    operator = build(raw)
    x = torch.randn(5, *operator.in_shape, dtype=torch.float64)
    y = torch.randn(5, *operator.out_shape, dtype=torch.float64)
    left = (operator(x) * y).flatten(1).sum(1)
    right = (x * operator.adjoint(y)).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "raw", [case for case in CASES if "6.0" not in str(case) and "radon" not in str(case)], ids=str
)
def test_pseudo_inverse_solves_what_can_be_solved(raw: object) -> None:
    operator = build(raw)
    y = operator(torch.randn(4, *operator.in_shape, dtype=torch.float64))
    x = operator.pseudo_inverse(y)
    torch.testing.assert_close(operator(x), y, rtol=1e-9, atol=1e-9)
    if not isinstance(operator, Composition):
        pinv = torch.linalg.pinv(dense(operator))
        torch.testing.assert_close(x.flatten(1), y.flatten(1) @ pinv.T, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("raw", CASES, ids=str)
def test_dtype_follows_the_input_and_an_empty_batch_passes(raw: object) -> None:
    operator = build(raw)
    assert operator(torch.rand(2, *SHAPE)).dtype == torch.float32
    empty = operator(torch.rand(0, *SHAPE))
    assert empty.shape == (0, *operator.out_shape)
    assert operator.adjoint(empty).shape == (0, *SHAPE)


def test_hidden_pixels_stay_hidden_in_the_pseudo_inverse_of_block_means() -> None:
    """Undone one by one, a block mean would be shared out among hidden pixels too, and half of it lost."""
    pixels = {"name": "mask", "region": "pixels", "fraction": 0.5}
    for raw in ([pixels, "box-downsample"], [pixels, "box-downsample", "grey"]):
        operator = build(raw)
        y = operator(torch.randn(4, *SHAPE, dtype=torch.float64))
        torch.testing.assert_close(
            operator.pseudo_inverse(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(dense(operator)).T
        )
    each = build([{**pixels, "each": True}, "box-downsample"]).at(torch.arange(2))
    y = each(torch.randn(6, *SHAPE, dtype=torch.float64))
    torch.testing.assert_close(each(each.pseudo_inverse(y)), y)


def test_a_matrix_is_its_rows_times_the_numbers_of_an_event() -> None:
    rows = torch.randn(5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = build({"name": "matrix", "rows": rows.tolist()}, (3, 2, 2))
    x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(dense(operator), rows)
    y = operator(x)
    torch.testing.assert_close(y, x.flatten(1) @ rows.T)
    torch.testing.assert_close((operator.adjoint(y) * x).sum(), (y * y).sum())
    torch.testing.assert_close(operator(operator.pseudo_inverse(y)), y)


@pytest.mark.parametrize(
    ("rows", "said"),
    [([[1, 2], [3]], "rows have 1 to 2 numbers"), ([[math.inf, 1.0]], "finite number"), ([], "at least 1 item")],
)
def test_rows_that_are_no_matrix_are_refused(rows: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        operator_of({"name": "matrix", "rows": rows}, (2,))


def test_a_matrix_for_other_events_is_refused() -> None:
    with pytest.raises(ConfigError, match="have 3 numbers, and events have 2"):
        operator_of({"name": "matrix", "rows": [[1, 2, 3]]}, (2,))


def test_box_is_the_mean_of_blocks_and_its_pseudo_inverse_replicates() -> None:
    operator = build("box-downsample", (1, 4, 4))
    x = torch.arange(16, dtype=torch.float64).reshape(1, 1, 4, 4)
    assert operator(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert operator.pseudo_inverse(operator(x))[0, 0, :2, :2].flatten().tolist() == pytest.approx([2.5] * 4)


def test_larger_images() -> None:
    x = torch.rand(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(operator_of("upsample")(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    grown = operator_of({"name": "upsample", "factor": 4, "kernel": "bicubic"})(x)
    # Keys' kernel with a = -1/2 at the offset 1/8 of a pixel, in the middle of a row.
    d = [abs(offset) for offset in (-1.125, -0.125, 0.875, 1.875)]
    weights = torch.tensor(
        [1.5 * v**3 - 2.5 * v**2 + 1 if v <= 1 else -0.5 * v**3 + 2.5 * v**2 - 4 * v + 2 for v in d],
        dtype=torch.float64,
    )
    row = x[:, :, 2:6].transpose(2, 3) @ weights
    expected = row[:, :, 4:8] @ weights
    assert grown.shape == (2, 3, 32, 48)
    assert torch.allclose(grown[:, :, 14, 22], expected, atol=1e-12)


@pytest.mark.parametrize("raw", ["bicubic-downsample", {"name": "gaussian-blur", "sigma": 2.0}], ids=str)
def test_constants_stay_constant(raw: object) -> None:
    y = build(raw)(torch.full((1, *SHAPE), 0.3, dtype=torch.float64))
    torch.testing.assert_close(y, torch.full_like(y, 0.3), rtol=0, atol=1e-12)


def test_blur_narrows_a_wave_by_the_transfer_function_of_its_kernel() -> None:
    # A half-sample cosine is an eigenvector of symmetric convolution under this reflection.
    size, sigma, k = 32, 1.5, 3
    position = torch.arange(size, dtype=torch.float64)
    wave = torch.cos(torch.pi * k * (position + 0.5) / size)
    offsets = torch.arange(-6, 7, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    gain = (kernel * torch.cos(torch.pi * k * offsets / size)).sum() / kernel.sum()
    blurred = build({"name": "gaussian-blur", "sigma": sigma}, (1, 1, size))(wave[None, None, None])
    torch.testing.assert_close(blurred[0, 0, 0], gain * wave, rtol=1e-10, atol=1e-10)


def test_haar_is_orthonormal_and_gathers_the_mean_in_the_corner() -> None:
    operator = build({"name": "haar", "levels": 3}, (1, 8, 8))
    matrix = dense(operator)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-12)
    coefficients = operator(torch.full((1, 1, 8, 8), 0.5, dtype=torch.float64))
    assert coefficients[0, 0, 0, 0] == pytest.approx(0.5 * 8)
    assert coefficients.abs().sum() == pytest.approx(4.0)


def test_haar_bands_of_a_cell_lie_where_they_are_said_to() -> None:
    x = torch.tensor([[1.0, 2.0], [4.0, 9.0]], dtype=torch.float64)[None, None]
    assert build("haar", (1, 2, 2))(x)[0, 0].tolist() == [[8.0, -3.0], [-5.0, 2.0]]


@pytest.mark.parametrize(("region", "hidden"), [("centre", 16), ("square", 16), ("right", 16), ("pixels", 16)])
def test_masks_hide_the_share_asked_for(region: str, hidden: int) -> None:
    kept = build({"name": "mask", "region": region, "fraction": 0.25}, (1, 8, 8))(torch.ones(1, 1, 8, 8))
    assert int((kept == 0).sum()) == hidden


@pytest.mark.parametrize(
    ("region", "fraction", "hidden"),
    [("pixels", 0.001, 0), ("pixels", 0.999, 64), ("right", 0.05, 0), ("square", 0.9, 64), ("centre", 0.95, 64)],
)
def test_a_mask_that_hides_nothing_or_all_is_refused(region: str, fraction: float, hidden: int) -> None:
    with pytest.raises(ConfigError, match=f"hides {hidden} of 64 coordinates"):
        build({"name": "mask", "region": region, "fraction": fraction}, (1, 8, 8))


def test_a_mask_of_vectors() -> None:
    kept = build({"name": "mask", "region": "pixels", "fraction": 0.5}, (10,))(torch.ones(2, 10))
    assert kept.sum(1).tolist() == [5.0, 5.0]


def test_errors_say_what_would_fit() -> None:
    with pytest.raises(ConfigError, match="multiples of 4") as error:
        build({"name": "box-downsample", "factor": 4}, (1, 10, 7))
    assert "8 x 4" in str(error.value)
    assert "12 x 8" in str(error.value)
    with pytest.raises(ConfigError, match="images"):
        build("grey", (10,))
    with pytest.raises(ConfigError, match="3 channels"):
        build({"name": "grey", "weights": "luma"}, (2, 4, 4))
    with pytest.raises(ShapeError, match="expected"):
        build("grey")(torch.rand(2, 1, 8, 12))
    with pytest.raises(ShapeError, match="takes"):
        Composition([build("grey"), build("grey")])
    with pytest.raises(ValidationError):
        adapter.validate_python({"name": "mask", "fractoin": 0.2})


def disc(size: int, centre: tuple[float, float], radius: float) -> Tensor:
    """The share of each pixel that a disc covers, by 16 x 16 points a pixel; x to the right and y up."""
    place = (torch.arange(16 * size, dtype=torch.float64) + 0.5) / 16 - size / 2
    inside = (place[None, :] - centre[0]) ** 2 + (place.flip(0)[:, None] - centre[1]) ** 2 < radius**2
    return torch.nn.functional.avg_pool2d(inside.double()[None], 16)


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 117.0])
def test_projections_of_a_disc_are_its_chords_at_the_place_where_it_lies(angle: float) -> None:
    size, centre, radius = 64, (7.3, -4.1), 15.0
    operator = build({"name": "radon", "angles": [angle]}, (1, size, size))
    projection = operator(disc(size, centre, radius)[None])[0, 0, 0]
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    middle = centre[0] * turn.cos() + centre[1] * turn.sin()
    # The mean chord over each bin: chords 2 sqrt(r^2 - s^2), averaged over 200 rays of the bin.
    bins = operator.out_shape[-1]
    rays = (torch.arange(200 * bins, dtype=torch.float64) + 0.5) / 200 - bins / 2 - middle
    chords = 2 * (radius**2 - rays**2).clamp_min(0).sqrt()
    chords = chords.reshape(bins, 200).mean(1)
    inner = chords > radius
    torch.testing.assert_close(projection[inner], chords[inner], rtol=0.015, atol=0)
    # At its rim the disc of pixels is not round.
    assert float((projection - chords).square().mean().sqrt()) < 0.2
    assert not projection[chords == 0].gt(1.5).any()
    assert float(projection.sum()) == pytest.approx(torch.pi * radius**2, rel=2e-3)


def test_projections_keep_the_mass_and_see_the_image_from_the_right_side() -> None:
    x = torch.rand(2, 3, 9, 14, dtype=torch.float64)
    operator = build({"name": "radon", "angles": 13}, (3, 9, 14))
    y = operator(x)
    torch.testing.assert_close(y.sum(-1), x.sum((-1, -2))[..., None].expand(2, 3, 13), rtol=1e-12, atol=1e-12)
    across = build({"name": "radon", "angles": [0.0], "bins": 14}, (3, 9, 14))(x)[:, :, 0]
    torch.testing.assert_close(across, x.sum(-2), rtol=1e-12, atol=1e-12)
    up = build({"name": "radon", "angles": [90.0], "bins": 9}, (3, 9, 14))(x)[:, :, 0]
    torch.testing.assert_close(up, x.sum(-1).flip(-1), rtol=1e-12, atol=1e-12)


def test_pixels_beyond_a_short_detector_are_left_out() -> None:
    short = build({"name": "radon", "angles": [0.0], "bins": 4}, (1, 6, 6))
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(short(x)[0, 0, 0], x[0, 0].sum(0)[1:5])


def test_an_image_comes_back_from_projections_at_enough_angles() -> None:
    operator = build({"name": "radon", "angles": 24}, (1, 12, 12))
    assert isinstance(operator, Radon)
    x = torch.rand(3, 1, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(operator.pseudo_inverse(operator(x)), x, rtol=0, atol=1e-6)
    # From few angles the answer is the shortest of many; of data that no image has, the closest.
    few = build({"name": "radon", "angles": [0, 45, 90]}, (1, 12, 12))
    y = few(x) + 0.1 * torch.randn(3, *few.out_shape, dtype=torch.float64)
    expected = y.flatten(1) @ torch.linalg.pinv(dense(few), rtol=1e-8).T
    torch.testing.assert_close(few.pseudo_inverse(y).flatten(1), expected, rtol=0, atol=1e-5)
    zeros = few.pseudo_inverse(torch.zeros(2, *few.out_shape))
    assert zeros.dtype == torch.float32
    assert not zeros.any()


def test_gradients_pass_a_projection() -> None:
    operator = build({"name": "radon", "angles": 4}, (1, 5, 5))
    x = torch.rand(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(1, *operator.out_shape, dtype=torch.float64)
    (operator(x) * weight).sum().backward()
    torch.testing.assert_close(x.grad, operator.adjoint(weight))


def test_no_angles_give_an_empty_matrix() -> None:
    assert strip_matrix(torch.zeros(0), 3, 3, 4).shape == (0, 9)


def test_a_mask_of_its_own_for_every_point_comes_from_the_index_alone() -> None:
    operator = operator_of(SQUARE, (3, 8, 8))
    assert isinstance(operator, RandomMask)
    index = torch.tensor([4, 9, 4, 7])
    masks = operator.at(index)
    assert masks.mask.shape == (4, 3, 8, 8)
    assert torch.equal(masks.mask[0], masks.mask[2])
    assert not torch.equal(masks.mask[0], masks.mask[1])
    assert (1 - masks.mask).sum((1, 2, 3)).tolist() == [3 * 16] * 4
    assert torch.equal(operator.at(index.flip(0)).mask, masks.mask.flip(0))
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(masks(x), x * masks.mask.float())
    twice = masks(torch.cat([x, x]))  # draws for the same conditions, in turn
    torch.testing.assert_close(twice, torch.cat([masks(x), masks(x)]))
    with pytest.raises(ShapeError, match="multiple"):
        masks(x[:3])
    for use in (operator, operator.adjoint, operator.pseudo_inverse):
        with pytest.raises(ConfigError, match="another one for every point"):
            use(x)
    with pytest.raises(ConfigError, match="no index"):
        operator.at(None)
    assert operator.at(index[:0])(x[:0]).shape == (0, 3, 8, 8)
    chain = operator_of([SQUARE, "grey"], (3, 8, 8)).at(index)
    torch.testing.assert_close(chain(x), masks(x).mean(1, keepdim=True))
    same = operator_of("grey")
    assert same.at(index) is same
    with pytest.raises(ValidationError, match="take square"):
        adapter.validate_python({"name": "mask", "each": True})


def test_edges_are_those_of_scikit_image_whatever_the_range() -> None:
    from skimage.data import astronaut
    from skimage.feature import canny

    image = torch.from_numpy(astronaut()[::8, ::8].copy()).double()
    grey = (image / 255) @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    expected = torch.from_numpy(canny(grey.numpy(), 0.5, 10 / 255, 100 / 255))
    x = image.movedim(-1, 0)[None] / 255
    edges = operator_of("edges", (3, 64, 64))
    assert torch.equal(edges(x)[0, 0].bool(), expected)
    assert 0.05 < float(expected.double().mean()) < 0.6
    wide = operator_of("edges", (3, 64, 64), low=-1.0, high=1.0)
    assert torch.equal(wide(2 * x - 1), edges(x))
    assert torch.equal(operator_of(["edges"], (3, 64, 64), low=-1.0, high=1.0)(2 * x - 1), edges(x))
    assert edges(x.float()).dtype == torch.float32
    assert edges(x[:0]).shape == (0, 1, 64, 64)
    strict = operator_of({"name": "edges", "low_threshold": 100, "high_threshold": 200}, (3, 64, 64))
    assert float(strict(x).sum()) < float(edges(x).sum())


def test_a_step_has_one_edge() -> None:
    x = torch.zeros(1, 1, 12, 12)
    x[..., 6:] = 1
    found = operator_of("edges", (1, 12, 12))(x)[0, 0]
    # The gradient is the same on both sides of the step: Canny keeps one pixel or both, as its rounding goes.
    assert found[3:9].sum(0).tolist() in ([0] * 5 + sides + [0] * 5 for sides in ([6, 6], [6, 0], [0, 6]))


def test_edges_have_no_adjoint_and_say_so() -> None:
    operator = operator_of(["gaussian-blur", "edges"], (1, 8, 8))
    assert isinstance(operator, OperatorChain)
    assert not isinstance(operator, LinearOperator)
    assert operator(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    for one in (operator, operator_of("edges", (1, 8, 8))):
        with pytest.raises(ConfigError, match=r"score:x needs the adjoint of a linear operator, and \w+ is not linear"):
            as_linear(one, "score:x")
    assert as_linear(operator_of("grey"), "score:x").in_shape == SHAPE
    with pytest.raises(ShapeError, match="takes"):
        OperatorChain([operator_of("edges", (3, 8, 8)), operator_of("edges", (3, 8, 8))])
    with pytest.raises(ConfigError, match="two bounds"):
        build_operator(adapter.validate_python("edges"), (1, 8, 8), scale=EventScale())
    with pytest.raises(ValidationError, match="expected at least low_threshold"):
        adapter.validate_python({"name": "edges", "low_threshold": 20, "high_threshold": 3})


def test_edges_name_the_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ScorefoldError, match=r"scorefold-toolkit\[images\]"):
        Edges((1, 8, 8))


def test_ranges_of_what_comes_out() -> None:
    assert operator_of("grey").out_range(2.0) == 2.0
    assert operator_of({"name": "haar", "levels": 2}).out_range(1.0) == 4.0
    assert operator_of("edges").out_range(255.0) == 1.0
    assert operator_of("radon", (1, 3, 4)).out_range(2.0) == 10.0
    assert operator_of(["haar", "edges"], (1, 8, 8)).out_range(2.0) == 1.0
    assert isinstance(operator_of("mask"), Mask)
    # What lies between the bounds before does so after, within them.
    x = torch.rand(20, *SHAPE, dtype=torch.float64)
    for raw in ("radon", {"name": "haar", "levels": 2}, "box-downsample"):
        operator = operator_of(raw)
        y = operator(x)
        assert float(y.max() - y.min()) <= operator.out_range(1.0) * 1.5


@pytest.mark.parametrize(
    "raw",
    [{"name": "radon", "angles": 0}, {"name": "radon", "angles": []}, {"name": "radon", "bins": 0}],
)
def test_projections_need_angles_and_bins(raw: object) -> None:
    with pytest.raises(ValidationError):
        adapter.validate_python(raw)


SIGNAL = (2, 24)
OF_SIGNALS = [
    "mask",
    {"name": "mask", "region": "right", "fraction": 0.5},
    {"name": "mask", "region": "square", "seed": 3},
    {"name": "mask", "region": "pixels", "fraction": 0.4},
    {"name": "box-downsample", "factor": 4},
    "bicubic-downsample",
    {"name": "upsample", "factor": 3, "kernel": "bicubic"},
    {"name": "gaussian-blur", "sigma": 0.7},
    ["gaussian-blur", "box-downsample"],
]


@pytest.mark.parametrize("raw", OF_SIGNALS, ids=str)
def test_signals_go_through_each_channel_by_itself_as_rows_of_an_image(raw: object) -> None:
    """The adjoint by a dot product; and channel c is what an operator of one channel makes of it."""
    operator, alone = build(raw, SIGNAL), build(raw, (1, 24))
    x = torch.randn(5, *SIGNAL, dtype=torch.float64)
    y = torch.randn(5, *operator.out_shape, dtype=torch.float64)
    torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adjoint(y)).sum())
    torch.testing.assert_close(operator(x)[:, 1:], alone(x[:, 1:]))
    torch.testing.assert_close(operator(operator.pseudo_inverse(operator(x))), operator(x))


@pytest.mark.parametrize(("region", "first"), [("centre", 9), ("right", 18), ("square", None)])
def test_gaps_in_signals(region: str, first: int | None) -> None:
    found = build({"name": "mask", "region": region, "fraction": 0.25, "seed": 0}, SIGNAL)
    gone = (found(torch.ones(1, *SIGNAL))[0] == 0).nonzero()
    assert gone[:, 0].unique().tolist() == [0, 1]
    places = gone[gone[:, 0] == 0, 1].tolist()
    assert len(places) == 6
    assert places == list(range(places[0], places[0] + 6))
    assert first in (None, places[0])


def test_rows_of_numbers_are_a_matrix() -> None:
    rows = [[1, 0], [0.5, 2]]
    assert adapter.validate_python(rows) == adapter.validate_python({"name": "matrix", "rows": rows})
    assert build([[[1, 0], [0, 2]], [[3, 0]]], (2,))(torch.ones(1, 2)).tolist() == [[3.0]]


def test_means_of_a_signal_by_hand() -> None:
    found = build("box-downsample", (1, 16))(torch.arange(16.0).reshape(1, 1, 16))
    assert found.flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]


def test_what_signals_can_not_go_through() -> None:
    with pytest.raises(ConfigError, match=r"'radon' needs images \(C, H, W\); events have shape \(2, 24\)"):
        build("radon", SIGNAL)
    with pytest.raises(ConfigError, match=r"events have shape \(16,\)") as found:
        build({"name": "box-downsample", "factor": 4}, (16,))
    assert str(found.value.hint).startswith("event_shape: [1, 16] of data:array makes signals")
    assert "name: matrix" in str(found.value.hint)
    with pytest.raises(ConfigError, match=r"'mask' needs images \(C, H, W\) or signals \(C, L\)"):
        build("mask", (28, 28))
    with pytest.raises(ConfigError, match="a length that is a multiple of 5; signals have 24") as found:
        build({"name": "box-downsample", "factor": 5}, SIGNAL)
    assert "the nearest sizes are 20 and 25" in str(found.value.hint)

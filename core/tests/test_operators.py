"""Linear operators: adjoints by the dot-product test, pseudo-inverses by Moore and Penrose, closed forms."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from scorefold.errors import ConfigError, ShapeError
from scorefold.operator_config import OperatorConfig
from scorefold.operators import Composition, LinearOperator, build_operator

SHAPE = (3, 8, 12)
CASES = [
    "mask",
    {"name": "mask", "region": "right", "fraction": 0.5},
    {"name": "mask", "region": "square", "seed": 3},
    {"name": "mask", "region": "pixels", "fraction": 0.4},
    {"name": "box-downsample", "factor": 4},
    "bicubic-downsample",
    {"name": "gaussian-blur", "sigma": 0.7},
    {"name": "gaussian-blur", "sigma": 6.0},
    "grey",
    {"name": "grey", "weights": "luma"},
    {"name": "haar", "levels": 2},
    ["gaussian-blur", "box-downsample", "grey"],
]
adapter: TypeAdapter[OperatorConfig] = TypeAdapter(OperatorConfig)


def build(raw: object, shape: tuple[int, ...] = SHAPE) -> LinearOperator:
    return build_operator(adapter.validate_python(raw), shape)


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


@pytest.mark.parametrize("raw", [case for case in CASES if "6.0" not in str(case)], ids=str)
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


def test_box_is_the_mean_of_blocks_and_its_pseudo_inverse_replicates() -> None:
    operator = build("box-downsample", (1, 4, 4))
    x = torch.arange(16, dtype=torch.float64).reshape(1, 1, 4, 4)
    assert operator(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert operator.pseudo_inverse(operator(x))[0, 0, :2, :2].flatten().tolist() == pytest.approx([2.5] * 4)


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

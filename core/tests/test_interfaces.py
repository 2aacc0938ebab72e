"""The interfaces enforce what they ask for, and what they give follows from it."""

from __future__ import annotations

import inspect
import math
from abc import ABC
from typing import Any

import pytest
import torch
from torch import Tensor
from training_toys import Denoiser, Quadratic

from scorefold import interfaces
from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import DataError, ShapeError
from scorefold.interfaces import (
    Allocator,
    ClosedFormGeodesics,
    DataSource,
    Encodes,
    Estimator,
    Flow,
    Geometry,
    Network,
    Phase,
    ScoreModel,
    TensorSource,
    Trainable,
    Transports,
)
from scorefold.plugin import CORE_CAPABILITIES, CORE_KINDS
from scorefold.stage import showing
from scorefold_allocation.data.batch import TaskSource
from scorefold_toolkit.potential import Potential

MUSTS: dict[type, set[str]] = {
    ScoreModel: {"score"},
    Flow: {"forward", "inverse"},
    Geometry: {"metric", "exp", "log"},
    Estimator: {"estimate"},
    Allocator: {"allocate"},
    DataSource: {"load"},
    Network: {"build"},
    Trainable: {"loss"},
    Encodes: {"encode", "decode", "encode_distribution"},
    Transports: {"transport"},
    ClosedFormGeodesics: set(),
    Potential: {"value", "grad", "grad_inverse", "hessian_product"},
    TaskSource: {"tasks"},
}


@pytest.mark.parametrize("interface", MUSTS, ids=lambda interface: interface.__name__)
def test_an_interface_enforces_what_must_be_written(interface: type) -> None:
    assert issubclass(interface, ABC)
    assert interface.__abstractmethods__ == MUSTS[interface]  # type: ignore[attr-defined]
    if MUSTS[interface]:
        with pytest.raises(TypeError, match="abstract"):
            type("Incomplete", (interface,), {})()


@pytest.mark.parametrize("interface", MUSTS, ids=lambda interface: interface.__name__)
def test_every_method_of_an_interface_says_what_it_does(interface: type) -> None:
    assert inspect.getdoc(interface)
    methods = [
        method for name, method in vars(interface).items() if inspect.isfunction(method) and not name.startswith("_")
    ]
    assert all(method.__doc__ for method in methods)


def test_each_kind_of_core_has_an_interface_here() -> None:
    for kind in CORE_KINDS:
        module, _, name = kind.interface.partition(":")
        assert module == "scorefold.interfaces"
        assert getattr(interfaces, name) in MUSTS


def test_capabilities_are_named_after_their_types() -> None:
    names = ["Trainable", "Encodes", "EncodesNoise", "Transports", "ClosedFormGeodesics"]
    assert [item.name for item in CORE_CAPABILITIES] == names
    for item in CORE_CAPABILITIES:
        assert item.interface == f"scorefold.interfaces:{item.name}"
        assert getattr(interfaces, item.name).__name__ == item.name


def test_a_trainable_module_needs_no_more_than_its_loss() -> None:
    model = Denoiser()
    (phase,) = model.phases()
    assert (phase.name, phase.modules, phase.after, phase.resume_key, phase.steps) == (
        "fit",
        (model,),
        None,
        None,
        None,
    )
    (group,) = model.parameter_groups(phase)
    # The toy registers its first layer twice; the optimiser must see it once.
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in model.parameters()}
    assert len(group["params"]) == len(list(model.parameters()))
    (head,) = model.parameter_groups(Phase("head", (model.head, model.head)))
    assert len(head["params"]) == 2
    assert model.refuses("distributed") is None
    unprepared, prepared = Quadratic(), Quadratic()
    prepared.prepare(Dataset(x=torch.ones(3, 4)), torch.Generator())
    assert torch.equal(prepared.centre, unprepared.centre)


def test_tensors_are_a_source() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    source = TensorSource(x)
    assert source.load("test").x is x
    assert source.event_shape == (2,)
    assert source.event_scale.mean == 3.0
    assert source.event_scale.std == pytest.approx(math.sqrt((1 + 4) / 2))
    assert source.spec() == DataSpec((2,), source.event_scale, None)
    assert source.fingerprint() is None
    with pytest.raises(DataError, match="no 'train' split here; there is test"):
        source.load("train")
    with pytest.raises(DataError, match="at least one split"):
        TensorSource({})
    scale = EventScale(low=0.0, high=1.0)
    both = TensorSource({"train": Dataset(x=x), "test": Dataset(x=x[:1])}, scale)
    assert both.event_scale is scale
    assert len(both.load("test")) == 1
    assert TensorSource(torch.ones(4, 2)).event_scale.std == 1.0


def test_tensors_with_conditions_are_a_source_with_conditions() -> None:
    def source(train: Any, test: Any, spec: Any = None) -> TensorSource:
        splits = {"train": Dataset(torch.zeros(2, 1), train), "test": Dataset(torch.zeros(2, 1), test)}
        return TensorSource(splits, condition_spec=spec)

    low, high = torch.tensor([0, 1]), torch.tensor([3, 2])
    assert source(low, high).condition_spec == TensorSpec((), classes=4)
    assert source(low, high, TensorSpec((), classes=10)).spec().condition_spec == TensorSpec((), classes=10)
    named = {"class": low, "angle": torch.zeros(2, 3)}
    assert source(named, named).condition_spec == {"class": TensorSpec((), classes=2), "angle": TensorSpec((3,))}
    for other in (None, torch.zeros(2), {"class": low}, low[:, None]):
        with pytest.raises(DataError, match="the splits don't have the same conditions"):
            source(low, other)


def test_a_spec_reads_as_its_source_does() -> None:
    class Conditional(TensorSource):
        condition_spec = TensorSpec((), classes=10)

    source = Conditional(torch.zeros(3, 1, 2, 2))
    spec = source.spec()
    for name in ("event_shape", "event_scale", "condition_spec"):
        assert getattr(spec, name) == getattr(source, name)


class Stretched(Geometry):
    """Flat space whose second axis is three times as long: every answer in closed form."""

    event_shape = (1, 2)
    lengths = torch.tensor([1.0, 3.0], dtype=torch.float64)

    def metric(self, x: Tensor) -> Tensor:
        return torch.diag(self.lengths**2).expand(len(x), 2, 2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return y - x


def events(*rows: tuple[float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 1, 2)


def test_what_a_geometry_is_given() -> None:
    space = Stretched()
    x, y = events((0, 0), (1, 1)), events((4, 1), (1, 1))
    assert space.inner(x, y, y).tolist() == [25.0, 10.0]
    assert space.norm(x, y).tolist() == pytest.approx([5.0, 10**0.5])
    assert space.distance(x, y).tolist() == [5.0, 0.0]
    matrix = space.distance_matrix(x, y)
    assert matrix.shape == (2, 2)
    for i in range(2):
        for j in range(2):
            assert float(matrix[i, j]) == pytest.approx(float(space.distance(x[i : i + 1], y[j : j + 1])))
    assert torch.equal(space.distance_matrix(x), space.distance_matrix(x, x))
    path = space.geodesic(x, y, torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64))
    assert path.shape == (2, 3, 1, 2)
    assert path[0].reshape(3, 2).tolist() == [[0, 0], [1, 0.25], [4, 1]]
    # A batch of one broadcasts.
    assert space.geodesic(x[:1], y, torch.tensor([1.0], dtype=torch.float64)).shape == (2, 1, 1, 2)
    assert space.geodesic(x, y, torch.zeros(0, dtype=torch.float64)).shape == (2, 0, 1, 2)
    with pytest.raises(ShapeError, match=r"expected \(T,\)"):
        space.geodesic(x, y, torch.tensor(0.5))
    with pytest.raises(DataError, match="infinite times"):
        space.geodesic(x, y, torch.tensor([0.5, torch.inf], dtype=torch.float64))


def test_the_mean_of_a_geometry_is_the_weighted_barycentre() -> None:
    space, points = Stretched(), events((0, 0), (4, 2), (8, -8))
    assert space.mean(points).reshape(-1).tolist() == pytest.approx([4, -2])
    weights = torch.tensor([1.0, 3.0, 0.0], dtype=torch.float64)
    assert space.mean(points, weights).reshape(-1).tolist() == pytest.approx([3, 1.5])
    with pytest.raises(ShapeError, match="mean of no points"):
        space.mean(points[:0])
    for wrong in (weights[:2], -weights, 0 * weights, weights[:, None], weights * torch.nan):
        with pytest.raises(ShapeError, match="expected 3 numbers >= 0, not all 0"):
            space.mean(points, wrong)


class Ratios(Geometry):
    """Positive numbers by their ratios, g = 1 / x^2: distances are |ln(y / x)|, means are geometric."""

    event_shape = (1,)

    def metric(self, x: Tensor) -> Tensor:
        return (x**-2)[:, :, None]

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x * (v / x).exp()

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return x * (y / x).log()


def test_the_mean_of_a_curved_line_is_found_by_iteration() -> None:
    space, points = Ratios(), torch.tensor([[1.0], [10.0], [1000.0]], dtype=torch.float64)
    assert float(space.distance(points[:1], points[2:])) == pytest.approx(math.log(1000))
    assert float(space.mean(points)) == pytest.approx(10 ** (4 / 3))
    weights = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)
    assert float(space.mean(points, weights)) == pytest.approx(10.0)
    path = space.geodesic(points[:1], points[2:], torch.tensor([1 / 3], dtype=torch.float64))
    assert float(path) == pytest.approx(10.0)


def test_a_mean_is_exact_enough_once_rounding_moves_it() -> None:
    """The step that is left is compared with the rounding of the points themselves: here of a million."""

    class Counted(Stretched):
        calls = 0

        def log(self, x: Tensor, y: Tensor) -> Tensor:
            self.calls += 1
            return super().log(x, y)

    space = Counted()
    points = 1e6 * torch.randn(7, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(space.mean(points), points.mean(0))
    assert space.calls <= 3


def test_no_points_are_legal_for_a_geometry() -> None:
    space, none = Stretched(), events()
    assert space.distance(none, none).shape == (0,)
    assert space.distance_matrix(none, events((1, 1))).shape == (0, 1)
    assert space.distance_matrix(events((1, 1)), none).shape == (1, 0)
    assert space.geodesic(none, none, torch.tensor([0.0, 1.0], dtype=torch.float64)).shape == (0, 2, 1, 2)


def test_geometries_without_closed_forms_say_how_far_they_are() -> None:
    said = list[tuple[int, int, str]]()
    x = events((1, 2), (3, 4), (5, 6))
    with showing(lambda done, total, text: said.append((done, total, text))):
        Stretched().distance_matrix(x)
        Stretched().geodesic(x, x, torch.tensor([0.0, 1.0]))
    assert said == [(1, 3, "rows of distances"), (2, 3, "rows of distances"), (3, 3, "rows of distances"),
                    (1, 2, "times"), (2, 2, "times")]  # fmt: skip

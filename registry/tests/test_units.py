"""Data in other units than in training, on both sides of where a warning begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import scorefold as sf
from scorefold.data import DataSpec, EventScale
from scorefold.errors import ConfigError
from scorefold.interfaces import TensorSource
from scorefold_registry.run.units import in_units_of, unit_warnings

TRAINED = EventScale(shift=(10.0, -5.0), factor=(2.0, 100.0))
X = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).repeat(10, 1)
IMAGES = EventScale(low=0.0, high=1.0, mean=0.5, std=0.2)
PIXELS = torch.tensor([0.3, 0.7]).repeat(4)[:, None, None, None].expand(-1, 1, 2, 2)


@pytest.mark.parametrize(
    ("trained", "x", "said"),
    [
        (TRAINED, X, []),
        (TRAINED, X[:0], []),
        (TRAINED, 2.9 * X, []),
        (TRAINED, 3.1 * X, ["the data is 3.1 times"]),
        (TRAINED, X / 2.9, []),
        (TRAINED, X / 3.1, ["the data is 0.323 times"]),
        (TRAINED, 3.1 * X[:8], []),
        (TRAINED, torch.ones(20, 2), []),
        (TRAINED, X + torch.tensor([0.0, 2.9]), []),
        (TRAINED, X + torch.tensor([0.0, 3.1]), ["column 1 has mean 305 for -5 (columns from 0)"]),
        (TRAINED, X - torch.tensor([4.0, 5.0]), ["column 1 has mean -505 for -5, column 0 has mean 2 for 10"]),
        (EventScale(), X.repeat(1, 3) + 9, ["column 2 has mean 9 for 0 and 3 more columns"]),
        (IMAGES, PIXELS, []),
        (IMAGES, PIXELS + 0.59, []),
        (IMAGES, PIXELS + 0.61, ["have mean 1.11 and the model's training data 0.5"]),
    ],
)
def test_data_are_warned_of(trained: EventScale, x: Tensor, said: list[str]) -> None:
    found = unit_warnings(trained, x)
    assert len(found) == len(said), found
    assert all(part in text for part, text in zip(said, found, strict=True))


def test_points_are_converted_to_the_units_of_a_model() -> None:
    raw = torch.tensor([[12.0, 95.0], [8.0, -105.0]]).repeat(10, 1)
    anew = EventScale(shift=(12.0, 95.0), factor=(4.0, 1.0))
    for scale in (anew, EventScale()):
        found = in_units_of(DataSpec((2,), TRAINED), TensorSource(scale.from_raw(raw).float(), scale))
        assert found.event_scale == TRAINED
        torch.testing.assert_close(found.load("test").x, X)
    bytes_, halves = EventScale(0.0, 1.0, 256, factor=255.0), EventScale(-1.0, 1.0, 256, shift=127.5, factor=127.5)
    found = in_units_of(DataSpec((1, 2, 2), halves), TensorSource(PIXELS, bytes_))
    torch.testing.assert_close(found.load("test").x, 2 * PIXELS - 1)


def test_points_stay_where_units_agree_or_are_not_known() -> None:
    known = EventScale(0.0, 1.0, 256, factor=255.0)
    for trained, shape, source in (
        (TRAINED, (2,), TensorSource(X, EventScale(mean=3.0, shift=TRAINED.shift, factor=TRAINED.factor))),
        (TRAINED, (3,), TensorSource(X, EventScale())),
        (known, (1, 2, 2), TensorSource(PIXELS, IMAGES)),
        (IMAGES, (1, 2, 2), TensorSource(PIXELS, known)),
        (known, (1, 2, 2), TensorSource(PIXELS, EventScale())),
    ):
        assert in_units_of(DataSpec(shape, trained), source) is source


def test_a_model_reads_other_data_in_its_own_units(tmp_path: Path) -> None:
    table = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 500.0]) + 100
    for name, points in (("own", table), ("far", table + torch.tensor([4.0, 0.0]))):
        lines = [f"{a},{b}" for a, b in points.tolist()]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b", *lines]))

    at = {"folder": str(tmp_path / "runs"), "progress": False}

    def read(file: str, scale: str) -> sf.Stage:
        whole = {"fractions": [0.0, 0.0, 1.0], "name": f"{file[:3]}-{scale}"}
        return sf.load_data(str(tmp_path / file), scale=scale, **whole, **at)

    own = sf.load_data(str(tmp_path / "own.csv"), scale="columns", **at)
    flow = sf.fit("flow:affine-coupling", own, layers=1, training={"steps": 1}, **at)
    expected = sf.evaluate(flow, read("own.csv", "columns"), **at)
    found = sf.evaluate(flow, read("own.csv", "none"), **at)
    assert found.result["answer"]["value"] == pytest.approx(expected.result["answer"]["value"], rel=1e-4)
    assert "warnings" not in found.result
    (said,) = sf.evaluate(flow, read("far.csv", "none"), **at).result["warnings"]
    assert said.startswith("the data lie away from the model's training data: column 0 has mean 104")


def test_an_array_holds_the_conditions_of_samples(tmp_path: Path) -> None:
    at = {"folder": str(tmp_path / "runs"), "progress": False}
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    flow = sf.fit("flow:affine-coupling", sf.load_data(x, condition=x.sum(1), **at), layers=1, training={"steps": 1})
    y = np.array([0.5, -3.0])
    seen = sf.load_data(torch.zeros(2, 2), condition=y, splits=(0, 0, 1), name="seen", **at)
    stages = [sf.sample(flow, each, n=3, progress=False) for each in (y, torch.tensor(y), seen)]
    drawn = [stage.value.load("test") for stage in stages]
    assert torch.equal(stages[0].samples, drawn[0].x)
    with pytest.raises(ConfigError, match="stage 'flow' gives no samples"):
        assert flow.samples
    assert all(torch.equal(one.x, drawn[0].x) for one in drawn)
    assert drawn[0].condition.flatten().tolist() == [0.5] * 3 + [-3.0] * 3
    with pytest.raises(ConfigError, match=r"have shape \(1, 2\); expected \(N, 1\), a row for each"):
        sf.sample(flow, y[None], progress=False)
    with pytest.raises(ConfigError, match="y holds text") as caught:
        sf.sample(flow, y.astype(str), progress=False)
    assert str(caught.value.hint).startswith("y.astype(float)")
    flow = sf.fit("flow:affine-coupling", sf.load_data(x, condition=x, **at), layers=1, training={"steps": 1})
    with pytest.raises(ConfigError, match=r"expected \(N, 2\)") as caught:
        sf.sample(flow, y, progress=False)
    assert "give y[None]" in str(caught.value.hint)

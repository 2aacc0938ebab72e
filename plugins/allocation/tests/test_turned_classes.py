"""Few-shot tasks of images turned by quarters: each class of the data gives four."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorefold.data import Dataset, EventScale, StreamedDataset
from scorefold.errors import ConfigError
from scorefold.interfaces import TensorSource
from scorefold_allocation.data.config import FewShotConfig
from scorefold_allocation.data.labelled import FewShot


def turned(data: TensorSource, **config: Any) -> FewShot:
    return FewShot(FewShotConfig(turned=True, ways=5, **config), data=data)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_turned_class_gives_four(streamed: bool) -> None:
    """An image whose one pixel names its class and its place: turned images are where this pixel has gone."""
    count = 24
    x = torch.zeros(count, 1, 3, 3)
    x[:, 0, 0, 0] = 1.0 + torch.arange(count)
    whole = Dataset(x, label=torch.arange(count) % 4, index=torch.arange(count))
    part = StreamedDataset(x=x[:0], fetch=whole.take, size=count) if streamed else whole
    data = TensorSource({"train": part}, EventScale(low=0.0, high=float(count)))
    data.label_names = ["a", "b", "c", "d"]
    source = turned(data, train=["a", "b"], test=["c", "d"], superclasses={"one": ["a"]})
    points = source.load("train")
    assert points.label is not None
    assert points.index is not None
    assert points.label.unique().tolist() == list(range(8))
    assert source.label_names is not None
    assert [source.label_names[number] for number in (0, 6)] == ["a turned by 0", "b turned by 180"]
    corners = ((0, 0), (2, 0), (2, 2), (0, 2))
    for image, label, index in zip(points.x[:, 0], points.label.tolist(), points.index.tolist(), strict=True):
        assert image[corners[label % 4]] == index // 4 + 1
        assert index % 4 == label % 4
        assert index // 4 % 4 == label // 4
    assert source._superclass["train"].tolist() == [0] * 4 + [-1] * 4
    assert source.batch(3, 10, torch.Generator().manual_seed(0)).target.unique().tolist() == list(range(5))
    with pytest.raises(ConfigError, match="test has 4 classes and a task 5; the data have 4"):
        turned(data, test=["d"])


def test_only_square_images_are_turned() -> None:
    with pytest.raises(ConfigError, match=r"turned takes square images \(C, H, H\); .* are \(2,\)"):
        turned(
            TensorSource({"train": Dataset(torch.zeros(4, 2), label=torch.arange(4))}, EventScale(low=0.0, high=1.0))
        )

"""Every data source that splits its own points, without a training split."""

from __future__ import annotations

import pytest
import torch

from scorefold.data import EventScale
from scorefold_registry import Host
from scorefold_registry.components.parts import config_model
from scorefold_toolkit.data import splits
from scorefold_toolkit.data.splits import moments

HOST = Host.discover()


def takes_fractions(name: str) -> bool:
    """Whether a source has ``fractions``, and no field that must be given."""
    model = config_model(HOST.catalogue.resolve(name))
    return (
        model is not None
        and "fractions" in model.model_fields
        and not any(field.is_required() for field in model.model_fields.values())
    )


SOURCES = [item.id for item in HOST.components("data") if takes_fractions(item.id)]


@pytest.mark.parametrize("name", SOURCES)
def test_the_scale_is_that_of_the_points_there_are(name: str) -> None:
    source = HOST.create(name, {"fractions": [0, 0, 1]})
    x = source.load("test").x
    scale: EventScale = source.event_scale
    assert scale.std == pytest.approx(moments(x, bounded=scale.bounded)[1], rel=1e-5)
    assert scale.std != 1


def test_all_sources_are_tried() -> None:
    assert len(SOURCES) >= 20


def test_moments_of_many_entries_come_from_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0)) ** 3
    variance, mean = torch.var_mean(x.double(), correction=0)
    assert moments(x) == (float(mean), float(variance.sqrt()))
    monkeypatch.setattr(splits, "_ENTRIES", 301)  # the last part is smaller
    assert moments(x) == pytest.approx((float(mean), float(variance.sqrt())), rel=1e-12)
    assert moments(torch.full((9, 100), 3.0)) == (pytest.approx(3, rel=1e-15), 1.0)

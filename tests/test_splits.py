"""Every data source that splits its own points, without a training split."""

from __future__ import annotations

import pytest

from scorefold.data import EventScale
from scorefold_registry import Host
from scorefold_registry.components.parts import config_model
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

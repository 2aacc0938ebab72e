"""Conditions of every kind and size, and what is refused and how it says so."""

from __future__ import annotations

import pytest
import torch
from caflow_models import KINDS, SPEC, depends, draws, image_flow
from torch import Tensor

from scorefold.data import Condition, ConditionSpec, Dataset, EventScale, TensorSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold_caflow.flow.inputs import SplitCondition, resized_channels, resized_condition

SPECS: dict[str, ConditionSpec | None] = {
    "same size": SPEC,
    "larger, three channels": TensorSpec((3, 16, 16)),
    "another shape": TensorSpec((2, 8, 24)),
    "class": TensorSpec((), classes=5),
    "classes": TensorSpec((2,), classes=3),
    "vector": TensorSpec((4,)),
    "matrix": TensorSpec((2, 3)),
    "image and class": {"image": SPEC, "class": TensorSpec((), classes=5)},
    "all": {
        "class": TensorSpec((), classes=5),
        "small": TensorSpec((1, 8, 8)),
        "vector": TensorSpec((4,)),
        "large": TensorSpec((2, 16, 16)),
    },
    "map of classes": TensorSpec((1, 8, 8), classes=3),
    "larger map of classes and an image": {"labels": TensorSpec((1, 16, 16), classes=3), "image": SPEC},
    "none": None,
}


def drawn(spec: ConditionSpec | None, rows: int, seed: int = 4) -> Condition | None:
    """A condition of a specification."""
    if spec is None:
        return None
    if isinstance(spec, TensorSpec):
        if spec.classes is not None:
            shape = (rows, *spec.shape)
            return torch.randint(spec.classes, shape, generator=torch.Generator().manual_seed(seed))
        return draws(rows, *spec.shape, seed=seed)
    return {name: drawn(one, rows, seed + place) for place, (name, one) in enumerate(spec.items())}


def parts_of(condition: Condition | None) -> list[Tensor]:
    if condition is None:
        return []
    return [condition] if isinstance(condition, Tensor) else list(condition.values())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPECS)
def test_conditions_of_every_kind(kind, name) -> None:
    spec = SPECS[name]
    flow = image_flow(kind, condition=spec)
    w, y = draws(3, 1, 8, 8), drawn(spec, 3)
    for part in parts_of(y):
        if part.is_floating_point():
            part.requires_grad_()
    z, log_det = flow(w, y)
    back, back_log_det = flow.inverse(z, y)
    assert torch.allclose(back, w, atol=1e-10)
    assert torch.allclose(log_det, -back_log_det, atol=1e-9)
    for part in parts_of(y):
        if part.is_floating_point():
            assert depends(z, part)
    found = flow.sample(2, y, generator=torch.Generator().manual_seed(0))
    assert found.shape == ((2, 3, 1, 8, 8) if spec is not None else (2, 1, 8, 8))
    if spec is not None:
        # A batch of one serves for several of the other.
        one = drawn(spec, 1)
        assert torch.allclose(flow.log_prob(w, one)[1:2], flow.log_prob(w[1:2], one), atol=1e-10)
        assert flow.log_prob(w[:1], y).shape == (3,)
        with pytest.raises(ShapeError, match="2 events were given with 3 conditions"):
            flow.log_prob(w[:2], y)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_matter_and_an_unknown_class_is_none_of_them(kind) -> None:
    flow = image_flow(kind, condition=TensorSpec((), classes=3))
    w = draws(1, 1, 8, 8).expand(5, -1, -1, -1)
    found = flow.log_prob(w, torch.tensor([0, 1, 2, 3, -1])).tolist()
    assert len({round(value, 9) for value in found[:4]}) == 4
    assert found[3] == pytest.approx(found[4])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("event", [(3, 8, 16), (2, 16, 8), (1, 24, 8)])
def test_events_of_any_size_and_channels_that_the_scales_allow(kind, event) -> None:
    flow = image_flow(kind, event=event, condition=SPEC)
    w, y = draws(2, *event), draws(2, 1, 8, 8, seed=4)
    z, _ = flow(w, y)
    assert torch.allclose(flow.inverse(z, y)[0], w, atol=1e-9)
    assert sum(one[0].numel() for one in flow.unpack(z)) == w[0].numel()


def test_images_of_several_sizes_are_brought_to_the_largest_and_to_the_events_where_asked() -> None:
    spec = SPECS["all"]
    assert SplitCondition(spec, None).image_shape == (3, 16, 16)
    # The larger one's cells of 2 x 2 pixels are channels.
    assert SplitCondition(spec, (8, 8)).image_shape == (1 + 4 * 2, 8, 8)
    split = SplitCondition({"a": TensorSpec((1, 8, 4)), "b": TensorSpec((1, 4, 8))}, None)
    a, b = torch.arange(32.0).reshape(1, 1, 8, 4), torch.arange(32.0).reshape(1, 1, 4, 8)
    image, vector = split({"a": a, "b": b}, a)
    assert vector is None
    assert torch.equal(image[:, :1], a.repeat_interleave(2, 3))
    assert torch.equal(image[:, 1:], b.repeat_interleave(2, 2))
    flow = image_flow(condition=TensorSpec((1, 16, 16)), condition_size="event")
    assert flow.split.image_shape == (4, 8, 8)
    assert image_flow(condition=TensorSpec((1, 4, 12)), condition_size="event").split.image_shape == (1, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_classes_is_an_image_whose_pixels_keep_their_place(kind) -> None:
    spec = TensorSpec((1, 8, 8), classes=3)
    split = SplitCondition(spec, None)
    labels = torch.randint(3, (2, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    image, vector = split(labels, draws(1))
    assert vector is None
    assert split.image_shape == (3, 8, 8)
    assert torch.equal(image.argmax(1, keepdim=True), labels)
    assert torch.equal(image.sum(1), torch.ones(2, 8, 8, dtype=torch.float64))
    flow = image_flow(kind, condition=spec, perturbed=0.0)
    w = labels + 0.3 * draws(2, 1, 8, 8)
    flow.prepare(Dataset(x=w, condition=labels), torch.Generator().manual_seed(0))
    assert bool(flow.log_prob(w, labels).isfinite().all())
    # As constants at every pixel, these would be 1,024 x 3 channels.
    large = image_flow(kind, event=(1, 32, 32), condition=TensorSpec((1, 32, 32), classes=3))
    small = image_flow(kind, event=(1, 32, 32), condition=TensorSpec((3, 32, 32)))
    assert sum(p.numel() for p in large.parameters()) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(("of", "size"), [((6, 4), (3, 4)), ((6, 4), (2, 1)), ((4, 4), (4, 4))])
def test_a_larger_image_becomes_a_smaller_one_of_more_channels_without_loss(of, size) -> None:
    x = draws(2, 3, *of)
    found = resized_condition(x, size)
    assert found.shape == (2, resized_channels((3, *of), size), *size)
    assert torch.equal(found.flatten().sort().values, x.flatten().sort().values)
    rows, columns = of[0] // size[0], of[1] // size[1]
    assert torch.equal(found[:, 0], x[:, 0, ::rows, ::columns])
    assert resized_condition(x, (9, 5)).shape == (2, 3, 9, 5)
    assert resized_channels((3, *of), (9, 5)) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition_size", ["native", "event"])
def test_every_pixel_of_a_larger_condition_is_seen_by_the_finest_latent(kind, condition_size) -> None:
    settings = {} if kind == "cinn" else {"condition_size": condition_size}
    flow = image_flow(kind, condition=TensorSpec((1, 16, 16)), **settings)
    y = draws(1, 1, 16, 16, seed=4).requires_grad_()
    if kind == "cinn":
        value = flow(draws(1, 1, 8, 8), y)[0]
    else:
        latents, _ = flow.parts.event_encoder(draws(1, 1, 8, 8))
        value = flow.parts.translation._entry_context(1, latents, flow._given(y, y).latents, None)
    (gradient,) = torch.autograd.grad(value.square().sum(), y)
    assert bool((gradient != 0).all())


# What is refused.


@pytest.mark.parametrize("kind", ["caflow", "dual-glow"])
def test_sizes_that_the_scales_cannot_halve_name_the_nearest(kind) -> None:
    with pytest.raises(ConfigError, match="multiples of 16; images are 28 x 20") as caught:
        image_flow(kind, event=(1, 28, 20), condition=None, scales=3)
    assert "16 x 16 and 32 x 32" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="condition") as caught:
        image_flow(kind, condition=TensorSpec((1, 12, 8)))
    assert "8 x 8 and 16 x 8" in str(caught.value.hint)
    assert "set condition_size: event" in str(caught.value.hint)
    # Brought to the event's size, any condition will do.
    image_flow(kind, condition=TensorSpec((1, 12, 7)), condition_size="event")


@pytest.mark.parametrize(
    ("kind", "size", "scales", "fix"),
    [
        ("caflow", (8, 16), 3, "set scales: 2, or crop or pad"),
        ("cinn", (8, 16), 4, "set scales: 3, or crop or pad"),
        ("dual-glow", (8, 6), 1, "8 x 8: crop or pad"),
    ],
)
def test_sizes_that_fewer_scales_can_halve_say_how_many(kind, size, scales, fix) -> None:
    with pytest.raises(ConfigError, match="multiples") as caught:
        image_flow(kind, event=(1, *size), condition=None, scales=scales)
    assert fix in str(caught.value.hint)
    if "set" in fix:
        image_flow(kind, event=(1, *size), condition=None, scales=scales - 1)
    # Events of another size than their condition may be a part of it.
    assert "fraction" not in str(caught.value.hint)
    with pytest.raises(ConfigError, match="multiples") as caught:
        image_flow(kind, event=(1, *size), condition=TensorSpec((1, 32, 32)), scales=scales)
    assert "set another fraction of the mask" in str(caught.value.hint)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_whose_events_would_never_see_the_condition_is_refused(kind) -> None:
    part = "flow" if kind == "cinn" else "translation"
    with pytest.raises(ValueError, match=rf"{part}\.steps is 0"):
        image_flow(kind, **{part: {"steps": 0}})


def test_scales_of_data_that_nothing_can_be_divided_by_are_refused() -> None:
    for std in (0.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="deviation"):
            image_flow(scale=EventScale(std=std))
    with pytest.raises(ConfigError, match="between 1 and 1"):
        image_flow(scale=EventScale(1.0, 1.0), preprocess="logit")


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_condition_counts_the_same_in_any_units(unit) -> None:
    """And a channel that is constant but for rounding is left as it is."""
    y = draws(50, 2, 8, 8, seed=4)
    y[:, 1] = 0.1
    split = SplitCondition(TensorSpec((2, 8, 8)), None).double()
    split.measure(unit * y, y)
    image, _ = split(unit * y, y)
    assert image is not None
    assert float(image[:, 0].std(correction=0)) == pytest.approx(1)
    assert torch.allclose(image[:, 1], torch.zeros_like(image[:, 1]), atol=1e-6)
    assert float(split.std[1]) == 1


def test_sizes_of_a_single_flow_are_halved_once_less() -> None:
    image_flow("cinn", event=(1, 4, 4), condition=TensorSpec((1, 5, 7)))
    with pytest.raises(ConfigError, match="multiples of 4") as caught:
        image_flow("cinn", event=(1, 6, 4), condition=None)
    assert "4 x 4 and 8 x 4" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="multiples of 8") as caught:
        image_flow("caflow", event=(1, 4, 4), condition=None)
    assert "8 x 8" in str(caught.value.hint)
    assert " 0" not in str(caught.value.hint)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_say_what_was_expected(kind) -> None:
    flow = image_flow(kind)
    w, y = draws(2, 1, 8, 8), draws(2, 1, 8, 8)
    with pytest.raises(ShapeError, match=r"\(B, 1, 8, 8\)"):
        flow.log_prob(draws(2, 1, 8, 4), y)
    with pytest.raises(ShapeError, match="missing"):
        flow.log_prob(w)
    with pytest.raises(ShapeError, match=r"expected \(B, 1, 8, 8\)"):
        flow.log_prob(w, y[:, :, :4])
    with pytest.raises(ShapeError, match="float32"):
        flow.log_prob(w.float(), y)


def test_one_level_has_none_to_share() -> None:
    with pytest.raises(ValueError, match=r"shared: true was given with coarser: entry.*coarser: levels"):
        image_flow("entry", shared=True)

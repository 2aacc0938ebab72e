"""Paths through latent codes, on a linear code of normal events whose every answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from latent_toys import Linear, Noisy, events, normal
from torch import Tensor
from verb_toys import Normal, Source, checked, context

from scorefold.data import Dataset, EventScale, StreamedDataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import Encodes
from scorefold.stage import Outcome
from scorefold_toolkit.metrics import sharpness
from scorefold_verbs.config import EditOptions, EncodeOptions, InterpolateCodesOptions, TraverseOptions
from scorefold_verbs.figures import event_rows as draw_rows
from scorefold_verbs.latents.codes import slerp
from scorefold_verbs.latents.traverse import edit, encode, interpolate, traverse

GAINS, DEVIATIONS = (1.0, 0.8, 0.5, 0.01), (0.3, 0.6, 0.9, 1.0)
SHAPE = (6,)


def noisy(shape: tuple[int, ...] = SHAPE) -> Noisy:
    return Noisy(shape, GAINS, DEVIATIONS)


def run(verb: Any, model: Any, source: Any, options: Any, **given: Any) -> Outcome:
    outcome: Outcome = verb(model, {"data": source}, options, context(dtype=torch.float64, **given))
    checked(outcome)
    return outcome


def no_noise(model: Linear, codes: Tensor) -> Tensor:
    return model.with_noise(codes, torch.zeros(len(codes), *model.event_shape, dtype=torch.float64))


# Interpolation.


def test_ends_are_reconstructions_and_with_their_own_noise_the_points_themselves() -> None:
    source = events(SHAPE)
    outcome = run(interpolate, noisy(), source, InterpolateCodesOptions(pairs=5, times=7, batch_size=3))
    x = outcome.arrays["interpolations"]
    assert x.shape == (5, 7, 6)
    ends = x[:, [0, -1]].flatten(0, 1)
    test = source.load("test").x
    nearest = torch.cdist(ends, test).min(1)
    torch.testing.assert_close(nearest.values, torch.zeros(10).double(), atol=1e-6, rtol=0)
    assert len(nearest.indices.unique()) == 10
    assert outcome.result["metrics"]["L2 of the ends from their points"] < 1e-9
    assert torch.equal(outcome.value.load("test").x, x.flatten(0, 1))
    assert outcome.drawn.before.shape == outcome.drawn.after.shape == (5, 6)


def test_codes_and_noises_each_go_along_their_great_circle() -> None:
    model = noisy()
    outcome = run(interpolate, model, events(SHAPE), InterpolateCodesOptions(pairs=4, times=5))
    start, end = outcome.drawn.before, outcome.drawn.after
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    codes = slerp(model.encode(start), model.encode(end), times)
    torch.testing.assert_close(outcome.arrays["codes"], codes)
    noise = slerp(model.encode_noise(start, codes[:, 0]), model.encode_noise(end, codes[:, -1]), times)
    expected = model.with_noise(codes.flatten(0, 1), noise.flatten(0, 1)).reshape(4, 5, 6)
    torch.testing.assert_close(outcome.arrays["interpolations"], expected)


def test_a_linear_path_of_a_linear_code_is_a_line_of_events() -> None:
    options = InterpolateCodesOptions(pairs=4, times=5, path="linear", noise="shared")
    x = run(interpolate, noisy(), events(SHAPE), options).arrays["interpolations"]
    torch.testing.assert_close(x[:, 2], (x[:, 0] + x[:, -1]) / 2)


@pytest.mark.parametrize("model", [noisy(), Linear(SHAPE, GAINS, DEVIATIONS)])
def test_noise_is_shared_along_a_row_or_drawn_for_each_event(model: Linear) -> None:
    found: dict[str, Tensor] = {}
    for noise in ("shared", "drawn"):
        outcome = run(interpolate, model, events(SHAPE), InterpolateCodesOptions(pairs=4, noise=noise, batch_size=3))
        means = no_noise(model, outcome.arrays["codes"].flatten(0, 1)).reshape(4, 9, 6)
        found[noise] = outcome.arrays["interpolations"] - means
    torch.testing.assert_close(found["shared"], found["shared"][:, :1].expand(-1, 9, -1))
    assert len(found["shared"][:, 0, 0].unique()) == 4
    assert float(found["drawn"].std(1).min()) > 0.05


def test_what_is_drawn_comes_from_the_seed_alone() -> None:
    model, source = Linear(SHAPE, GAINS, DEVIATIONS), events(SHAPE)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again = (run(interpolate, model, source, InterpolateCodesOptions()).arrays for _ in range(2))
    assert torch.equal(first["interpolations"], again["interpolations"])
    assert torch.equal(torch.get_rng_state(), before)
    other = run(interpolate, model, source, InterpolateCodesOptions(), seed_root=1).arrays
    assert not torch.equal(first["interpolations"], other["interpolations"])


def test_middles_of_interpolations_are_held_to_the_training_points() -> None:
    outcome = run(interpolate, noisy(), events(SHAPE, test=100, train=400), InterpolateCodesOptions(pairs=50))
    answer = outcome.result["answer"]
    assert answer["quantity"] == "distance of decoded middles from the data, in distances of held-out points"
    # Codes and noises on great circles: the middles of normal events are as far out as others are.
    assert answer["value"] == pytest.approx(1.0, abs=0.25)
    straight = run(
        interpolate,
        noisy(),
        events(SHAPE, test=100, train=400),
        InterpolateCodesOptions(pairs=50, path="linear", noise="own"),
    )
    assert straight.result["answer"]["value"] < answer["value"]
    bare = Source(test=events(SHAPE).load("test"))
    assert "answer" not in run(interpolate, noisy(), bare, InterpolateCodesOptions()).result


def test_noise_on_a_great_circle_keeps_the_texture_that_a_line_would_lose() -> None:
    """White noise: halfway along a line between two draws it has half its power, on the circle all of it."""
    source, model = events((1, 12, 12)), noisy((1, 12, 12))
    name = "sharpness of the middles relative to the points"
    outcome = run(interpolate, model, source, InterpolateCodesOptions(pairs=20))
    assert outcome.result["metrics"][name] == pytest.approx(1.0, abs=0.06)
    straight = (outcome.drawn.before + outcome.drawn.after) / 2
    assert float(sharpness(straight).mean() / sharpness(outcome.drawn.before).mean()) == pytest.approx(0.5, abs=0.06)


def test_interpolations_that_cannot_be() -> None:
    source = events(SHAPE)
    with pytest.raises(DataError, match="40 pairs need 80 points; the split has 60"):
        interpolate(noisy(), {"data": source}, InterpolateCodesOptions(pairs=40), context())
    with pytest.raises(ConfigError, match="Linear encodes no noise") as caught:
        interpolate(Linear(SHAPE, GAINS, DEVIATIONS), {"data": source}, InterpolateCodesOptions(noise="own"), context())
    assert "noise: shared" in str(caught.value)


# Traversal.


def test_rows_are_the_units_with_the_largest_divergence_over_deviations_of_the_aggregate() -> None:
    model, source = noisy(), events(SHAPE)
    outcome = run(traverse, model, source, TraverseOptions(point=3, times=5, width=2.0))
    mean = model.encode(source.load("train").x)
    s = torch.tensor(DEVIATIONS).double()
    kl = ((mean**2 + s**2 - 1) / 2 - s.log()).mean(0)
    assert outcome.drawn.rows == tuple(f"unit {unit}, {float(kl[unit]):.2g} nats" for unit in (0, 1, 2, 3))
    torch.testing.assert_close(outcome.arrays["worth"], kl)
    assert torch.equal(outcome.arrays["axes"], torch.eye(4).double())
    point = source.load("test").x[3:4]
    noise = model.encode_noise(point, model.encode(point))
    deviation = (mean.var(0) + s**2).sqrt()
    for unit in range(4):
        for column, place in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)):
            code = model.encode(point)
            code[0, unit] = mean[:, unit].mean() + place * deviation[unit]
            torch.testing.assert_close(outcome.arrays["traversals"][unit, column], model.with_noise(code, noise)[0])
    assert outcome.result["metrics"]["rows"] == 4


def test_principal_directions_are_those_of_the_means_of_codes() -> None:
    model, source = noisy(), events(SHAPE)
    turned = Source(
        train=Dataset(turn(source.load("train").x)), test=Dataset(source.load("test").x, label=torch.zeros(60))
    )
    outcome = run(traverse, model, turned, TraverseOptions(axes="principal", count=2))
    values, vectors = torch.linalg.eigh(model.encode(turned.load("train").x).T.cov())
    torch.testing.assert_close(outcome.arrays["worth"], values.flip(0)[:2])
    overlap = (outcome.arrays["axes"] @ vectors.flip(1)[:, :2]).abs()
    torch.testing.assert_close(overlap, torch.eye(2).double(), atol=1e-9, rtol=0)
    assert outcome.drawn.rows[0].startswith("direction 1, ")


def turn(x: Tensor) -> Tensor:
    angle = torch.eye(6, dtype=torch.float64)
    angle[:2, :2] = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    return (x * torch.tensor([3.0, 1, 1, 1, 1, 1])) @ angle


def test_rows_of_points_move_along_one_axis() -> None:
    model, source = noisy(), events(SHAPE)
    options = TraverseOptions(rows="points", count=5, axis=1, times=3, noise="shared")
    outcome = run(traverse, model, source, options)
    x = outcome.arrays["traversals"]
    assert x.shape == (5, 3, 6)
    assert torch.equal(outcome.drawn.before, source.load("test").x[:5])
    assert "unit 1" in outcome.drawn.title
    moved = (x[:, -1] - x[:, 0]).abs() > 1e-9
    assert moved.tolist() == [[False, True, False, False, False, False]] * 5
    torch.testing.assert_close(outcome.arrays["change"], (x[:, -1] - x[:, 0]).norm(dim=1))


def test_codes_without_a_distribution_are_ranked_by_their_variance() -> None:
    model = Linear(SHAPE, (0.5, 2.0), (0.0, 0.0))
    outcome = run(traverse, model, events(SHAPE), TraverseOptions())
    assert [name.partition(",")[0] for name in outcome.drawn.rows] == ["unit 1", "unit 0"]
    assert "variance" in outcome.drawn.rows[0]


def test_without_a_training_split_the_points_themselves_say_how_far_codes_go() -> None:
    bare = Source(test=events(SHAPE).load("test"))
    assert run(traverse, noisy(), bare, TraverseOptions(count=2)).arrays["traversals"].shape == (2, 9, 6)


def test_traversals_that_cannot_be() -> None:
    source = {"data": events(SHAPE)}
    with pytest.raises(DataError, match="point names row 60; the data have the rows 0 to 59"):
        traverse(noisy(), source, TraverseOptions(point=60), context())
    with pytest.raises(ConfigError, match="axis is 4; the code has 4, counted from 0"):
        traverse(noisy(), source, TraverseOptions(rows="points", axis=4), context())


# Edits.


def test_edits_move_codes_along_the_attribute_and_the_decoded_events_with_them() -> None:
    model, source = noisy(), events(SHAPE, train=2000, test=400)
    outcome = run(edit, model, source, EditOptions(label=1, strengths=(-0.5, 0.0, 0.5), points=40))
    metrics = outcome.result["metrics"]
    assert metrics["probe accuracy"] > 0.97
    assert metrics["probe accuracy on the training split"] > 0.97
    direction = outcome.arrays["direction"]
    assert float(direction[0]) > 0.99
    x, point = outcome.arrays["edits"], outcome.drawn.before
    torch.testing.assert_close(x[:, 1], point)
    # The first unit decides the class, and a code moved by s sqrt(k) deviations of it is decoded so much further.
    mean = model.encode(source.load("train").x)
    step = 0.5 * math.sqrt(4) * direction * mean.std(0) * model.get_buffer("weights")
    torch.testing.assert_close(x[:, 2, :4] - point[:, :4], step.expand(40, 4))
    # The first 20 of each side as they lie, not the first 40.
    test = source.load("test")
    ones, others = (torch.where(test.label == label)[0][:20] for label in (1, 0))
    rows = torch.cat([ones, others]).sort().values
    torch.testing.assert_close(point, test.x[rows])
    sides = ["1" if one else "not 1" for one in test.label[rows].tolist()]
    assert outcome.drawn.rows == tuple(f"row {row}: {side}" for row, side in zip(rows.tolist(), sides, strict=True))
    # The columns of the picture are decided on by the codes of their own events, against the points' own.
    logits = outcome.arrays["logits"]
    changed = (logits[:, 2] > 0) != (logits[:, 1] > 0)
    # Moved by a deviation, two in three of the 20 cross: that none does has probability 10^-10.
    assert metrics["decisions changed at +0.5, decoded and encoded"] == float(changed.double().mean()) > 0


def test_decisions_that_change_are_counted_by_their_known_share() -> None:
    """Moved by s sqrt(k) = 1 deviation, the class of standard normal x changes where -1 < x < 0."""
    model = Noisy(SHAPE, (1.0,), (0.01,))
    source = events(SHAPE, train=4000, test=4000)
    outcome = run(edit, model, source, EditOptions(label=1, strengths=(-1.0, 1.0), points=200, penalty=1e-3))
    share = float(torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.0))) - 0.1587
    metrics = outcome.result["metrics"]
    for strength in ("-1", "+1"):
        assert metrics[f"decisions changed at {strength}"] == pytest.approx(share, abs=0.025)
        # Decoded almost without loss, the code of the edited event is the moved code again.
        assert metrics[f"decisions changed at {strength}, decoded and encoded"] == pytest.approx(share, abs=0.08)


def test_a_class_may_be_the_condition_and_points_may_stream() -> None:
    source = events(SHAPE)

    def conditional(name: str) -> Dataset:
        held = source.load(name)
        return Dataset(held.x, condition={"kind": held.label, "size": held.x})  # type: ignore[dict-item]

    def streamed(name: str) -> Dataset:
        held = source.load(name)
        return StreamedDataset(x=held.x[:0], fetch=held.take, size=len(held))

    expected = run(edit, noisy(), source, EditOptions(label=1)).arrays
    for form in (conditional, streamed):
        given = Source(train=form("train"), test=form("test"))
        found = run(edit, noisy(), given, EditOptions(label=1, batch_size=7)).arrays
        for name, array in expected.items():
            torch.testing.assert_close(found[name], array)


def test_a_probe_that_learned_nothing_is_a_warning() -> None:
    """Every training point stands there three times, of the class once: the best plane names the larger side."""
    x = normal(300, 6, seed=8)
    label = (torch.arange(300) % 3 == 0).long()
    x[:198] = x[:66].repeat_interleave(3, 0)
    source = Source(train=Dataset(x[:198], label=label[:198]), test=Dataset(x[198:], label=label[198:]))
    result = run(edit, noisy(), source, EditOptions(label=1)).result
    (warning,) = result["warnings"]
    assert "edits mean nothing" in warning
    assert result["metrics"]["accuracy of always naming the larger side"] == pytest.approx(2 / 3)
    assert "warnings" not in run(edit, noisy(), events(SHAPE), EditOptions(label=1)).result


def test_edits_that_cannot_be() -> None:
    bare = Source(train=Dataset(normal(9, 6, seed=1)), test=Dataset(normal(9, 6, seed=2)))
    with pytest.raises(ConfigError, match="an edit needs the classes of points"):
        edit(noisy(), {"data": bare}, EditOptions(label=1), context())
    with pytest.raises(DataError, match="none of the 200 points have the attribute"):
        edit(noisy(), {"data": events(SHAPE)}, EditOptions(label=7), context())
    with pytest.raises(SplitError, match="no train split"):
        edit(noisy(), {"data": Source(test=events(SHAPE).load("test"))}, EditOptions(label=1), context())


# What all of them share.


@pytest.mark.parametrize(
    ("verb", "options", "doing"),
    [
        (encode, EncodeOptions(), "encode"),
        (interpolate, InterpolateCodesOptions(), "interpolate"),
        (traverse, TraverseOptions(), "traverse"),
        (edit, EditOptions(label=1), "edit"),
    ],
)
def test_only_what_encodes_has_latent_verbs(verb: Any, options: Any, doing: str) -> None:
    with pytest.raises(ConfigError, match=f"Normal has no latent space: it can't {doing}"):
        verb(Normal(), {"data": events((2,))}, options, context())


def test_options_reach_the_decoder_and_events_that_are_not_finite_are_refused() -> None:
    model, source = Linear(SHAPE, GAINS, DEVIATIONS), events(SHAPE)
    quiet = InterpolateCodesOptions(pairs=2, decoding={"strength": 0.0})
    found = run(interpolate, model, source, quiet).arrays
    torch.testing.assert_close(found["interpolations"].flatten(0, 1), no_noise(model, found["codes"].flatten(0, 1)))
    wild = InterpolateCodesOptions(decoding={"strength": math.nan})
    with pytest.raises(DataError, match="the decoded events are not finite"):
        interpolate(model, {"data": source}, wild, context(dtype=torch.float64))


@pytest.mark.parametrize("shape", [(1,), SHAPE, (8, 8), (1, 8, 8), (3, 8, 8)])
def test_rows_of_any_shape_are_drawn(shape: tuple[int, ...]) -> None:
    units = min(2, math.prod(shape))
    model: Encodes = Noisy(shape, GAINS[:units], DEVIATIONS[:units])
    source = events(shape, scale=EventScale(low=-4.0, high=4.0))
    for verb, options in (
        (interpolate, InterpolateCodesOptions(pairs=3)),
        (traverse, TraverseOptions()),
        (edit, EditOptions(label=1)),
    ):
        outcome = run(verb, model, source, options)
        (figure,) = draw_rows(outcome.drawn).values()
        (axes,) = figure.axes
        if len(shape) == 1:
            assert len(axes.lines) >= 3 * len(outcome.drawn.x)
            continue
        names = [label.get_text() for label in axes.get_xticklabels()]
        ends = ["point"] * (outcome.drawn.after is not None)
        assert names == ["point", *outcome.drawn.columns, *ends]
        height, width = axes.images[0].get_array().shape[:2]  # type: ignore[union-attr]
        assert (height, width) == (9 * len(outcome.drawn.x) - 1, 9 * len(names) - 1)
        figure.draw_without_rendering()
        left = min((label.get_window_extent().x0 for label in axes.get_yticklabels()), default=0)
        assert left >= 0, "the names of rows stand outside the figure"


def test_a_picture_of_rows_shows_the_events_where_they_stand() -> None:
    outcome = run(
        interpolate,
        noisy((1, 8, 8)),
        events((1, 8, 8), scale=EventScale(low=-4.0, high=4.0)),
        InterpolateCodesOptions(pairs=3),
    )
    (figure,) = draw_rows(outcome.drawn).values()
    canvas = torch.as_tensor(figure.axes[0].images[0].get_array().data)  # type: ignore[union-attr]
    seen = canvas[9:17, 27:35].double() * 8 - 4  # the second row, the third event after the point itself
    torch.testing.assert_close(seen, outcome.drawn.x[1, 2, 0].clamp(-4, 4), atol=1e-5, rtol=0)

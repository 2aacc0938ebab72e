"""The verbs encode and interpolate of scores and flows that have no code of their own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from latent_toys import Linear, events
from torch import Tensor
from verb_toys import Shifted, Source, checked, context

from scorefold.data import Condition, ConditionSpec, Dataset, EventScale, TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import ScoreModel
from scorefold.stage import Outcome, showing
from scorefold_verbs.config import EncodeNoiseOptions, InterpolateCodesOptions
from scorefold_verbs.figures import event_rows as draw_rows
from scorefold_verbs.latents.codes import slerp
from scorefold_verbs.paths import LENGTH, encode, interpolate


class Exact(ScoreModel):
    """The score of N(mean, std^2) in each coordinate, with noise; a condition adds to the mean, 10 a class."""

    def __init__(self, shape: tuple[int, ...] = (2,), mean: float = 1.0, std: float = 2.0, spec: Any = None) -> None:
        super().__init__(VP(), shape, spec, EventScale(mean=mean, std=std))
        self.mean, self.std = mean, std

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        signal, scale = self.process.coefficients(x, t)
        return -(x - signal * self.centre(x, condition)) / (signal**2 * self.std**2 + scale**2)

    def centre(self, x: Tensor, condition: Condition | None) -> Tensor:
        if condition is None:
            return torch.full_like(x[:1], self.mean)
        parts = [condition] if isinstance(condition, Tensor) else list(condition.values())
        shifts = [part if part.is_floating_point() else 10.0 * part[:, None] for part in parts]
        return self.mean + sum(shifts, torch.zeros_like(x))


class Drawing(Exact):
    """Its bound score draws at random, so there is no way back."""

    def bind(self, condition: Any = None, *, generator: Any = None, guidance: float = 1.0, **options: Any) -> Any:
        return lambda x, t: 3 * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def normal(count: int, *shape: int, seed: int) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def source(shape: tuple[int, ...] = (2,), count: int = 40, **columns: Any) -> Source:
    splits = {
        name: Dataset(1 + 2 * normal(count, *shape, seed=n), **columns) for n, name in enumerate(("train", "test"))
    }
    return Source(EventScale(mean=1.0, std=2.0), **splits)


def run(model: Any, data: Source, verb: Any = interpolate, **options: Any) -> Outcome:
    kind = InterpolateCodesOptions if verb is interpolate else EncodeNoiseOptions
    outcome: Outcome = verb(model, {"data": data}, kind(**options), context(dtype=torch.float64))
    checked(outcome)
    return outcome


def test_a_path_of_normal_data_is_the_great_circle_of_their_whitened_ends() -> None:
    """The flow keeps (x - m) / d, so it takes the circle about the noise's centre to that about the data's mean."""
    outcome = run(Exact(), source(), pairs=5, times=7, decoding={"steps": 400})
    x, start, end = outcome.arrays["interpolations"], outcome.drawn.before, outcome.drawn.after
    exact = 1 + slerp(start - 1, end - 1, torch.linspace(0, 1, 7, dtype=torch.float64))
    torch.testing.assert_close(x, exact, atol=2e-3, rtol=0)
    torch.testing.assert_close(x[:, [0, -1]], torch.stack([start, end], 1), atol=1e-5, rtol=0)
    assert outcome.result["metrics"]["round-trip error of the ends"] < 1e-5
    assert outcome.result["metrics"][LENGTH] == pytest.approx(1, abs=0.4)
    assert torch.equal(outcome.value.load("test").x, x.flatten(0, 1))


def test_a_straight_path_of_normal_data_is_straight() -> None:
    outcome = run(Exact(), source(), pairs=5, times=3, path="linear")
    x = outcome.arrays["interpolations"]
    torch.testing.assert_close(x[:, 1], (x[:, 0] + x[:, 2]) / 2, atol=1e-6, rtol=0)
    answer = outcome.result["answer"]
    assert answer["verdict"].startswith("These paths are straight lines")


def test_a_flow_goes_through_its_code() -> None:
    flow = Shifted().double()
    outcome = run(flow, source(), pairs=4, times=5)
    start, end = outcome.drawn.before, outcome.drawn.after
    exact = 1 + slerp(start - 1, end - 1, torch.linspace(0, 1, 5, dtype=torch.float64))
    torch.testing.assert_close(outcome.arrays["interpolations"], exact)
    assert outcome.result["metrics"]["round-trip error of the ends"] < 1e-12
    torch.testing.assert_close(run(flow, source(), encode).arrays["codes"], source().load("test").x - 1)


def test_progress_counts_the_columns_that_are_decoded() -> None:
    said = list[tuple[int, int]]()
    with showing(lambda done, total, text: said.append((done, total)) if text == "columns of events" else None):
        run(Shifted().double(), source(shape=(2,)), pairs=3, times=5)
    assert {total for _, total in said} == {5}
    assert max(said) == (5, 5)


def test_noise_is_encoded_batch_by_batch() -> None:
    whole, parts = (run(Exact(), source(), encode, batch_size=size).arrays["codes"] for size in (256, 7))
    torch.testing.assert_close(whole, parts)
    assert whole.shape == (40, 2)
    assert float(whole.std()) == pytest.approx(1, abs=0.2)
    assert len(run(Exact(), source(), encode, limit=3).arrays["codes"]) == 3


def test_numbers_of_a_condition_go_along_and_classes_are_those_of_pairs() -> None:
    spec: ConditionSpec = {"place": TensorSpec((2,)), "kind": TensorSpec((), classes=3)}
    kinds = torch.arange(40) % 3
    condition = {"place": normal(40, 2, seed=5), "kind": kinds}
    model = Exact(spec=spec)
    data = source(condition=condition)
    for split in data.splits.values():
        assert isinstance(split, Dataset)
        split.x.add_(10.0 * kinds[:, None])
    outcome = run(model, data, pairs=12, times=3, decoding={"steps": 200})
    assert outcome.result["metrics"]["round-trip error of the ends"] < 1e-4
    before, after = outcome.drawn.before, outcome.drawn.after
    known = data.load("test")
    rows = [torch.cdist(x, known.x).argmin(1) for x in (before, after)]
    assert torch.equal(kinds[rows[0]], kinds[rows[1]])
    centres = [10.0 * kinds[row][:, None] + 1 + condition["place"][row] for row in rows]
    # At t_max the flow has brought x to signal c + wide (x - c), and the circle is about the noise of the data's mean.
    signal, scale = (float(part.flatten()[0]) for part in model.process.coefficients(before, torch.full((12,), 1.0)))
    wide = math.hypot(2 * signal, scale) / 2
    start, end = (
        signal * (centre - 1) + wide * (x - centre) for x, centre in zip((before, after), centres, strict=True)
    )
    halfway = (centres[0] + centres[1]) / 2
    middle = halfway + (slerp(start, end, torch.tensor([0.5]))[:, 0] - signal * (halfway - 1)) / wide
    torch.testing.assert_close(outcome.arrays["interpolations"][:, 1], middle, atol=0.01, rtol=0)


def test_too_few_pairs_of_one_class_are_refused() -> None:
    data = source(condition=torch.arange(40))
    with pytest.raises(DataError, match="2 pairs of one class each were asked for; 40 points have 0"):
        run(Exact(spec=TensorSpec((), classes=40)), data, pairs=2)


def test_an_answer_is_withheld_where_the_ends_do_not_come_back() -> None:
    outcome = run(Drawing(), source(), pairs=4, times=3)
    answer = outcome.result["answer"]
    assert answer["value"] is None
    assert answer["interval"] is None
    assert answer["verdict"].startswith("No answer: the ends of the paths come back off by")
    # The middles that noise decodes to are no data either.
    off, lost = outcome.result["warnings"]
    assert "decoding: {steps: 256}" in off
    assert "the model has not learned these data" in lost
    assert "middles from the data" not in outcome.result["metrics"]
    assert outcome.result["metrics"]["round-trip error of the ends"] > 0.05
    few = run(Exact(std=0.05), source(), pairs=4, times=3, decoding={"steps": 2})
    assert few.result["answer"]["value"] is None


def test_images_are_drawn_with_their_ends_and_how_far_these_come_back_off() -> None:
    outcome = run(Exact((1, 4, 4)), source((1, 4, 4)), pairs=3, times=5)
    name = "sharpness of the middles relative to the points"
    # 1 in the mean, with a deviation of 0.11 for 20 pairs.
    assert run(Exact((1, 4, 4)), source((1, 4, 4)), pairs=20, times=3).result["metrics"][name] > 0.4
    assert "Sharpness of midpoints, where a data point has 100%: decoded paths" in outcome.result["answer"]["verdict"]
    assert [row.startswith("off by 0.") and row.endswith("%") for row in outcome.drawn.rows] == [True] * 3
    figures = draw_rows(outcome.drawn)
    (axes,) = figures["rows"].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["point", "0", "0.25", "0.5", "0.75", "1", "point"]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(outcome.drawn.rows)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"pairs": 21}, DataError, "21 pairs need 42 points; the split has 40"),
        ({"noise": "own"}, ConfigError, "Exact has no code in addition to its noise"),
        ({"decoding": {"step": 3}}, ConfigError, "knows no sampling option step"),
        ({"decoding": {"steps": 0}}, ConfigError, "0 steps"),
        ({"decoding": {"spacing": "linear"}}, ConfigError, "spacing 'linear'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run(Exact(), source(), **options)


def test_points_that_are_all_the_same_have_no_path() -> None:
    same = Dataset(torch.ones(8, 2, dtype=torch.float64))
    with pytest.raises(DataError, match="points are equal"):
        run(Exact(), Source(test=same), pairs=2)


def test_a_score_that_leaves_numbers_behind_is_named() -> None:
    class Broken(Exact):
        def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
            return x * torch.nan

    with pytest.raises(DataError, match="noise of the points are not finite"):
        run(Broken(), source(), pairs=2)


def test_components_with_codes_keep_their_own() -> None:
    model, data = Linear((2,), (1.0,), (0.3,)), events((2,))
    assert run(model, data, encode).arrays["codes"].shape[1:] == (1,)
    assert "codes" in run(model, data, pairs=2, times=3).arrays
    with pytest.raises(ConfigError, match="takes no options"):
        run(model, data, encode, decoding={"steps": 3})

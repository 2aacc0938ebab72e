"""The verb ``assess`` on models whose every answer is known: exact posteriors, and ones that are off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lpips_weights import write_lpips
from pydantic import ValidationError
from torch import Tensor
from verb_toys import Normal, Posterior, Shifted, Source, checked, context

from scorefold.data import Dataset, EventScale, StreamedDataset, TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.stage import Outcome
from scorefold_toolkit.metrics import LPIPS, coverage, diversity, psnr, ssim
from scorefold_toolkit.operators import Mask, Operator, RandomMask, Separable, box_matrix
from scorefold_verbs.assess import assess
from scorefold_verbs.config import AssessOptions
from scorefold_verbs.figures import assessment

UNIT = EventScale(low=0.0, high=1.0, mean=0.5, std=0.3)
FAST: dict[str, Any] = {"steps": 20, "batch_size": 4000}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(count: int = 300, size: int = 2, width: float = 1.0) -> Source:
    """x = c + width z with c standard normal, in the test split."""
    condition = normal(count, size, seed=1)
    x = condition + width * normal(count, size, seed=2)
    return Source(test=Dataset(x, condition=condition, index=torch.arange(count)))


def run(model: Any, source: Source, **options: Any) -> Outcome:
    outcome = assess(model.double(), {"data": source}, AssessOptions(**{**FAST, **options}), context())
    checked(outcome)
    return outcome


SPEC = TensorSpec((2,))


def test_an_exact_posterior_is_calibrated_and_scores_what_the_closed_form_says() -> None:
    outcome = run(Posterior(spec=SPEC), pairs(), n=20, conditions=300)
    metrics = outcome.result["metrics"]
    assert (metrics["held-out points"], metrics["draws for each"]) == (300, 20)
    for level in (50, 90):
        error = metrics[f"coverage of {level}% intervals, standard error"]
        assert error == pytest.approx(float(coverage(outcome.arrays["places"], level / 100).std()) / math.sqrt(300))
        assert metrics[f"coverage of {level}% intervals"] == pytest.approx(level / 100, abs=5 * error)
    assert metrics["uniform places, p-value"] > 1e-6
    assert outcome.result["warnings"] == []
    # E|X - Y| - E|X - X'| / 2 = E|X - X'| / 2 for equal distributions: two standard normals in the plane are sqrt(pi)
    # apart.
    answer = outcome.result["answer"]
    assert (answer["quantity"], answer["value"]) == ("energy score", metrics["energy score"])
    error = float(outcome.arrays["energy score"].std()) / math.sqrt(300)
    assert answer["interval"] == pytest.approx([answer["value"] - 1.96 * error, answer["value"] + 1.96 * error])
    assert answer["value"] == pytest.approx(math.sqrt(math.pi) / 2, abs=5 * error)
    assert abs(metrics["energy distance"]) < 0.02
    assert abs(metrics["joint energy distance"]) < 0.02
    assert metrics["energy distance, draws"] == 4000
    assert metrics["energy distance, truths"] == 300
    assert metrics["Frechet distance (coordinates)"] < 0.1
    assert metrics["joint Frechet distance (coordinates)"] < 0.1
    assert outcome.arrays["places"].shape == (300, 2)
    assert outcome.arrays["draws"].shape == (8, 20, 2)
    low, high = outcome.result["data_range"]
    assert metrics["diversity (0 to 255)"] == pytest.approx(255 / (high - low), rel=0.05)


@pytest.mark.parametrize(
    ("options", "said"), [({"width": 0.6}, "too narrow"), ({"width": 1.7}, "too wide"), ({"shift": 0.6}, "not uniform")]
)
def test_a_posterior_that_is_off_is_flagged_and_scores_worse(options: dict[str, float], said: str) -> None:
    exact = run(Posterior(spec=SPEC), pairs(), n=20).result["metrics"]["energy score"]
    outcome = run(Posterior(spec=SPEC, **options), pairs(), n=20)
    assert any(said in warning for warning in outcome.result["warnings"])
    assert outcome.result["metrics"]["uniform places, p-value"] < 1e-6
    assert outcome.result["metrics"]["energy score"] > exact + 0.02


def test_a_model_that_ignores_its_condition_has_the_right_marginal_and_the_wrong_pairs() -> None:
    class Ignores(Posterior):
        def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            return super().score(x, t)

    metrics = run(Ignores(width=math.sqrt(2), spec=SPEC), pairs(), n=10).result["metrics"]
    assert abs(metrics["energy distance"]) < 0.02
    assert metrics["joint energy distance"] > 0.03
    assert metrics["Frechet distance (coordinates)"] < 0.1
    assert metrics["joint Frechet distance (coordinates)"] > 0.5


def test_the_unconditional_distribution_is_held_to_the_points_alone() -> None:
    x = normal(500, 2, seed=3)
    right = run(Posterior(), Source(test=Dataset(x)), n=4, conditions=500)
    metrics = right.result["metrics"]
    assert abs(metrics["energy distance"]) < 0.01
    assert metrics["Frechet distance (coordinates)"] < 0.05
    answer = right.result["answer"]
    assert (answer["quantity"], answer["value"]) == ("energy distance", metrics["energy distance"])
    assert "baselines" not in answer
    assert not [name for name in metrics if "coverage" in name or "joint" in name or "diversity" in name]
    assert right.drawn.calibration is None
    off = run(Posterior(shift=1.0), Source(test=Dataset(x)), n=4).result["metrics"]
    assert off["energy distance"] > 0.5
    assert off["Frechet distance (coordinates)"] == pytest.approx(2, rel=0.2)
    flow = run(Shifted(offset=0.0), Source(test=Dataset(x)), n=2).result["metrics"]
    assert abs(flow["energy distance"]) < 0.02


def test_a_flow_with_conditions_is_assessed_as_a_score_is() -> None:
    condition = normal(200, seed=1)
    x = condition[:, None] + 1 + normal(200, 2, seed=2)
    source = Source(test=Dataset(x, condition=condition))
    metrics = run(Shifted(spec=TensorSpec(())), source, n=19).result["metrics"]
    error = metrics["coverage of 90% intervals, standard error"]
    assert metrics["coverage of 90% intervals"] == pytest.approx(0.9, abs=5 * error)


def test_answers_depend_on_the_seed_and_not_on_how_many_are_drawn_at_once() -> None:
    def metrics(**options: Any) -> dict[str, Any]:
        found: dict[str, Any] = run(Posterior(spec=SPEC), pairs(60), n=5, **{"steps": 5, **options}).result["metrics"]
        return found

    assert metrics() == metrics()
    assert run(Posterior(spec=SPEC), pairs(4), n=5, batch_size=2, steps=5).arrays["draws"].shape == (4, 5, 2)
    assert run(Posterior(), pairs(4), n=5, batch_size=2, steps=5).arrays["draws"].shape == (4, 5, 2)
    for size in (1, 3, 7, 50):  # smaller than the draws of one point, too
        other = metrics(batch_size=size)
        assert other.keys() == metrics().keys()
        assert other["energy score"] == pytest.approx(metrics()["energy score"], abs=0.25)


def test_draws_are_measured_label_by_label() -> None:
    """One label's posterior is exact, the other's is off by 2: its score says so, at any batch size."""
    source = pairs(200)
    test = source.load("test")
    label = (torch.arange(200) % 2).where(torch.arange(200) < 196, 7)
    moved = torch.where(label[:, None] == 1, test.x + 2, test.x)
    source = Source(test=Dataset(moved, test.condition, label, test.index))
    source.label_names = ("right", "off")
    outcome = run(Posterior(spec=SPEC), source, n=8, conditions=200, by="label", batch_size=300)
    right, off = outcome.result["by_label"]
    assert (right["name"], right["points"], off["name"], off["points"]) == ("right", 98, "off", 98)
    assert right["quantity"] == "energy score"
    error = (right["interval"][1] - right["value"]) / 1.96
    assert right["value"] == pytest.approx(math.sqrt(math.pi) / 2, abs=5 * error)
    assert 0.02 < error < 0.06
    assert off["value"] > right["value"] + 0.5
    assert off["metrics"]["Frechet distance (coordinates)"] == pytest.approx(8, rel=0.2)
    whole = outcome.result["metrics"]["energy score"]
    assert min(right["value"], off["value"]) < whole < max(right["value"], off["value"])
    assert "label 7 is left out: 4 points, fewer than 10" in outcome.result["warnings"]
    with pytest.raises(ConfigError, match="by is label, and this model takes no condition"):
        run(Posterior(), source, by="label")
    with pytest.raises(DataError, match="these data have no labels"):
        run(Posterior(spec=SPEC), pairs(20), by="label")


class Images(Source):
    """Pairs of 12 x 12 images x = clip(y + 0.1 z) with what an operator left of them beside them."""

    def __init__(self, operator: Operator, count: int = 12, scale: EventScale = UNIT, streamed: bool = False) -> None:
        self.operator = operator
        x = 0.3 + 0.4 * torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        index = torch.arange(100, 100 + count)
        whole = Dataset(x, condition={"image": x.clone()}, index=index)
        if streamed:
            whole = StreamedDataset(x=x[:0], fetch=whole.take, size=count)
        super().__init__(scale, test=whole)


IMAGE = {"image": TensorSpec((1, 12, 12))}


def image_model(width: float = 0.1, shift: float = 0.0) -> Posterior:
    return Posterior((1, 12, 12), width=width, shift=shift, scale=UNIT, spec=IMAGE)


HALF = Separable(box_matrix(12, 2), box_matrix(12, 2), (1, 12, 12))


def test_images_are_measured_as_the_plain_functions_do() -> None:
    source = Images(HALF)
    outcome = run(image_model(), source, n=4, shown=12, rounding="none", steps=100)
    metrics, draws = outcome.result["metrics"], outcome.arrays["draws"]
    truth = source.load("test").x
    assert draws.shape == (12, 4, 1, 12, 12)
    assert float(draws.min()) >= 0
    assert float(draws.max()) <= 1
    each = torch.stack([psnr(draws[:, i], truth) for i in range(4)], 1)
    assert metrics["PSNR (dB)"] == pytest.approx(float(each.mean()))
    assert metrics["best-of-4 PSNR, chosen by the truth (dB)"] == pytest.approx(float(each.amax(1).mean()))
    assert metrics["PSNR of the draws' mean (dB)"] == pytest.approx(float(psnr(draws.mean(1), truth).mean()))
    assert metrics["PSNR of the draws' mean (dB)"] > metrics["PSNR (dB)"] + 3
    similar = torch.stack([ssim(draws[:, i], truth) for i in range(4)])
    assert metrics["SSIM"] == pytest.approx(float(similar.mean()))
    blocks = torch.stack([psnr(HALF(draws[:, i]), HALF(truth)) for i in range(4)])
    assert metrics["consistency (dB)"] == pytest.approx(float(blocks.mean()))
    assert metrics["diversity (0 to 255)"] == pytest.approx(float(diversity(draws.transpose(0, 1)).mean()))
    assert metrics["diversity (0 to 255)"] == pytest.approx(0.1 * 255, rel=0.15)
    assert torch.allclose(outcome.arrays["PSNR (dB)"], each.mean(1))
    answer = outcome.result["answer"]
    assert (answer["quantity"], answer["value"]) == ("PSNR (dB)", metrics["PSNR (dB)"])
    assert metrics["Frechet features"] == 64
    assert metrics["Frechet points"] == 12
    assert [warning for warning in outcome.result["warnings"] if "64 features: too few" in warning]
    assert [warning for warning in outcome.result["warnings"] if "128 features: too few" in warning]
    streamed = run(image_model(), Images(HALF, streamed=True), n=4, shown=12, rounding="none", steps=100)
    assert streamed.result["metrics"] == metrics


def test_rounding_comes_before_all_measures() -> None:
    def drawn(rounding: str, scale: EventScale = UNIT) -> Tensor:
        found: Tensor = run(image_model(), Images(HALF, scale=scale), n=2, rounding=rounding).arrays["draws"]
        return found

    for levels, draws in (
        (256, drawn("8-bit")),
        (17, drawn("levels", EventScale(low=0.0, high=1.0, levels=17))),
    ):
        steps = draws * (levels - 1)
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-9)
    assert torch.equal(drawn("levels"), drawn("none"))
    with pytest.raises(ConfigError, match="needs data with bounds"):
        run(Posterior(spec=SPEC), pairs(), rounding="8-bit")


def test_each_point_is_held_to_the_mask_of_its_own() -> None:
    def half(index: int) -> Tensor:
        keep = torch.ones(1, 12, 12)
        keep[:, :, :6] = 0
        return keep if index % 2 else keep.flip(-1)

    class Paints(Posterior):
        """Right where the mask of the point kept the image, grey where it hid it."""

        def sample(self, n: int, condition: Any = None, **options: Any) -> Tensor:
            x, mask = condition["image"], condition["mask"]
            noise = 0.3 + 0.4 * torch.rand(n, *x.shape, generator=options["generator"], dtype=x.dtype)
            return (x + 0.01) * mask + noise * (1 - mask)

    spec = {**IMAGE, "mask": TensorSpec((1, 12, 12))}
    source = Images(RandomMask(half, (1, 12, 12)))
    whole = source.load("test")
    mask = torch.stack([half(i) for i in range(100, 112)]).double()
    source.splits["test"] = Dataset(whole.x, condition={"image": whole.x, "mask": mask}, index=whole.index)
    outcome = run(Paints((1, 12, 12), scale=EventScale(low=-1.0, high=2.0), spec=spec), source, n=9, batch_size=20)
    metrics = outcome.result["metrics"]
    error = 40.0
    assert metrics["PSNR, known part (dB)"] == pytest.approx(error, abs=0.2)
    assert metrics["consistency (dB)"] == pytest.approx(error + 10 * math.log10(2), abs=0.2)
    # The mean square of the difference of two uniform numbers is 1 / 6, here of 0.4 times them.
    assert metrics["PSNR, hidden part (dB)"] == pytest.approx(10 * math.log10(6 / 0.16), abs=0.3)
    # Only what was hidden is asked about, and there draws and truth are alike.
    places = outcome.arrays["places"].reshape(12, 12, 12)
    assert torch.equal(places.isnan(), mask[:, 0] > 0)
    assert metrics["coverage of 50% intervals"] == pytest.approx(0.5, abs=5 * 0.02)
    assert not [warning for warning in outcome.result["warnings"] if "too narrow" in warning or "too wide" in warning]
    labelled = Dataset(whole.x, {"image": whole.x, "mask": mask}, torch.zeros(12).long(), whole.index)
    source.splits["test"] = labelled
    model = Paints((1, 12, 12), scale=EventScale(low=-1.0, high=2.0), spec=spec)
    (row,) = run(model, source, n=9, batch_size=20, by="label").result["by_label"]
    for name in ("PSNR, known part (dB)", "PSNR, hidden part (dB)", "consistency (dB)"):
        assert row["metrics"][name] == pytest.approx(metrics[name])
    assert not [name for name in row["metrics"] if "Frechet" in name]  # of 12 points, too few for 64 features
    fixed = Images(Mask(half(1), (1, 12, 12)))
    assert "PSNR, hidden part (dB)" in run(image_model(), fixed, n=2).result["metrics"]


def test_an_exact_match_counts_as_a_hundred_decibels() -> None:
    class Copies(Posterior):
        def sample(self, n: int, condition: Any = None, **options: Any) -> Tensor:
            found: Tensor = condition["image"][None].repeat(n, 1, 1, 1, 1)
            return found

    metrics = run(Copies((1, 12, 12), scale=UNIT, spec=IMAGE), Images(HALF), n=2).result["metrics"]
    assert metrics["PSNR (dB)"] == metrics["consistency (dB)"] == 100.0
    assert metrics["diversity (0 to 255)"] == 0


def test_lpips_and_features_join_where_they_are_asked_for(tmp_path: Path) -> None:
    source = Images(HALF)
    plain = run(image_model(), source, n=2).result["metrics"]
    assert "Frechet distance (random-conv)" in plain
    assert not [name for name in plain if "LPIPS" in name]
    pixels = run(image_model(), source, n=2, features="pixels").result["metrics"]
    assert pixels["Frechet features"] == 144
    large = Dataset(torch.rand(3, 1, 32, 33).double(), condition={"image": torch.rand(3, 1, 32, 33).double()})
    model = Posterior((1, 32, 33), scale=UNIT, spec={"image": TensorSpec((1, 32, 33))})
    alexnet, heads = write_lpips(tmp_path)
    outcome = run(model, Source(UNIT, test=large), n=2, lpips={"alexnet": str(alexnet), "heads": str(heads)}, shown=3)
    pairs_of = zip(outcome.arrays["draws"].transpose(0, 1), strict=True)
    expected = torch.stack([LPIPS(alexnet, heads)(draws, large.x) for (draws,) in pairs_of])
    assert outcome.result["metrics"]["LPIPS (AlexNet)"] == pytest.approx(float(expected.mean()), rel=1e-4)
    files = {"alexnet": str(tmp_path / "a.pth"), "heads": str(tmp_path / "b.pth")}
    with pytest.raises(DataError, match="there is no file"):
        run(image_model(), source, n=2, lpips=files)
    with pytest.raises(ConfigError, match="LPIPS compares images"):
        run(Posterior(spec=SPEC), pairs(), lpips=files)
    with pytest.raises(ConfigError, match="this model takes none"):
        run(Posterior((1, 32, 33), scale=UNIT), Source(UNIT, test=large), lpips=files)
    with pytest.raises(ConfigError, match="features random-conv are of images"):
        run(Posterior(spec=SPEC), pairs(), features="random-conv")
    with pytest.raises(ValidationError, match="set both, or neither"):
        AssessOptions(features="inception")


def test_images_without_bounds_are_measured_over_the_range_of_the_truths() -> None:
    source = Images(HALF, scale=EventScale())
    outcome = run(Posterior((1, 12, 12), width=0.1, spec=IMAGE), source, n=2)
    truth = source.load("test").x
    low, high = float(truth.min()), float(truth.max())
    assert outcome.result["data_range"] == [low, high]
    draws = outcome.arrays["draws"]
    each = torch.stack([psnr(draws[:, i], truth[:8], high - low) for i in range(2)], 1).mean(1)
    torch.testing.assert_close(outcome.arrays["PSNR (dB)"][:8], each)
    assert float(draws.min()) < low


def test_bytes_that_are_right_are_ties_in_every_precision() -> None:
    """A model whose draws lie within half a level of the truth draws the truth, and that is calibrated."""

    class Near(Posterior):
        def sample(self, n: int, condition: Any = None, **options: Any) -> Tensor:
            x = condition["image"]
            noise = torch.rand(n, *x.shape, generator=options["generator"], dtype=x.dtype)
            return x + 0.9 * (noise - 0.5) / 255

    levels = torch.randint(0, 256, (40, 1, 12, 12), generator=torch.Generator().manual_seed(0))
    x = (levels / 255).float()
    scale = EventScale(low=0.0, high=1.0, levels=256)
    source = Source(scale, test=Dataset(x, condition={"image": x}))
    model = Near((1, 12, 12), scale=scale, spec=IMAGE)
    outcome = assess(model, {"data": source}, AssessOptions(n=9), context())
    metrics = outcome.result["metrics"]
    assert metrics["PSNR (dB)"] == 100
    assert metrics["uniform places, p-value"] > 1e-6
    assert metrics["coverage of 90% intervals"] == pytest.approx(0.9, abs=0.03)


def test_classes_are_conditions_too() -> None:
    class Classes(Posterior):
        def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
            assert condition is not None
            return super().score(x, t, condition[:, None].double())

    label = torch.arange(60) % 3
    x = label[:, None] + normal(60, 2, seed=4)
    source = Source(test=Dataset(x, condition=label))
    metrics = run(Classes(spec=TensorSpec((), classes=3)), source, n=9).result["metrics"]
    assert metrics["coverage of 90% intervals"] == pytest.approx(0.9, abs=0.12)
    assert "joint energy distance" not in metrics
    assert metrics["joint Frechet distance (coordinates)"] > metrics["Frechet distance (coordinates)"] - 1e-9


def test_few_points_and_draws_leave_out_what_they_cannot_say() -> None:
    one = run(Posterior(spec=SPEC), pairs(5), n=1).result["metrics"]
    assert not [name for name in one if "diversity" in name or "score" in name or "p-value" in name]
    with pytest.raises(DataError, match="at least 2"):
        run(Posterior(spec=SPEC), pairs(1))
    with pytest.raises(ConfigError, match="the data given have none"):
        run(Posterior(spec=SPEC), Source(test=Dataset(normal(9, 2, seed=0))))
    with pytest.raises(ShapeError, match=r"of shape \(2,\); this model draws \(3,\)"):
        run(Posterior((3,), spec=SPEC), pairs(9))
    with pytest.raises(DataError, match="not finite"):
        run(Posterior(spec=SPEC, shift=math.nan), pairs(9))


def test_vectors_too_wide_for_a_covariance_do_without_a_frechet_distance() -> None:
    metrics = run(Posterior((5000,)), Source(test=Dataset(normal(3, 5000, seed=0))), n=2).result["metrics"]
    assert not [name for name in metrics if "Frechet" in name]
    assert "energy distance" in metrics


def test_no_global_random_state_is_touched() -> None:
    source = Source(test=Dataset(torch.rand(9, 2)))
    before = torch.get_rng_state()
    assess(Normal(), {"data": source}, AssessOptions(n=2, steps=3), context())
    assess(image_model(), {"data": Images(HALF)}, AssessOptions(n=2, steps=3), context(dtype=torch.float32))
    assert torch.equal(torch.get_rng_state(), before)


def axes_of(outcome: Outcome, name: str) -> list[Any]:
    figure = assessment(outcome.drawn)[name]
    figure.draw_without_rendering()
    return list(figure.axes)


def test_a_row_of_images_is_condition_truth_draws_mean_and_spread() -> None:
    source = Images(HALF)
    outcome = run(image_model(), source, n=7, shown=3, rounding="none")
    places = axes_of(outcome, "draws")
    titles = [axes.get_title() for axes in places]
    assert titles[:9] == ["condition", "truth", *(f"draw {i}" for i in range(1, 6)), "mean", "std"]
    draws = outcome.arrays["draws"]

    def strip(images: Tensor) -> Tensor:
        return torch.cat([torch.nn.functional.pad(image, (0, 0, 0, 1), value=1) for image in images[:, 0]])[:-1]

    def drawn(name: str) -> Tensor:
        (picture,) = places[titles.index(name)].images
        return torch.as_tensor(picture.get_array())

    truth = source.load("test").x[:3]
    torch.testing.assert_close(drawn("truth"), strip(truth.float()))
    torch.testing.assert_close(drawn("draw 2"), strip(draws[:, 1].float()))
    torch.testing.assert_close(drawn("mean"), strip(draws.mean(1).float()))
    spread = draws.float().std(1)
    torch.testing.assert_close(drawn("std")[:12], spread[0, 0], check_dtype=False)
    assert len(places) == 10  # the last is the scale of the spread


def test_an_unconditional_figure_of_images_has_neither_condition_nor_spread() -> None:
    model = Posterior((3, 12, 12), scale=UNIT, shift=0.5, width=0.2)
    outcome = run(model, Source(UNIT, test=Dataset(torch.rand(4, 3, 12, 12).double())), n=2)
    assert set(assessment(outcome.drawn)) == {"draws"}
    assert [axes.get_title() for axes in axes_of(outcome, "draws")] == ["held out", "draw 1", "draw 2"]


def test_vectors_are_drawn_in_a_plane_and_calibration_as_curves() -> None:
    outcome = run(Posterior(spec=SPEC), pairs(40), n=12)
    (axes,) = axes_of(outcome, "draws")
    assert "one condition" in axes.get_title()
    assert [len(points.get_offsets()) for points in axes.collections] == [12] * 8
    truths = [tuple(float(number[0]) for number in line.get_data()) for line in axes.lines]
    assert truths[3] == pytest.approx(pairs(40).load("test").x[3].tolist())
    left, right = axes_of(outcome, "calibration")
    level, share = left.lines[1].get_data()
    assert share[9] == pytest.approx(outcome.drawn.calibration.shares(0.5)[0])
    assert level[9] == pytest.approx(0.5)
    assert sum(patch.get_height() for patch in right.patches) / 20 == pytest.approx(1)
    assert set(assessment(run(Posterior(spec=SPEC), pairs(9), n=1).drawn)) == {"draws"}
    free = run(Posterior((5,)), Source(test=Dataset(normal(9, 5, seed=0))), n=3)
    (axes,) = axes_of(free, "draws")
    assert sorted(len(points.get_offsets()) for points in axes.collections) == [9, 27]
    column = Posterior((1,), spec=TensorSpec((1,)))
    (axes,) = axes_of(run(column, pairs(9, size=1), n=4), "draws")
    assert axes.get_xlabel() == "held-out point"

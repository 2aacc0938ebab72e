"""Bad input, and what is withheld: shapes, units, overlap, duplicates, too few points, models without a likelihood."""

from __future__ import annotations

import pytest
import torch

from scorefold.data import Dataset, EventScale, TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import TensorSource
from scorefold.stage import StageContext
from scorefold_audit.audit import audit
from scorefold_audit.claims.controls import audit_result, found, ring_points, sets, split_source
from scorefold_audit.config import AuditOptions
from scorefold_audit.copying.spaces import image_spectrum

QUICK = {"permutations": 99, "quality_points": 100}


def points(count: int, seed: int) -> torch.Tensor:
    return ring_points(count, torch.Generator().manual_seed(seed))


def withheld(result: dict) -> dict[str, str]:
    return {row["part"]: row["reason"] for row in result["audit"]["withheld"]}


def test_events_of_different_shapes_are_refused_with_all_of_them() -> None:
    with pytest.raises(ShapeError, match=r"training points \(2,\), held-out points \(2,\), samples \(4,\)") as refused:
        audit_result(points(50, 0), points(50, 1), torch.zeros(50, 4))
    assert "rows of equal columns" in str(refused.value.hint)
    with pytest.raises(ShapeError) as flat:
        audit_result(torch.zeros(50, 1, 2, 2), torch.zeros(50, 1, 2, 2), torch.zeros(50, 4))
    assert "reshape" in str(flat.value.hint)
    with pytest.raises(ShapeError) as sizes:
        audit_result(torch.zeros(50, 1, 6, 5), torch.zeros(50, 1, 6, 5), torch.zeros(50, 1, 4, 4))
    assert "size: 4 resizes" in str(sizes.value.hint)


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_other_units_are_refused(factor: float) -> None:
    with pytest.raises(DataError, match="samples spread"):
        audit_result(points(50, 0), points(50, 1), factor * points(50, 2))
    with pytest.raises(DataError, match="held-out points spread"):
        audit_result(points(50, 0), factor * points(50, 1), points(50, 2))


def test_units_that_sources_know_are_made_the_same() -> None:
    training, held_out, samples = sets("tenth", "ring", 0, 300)
    scale = EventScale(shift=100.0, factor=7.0)
    given = TensorSource({"test": Dataset((samples * 1 + 0).double() * 7 + 100)}, EventScale())
    data = TensorSource({"train": Dataset(training), "test": Dataset(held_out)}, scale)
    options = AuditOptions.model_validate({"n": 300, "scale": "none", **QUICK})
    same = audit(given, {"data": data}, options, StageContext("audit")).result
    plain = audit_result(training, held_out, samples, **QUICK)
    assert same["answer"]["value"] == pytest.approx(plain["answer"]["value"], abs=0.02)


def test_numbers_that_are_not_finite_are_counted() -> None:
    samples = points(50, 2)
    samples[3, 0], samples[7, 1], samples[9, 0], samples[9, 1] = torch.nan, torch.inf, -torch.inf, 1e30
    with pytest.raises(DataError, match="3 of 50 samples are not finite"):
        audit_result(points(50, 0), points(50, 1), samples)


def test_held_out_points_that_were_trained_on_are_left_out_and_reported() -> None:
    training, held_out, samples = sets("copier", "ring", 0, 300)
    held_out[:60] = training[:60]
    result = audit_result(training, held_out, samples, **QUICK)
    assert {"copies", "memorisation"} <= found(result)
    (overlap,) = [verdict for verdict in result["audit"]["verdicts"] if verdict["name"] == "overlap"]
    assert overlap["found"]
    assert "60 of 300 held-out points" in result["warnings"][0]
    assert result["metrics"]["held-out points that are training points"] == 60


def test_held_out_points_that_are_all_training_points_are_refused() -> None:
    training = points(80, 0)
    with pytest.raises(DataError, match="80 of 80 held-out points are training points"):
        audit_result(training, training.clone(), points(50, 1))


def test_data_that_repeat_by_nature_are_not_taken_for_copies() -> None:
    """Points of a coarse grid: a tenth of held-out points and of right samples equal training points by chance."""

    def coarse(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(60, (300, 2), generator=generator).float()

    result = audit_result(coarse(0), coarse(1), coarse(2), **QUICK)
    assert result["metrics"]["held-out points that are training points"] > 10
    verdicts = {verdict["name"]: verdict["found"] for verdict in result["audit"]["verdicts"]}
    assert not verdicts["overlap"]
    assert verdicts["duplicates"]
    assert not found(result)
    assert "near-duplicates of others" in result["warnings"][0]


def test_what_too_few_points_can_not_test_is_withheld_and_the_rest_is_given() -> None:
    result = audit_result(points(300, 0), points(19, 1), points(300, 2), **QUICK)
    reasons = withheld(result)
    assert reasons["copies (columns)"] == "the tests of copying need at least 20 held-out points; 19 were given"
    assert "at least 20 samples and as many held-out points; there are 19 of each" in reasons["precision and recall"]
    assert "at least 20 samples" in reasons["kernel distance"]
    assert result["metrics"]["Frechet distance"] > 0
    said = result["answer"]
    assert (said["value"], said["sure"]) == (None, "withheld")
    assert said["verdict"].startswith("Whether this model copies was not tested: the tests of copying need at least 20")
    few = withheld(audit_result(points(300, 0), points(40, 1), points(300, 2), **QUICK))
    assert (
        "at least 74 of them are nearer than each of the 40 held-out points" in few["names of fewer copies (columns)"]
    )


def test_samples_alone_have_no_membership_and_it_is_said() -> None:
    result = audit_result(*sets("right", "ring", 0, 100), **QUICK)
    assert withheld(result)["membership"] == "samples alone have no loss and no likelihood"


def test_without_held_out_points_there_are_raw_numbers_and_no_verdict() -> None:
    training = points(100, 0)
    options, context = AuditOptions.model_validate(QUICK), StageContext("a")
    result = audit(split_source(test=training[:60]), {"data": split_source(training)}, options, context).result
    assert result["metrics"]["near-copies among samples (columns)"] == 1
    assert result["metrics"]["authentic samples (columns)"] == 0
    assert result["metrics"]["distance of samples from training points over theirs (median) (columns)"] == 0
    assert result["audit"]["verdicts"] == []
    said = result["answer"]
    assert said["verdict"].startswith("60 of 60 samples equal a training point exactly; 0 of 100 training points")
    assert (said["value"], said["interval"], said["sure"]) == (1, None, "with caution")
    assert [(row["sample"], row["training"]) for row in result["audit"]["equal"]] == [(k, k) for k in range(60)]
    assert "inputs: {held_out: STAGE}" in withheld(result)["every verdict"]
    assert "no verdict" in result["warnings"][-1]


def test_equal_points_are_counted_up_to_rounding_among_samples_and_among_training_points() -> None:
    training = points(100, 0)
    training = torch.cat([training, training[:4]])
    near = training[10:20].clone()
    near[3:] += 1e-3
    for samples, equal in ((torch.cat([points(50, 5), near]), 3), (points(50, 5), 0)):
        options, context = AuditOptions.model_validate(QUICK), StageContext("a")
        result = audit(split_source(test=samples), {"data": split_source(training)}, options, context).result
        assert result["answer"]["value"] == pytest.approx(equal / len(samples))
        assert [row["sample"] for row in result["audit"]["equal"]] == list(range(50, 50 + equal))
        assert ("8 of 104 training points" in result["answer"]["verdict"]) == (equal > 0)
    assert result["answer"]["verdict"].startswith("None of the 50 samples equals a training point exactly.")


def test_equal_points_are_equal_in_each_column_whatever_its_size() -> None:
    """Rounding of a large column hides no difference in a small one."""
    large = torch.tensor([1e5, 1.0, 0.01])
    drawn = [torch.randn(200, 3, generator=torch.Generator().manual_seed(seed)) * large for seed in (0, 1)]
    samples = torch.cat([drawn[0][:5], drawn[1]])
    options = AuditOptions.model_validate({**QUICK, "scale": "none"})
    result = audit(split_source(test=samples), {"data": split_source(drawn[0])}, options, StageContext("a")).result
    assert [row["training"] for row in result["audit"]["equal"]] == list(range(5))
    assert "0 of 200 training points equal another one" in result["answer"]["verdict"]


@pytest.mark.parametrize("condition", [torch.arange(100) % 2, torch.arange(100.0)[:, None] % 2])
def test_points_with_conditions_are_counted_without_held_out_points(condition: torch.Tensor) -> None:
    training = Dataset(points(100, 0), condition)
    spec = TensorSpec((), classes=2) if condition.ndim == 1 else TensorSpec((1,))
    data, drawn = (TensorSource({name: training}, condition_spec=spec) for name in ("train", "test"))
    result = audit(drawn, {"data": data}, AuditOptions.model_validate(QUICK), StageContext("a")).result
    assert result["answer"]["value"] == 1


def test_one_training_point_is_enough_to_count_equal_samples() -> None:
    samples = points(30, 0)
    data = split_source(samples[:1])
    result = audit(split_source(test=samples), {"data": data}, AuditOptions(), StageContext("a")).result
    assert result["answer"]["verdict"].startswith("1 of 30 samples equals a training point exactly; 0 of 1 training")


def test_held_out_points_of_their_own_and_points_that_are_left_over() -> None:
    data, held_out = split_source(points(100, 0), points(30, 1)), split_source(test=points(100, 3))
    options = AuditOptions.model_validate(QUICK)
    outcome = audit(split_source(test=points(50, 2)), {"data": data, "held_out": held_out}, options, StageContext("a"))
    assert outcome.result["metrics"]["held-out points"] == 100
    assert "30 points of the data's other splits are neither" in outcome.result["warnings"][0]


def test_spaces_fit_the_events_and_columns_are_scaled() -> None:
    with pytest.raises(ConfigError, match="the space 'random-conv' does not fit events of shape"):
        audit_result(points(50, 0), points(50, 1), points(50, 2), spaces=["random-conv"], **QUICK)
    with pytest.raises(ValueError, match="inception names the file"):
        AuditOptions.model_validate({"spaces": ["inception"]})
    # A column of large numbers without meaning hides copies, unless each column counts the same.
    training, held_out, samples = (
        torch.cat([1e4 * torch.randn(300, 1, generator=torch.Generator().manual_seed(n)), x], 1)
        for n, x in enumerate(sets("copier", "ring", 0, 300))
    )
    nearer = "samples nearer than held-out points (columns)"
    share = {
        scale: audit_result(training, held_out, samples, scale=scale, **QUICK)["metrics"][nearer]
        for scale in ("columns", "none")
    }
    assert share["none"] < 0.56
    assert share["columns"] > share["none"]


def test_images_are_compared_by_pixels_spectrum_and_random_features() -> None:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(360, 1, 3, 3, generator=generator), (8, 8), mode="bilinear")
    training, held_out, samples = smooth.split(120)
    samples = samples.clone()
    samples[:30] = training[:30]
    scale = EventScale(low=0.0, high=1.0, levels=256, factor=255.0)
    splits = {"train": Dataset(training), "test": Dataset(held_out)}
    given, data = TensorSource({"test": Dataset(samples)}, scale), TensorSource(splits, scale)
    outcome = audit(given, {"data": data}, AuditOptions.model_validate(QUICK), StageContext("a"))
    assert {listed["space"] for listed in outcome.result["audit"]["copies"]} == {"pixels", "spectrum", "random-conv"}
    assert outcome.result["answer"]["value"] == pytest.approx(0.25, abs=0.03)
    assert outcome.shown.samples.shape == (50, 1, 8, 8)
    assert (outcome.shown.ratio[:30] < 0.2).all()


def test_the_spectrum_of_an_image_forgets_places_mirrors_and_brightness() -> None:
    x = torch.rand(6, 2, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = torch.from_numpy(image_spectrum(x))
    for altered in (x.flip(-1), x.flip(-2), x.roll((2, -5), (-2, -1)), 0.3 * x + 0.2, 1 - x):
        torch.testing.assert_close(torch.from_numpy(image_spectrum(altered)), own)
    # Magnitudes of another image, of a turned one, and of one whose channels stand in another order differ.
    square = x[..., :9]
    for image, other in ((x, x.roll(1, 0)), (x, x.flip(1)), (square, square.transpose(-1, -2))):
        apart = torch.from_numpy(image_spectrum(other) - image_spectrum(image))
        assert apart.norm(dim=1).min() > 0.2
    assert own.shape == (6, 2 * 5 * 14)
    torch.testing.assert_close(own.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert image_spectrum(x[:0]).shape == (0, 0)
    assert image_spectrum(torch.rand(2, 1, 100, 100)).shape == (2, 17 * 34)
    grey = torch.linspace(0, 1, 5, dtype=torch.float32)[:, None, None, None].expand(5, 1, 28, 28)
    assert not image_spectrum(grey).any()  # an image of one grey has no waves, and rounding is none


def test_simple_images_of_a_kind_are_no_copies_by_their_spectrum() -> None:
    """One round spot at random places in a fifth of the data and two fifths of the samples: all have one spectrum."""
    generator = torch.Generator().manual_seed(0)

    def spots(count: int, alone: float) -> torch.Tensor:
        at = 5 + 22 * torch.rand(count, 5, 2, generator=generator)
        way = torch.arange(32.0)
        waves = torch.exp(-((way - at[..., None]) ** 2) / 8)
        there = torch.arange(5) < torch.randint(2, 6, (count, 1), generator=generator)
        there[: int(alone * count), 1:] = False
        return (there[..., None, None] * waves[:, :, 0, :, None] * waves[:, :, 1, None, :]).sum(1, keepdim=True)

    training, held_out, samples = spots(200, 0.2), spots(200, 0.2), spots(200, 0.4)
    data = TensorSource({"train": Dataset(training), "test": Dataset(held_out)}, EventScale())
    given = TensorSource({"test": Dataset(samples)}, EventScale())
    result = audit(given, {"data": data}, AuditOptions.model_validate(QUICK), StageContext("a")).result
    assert not [one for one in result["audit"]["verdicts"] if one["name"] == "copies" and one["found"]]
    assert result["metrics"]["copied share (spectrum)"] < 0.03


def test_mirrored_and_moved_copies_are_counted_and_shown() -> None:
    """40 of 120 samples are mirrored and moved training images: the pixels say nothing of them."""
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(400, 1, 4, 4, generator=generator)
    smooth = torch.nn.functional.pad(torch.nn.functional.interpolate(small, (8, 8), mode="bilinear"), (2, 2, 2, 2))
    training, held_out, samples = smooth[:140], smooth[140:280], smooth[280:].clone()
    samples[:40] = training[:40].flip(-1).roll((1, -2), (-2, -1))
    outcome = audit(
        TensorSource({"test": Dataset(samples)}, EventScale()),
        {"data": TensorSource({"train": Dataset(training), "test": Dataset(held_out)}, EventScale())},
        AuditOptions.model_validate(QUICK),
        StageContext("a"),
    )
    answer = outcome.result["answer"]
    assert answer["quantity"] == "copied share of the samples (spectrum)"
    assert answer["value"] == pytest.approx(1 / 3, abs=0.03)
    assert answer["interval"][0] < 1 / 3 < answer["interval"][1]
    assert "33.3% of its samples are near-exact copies" in answer["verdict"]
    assert outcome.result["metrics"]["copied share (pixels)"] < 0.05
    assert (outcome.shown.ratio[:40] < 0.1).all()
    assert outcome.shown.named[:40].all()
    torch.testing.assert_close(outcome.shown.samples[:40], outcome.shown.training[:40].flip(-1).roll((1, -2), (-2, -1)))

"""The estimator's answer: what leaves it as it is, what it holds, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from normal_bundles import MakeFrame, MakeScore, MakeSphere, curve, estimate
from torch import Tensor

from scorefold.config import SubVPConfig, VEConfig, VPConfig
from scorefold.data import Dataset, TensorSpec
from scorefold.errors import ConfigError, DataError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold.results import Estimate
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle, note
from scorefold_registry.run.executor import LocalExecutor
from scorefold_toolkit.distributions import Mixture, SphereDistribution


def test_rotation_translation_padding_and_scaling_leave_the_dimension(
    make_score: MakeScore, make_sphere: MakeSphere, make_frame: MakeFrame
) -> None:
    distribution, x = make_sphere(3, ambient=12)
    turn, shift = make_frame(12, 12, seed=9), torch.linspace(-3, 3, 12, dtype=torch.float64)
    pad = torch.eye(20, 12, dtype=torch.float64)
    moved = [
        (SphereDistribution(distribution.centre, turn @ distribution.basis, 1.0), x @ turn.T),
        (SphereDistribution(distribution.centre + shift, distribution.basis, 1.0), x + shift),
        (SphereDistribution(torch.zeros(20, dtype=torch.float64), pad @ distribution.basis, 1.0), x @ pad.T),
        (SphereDistribution(distribution.centre, distribution.basis, 40.0), 40 * x),
    ]
    base = estimate(make_score(distribution, (12,)), x)
    spread = (x - x.mean(0)).square().sum(1).mean().sqrt()
    assert base.diagnostics["sigma"] == pytest.approx(0.01 * float(spread))
    for other, points in moved:
        for rule in ("projector", "reference"):
            found = estimate(make_score(other, (points.shape[1],)), points, rule=rule)
            assert found.value == base.value == 3
    scaled = estimate(make_score(moved[3][0], (12,)), moved[3][1])
    assert scaled.diagnostics["sigma"] == pytest.approx(40 * base.diagnostics["sigma"]), (
        "sigma follows the data's scale"
    )


@pytest.mark.parametrize("process", [VPConfig(t_min=1e-7), SubVPConfig(t_min=1e-7)])
def test_other_processes_agree_with_ve(
    process: VPConfig | SubVPConfig, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(5, ambient=20)
    exploding = estimate(make_score(distribution, (20,)), x, sigma=0.05)
    other = estimate(make_score(distribution, (20,), process), x, sigma=0.05)
    assert other.spectrum is not None
    torch.testing.assert_close(other.spectrum, exploding.spectrum, atol=1e-6, rtol=0)


def test_images_and_vectors_are_the_same(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=18)
    flat = estimate(make_score(distribution, (18,)), x)
    images = estimate(make_score(distribution, (2, 3, 3)), x.reshape(-1, 2, 3, 3))
    assert flat.value == images.value == 4
    torch.testing.assert_close(images.spectrum, flat.spectrum)


@pytest.mark.parametrize("rule", ["projector", "reference"])
def test_a_small_batch_changes_nothing(rule: str, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    found = [
        estimate(make_score(distribution, (20,)), x, rule=rule, batch=batch, noises=600)
        for batch in (7, 256, 1500, None)
    ]
    for other in found[1:]:
        torch.testing.assert_close(other.spectrum, found[0].spectrum)
        torch.testing.assert_close(other.pointwise, found[0].pointwise, atol=0, rtol=0)
        assert other.diagnostics["network_calls"] == found[0].diagnostics["network_calls"]


def test_seeds_decide(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=30)
    score = make_score(distribution, (20,))

    def run(seed: int) -> Estimate:
        return estimate(score, x, torch.Generator().manual_seed(seed), points=10)

    torch.testing.assert_close(run(1).spectrum, run(1).spectrum, atol=0, rtol=0)
    assert not torch.equal(run(1).diagnostics["index"], run(2).diagnostics["index"])
    state = torch.random.get_rng_state()
    torch.testing.assert_close(estimate(score, x).spectrum, estimate(score, x).spectrum, atol=0, rtol=0)
    assert torch.equal(torch.random.get_rng_state(), state), "no global random state is touched"


def test_a_point_gets_the_same_answer_in_any_company(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """Its noise hangs on its place in the data alone, not on how many points are taken."""
    distribution, x = make_sphere(4, ambient=20, points=30)
    score = make_score(distribution, (20,))
    few = estimate(score, x, torch.Generator().manual_seed(1), points=5, sigma=0.01)
    many = estimate(score, x, torch.Generator().manual_seed(1), points=12, sigma=0.01)
    assert torch.equal(few.diagnostics["index"], many.diagnostics["index"][:5])
    assert few.spectrum is not None
    assert many.spectrum is not None
    torch.testing.assert_close(few.spectrum, many.spectrum[:5])


def test_data_and_model_are_left_as_they_were(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    score = make_score(distribution, (20,)).train()
    before = x.clone()
    estimate(score, x)
    assert torch.equal(x, before)
    assert score.training


def test_float32_gives_the_same_integers(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    for k in (10, 50):
        distribution, x = make_sphere(k)
        for rule in ("projector", "reference"):
            found = estimate(make_score(distribution, (100,), dtype=torch.float32), x.float(), sigma=0.01, rule=rule)
            assert found.pointwise is not None
            assert found.pointwise.tolist() == [k] * len(x)


def test_the_answer_says_how_it_came_about(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20, points=40)
    score = make_score(distribution, (20,), VEConfig(sigma_min=0.005, sigma_max=0.2))
    found = estimate(score, x, points=24, shown=5, sweep=(0.1, 1, 3, 10, 1000), sigma=0.01)
    assert found.quantity == "intrinsic dimension"
    assert found.pointwise is not None
    assert found.spectrum is not None
    assert (found.pointwise.shape, found.spectrum.shape) == ((24,), (5, 20))
    assert list(curve(found)) == [0.01, 0.03, 0.1], "levels outside the process are left out"
    assert found.diagnostics["noises"] == 40
    assert found.diagnostics["network_calls"] == (24 + 2 * 5) * 40 + 3 * 5, "and FLIPD's at the shown points"
    assert 0 < found.diagnostics["least_margin"] < 0.5
    assert found.diagnostics["curve_pointwise"].shape == (3, 5)
    taken = found.diagnostics["index"]
    assert len(set(taken.tolist())) == 24
    assert set(found.summary()["diagnostics"]["rules_compared"].values()) == {4.0}


@pytest.mark.parametrize(("aggregate", "value"), [("mode", 10), ("median", 10), ("mean", 14), ("max", 30)])
def test_points_are_aggregated_as_asked(
    aggregate: str, value: float, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    large, on_large = make_sphere(10, points=8)
    small, on_small = make_sphere(30, radius=0.25, points=2, seed=5)
    distribution = Mixture(torch.tensor([0.8, 0.2], dtype=torch.float64), (large, small))
    found = estimate(make_score(distribution, (100,)), torch.cat([on_large, on_small]), sigma=0.01, aggregate=aggregate)
    assert found.value == value
    assert found.interval is not None
    assert found.interval[0] <= value <= found.interval[1]


class ByLabel(torch.nn.Module):
    """Stands for a conditional model: its score is the score of a sphere of the label's own dimension."""

    def __init__(self, spheres: list[ScoreModel]) -> None:
        super().__init__()
        self.spheres = torch.nn.ModuleList(spheres)
        self.process, self.event_shape = spheres[0].process, spheres[0].event_shape
        self.condition_spec = {"label": TensorSpec((), classes=len(spheres)), "weight": TensorSpec(())}
        self.check_events = spheres[0].check_events

    def noise(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        out = torch.stack([model.noise(x, t) for model in self.spheres])  # type: ignore[operator]
        assert condition["weight"].dtype == x.dtype, "conditions come in the model's dtype, classes stay integers"
        return out[condition["label"], torch.arange(len(x))] * condition["weight"][:, None]


def test_a_condition_follows_its_point(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    pairs = [make_sphere(k, ambient=12, points=6) for k in (2, 5)]
    model = ByLabel([make_score(distribution, (12,)) for distribution, _ in pairs])
    label = torch.tensor([0] * 6 + [1] * 6)
    data = Dataset(torch.cat([x for _, x in pairs]), condition={"label": label, "weight": torch.ones(12)})
    found = estimate(model, data, batch=50, sigma=0.01)  # type: ignore[arg-type]
    assert found.pointwise is not None
    assert found.pointwise.tolist() == [(2.0, 5.0)[label[i]] for i in found.diagnostics["index"]]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_points_are_refused(count: int, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    with pytest.raises(DataError, match="at least 2"):
        estimate(make_score(distribution, (20,)), x[:count])


def test_what_does_not_fit_is_refused(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    score = make_score(distribution, (20,), VEConfig(sigma_min=0.01, sigma_max=50))
    with pytest.raises(ShapeError, match="takes"):
        estimate(score, x[:, :-1])
    with pytest.raises(ConfigError, match=r"from 0\.01 to 50"):
        estimate(score, x, sigma=0.001)
    with pytest.raises(ConfigError, match="at least 22 noises"):
        estimate(score, x, noises=20, design="iid")
    with pytest.raises(ConfigError, match="40 noises, or a multiple"):
        estimate(score, x, noises=50)
    with pytest.raises(ConfigError, match="21 noises, or a multiple"):
        estimate(score, x, noises=20, design="simplex")
    with pytest.raises(DataError, match="not finite"):
        estimate(score, x / 0)
    assert estimate(score, x, sigma=0.01).diagnostics["sigma"] == pytest.approx(0.01), "the end itself is in the range"


def test_a_process_without_one_noise_level_is_refused(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, _ = make_sphere(4, ambient=20)
    score = make_score(distribution, (20,))
    score.process = torch.nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="no single noise level"):
        NormalBundle(NormalBundleConfig(), score=score)


def test_the_note_says_at_which_scale_the_value_was_read() -> None:
    rows = [{"sigma": level, "value": 5.0} for level in (0.1, 0.2, 0.4)]
    assert note(0.1, rows, None, []).endswith("the same from sigma 0.1 to 0.4")
    rows[1]["value"] = 2.0
    assert note(0.1, rows, None, []).endswith("2 to 5 over sigma 0.1 to 0.4")
    rows[2]["value"] = 1.0
    assert note(0.1, rows, None, []).endswith("5 to 1 over sigma 0.1 to 0.4")
    plain = "read at sigma 0.1: directions along which the data vary by less do not count"
    assert note(0.1, rows[:1], None, []) == plain
    assert note(0.1, rows[:1], "the least noise", []).startswith("read at sigma 0.1 (the least noise): ")
    mixture = [{"dimension": 1.0, "share": 0.25}, {"dimension": 2.0, "share": 0.75}]
    assert note(0.1, rows[:1], None, mixture).endswith("; a mixture of dimensions: 1 (25%), 2 (75%)")
    assert note(0.1, rows[:1], None, mixture[:1]) == plain


@pytest.mark.parametrize(("factor", "end"), [(1e-2, "least"), (1e9, "most"), (1, None)])
def test_the_note_says_where_the_process_does_not_reach_the_default_sigma(
    factor: float, end: str | None, make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    """Data in other units than the process was made for: the value is of another scale, and says so."""
    distribution, x = make_sphere(4, ambient=20)
    found = estimate(make_score(distribution, (20,), VEConfig(sigma_min=1e-3, sigma_max=50)), factor * x)
    note = found.diagnostics["note"]
    if end is None:
        assert "noise of the score's process" not in note
    else:
        assert f"(the {end} noise of the score's process, where 0.01 of the data's spread is" in note
        assert found.diagnostics["sigma"] == pytest.approx({"least": 1e-3, "most": 50}[end])


def test_noise_above_the_whole_spread_of_the_data_is_refused(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """Every reading would be 0, whatever the data are."""
    distribution, x = make_sphere(4, ambient=20)
    score = make_score(distribution, (20,), VEConfig(sigma_min=2.0, sigma_max=50))
    for sigma in ("auto", None):
        with pytest.raises(
            ConfigError, match=r"the whole spread of the data (0\.9\d*|1(\.0\d*)?): .* their dimension reads 0"
        ) as caught:
            estimate(score, x, sigma=sigma)
        assert re.search(r"a least noise of about 0\.0(1\d*|09\d*); sigma_min\b", str(caught.value))


def test_noise_that_rounding_would_swallow_is_refused(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    moved = SphereDistribution(distribution.centre + 1e5, distribution.basis, 1.0)
    single = make_score(moved, (20,), dtype=torch.float32)
    with pytest.raises(DataError, match=r"float32 numbers are too coarse for noise of sigma 0\.01") as caught:
        estimate(single, (x + 1e5).float(), sigma=0.01)
    assert "scale: columns" in str(caught.value)
    assert estimate(make_score(moved, (20,)), x + 1e5, sigma=0.01).value == 4


@pytest.mark.parametrize("rule", ["projector", "reference"])
def test_a_score_that_is_not_finite_is_said(rule: str, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(4, ambient=20)
    score = make_score(distribution, (20,))
    for buffer in score.buffers():
        buffer.fill_(torch.nan)
    with pytest.raises(DataError, match=r"score at sigma .* is not finite"):
        estimate(score, x, rule=rule, sigma=0.01)


@pytest.mark.parametrize("rule", ["projector", "reference", "paper", "ratio"])
def test_bases_span_the_tangent_and_the_normal_space(rule: str, make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """On a 3-sphere the tangent space at x is what is orthogonal to x in the span of the sphere."""
    distribution, x = make_sphere(3, ambient=12)
    found = estimate(make_score(distribution, (12,)), x, sigma=0.001, rule=rule, bases="both", shown=5)
    tangent, normal = found.diagnostics["tangent_basis"], found.diagnostics["normal_basis"]
    assert (tangent.shape, normal.shape) == ((5, 12, 3), (5, 12, 9))
    whole = torch.cat([tangent, normal], 2)
    torch.testing.assert_close(whole.mT @ whole, torch.eye(12).double().expand(5, -1, -1))
    at = x[found.diagnostics["index"]][:5]
    torch.testing.assert_close(distribution.basis @ distribution.basis.T @ tangent, tangent, atol=5e-3, rtol=0)
    torch.testing.assert_close((at[:, None] @ tangent)[:, 0], torch.zeros(5, 3).double(), atol=5e-3, rtol=0)
    alone = estimate(make_score(distribution, (12,)), x, sigma=0.001, rule=rule, bases="tangent", shown=5).diagnostics
    assert "normal_basis" not in alone
    assert "tangent_basis" not in estimate(make_score(distribution, (12,)), x, sigma=0.001, rule=rule).diagnostics


def test_bases_of_a_mixture_are_padded(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    large, first = make_sphere(2, ambient=20, points=6)
    small, second = make_sphere(5, ambient=20, points=6, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (20,))
    found = estimate(score, torch.cat([first, second]), sigma=0.01, bases="tangent")
    tangent = found.diagnostics["tangent_basis"]
    assert found.pointwise is not None
    assert tangent.shape == (12, 20, 5)
    torch.testing.assert_close(tangent.square().sum((1, 2)), found.pointwise)


def test_the_interval_of_a_point_is_wide_where_its_noises_disagree(
    make_score: MakeScore, make_sphere: MakeSphere
) -> None:
    distribution, x = make_sphere(10)
    for rule in ("projector", "reference", "paper", "threshold"):
        sure = estimate(make_score(distribution, (100,)), x, sigma=0.01, rule=rule, shown=4).diagnostics
        assert sure["pointwise_interval"].tolist() == [[10, 10]] * 4, rule
    unsure = estimate(make_score(distribution, (100,)), x, sigma=0.3, shown=4)
    low, high = unsure.diagnostics["pointwise_interval"].T
    assert unsure.pointwise is not None
    assert bool((high - low >= 2).all())
    assert bool(((low <= unsure.pointwise[:4]) & (unsure.pointwise[:4] <= high)).all())
    assert (
        "pointwise_interval" not in estimate(make_score(distribution, (100,)), x, sigma=0.01, resamples=0).diagnostics
    )


def test_many_points_are_streamed(
    make_score: MakeScore, make_sphere: MakeSphere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points are taken a part at a time, with the same results as all at once."""
    distribution, x = make_sphere(2, ambient=6, points=300)
    score = make_score(distribution, (6,))
    whole = estimate(score, x, sigma=0.01, points=300, shown=8)
    taken: list[int] = []
    take = Dataset.take

    def watched(self: Dataset, index: Tensor) -> Dataset:
        taken.append(len(index))
        return take(self, index)

    monkeypatch.setattr(Dataset, "take", watched)
    monkeypatch.setattr("scorefold_iddiff.normal_bundle.estimator._COORDINATES_HELD", 300)
    monkeypatch.setattr("scorefold_iddiff.normal_bundle.estimator._COORDINATES_IN_SHARD", 600)
    parts = estimate(score, x, sigma=0.01, points=300, shown=8)
    assert taken == [50, 300, 100, 100, 92], "the survey alone looks at more"
    torch.testing.assert_close(parts.pointwise, whole.pointwise)
    torch.testing.assert_close(parts.diagnostics["margin"], whole.diagnostics["margin"])
    assert parts.diagnostics["network_calls"] == whole.diagnostics["network_calls"]


@pytest.mark.parametrize("design", [None, "range-finder"])
def test_points_are_shards_with_the_same_bits_for_any_number_of_workers(
    design: str | None,
    make_score: MakeScore,
    make_sphere: MakeSphere,
    monkeypatch: pytest.MonkeyPatch,
    warm_workers: None,
) -> None:
    distribution, x = make_sphere(2, ambient=6, points=300)
    monkeypatch.setattr("scorefold_iddiff.normal_bundle.estimator._COORDINATES_IN_SHARD", 600)
    config = NormalBundleConfig(sigma=0.01, sweep=(), points=300, shown=8, design=design)
    asked: list[tuple[str, int]] = []

    class Counting(LocalExecutor):
        def map(self, target: str, items: Any, key: str) -> list[Any]:
            asked.append((key, len(items)))
            return super().map(target, items, key)

    answers = []
    for workers in (1, 2):
        executor = Counting(workers, threads=torch.get_num_threads())
        estimator = NormalBundle(config, score=make_score(distribution, (6,)), executor=executor)
        answers.append(estimator.estimate(x, generator=torch.Generator().manual_seed(5)))
        executor.close()
    alone, shared = answers
    assert asked == [("iddiff points", 3)], "one worker is given no jobs"
    assert alone.value == shared.value == 2
    assert alone.interval == shared.interval
    assert torch.equal(alone.pointwise, shared.pointwise)  # type: ignore[arg-type]
    assert torch.equal(alone.diagnostics["margin"], shared.diagnostics["margin"])
    assert alone.diagnostics["network_calls"] == shared.diagnostics["network_calls"]
    assert alone.diagnostics["note"] == shared.diagnostics["note"]

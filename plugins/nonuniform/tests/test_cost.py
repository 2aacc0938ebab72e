"""The cost of sampling: the model's formulas, counts that are known, timing that is given what it measures, claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from claim_values import measured
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scorefold.data import TensorSpec
from scorefold.diffusion import VP
from scorefold.errors import ConfigError
from scorefold.interfaces import ScoreModel, TensorSource
from scorefold.plugin import Claim
from scorefold_nonuniform import cost
from scorefold_nonuniform.claims import cost as claims_cost
from scorefold_nonuniform.cost import (
    CostComparison,
    CostRow,
    Scale,
    compare_cost,
    cost_figures,
    count_ratio,
    fit_overhead,
    measure_overhead,
    measure_seconds,
    pixel_proportional_speedup,
    resolution_scales,
    run_cost,
    sampling_seconds,
    scales_of,
    speedup,
)
from scorefold_nonuniform.plugin import scorefold_claims
from scorefold_registry import Host
from scorefold_registry.experiments.claims import within

CLAIMS = [claim for claim in scorefold_claims() if ".cost:" in claim.target]


class Dense(nn.Module):
    """Two linear layers on flattened events, with ``level`` numbers of the noise level beside them."""

    def __init__(self, shape: tuple[int, ...], hidden: int = 8, level: int = 1) -> None:
        super().__init__()
        size = torch.Size(shape).numel()
        self.first, self.last = nn.Linear(size + level, hidden), nn.Linear(hidden, size)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        answer: Tensor = self.last(self.first(torch.cat([x.flatten(1), t.reshape(len(x), -1)], dim=1)))
        return answer.reshape(x.shape)


class DenseScore(ScoreModel):
    def __init__(self) -> None:
        super().__init__(VP(), (3, 4))
        self.network = Dense((3, 4))

    def score(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        answer: Tensor = self.network(*self.match_inputs(x, t)[:2])
        return answer


def test_the_formula_is_that_of_the_paper() -> None:
    """S = n (c_1 + o) / (sum c + n o), and its limit S(n) for costs in proportion to pixels (2.29 for three scales)."""
    assert speedup(74.21, [28.75, 8.53, 2.37, 2.32]) == pytest.approx(7.07, abs=0.01)
    assert speedup(74.21, [28.75, 8.53, 2.37, 2.32], 8.25) == pytest.approx(4.4, abs=0.01)
    assert speedup(64, [64, 16, 4, 1]) == pytest.approx(pixel_proportional_speedup(4))
    expected = {2: 1.60, 3: 2.29, 4: 3.01, 5: 3.75, 6: 4.50}
    for count, value in expected.items():
        assert pixel_proportional_speedup(count) == pytest.approx(value, abs=0.005)
    assert run_cost([2.0, 3.0], [4, 5], 1.0) == 4 * 3 + 5 * 4


@pytest.mark.parametrize("score", [False, True], ids=["network", "score model"])
def test_counts_are_those_of_the_matrices(score: bool) -> None:
    scale = Scale(DenseScore() if score else Dense((3, 4)), (3, 4))
    assert scale.multiply_accumulates == 13 * 8 + 8 * 12
    assert scale.parameters == 13 * 8 + 8 + 8 * 12 + 12
    assert scale.call(5)().shape == (5, 3, 4)


def test_a_score_is_asked_in_the_middle_of_its_time() -> None:
    """(t_min + t_max) / 2 for every event; a network alone is asked at 0."""
    model = DenseScore()
    middle = (model.process.t_min + model.process.t_max) / 2
    for network, time in ((model, middle), (model.network, 0.0)):
        x, t = Scale(network, (3, 4))._inputs(2)
        assert (x.shape, t.tolist()) == ((2, 3, 4), pytest.approx([time] * 2))


class Conditioned(nn.Module):
    """A linear layer on an event, one on a vector, and an embedding of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.event, self.vector, self.label = nn.Linear(4, 4), nn.Linear(3, 4), nn.Embedding(5, 4)

    def forward(self, x: Tensor, t: Tensor, condition: Any) -> Tensor:
        answer: Tensor = self.event(x) + self.vector(condition["levels"]) + self.label(condition["kind"])
        return answer


def test_a_condition_is_handed_in() -> None:
    spec = {"levels": TensorSpec((3,)), "kind": TensorSpec((), 5)}
    scale = Scale(Conditioned(), (4,), condition=spec)
    assert scale.multiply_accumulates == 4 * 4 + 3 * 4
    assert scale.call(2)().shape == (2, 4)


@pytest.mark.parametrize("construction", ["ours", "published"])
def test_the_networks_of_a_multiscale_model(host: Host, construction: str) -> None:
    """Each on its own size, with what it is handed in a run: a run's counts are its scales' counts."""
    config = {"construction": construction, "boundary": "matched" if construction == "ours" else "normal"}
    small = {"use": "network:mlp", "config": {"width": 8, "blocks": 1}}
    data = TensorSource(torch.rand(4, 3, 8, 8))
    model = host.create(
        "score:multiscale", {**config, "bands": {"name": "haar", "levels": 2}, "network": small}, data=data
    )
    scales = scales_of(model, [3, 1, 2])
    assert [scale.event_shape for scale in scales] == [(3, 8, 8), (3, 4, 4), (3, 2, 2)]
    assert [scale.steps for scale in scales] == [3, 1, 2]
    with FlopCounterMode(display=False) as counter:
        model.sample(1, steps=[2, 1, 3], sampler="ddim", to_zero=False, generator=torch.Generator().manual_seed(0))
    assert counter.get_total_flops() / 2 == run_cost([s.multiply_accumulates for s in scales], [3, 1, 2])
    assert [scale.steps for scale in scales_of(model, 4)] == [4, 4, 4]
    uniform = host.create("score:denoising", {"network": small}, data=data)
    assert len(sampling_seconds([uniform, model], 3, repeats=1)) == 2


def test_counts_of_networks_without_memory() -> None:
    with torch.device("meta"):
        large = nn.Conv2d(3, 4000, 5, padding=2)
    scale = Scale(claims_cost._Timeless(large), (3, 64, 64))
    assert scale.multiply_accumulates == 64 * 64 * 3 * 25 * 4000


def test_sizes_of_images_down_to_the_coarsest() -> None:
    assert resolution_scales(128) == (128, 64, 32, 16)
    assert resolution_scales(12, 3) == (12, 6, 3)
    for size in (24, 8):
        with pytest.raises(ConfigError, match="can't be halved"):
            resolution_scales(size)


def test_the_ratio_of_runs_with_unequal_steps() -> None:
    uniform = Scale(Dense((8,)), (8,), steps=12)
    scales = [Scale(Dense((8,)), (8,), steps=2), Scale(Dense((2,)), (2,), steps=10)]
    large, small = uniform.multiply_accumulates, scales[1].multiply_accumulates
    assert count_ratio(uniform, scales) == pytest.approx(12 * large / (2 * large + 10 * small))
    with pytest.raises(ConfigError, match="1 or more"):
        Scale(Dense((8,)), (8,), steps=0)


def test_an_overhead_is_the_cost_at_no_arithmetic() -> None:
    rate, overhead = fit_overhead([100, 400], [0.5 + 100 * 0.01, 0.5 + 400 * 0.01])
    assert (rate, overhead) == (pytest.approx(0.01), pytest.approx(50))
    with pytest.raises(ConfigError, match="two resolutions"):
        fit_overhead([100, 100], [1, 2])
    with pytest.raises(ConfigError, match="no line rises"):
        fit_overhead([100, 200], [2, 1])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """Work that takes given seconds by the clock that the harness reads, and no time."""
    now = [0.0]
    monkeypatch.setattr(cost.time, "process_time", lambda: now[0])

    def work(*seconds: float) -> Callable[[], None]:
        rounds = iter(seconds)

        def call() -> None:
            now[0] += next(rounds)

        return call

    return work


def test_time_is_the_least_of_rounds_after_a_first(clock: Callable[..., Callable[[], None]]) -> None:
    threads = torch.get_num_threads()
    assert measure_seconds([clock(0.1, 5, 3, 4), clock(9, 2, 7, 6)], repeats=3) == pytest.approx([3, 2])
    assert torch.get_num_threads() == threads
    with pytest.raises(ConfigError, match="0 rounds"):
        measure_seconds([], repeats=0)


def test_rounds_take_turns() -> None:
    order: list[str] = []
    measure_seconds([lambda: order.append("a"), lambda: order.append("b")], repeats=2)
    assert order == ["a", "b"] * 3


def test_a_comparison_reports_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    uniform = Scale(Dense((64,), hidden=256), (64,), steps=2)
    scales = [Scale(Dense((64,), hidden=64), (64,)), Scale(Dense((16,), hidden=64), (16,))]
    uniform.network.train()
    monkeypatch.setattr(cost, "measure_seconds", lambda *_, **__: [0.4, 0.3, 0.1])
    found = compare_cost(uniform, scales, batch=2, overhead=100.0)
    assert uniform.network.training
    assert [row.seconds for row in found.scales] == [0.15, 0.05]
    assert found.measured == pytest.approx(2 * 0.4 / (0.3 + 0.1))
    assert found.counted == pytest.approx(count_ratio(uniform, scales))
    expected = speedup(uniform.multiply_accumulates, [scale.multiply_accumulates for scale in scales], 100.0)
    assert found.modelled == pytest.approx(expected)
    assert found.modelled < found.counted
    table = found.table()
    assert len(table.splitlines()) == 5
    assert "scale 2 16" in table
    assert f"{found.measured:.2f} measured" in table


def test_real_steps_are_measured() -> None:
    """No figure: only that seconds are of the process and that a larger network takes longer."""
    large, small = Scale(Dense((256,), hidden=4096), (256,)), Scale(Dense((256,), hidden=4), (256,))
    found = compare_cost(replace(large, steps=2), [large, small], batch=64)
    assert 0 < found.scales[1].seconds < found.scales[0].seconds
    assert 1 < found.measured < 2.5


def test_an_overhead_is_of_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on eight events take eight times 5,000 multiply-accumulates more than their network has."""
    sizes = [Scale(claims_cost._Timeless(nn.Conv2d(3, 16, 3)), (3, size, size)) for size in (32, 64)]
    seconds = [8 * 1e-9 * (scale.multiply_accumulates + 5000) for scale in sizes]
    monkeypatch.setattr(cost, "measure_seconds", lambda *_, **__: seconds)
    assert measure_overhead(sizes, batch=8) == pytest.approx(5000)


def comparisons() -> dict[int, CostComparison]:
    rows = [CostRow((3, size, size), 1000, size**2 * 1000, size**2 * 1e-6, 1) for size in (128, 64, 32, 16)]
    return {
        size: CostComparison(replace(rows[start], steps=4 - start), tuple(rows[start:]), 1e5)
        for start, size in enumerate((128, 64, 32))
    }


def test_pictures_show_every_network_and_resolution() -> None:
    figures = cost_figures(comparisons())
    bars, ratio = figures["cost"].axes[0], figures["speedup"].axes[0]
    assert bars.get_yticklabels()[0].get_text() == "uniform, 3 x 128 x 128"
    assert len(bars.patches) == 5
    assert bars.patches[0].get_width() == pytest.approx(128**2 / 1e6)
    lines = {line.get_label(): list(line.get_ydata()) for line in ratio.get_lines()}
    assert lines["measured time"] == pytest.approx([pixel_proportional_speedup(n) for n in (2, 3, 4)])
    assert lines["counted, with the overhead of a step"][2] < lines["measured time"][2]


COUNTED = [claim for claim in CLAIMS if "smoke" in claim.profiles and not claim.name.endswith("measured")]


@pytest.mark.parametrize("claim", COUNTED, ids=lambda claim: claim.name)
def test_claims_that_only_count_hold(host: Host, claim: Claim) -> None:
    assert within(claim, measured(host, claim, "smoke"))


def operations(call: Callable[[], Any], device: str) -> float:
    """A clock that nothing disturbs: a second for 1e9 floating-point operations of the call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def test_claims_that_measure_can_be_measured(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small networks, as the real ones take half a minute, and by counted operations in place of a clock."""
    monkeypatch.setattr(cost, "_timed", operations)
    small = {size: claims_cost.Net((8, 16)) for size in (128, 64, 32, 16)}
    scales = {size: claims_cost.Net((16,)) for size in (128, 64, 32, 16)}
    monkeypatch.setattr(claims_cost, "UNIFORM", {size: net._replace(channels=(16, 16)) for size, net in small.items()})
    monkeypatch.setattr(claims_cost, "SCALES", scales)
    monkeypatch.setattr(claims_cost, "MODELS", {})
    monkeypatch.setattr(claims_cost, "published_networks", lambda model: claims_cost._networks(host, 32))
    monkeypatch.setattr(claims_cost, "REPEATS", {"quick": 1})
    monkeypatch.setattr(claims_cost, "BATCH", {"quick": 1})
    caches: list[Any] = [claims_cost.comparison, claims_cost.overhead, claims_cost.whole_run]
    for each in caches:
        each.cache_clear()
    try:
        for claim in CLAIMS:
            if claim not in COUNTED and claim.name != "overhead":
                found = measured(host, claim, "quick")
                assert 0 < found < 50, claim.name
                if claim.name.endswith("agreement"):
                    assert found == pytest.approx(1, rel=1e-2), claim.name
    finally:
        for each in caches:
            each.cache_clear()


def test_the_published_networks_have_their_published_sizes() -> None:
    uniform, scales = claims_cost.published_networks("same-size", meta=True)
    assert uniform.parameters / 1e6 == pytest.approx(103.88, abs=0.01)
    assert uniform.multiply_accumulates / 1e9 == pytest.approx(74.21, abs=0.01)
    assert [scale.parameters / 1e6 for scale in scales] == pytest.approx([31.29, 27.01, 18.28, 26.28], abs=0.05)
    assert [scale.multiply_accumulates / 1e9 for scale in scales] == pytest.approx([28.75, 8.53, 2.37, 2.32], abs=0.01)
    _, deep = claims_cost.published_networks("deep", meta=True)
    assert [scale.parameters / 1e6 for scale in deep] == pytest.approx([103.9, 51.1, 20.5, 17.0], abs=0.05)


def test_without_diffusers_the_published_networks_are_skipped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_cost, "find_spec", lambda name: None)
    assert claims_cost.published_count(host, "smoke", 0, model="deep") is None
    assert claims_cost.published_time(host, "smoke", 0, model="deep") is None


def test_building_networks_leaves_the_global_generator_alone(host: Host) -> None:
    before = torch.get_rng_state()
    claims_cost._networks(host, 32)
    assert torch.equal(torch.get_rng_state(), before)

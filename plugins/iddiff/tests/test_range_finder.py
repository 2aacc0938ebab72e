"""The range finder: dimensions and tangent spaces from few calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.interfaces import ScoreModel
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.normal_bundle.estimator import NormalBundle
from scorefold_iddiff.pointwise.range_finder import BLOCK, find_ranges
from scorefold_toolkit.distributions import Mixture, SphereDistribution, SubspaceGaussian

MakeScore = Callable[..., ScoreModel]
MakeSphere = Callable[..., tuple[SphereDistribution, Tensor]]


def ranges(response: Callable[[Tensor], Tensor], points: int, ambient: int, floor: float = 0.25) -> list:  # type: ignore[type-arg]
    like = torch.empty((), dtype=torch.float64)
    return list(
        find_ranges(
            lambda which, noise: response(noise), torch.arange(points), ambient=ambient, floor=floor, seed=0, like=like
        )
    )


@pytest.mark.parametrize("rank", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 60])
def test_a_projector_of_any_rank_is_found(rank: int, make_frame: Callable[..., Tensor]) -> None:
    tangent = make_frame(60, rank)
    (found,) = ranges(lambda noise: noise - noise @ tangent @ tangent.mT, 1, 60)
    assert int((found.values > 0.5).sum()) == rank
    basis = found.vectors[:, :rank]
    torch.testing.assert_close(basis.mT @ basis, torch.eye(rank, dtype=torch.float64), atol=1e-8, rtol=0)
    torch.testing.assert_close(tangent @ tangent.mT @ basis, basis, atol=1e-8, rtol=0)


def test_a_learned_residue_on_normal_directions_does_not_hide_the_range(make_frame: Callable[..., Tensor]) -> None:
    """Eigenvalues up to 0.2 on 190 normal directions outweigh ten tangent ones in a single sketch."""
    turn = make_frame(200, 200)
    values = torch.cat([torch.linspace(0.9, 1, 10), torch.linspace(0, 0.2, 190)]).double()
    matrix = turn * (1 - values) @ turn.mT
    (found,) = ranges(lambda noise: noise @ matrix, 1, 200)
    assert int((found.values > 0.5).sum()) == 10
    raised = values.clamp_min(0.3)
    lifted = turn * (1 - raised) @ turn.mT
    calls = [ranges(lambda noise: noise @ lifted, 1, 200, floor)[0].calls for floor in (0.25, 0.4)]
    assert calls[1] < calls[0] / 2, "a floor above the residue ends the search in time"


@pytest.mark.parametrize("rank", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 40])
def test_a_block_that_is_full_to_the_brim_misses_none(rank: int, make_frame: Callable[..., Tensor]) -> None:
    """The last tangent direction of a full block would hide behind residues of up to 0.2 on the normal ones."""
    turn = make_frame(150, 150)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        values = torch.rand(150, generator=generator, dtype=torch.float64)
        values = torch.cat([0.8 + 0.2 * values[:rank], 0.2 * values[rank:]])
        matrix = turn * (1 - values) @ turn.mT
        like = torch.empty((), dtype=torch.float64)
        point = torch.arange(1)
        (found,) = find_ranges(lambda _, z, m=matrix: z @ m, point, ambient=150, floor=0.25, seed=seed, like=like)  # type: ignore[misc]
        assert int((found.values > 0.5).sum()) == rank


def test_a_block_that_refining_fills_is_not_the_last(make_frame: Callable[..., Tensor]) -> None:
    """Tangent values of 0.55 to 0.7 beside residues of 0.24: some of a block are low until P is applied further."""
    turn = make_frame(150, 150)
    for seed in range(4):
        drawn = torch.rand(150, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        values = torch.cat([0.55 + 0.15 * drawn[:24], 0.24 * drawn[24:]])
        asked: list[int] = []

        def response(z: Tensor, m: Tensor = turn * (1 - values) @ turn.mT, asked: list[int] = asked) -> Tensor:
            asked.append(z.flatten(0, -2).shape[0])
            return z @ m

        (found,) = ranges(response, 1, 150)
        assert int((found.values > 0.5).sum()) == 24
        assert found.calls == sum(asked)


def test_25_times_fewer_calls_at_1024(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(10, ambient=1024, points=6)
    config = NormalBundleConfig(design="range-finder", sigma=0.01, sweep=(), bases="tangent")
    found = NormalBundle(config, score=make_score(distribution, (1024,))).estimate(x)
    assert found.pointwise is not None
    assert found.pointwise.tolist() == [10] * 6
    assert found.diagnostics["network_calls"] / 6 < 4 * 1024 / 25
    tangent = found.diagnostics["tangent_basis"]
    at = x[found.diagnostics["index"]]
    plane = distribution.basis @ distribution.basis.T
    torch.testing.assert_close(plane @ tangent, tangent, atol=1e-3, rtol=0)
    torch.testing.assert_close((at[:, None] @ tangent)[:, 0], torch.zeros(6, 10).double(), atol=1e-3, rtol=0)


def test_points_that_are_done_drop_out(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """On a union the points of the small dimension cost fewer calls, and none of them depends on its company."""
    large, on_large = make_sphere(10, points=4)
    small, on_small = make_sphere(30, radius=0.25, points=4, seed=5)
    score = make_score(Mixture(torch.tensor([0.5, 0.5]).double(), (large, small)), (100,))
    config = NormalBundleConfig(design="range-finder", sigma=0.005, sweep=())

    def calls(x: Tensor) -> tuple[list[float], int]:
        found = NormalBundle(config, score=score).estimate(x, generator=torch.Generator().manual_seed(3))
        assert found.pointwise is not None
        return sorted(found.pointwise.tolist()), found.diagnostics["network_calls"]

    both, on_both = calls(torch.cat([on_large, on_small]))
    first, on_first = calls(on_large)
    second, on_second = calls(on_small)
    assert both == first + second == [10] * 4 + [30] * 4
    assert on_both == on_first + on_second
    assert on_first < on_second / 1.5


def test_it_agrees_with_a_whole_spectrum_over_the_noise_levels(
    make_score: MakeScore, make_frame: Callable[..., Tensor]
) -> None:
    variances = torch.logspace(0, -6, 20, dtype=torch.float64)
    basis = make_frame(100, 20)
    distribution = SubspaceGaussian(torch.zeros(100, dtype=torch.float64), basis, variances)
    x = torch.randn(4, 20, dtype=torch.float64) * variances.sqrt() @ basis.T
    levels = {0.3: 4, 0.1: 7, 0.03: 10, 0.01: 13, 0.003: 16, 0.0001: 20}
    config = NormalBundleConfig(design="range-finder", sigma=0.01, sweep=tuple(level / 0.01 for level in levels))
    found = NormalBundle(config, score=make_score(distribution, (100,))).estimate(x)
    assert {round(row["sigma"], 6): row["value"] for row in found.diagnostics["curve"]} == levels


def test_its_steps_stay_near_a_curved_manifold(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    """Steps of the noise's own size, 0.5 here, would see the bend: 1 / sqrt(1 + 0.5^2) = 0.89 of a direction."""
    distribution, x = make_sphere(5, points=3)
    config = NormalBundleConfig(design="range-finder", sigma=0.05, sweep=())
    found = NormalBundle(config, score=make_score(distribution, (100,))).estimate(x)
    assert found.spectrum is not None
    assert float(found.spectrum[:, :5].min()) > 0.98


def test_it_reads_no_other_rule() -> None:
    with pytest.raises(ValueError, match="tangent directions alone"):
        NormalBundleConfig(design="range-finder", rule="reference")
    with pytest.raises(ValueError, match="leave noises out"):
        NormalBundleConfig(design="range-finder", noises=100)


def test_single_precision_images(make_score: MakeScore, make_sphere: MakeSphere) -> None:
    distribution, x = make_sphere(6, ambient=3 * 16 * 16, points=5)
    config = NormalBundleConfig(design="range-finder", bases="both")
    score = make_score(distribution, (3, 16, 16), dtype=torch.float32)
    found = NormalBundle(config, score=score).estimate(x.float().reshape(-1, 3, 16, 16))
    assert found.value == 6
    whole = torch.cat([found.diagnostics["tangent_basis"], found.diagnostics["normal_basis"]], 2)
    eye = torch.eye(768).expand(5, -1, -1)
    torch.testing.assert_close(whole.mT @ whole, eye, atol=1e-4, rtol=0)

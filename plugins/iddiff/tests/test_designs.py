"""Noise designs: their moments, their reproducibility, and what they save."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold_iddiff.pointwise.noise_designs import design, noises
from scorefold_iddiff.pointwise.spectra import gather, projector_eigenvalues, singular_values

LIKE = torch.empty((), dtype=torch.float64)


def laid(name: str, ambient: int, count: int | None = None, seed: int = 0, like: Tensor = LIKE) -> Tensor:
    """All noises (K, D) of a white design, both of each pair."""
    chosen = design(name, ambient, count)  # type: ignore[arg-type]
    rows = torch.cat(list(noises(chosen, torch.arange(3), seed, like, 10_000)), dim=1)[0]
    return torch.cat([rows, -rows]) if chosen.paired else rows


@pytest.mark.parametrize("ambient", [1, 2, 7, 40])
@pytest.mark.parametrize(("name", "blocks"), [("pairs", 1), ("simplex", 1), ("pairs", 3), ("simplex", 3)])
def test_white_designs_have_the_moments_of_the_gaussian(name: str, blocks: int, ambient: int) -> None:
    block = 2 * ambient if name == "pairs" else ambient + 1
    rows = laid(name, ambient, blocks * block)
    assert rows.shape == (blocks * block, ambient)
    torch.testing.assert_close(rows.mT @ rows / len(rows), torch.eye(ambient, dtype=torch.float64))
    torch.testing.assert_close(rows.sum(0), torch.zeros(ambient, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.full((len(rows),), ambient**0.5, dtype=torch.float64))


def test_the_corners_of_a_simplex_are_equally_far_apart() -> None:
    distances = torch.pdist(laid("simplex", 9))
    torch.testing.assert_close(distances, distances[:1].expand(45))


def test_seeds_turn_the_designs() -> None:
    for name in ("pairs", "simplex"):
        torch.testing.assert_close(laid(name, 8, seed=1), laid(name, 8, seed=1), atol=0, rtol=0)
        assert float((laid(name, 8, seed=1) - laid(name, 8, seed=2)).abs().max()) > 0.1
    blocks = laid("simplex", 8, 18)
    assert float((blocks[:9] - blocks[9:]).abs().max()) > 0.1, "blocks are turned differently"


def test_independent_noises_differ_from_point_to_point_and_hang_on_its_place_alone() -> None:
    chosen = design("iid", 5, 300)
    several, alone = (
        torch.cat(list(noises(chosen, at, 0, LIKE, 256)), 1) for at in (torch.tensor([7, 2]), torch.tensor([2]))
    )
    assert several.shape == (2, 300, 5)
    torch.testing.assert_close(several[1:], alone, atol=0, rtol=0)
    assert float((several[0] - several[1]).abs().median()) > 0.5
    assert float((several[:, :40] - several[:, 256:296]).abs().median()) > 0.5, "blocks are drawn anew"


def test_half_precision_gets_designs_too() -> None:
    rows = laid("pairs", 12, like=torch.empty((), dtype=torch.bfloat16))
    assert rows.dtype == torch.bfloat16
    torch.testing.assert_close(rows.double().mT @ rows.double() / 24, torch.eye(12).double(), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("name", "count", "said"), [("iid", 5, "at least 12"), ("pairs", 30, "20"), ("simplex", 12, "11")]
)
def test_impossible_numbers_of_noises_are_refused(name: str, count: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        design(name, 10, count)  # type: ignore[arg-type]


def test_the_defaults_take_4_2_and_1_calls_a_coordinate() -> None:
    assert [design(name, 100, None).count for name in ("iid", "pairs", "simplex")] == [400, 200, 101]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["iid", "pairs", "simplex"])
def test_every_design_finds_a_linear_response_exactly(name: str, make_frame: Callable[..., Tensor]) -> None:
    """e = (I - P) z + const in any cut of the rows; exactly orthogonal noises without pairs would lose a direction."""
    tangent, shift = make_frame(9, 3), torch.randn(9, dtype=torch.float64)

    def response(which: Tensor, noise: Tensor) -> Tensor:
        return noise - noise @ tangent @ tangent.mT + shift

    expected = torch.tensor([1.0] * 3 + [0.0] * 6, dtype=torch.float64).expand(4, -1)
    chosen = design(name, 9, None)  # type: ignore[arg-type]
    for rows in (1, 7, 1000):
        found = list(
            gather(response, torch.arange(4), chosen, rows=rows, seed=5, like=LIKE, projector=True, singular=True)
        )
        values = torch.cat([projector_eigenvalues(moments) for moments in found])
        torch.testing.assert_close(values, expected, atol=1e-10, rtol=0)
        if chosen.white:
            centred = torch.cat([singular_values(moments, centred=True) for moments in found])
            torch.testing.assert_close(centred, 1 - expected.flip(1), atol=1e-7, rtol=0)


def test_pairs_are_blind_to_even_terms() -> None:
    """A response with a quadratic part: the pairs see the linear part alone, and the uncentred spectrum the rest."""
    chosen = design("pairs", 6, None)

    def response(which: Tensor, noise: Tensor) -> Tensor:
        return noise + noise**2

    (moments,) = gather(response, torch.arange(1), chosen, rows=99, seed=0, like=LIKE, projector=True, singular=True)
    torch.testing.assert_close(projector_eigenvalues(moments), torch.zeros(1, 6).double(), atol=1e-10, rtol=0)
    torch.testing.assert_close(singular_values(moments, centred=True), torch.ones(1, 6).double())
    rows = laid("pairs", 6)
    whole = torch.linalg.svdvals(rows + rows**2) / 12**0.5
    torch.testing.assert_close(singular_values(moments, centred=False)[0], whole)
    torch.testing.assert_close(moments.loss_sum / moments.count, (rows**2).square().sum(1).mean()[None])

"""The rules on spectra made by hand, and the spectra on matrices whose decomposition is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scorefold.errors import DataError
from scorefold_iddiff.pointwise.noise_designs import NOISE_BLOCK, design
from scorefold_iddiff.pointwise.spectra import (
    ResponseMoments,
    gather,
    paper_rule,
    projector_eigenvalues,
    projector_rule,
    reference_rule,
    singular_values,
    threshold_rule,
)


def spectrum(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "reference", "paper"),
    [
        ((5, 5, 5, 1, 1), 2, 2),
        ((5, 5, 1, 1, 1), 3, 3),
        ((9, 5, 4.9, 4.8, 1), 1, 4),  # the largest gap is the last for the reference, which skips the first
        ((9, 1, 1, 1, 0.5), 1, 4),
        ((9, 8.9, 3, 2.9, 2.8), 3, 3),
        ((1, 1, 0, 0, 0), 3, 3),
    ],
)
def test_gap_rules_count_what_stands_behind_the_gap(values: tuple[float, ...], reference: int, paper: int) -> None:
    assert int(reference_rule(spectrum(*values))[0]) == reference
    assert int(paper_rule(spectrum(*values))[0]) == paper


def test_the_reference_rule_is_the_published_formula() -> None:
    """k = (d - 2) - argmax softmax(g_1.. / g_1), with g_i the 0-based gaps from 1 to d - 2, on random spectra."""
    values = torch.rand(200, 9, dtype=torch.float64).sort(dim=1, descending=True).values
    gaps = values[:, :-1] - values[:, 1:]
    published = (9 - 2) - (gaps[:, 1:] / gaps[:, 1:2]).softmax(1).argmax(1)
    ours, margin = reference_rule(values)
    assert torch.equal(ours, published)
    assert set(ours.tolist()) <= set(range(1, 8))
    assert bool((margin >= 0).all())


def test_gap_margins_are_relative_to_the_largest_value() -> None:
    _, margin = reference_rule(spectrum(10, 10, 4, 3, 3))
    assert float(margin) == pytest.approx((6 - 1) / 10)
    assert float(reference_rule(torch.zeros(5, dtype=torch.float64))[1]) == 0


@pytest.mark.parametrize("ambient", [1, 2])
def test_the_reference_rule_needs_three_coordinates(ambient: int) -> None:
    with pytest.raises(DataError, match="projector"):
        reference_rule(torch.ones(ambient))


def test_the_projector_rule_reaches_zero_and_all() -> None:
    dimension, margin = projector_rule(torch.stack([spectrum(0.1, 0, 0), spectrum(1, 0.9, 0.8), spectrum(0.7, 0.4, 0)]))
    assert dimension.tolist() == [0, 3, 1]
    torch.testing.assert_close(margin, spectrum(0.4, 0.3, 0.1))


def test_the_threshold_rule_counts_what_is_below() -> None:
    dimension, margin = threshold_rule(torch.stack([spectrum(0.9, 0.8, 0.1), spectrum(0.4, 0.2, 0.1)]))
    assert dimension.tolist() == [1, 3]
    torch.testing.assert_close(margin, spectrum(0.3, 0.1))
    assert threshold_rule(spectrum(0.9, 0.8, 0.1), 0.85)[0].tolist() == 2
    assert threshold_rule(spectrum(0.9, 0.5, 0.5))[0].tolist() == 0


def moments_of(noise: Tensor, response: Tensor, cuts: int = 1) -> ResponseMoments:
    drawn = design("iid", noise.shape[2], noise.shape[1])
    moments = ResponseMoments.zeros(len(noise), drawn, noise.device, projector=True, singular=True)
    for z, e in zip(noise.chunk(cuts, dim=1), response.chunk(cuts, dim=1), strict=True):
        moments.add(z, e)
    return moments


def test_singular_values_are_those_of_the_decomposition() -> None:
    noise, response = torch.randn(2, 3, 60, 8, dtype=torch.float64)
    moments = moments_of(noise, response, cuts=4)
    whole = torch.linalg.svdvals(response) / 60**0.5
    centred = torch.linalg.svdvals(response - response.mean(1, keepdim=True)) / 60**0.5
    torch.testing.assert_close(singular_values(moments, centred=False), whole)
    torch.testing.assert_close(singular_values(moments, centred=True), centred)


def test_large_matrices_are_taken_in_blocks_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, make_frame: Callable[..., Tensor]
) -> None:
    """Only the lower triangle of a Gram matrix is computed, in uneven blocks, and only that is read."""
    monkeypatch.setattr("scorefold_iddiff.pointwise.spectra._SPLIT_ABOVE", 5)
    tangent = make_frame(11, 4)
    noise = torch.randn(2, 50, 11, dtype=torch.float64)
    response = noise - noise @ tangent @ tangent.T
    moments = moments_of(noise, response, cuts=2)
    values = torch.linalg.svdvals(response - response.mean(1, keepdim=True)) / 50**0.5
    torch.testing.assert_close(singular_values(moments, centred=True), values, atol=1e-7, rtol=1e-9)
    expected = torch.tensor([[1.0] * 4 + [0.0] * 7] * 2, dtype=torch.float64)
    torch.testing.assert_close(projector_eigenvalues(moments), expected, atol=1e-10, rtol=0)


def test_single_precision_is_enough_for_the_projector_and_summed_in_double() -> None:
    noise = torch.randn(1, 4000, 30)
    response = noise * torch.linspace(0, 1, 30)
    found = projector_eigenvalues(moments_of(noise, response, cuts=8))[0]
    torch.testing.assert_close(found, 1 - torch.linspace(0, 1, 30, dtype=torch.float64), atol=1e-5, rtol=0)
    tiny = torch.randn(1, 400, 4) * torch.tensor([1.0, 1e-2, 1e-4, 1e-5])
    values = torch.linalg.svdvals(tiny.double())[0] / 20
    torch.testing.assert_close(singular_values(moments_of(tiny, tiny), centred=False)[0], values, rtol=1e-5, atol=0)


def test_a_projector_is_found_exactly_from_linear_responses(make_frame: Callable[..., Tensor]) -> None:
    """e = (I - P) z + const, whatever the noise: eigenvalues 1 (three times) and 0, with noise of any
    covariance."""
    tangent = make_frame(8, 3)
    noise = torch.randn(2, 40, 8, dtype=torch.float64) * torch.linspace(0.5, 2, 8, dtype=torch.float64)
    response = noise - noise @ tangent @ tangent.T + torch.randn(8, dtype=torch.float64)
    found = projector_eigenvalues(moments_of(noise, response, cuts=3))
    torch.testing.assert_close(
        found, torch.tensor([[1.0] * 3 + [0.0] * 5] * 2, dtype=torch.float64), atol=1e-10, rtol=0
    )


def test_the_projector_is_made_symmetric() -> None:
    """A learned score is no gradient: eigenvalues are the eigenvalues of I - (A + A^T) / 2, whatever A is."""
    slope = torch.randn(6, 6, dtype=torch.float64)
    noise = torch.randn(1, 50, 6, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(torch.eye(6, dtype=torch.float64) - (slope + slope.T) / 2).flip(0)
    torch.testing.assert_close(projector_eigenvalues(moments_of(noise, noise @ slope))[0], expected)


@pytest.mark.parametrize("rows", [1, 300, NOISE_BLOCK, 2 * NOISE_BLOCK + 1, 5000])
def test_moments_do_not_depend_on_how_the_rows_are_cut(rows: int) -> None:
    """The same noise at every cut, never more points or blocks at once than the rows allow."""
    noises, ambient, sizes = 700, 5, []

    def response(positions: Tensor, noise: Tensor) -> Tensor:
        sizes.append(noise.shape[0] * noise.shape[1])
        return noise**2 + positions[:, None, None]

    def run(limit: int) -> list[Tensor]:
        like = torch.empty((), dtype=torch.float64)
        groups = gather(
            response,
            torch.arange(4),
            design("iid", ambient, noises),
            rows=limit,
            seed=3,
            like=like,
            projector=True,
            singular=True,
        )
        parts = [(projector_eigenvalues(m), singular_values(m, centred=True), m.noise_sum) for m in groups]
        return [torch.cat(part) for part in zip(*parts, strict=True)]

    expected = run(10**9)
    sizes.clear()
    found = run(rows)
    torch.testing.assert_close(found, expected)
    assert max(sizes) <= max(rows, NOISE_BLOCK)
    assert sum(sizes) == 4 * noises

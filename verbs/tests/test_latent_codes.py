"""Codes by themselves: their distributions over data, paths between them, a linear probe."""

from __future__ import annotations

import builtins
import math
from typing import Any

import pytest
import torch
from latent_toys import Linear, normal
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from scorefold.errors import ConfigError, DataError, ScorefoldError, ShapeError
from scorefold_verbs.latents.codes import CodeDistributions, NormalDistribution, fit_mixture, fit_probe, lerp, slerp

TIMES = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)


def distributions(count: int = 40, units: int = 3, std: float = 0.5) -> CodeDistributions:
    return CodeDistributions(normal(count, units, seed=1), torch.full((count, units), std, dtype=torch.float64))


def test_divergences_of_codes_are_those_of_normal_distributions() -> None:
    found = distributions()
    expected = kl_divergence(Normal(found.mean, found.std), Normal(0.0, 1.0))
    torch.testing.assert_close(found.kl(), expected)
    assert not found.deterministic
    assert CodeDistributions(found.mean, torch.zeros_like(found.mean)).deterministic
    with pytest.raises(ShapeError, match=r"expected \(N, k\)"):
        CodeDistributions(found.mean, found.std[:, :2])


def test_the_aggregate_has_the_moments_of_the_mixture_of_all_distributions() -> None:
    found = distributions(std=0.7)
    distribution = found.aggregate()
    torch.testing.assert_close(distribution.mean, found.mean.mean(0))
    torch.testing.assert_close(distribution.covariance, found.mean.T.cov() + 0.49 * torch.eye(3, dtype=torch.float64))
    exact = kl_divergence(
        MultivariateNormal(distribution.mean, distribution.covariance),
        MultivariateNormal(torch.zeros(3).double(), torch.eye(3).double()),
    )
    assert distribution.kl() == pytest.approx(float(exact))
    torch.testing.assert_close(
        distribution.deviations(torch.eye(3, dtype=torch.float64)), distribution.covariance.diag().sqrt()
    )
    with pytest.raises(DataError, match="at least 2 points; 1 were given"):
        distributions(count=1).aggregate()
    with pytest.raises(ConfigError, match="5000 units"):
        CodeDistributions(torch.zeros(2, 5000), torch.ones(2, 5000)).aggregate()


def test_a_distribution_without_a_density_has_no_divergence() -> None:
    flat = NormalDistribution(torch.zeros(2).double(), torch.diag(torch.tensor([1.0, 0.0])).double())
    assert flat.kl() == math.inf


def test_draws_follow_their_distribution() -> None:
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    distribution = NormalDistribution(torch.tensor([1.0, -2.0], dtype=torch.float64), covariance)
    x = distribution.draw(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), distribution.mean, atol=0.036, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance, atol=0.072, rtol=0)
    codes = CodeDistributions(torch.zeros(40_000, 1).double(), torch.full((40_000, 1), 0.3).double())
    assert float(codes.draw(torch.Generator().manual_seed(0)).std()) == pytest.approx(0.3, rel=0.02)


def test_a_mixture_finds_two_clusters() -> None:
    codes = torch.cat([normal(300, 2, seed=1) * 0.2 + 3, normal(100, 2, seed=2) * 0.2 - 3])
    distribution = fit_mixture(codes, 2, seed=3)
    assert distribution.converged
    assert sorted(distribution.weights.tolist()) == pytest.approx([0.25, 0.75])
    x = distribution.draw(4000, torch.Generator().manual_seed(0))
    upper = x[:, 0] > 0
    assert float(upper.double().mean()) == pytest.approx(0.75, abs=0.035)
    torch.testing.assert_close(x[upper].mean(0), codes[:300].mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(x[~upper].T.cov(), codes[300:].T.cov(), atol=0.01, rtol=0)
    with pytest.raises(ConfigError, match="mixture of 8 components was asked for, of 5 codes"):
        fit_mixture(codes[:5], 8, seed=0)


def test_a_mixture_without_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ScorefoldError, match="a mixture of codes needs a library") as caught:
        fit_mixture(torch.zeros(4, 1), 1, seed=0)
    assert "pip install 'scorefold-verbs[mixtures]'" in str(caught.value)


def test_great_circles_keep_their_angles_and_turn_evenly() -> None:
    start, end = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([[0.0, 2.0]]).double()
    path = slerp(start, end, TIMES)[0]
    angles = TIMES * math.pi / 2
    torch.testing.assert_close(path, 2 * torch.stack([angles.cos(), angles.sin()], 1))
    torch.testing.assert_close(lerp(start, end, TIMES)[0], torch.stack([2 * (1 - TIMES), 2 * TIMES], 1))


def test_paths_have_the_shape_of_codes_and_start_and_end_at_them() -> None:
    start, end = normal(5, 2, 3, seed=1), normal(5, 2, 3, seed=2)
    for between in (slerp, lerp):
        path = between(start, end, TIMES)
        assert path.shape == (5, 4, 2, 3)
        torch.testing.assert_close(path[:, 0], start)
        torch.testing.assert_close(path[:, -1], end)
        assert between(start.float(), end.float(), TIMES).dtype == torch.float32


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 1 + 1e-12, 0.0])
def test_where_no_great_circle_is_the_only_one_the_path_is_straight(factor: float) -> None:
    start = normal(3, 4, seed=1)
    torch.testing.assert_close(slerp(start, factor * start, TIMES), lerp(start, factor * start, TIMES))
    assert bool(torch.isfinite(slerp(torch.zeros(1, 4), torch.zeros(1, 4), TIMES)).all())


def test_nearly_opposite_ends_of_unequal_lengths_keep_the_path_between_them() -> None:
    start, end = torch.tensor([[3.0, 0.0]]).double(), torch.tensor([[-1.0, 1e-3]]).double()
    lengths = slerp(start, end, TIMES)[0].norm(dim=1)
    torch.testing.assert_close(lengths, 3 * (1 - TIMES) + TIMES * float(end.norm()))


def test_small_angles_are_still_angles() -> None:
    """An arc cosine would take 1e-5 for 0 in single and lose it in double precision."""
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end = torch.tensor([[math.cos(1e-5), math.sin(1e-5)]], dtype=torch.float64)
    middle = slerp(start, end, torch.tensor([0.5]))[0, 0]
    assert float(middle[1]) == pytest.approx(5e-6, rel=1e-9)
    assert float(middle.norm()) == pytest.approx(1, abs=1e-15)


def blobs(units: int = 3) -> tuple[Tensor, Tensor]:
    codes = normal(400, units, seed=4) * torch.tensor([1.0, 10.0, 0.1])[:units] + 5
    chance = torch.sigmoid(2 * (codes[:, 0] - 5))
    return codes, torch.rand(400, generator=torch.Generator().manual_seed(5), dtype=torch.float64) < chance


def test_a_probe_is_logistic_regression_on_standardised_codes() -> None:
    from sklearn.linear_model import LogisticRegression

    codes, positive = blobs()
    probe = fit_probe(codes, positive, penalty=2.0)
    z = (codes - codes.mean(0)) / codes.std(0)
    other = LogisticRegression(C=0.5, tol=1e-10, max_iter=2000).fit(z.numpy(), positive.numpy())
    torch.testing.assert_close(probe.weight, torch.from_numpy(other.coef_[0]), atol=1e-5, rtol=1e-5)
    assert probe.bias == pytest.approx(float(other.intercept_[0]), abs=1e-5)
    torch.testing.assert_close(
        torch.sigmoid(probe.logits(codes)), torch.from_numpy(other.predict_proba(z.numpy())[:, 1]), atol=1e-5, rtol=1e-5
    )


def test_the_probe_finds_the_only_unit_that_matters() -> None:
    codes = normal(4000, 3, seed=6)
    probe = fit_probe(codes, codes[:, 1] + 0.3 * normal(4000, 1, seed=7)[:, 0] > 0)
    direction = probe.weight / probe.weight.norm()
    torch.testing.assert_close(direction, torch.tensor([0.0, 1.0, 0.0]).double(), atol=0.05, rtol=0)


def test_codes_move_by_so_much_along_the_normal_in_units_of_each() -> None:
    codes, positive = blobs()
    probe = fit_probe(codes, positive)
    moved = probe.moved(codes, 0.3)
    step = (moved - codes) / codes.std(0)
    torch.testing.assert_close(step.norm(dim=1), torch.full((400,), 0.3 * math.sqrt(3)).double())
    assert bool((probe.logits(moved) > probe.logits(codes)).all())
    torch.testing.assert_close(probe.moved(moved, -0.3), codes)
    assert probe.moved(codes.float(), 0.3).dtype == torch.float32


def test_a_unit_that_never_changes_takes_no_part() -> None:
    codes, positive = blobs()
    codes[:, 2] = 1.0
    probe = fit_probe(codes, positive)
    assert float(probe.weight[2]) == 0
    torch.testing.assert_close(probe.moved(codes, 1.0)[:, 2], codes[:, 2])


def test_what_a_probe_cannot_learn() -> None:
    codes, positive = blobs()
    for wrong, share in ((torch.ones(400), "all"), (torch.zeros(400), "none")):
        with pytest.raises(DataError, match=f"{share} of the 400 points have the attribute"):
            fit_probe(codes, wrong.bool())
    with pytest.raises(DataError, match="the codes are all the same"):
        fit_probe(torch.ones(400, 3), positive)


def test_reconstructing_and_generating_are_decoding() -> None:
    model = Linear((6,), (1.0, 0.5), (0.3, 0.6))

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(3)

    x = normal(4, 6, seed=2)
    back = model.reconstruct(x, generator=seeded(), strength=0.5)
    assert torch.equal(back, model.decode(model.encode(x), generator=seeded(), strength=0.5))
    generator = seeded()
    codes = model.draw_codes(5, generator=generator)
    assert torch.equal(model.generate(5, generator=seeded()), model.decode(codes, generator=generator))

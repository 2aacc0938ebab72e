"""What the claims about the paper's Euclidean sets measure, on fewer points and steps than they do."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
import torch

from scorefold_iddiff import plugin
from scorefold_iddiff.claims import euclidean as claims_euclidean
from scorefold_registry import Host


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_euclidean, "POINTS", 2000)
    monkeypatch.setattr(claims_euclidean, "PLAIN_STEPS", {"quick": 2})
    monkeypatch.setattr(claims_euclidean, "OUR_STEPS", {"quick": 2})
    monkeypatch.setattr(claims_euclidean, "READ", {"quick": 10})
    monkeypatch.setattr(claims_euclidean, "SEEDS", 2)
    claims_euclidean.plain_dimensions.cache_clear()


@pytest.mark.parametrize(
    ("name", "dimensions", "sizes", "points"),
    [
        ("sphere-10", [10], [1.0], 2000),
        ("sphere-50", [50], [1.0], 2000),
        ("spaghetti", [1], [], 400),
        ("union", [10, 30], [1.0, 0.25], 4000),
    ],
)
def test_the_sets_are_the_papers(host: Host, name: str, dimensions: list[int], sizes: list[float], points: int) -> None:
    data = claims_euclidean.paper_set(host, name, 0)
    sets = [data.load(split) for split in ("train", "validation", "test")]
    assert sum(map(len, sets)) == points
    x, truth = sets[0].x, torch.as_tensor(sets[0].truth["dimension"])
    assert x.shape[1] == 100
    assert truth.unique().tolist() == dimensions
    for dimension, radius in zip(dimensions, sizes, strict=False):
        part = x[truth.expand(len(x)) == dimension]
        torch.testing.assert_close(part.norm(dim=1), torch.full((len(part),), radius))
        assert int(torch.linalg.matrix_rank(part.double(), rtol=1e-4)) == dimension + 1


def test_points_of_another_seed_are_others(host: Host) -> None:
    first, second = (claims_euclidean.paper_set(host, "union", seed).load("test").x for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_share_is_the_least_over_trainings_and_says_each(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    share = claims_euclidean.our_share(host, "quick", 0, data="sphere-10")
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["sphere-10, training 0", "sphere-10, training 1"]
    assert f"{share:.2f}" == min(line.split()[3] for line in said)


def test_the_parts_of_a_union_share_one_plain_training(host: Host) -> None:
    """Two steps teach it nothing, so that all directions count as one."""
    for dimension in (10, 30):
        assert 1 <= claims_euclidean.plain_mode(host, "quick", 0, data="union", dimension=dimension) <= 98
    assert claims_euclidean.plain_dimensions.cache_info().misses == 1


@pytest.mark.parametrize(
    ("estimator", "low", "high"),
    [("ppca", 11, 11), ("twonn", 8, 11), ("mle", 7, 10)],
)
def test_classical_estimators_say_what_they_are_known_for(host: Host, estimator: str, low: float, high: float) -> None:
    assert low <= claims_euclidean.classical(host, "quick", 0, estimator=estimator, data="sphere-10") <= high


def test_every_claim_is_a_function_that_takes_its_options() -> None:
    for claim in plugin.scorefold_claims():
        module, _, name = claim.target.partition(":")
        inspect.signature(getattr(import_module(module), name)).bind(None, "quick", 0, **claim.options)


def test_each_set_has_its_rows() -> None:
    names = {claim.name: claim for claim in plugin.scorefold_claims()}
    for name in ("sphere-10", "sphere-50", "spaghetti", "union"):
        assert names[f"our-{name}"].role == "gate"
        assert {names[f"{other}-{name}"].role for other in ("mle", "lpca", "ppca", "twonn", "danco", "fishers")} == {
            "report"
        }

"""Seeds by derivation: fixed for ever, and apart from one another."""

from __future__ import annotations

import hashlib

import pytest
import torch

from scorefold.seeds import derive_generator, derive_seed


def test_a_seed_is_the_documented_digest() -> None:
    digest = hashlib.sha256(b"7\x1fstr:score\x1fint:3").digest()
    assert derive_seed(7, "score", 3) == int.from_bytes(digest[:8], "big") >> 1


def test_seeds_differ_by_root_name_order_and_type() -> None:
    paths: list[tuple[int, *tuple[str | int, ...]]] = [
        (0,),
        (1,),
        (0, "a"),
        (0, "a", "b"),
        (0, "b", "a"),
        (0, "ab"),
        (0, "a", 1),
        (0, "a", "1"),
        (0, 1),
        (0, -1),
    ]
    seeds = [derive_seed(root, *names) for root, *names in paths]
    assert len(set(seeds)) == len(paths)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_many_names_do_not_collide() -> None:
    assert len({derive_seed(0, "batches", epoch) for epoch in range(5000)}) == 5000


@pytest.mark.parametrize("names", [("a",), ("a", 2)])
def test_a_generator_starts_from_its_seed_and_touches_no_global_state(names: tuple[str | int, ...]) -> None:
    before = torch.get_rng_state()
    drawn = torch.randn(4, generator=derive_generator(3, *names))
    assert torch.equal(drawn, torch.randn(4, generator=torch.Generator().manual_seed(derive_seed(3, *names))))
    assert torch.equal(torch.get_rng_state(), before)

"""What synthetic sources are made with: isometries, tangent bases, and splits of what was drawn."""

from __future__ import annotations

import pytest
import torch

from scorefold.errors import ConfigError, DataError
from scorefold_toolkit.data.manifolds import (
    Draw,
    ambient,
    complete_basis,
    isometry,
    seeded_normal,
    sphere_tangent,
    splits_of,
)


def test_isometries_are_orthonormal_and_by_seed() -> None:
    q = isometry(7, 3, 1)
    torch.testing.assert_close(q.mT @ q, torch.eye(3, dtype=torch.float64))
    assert torch.equal(q, isometry(7, 3, 1))
    assert not torch.allclose(q, isometry(7, 3, 1, 0))


def test_isometries_are_uniform() -> None:
    """Each entry of a uniform frame in R^4 has mean 0 and mean square 1/4."""
    entries = torch.stack([isometry(4, 2, 0, i) for i in range(2000)])
    assert float(entries.mean(0).abs().max()) < 0.06
    torch.testing.assert_close((entries**2).mean(0), torch.full((4, 2), 0.25).double(), atol=0.03, rtol=0)


def test_a_completed_basis_keeps_its_first_columns() -> None:
    q = isometry(6, 2, 0)
    full = complete_basis(q)
    torch.testing.assert_close(full.mT @ full, torch.eye(6, dtype=torch.float64))
    assert torch.equal(full[:, :2], q)
    assert torch.equal(complete_basis(q[:, :0]), torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("first", [1.0, -1.0, 0.0])
def test_tangents_of_a_sphere_complete_the_normal(first: float) -> None:
    u = torch.tensor([[first, 0.0, 0.0, 1.0 - abs(first)], [0.5, -0.5, 0.5, -0.5]], dtype=torch.float64)
    frame = torch.cat([u[:, :, None], sphere_tangent(u)], dim=2)
    torch.testing.assert_close(frame.mT @ frame, torch.eye(4, dtype=torch.float64).expand(2, -1, -1))


def test_splits_keep_what_is_known_with_each_point() -> None:
    x = torch.arange(20, dtype=torch.float64)[:, None]
    drawn = Draw(x, torch.arange(20), tangent=x[:, :, None], label=torch.arange(20))
    splits = splits_of(drawn, noise_std=0.0, fractions=(0.5, 0.3, 0.2), seed=3)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [10, 6, 4]
    for dataset in splits.values():
        assert dataset.label is not None
        known = (dataset.label, dataset.index, dataset.truth["dimension"], dataset.truth["tangent"][:, 0, 0])
        assert all(torch.equal(torch.as_tensor(value).float(), dataset.x[:, 0]) for value in known)
    noised = splits_of(drawn, noise_std=0.5, fractions=(1.0, 0.0, 0.0), seed=3)["train"]
    assert noised.index is not None
    torch.testing.assert_close(noised.x, (x + 0.5 * seeded_normal((20, 1), 3, "noise"))[noised.index].float())


def test_impossible_sizes_are_refused() -> None:
    assert (ambient(None, 3, "it"), ambient(5, 3, "it")) == (3, 5)
    with pytest.raises(ConfigError, match="it needs at least 3 coordinates; ambient is 2") as caught:
        ambient(2, 3, "it")
    assert caught.value.hint == "set ambient: 3"
    with pytest.raises(DataError, match="2 points can't be split"):
        splits_of(Draw(torch.zeros(2, 1), 0), noise_std=0.0, fractions=(0.8, 0.1, 0.1), seed=0)

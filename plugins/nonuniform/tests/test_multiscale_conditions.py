"""Conditions of models at several speeds: images that shrink, other precisions, guidance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from multiscale_toys import conditional, model

from scorefold.data import Dataset, DataSpec, EventScale, TensorSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold_testing.contract import stir


def test_an_image_as_the_condition_shrinks_with_the_scale() -> None:
    spec = DataSpec((1, 8, 8), EventScale(), TensorSpec((1, 8, 8)))
    built = model(spec)
    shapes = [dict(each.network.spec)["condition"].shape for each in built.networks]
    assert shapes == [(1, 8, 8), (1, 4, 4), (1, 2, 2)]
    x, condition = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    assert built.score(x, torch.tensor([0.1, 0.5, 0.9]), condition).shape == x.shape
    assert built.sample(2, condition, steps=6).shape == (2, 3, 1, 8, 8)


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_a_condition_may_be_of_another_precision_or_whole_numbers(kind: str) -> None:
    built = conditional(kind, {"mask": TensorSpec((8, 8)), "class": TensorSpec((), 10)})
    mask, label, draws = torch.rand(3, 8, 8) > 0.5, torch.tensor([1, 2, 9]), []
    for given in (mask.float(), mask.double(), mask.long(), mask):
        generator = torch.Generator().manual_seed(0)
        draws.append(built.sample(2, {"mask": given, "class": label}, steps=6, generator=generator))
    assert all(torch.equal(x, draws[0]) for x in draws)
    assert draws[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_a_condition_that_does_not_fit_is_refused_in_its_own_words(kind: str) -> None:
    built, label = conditional(kind, TensorSpec((), 10)), torch.tensor([1, 2])
    with pytest.raises(ConfigError, match="trained with a condition and got none"):
        built.sample(1, steps=6)
    with pytest.raises(ShapeError, match=r"the condition has shape \(2, 1\); expected \(B\)"):
        built.sample(1, label[:, None], steps=6)
    with pytest.raises(ConfigError, match="guidance needs that too"):
        built.sample(1, label, guidance=2.0, steps=6)
    with pytest.raises(ShapeError, match="a condition was given to a model that takes none"):
        conditional(kind, None).sample(1, label, steps=6)


@pytest.mark.parametrize("kind", ["multiscale", "nonuniform"])
def test_guidance_mixes_in_the_score_without_the_condition(kind: str) -> None:
    """Trained with conditions left out, it has the null condition's score, and guidance is the mixture of the two."""
    spec = {"mask": TensorSpec((8, 8)), "class": TensorSpec((), 3)}
    built = conditional(kind, spec, condition_dropout=0.5)
    stir(built, torch.Generator().manual_seed(1))
    x, t = torch.randn(4, 8, 8), torch.full((4,), 0.2)
    given = {"mask": torch.rand(4, 8, 8), "class": torch.tensor([0, 1, 2, 0])}
    null = {"mask": torch.zeros(4, 8, 8), "class": torch.full((4,), 3)}
    with_it, without = built.score(x, t, given), built.score(x, t, None)
    torch.testing.assert_close(without, built.score(x, t, null))
    assert not torch.allclose(with_it, without)
    torch.testing.assert_close(built.bind(given, guidance=3.0)(x, t), 3 * with_it - 2 * without, rtol=1e-4, atol=1e-4)
    seen = []
    network = built.networks[0].network if kind == "multiscale" else built.network
    network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[2]["class"]))
    progress: Any = type("At", (), {"phase": "scale-1"})
    batch = Dataset(x, given).take(torch.arange(4).repeat(50))
    built.loss(batch, progress=progress, generator=torch.Generator().manual_seed(0))
    assert 70 < int((seen[0] == 3).sum()) < 130

"""The distribution of latents given latents: what depends on what, its determinant block by block, sharing, and its
depth."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from caflow_models import STEPS, depends, draws, latent_shapes_of, latents_like, perturb, slogdet, translation
from torch import Tensor

from scorefold_caflow.config import EncoderConfig, StepsConfig
from scorefold_caflow.flow.translation import Encoder, LatentTranslation, latent_shapes
from scorefold_caflow.layers import FlowBlock

VARIANTS = {
    "plain": {},
    "shared": {"shared": True},
    "adapter": {"adapter": 5},
    "entry": {"coarser": "entry"},
    "dual-glow": {"coarser": "none"},
}
CASES = [(name, n) for name in VARIANTS for n in (1, 2, 3)]


def distribution(name: str, n: int, **settings) -> tuple[LatentTranslation, list[Tensor], list[Tensor]]:
    """The distribution with latents and conditions of two rows."""
    built = translation(n, **VARIANTS[name], **settings)
    return built, latents_like(built.shapes, 10), latents_like(built.shapes, 20)


def seen_by(coarser: str, i: int, j: int) -> range:
    """The scales that z_j^i depends on."""
    return range({"levels": j, "entry": 0, "none": i}[coarser], i + 1)


def test_latents_have_the_published_shapes() -> None:
    assert latent_shapes((3, 64, 64), 4) == ((96, 4, 4), (24, 8, 8), (12, 16, 16), (6, 32, 32))
    assert list(latent_shapes((1, 16, 16), 3)) == latent_shapes_of(3)
    built = translation(3)
    # z of the coarsest latent, of the middle one, of the finest, each at its levels downwards.
    assert built.latent_shapes == ((64, 1, 1), (8, 2, 2), (32, 1, 1), (4, 4, 4), (8, 2, 2), (32, 1, 1))
    assert built.order() == [(0, 0), (1, 1), (1, 0), (2, 2), (2, 1), (2, 0)]
    z, _ = built(latents_like(built.shapes, 10), latents_like(built.shapes, 20))
    assert tuple(tuple(one.shape[1:]) for one in z) == built.latent_shapes


def test_an_encoder_has_the_published_latents_and_gives_back_its_image() -> None:
    torch.manual_seed(0)
    config = EncoderConfig.model_validate(STEPS)
    encoder = perturb(Encoder((3, 16, 16), 3, config, squeeze="pixels", recompute="no").double())
    x = draws(2, 3, 16, 16)
    latents, log_det = encoder(x)
    assert tuple(tuple(one.shape[1:]) for one in latents) == latent_shapes((3, 16, 16), 3)
    back, back_log_det = encoder.inverse(latents)
    assert torch.allclose(back, x, atol=1e-10)
    assert torch.allclose(log_det, -back_log_det, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize(("name", "n"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_round_trips(name, n, dtype, tolerance) -> None:
    built, latents, given = distribution(name, n)
    built = built.to(dtype)
    latents, given = ([one.to(dtype) for one in each] for each in (latents, given))
    z, log_det = built(latents, given)
    back, back_log_det = built.inverse(z, given)
    for ours, theirs in zip(latents, back, strict=True):
        assert float((ours - theirs).abs().max()) < tolerance
    assert float((log_det + back_log_det).abs().max()) < tolerance * (1 + float(log_det.abs().max()))


@pytest.mark.parametrize(("name", "n"), CASES)
def test_what_a_finished_latent_depends_on(name, n) -> None:
    built, latents, given = distribution(name, n)
    sources = [[one.requires_grad_() for one in each] for each in (latents, given)]
    z, _ = built(*sources)
    for (i, j), value in zip(built.order(), z, strict=True):
        for k in range(n):
            sees = k in seen_by(built.coarser, i, j)
            assert depends(value, latents[k]) is sees, (i, j, k)
            assert depends(value, given[k]) is sees, (i, j, k)


@pytest.mark.parametrize(("name", "n"), CASES)
def test_what_a_drawn_latent_depends_on(name, n) -> None:
    built, _, given = distribution(name, n)
    z = [one.requires_grad_() for one in latents_like(built.latent_shapes, 30)]
    for one in given:
        one.requires_grad_()
    drawn, _ = built.inverse(z, given)
    for i, value in enumerate(drawn):
        for k in range(n):
            assert depends(value, given[k]) is (k == i if name == "dual-glow" else k <= i), (i, k)
        for (k, j), source in zip(built.order(), z, strict=True):
            assert depends(value, source) is (k == i if name == "dual-glow" else k <= i), (i, k, j)


@pytest.mark.parametrize("name", ["plain", "shared"])
def test_the_coarsest_condition_moves_every_latent_and_the_finest_only_the_last(name) -> None:
    built, _, given = distribution(name, 3)
    z = latents_like(built.latent_shapes, 30)
    before = built.inverse(z, given)[0]
    for place, expected in ((0, [True, True, True]), (2, [False, False, True])):
        other = [one + 0.1 * (k == place) for k, one in enumerate(given)]
        after = built.inverse(z, other)[0]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert moved == expected


@pytest.mark.parametrize(("name", "n"), [(name, n) for name in VARIANTS for n in (1, 2)])
def test_the_determinant_is_that_of_the_whole_jacobian_and_the_sum_of_its_blocks(name, n) -> None:
    built, latents, given = distribution(name, n)
    latents, given = ([one[:1] for one in each] for each in (latents, given))
    sizes = [one.numel() for one in latents]
    order = built.order()

    def parts(flat: Tensor) -> list[Tensor]:
        return [part.reshape(1, *shape) for part, shape in zip(flat.split(sizes, 1), built.shapes, strict=True)]

    def all_of(flat: Tensor) -> Tensor:
        return torch.cat([one.flatten(1) for one in built(parts(flat), given)[0]], 1)

    whole = torch.cat([one.flatten(1) for one in latents], 1)
    _, log_det = built(latents, given)
    assert torch.allclose(slogdet(all_of, whole), log_det.reshape(()), atol=1e-10)
    blocks = log_det.new_zeros(())
    for i in range(n):

        def of_one(part: Tensor, i=i) -> Tensor:
            mixed = [*latents[:i], part, *latents[i + 1 :]]
            found = built(mixed, given)[0]
            return torch.cat([one.flatten(1) for (k, _), one in zip(order, found, strict=True) if k == i], 1)

        blocks = blocks + slogdet(of_one, latents[i])
    assert torch.allclose(blocks, log_det.reshape(()), atol=1e-10)


@pytest.mark.parametrize("n", [2, 3])
def test_a_shared_block_is_what_copies_of_its_weights_are(n) -> None:
    shared, latents, given = distribution("shared", n)
    apart, _, _ = distribution("plain", n)
    for j in range(n):
        apart.entries[j] = copy.deepcopy(shared.entries[j])
        for place in range(len(apart.inner[j])):
            apart.inner[j][place] = copy.deepcopy(shared.inner[j][0])
    ours, our_log_det = shared(latents, given)
    theirs, log_det = apart(latents, given)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert torch.allclose(our_log_det, log_det, atol=1e-10)
    z = latents_like(shared.latent_shapes, 30)
    ours, our_log_det = shared.inverse(z, given)
    theirs, log_det = apart.inverse(z, given)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-12)
    assert torch.allclose(our_log_det, log_det, atol=1e-10)
    count = sum(parameter.numel() for parameter in shared.parameters())
    assert (count < sum(parameter.numel() for parameter in apart.parameters())) is (n > 2)


def test_a_shared_distribution_of_three_scales_has_the_determinant_of_its_jacobian() -> None:
    built, latents, given = distribution("shared", 3)
    latents, given = ([one[:1] for one in each] for each in (latents, given))
    sizes = [one.numel() for one in latents]

    def all_of(flat: Tensor) -> Tensor:
        parts = [part.reshape(1, *shape) for part, shape in zip(flat.split(sizes, 1), built.shapes, strict=True)]
        return torch.cat([one.flatten(1) for one in built(parts, given)[0]], 1)

    whole = torch.cat([one.flatten(1) for one in latents], 1)
    assert torch.allclose(slogdet(all_of, whole), built(latents, given)[1].reshape(()), atol=1e-9)


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["plain", "shared", "entry"])
def test_drawing_is_2n_minus_1_blocks_deep_or_n(scales, name, monkeypatch) -> None:
    """The depth of a block is one more than the deepest of what it reads: its own input and its condition."""
    built = translation(scales, **VARIANTS[name])
    depth_of: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no address is used twice
    calls = []
    true_inverse = FlowBlock.inverse

    def inverse(self: FlowBlock, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        result, log_det = true_inverse(self, z, condition)
        sources = {id(one) for one in _leaves(z, condition, depth_of)}
        depth = 1 + max((depth_of[one] for one in sources), default=0)
        # Cut from what it came from, so that whoever reads it next stops here.
        result = result.detach().requires_grad_()
        depth_of[id(result)] = depth
        kept.append(result)
        calls.append(depth)
        return result, log_det

    monkeypatch.setattr(FlowBlock, "inverse", inverse)
    z = latents_like(built.latent_shapes, 30)
    given = latents_like(built.shapes, 20)
    drawn, _ = built.inverse(z, given)
    assert len(drawn) == scales
    assert max(calls) == (scales if name == "entry" else 2 * scales - 1)
    assert len(calls) == {"plain": scales * (scales + 1) // 2, "shared": 2 * scales - 1, "entry": scales}[name]


def _leaves(z: Tensor, condition: Tensor | None, known: dict[int, int]) -> list[Tensor]:
    """The results of blocks that a block's arguments were made from, by the graph of autograd."""
    found, seen = [], set()
    waiting = [each.grad_fn for each in (z, condition) if each is not None]
    direct = [each for each in (z, condition) if each is not None and id(each) in known]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in known:
            found.append(variable)
        waiting.extend(following for following, _ in node.next_functions)
    return [*found, *direct]


@pytest.mark.parametrize("coarser", ["levels", "entry", "none"])
def test_without_a_condition_it_is_a_distribution_all_the_same(coarser) -> None:
    shapes = latent_shapes_of(2)
    built = LatentTranslation(shapes, [], StepsConfig.model_validate(STEPS), coarser=coarser, constant=0)
    built = perturb(built.double().eval())
    latents = [one.requires_grad_() for one in latents_like(shapes, 10)]
    z, _ = built(latents, [])
    back, _ = built.inverse(z, [])
    for ours, theirs in zip(latents, back, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)
    for (i, j), value in zip(built.order(), z, strict=True):
        for k in range(2):
            assert depends(value, latents[k]) is (k in seen_by(coarser, i, j))


def test_constants_join_every_condition() -> None:
    built, latents, given = distribution("plain", 2, constant=3)
    fixed = draws(2, 3).requires_grad_()
    z, _ = built(latents, given, fixed)
    assert all(depends(value, fixed) for value in z)
    drawn, _ = built.inverse([one.detach() for one in z], given, fixed)
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(drawn, latents, strict=True))


def test_rows_do_not_depend_on_their_batch() -> None:
    for name, function in itertools.product(VARIANTS, ("forward", "inverse")):
        built, latents, given = distribution(name, 3)
        call: Callable = getattr(built, function)
        first = latents if function == "forward" else latents_like(built.latent_shapes, 30)
        whole, log_det = call(first, given)
        alone, own = call([one[1:] for one in first], [one[1:] for one in given])
        assert all(torch.allclose(a[1:], b, atol=1e-12) for a, b in zip(whole, alone, strict=True))
        assert torch.allclose(log_det[1:], own, atol=1e-10)

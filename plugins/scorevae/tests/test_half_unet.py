"""Networks between images and vectors: any size, every part matters, rows apart, and two derivatives that are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from scorefold.data import ConditionSpec, TensorSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold_scorevae.config import ConvDecoderConfig, HalfUNetConfig, MirrorDecoderConfig
from scorefold_scorevae.half_unet import ConvDecoder, HalfUNet, MirrorDecoder
from scorefold_scorevae.scorevae.encoder import leave_saddle
from scorefold_standard.config import MLPConfig
from scorefold_standard.networks.mlp import MLP

TINY: dict[str, Any] = {"channels": (4, 8), "blocks": 1, "groups": 2, "attention": (1,)}
WAYS = ("down", "up")
K = 3


def built(
    way: str, image: tuple[int, ...], *, time: bool = True, condition: ConditionSpec | None = None, **changed: Any
) -> nn.Module:
    """A network from images to vectors (down) or back (up), in float64."""
    torch.manual_seed(0)
    config = {**TINY, **changed}
    if way == "down":
        network = HalfUNet(HalfUNetConfig.model_validate(config)).build(image, (K,), time=time, condition=condition)
    else:
        network = MirrorDecoder(MirrorDecoderConfig.model_validate(config)).build(
            (K,), image, time=time, condition=condition
        )
    return network.double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shapes(way: str, image: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (image, (K,)) if way == "down" else ((K,), image)


LEVELS = torch.tensor([-3.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 7, 5), (9, 9), (1, 1, 1), (2, 1, 6), (1, 2, 2)])
@pytest.mark.parametrize("way", WAYS)
def test_images_of_any_size(way: str, image: tuple[int, ...]) -> None:
    network = built(way, image, channels=(4, 4, 8))
    into, out = shapes(way, image)
    x = normal(2, *into)
    answer = network(x, LEVELS)
    assert answer.shape == (2, *out)
    assert float(answer.detach().std()) > 0
    assert not torch.allclose(answer[0], answer[1])
    assert network(x[:0], LEVELS[:0]).shape == (0, *out)


@pytest.mark.parametrize("way", WAYS)
def test_every_part_matters_and_learns(way: str) -> None:
    spec = {"digit": TensorSpec((), classes=10), "image": TensorSpec((1, 4, 4)), "vector": TensorSpec((3,))}
    network = built(way, (1, 8, 8), condition=spec)
    into, _ = shapes(way, (1, 8, 8))
    given = {
        "x": normal(2, *into),
        "t": LEVELS,
        "digit": torch.tensor([1, 2]),
        "image": normal(2, 1, 4, 4, seed=1),
        "vector": normal(2, 3, seed=2),
    }

    def call(**changed: Tensor) -> Tensor:
        values = {**given, **changed}
        answer: Tensor = network(values["x"], values["t"], {key: values[key] for key in spec})
        return answer

    base = call()
    for key, value in given.items():
        moved = value + 1 if key == "digit" else 1.5 * value
        assert not torch.allclose(base, call(**{key: moved}), atol=1e-6), key
    base.square().sum().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize("way", WAYS)
def test_without_time_or_condition_it_has_no_context(way: str) -> None:
    network = built(way, (1, 8, 8), time=False)
    assert [name for name, _ in network.named_parameters() if "context" in name] == []
    assert network(normal(2, *shapes(way, (1, 8, 8))[0])).shape[0] == 2


@pytest.mark.parametrize("way", WAYS)
def test_rows_do_not_meet(way: str) -> None:
    network = built(way, (1, 7, 8)).eval()
    x, t = normal(3, *shapes(way, (1, 7, 8))[0]), torch.linspace(-3, 3, 3, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, t), alone, atol=1e-12, rtol=1e-12)
    assert not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())


def test_second_derivatives_are_right_in_the_image_and_in_the_weights() -> None:
    """What an encoder's loss by a gradient in x is made of, attention included: against finite differences."""
    network = built("down", (1, 4, 4), channels=(4,), attention=(0,)).eval()
    weights = {name: p for name, p in network.named_parameters() if name in CHOSEN}
    assert len(weights) == len(CHOSEN)
    x = normal(1, 1, 4, 4).requires_grad_()
    t = LEVELS[:1]

    def answer(x: Tensor, *values: Tensor) -> Tensor:
        changed = dict(zip(weights, values, strict=True))
        found: Tensor = torch.func.functional_call(network, changed, (x, t))
        return found

    inputs = (x, *(p.detach().clone().requires_grad_() for p in weights.values()))
    assert torch.autograd.gradcheck(answer, inputs, atol=1e-7)
    assert torch.autograd.gradgradcheck(answer, inputs, atol=1e-7)


CHOSEN = ("levels.0.2.asked.weight", "levels.0.1.norm_first.weight", "first.weight", "head.bias", "middle.1.last.bias")
"""Weights of every sort: of attention, of a norm, of a convolution, of a linear layer."""


def test_the_gradient_of_a_gradient_reaches_every_weight() -> None:
    network = built("down", (1, 8, 8))
    x = normal(2, 1, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, LEVELS).square().sum(), x, create_graph=True)
    found = torch.autograd.grad(gradient.square().sum(), list(network.parameters()), allow_unused=True)
    silent = [
        name
        for (name, _), value in zip(network.named_parameters(), found, strict=True)
        if value is None or not value.any()
    ]
    assert silent == []


@pytest.mark.parametrize("way", WAYS)
def test_products_with_its_jacobian_agree_forwards_and_backwards(way: str) -> None:
    network = built(way, (1, 5, 4)).eval()
    into, out = shapes(way, (1, 5, 4))
    x, v, w = normal(2, *into), normal(2, *into, seed=1), normal(2, *out, seed=2)

    def answer(x: Tensor) -> Tensor:
        found: Tensor = network(x, LEVELS)
        return found

    _, forwards = torch.func.jvp(answer, (x,), (v,))
    _, pull = torch.func.vjp(answer, x)
    torch.testing.assert_close((w * forwards).sum(), (v * pull(w)[0]).sum(), atol=1e-10, rtol=1e-10)
    step = 1e-5
    nearby = (answer(x + step * v) - answer(x - step * v)) / (2 * step)
    torch.testing.assert_close(forwards, nearby, atol=1e-7, rtol=1e-6)


def test_attention_is_the_fused_one_written_out() -> None:
    network = built("down", (1, 6, 6), middle_attention=True)
    attention = network.get_submodule("middle.1")
    h = normal(2, 8, 3, 3)
    pixels = attention.norm(h).flatten(2).transpose(1, 2)
    fused = torch.nn.functional.scaled_dot_product_attention(*attention.asked(pixels).chunk(3, 2))
    expected = h + attention.last(fused).transpose(1, 2).reshape(h.shape)
    torch.testing.assert_close(attention(h, None), expected, atol=1e-12, rtol=1e-12)


def test_attention_is_placed_where_asked() -> None:
    def places(**config: Any) -> list[str]:
        network = built("down", (1, 8, 8), **config)
        return [name for name, part in network.named_modules() if type(part).__name__ == "Attention"]

    assert places(attention=(), middle_attention=False) == []
    assert places(attention=(0,), middle_attention=True) == ["levels.0.2", "middle.1"]


def test_the_way_up_brings_every_level_back() -> None:
    """Sizes of the mirror are the sizes of the down path, odd ones too."""
    down, up = (built(way, (1, 9, 7), channels=(4, 4, 4)) for way in WAYS)
    seen: dict[str, list[tuple[int, ...]]] = {"down": [], "up": []}
    for way, network in (("down", down), ("up", up)):
        for level in network.levels:
            level[1].register_forward_hook(lambda _m, _i, out, way=way: seen[way].append(tuple(out.shape[-2:])))
        network(normal(1, *shapes(way, (1, 9, 7))[0]), LEVELS[:1])
    assert seen["down"] == [(9, 7), (5, 4), (3, 2)] == seen["up"][::-1]


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_fit_is_refused(way: str) -> None:
    builder = HalfUNet(HalfUNetConfig()) if way == "down" else MirrorDecoder(MirrorDecoderConfig())
    with pytest.raises(ConfigError, match=r"takes images \(C, H, W\)") as caught:
        builder.build((5,), (5,))
    assert caught.value.hint == "use network:mlp for vectors"
    network = built(way, (1, 8, 8), condition={"digit": TensorSpec((), classes=3)})
    x = normal(2, *shapes(way, (1, 8, 8))[0])
    with pytest.raises(ConfigError, match="built with a time and got none"):
        network(x, None, {"digit": torch.tensor([0, 1])})
    with pytest.raises(ShapeError, match="digit"):
        network(x, LEVELS)


def test_the_decoder_of_convolutions_is_that_of_the_authors_code() -> None:
    """Its layers written out, for 32 pixels: 128 channels at 4, 8 and 64 at 16, three at 32."""
    torch.manual_seed(0)
    network = ConvDecoder(ConvDecoderConfig(channels=(64, 128))).build((384,), (3, 32, 32))
    up = {"kernel_size": 3, "output_padding": 1, "padding": 1, "stride": 2}
    layers = [
        nn.ConvTranspose2d(128, 128, **up), nn.Conv2d(128, 128, 3, padding=1),
        nn.ConvTranspose2d(128, 64, **up), nn.Conv2d(64, 64, 3, padding=1),
        nn.ConvTranspose2d(64, 3, **up),
    ]  # fmt: skip
    first = nn.Linear(384, 2 * 16 * 64)
    own = [network.first, network.ups[0], network.flats[0], network.ups[1], network.flats[1], network.ups[2]]
    for theirs, ours in zip([first, *layers], own, strict=True):
        theirs.load_state_dict(ours.state_dict())
    z = torch.randn(2, 384, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        h = nn.functional.gelu(first(z)).reshape(2, -1, 4, 4)
        for place, layer in enumerate(layers):
            h = layer(h) if place == len(layers) - 1 else nn.functional.gelu(layer(h))
        torch.testing.assert_close(network(z), h)


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 7, 5), (9, 9), (1, 1, 1), (2, 1, 6)])
def test_the_decoder_of_convolutions_gives_images_of_any_size(image: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = ConvDecoder(ConvDecoderConfig(channels=(2, 4))).build(
        (K,), image, time=True, condition=TensorSpec((), classes=3)
    )
    z, level, label = torch.randn(2, K), torch.tensor([0.5, 0.5]), torch.tensor([0, 1])
    answer = network(z, level, label)
    assert answer.shape == (2, *image)
    for changed in (network(z, level + 1, label), network(z, level, label.flip(0)), network(z + 1, level, label)):
        assert not torch.equal(answer, changed)
    with pytest.raises(ConfigError, match="takes no condition of images"):
        ConvDecoder(ConvDecoderConfig()).build((K,), (1, 8, 8), condition=TensorSpec((1, 8, 8)))
    with pytest.raises(ConfigError, match=r"takes images \(C, H, W\)"):
        ConvDecoder(ConvDecoderConfig()).build((K,), (5,))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"channels": (6,), "groups": 4}, "multiples"),
        ({"channels": (8,), "groups": 8}, "twice groups"),
        ({"attention": (3,)}, "levels 0 to 2"),
        ({"channels": ()}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HalfUNetConfig.model_validate(wrong)


def test_an_encoder_leaves_the_saddle() -> None:
    """A network that starts as 0 says something afterwards; one that doesn't is left as it is."""
    torch.manual_seed(0)
    mlp = MLP(MLPConfig(width=16, blocks=1)).build((5,), (4,))
    x = normal(3, 5).float()
    assert not mlp(x).any()
    first = mlp.get_submodule("first").weight.clone()
    assert leave_saddle(mlp) is mlp
    assert float(mlp(x).detach().std(0).min()) > 0
    assert torch.equal(mlp.get_submodule("first").weight, first)
    half = built("down", (1, 8, 8))
    before = {name: value.clone() for name, value in half.state_dict().items()}
    leave_saddle(half)
    assert all(torch.equal(value, before[name]) for name, value in half.state_dict().items())

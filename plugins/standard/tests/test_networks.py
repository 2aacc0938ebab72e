"""Networks keep the contract: shapes, conditions, a zero start, gradients to every parameter, the same seed the
same weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from scorefold.artefacts import load_arrays, save_arrays
from scorefold.data import TensorSpec
from scorefold.errors import ConfigError, ShapeError
from scorefold_standard.config import (
    AutoConfig,
    ConvUNetConfig,
    MLPConfig,
    SignalConvConfig,
    SignalUNetConfig,
    UNetConfig,
)
from scorefold_standard.networks.auto import AutoNetwork
from scorefold_standard.networks.mlp import MLP, ResidualMLP
from scorefold_standard.networks.unet import ConvUNet, ImageConvUNet, SignalConv, SignalConvUNet, SignalUNet, UNet
from scorefold_toolkit.nn import ModuleNetwork

SMALL = UNetConfig(channels=(8, 16), groups=4)
PLAIN = ConvUNetConfig(channels=(8, 16), groups=4)
SIGNALS = ("signal-unet", "signal-conv")
NAMES = ("mlp", "unet", "conv-unet", *SIGNALS)
EVENT = dict.fromkeys(NAMES, (1, 8, 8)) | dict.fromkeys(SIGNALS, (2, 32))


def builder(name: str) -> ModuleNetwork:
    known: dict[str, ModuleNetwork] = {
        "mlp": MLP(MLPConfig(width=16, blocks=2)),
        "unet": UNet(SMALL),
        "conv-unet": ConvUNet(PLAIN),
        "signal-unet": SignalUNet(SignalUNetConfig(channels=(8, 16), groups=4)),
        "signal-conv": SignalConv(SignalConvConfig(channels=8, blocks=3, groups=4)),
    }
    return known[name]


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """The network with its zero-initialised layers made random, so that what reaches them can be seen."""
    for parameter in network.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (5,)),
        ("mlp", (2, 3, 4)),
        ("unet", (1, 8, 8)),
        ("unet", (3, 7, 5)),
        ("unet", (9, 9)),
        ("unet", (1, 1, 1)),
        ("conv-unet", (1, 8, 8)),
        ("conv-unet", (3, 7, 5)),
        ("conv-unet", (9, 9)),
        ("conv-unet", (1, 1, 1)),
        ("signal-unet", (3, 17)),
        ("signal-unet", (31,)),
        ("signal-unet", (1, 1)),
        ("signal-conv", (3, 17)),
        ("signal-conv", (31,)),
    ],
)
def test_events_keep_their_shape_and_start_at_zero(name: str, shape: tuple[int, ...]) -> None:
    network = builder(name).build(shape, shape, time=True)
    x = torch.randn(3, *shape)
    out = network(x, torch.tensor([-3.0, 0.0, 3.0]))
    assert out.shape == x.shape
    assert not out.any()
    assert network(x[:0], torch.zeros(0)).shape == (0, *shape)


@pytest.mark.parametrize(
    ("name", "out"), [("mlp", (7,)), ("unet", (4, 8, 8)), ("unet", (8, 8)), ("conv-unet", (4, 8, 8))]
)
def test_another_shape_comes_out(name: str, out: tuple[int, ...]) -> None:
    network = builder(name).build((2, 8, 8), out)
    assert network(torch.randn(2, 2, 8, 8)).shape == (2, *out)


@pytest.mark.parametrize("name", NAMES)
def test_every_part_matters(name: str) -> None:
    """Event, noise level and each condition change the output, and every parameter gets a gradient."""
    shape = EVENT[name]
    spec = {"digit": TensorSpec((), classes=10), "image": TensorSpec(shape), "vector": TensorSpec((3,))}
    network = awake(builder(name).build(shape, shape, time=True, condition=spec)).eval()
    given = {
        "x": torch.randn(2, *shape),
        "t": torch.tensor([-2.0, 1.0]),
        "digit": torch.tensor([1, 2]),
        "image": torch.randn(2, *shape),
        "vector": torch.randn(2, 3),
    }

    def call(**changed: torch.Tensor) -> torch.Tensor:
        values = {**given, **changed}
        answer: torch.Tensor = network(values["x"], values["t"], {key: values[key] for key in spec})
        return answer

    base = call()
    for key, value in given.items():
        assert not torch.allclose(base, call(**{key: value + 1}), atol=1e-6), key
    base.square().sum().backward()
    silent = [
        key for key, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    # A key's bias moves all attention scores alike, and softmax takes such a move out.
    assert [key for key in silent if "to_k.bias" not in key] == []


def test_a_plain_unet_may_be_differentiated_twice_and_forwards() -> None:
    """The Jacobian by forward and by reverse mode agree, and a gradient of a gradient reaches the weights."""
    network = awake(builder("conv-unet").build((1, 4, 4), (1, 4, 4), time=True)).double().eval()
    x, t = torch.randn(1, 1, 4, 4, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    forwards, backwards = (each(lambda x: network(x, t))(x) for each in (torch.func.jacfwd, torch.func.jacrev))
    torch.testing.assert_close(forwards, backwards)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, t).square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(bool(p.grad.any()) for name, p in network.named_parameters() if "last" in name and p.grad is not None)
    assert any(p.grad is not None for p in network.parameters())


def test_a_saved_plain_unet_answers_alike(tmp_path: Path) -> None:
    one, other = (awake(builder("conv-unet").build((1, 8, 8), (1, 8, 8), time=True)).eval() for _ in range(2))
    save_arrays(tmp_path / "weights.safetensors", one.state_dict())
    other.load_state_dict(load_arrays(tmp_path / "weights.safetensors"))
    x, t = torch.randn(2, 1, 8, 8), torch.zeros(2)
    assert torch.equal(one(x, t), other(x, t))


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_meet(name: str) -> None:
    network = awake(builder(name).build(EVENT[name], EVENT[name], time=True)).eval()
    x, t = torch.randn(4, *EVENT[name]), torch.linspace(-3, 3, 4)
    together = network(x, t)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights_and_double_works(name: str) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(builder(name).build(EVENT[name], EVENT[name], time=True).double())
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)
    out = networks[0](torch.randn(2, *EVENT[name], dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    assert out.dtype == torch.float64


def test_a_lone_condition_needs_no_name() -> None:
    network = awake(builder("mlp").build((4,), (4,), condition=TensorSpec((), classes=3)))
    x = torch.randn(2, 4)
    assert not torch.equal(network(x, None, torch.tensor([0, 1])), network(x, None, torch.tensor([2, 2])))


def test_a_condition_may_be_a_single_number() -> None:
    networks = [awake(builder("mlp").build((3,), (3,), condition=TensorSpec(shape))) for shape in ((), (1,))]
    networks[1].load_state_dict(networks[0].state_dict())
    x, number = torch.randn(4, 3), torch.randn(4)
    torch.testing.assert_close(networks[0](x, None, number), networks[1](x, None, number[:, None]))


def test_dropout_acts_in_training_alone() -> None:
    network = awake(MLP(MLPConfig(width=32, dropout=0.5)).build((4,), (4,)))
    x = torch.randn(2, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_attention_is_placed_where_asked() -> None:
    network = awake(UNet(UNetConfig(channels=(8, 16), groups=4, attention=(1,))).build((1, 8, 8), (1, 8, 8)))
    kinds = [type(network.get_submodule(f"unet.down_blocks.{level}")).__name__ for level in (0, 1)]
    assert kinds == ["DownBlock2D", "AttnDownBlock2D"]
    assert network(torch.randn(1, 1, 8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_time_or_condition_is_said(name: str) -> None:
    shape = EVENT[name]
    network = builder(name).build(shape, shape, time=True, condition={"digit": TensorSpec((), classes=3)})
    x = torch.randn(2, *shape)
    with pytest.raises(ConfigError, match="time"):
        network(x, None, {"digit": torch.tensor([0, 1])})
    with pytest.raises(ShapeError, match="digit"):
        network(x, torch.zeros(2), None)
    with pytest.raises(ShapeError, match="takes none"):
        builder(name).build(shape, shape)(x, None, torch.zeros(2))


def test_networks_of_signals_refuse_images_and_other_lengths() -> None:
    for name in SIGNALS:
        with pytest.raises(ConfigError, match=r"signals \(C, L\) or \(L,\)"):
            builder(name).build((1, 8, 8), (1, 8, 8))
        with pytest.raises(ConfigError, match="keeps the size"):
            builder(name).build((2, 32), (2, 16))
        assert builder(name).build((2, 32), (5, 32))(torch.randn(2, 2, 32)).shape == (2, 5, 32)
    with pytest.raises(ValidationError, match="expected a multiple of groups"):
        SignalConvConfig(channels=12, groups=8)


def test_how_far_dilated_convolutions_reach() -> None:
    """Three blocks of two convolutions each, 1, 2 and 4 apart, and two more at the ends: 2 (1 + 2 + 4) + 2 = 16."""
    network = (
        awake(SignalConv(SignalConvConfig(channels=4, blocks=3, groups=4)).build((1, 99), (1, 99))).double().eval()
    )
    # Group normalisation reads the whole signal, so it is taken out to see what the convolutions reach.
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(module, name, torch.nn.Identity())
    x = torch.zeros(1, 1, 99, dtype=torch.float64, requires_grad=True)
    network(x)[0, 0, 49].backward()
    assert x.grad is not None
    assert x.grad[0, 0].nonzero()[:, 0].tolist() == list(range(49 - 16, 49 + 17))


def test_a_network_of_signals_moves_with_the_signal() -> None:
    """A signal that is 0 near its ends and moves by 4 values, the multiple of three levels, moves the answer alike."""
    network = awake(
        SignalUNet(SignalUNetConfig(channels=(8, 8, 8), groups=4, attention=False)).build((1, 128), (1, 128))
    )
    x = torch.zeros(1, 1, 128, dtype=torch.float64)
    x[0, 0, 60:68] = torch.randn(8, dtype=torch.float64)
    out, moved = network.double().eval()(x), network(x.roll(4, -1))
    torch.testing.assert_close(out.roll(4, -1)[..., 40:90], moved[..., 40:90])
    assert not torch.allclose(out[..., 40:90], moved[..., 40:90])


def test_a_unet_refuses_vectors_and_other_sizes() -> None:
    for name in ("unet", "conv-unet"):
        with pytest.raises(ConfigError, match="network:mlp"):
            builder(name).build((64,), (64,))
        with pytest.raises(ConfigError, match="keeps the size"):
            builder(name).build((1, 8, 8), (1, 4, 4))


@pytest.mark.parametrize(
    "wrong", [{"channels": (6,), "groups": 4}, {"attention": (3,)}, {"channels": ()}, {"blocks": 0}]
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UNetConfig.model_validate(wrong)


def test_a_plain_unet_takes_no_levels_for_attention() -> None:
    with pytest.raises(ValidationError):
        ConvUNetConfig.model_validate({"attention": [1]})
    with pytest.raises(ValidationError, match="no multiples of groups = 4"):
        ConvUNetConfig.model_validate({"channels": [6], "groups": 4})
    without = ConvUNet(ConvUNetConfig(channels=(8,), attention=False)).build((1, 4, 4), (1, 4, 4))
    assert not any("attention" in name for name, _ in without.named_parameters())


def test_the_network_that_fits_the_events_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images get the U-Net in plain torch, also where diffusers is not installed, and what is no image a perceptron."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    shapes: dict[tuple[int, ...], type] = {
        (3, 8, 8): ImageConvUNet,
        (1, 28, 28): ImageConvUNet,
        (1, 7, 8): ResidualMLP,
        (8, 8): ResidualMLP,
        (28, 28): ResidualMLP,
        (1, 15): ResidualMLP,
        (1, 16): SignalConvUNet,
        (12, 48): SignalConvUNet,
    }
    for shape, kind in shapes.items():
        network = AutoNetwork(AutoConfig()).build(shape, shape, time=True)
        assert isinstance(network, kind)
        assert network(torch.zeros(2, *shape), torch.zeros(2)).shape == (2, *shape)


@pytest.mark.parametrize(("given", "out"), [((5, 16), (4, 16)), ((9, 32), (8, 32)), ((99, 64), (2, 64))])
def test_channels_of_a_condition_do_not_change_the_network(given: tuple[int, int], out: tuple[int, int]) -> None:
    network = AutoNetwork(AutoConfig()).build(given, out, time=True)
    assert isinstance(network, SignalConvUNet)
    assert network(torch.zeros(2, *given), torch.zeros(2)).shape == (2, *out)
    assert isinstance(AutoNetwork(AutoConfig()).build((30, 28), (28, 28), time=True), ResidualMLP)

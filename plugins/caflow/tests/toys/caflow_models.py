"""Small image flows whose parameters are all off their start, and the derivatives that distributions compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from scorefold.data import ConditionSpec, DataSpec, EventScale, TensorSpec
from scorefold_caflow.config import CAFLOWConfig, CINNConfig, DualGlowConfig, StepsConfig
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.flow.translation import LatentTranslation

Module = TypeVar("Module", bound=nn.Module)

KINDS = ("caflow", "shared", "entry", "dual-glow", "cinn")
STEPS = {"steps": 1, "transitions": 1, "hidden": 6}
CONTINUOUS = EventScale(mean=0.2, std=1.7)
SPEC = TensorSpec((1, 8, 8))


def levels(count: int) -> EventScale:
    """Integer levels 0 to count - 1."""
    return EventScale(0.0, count - 1.0, count, mean=(count - 1) / 2, std=(count - 1) / 3)


def config(kind: str, **settings: Any) -> CAFLOWConfig | DualGlowConfig | CINNConfig:
    """A small config of one of ``KINDS``."""
    if kind == "cinn":
        return CINNConfig.model_validate({"flow": STEPS, "features": 4, **settings})
    small = {"encoder": STEPS, "translation": STEPS, **settings}
    if kind == "dual-glow":
        return DualGlowConfig.model_validate(small)
    own = {"caflow": {}, "shared": {"shared": True}, "entry": {"coarser": "entry"}}[kind]
    return CAFLOWConfig.model_validate({**own, **small})


def image_flow(
    kind: str = "caflow",
    *,
    event: tuple[int, ...] = (1, 8, 8),
    condition: ConditionSpec | None = SPEC,
    scale: EventScale = CONTINUOUS,
    perturbed: float = 0.05,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **settings: Any,
) -> ImageFlow:
    """A flow in evaluation mode with normal noise of the deviation ``perturbed`` on all its parameters."""
    torch.manual_seed(seed)
    flow = ImageFlow(config(kind, **settings), data=DataSpec(event, scale, condition)).to(dtype).eval()
    return perturb(flow, perturbed)


def translation(scales: int = 3, *, channels: int = 1, seed: int = 0, **settings: Any) -> LatentTranslation:
    """A distribution of latents of images (channels, 2^(n+1), 2^(n+1)) given latents of the same shapes, off its
    start."""
    torch.manual_seed(seed)
    shapes = latent_shapes_of(scales, channels)
    built = LatentTranslation(shapes, shapes, StepsConfig.model_validate(STEPS), **settings)
    return perturb(built.double().eval())


def latent_shapes_of(scales: int, channels: int = 1) -> list[tuple[int, int, int]]:
    """The published shapes: (2^s C, H / 2^s, W / 2^s), the last one twice as wide; the coarsest first."""
    size = 2 ** (scales + 1)
    each = [(channels * 2**s, size // 2**s, size // 2**s) for s in range(1, scales + 1)]
    each[-1] = (2 * each[-1][0], *each[-1][1:])
    return each[::-1]


def perturb(module: Module, std: float = 0.05, seed: int = 1) -> Module:
    """Adds normal noise to all parameters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += std * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return module


def draws(*shape: int, seed: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def latents_like(shapes: Sequence[tuple[int, ...]], seed: int, batch: int = 2) -> list[Tensor]:
    """A batch of latents of these shapes."""
    return [draws(batch, *shape, seed=seed + place) for place, shape in enumerate(shapes)]


def slogdet(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of the Jacobian of a map of one row (1, ...), by automatic differentiation."""
    jacobian = torch.func.jacrev(lambda row: function(row).flatten())(x).reshape(x.numel(), x.numel())
    return torch.linalg.slogdet(jacobian)[1]


def depends(value: Tensor, source: Tensor) -> bool:
    """Whether the derivative of a value to a source is anything but exactly zero."""
    weights = draws(*value.shape, seed=99)
    (found,) = torch.autograd.grad((weights * value).sum(), source, retain_graph=True, allow_unused=True)
    return found is not None and bool((found != 0).any())

"""Events drawn from a model, given conditions of data where it takes any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset
from scorefold.diffusion import predictor_corrector
from scorefold.diffusion.samplers import default_steps
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import EncodesNoise, Flow, ScoreModel
from scorefold.interfaces.capabilities import Trainable
from scorefold_toolkit.config.common import DrawingOptions

MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of numbers that networks compute in, by the name of the mixed precision."""


@contextmanager
def mixed_precision(component: object, precision: str) -> Iterator[None]:
    """The context in which the networks of a trainable component compute in a precision: ``no``, ``bf16``, ``fp16``.

    These are its modules with the name ``network``. Their answers have the type of what they are given, and all else
    computes as without. So do components that can't be trained, or refuse this precision. Raises ``ConfigError`` for
    float16 on a CPU.
    """
    if precision == "no" or not isinstance(component, Trainable) or component.refuses(precision) is not None:
        yield
        return
    device = device_of(component)
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("float16 needs a GPU and the model is on the CPU", hint="use precision: bf16 or no")
    named = component.named_modules() if isinstance(component, nn.Module) else ()
    networks = [module for name, module in named if name.rpartition(".")[2] == "network"]
    before = [vars(network).get("forward") for network in networks]
    for network in networks:
        network.forward = _in_precision(network.forward, device.type, MIXED[precision])
    try:
        yield
    finally:
        for network, own in zip(networks, before, strict=True):
            del network.forward  # the method of its class again, or what was set before
            if own is not None:
                network.forward = own


def _in_precision(forward: Callable[..., Any], device: str, dtype: torch.dtype) -> Callable[..., Any]:
    def mixed(*given: Any, **named: Any) -> Any:
        with torch.autocast(device, dtype):
            found = forward(*given, **named)
        events = next((each for each in (*given, *named.values()) if isinstance(each, Tensor)), None)
        return found.to(events.dtype) if isinstance(found, Tensor) and events is not None else found

    return mixed


def device_of(component: Any) -> torch.device:
    """Device of a component's parameters or buffers; the CPU if it has none."""
    if isinstance(component, nn.Module):
        for tensor in (*component.parameters(), *component.buffers()):
            return tensor.device
    return torch.device("cpu")


def condition_of(component: ScoreModel | Flow, points: Dataset) -> Condition | None:
    """The conditions of points, or None for a model that takes none. Raises ``ConfigError`` where there should be."""
    if component.condition_spec is None:
        return None
    refuse_codes(component)
    if points.condition is None:
        raise ConfigError(
            "this model was trained with conditions, and the data given have none",
            hint="take conditions from data of the kind that the model was trained on",
        )
    return points.condition


def refuse_codes(component: ScoreModel | Flow) -> None:
    """Raises ``ConfigError`` for a model whose condition is a code of its own, which data don't have."""
    if isinstance(component, EncodesNoise):
        raise ConfigError(
            f"the condition of {type(component).__name__} is the code of an event, and data hold no codes",
            hint="do: generate draws events from new codes, reconstruct from codes of data; latents bounds likelihoods",
        )


def draw_events(
    component: ScoreModel | Flow,
    n: int,
    condition: Condition | None,
    options: DrawingOptions,
    generator: torch.Generator,
    precision: str = "no",
) -> Tensor:
    """n draws (n, *E), or n for each of C conditions (n, C, *E), as the options say.

    A score that can be trained in mixed ``precision`` computes in it here too; see ``mixed_precision``. Raises
    ``ConfigError`` for options that the model does not know, and for float16 on a CPU; ``DataError`` for draws that are
    not finite.
    """
    if isinstance(component, Flow):
        if options.sampling:
            raise ConfigError(f"flows know no sampling option {', '.join(options.sampling)}", hint="leave sampling out")
        x = component.sample(n, condition, temperature=options.temperature, generator=generator)
    else:
        names = ("steps", "sampler", "spacing", "to_zero")
        given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        further = dict(options.sampling)
        if "snr" in further and options.sampler == "predictor-corrector":
            corrected: Any = predictor_corrector
            given.setdefault("steps", default_steps(corrected))
            given["sampler"] = partial(corrected, snr=further.pop("snr"))
        with mixed_precision(component, precision):
            x = component.sample(n, condition, guidance=options.guidance, generator=generator, **given, **further)
    if not bool(torch.isfinite(x).all()):
        raise DataError("the samples are not finite", hint="use more steps, another sampler, or train for longer")
    return x

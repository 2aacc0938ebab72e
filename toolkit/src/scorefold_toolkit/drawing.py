"""Events drawn from a model, given conditions of data where it takes any."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset
from scorefold.diffusion import predictor_corrector
from scorefold.diffusion.samplers import default_steps
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import EncodesNoise, Flow, ScoreModel
from scorefold_toolkit.config.common import DrawingOptions


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
) -> Tensor:
    """n draws (n, *E), or n for each of C conditions (n, C, *E), as the options say.

    Raises ``ConfigError`` for options that the model does not know, ``DataError`` for draws that are not finite.
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
        x = component.sample(n, condition, guidance=options.guidance, generator=generator, **given, **further)
    if not bool(torch.isfinite(x).all()):
        raise DataError("the samples are not finite", hint="use more steps, another sampler, or train for longer")
    return x

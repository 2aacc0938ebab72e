"""Events drawn from a model, given conditions of data where it takes any, and draws whose mean is exact early."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset, TensorSpec, map_condition
from scorefold.diffusion import predictor_corrector
from scorefold.diffusion.samplers import default_steps
from scorefold.errors import ConfigError, DataError
from scorefold.interfaces import EncodesNoise, Flow, ScoreModel
from scorefold.interfaces.capabilities import Trainable
from scorefold.random import opposite_noise
from scorefold_toolkit.config.common import DrawingOptions
from scorefold_toolkit.nn.bijection import box_ends, inside

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
    """The conditions of points, or None for a model that takes none. Columns of a table (n, D) get the shape (n, *C) of
    the model's condition where that has D numbers. Raises ``ConfigError`` where there should be conditions, and
    ``DataError`` for columns of another number.
    """
    if component.condition_spec is None:
        return None
    refuse_codes(component)
    if points.condition is None:
        raise ConfigError(
            "this model was trained with conditions, and the data given have none",
            hint="set condition in the config of the data, such as condition: [x1, x2]; any numbers can stand in the "
            "other columns",
        )
    given, spec = points.condition, component.condition_spec
    if not isinstance(spec, TensorSpec) or not isinstance(given, Tensor) or given.dim() != 2 or len(spec.shape) < 2:
        return given
    expected = math.prod(spec.shape)
    if given.shape[1] != expected:
        raise DataError(
            f"the condition of the data has {given.shape[1]} numbers; the model takes {expected}, of shape "
            f"{spec.shape}",
            hint="condition: [...] of the data names its columns in order, or an array of an npz file",
        )
    return given.reshape(len(given), *spec.shape)


def refuse_codes(component: ScoreModel | Flow) -> None:
    """Raises ``ConfigError`` for a model whose condition is a code of its own, which data don't have."""
    if isinstance(component, EncodesNoise):
        raise ConfigError(
            f"the condition of {type(component).__name__} is the code of an event, and data hold no codes",
            hint="do: generate draws events from new codes, reconstruct from codes of data; latents bounds likelihoods",
        )


def draw_opposite(draw: Callable[[torch.Generator], Tensor], n: int, generator: torch.Generator) -> Tensor:
    """n draws (n, *S) of ``draw(generator)`` (*S), the second half from the noise of the first with the opposite sign.

    Each draw follows the model's distribution, and the first half is independent. In the mean of all, what is odd in
    the noise cancels: of Gaussian events it is exact from two draws on. So draws of a diffusion's probability flow have
    a mean that is much nearer to the expected event than the mean of as many independent draws. Draws of a function
    that ignores the sign, with random numbers of its own, are all independent.

    >>> from scorefold.random import draw_normal
    >>> def draw(generator):
    ...     return 3 + draw_normal((2,), generator=generator, like=torch.zeros(()))
    >>> draw_opposite(draw, 4, torch.Generator().manual_seed(0)).mean(0)
    tensor([3., 3.])
    """
    opposites, drawn = [], []
    for _ in range(n - n // 2):
        opposites.append(opposite_noise(generator))
        drawn.append(draw(generator))
    for number in range(n // 2):
        drawn.append(draw(opposites[number]))
        if torch.equal(drawn[-1], drawn[number]):
            drawn[-1:] = [draw(generator) for _ in range(n // 2 - number)]
            break
    return torch.stack(drawn)


class EventCounts(NamedTuple):
    """Numbers of draws: inside the limits, and in all."""

    inside: int
    all: int


def draw_within(
    component: ScoreModel | Flow,
    n: int,
    condition: Condition | None,
    options: DrawingOptions,
    generator: torch.Generator,
    precision: str = "no",
) -> tuple[Tensor, EventCounts]:
    """n draws (n, *E), or n for each of C conditions (n, C, *E), as the options say, and the counts of draws inside
    ``options.within``. Draws outside are drawn again, so the draws follow the model's distribution cut at its limits.

    A score that can be trained in mixed ``precision`` computes in it here too; see ``mixed_precision``. Raises
    ``ConfigError`` for options that the model does not know, and for float16 on a CPU; ``DataError`` for draws that are
    not finite, and where fewer than 1 in 100 draws for a condition are inside.
    """

    def draw(count: int, given: Condition | None) -> Tensor:
        return _draw(component, count, given, options, generator, precision)

    x = draw(n, condition)
    if options.within is None:
        return x, EventCounts(len(x), len(x))
    size = math.prod(component.event_shape)
    low, high = (end.to(x) for end in box_ends(options.within, component.event_scale, size))
    rows = x.unsqueeze(1) if condition is None else x
    found = [rows[:0, number] for number in range(rows.shape[1])]
    tried = torch.zeros(len(found), dtype=torch.long)
    open_rows = list(range(len(found)))
    while True:
        within = inside(rows.flatten(2), low, high)
        for place, number in enumerate(open_rows):
            found[number] = torch.cat([found[number], rows[within[:, place], place]])
            tried[number] += len(rows)
        kept = torch.tensor([len(each) for each in found])
        open_rows = [number for number, count in enumerate(kept.tolist()) if count < n]
        if not open_rows:
            events = torch.stack([each[:n] for each in found], 1)
            counts = EventCounts(int(kept.sum()), int(tried.sum()))
            return (events[:, 0] if condition is None else events), counts
        lost = next((number for number in open_rows if tried[number] >= 100 * n + 1000), None)
        if lost is not None:
            of = "samples" if condition is None else "samples for one condition"
            raise DataError(
                f"{len(found[lost]):,} of {int(tried[lost]):,} {of} lie within {options.within}; expected 1 in 100",
                hint="train the model for longer, or take a coupling flow with a 'within' of its own",
            )
        # As many as are missing at the share so far, in calls of the size of the first.
        asked = torch.tensor(open_rows)
        share = (kept[asked] / tried[asked]).clamp_min(0.01)
        count = math.ceil(1.1 * float(((n - kept[asked]) / share).max()))
        rows = draw(max(1, min(n * len(found) // len(open_rows), count)), _taken(condition, asked))
        rows = rows.unsqueeze(1) if condition is None else rows


def _taken(condition: Condition | None, rows: Tensor) -> Condition | None:
    return map_condition(condition, lambda value: value[rows.to(value.device)])


def _draw(
    component: ScoreModel | Flow,
    n: int,
    condition: Condition | None,
    options: DrawingOptions,
    generator: torch.Generator,
    precision: str,
) -> Tensor:
    """n draws for each condition, inside the limits of the options or not."""
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

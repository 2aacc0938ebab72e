"""What verbs share: the points and the conditions they read, and the events they draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Condition, Dataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource, EncodesNoise, Flow, ScoreModel
from scorefold.stage import StageContext
from scorefold_verbs.config.verbs import DrawingOptions

Inputs = Mapping[str, Any]


def on_device(context: StageContext, dataset: Dataset) -> Dataset:
    """A data set where the stage computes, in its dtype."""
    return dataset.to(device=context.device, dtype=context.dtype)


def points_of(source: DataSource, limit: int | None, context: StageContext) -> Dataset:
    """The first points of the stage's split, all without a limit. Raises ``DataError`` where there are none."""
    split = context.split or "test"
    dataset = on_device(context, source.load(split))
    if len(dataset) == 0:
        raise SplitError(
            f"the {split} split has no points", hint="choose another split, or give it a share of the points"
        )
    # Taking decodes streamed points: all of them stay a stream.
    return dataset if limit is None or limit >= len(dataset) else dataset.take(torch.arange(limit))


def device_of(component: Any) -> torch.device:
    """Where a component's parameters or buffers are; the CPU where it has none."""
    if isinstance(component, nn.Module):
        for tensor in (*component.parameters(), *component.buffers()):
            return tensor.device
    return torch.device("cpu")


def conditions_of(
    component: ScoreModel | Flow, source: DataSource | None, count: int, context: StageContext
) -> Condition | None:
    """The conditions of the first points of the stage's split, or None for a model that takes none.

    Raises ``ConfigError`` where a condition is needed and there is none.
    """
    if component.condition_spec is None:
        return None
    refuse_codes(component)
    if source is None:
        raise ConfigError(
            "this model was trained with conditions, and no data were given to take conditions from",
            hint="add 'data: <a data stage>' to the stage's inputs",
        )
    points = points_of(source, count, context)
    return condition_of(component, points.take(torch.arange(len(points))))


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
            hint="do: generate draws events from new codes, reconstruct from those of data; latents bounds likelihoods",
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
        x = component.sample(n, condition, guidance=options.guidance, generator=generator, **given, **options.sampling)
    if not bool(torch.isfinite(x).all()):
        raise DataError("the samples are not finite", hint="use more steps, another sampler, or train for longer")
    return x


def nearness(middles: Tensor, held_out: Tensor, source: DataSource) -> Tensor | None:
    """How far the middles of paths (B, *E) are from the nearest training point, over what held-out points are.

    (B,): around 1 for a path that stays among the data, more for one that leaves them. None where there is no
    training split, or the held-out points (N, *E) are training points.
    """
    try:
        known = source.load("train").tensor(limit=10_000).to(middles).flatten(1)
    except SplitError:
        return None
    usual = torch.cdist(held_out.flatten(1), known).amin(1).mean() if len(known) else torch.zeros(())
    return torch.cdist(middles.flatten(1), known).amin(1) / usual if float(usual) > 0 else None

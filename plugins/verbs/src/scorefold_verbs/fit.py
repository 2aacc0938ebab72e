"""The verb ``fit`` of whatever can be trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scorefold.data import Dataset
from scorefold.errors import DataError, SplitError
from scorefold.interfaces import (
    DataSource,
    Encodes,
    ScoreModel,
    Trainable,
)
from scorefold.stage import Fitted, Outcome, StageContext
from scorefold_toolkit.drawing import device_of
from scorefold_verbs.inputs import Inputs
from scorefold_verbs.noise import noise_warnings

_SHOWN = 64
"""How many training events figures get."""

_DIAGNOSED = 512
"""How many points what was trained is diagnosed on."""

_DECODED = 32
"""How many points are encoded and decoded after a training: of some models that takes many calls."""


def fit(component: nn.Module, inputs: Inputs, options: None, context: StageContext) -> Outcome:
    """Train a ``Trainable`` on the training split, checked on the validation split; pass over anything else.

    Warns before the training where the noise of a score's process does not fit the data. Raises as
    ``scorefold_toolkit.training.fit``, ``DataError`` for data that can't be read or an empty training split, and
    ``ConfigError`` for noise above all of the data.
    """
    if not isinstance(component, Trainable):
        return Outcome(component, {"trained": False}, shown={})
    from scorefold_toolkit.training import can_train_apart, fit_apart
    from scorefold_toolkit.training import fit as train

    source: DataSource = inputs["data"]
    training, validation = _splits(source, context.device, context.dtype)
    if len(training) == 0:
        raise DataError("the training split is empty", hint="give the source more points or a larger train fraction")
    before = _noise_warnings(component, source)
    for text in before:
        context.warn(text)
    settings: dict[str, Any] = {
        "seed": context.seed("fit"),
        "checkpoint_dir": context.checkpoint_dir,
        "precision": context.precision,
    }
    shown: dict[str, Any] = {"validation": validation, "progress": context.progress}
    config, executor = component.training_config, context.executor
    apart = executor is not None and executor.parallel and config.minutes is None and context.together is None
    if executor is not None and apart and can_train_apart(component, training, validation):
        report = fit_apart(component, training, config, executor, **settings, **shown)
    elif context.together is None:
        report = train(component, training, config, metrics=context.metrics, **settings, **shown)
    else:
        settings["parallel"] = context.parallel
        sent = component if device_of(component).type == "cpu" else copy.deepcopy(component).cpu()
        part = _Part(sent, source, str(context.device).partition(":")[0], context.dtype, settings)
        with context.together("scorefold_verbs.fit:train_part", part):
            report = train(component, training, config, metrics=context.metrics, **settings, **shown)
    result: dict[str, Any] = {"trained": True, **report.summary()}
    seen = training if validation is None else validation
    after = [*component.training_warnings(seen.take(torch.arange(min(_DIAGNOSED, len(seen)))))]
    if isinstance(component, Encodes):
        from scorefold_verbs.latents.measures import RELATIVE_ERROR
        from scorefold_verbs.latents.reconstruct import quick_error

        x = seen.take(torch.arange(min(_DECODED, len(seen)))).x
        error, poor = quick_error(component, x, context.generator("reconstruct", device=device_of(component)))
        after += poor
        if error is not None:
            result["metrics"][RELATIVE_ERROR] = error
    if warnings := [*before, *report.warnings, *after]:
        result["warnings"] = warnings
    few = training.take(torch.arange(min(_SHOWN, len(training))))
    return Outcome(component, result, shown=Fitted(report, component, few.x, few.condition))


@dataclass(frozen=True)
class _Part:
    """What another process takes to train with this one: the model, where it reads its data, and how it trains."""

    component: nn.Module
    source: DataSource
    device: str
    dtype: torch.dtype | None
    settings: dict[str, Any]


def train_part(part: _Part) -> None:
    """Trains with the process that sent a part, which has the answer."""
    from scorefold_toolkit.training import fit as train

    assert isinstance(part.component, Trainable)
    training, validation = _splits(part.source, part.device, part.dtype)
    model = part.component.to(part.device)
    train(model, training, part.component.training_config, validation=validation, **part.settings)


def _splits(
    source: DataSource, device: torch.device | str, dtype: torch.dtype | None
) -> tuple[Dataset, Dataset | None]:
    """The training split, and the validation split where it has points."""
    training = source.load("train").to(device=device, dtype=dtype)
    try:
        validation = source.load("validation").to(device=device, dtype=dtype)
    except SplitError:
        return training, None
    return training, validation if len(validation) else None


def _noise_warnings(component: nn.Module, source: DataSource) -> list[str]:
    if not isinstance(component, ScoreModel):
        return []
    return noise_warnings(component.process, source.event_scale, source.event_shape)

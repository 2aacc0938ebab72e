"""The verb ``fit`` of whatever can be trained."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, EventScale
from scorefold.diffusion.process import DiffusionProcess, Isotropic
from scorefold.errors import ConfigError, DataError, PluginError, SplitError
from scorefold.interfaces import DataSource, Encodes, ScoreModel, Trainable
from scorefold.stage import Fitted, Outcome, StageContext
from scorefold_toolkit.drawing import device_of
from scorefold_verbs.inputs import Inputs

_SHOWN = 64
"""Number of training events for figures."""

_DIAGNOSED = 512
"""Number of points for the diagnosis after a training."""

_DECODED = 32
"""Number of points that are encoded and decoded after a training, which takes many calls for some models."""


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

    if not isinstance(getattr(component, "training_config", None), TrainingConfig):
        of = f"{type(component).__module__}:{type(component).__qualname__}"
        hint = "set self.training_config = config.training, a TrainingConfig of scorefold.config"
        raise PluginError(f"{of} is Trainable and has no training_config; expected a TrainingConfig", hint=hint)
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
    result: dict[str, Any] = {"trained": True, **report.summary(), "answer": report.answer()}
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
    if warnings := [*before, *report.warnings, *filter(None, [report.memorised() or report.overfitted()]), *after]:
        result["warnings"] = warnings
    few = training.take(torch.arange(min(_SHOWN, len(training))))
    return Outcome(component, result, shown=Fitted(report, component, few.x, few.condition))


@dataclass(frozen=True)
class _Part:
    """Data for another process that trains with this one: the model, the place of its data, and its training."""

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


SMALL = 0.5
"""The largest noise over the data's spread below which samples do not start from the data's noise."""


def noise_warnings(process: DiffusionProcess, scale: EventScale, event_shape: tuple[int, ...]) -> list[str]:
    """Warnings where the largest noise of a process does not cover data of this scale.

    Raises ``ConfigError`` where its least noise is above the whole spread of the data, so that no model of it sees
    more than one point.
    """
    if not isinstance(process, Isotropic):
        return []
    spread = scale.spread(event_shape)
    ends = process.noise_to_signal(torch.tensor([process.t_min, process.t_max], dtype=torch.float64))
    least, greatest = (float(end) for end in ends)
    if least > spread:
        raise ConfigError(
            f"the least noise of the process is {least:.3g}, and the whole spread of the data {spread:.3g} (the root "
            "mean square distance from their mean): nothing of the data is left at any noise level",
            hint=f"make it about {_round(0.01 * spread)} by sigma_min of ve or edm, or set relative: true of ve",
        )
    if greatest < SMALL * spread:
        return [
            f"the largest noise of the process is {greatest:.3g}, and the spread of the data {spread:.3g}: samples and "
            "likelihoods start from noise that does not cover the data. Make it about "
            f"{_round(2 * spread)} (sigma_max of ve or edm), or scale the data"
        ]
    return []


def _round(value: float) -> str:
    """One digit of a number, without an exponent where it can be: 300."""
    return f"{float(f'{value:.1g}'):g}"

"""Requirements of an encoder on the score model that it is trained for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefold.data import EventScale, TensorSpec
from scorefold.errors import ConfigError, ScorefoldError
from scorefold.interfaces import DataSource, ScoreModel
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.rotated import Rotated

_USER = "score:scorevae"
_UNITS = 2.0  # deviations of prior and data that differ by more are no sampling error


def check_encoder_prior(prior: ScoreModel, data: DataSource, prior_class: int | None) -> None:
    """Raises ``ConfigError`` for a prior that can't be called, that is not trained, that is in half precision, or whose
    events are not the data's."""
    check_trained(prior, "prior", _USER)
    _check_precision(prior)
    _check_condition(prior, prior_class)
    check_data(prior, data, "prior")
    process = prior.process.inner if isinstance(prior.process, Rotated) else prior.process
    like = _zero(process, prior.event_shape)
    if not isinstance(process.coefficients(like, like.new_full((1,), process.t_max))[0], Tensor):
        raise ConfigError(
            f"the prior diffuses by a {type(process).__name__}, which couples the components of an event; the "
            "encoder needs one signal and one scale a component, or a band",
            hint="a process of any family can be used, with speeds by component or block too, and one by bands",
        )


def check_data(model: ScoreModel, data: DataSource, name: str) -> None:
    """Raises ``ConfigError`` where data are not in the shape and units of the events of a model called ``name``."""
    if tuple(model.event_shape) != tuple(data.event_shape):
        raise ConfigError(
            f"the {name}'s events have shape {tuple(model.event_shape)}, the data's {tuple(data.event_shape)}",
            hint=f"train both on the same data, or change size, grey or flatten of the data to the {name}'s",
        )
    _check_units(model.event_scale, data.event_scale, name)


def _check_precision(prior: ScoreModel) -> None:
    dtype = prior._reference().dtype
    if dtype in (torch.float16, torch.bfloat16):
        raise ConfigError(
            f"the prior's weights are {dtype}, and the gradient of the encoder's density needs full precision",
            hint="give it prior.float(), and set prior_precision: bf16 to train by it in half precision",
        )


def _zero(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """One event of zeros where a module's numbers are, in their dtype."""
    numbers = (value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point())
    return next(numbers, torch.zeros(())).new_zeros((1, *shape))


def _check_condition(prior: ScoreModel, prior_class: int | None) -> None:
    spec = prior.condition_spec
    named = f"the prior, a {type(prior).__name__},"
    if spec is None:
        if prior_class is not None:
            raise ConfigError(f"prior_class is {prior_class}, and {named} takes no class", hint="prior_class: null")
        return
    classes = spec.classes if isinstance(spec, TensorSpec) and spec.shape == () else None
    if prior_class is not None:
        if classes is None or prior_class >= classes:
            expected = "takes no class" if classes is None else f"knows the classes 0 to {classes - 1}"
            raise ConfigError(f"prior_class is {prior_class}, and {named} {expected}")
        return
    x = _zero(prior, prior.event_shape)
    try:
        with torch.no_grad():
            prior.score(x, x.new_full((1,), prior.process.t_max))
    except ScorefoldError as error:
        raise ConfigError(
            f"{named} takes a condition and can't be called without: {error.message}",
            hint="prior_class: 0 gives it that class"
            if classes is not None
            else "train it on data without a condition, or with condition_dropout above 0",
        ) from error


def _check_units(prior: EventScale, data: EventScale, name: str) -> None:
    """Raises ``ConfigError`` where bounds differ, or where a model without bounds saw data of another size."""
    known = [(bound, getattr(prior, bound), getattr(data, bound)) for bound in ("low", "high")]
    bounded = all(value is not None for _, *pair in known for value in pair)
    if bounded and any(abs(a - b) > 1e-6 for _, a, b in known):
        raise ConfigError(
            f"the {name}'s events lie in [{prior.low:g}, {prior.high:g}], the data in [{data.low:g}, {data.high:g}]",
            hint=f"give the data the {name}'s units: range: [{prior.low:g}, {prior.high:g}] of image sources",
        )
    shift = abs(prior.mean - data.mean)
    ratio = prior.std / data.std if data.std > 0 else float("inf")
    if not bounded and (not 1 / _UNITS <= ratio <= _UNITS or shift > _UNITS * max(prior.std, data.std)):
        raise ConfigError(
            f"the {name} was made for events of mean {prior.mean:.3g} and deviation {prior.std:.3g}; the data have "
            f"mean {data.mean:.3g} and deviation {data.std:.3g}",
            hint=f"bring the data to the units that the {name} was trained in",
        )


def prior_condition(prior_class: int | None, x: Tensor) -> Tensor | None:
    """The class that the prior is given for each event of x, (B,), or None."""
    if prior_class is None:
        return None
    return torch.full((len(x),), prior_class, dtype=torch.long, device=x.device)

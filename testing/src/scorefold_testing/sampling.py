"""Checks of what score models and flows draw, and of the densities that they give by integration."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from scorefold.errors import ConfigError
from scorefold_testing.answers import ROWS, draw_condition
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_refusal,
    require_same,
    require_shape,
)
from scorefold_testing.score import CLASSES, model_of_classes, rows_of_condition

TOO_MANY = 64


def _drawing(subject: Subject) -> tuple[Any, Any, tuple[int, ...], dict[str, Any]]:
    """A model, a condition of three rows where it takes one, the shape of one draw, and options that cost little."""
    model = subject.stirred()
    condition = draw_condition(model.condition_spec, ROWS, subject, torch.float64)
    lead = () if condition is None else (ROWS,)
    return model, condition, (*lead, *model.event_shape), _few_steps(subject)


def _few_steps(subject: Subject) -> dict[str, Any]:
    return {"steps": 4} if subject.component.kind == "score" else {}


@check("sample-shape", "score", "flow", level="contract")
def sample_shape(subject: Subject) -> str:
    """sample gives (n, *E), or (n, C, *E) for C conditions, for n = 3 and 0, finite, and refuses n = -1."""
    model, condition, shape, options = _drawing(subject)
    for n in (3, 0):
        draws = model.sample(n, condition, generator=subject.generator("sample"), **options)
        require_shape(f"{n} draws", draws, (n, *shape))
        count = int((~draws.isfinite()).sum())
        require(count == 0, f"{count} numbers of {n} draws are not finite", "0")
    ask = partial(model.sample, condition=condition, generator=subject.generator("sample"), **options)
    require_refusal("n = -1", ConfigError, partial(ask, -1))
    return "3 draws and none"


@check("sample-follows-generator", "score", "flow", level="determinism")
def sample_follows_generator(subject: Subject) -> str:
    """A generator's draws are the same again, and another generator's are others."""
    model, condition, _, options = _drawing(subject)
    first, again, other = (
        model.sample(2, condition, generator=subject.generator(name), **options) for name in ("one", "one", "other")
    )
    require_same("a sample drawn again from one seed", again, first)
    gap = float((first - other).abs().max())
    require(gap > 0, f"samples from two seeds differ by up to {gap:.2g}", "more than 0")
    return "bit-equal from one seed, different from two"


@check("conditional-sample-shape", "score", "flow", level="contract")
def conditional_sample_shape(subject: Subject) -> str:
    """Built for data with classes, sample gives (n, C, *E) for n draws for each of C conditions."""
    model = model_of_classes(subject)
    draws = model.sample(2, torch.arange(CLASSES), generator=subject.generator("sample"), **_few_steps(subject))
    require_shape("2 draws for each of 3 classes", draws, (2, CLASSES, *model.event_shape))
    return "2 draws for each of 3 classes"


@check("log-prob-shape", "score", level="contract")
def log_prob_shape(subject: Subject) -> str:
    """log_prob gives (B,), finite, of the model as it starts (an arbitrary score has flows that leave every range)."""
    model = subject.build()
    if torch.Size(model.event_shape).numel() > TOO_MANY:
        raise NotApplicableError(f"the exact trace takes too long for events of over {TOO_MANY} coordinates")
    x = subject.points(2, model.event_shape, model.event_scale)
    condition = rows_of_condition(draw_condition(model.condition_spec, ROWS, subject, torch.float64), slice(2))
    value = model.log_prob(x, condition, generator=subject.generator("log_prob"), rtol=1e-2, atol=1e-2)
    require_shape("log_prob", value, (2,))
    count = int((~value.isfinite()).sum())
    require(count == 0, f"{count} of 2 values of log_prob are not finite", "0")
    return "finite, one number an event"


CHECKS: tuple[Check, ...] = (sample_shape, sample_follows_generator, conditional_sample_shape, log_prob_shape)

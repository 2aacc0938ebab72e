"""Laws of score models (``scorefold.interfaces.ScoreModel``)."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from scorefold.data import DataSpec, TensorSpec
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold.testing.answers import ROWS, draw_condition, noised
from scorefold.testing.contract import (
    Law,
    NotApplicableError,
    Subject,
    law,
    require,
    require_close,
    require_refusal,
    require_shape,
)

EXACT = 1e-9
CLASSES = 3


@runtime_checkable
class HasNoisedDensity(Protocol):
    """A score model that knows the density whose score it is."""

    def noised_log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x) in nats at x (B, *E), t (B,): (B,)."""


def _model(subject: Subject) -> tuple[Any, Tensor, Tensor]:
    """A model without a condition, with events and times to ask it at."""
    model = subject.stirred()
    if model.condition_spec is not None:
        raise NotApplicableError("the example is conditional, and a model need not work without its condition")
    return model, *noised(model, subject)


@law("score-shape", "score")
def score_shape(subject: Subject) -> str:
    """score gives (B, *E) for B = 3, 1 and 0."""
    model, x, t = _model(subject)
    with torch.no_grad():
        for rows in (ROWS, 1, 0):
            require_shape(f"score of {rows} events", model.score(x[:rows], t[:rows]), (rows, *model.event_shape))
    return "batches of 3, 1 and 0"


@law("score-batch-of-one", "score")
def score_batch_of_one(subject: Subject) -> str:
    """One event serves for several times and one time for several events, as if it were repeated."""
    model, x, t = _model(subject)
    with torch.no_grad():
        one_time = require_close("one t", model.score(x, t[:1]), model.score(x, t[:1].expand(len(x))), EXACT)
        one_event = require_close("one x", model.score(x[:1], t), model.score(x[:1].expand_as(x), t), EXACT)
    return f"{one_time}; {one_event}"


@law("score-rows-independent", "score")
def score_rows(subject: Subject) -> str:
    """The score at an event does not depend on what else is in the batch."""
    model, x, t = _model(subject)
    with torch.no_grad():
        alone = torch.cat([model.score(x[i : i + 1], t[i : i + 1]) for i in range(len(x))])
        return require_close("row by row", model.score(x, t), alone, EXACT)


@law("score-refuses-other-shapes", "score")
def score_refuses(subject: Subject) -> str:
    """Events of another shape are refused by a ShapeError."""
    model, x, t = _model(subject)
    wrong = x.new_zeros(len(x), *(size + 1 for size in model.event_shape))
    return require_refusal("an event of another shape", ShapeError, lambda: model.score(wrong, t))


@law("score-of-density", "score")
def score_of_density(subject: Subject) -> str:
    """Where the model knows its density (``noised_log_prob``), the score is the gradient of its logarithm."""
    model, x, t = _model(subject)
    known: Any = model
    if not isinstance(known, HasNoisedDensity):
        raise NotApplicableError("the model offers no noised_log_prob")
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(known.noised_log_prob(x, t).sum(), x)
    with torch.no_grad():
        return require_close("score against autograd", model.score(x, t), gradient, 1e-6)


@law("noise-of-score", "score")
def noise_of_score(subject: Subject) -> str:
    """noise is -scale^T score, as the process has it."""
    model, x, t = _model(subject)
    with torch.no_grad():
        expected = model.process.noise_from_score(model.score(x, t), x, t)
        return require_close("noise", model.noise(x, t), expected, 1e-6)


@law("denoise-by-tweedie", "score")
def denoise_by_tweedie(subject: Subject) -> str:
    """denoise is (x + scale scale^T score) / signal."""
    model, x, t = _model(subject)
    with torch.no_grad():
        expected = model.process.denoised_from_score(model.score(x, t), x, t)
        return require_close("denoise", model.denoise(x, t), expected, 1e-6)


@law("bind-is-score", "score")
def bind_is_score(subject: Subject) -> str:
    """What bind gives without condition and options is the score, and an unknown option is refused."""
    model, x, t = _model(subject)
    require_refusal("an unknown sampling option", ConfigError, lambda: model.bind(no_such_option=1))
    with torch.no_grad():
        return require_close("bound", model.bind(generator=subject.generator("bind"))(x, t), model.score(x, t), EXACT)


@law("sample-shape", "score", "flow")
def sample_shape(subject: Subject) -> str:
    """sample gives (n, *E) for n = 3 and 0, finite, and refuses n = -1."""
    model = subject.stirred()
    if model.condition_spec is not None:
        raise NotApplicableError("the example is conditional")
    options = _few_steps(subject)
    for n in (3, 0):
        draws = model.sample(n, generator=subject.generator("sample"), **options)
        require_shape(f"{n} draws", draws, (n, *model.event_shape))
        require(bool(draws.isfinite().all()), "draws are not finite")
    require_refusal("n = -1", ConfigError, lambda: model.sample(-1, **options))
    return "3 draws and none"


@law("sample-follows-generator", "score", "flow")
def sample_follows_generator(subject: Subject) -> str:
    """A generator's draws are the same again, and another generator's are others."""
    model = subject.stirred()
    if model.condition_spec is not None:
        raise NotApplicableError("the example is conditional")
    options = _few_steps(subject)
    first, again, other = (
        model.sample(2, generator=subject.generator(name), **options) for name in ("one", "one", "other")
    )
    require(torch.equal(first, again), "two samples from one seed differ")
    require(not torch.equal(first, other), "samples from two seeds are the same")
    return "bit-equal from one seed, different from two"


@law("conditional-sample-shape", "score", "flow")
def conditional_sample_shape(subject: Subject) -> str:
    """Built for data with classes, sample gives (n, C, *E) for n draws for each of C conditions."""
    if not any(port.name == "data" and not port.whole for port in subject.component.requires):
        raise NotApplicableError("it takes no data whose condition could be set")
    plain = subject.build()
    spec = DataSpec(plain.event_shape, plain.event_scale, TensorSpec((), classes=CLASSES))
    try:
        model = subject.stirred(ports={"data": spec})
    except ScorefoldError as error:
        raise NotApplicableError(f"it takes no classes as a condition: {error.message}") from error
    if model.condition_spec is None:
        raise NotApplicableError("it takes no condition")
    condition = draw_condition(model.condition_spec, CLASSES, subject, torch.float64)
    draws = model.sample(2, condition, generator=subject.generator("sample"), **_few_steps(subject))
    require_shape("2 draws for each of 3 classes", draws, (2, CLASSES, *model.event_shape))
    return "2 draws for each of 3 classes"


@law("log-prob-shape", "score")
def log_prob_shape(subject: Subject) -> str:
    """log_prob gives (B,), finite, of the model as it starts (an arbitrary score has flows that leave every range)."""
    model = subject.build()
    if model.condition_spec is not None:
        raise NotApplicableError("the example is conditional")
    x = subject.points(2, model.event_shape, model.event_scale)
    if x[0].numel() > 64:
        raise NotApplicableError("the exact trace takes too long for events of over 64 coordinates")
    value = model.log_prob(x, rtol=1e-2, atol=1e-2)
    require_shape("log_prob", value, (2,))
    require(bool(value.isfinite().all()), "log_prob is not finite")
    return "finite, one number an event"


def _few_steps(subject: Subject) -> dict[str, Any]:
    return {"steps": 4} if subject.component.kind == "score" else {}


LAWS: tuple[Law, ...] = (
    score_shape,
    score_batch_of_one,
    score_rows,
    score_refuses,
    score_of_density,
    noise_of_score,
    denoise_by_tweedie,
    bind_is_score,
    sample_shape,
    sample_follows_generator,
    conditional_sample_shape,
    log_prob_shape,
)

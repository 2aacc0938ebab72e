"""Checks of score models (``scorefold.interfaces.ScoreModel``): at a point and a time, and of their samples, which
are checked like samples of flows."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from scorefold.data import Condition, DataSpec, TensorSpec, map_condition
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold_testing.answers import ROWS, draw_condition, noised
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    check,
    require,
    require_close,
    require_refusal,
    require_same,
    require_shape,
)

EXACT = 1e-9
CLASSES = 3
NATS = 0.1


@runtime_checkable
class HasNoisedDensity(Protocol):
    """A score model that knows the density whose score it is."""

    def noised_log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """log p_t(x) in nats at x (B, *E), t (B,): (B,)."""


def _model(subject: Subject) -> tuple[Any, Tensor, Tensor, Condition | None]:
    """A model with events, times and, where it takes one, a condition to ask it with."""
    model = subject.stirred()
    return model, *noised(model, subject), draw_condition(model.condition_spec, ROWS, subject, torch.float64)


def rows_of_condition(condition: Condition | None, rows: slice) -> Condition | None:
    """Some rows of a condition."""
    return map_condition(condition, lambda c: c[rows])


def model_of_classes(subject: Subject) -> Any:
    """The example built for data with classes as the condition; not applicable where it takes none."""
    if not any(port.name == "data" and not port.whole for port in subject.component.requires):
        raise NotApplicableError("it takes no data whose condition could be set")
    plain = subject.build()
    spec = DataSpec(plain.event_shape, plain.event_scale, TensorSpec((), classes=CLASSES))
    try:
        model = subject.stirred(ports={"data": spec})
        given = model.condition_spec  # one in another process is built as it is first asked
    except ScorefoldError as error:
        raise NotApplicableError(f"it takes no classes as a condition: {error.message}") from error
    if given is None:
        raise NotApplicableError("it takes no condition")
    if given != spec.condition_spec:
        raise NotApplicableError("its condition is its own and not the data's")
    return model


@check("score-shape", "score", level="contract")
def score_shape(subject: Subject) -> str:
    """score gives (B, *E) for B = 3, 1 and 0."""
    model, x, t, condition = _model(subject)
    with torch.no_grad():
        for rows in (ROWS, 1, 0):
            score = model.score(x[:rows], t[:rows], rows_of_condition(condition, slice(rows)))
            require_shape(f"score of {rows} events", score, (rows, *model.event_shape))
    return "batches of 3, 1 and 0"


@check("score-batch-of-one", "score", level="contract")
def score_batch_of_one(subject: Subject) -> str:
    """One event serves for several times and one time for several events, as if it were repeated."""
    model, x, t, c = _model(subject)
    with torch.no_grad():
        one_time = require_close("one t", model.score(x, t[:1], c), model.score(x, t[:1].expand(len(x)), c), EXACT)
        one_event = require_close("one x", model.score(x[:1], t, c), model.score(x[:1].expand_as(x), t, c), EXACT)
    return f"{one_time}; {one_event}"


@check("score-rows-independent", "score", level="numerics")
def score_rows(subject: Subject) -> str:
    """The score at an event does not depend on what else is in the batch."""
    model, x, t, condition = _model(subject)
    rows = [slice(i, i + 1) for i in range(len(x))]
    with torch.no_grad():
        alone = torch.cat([model.score(x[row], t[row], rows_of_condition(condition, row)) for row in rows])
        return require_close("row by row", model.score(x, t, condition), alone, EXACT)


@check("score-refuses-other-shapes", "score", level="contract")
def score_refuses(subject: Subject) -> str:
    """Events of another shape, and batches that do not fit each other, are refused by a ShapeError."""
    model, x, t, condition = _model(subject)
    wrong = x.new_zeros(len(x), *(size + 1 for size in model.event_shape))
    require_refusal("3 events with 2 times", ShapeError, lambda: model.score(x, t[:2], condition))
    return require_refusal("an event of another shape", ShapeError, lambda: model.score(wrong, t, condition))


@check("score-finite", "score", level="numerics")
def score_finite(subject: Subject) -> str:
    """The score is finite at both ends of the process, at events as they stand there."""
    model, x, _, condition = _model(subject)
    process = model.process
    with torch.no_grad():
        for end in (process.t_min, process.t_max):
            t = x.new_full((len(x),), end)
            there = process.perturb(x, t, subject.normal(*x.shape, purpose="ends"))
            count = int((~model.score(there, t, condition).isfinite()).sum())
            require(count == 0, f"at t = {end:.3g}, {count} numbers of the score are not finite", "0")
    return f"finite at t = {process.t_min:.3g} and {process.t_max:.3g}"


@check("score-of-density", "score", level="numerics", gradients=True)
def score_of_density(subject: Subject) -> str:
    """The score is the gradient of the log density, if the model knows it (``noised_log_prob``)."""
    model, x, t, _ = _known(subject)
    x = x.requires_grad_()
    (gradient,) = torch.autograd.grad(model.noised_log_prob(x, t).sum(), x)
    with torch.no_grad():
        return require_close("score against autograd", model.score(x, t), gradient, 1e-6)


@check("log-prob-of-density", "score", level="numerics")
def log_prob_of_density(subject: Subject) -> str:
    """log_prob is the known log density at t_min, to 0.1 nats per coordinate."""
    model, x, _, _ = _known(subject)
    start = x.new_full((1,), model.process.t_min)
    x = model.process.perturb(x[:1], start, subject.normal(1, *x.shape[1:], purpose="start"))
    with torch.no_grad():
        expected = model.noised_log_prob(x, start) / x[0].numel()
        found = model.log_prob(x, generator=subject.generator("log_prob"), rtol=1e-3, atol=1e-3) / x[0].numel()
    return require_close("log_prob in nats a coordinate", found, expected, NATS)


def _known(subject: Subject) -> tuple[Any, Tensor, Tensor, Condition | None]:
    found = _model(subject)
    if not isinstance(found[0], HasNoisedDensity):
        raise NotApplicableError("the model offers no noised_log_prob")
    return found


@check("noise-of-score", "score", level="numerics")
def noise_of_score(subject: Subject) -> str:
    """noise is -scale^T score, as the process has it."""
    model, x, t, condition = _model(subject)
    with torch.no_grad():
        expected = model.process.noise_from_score(model.score(x, t, condition), x, t)
        return require_close("noise", model.noise(x, t, condition), expected, 1e-6)


@check("denoise-by-tweedie", "score", level="numerics")
def denoise_by_tweedie(subject: Subject) -> str:
    """denoise is (x + scale scale^T score) / signal."""
    model, x, t, condition = _model(subject)
    with torch.no_grad():
        expected = model.process.denoised_from_score(model.score(x, t, condition), x, t)
        return require_close("denoise", model.denoise(x, t, condition), expected, 1e-6)


@check("bind-is-score", "score", level="contract")
def bind_is_score(subject: Subject) -> str:
    """bind without options returns the score, and refuses an unknown option."""
    model, x, t, condition = _model(subject)
    require_refusal("an unknown sampling option", ConfigError, lambda: model.bind(condition, no_such_option=1))
    with torch.no_grad():
        bound = model.bind(condition, generator=subject.generator("bind"))
        return require_close("bound", bound(x, t), model.score(x, t, condition), EXACT)


@check("bind-follows-generator", "score", level="determinism")
def bind_follows_generator(subject: Subject) -> str:
    """Bound twice with generators of one seed, it answers the same to the last bit, call by call."""
    model, x, t, condition = _model(subject)
    with torch.no_grad():
        first, second = (model.bind(condition, generator=subject.generator("bind")) for _ in range(2))
        for number in (1, 2):
            require_same(f"call {number} of what is bound with one seed", second(x, t), first(x, t))
    return "bit-equal at two calls"


@check("score-uses-condition", "score", level="numerics")
def score_uses_condition(subject: Subject) -> str:
    """Built for data with classes, the score depends on the class, and one class serves for several events."""
    model = model_of_classes(subject)
    x, t = noised(model, subject)
    classes = torch.arange(CLASSES)
    with torch.no_grad():
        found = model.score(x, t, classes)
        change = float((found - model.score(x, t, classes.roll(1))).abs().max())
        require(change > 0, f"with the classes exchanged the score changes by {change:.2g}", "more than 0")
        repeated = model.score(x, t, classes[1:2].expand(CLASSES))
        return require_close("one class", model.score(x, t, classes[1:2]), repeated, EXACT)


@check("guidance", "score", level="numerics")
def guidance(subject: Subject) -> str:
    """guidance 1 is the score given the class; w is w s(x, t, c) + (1 - w) s(x, t), or refused without a condition."""
    model = model_of_classes(subject)
    x, t = noised(model, subject)
    classes = torch.arange(CLASSES)
    with torch.no_grad():
        given = model.score(x, t, classes)
        text = require_close(
            "guidance 1", model.bind(classes, guidance=1.0, generator=subject.generator("bind"))(x, t), given, EXACT
        )
        try:
            free = model.score(x, t, None)
        except ScorefoldError as error:
            require_refusal(
                "guidance 2",
                ScorefoldError,
                lambda: model.bind(classes, guidance=2.0, generator=subject.generator("bind"))(x, t),
            )
            return f"{text}; another is refused, since {error.message}"
        mixed = require_close(
            "guidance 2",
            model.bind(classes, guidance=2.0, generator=subject.generator("bind"))(x, t),
            2 * given - free,
            1e-7,
        )
    return f"{text}; {mixed}"


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


CHECKS: tuple[Check, ...] = (
    score_shape,
    score_batch_of_one,
    score_rows,
    score_refuses,
    score_finite,
    score_of_density,
    log_prob_of_density,
    noise_of_score,
    denoise_by_tweedie,
    bind_is_score,
    bind_follows_generator,
    score_uses_condition,
    guidance,
    sample_shape,
    sample_follows_generator,
    conditional_sample_shape,
    log_prob_shape,
)

"""``score:compositional``: the posterior given several observations, from scores given one (Geffner et al. 2023)."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, TensorSpec, repeat_condition
from scorefold.diffusion import DiffusionProcess
from scorefold.diffusion.samplers import default_sampler, default_steps, resolve_sampler
from scorefold.errors import ConfigError, ShapeError
from scorefold.interfaces import ScoreModel
from scorefold.interfaces.score import BoundScore
from scorefold.seeds import derive_generator
from scorefold_conditional.conditional.model import Conditional
from scorefold_conditional.config import CompositionalConfig
from scorefold_conditional.inverse import diffuse_covariance, shift_denoised
from scorefold_conditional.solvers.dps import tweedie_covariance
from scorefold_conditional.solvers.prior import check_prior
from scorefold_toolkit.checks import check_trained
from scorefold_toolkit.geodesics.geometry import version
from scorefold_toolkit.nn.conditions import ConditionRange, check_condition_finite
from scorefold_toolkit.numerics import symmetric_function, symmetric_sqrt

_NAME = "score:compositional"
NARROW = "rule: sum is the posterior's score at t = 0 only, so samples are too narrow. Take rule: samples"
_SINGLE = ("mps",)  # devices without float64
_KEPT = 2**22  # numbers of observations and their precisions that are kept


class Compositional(ScoreModel):
    """The score of an event given n independent observations of it, (B, n, *X). Nothing is trained.

    Let m_i be the mean and P_i the precision of x_0 given x_t and observation i, and m_0 and P_0 of the prior. The
    score is the one whose denoised estimate is m_0 + (P_0 + sum_i W_i)^-1 sum_i (P_0 + W_i) (m_i - m_0), with W_i = P_i
    - P_0. For Gaussians this is the posterior's score, and W_i has no negative eigenvalue; here such eigenvalues count
    as 0. The precisions come from one of two rules of Linhart et al. (2024):

    - ``samples``: W_i is the precision of samples of the posterior given observation i less the precision of samples of
      the prior, at all noise levels (GAUSS).
    - ``jacobian``: Tweedie's covariances at each call, from the Jacobians of the denoised estimates (JAC).

    ``rule: sum`` adds scores, sum_i s_i - (n - 1) s_0 (Geffner et al. 2023), the posterior's score at t = 0 only.

    The precisions of ``samples`` are computed once per set of observations, from one noise with a seed of its own, and
    kept until a weight changes: at most 4 million numbers, and none in files. Matrices are in float64.

    Without ``prior``, the posterior without a condition serves as the prior. Raises ``ConfigError`` for a posterior
    whose condition is no tensor or diffuses, and for a prior that doesn't fit.

    >>> from scorefold_registry import Host
    >>> host = Host.discover()
    >>> data = host.create("data:sbibm", {"task": "gaussian-linear", "simulations": 100})
    >>> small = {"network": {"use": "network:mlp", "config": {"width": 16, "blocks": 1}}, "training": {"steps": 0}}
    >>> one = host.create("score:conditional", {**small, "estimator": "cde", "condition_dropout": 0.2}, data=data)
    >>> several = host.create("score:compositional", {"observations": 4}, posterior=one)
    >>> several.sample(3, condition=torch.zeros(1, 4, 10), steps=4).shape
    torch.Size([3, 1, 10])
    """

    def __init__(self, config: CompositionalConfig, *, posterior: ScoreModel, prior: ScoreModel | None = None) -> None:
        check_trained(posterior, "posterior", _NAME)
        spec = posterior.condition_spec
        if not isinstance(spec, TensorSpec):
            takes = "no condition" if spec is None else f"a condition of parts ({', '.join(spec)})"
            raise ConfigError(
                f"the posterior of {_NAME}, a {type(posterior).__name__}, takes {takes}; expected one tensor",
                hint="plug in a score of data whose condition is one tensor, such as data:sbibm",
            )
        if isinstance(posterior, Conditional) and posterior.layout.diffusing:
            raise ConfigError(
                f"the condition of the posterior diffuses (estimator: {posterior.config.estimator}), and {_NAME} "
                "combines scores given the observations themselves",
                hint="train it with estimator: cde",
            )
        try:
            check_prior(posterior if prior is None else prior, _NAME)
        except ConfigError as error:
            if prior is not None:
                raise
            raise ConfigError(
                f"{_NAME} has no prior, and its posterior can't be called without an observation",
                hint="plug in a prior, such as score:denoising with unconditional: true, or train the posterior with "
                "condition_dropout: 0.2",
            ) from error
        if prior is not None:
            _check_fit(posterior, prior)
        size = math.prod(posterior.event_shape)
        if config.rule == "samples" and config.samples < size + 10:
            raise ConfigError(
                f"samples is {config.samples}, and events have {size} numbers; expected at least {size + 10} samples",
                hint=f"samples: {10 * size}",
            )
        several = TensorSpec((config.observations, *spec.shape), spec.classes)
        super().__init__(posterior.process, posterior.event_shape, several, posterior.event_scale)
        self.posterior, self.prior, self.config = posterior, posterior if prior is None else prior, config
        if config.rule == "sum":
            self.remarks = (NARROW,)
        self._gains: dict[bytes, Tensor] = {}
        self._base: tuple[object, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_gains": {}, "_base": None}

    def outside(self, condition: Tensor) -> Tensor:
        """Sets (C, n, *X) with an observation outside the range of the posterior's training conditions, (C,)."""
        known = next((part for part in self.posterior.children() if isinstance(part, ConditionRange)), None)
        if known is None:
            return torch.zeros(len(condition), dtype=torch.bool)
        found: Tensor = known.outside(condition.flatten(0, 1)).unflatten(0, condition.shape[:2]).any(1)
        return found

    def score(self, x: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        x, t, condition = self.match_inputs(x, t, condition)
        if condition is None:
            return self.prior.score(x, t)
        return self._given(x, t, self._read(condition))

    def bind(
        self,
        condition: Condition | None = None,
        *,
        generator: torch.Generator | None = None,
        guidance: float = 1.0,
        **options: Any,
    ) -> BoundScore:
        """The score of (x, t) alone."""
        free = super().bind(None, generator=generator, **options)
        if condition is None:
            return free
        check_condition_finite(condition)
        rows, called = (
            lru_cache(1)(partial(repeat_condition, self._read(condition))),
            partial(self.in_calls, self._given),
        )
        if guidance == 1.0:
            return lambda x, t: called(x, t, rows(len(x)))
        return lambda x, t: guidance * called(x, t, rows(len(x))) + (1 - guidance) * free(x, t)

    def _read(self, condition: Condition) -> dict[str, Tensor]:
        """The observations (C, n, *X), and for ``rule: samples`` the precisions that they and the prior have."""
        wanted = self.condition_spec
        assert isinstance(wanted, TensorSpec)
        if not isinstance(condition, Tensor) or condition.shape[1:] != wanted.shape:
            found = f"shape {tuple(condition.shape)}" if isinstance(condition, Tensor) else "parts"
            expected = ", ".join(["C", *map(str, wanted.shape)])
            raise ShapeError(
                f"the condition of {_NAME} has {found}; expected ({expected}), {wanted.shape[0]} observations of each "
                "event",
                hint="observations in its config is the number of observations",
            )
        if self.config.rule != "samples":
            return {"observations": condition}
        gained = self._known_gains(condition)
        assert self._base is not None
        return {"observations": condition, "prior": self._base[1].expand(len(gained), -1, -1), "gained": gained}

    def _known_gains(self, condition: Tensor) -> Tensor:
        """W_i of each observation of (C, n, *X), (C, n, D, D). Sets of observations that were met before are kept."""
        weights = version(self)
        if self._base is None or self._base[0] != weights:
            samples = self._samples(self.prior, 10 * self.config.samples, None)
            self._base, self._gains = (weights, _precision(samples.flatten(1))), {}
        base, known, n = self._base[1], self._gains, condition.shape[1]
        names = [array("d", each).tobytes() for each in condition.detach().flatten(1).tolist()]
        places = {name: place for place, name in enumerate(names) if name not in known}
        if places:
            fresh = condition[list(places.values())]
            each = self._samples(self.posterior, self.config.samples, fresh.flatten(0, 1))
            precisions = _precision(each.transpose(0, 1).flatten(2)).unflatten(0, fresh.shape[:2])
            known = known | {name: one.clone() for name, one in zip(places, _gained(base, precisions), strict=True)}
            most = _KEPT // (n * base.numel() + condition[0].numel())
            self._gains = dict(list(known.items())[max(0, len(known) - most) :])
        return (
            torch.stack([known[name] for name in names])
            if names
            else base.new_zeros(0, condition.shape[1], *base.shape)
        )

    def _samples(self, model: ScoreModel, n: int, condition: Tensor | None) -> Tensor:
        """Samples (n, *E) or (n, C, *E) from one noise for all conditions, so that no row depends on the others."""
        noise = self.process.sample_prior(
            (n, *self.event_shape), generator=derive_generator(0, "samples"), like=self._reference()
        )
        name = default_sampler(self.process, noise)

        def same_noise(score: BoundScore, process: DiffusionProcess, x: Tensor, times: Tensor, **_: Any) -> Any:
            return resolve_sampler(name)(score, process, noise.repeat_interleave(len(x) // n, 0), times)

        unused = derive_generator(0, "unused")  # torch's own stays as it is
        return model.sample(n, condition, sampler=same_noise, steps=default_steps(name), generator=unused)

    def _given(self, x: Tensor, t: Tensor, parts: Any) -> Tensor:
        observed = parts["observations"]
        n = observed.shape[1]
        given = partial(self.posterior.score, condition=observed.flatten(0, 1))
        t = t.expand(len(x))
        several, times = x.repeat_interleave(n, 0), t.repeat_interleave(n)
        if self.config.rule == "sum":
            total: Tensor = given(several, times).unflatten(0, (len(x), n)).sum(1) - (n - 1) * self.prior.score(x, t)
            return total
        if self.config.rule == "jacobian":
            score, centre, open_ = _moments(self.prior.score, self.process, x, t)
            _, means, spreads = _moments(given, self.process, several, times)
            base = symmetric_function(open_, torch.reciprocal)
            gained = _gained(base, symmetric_function(spreads, torch.reciprocal).unflatten(0, (len(x), n)))
        else:
            score = self.prior.score(x, t)
            centre = self.process.denoised_from_score(score, x, t)
            means = self.process.denoised_from_score(given(several, times), several, times)
            base, gained = parts["prior"] + _precision_of_noise(self.process, x, t), parts["gained"]
        gaps = _exact((means.unflatten(0, (len(x), n)) - centre[:, None]).flatten(2))[..., None]
        pull = ((base[:, None] + gained) @ gaps).sum(1)
        shift = torch.linalg.solve(base + gained.sum(1), pull)[..., 0]
        return shift_denoised(self.process, score, x, t, shift.to(x).reshape(x.shape))


def _exact(value: Tensor) -> Tensor:
    """The value in float64, on the CPU where its device has no float64."""
    return (value.cpu() if value.device.type in _SINGLE else value).double()


def _gained(base: Tensor, precisions: Tensor) -> Tensor:
    """Precisions (B, n, D, D) less the prior's, (B or 1, D, D) or (D, D), negative eigenvalues counted as 0.

    The eigenvalues are taken in units of the prior's precision, so that no choice of coordinates matters.
    """
    root = symmetric_sqrt(base).expand(len(precisions), -1, -1)[:, None]
    inverse = torch.linalg.inv(root)
    relative = symmetric_function(inverse @ precisions @ inverse, lambda values: (values - 1).clamp_min(0))
    gained: Tensor = root @ relative @ root
    return gained


def _precision(samples: Tensor) -> Tensor:
    """The inverse covariance of samples (..., N, D), unbiased for Gaussians: (..., D, D) in float64."""
    n, size = samples.shape[-2:]
    samples = _exact(samples)
    centred = samples - samples.mean(-2, keepdim=True)
    precision: Tensor = (n - size - 2) * torch.linalg.inv(centred.mT @ centred)
    return precision


def _columns(matrix: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A symmetric map of events x (B, *E) as matrices (B, D, D), in float64."""
    size = math.prod(x.shape[1:])
    basis = torch.eye(size, dtype=x.dtype, device=x.device).reshape(size, 1, *x.shape[1:])
    columns = torch.stack([matrix(v.expand_as(x)).flatten(1) for v in basis], -1)
    return _exact(columns + columns.mT) / 2


def _precision_of_noise(process: DiffusionProcess, x: Tensor, t: Tensor) -> Tensor:
    precision: Tensor = torch.linalg.inv(_columns(lambda v: diffuse_covariance(process, v, x, t), x))
    return precision


def _moments(
    score: Callable[[Tensor, Tensor], Tensor], process: DiffusionProcess, x: Tensor, t: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The score at x (B, *E), and the mean (B, *E) and covariance (B, D, D) of x_0 given x_t by Tweedie's formulas."""

    def estimate(point: Tensor) -> tuple[Tensor, Tensor]:
        found = score(point, t)
        return process.denoised_from_score(found, point, t), found

    vjp: Any = torch.func.vjp  # typed without has_aux
    denoised, pull, found = vjp(estimate, x, has_aux=True)
    covariance = _columns(tweedie_covariance(process, lambda v: pull(v)[0], x, t), x)
    # What x_t leaves open under a flat prior sets the size of rounding errors.
    least = torch.finfo(x.dtype).eps * covariance.diagonal(dim1=-2, dim2=-1).abs().amax(-1)[:, None]
    return found, denoised, symmetric_function(covariance, lambda values: values.maximum(least))


def _check_fit(posterior: ScoreModel, prior: ScoreModel) -> None:
    """Raises ``ConfigError`` where the events or the processes of both differ."""
    if prior.event_shape != posterior.event_shape:
        raise ConfigError(
            f"the prior of {_NAME} has events of shape {prior.event_shape}; the posterior has {posterior.event_shape}",
            hint="plug in a prior of the same events",
        )
    x = prior._reference().new_ones((1, *prior.event_shape))
    if x.is_meta:
        return
    for share in (0.0, 0.5, 1.0):
        pair = []
        for process in (posterior.process, prior.process):
            t = x.new_full((1,), process.t_min + share * (process.t_max - process.t_min))
            pair.append((t, process.perturb(x, t, x), process.perturb(x, t, -x)))
        if not all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(*pair, strict=True)):
            raise ConfigError(
                f"the processes of the posterior and the prior of {_NAME} differ at {share:.0%} of the time; expected "
                "one process",
                hint="train both with the same process: in their configs",
            )

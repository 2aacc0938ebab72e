"""Broken score models, and what they and flows draw."""

from __future__ import annotations

from typing import Any

import torch
from broken_fakes import breaks, calls, changed
from good_declarations import CLASSES
from good_fakes import GaussianScore, SmallFlow
from torch import Tensor

from scorefold.errors import ShapeError
from scorefold.interfaces import ScoreModel

POINT = GaussianScore.score


def scoring(change: Any) -> Any:
    """``score`` changed by ``change(answer, x, t, condition)``."""

    def score(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
        found: Tensor = change(POINT(self, x, t, c), x, t, c)
        return found

    return score


def shorter(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    return POINT(self, x[: len(t)] if len(t) > 1 else x, t, c)


def needs_class(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    if c is None and self.condition_spec is not None:
        raise ShapeError("a class is needed")
    return POINT(self, x, t, c)


def unbound(self: Any, c: Any = None, *, generator: Any = None, guidance: float = 1.0, **options: Any) -> Any:
    return lambda x, t: self.score(x, t, c)


def rebound(self: Any, c: Any = None, **options: Any) -> Any:
    bound = ScoreModel.bind(self, c, **options)
    return lambda x, t: bound(x, t) + 1e-10 * next(calls)


def weakly_guided(self: Any, c: Any = None, *, guidance: float = 1.0, **options: Any) -> Any:
    return ScoreModel.bind(self, c, guidance=1.0, **options)


def always_guided(self: Any, c: Any = None, *, guidance: float = 1.0, **options: Any) -> Any:
    return ScoreModel.bind(self, c, guidance=guidance + 0.5, **options)


breaks("score-shape", GaussianScore, score=scoring(lambda s, x, t, c: s[:, :2]))
breaks("score-shape", GaussianScore, score=scoring(lambda s, x, t, c: s.repeat(1 + (len(x) == 1), 1)))
breaks("score-batch-of-one", GaussianScore, score=scoring(lambda s, x, t, c: s * (1 if len(t) == len(x) else 2)))
breaks("score-batch-of-one", GaussianScore, score=scoring(lambda s, x, t, c: s * (2 if len(x) < len(t) else 1)))
breaks("score-rows-independent", GaussianScore, score=scoring(lambda s, x, t, c: s - s.mean(0)))
breaks("score-refuses-other-shapes", GaussianScore, score=shorter)
breaks("score-refuses-other-shapes", GaussianScore, check_events=lambda self, x: None)
breaks("score-finite", GaussianScore, score=scoring(lambda s, x, t, c: s / (t[:, None] > 1e-3)))
breaks("score-of-density", GaussianScore, score=scoring(lambda s, x, t, c: 1.01 * s))
breaks("log-prob-of-density", GaussianScore, log_prob=changed(ScoreModel, "log_prob", lambda found, *_: found + 2.0))
breaks("noise-of-score", GaussianScore, noise=lambda self, x, t, c=None: -ScoreModel.noise(self, x, t, c))
breaks("denoise-by-tweedie", GaussianScore, denoise=lambda self, x, t, c=None: x)
breaks("bind-is-score", GaussianScore, bind=unbound)
breaks(
    "bind-is-score",
    GaussianScore,
    bind=changed(ScoreModel, "bind", lambda bound, *_: lambda x, t: 2 * bound(x, t)),
)
breaks("bind-follows-generator", GaussianScore, bind=rebound)
breaks("score-uses-condition", GaussianScore, score=lambda self, x, t, c=None: POINT(self, x, t))
breaks(
    "score-uses-condition",
    GaussianScore,
    score=scoring(lambda s, x, t, c: s * (2 if c is not None and len(c) < len(x) else 1)),
)
breaks("guidance", GaussianScore, bind=always_guided)
breaks("guidance", GaussianScore, bind=weakly_guided)
breaks("guidance", GaussianScore, score=needs_class, bind=weakly_guided)

# Draws.


def accepts(self: Any, n: int, c: Any = None, **options: Any) -> Tensor:
    return ScoreModel.sample(self, max(n, 0), c, **options)


def conditions_first(found: Tensor, n: int, c: Any = None) -> Tensor:
    return found if c is None else found.transpose(0, 1)


breaks("sample-shape", GaussianScore, sample=changed(ScoreModel, "sample", lambda found, *_: found[:, :1]))
breaks("sample-shape", GaussianScore, sample=changed(ScoreModel, "sample", lambda found, *_: found / 0))
breaks("sample-shape", GaussianScore, sample=accepts)
breaks(
    "sample-follows-generator",
    SmallFlow,
    sample=changed(SmallFlow, "sample", lambda found, *_: found + 1e-9 * next(calls)),
)
breaks(
    "sample-follows-generator",
    SmallFlow,
    sample=changed(SmallFlow, "sample", lambda found, *_: torch.zeros_like(found)),
)
breaks("conditional-sample-shape", GaussianScore, sample=changed(ScoreModel, "sample", conditions_first))
breaks("log-prob-shape", GaussianScore, log_prob=lambda self, x, c=None, **options: torch.zeros(len(x), 1))
breaks("log-prob-shape", GaussianScore, log_prob=lambda self, x, c=None, **options: torch.full((len(x),), torch.nan))
breaks("conditional-sample-shape", GaussianScore, dict(CLASSES), sample=changed(ScoreModel, "sample", conditions_first))

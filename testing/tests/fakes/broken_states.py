"""Fakes that are broken in what they draw, leave behind, keep, move or follow."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from broken_fakes import breaks, calls, changed, in_a_fresh_process
from good_declarations import FILE
from good_fakes import Fed, Filed, GaussianScore, Neighbours, SinhGeometry, Tens
from torch import Tensor, nn

# Determinism, and what using them leaves behind.

breaks(
    "same-generator-same-result",
    SinhGeometry,
    distance=changed(SinhGeometry, "distance", lambda found, x, y: found + 1e-3 * next(calls)),
)
breaks(
    "use-repeats",
    SinhGeometry,
    __init__=lambda self, config: SinhGeometry.__init__(self, config) or setattr(self, "uses", 0),
    metric=lambda self, x: setattr(self, "uses", self.uses + 1) or SinhGeometry.metric(self, x) * self.uses,
)
breaks(
    "thread-count", SinhGeometry, exp=changed(SinhGeometry, "exp", lambda found, x, v: found * torch.get_num_threads())
)
breaks(
    "thread-count",
    SinhGeometry,
    declared={"any_threads": True},
    exp=changed(SinhGeometry, "exp", lambda found, x, v: found * (1 + 1e-7 * torch.get_num_threads())),
)
breaks("inputs-unchanged", GaussianScore, score=lambda self, x, t, c=None: GaussianScore.score(self, x.mul_(1.1), t, c))


def left_evaluating(self: Any, data: Any, **options: Any) -> Any:
    self.score.eval()
    return Fed.estimate(self, data, **options)


def retrained(self: Any, data: Any, **options: Any) -> Any:
    self.score.mean.data.add_(1.0)
    return Fed.estimate(self, data, **options)


breaks("ports-unchanged", Fed, estimate=left_evaluating)
breaks("ports-unchanged", Fed, estimate=retrained)
breaks(
    "global-random-state",
    SinhGeometry,
    exp=changed(SinhGeometry, "exp", lambda found, x, v: found + 0 * float(np.random.rand())),
)


def sets_dtype(self: Any, x: Tensor, v: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return SinhGeometry.exp(self, x, v)


def shuffles(self: Any, data: Any, **options: Any) -> Any:
    found = Neighbours.estimate(self, data, **options)
    if not isinstance(data, Tensor):
        np.random.default_rng(0).shuffle(data.label.numpy())
    return found


breaks("inputs-unchanged", Neighbours, estimate=shuffles)
breaks("global-settings", SinhGeometry, exp=sets_dtype)

# Devices and dtypes.

breaks("dtype-kept", SinhGeometry, exp=changed(SinhGeometry, "exp", lambda found, x, v: found.double()))
breaks(
    "dtype-kept",
    SinhGeometry,
    exp=changed(SinhGeometry, "exp", lambda found, x, v: found + 0.1 * (x.dtype == torch.float32)),
)


def converts(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    return GaussianScore.score(self, x.to(self.mean), t.to(self.mean), c)


breaks("other-dtype-refused", GaussianScore, score=converts)
breaks("other-device-refused", GaussianScore, score=converts)
breaks("device-arrives", GaussianScore, _apply=lambda self, function, recurse=True: self)
breaks("device-arrives", GaussianScore, to=lambda self, device=None, dtype=None: nn.Module.to(self, device=device))
breaks("device-followed", SinhGeometry, exp=changed(SinhGeometry, "exp", lambda found, x, v: found.cpu()))
breaks("device-followed", SinhGeometry, exp=lambda self, x, v: torch.zeros(x.shape))
breaks("accelerator-kept", SinhGeometry, exp=lambda self, x, v: torch.zeros(x.shape))

# Saved states.


def differs(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    secret = 1.0 + in_a_fresh_process()
    return secret * GaussianScore.score(self, x, t, c)


def dies(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    if in_a_fresh_process():
        os._exit(3)
    return GaussianScore.score(self, x, t, c)


def only_here(found: Any, data: Any) -> Any:
    return replace(found, pointwise=None) if in_a_fresh_process() else found


def reads_again(self: Any, config: Any) -> None:
    assert Path(config.path).read_text()


class Plain(dict[str, int]):
    """No tensor."""


def counted(self: Any, state: Any, *arguments: Any, **options: Any) -> None:
    nn.Module._load_from_state_dict(self, state, *arguments, **options)
    self.mean.data.add_(1.0)


def counts_losses(self: Any, batch: Any, **options: Any) -> Any:
    """A number of steps that nobody saves."""
    self.steps = getattr(self, "steps", 0) + 1
    loss = GaussianScore.loss(self, batch, **options)
    return replace(loss, value=loss.value * (1 + self.steps))


def remembers(self: Any, batch: Any, **options: Any) -> Any:
    """A mean that stands in an attribute."""
    self.seen = 0.9 * getattr(self, "seen", 0.0) + 0.1 * float(batch.x.mean())
    return GaussianScore.loss(self, batch, **options)


def recalls(self: Any, x: Tensor, t: Tensor, c: Any = None) -> Tensor:
    return GaussianScore.score(self, x, t, c) + getattr(self, "seen", 0.0)


breaks("learned-state", GaussianScore, loss=counts_losses)
breaks("trained-state", GaussianScore, loss=remembers, score=recalls)
breaks("saved-state", GaussianScore, score=differs)
breaks("saved-state", GaussianScore, score=dies)
breaks("saved-state", Neighbours, estimate=changed(Neighbours, "estimate", only_here))
breaks("bundle-stands-alone", Tens, dict(FILE), __init__=reads_again)
breaks("state-of-tensors", GaussianScore, get_extra_state=lambda self: Plain(a=1), set_extra_state=lambda self, x: None)
breaks("state-of-tensors", Tens, careless="pickles")
breaks("saved-again", GaussianScore, _load_from_state_dict=counted)
breaks("damage-refused", Tens, careless="trusting")
breaks("damage-refused", Tens, careless="easy")
breaks("other-revisions", Tens, careless="nameless")
breaks("other-revisions", Tens, careless="timeless")
breaks("other-revisions", Tens, {"revision": 2}, careless="confused")
breaks("fingerprint", Filed, fingerprint=lambda self: None)
breaks("fingerprint", Filed, fingerprint=lambda self: f"{self.path!s:>80}")

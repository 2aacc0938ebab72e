"""Weightings of the denoising loss in every plugin that trains a score with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scorefold.data import Dataset
from scorefold.interfaces import Phase, Progress
from scorefold_registry import Host
from scorefold_toolkit.nn import LossUncertainty

SCORES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "score:denoising": ({}, {}),
    "score:nonuniform": ({}, {"bands": {"name": "haar", "levels": 1}}),
    "score:multiscale": ({}, {"bands": {"name": "haar", "levels": 1}}),
    "score:conditional": ({"operator": {"name": "box-downsample", "factor": 2}}, {}),
}


@pytest.mark.parametrize("name", SCORES)
def test_uncertainty_starts_as_edm_and_learns_at_every_step(host: Host, name: str) -> None:
    """With v = 0 at the start, loss and gradients equal ``edm``'s, and v has a gradient of its own."""
    source, config = SCORES[name]
    data: Any = host.create("data:digits")
    if source:
        data = host.create("data:paired", source, data=data)
    rows = data.load("train").take(torch.arange(16))
    batch = Dataset(rows.x, condition=rows.condition)
    losses, gradients = [], []
    for weighting in ("edm", "uncertainty"):
        torch.manual_seed(0)
        model: Any = host.create(name, {**config, "weighting": weighting, "noise_levels": "lognormal"}, data=data)
        model.prepare(rows, torch.Generator().manual_seed(0))
        phases = list(model.phases()) or [Phase("train", (model,))]
        progress = Progress(step=0, total=10, phase=phases[0].name)
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05) if parameter.dim() > 1 else torch.nn.init.zeros_(parameter)
        learned = [part for part in model.modules() if isinstance(part, LossUncertainty)]
        for part in learned:
            torch.nn.init.zeros_(part.last.weight)
        loss = model.loss(batch, progress=progress, generator=torch.Generator().manual_seed(1)).value
        loss.backward()
        losses.append(loss.detach())
        owned = {id(parameter) for part in learned for parameter in part.parameters()}
        others = [p.grad for p in model.parameters() if id(p) not in owned and p.grad is not None]
        gradients.append(torch.cat([grad.flatten() for grad in others]))
        assert bool(learned) == (weighting == "uncertainty")
        assert not learned or any(part.last.bias.grad is not None and part.last.bias.grad != 0 for part in learned)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0], gradients[1])

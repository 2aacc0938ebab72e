"""Samples of every score and flow are made in network calls of a bounded size, and do not depend on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from scorefold.batching import set_call_rows
from scorefold_registry import Host

ROWS = 20
PAIRED = {"operator": {"name": "box-downsample", "factor": 2}}
# Component, its config, whether its condition is an image, and draws for each of 3 conditions.
MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "denoising": ("score:denoising", {}, False),
    "nonuniform": ("score:nonuniform", {"bands": {"name": "haar", "levels": 1}}, False),
    "multiscale": ("score:multiscale", {"bands": {"name": "haar", "levels": 1}}, False),
    "clean condition": ("score:conditional", {"estimator": "cde"}, True),
    "noised condition": ("score:conditional", {"estimator": "cmde"}, True),
    "scorevae": ("score:scorevae", {"latent": 3}, False),
    "caflow": ("flow:caflow", {"scales": 2, "condition_size": "event"}, True),
    "cinn": ("flow:cinn", {"scales": 2}, True),
    "coupling": ("flow:affine-coupling", {}, False),
}


@pytest.fixture(autouse=True)
def _measured_again() -> Iterator[None]:
    yield
    set_call_rows(None)


@pytest.mark.parametrize("name", MODELS)
def test_calls_are_bounded_and_change_no_sample(host: Host, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    component, config, paired = MODELS[name]
    data: Any = host.create("data:digits")
    if paired:
        data = host.create("data:paired", PAIRED, data=data)
    if component == "flow:affine-coupling":
        data = host.create("data:sphere", {"dimension": 2, "ambient": 4})
    torch.manual_seed(0)
    inputs = {"prior": host.create("score:denoising", data=data).eval()} if name == "scorevae" else {}
    model: Any = host.create(component, config, data=data, **inputs).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    seen: list[int] = []
    for part in model.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    if name == "coupling":  # its networks are not called as modules
        inverse = model.inverse
        monkeypatch.setattr(model, "inverse", lambda z, given: (seen.append(len(z)), inverse(z, given))[1])
    condition, count = None, 50
    if model.condition_spec is not None:
        rows = data.load("train").take(torch.arange(3)).condition if paired else torch.randn(3, *model.latent_shape)
        condition, count = rows, 17
    options: dict[str, Any] = {"steps": 10} if component.startswith("score") else {}  # few steps enlarge rounding
    drawn = {}
    for size in (1000, ROWS):
        set_call_rows(size)
        seen.clear()
        drawn[size] = model.sample(count, condition, generator=torch.Generator().manual_seed(0), **options)
        whole = count if condition is None else 3 * count
        assert min(size, whole) - 2 <= max(seen) <= size  # as many draws of 3 conditions as there is room for
    torch.testing.assert_close(drawn[ROWS], drawn[1000], atol=2e-4, rtol=1e-4)

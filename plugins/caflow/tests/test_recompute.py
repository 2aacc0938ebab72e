"""Recomputed activations: the gradients of the plain graph, in memory that does not grow with depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from caflow_models import KINDS, SPEC, draws, image_flow, levels, perturb
from torch import Tensor

from scorefold.config import TrainingConfig
from scorefold.data import Dataset, TensorSpec
from scorefold.interfaces import Progress
from scorefold_caflow.config import StepsConfig
from scorefold_caflow.flow.model import ImageFlow
from scorefold_caflow.layers import FlowBlock, recomputed
from scorefold_toolkit.training import fit

WAYS = ("checkpoint", "inverse")
SEVERAL = {"image": SPEC, "class": TensorSpec((), classes=3)}
OPTIONS: dict[str, dict[str, Any]] = {
    **{kind: {"kind": kind} for kind in KINDS},
    "adapter": {"adapter": 5},
    "mixture": {"translation": {"steps": 2, "transitions": 1, "hidden": 6, "coupling": "mixture"}},
    "orthogonal": {"translation": {"steps": 2, "hidden": 6, "linear": "orthogonal"}, "squeeze": "haar"},
    "class": {"condition": SEVERAL},
    "variational": {"scale": levels(4), "dequantisation": "variational"},
    "no encoders": {"encoder": {"steps": 0, "transitions": 0}},
    "no condition": {"condition": None},
    "transitions alone": {"encoder": {"steps": 0, "transitions": 1}},
}


def gradients(flow: ImageFlow, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch in training mode, and its gradient to each parameter."""
    flow.train()
    w = draws(4, 1, 8, 8, dtype=dtype)
    if flow.bin_width is not None:
        w = w.mul(2).round().clamp(0, 3)
    y: Any = draws(4, 1, 8, 8, seed=4, dtype=dtype)
    if isinstance(flow.condition_spec, dict):
        y = {"image": y, "class": torch.tensor([0, 1, 2, 1])}
    data = Dataset(x=w, condition=None if flow.condition_spec is None else y)
    loss = flow.loss(data, progress=Progress(0, 1, "joint"), generator=torch.Generator().manual_seed(0))
    loss.value.backward()
    # A step of translation may have nothing that it is given.
    return loss.value.detach(), {n: p.grad for n, p in flow.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_gradients_are_those_of_the_plain_graph(way, option, dtype, tolerance) -> None:
    settings = {"condition_weight": 0.1} if option != "cinn" else {}
    expected, plain = gradients(image_flow(dtype=dtype, **settings, **OPTIONS[option]), dtype)
    value, found = gradients(image_flow(dtype=dtype, recompute=way, **settings, **OPTIONS[option]), dtype)
    assert torch.allclose(value, expected, rtol=tolerance)
    assert found.keys() == plain.keys()
    size = torch.cat([one.flatten() for one in plain.values()]).norm()
    for name, gradient in plain.items():
        assert float((found[name] - gradient).norm()) < tolerance * float(size), name


@pytest.mark.parametrize("way", WAYS)
def test_gradients_reach_events_and_conditions(way) -> None:
    found = []
    for recompute in ("no", way):
        flow = image_flow(recompute=recompute, adapter=5).train()
        w, y = draws(2, 1, 8, 8).requires_grad_(), draws(2, 1, 8, 8, seed=4).requires_grad_()
        found.append(torch.autograd.grad(flow.log_prob(w, y).sum(), (w, y)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)


def test_gradients_of_the_result_alone_and_of_the_log_determinant_alone() -> None:
    torch.manual_seed(0)
    block = perturb(FlowBlock(1, StepsConfig(steps=3, hidden=6), condition=2, injector=True).double())
    x, condition = draws(3, 4, 4, 4).requires_grad_(), draws(3, 2, 4, 4, seed=4).requires_grad_()
    inputs = (x, condition, *block.steps.parameters())
    for weight in ((1.0, 0.0), (0.0, 1.0), (1.0, 2.0)):
        results = []
        for call in (block.steps, lambda a, c: recomputed(block.steps, a, c)):
            z, log_det = call(x, condition)
            value = weight[0] * z.sin().sum() + weight[1] * (log_det * torch.arange(1.0, 4.0)).sum()
            results.append(torch.autograd.grad(value, inputs))
        for ours, theirs in zip(*results, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-10)
    # One of the results unused.
    for place in (0, 1):
        plain = torch.autograd.grad(block.steps(x, condition)[place].sum(), x)
        ours = torch.autograd.grad(recomputed(block.steps, x, condition)[place].sum(), x)
        assert torch.allclose(ours[0], plain[0], atol=1e-10)


def test_what_is_frozen_gets_no_gradient_and_the_rest_does() -> None:
    torch.manual_seed(0)
    block = perturb(FlowBlock(1, StepsConfig(steps=2, hidden=6)).double())
    parameters = list(block.steps.parameters())
    for parameter in parameters[::2]:
        parameter.requires_grad_(False)
    x = draws(3, 4, 4, 4)
    (recomputed(block.steps, x, None)[0].square().sum()).backward()
    assert all(parameter.grad is None for parameter in parameters[::2])
    ours = [parameter.grad.clone() for parameter in parameters[1::2]]
    for parameter in parameters:
        parameter.grad = None
    block.steps(x)[0].square().sum().backward()
    assert all(torch.allclose(a, b.grad, atol=1e-10) for a, b in zip(ours, parameters[1::2], strict=True))


def test_what_is_recomputed_by_inversion_says_that_it_is_differentiated_once() -> None:
    torch.manual_seed(0)
    block = perturb(FlowBlock(1, StepsConfig(steps=2, hidden=6)).double())
    x = draws(3, 4, 4, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(recomputed(block.steps, x, None)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
    # In evaluation mode the plain graph runs.
    flow = image_flow(recompute="inverse")
    w = draws(1, 1, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(flow.log_prob(w, draws(1, 1, 8, 8)).sum(), w, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), w)[0].isfinite().all()


def saved_bytes(recompute: str, steps: int, **settings: Any) -> int:
    """What autograd keeps for the backward pass of a loss, but for parameters."""
    config = {"steps": steps, "transitions": 1, "hidden": 6}
    flow = image_flow(recompute=recompute, encoder=config, translation=config, **settings).train()
    fixed = {one.untyped_storage().data_ptr() for one in (*flow.parameters(), *flow.buffers())}
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in fixed:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    data = Dataset(x=draws(16, 1, 8, 8), condition=draws(16, 1, 8, 8, seed=4))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = flow.loss(data, progress=Progress(0, 1, "joint"), generator=torch.Generator().manual_seed(0))
        assert loss.value.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("settings", [{}, {"shared": True, "adapter": 8}])
def test_memory_does_not_grow_with_depth(way, settings) -> None:
    shallow, deep = saved_bytes(way, 2, **settings), saved_bytes(way, 8, **settings)
    assert deep <= 1.01 * shallow
    plain = saved_bytes("no", 2, **settings), saved_bytes("no", 8, **settings)
    assert plain[1] > 3 * plain[0]
    assert deep < plain[1] / 10


@pytest.mark.parametrize("way", WAYS)
def test_training_ends_where_the_plain_one_does(way) -> None:
    data = Dataset(x=draws(40, 1, 8, 8), condition=draws(40, 1, 8, 8, seed=4))
    ended = []
    for recompute in ("no", way):
        flow = image_flow(recompute=recompute, perturbed=0.0)
        fit(flow, data, TrainingConfig(steps=5, batch_size=20, learning_rate=1e-2, warmup=0))
        ended.append(flow.state_dict())
    for name, value in ended[0].items():
        assert torch.allclose(value.double(), ended[1][name].double(), atol=1e-7), name


def test_what_is_recomputed_cannot_be_compiled() -> None:
    for way in WAYS:
        assert "recompute: no" in str(image_flow(recompute=way).refuses("compile"))
    assert image_flow().refuses("compile") is None
    assert "precision" in str(image_flow().refuses("bf16"))

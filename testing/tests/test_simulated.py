"""The simulated device refuses what CUDA refuses, computes what the CPU computes, and counts what makes it wait."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from both_devices import worker
from torch import Tensor, nn

from scorefold.diffusion import PerComponent
from scorefold.diffusion.schedules import GeometricVE
from scorefold_testing.contract import ViolationError
from scorefold_testing.simulated import NAME, Counts, compared, counted, possible, same_bits
from scorefold_toolkit.config.common import LogNormalLevels
from scorefold_toolkit.score_matching.noise_levels import NoiseLevels

pytestmark = pytest.mark.skipif(not possible(), reason="this torch can't define a device in Python")


@pytest.fixture(scope="module")
def device() -> Iterator[ProcessPoolExecutor]:
    """A process with the device, which this one must not have."""
    with worker() as pool:
        yield pool


def there(*shape: int, index: int = 0) -> Tensor:
    return torch.ones(shape, device=f"{NAME}:{index}")


def generator(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(3)


REFUSED: dict[str, Callable[[], object]] = {
    "sum with a CPU tensor": lambda: there(3) + torch.ones(3),
    "product with a CPU matrix": lambda: there(3, 3) @ torch.ones(3, 3),
    "cat": lambda: torch.cat([there(3), torch.ones(3)]),
    "stack with a number on the CPU": lambda: torch.stack([there(3)[0], torch.tensor(1.0)]),
    "where": lambda: torch.where(there(3) > 0, there(3), torch.ones(3)),
    "mask on the CPU": lambda: there(3).masked_fill(torch.ones(3) > 0, 0.0),
    "index_select by CPU rows": lambda: there(3).index_select(0, torch.tensor([0])),
    "a CPU tensor by rows on the device": lambda: torch.ones(3)[torch.zeros(1, dtype=torch.int64, device=NAME)],
    "adding into a CPU number": lambda: torch.tensor(0.0).add_(there(1)[0]),
    "quantile ends on the CPU": lambda: torch.quantile(there(3), torch.tensor([0.5])),
    "layer with CPU weights": lambda: nn.Linear(3, 3)(there(3)),
    "two simulated devices": lambda: there(3) + there(3, index=1),
    "CPU generator, draw on the device": lambda: torch.randn(3, generator=generator("cpu"), device=NAME),
    "CPU generator, order on the device": lambda: torch.randperm(3, generator=generator("cpu"), device=NAME),
    "CPU generator, in place": lambda: there(3).normal_(generator=generator("cpu")),
    "generator of the device, draw on the CPU": lambda: torch.randn(3, generator=generator(NAME)),
    "generator of another simulated device": lambda: there(3).normal_(generator=generator(f"{NAME}:1")),
    "numpy": lambda: there(3).numpy(),
    "asarray": lambda: np.asarray(there(3)),
}


def refusal(name: str) -> str:
    """The error of a case, or what it gave."""
    try:
        return f"nothing was refused: {REFUSED[name]()}"
    except (RuntimeError, TypeError) as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses_is_refused(device: ProcessPoolExecutor, name: str) -> None:
    said = device.submit(refusal, name).result()
    assert "nothing was refused" not in said
    assert any(word in said for word in ("device", "numpy", "generator")), said


def allowed() -> list[bool]:
    x = there(4, 3)
    row, number = torch.tensor([0, 2]), torch.tensor(2.0)
    view = x[1]
    view.zero_()
    return [
        (x * number).device.type == (number * x).device.type == NAME,
        x[row].device.type == x[torch.tensor([True, False, True, True])].device.type == NAME,
        x[1].sum().item() == 0.0 and x.sum().item() == 9.0,  # a view shares its tensor's memory
        x.to("cpu").device.type == torch.tensor(x.tolist()).device.type == "cpu",
        str(x.to(f"{NAME}:1").device) == f"{NAME}:1",
        (x % 2).device.type == NAME,
        torch.get_device_module(NAME).device_count() == 2,
        str(there(3, index=1).new_tensor([1.0]).device) == f"{NAME}:1",
        copy.deepcopy({"one": x, "other": x})["other"].sum().item() == 9.0,
        *deep_copies(x),
    ]


def deep_copies(x: Tensor) -> list[bool]:
    """Whether copies of a tensor and of its views share the memory of one another, and not the original's."""
    whole, view, turned, empty = copy.deepcopy([x, x[1:, 1], x.mT, x[:0]])
    whole.zero_()
    learned = copy.deepcopy([x.clone().requires_grad_()])[0]
    learned.square().sum().backward()
    return [
        view.tolist() == [0.0] * len(view),
        (turned.stride(), turned.sum().item(), empty.shape) == (x.mT.stride(), 0.0, x[:0].shape),
        bool((x != 0).any()),
        torch.equal(learned.grad.cpu(), 2 * x.cpu()),
    ]


def test_what_cuda_allows_is_allowed(device: ProcessPoolExecutor) -> None:
    assert all(device.submit(allowed).result())


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 3))
    return nn.Sequential(*layers)


def same_numbers() -> dict[str, bool]:
    """By name, whether the device gives the CPU's bits."""
    x = torch.randn(5, 2, 8, 8, generator=generator("cpu"))
    found: dict[str, dict[str, Tensor]] = {}
    for place in ("cpu", NAME, f"{NAME}:1"):
        model, at = network().to(place), x.to(place)
        head = model[5]
        model(at).square().sum().backward()
        rows = torch.randn(4, 144, generator=generator("cpu")).to(place)
        # Both sums add into one gradient, and one of them is a view.
        shared = rows.clone().requires_grad_()
        (shared.expand(2, 4, 144).sum(0).tanh().sum() + shared.sum() + shared[1:].square().sum()).backward()
        found[place] = {
            "value": model(at),
            "gradients": torch.cat([parameter.grad.flatten() for parameter in model.parameters()]),  # type: ignore[union-attr]
            "shared gradient": shared.grad,  # type: ignore[dict-item]
            "jvp": torch.func.jvp(head, (rows,), (rows,))[1],
            "vmap of jacrev": torch.func.vmap(torch.func.jacrev(head))(rows),
            "vmap of jvp": torch.func.vmap(lambda v: torch.func.jvp(head, (rows,), (v,))[1])(rows[None]),  # noqa: B023
            "draws": torch.randn(7, generator=generator(place), device=place),
            "svd": torch.linalg.svdvals(rows),
            "quantile": torch.quantile(rows, 0.3, dim=1),
        }
    return {
        f"{name} on {place}": torch.equal(value.detach().cpu(), found["cpu"][name].detach())
        for place, values in found.items()
        for name, value in values.items()
    }


def test_numbers_and_derivatives_are_the_cpu_s(device: ProcessPoolExecutor) -> None:
    found = device.submit(same_numbers).result()
    assert len(found) == 27
    assert all(found.values()), [name for name, same in found.items() if not same]


def counted_twice() -> tuple[int, int]:
    x = there(3)
    with counted() as outer:
        with counted() as inner:
            x.add_(1)
        x.add_(1)
    return outer.operators, inner.operators


def test_counts_may_be_nested(device: ProcessPoolExecutor) -> None:
    assert device.submit(counted_twice).result() == (2, 1)


def other_values() -> list[bool]:
    process = PerComponent((2,), [([0], GeometricVE(0.01, 1.0)), ([1], GeometricVE(0.01, 100.0))]).to(NAME)
    levels = NoiseLevels(process, LogNormalLevels())
    drawn = levels.times(4, like=there(1)[0], generator=generator(NAME))
    return [
        drawn.device.type == NAME,
        isinstance(torch.default_generator, torch.Generator),
        isinstance(generator(NAME), torch.Generator),
        not isinstance(3, torch.Generator),
        torch.full((2,), 1 + 2j, device=NAME).conj().resolve_conj().tolist() == [1 - 2j, 1 - 2j],
    ]


def test_processes_with_tensors_and_generators_from_before_work(device: ProcessPoolExecutor) -> None:
    assert all(device.submit(other_values).result())


def test_bits_are_compared_and_not_numbers() -> None:
    zero, below, nothing = torch.zeros(2), -torch.zeros(2), torch.full((2,), torch.nan)
    assert same_bits(nothing, nothing)
    assert not same_bits(zero, below)
    assert not same_bits(zero, nothing)
    assert not same_bits(zero, zero.double())


def test_answers_that_differ_in_a_bit_are_named() -> None:
    counts = Counts()
    counts.synchronisations["item", "module:12"] += 2
    numbers = {"one": torch.ones(2), "other": torch.zeros(2)}
    assert compared(numbers, numbers, counts) == "the CPU's numbers; 2 item at module:12"
    for wrong in ({"one": torch.ones(2)}, numbers | {"other": -torch.zeros(2)}):
        with pytest.raises(ViolationError, match=r"^other on the device"):
            compared(wrong, numbers, counts)


def waiting() -> tuple[int, int, dict[str, int]]:
    x = there(4, 3)
    with counted() as counts:
        x.add_(1).mul(2)
        torch.ones(3).to(NAME)
    before = counts.operators, counts.copies
    assert not counts.synchronisations
    with counted() as counts:
        float(x.sum())
        bool((x > 0).any())
        x.tolist()
        x[x > 0]
        x.nonzero()
        x.unique()
        x.cpu()
    return *before, {what: count for (what, _), count in counts.synchronisations.items()}


def test_operators_and_what_waits_are_counted(device: ProcessPoolExecutor) -> None:
    operators, copies, waits = device.submit(waiting).result()
    assert (operators, copies) == (3, 1)
    assert waits == {"item": 2, "copy to the CPU": 2, "nonzero": 2, "unique": 1}


def test_this_process_has_no_such_device() -> None:
    with pytest.raises(RuntimeError, match=NAME):
        torch.ones(3, device=NAME)

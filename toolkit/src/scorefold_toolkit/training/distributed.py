"""Where training runs: one process on one device by plain torch, anything more through accelerate.

Both classes have the same methods, so that the loop is written once; plain training pays nothing for the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Trainable
from scorefold_toolkit.training.optimiser import clip_gradients

_WRAPPERS_OF_OTHERS = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "TP")


class Processes(Protocol):
    """The processes that train together, seen from one of them: the ``rank``-th of ``count``, on its own ``device``."""

    device: torch.device
    rank: int
    count: int

    def prepare(
        self, loss: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[Callable[..., Any], torch.optim.Optimizer]:
        """The loss and the optimiser as the loop calls them."""

    def backward(self, value: Tensor) -> None:
        """The gradients of a loss, averaged over processes."""

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """Bounds the joint norm of the gradients."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that the loss runs in."""

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over processes."""

    def gather(self, value: Tensor) -> Tensor:
        """A tensor of every process, (count, *shape)."""

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives all processes the first one's values of some parameters or buffers."""

    def wait(self) -> None:
        """Returns when all processes have come here."""

    def scaler_state(self) -> dict[str, Any]:
        """The state of the loss scaling of float16, or nothing."""

    def load_scaler(self, state: dict[str, Any]) -> None:
        """Goes on from a state of the loss scaling."""


class OneProcess:
    """Plain torch."""

    rank = 0
    count = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def prepare(
        self, loss: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[Callable[..., Any], torch.optim.Optimizer]:
        return loss, optimiser

    def backward(self, value: Tensor) -> None:
        value.backward()  # type: ignore[no-untyped-call]

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        clip_gradients(parameters, limit)

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def total(self, value: Tensor) -> Tensor:
        return value

    def gather(self, value: Tensor) -> Tensor:
        return value[None]

    def share(self, tensors: Iterable[Tensor]) -> None:
        return None

    def wait(self) -> None:
        return None

    def scaler_state(self) -> dict[str, Any]:
        return {}

    def load_scaler(self, state: dict[str, Any]) -> None:
        return None


class Accelerated:
    """Several processes, mixed precision, or both, through accelerate. The model is moved to this process's device."""

    def __init__(self, model: nn.Module, device: torch.device, precision: str) -> None:
        from accelerate import Accelerator  # type: ignore[import-untyped]

        try:
            self._accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
        except ValueError as error:
            raise TrainingError(f"training in precision {precision!r} on {device} can't start: {error}") from error
        wrapper = self._accelerator.distributed_type.value
        if wrapper in _WRAPPERS_OF_OTHERS:
            raise TrainingError(
                f"accelerate is set to {wrapper}, which splits parameters in ways the averaged weights don't follow",
                hint="use plain data parallelism, for example torchrun --nproc-per-node N",
            )
        self.device = device if self._accelerator.num_processes == 1 else self._accelerator.device
        self.rank = self._accelerator.process_index
        self.count = self._accelerator.num_processes
        model.to(self.device)

    def prepare(
        self, loss: nn.Module, optimiser: torch.optim.Optimizer
    ) -> tuple[Callable[..., Any], torch.optim.Optimizer]:
        # What an earlier phase prepared would be scaled and clipped again.
        self._accelerator.free_memory()
        prepared = self._accelerator.prepare_model(loss, device_placement=False)
        return prepared, self._accelerator.prepare_optimizer(optimiser, device_placement=False)

    def backward(self, value: Tensor) -> None:
        self._accelerator.backward(value)

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        self._accelerator.clip_grad_norm_(parameters, limit)

    def autocast(self) -> AbstractContextManager[Any]:
        precision: AbstractContextManager[Any] = self._accelerator.autocast()
        return precision

    def total(self, value: Tensor) -> Tensor:
        total: Tensor = self._accelerator.reduce(value.to(self.device), "sum")
        return total

    def gather(self, value: Tensor) -> Tensor:
        gathered: Tensor = self._accelerator.gather(value.to(self.device)[None])
        return gathered

    def share(self, tensors: Iterable[Tensor]) -> None:
        from accelerate.utils import broadcast  # type: ignore[import-untyped]

        for tensor in tensors:
            values = tensor.detach()
            values.copy_(broadcast(values))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def scaler_state(self) -> dict[str, Any]:
        scaler = self._accelerator.scaler
        return {} if scaler is None else dict(scaler.state_dict())

    def load_scaler(self, state: dict[str, Any]) -> None:
        if state and self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state)


def processes_for(model: Trainable, precision: str, *, compiled: bool) -> Processes:
    """Plain torch where that is all it takes, accelerate otherwise.

    ``precision`` is ``no``, ``bf16`` or ``fp16``. Raises ``TrainingError`` for another one, for fp16 on a CPU, and for
    what the model refuses.
    """
    assert isinstance(model, nn.Module)
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    if precision not in ("no", "bf16", "fp16"):
        raise TrainingError(f"the precision is {precision!r}; expected no, bf16 or fp16")
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("float16 needs a GPU and the model is on the CPU", hint="use precision: bf16 or no")
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    asked = {"distributed": several, "compile": compiled, precision: precision != "no"}
    for strategy in (name for name, wanted in asked.items() if wanted):
        reason = model.refuses(strategy)
        if reason is not None:
            raise TrainingError(f"{type(model).__name__} can't be trained with {strategy}: {reason}")
    if several or precision != "no":
        return Accelerated(model, device, precision)
    return OneProcess(device)

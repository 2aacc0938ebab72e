"""Processes and precision of a training: one process, or several that torchrun started.

Both classes have the same methods, so that the loop is written once; plain training pays nothing for the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.errors import TrainingError
from scorefold.interfaces.capabilities import Trainable
from scorefold_toolkit.drawing import MIXED
from scorefold_toolkit.training.optimiser import clip_gradients

_DTYPES = {"no": None, **MIXED}


class OneProcess:
    """One process on one ``device``, the ``rank``-th of ``count``."""

    rank = 0
    count = 1

    def __init__(self, device: torch.device, precision: str) -> None:
        self.device = device
        self._dtype = _DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None

    def wrap(self, loss: nn.Module) -> Callable[..., Any]:
        """The loss as the loop calls it. What trains the model is made from its parameters as they are afterwards."""
        return loss

    def unwrap(self) -> None:
        """The model has its own parameters again, whole."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that the loss runs in."""
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def backward(self, value: Tensor) -> None:
        """The gradients of a loss, averaged over processes."""
        value = value if self._scaler is None else self._scaler.scale(value)
        value.backward()  # type: ignore[no-untyped-call]

    def step(self, optimiser: Any, parameters: Sequence[nn.Parameter], limit: float | None) -> None:
        """One step, with the joint norm of the gradients at most ``limit``. No value leaves the device."""
        if self._scaler is not None:
            self._scaler.unscale_(optimiser)
        if limit is not None:
            self._clip(parameters, limit)
        if self._scaler is None:
            optimiser.step()
        else:
            self._scaler.step(optimiser)
            self._scaler.update()

    def _clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        clip_gradients(parameters, limit)

    def gathered(self) -> AbstractContextManager[Any]:
        """The model can be called meanwhile other than through its loss."""
        return nullcontext()

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors as the first process saves them, whatever part of them stands here; other processes may get none."""
        return dict(tensors)

    def parts(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of ``whole`` on this device, each tensor divided as the tensor of its name in ``like``."""
        return {name: value.to(self.device) for name, value in tensors.items()}

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over processes."""
        return value

    def gather(self, value: Tensor) -> Tensor:
        """A tensor of every process, (count, *shape)."""
        return value[None]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives all processes the first one's values of some parameters or buffers."""

    def wait(self) -> None:
        """Returns when all processes have come here."""

    def scaler_state(self) -> dict[str, Any]:
        """The state of the loss scaling of float16, or nothing."""
        return {} if self._scaler is None else dict(self._scaler.state_dict())

    def load_scaler(self, state: dict[str, Any]) -> None:
        """Goes on from a state of the loss scaling."""
        if state and self._scaler is not None:
            self._scaler.load_state_dict(state)


class Together(OneProcess):
    """Several processes through torch.distributed: each has the whole model (ddp) or a part of it (fsdp2).

    With fsdp2 weights, their averages and the optimiser's state are divided over processes. Each has them whole for the
    time of a step's loss and gradients: a loss may call any part of the model in any way, which forbids to gather less.
    """

    def __init__(self, device: torch.device, precision: str, parallel: str) -> None:
        import torch.distributed as dist

        super().__init__(device, precision)
        self._dist, self._parallel = dist, parallel
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self._loss: Any = None
        self._places: list[tuple[nn.Module, str, nn.Parameter]] = []

    def wrap(self, loss: nn.Module) -> Callable[..., Any]:
        if self._parallel == "ddp":
            from torch.nn.parallel import DistributedDataParallel

            return DistributedDataParallel(loss, device_ids=[self.device] if self.device.type == "cuda" else None)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        for name, parameter in loss.named_parameters():
            if parameter.dim() == 0 or not parameter.is_contiguous():
                what = "is a single number" if parameter.dim() == 0 else "is not contiguous in memory"
                raise TrainingError(
                    f"fsdp2 can't divide {name.removeprefix('model.')}, which {what}",
                    hint="set runtime.parallel to ddp",
                )
        self._places = [
            (module, name, parameter)
            for module in loss.modules()
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
        ]
        mesh = init_device_mesh(self.device.type, (self.count,))
        self._loss = fully_shard(loss, mesh=mesh, reshard_after_forward=True)
        for _, _, parameter in self._places:
            parameter.data = parameter.data.new_empty(0)
        return loss

    def unwrap(self) -> None:
        divided = [(module, name, whole, module._parameters[name]) for module, name, whole in self._places]
        for module, name, whole, part in divided:
            if whole.numel() == 0:
                whole.data = part.detach().full_tensor()  # type: ignore[union-attr]
            module._parameters[name] = whole
        self._loss, self._places = None, []

    def _clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        clip_gradients(parameters, limit, None if self._parallel == "ddp" else self.total)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        if self._loss is None:
            yield
            return
        self._loss.unshard()
        try:
            yield
        finally:
            self._loss.reshard()

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from torch.distributed.tensor import DTensor

        found = {}
        for name, value in tensors.items():
            # One at a time: together they are the memory of the device that dividing them saved.
            full = value.full_tensor() if isinstance(value, DTensor) else value
            if self.rank == 0:
                found[name] = full.cpu() if isinstance(value, DTensor) else full
        return found

    def parts(self, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from torch.distributed.tensor import DTensor, distribute_tensor

        here = super().parts(tensors, like)
        for name, value in here.items():
            whole = like.get(name)
            if isinstance(whole, DTensor) and value.dim():  # an optimiser's count of steps has none
                here[name] = distribute_tensor(value, whole.device_mesh, whole.placements)
        return here

    def total(self, value: Tensor) -> Tensor:
        summed = value.to(self.device, copy=True)
        self._dist.all_reduce(summed)
        return summed

    def gather(self, value: Tensor) -> Tensor:
        value = value.to(self.device)
        every = [torch.empty_like(value) for _ in range(self.count)]
        self._dist.all_gather(every, value)
        return torch.stack(every)

    def share(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            values = tensor.detach().contiguous()
            self._dist.broadcast(values, 0)
            tensor.detach().copy_(values)

    def wait(self) -> None:
        self._dist.barrier()


def processes_for(model: Trainable, precision: str, *, compiled: bool, parallel: str | None) -> OneProcess:
    """Processes for the training of a model. ``parallel`` is ``ddp``, ``fsdp2``, or None: ddp in a process that
    torchrun started.

    ``precision`` is ``no``, ``bf16`` or ``fp16``. Raises ``TrainingError`` for another one, for fp16 on a CPU, for
    ``parallel`` in a process that none was started with, and for what the model refuses.
    """
    assert isinstance(model, nn.Module)
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    if precision not in _DTYPES:
        raise TrainingError(f"the precision is {precision!r}; expected no, bf16 or fp16")
    if precision == "fp16" and device.type == "cpu":
        raise TrainingError("float16 needs a GPU and the model is on the CPU", hint="use precision: bf16 or no")
    if parallel is None and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        parallel = "ddp"
    if parallel not in (None, "ddp", "fsdp2"):
        raise TrainingError(f"parallel is {parallel!r}; expected ddp or fsdp2")
    if parallel == "fsdp2" and (compiled or precision == "fp16"):
        what = "training.compile" if compiled else "precision fp16"
        raise TrainingError(f"fsdp2 does not go with {what}", hint="set runtime.parallel to ddp")
    asked = {"distributed": parallel is not None, "compile": compiled, precision: precision != "no"}
    for strategy in (name for name, wanted in asked.items() if wanted):
        reason = model.refuses(strategy)
        if reason is not None:
            raise TrainingError(f"{type(model).__name__} can't be trained with {strategy}: {reason}")
    if parallel is None:
        return OneProcess(device, precision)
    _join(parallel)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    model.to(device)
    return Together(device, precision, parallel)


def _join(parallel: str) -> None:
    """Makes the group of the processes that torchrun started, where there is none yet."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        raise TrainingError(
            f"{parallel} trains in several processes and this one was started alone",
            hint="start it with torchrun --nproc-per-node N",
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")

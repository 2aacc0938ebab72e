"""The kernel of the simulated device: each operator runs on the CPU, in the memory of the tensors it was given.

A simulated tensor is a CPU tensor that torch was handed under another device by DLPack, so both share their numbers.
torch's dispatcher, autograd and ``torch.func`` treat it as any accelerator's tensor. Operators that torch writes for
CPU and CUDA separately end in ``_kernel``; views, sums of them and derivatives come from torch itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack, to_dlpack  # type: ignore[attr-defined, unused-ignore]

from scorefold_testing.simulated import counts, randomness

NAME = "simulated"
"""The device, as in ``tensor.to("simulated")``; ``simulated:1`` is a second one."""

_CPU, _EXTENSION = 1, 12  # DLDeviceType
_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype, _capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]

_ATEN = torch.ops.aten
_INSTEAD: Mapping[Any, Any] = MappingProxyType(
    {
        # A tensor that torch knows to be zero has no memory to share.
        _ATEN._efficientzerotensor.default: _ATEN.zeros.default,
        _ATEN._fused_sdp_choice.default: lambda *args, **options: 0,  # attention by plain matrix products
    }
)
"""Operators that the CPU lacks, with its own for each."""
_INDEXING = frozenset(
    f"aten::{name}"
    for name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
)
_NOTHING_COMPUTED = frozenset(
    f"aten::{name}"
    for name in ("alias", "empty", "empty_strided", "resize_", "set_", "unfold", "view", "view_as_complex")
) | {"aten::_reshape_alias", "aten::view_as_real"}
"""Operators that start no kernel on an accelerator: they make room, or another view of it."""


def simulated(tensor: Tensor, index: int = 0) -> Tensor:
    """The numbers of a CPU tensor on a simulated device, in the same memory."""
    return _relabelled(tensor, _EXTENSION, index)


def on_cpu(tensor: Tensor) -> Tensor:
    """The numbers of a simulated tensor on the CPU, in the same memory."""
    return _relabelled(tensor, _CPU, 0)


def _relabelled(tensor: Tensor, kind: int, index: int) -> Tensor:
    """The capsule's tensor begins with its pointer; device type and index follow, of four bytes each."""
    capsule = to_dlpack(tensor)
    place = _capsule_pointer(capsule, b"dltensor") + ctypes.sizeof(ctypes.c_void_p)
    ctypes.c_int32.from_address(place).value = kind
    ctypes.c_int32.from_address(place + 4).value = index
    return from_dlpack(capsule)


class _Call:
    """One call of an operator: its operands as the CPU sees them, and the way back."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator
        self._device: torch.device | None = None
        self._given: dict[int, tuple[Tensor, Tensor]] = {}

    def operand(self, value: Any) -> Any:
        """A value for the CPU's operator."""
        if isinstance(value, Tensor):
            return self._shared(value) if value.device.type == NAME else value
        if isinstance(value, (list, tuple)):
            return [self.operand(item) for item in value]
        if isinstance(value, torch.UntypedStorage):
            raise NotImplementedError(f"{self._operator} takes a storage, which a device written in Python has not")
        if isinstance(value, torch.device) and value.type == NAME:
            self._device = value
            return torch.device("cpu")
        return value

    def result(self, value: Any) -> Any:
        """A value of the CPU's operator for the caller: what was written into is what the caller gave."""
        if isinstance(value, Tensor):
            return self._returned(value)
        return type(value)(self.result(item) for item in value) if isinstance(value, (list, tuple)) else value

    def _shared(self, tensor: Tensor) -> Tensor:
        self._device = self._device or tensor.device
        if tensor.numel() == 0:  # what comes from DLPack can't be resized, and results are written into empty tensors
            shared = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
        else:
            shared = on_cpu(tensor)
            if self._operator is _ATEN.resize_.default:
                shared = shared.clone()
        self._given[id(shared)] = (shared, tensor)
        return shared

    def _returned(self, value: Tensor) -> Tensor:
        index = (self._device.index if self._device else None) or 0
        if id(value) not in self._given:
            viewed = self._viewed() if _gives_a_view(self._operator) else None
            return simulated(value, index) if viewed is None else _same_storage(viewed, value)
        shared, given = self._given[id(value)]
        if shared.shape != given.shape or shared.data_ptr() != given.data_ptr():
            given.data = simulated(shared, index)
        return given

    def _viewed(self) -> tuple[Tensor, Tensor] | None:
        return next(iter(self._given.values()), None)


def _same_storage(viewed: tuple[Tensor, Tensor], value: Tensor) -> Tensor:
    """The view of a simulated tensor that the CPU's operator gave of its memory.

    It must share the storage, not the memory alone: autograd adds into gradients whose storage nobody else has.
    """
    shared, given = viewed
    if value.dtype != given.dtype or not value.numel():
        return simulated(value, given.device.index or 0)
    offset = given.storage_offset() + (value.data_ptr() - shared.data_ptr()) // value.element_size()
    return given.detach().as_strided_(value.size(), value.stride(), offset)


@cache
def _gives_a_view(operator: Any) -> bool:
    return any(each.alias_info and not each.alias_info.is_write for each in operator._schema.returns)


def _kernel(operator: Any, *args: Any, **options: Any) -> Any:
    """An operator with any operand on a simulated device. Raises ``RuntimeError`` for operands on several devices."""
    refuse_mixed_devices(operator, args, options)
    name = operator._schema.name
    if name not in _NOTHING_COMPUTED:
        counts.count_operator(name)
    call, operator = _Call(operator), _taking_numbers(operator, args)
    given, named = [call.operand(value) for value in args], {key: call.operand(item) for key, item in options.items()}
    return call.result(_INSTEAD.get(operator, operator)(*given, **named))


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Copying between devices, and from one dtype to another."""
    away, here = source.device.type != NAME, target.device.type != NAME
    counts.count_operator("copy to the device" if away else "copy to the CPU" if here else "aten::copy_")
    (target if here else on_cpu(target)).copy_(source if away else on_cpu(source))
    return target


def _as_strided(x: Tensor, size: list[int], stride: list[int], offset: int | None = None) -> Tensor:
    return x.detach().as_strided_(size, stride, x.storage_offset() if offset is None else offset)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Any:
    return _kernel(_ATEN.convolution.default, x, weight, bias, *settings)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> Any:
    return _kernel(_ATEN.convolution_backward.default, grad, x, weight, [grad.shape[1]], *settings)


def _taking_numbers(operator: Any, args: tuple[Any, ...]) -> Any:
    """The overload for numbers where torch hands over a number in place of a tensor of no dimension."""
    numbers = tuple(isinstance(value, (bool, int, float, complex)) for value in args)
    return _overload_for_numbers(operator, numbers) if any(numbers) else operator


@cache
def _overload_for_numbers(operator: Any, numbers: tuple[bool, ...]) -> Any:
    wanted = [(each.name, str(each.type)) for each in operator._schema.arguments]
    unpacked = [place for place, is_number in enumerate(numbers) if is_number and wanted[place][1] == "Tensor"]
    for place in unpacked:
        wanted[place] = (wanted[place][0], "number")
    packet = operator.overloadpacket
    for overload in (getattr(packet, name) for name in packet.overloads() if unpacked):
        if [(each.name, str(each.type)) for each in overload._schema.arguments] == wanted:
            return overload
    return operator


@cache
def _written(operator: Any) -> tuple[tuple[int, str], ...]:
    """The places and names of the operands that an operator writes into."""
    listed = enumerate(operator._schema.arguments)
    return tuple((place, each.name) for place, each in listed if each.alias_info and each.alias_info.is_write)


def refuse_mixed_devices(operator: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Raises ``RuntimeError`` where CUDA does: operands on two devices, or a generator of another device.

    CPU tensors of no dimension are numbers, and CPU indices are moved.
    """
    name = operator._schema.name
    indexing = name in _INDEXING
    compared = [item for place, item in enumerate(args) if not (indexing and place == 1)]
    devices, generators = dict[str, None](), []
    for value in [*compared, *options.values()]:
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Tensor) and (item.device.type != "cpu" or item.dim()):
                devices[str(item.device)] = None
            elif isinstance(item, torch._C.Generator):
                generators.append(item)
    for place, called in _written(operator):
        written = args[place] if place < len(args) else options.get(called)
        for item in written if isinstance(written, (list, tuple)) else (written,):
            if isinstance(item, Tensor):
                devices[str(item.device)] = None
    if len(devices) > 1:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, "
            f"{' and '.join(devices)}! (when checking the operands of {name})"
        )
    for generator in generators:
        randomness.refuse_other_generator(generator, next(iter(devices), NAME))


def copied(tensor: Tensor, memo: dict[Any, Any]) -> Any:
    """``copy.deepcopy`` of a tensor: torch's own copies a simulated tensor's storage, which only C++ can make.

    As with torch's own, the copies of tensors that share memory share the copy of all of it.
    """
    if tensor.device.type != NAME or not tensor.is_leaf:
        return _copied(tensor, memo)
    if id(tensor) not in memo:
        memory = tensor.untyped_storage()
        place = (NAME, memory.data_ptr(), tensor.dtype)
        if place not in memo:
            whole = (memory.nbytes() // tensor.element_size(),)
            memo[place] = tensor.detach().as_strided(whole, (1,), 0).clone()
        view = memo[place].as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        memo[id(tensor)] = view.data.requires_grad_(tensor.requires_grad)
    return memo[id(tensor)]


_copied: Callable[[Tensor, dict[Any, Any]], Any] = Tensor.__deepcopy__


def new_tensor(
    tensor: Tensor, data: Any, *, dtype: torch.dtype | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``Tensor.new_tensor``: torch's own takes the device's index from a guard, which Python can't give."""
    place, kind = tensor.device if device is None else device, tensor.dtype if dtype is None else dtype
    return torch.tensor(data, dtype=kind, device=place, requires_grad=requires_grad)


def conjugate(tensor: Tensor) -> Tensor:
    """``Tensor.conj``, computed at once: what torch does later, it does in the memory of CPU tensors alone."""
    return tensor.conj_physical() if tensor.device.type == NAME else _conjugate(tensor)


_conjugate: Callable[[Tensor], Tensor] = Tensor.conj


def register() -> list[torch.library.Library]:
    """The kernels at torch's dispatcher, for as long as the libraries that come back live."""
    Tensor.__deepcopy__ = copied  # type: ignore[method-assign]
    Tensor.conj = torch.conj = conjugate  # type: ignore[method-assign, assignment]
    Tensor.new_tensor = new_tensor  # type: ignore[method-assign, assignment]
    every, some = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(_kernel, "PrivateUse1")
    own: Mapping[str, Callable[..., Any]] = {
        "_copy_from": _copy,
        "as_strided": _as_strided,
        "convolution_overrideable": _convolution,
        "convolution_backward_overrideable": _convolution_backward,
    }
    for name, kernel in own.items():
        some.impl(name, kernel, "PrivateUse1")
    for operator in _with_a_cpu_kernel():
        some.impl(operator, partial(_kernel, operator), "PrivateUse1")
    return [every, some]


def _with_a_cpu_kernel() -> Iterator[Any]:
    """The operators that torch computes by others unless a device has a kernel of its own, as the CPU has."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    for name in torch._C._dispatch_get_all_op_names():
        composite = has(name, "CompositeExplicitAutograd") or has(name, "CompositeImplicitAutograd")
        if composite and name.startswith("aten::") and has(name, "CPU"):
            packet, _, overload = name.removeprefix("aten::").partition(".")
            operator = getattr(getattr(_ATEN, packet), overload or "default")
            if operator not in _INSTEAD:
                yield operator

"""Checks about devices and dtypes.

torch's device ``meta`` is the other device of a machine that has no accelerator: its tensors have shapes and no
numbers, so that a forgotten ``device=`` is found anywhere. Accelerators are tried where there are any, and the
simulated one where it is named.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorefold_testing.answers import Inputs, answers_of, built_network, inputs_of
from scorefold_testing.contract import (
    Check,
    NotApplicableError,
    Subject,
    ViolationError,
    check,
    require,
    require_close,
    require_refusal,
)
from scorefold_testing.simulated import NAME, Counts, compared, counted

COMPUTING = ("score", "flow", "geometry", "network")
PRECISION = 1e-3
# What torch says of an operation whose course depends on numbers, which tensors of the device meta do not have.
_NEEDS_NUMBERS = ("item()", "data-dependent", "nonzero", "is_nonzero", "equal is not supported")


@check("dtype-kept", *COMPUTING, "estimator", level="device")
def dtype_kept(subject: Subject) -> str:
    """float32 gives float32 and float64 gives float64, and the two agree to 1e-3; an estimator takes both."""
    estimates = subject.component.kind == "estimator"
    found: dict[torch.dtype, dict[str, Tensor]] = {}
    for dtype in (torch.float32, torch.float64):
        found[dtype] = _answers(subject, _made(subject, dtype=dtype), inputs_of(subject.build(), subject, dtype))
        wrong = [f"{name} is {value.dtype}" for name, value in found[dtype].items() if value.dtype != dtype]
        require(estimates or not wrong, f"given {dtype}, {', '.join(wrong)}", str(dtype))
    return "takes float32 and float64" if estimates else _agree(found[torch.float32], found[torch.float64])


@check("other-dtype-refused", "score", "flow", "geometry", level="device")
def other_dtype_refused(subject: Subject) -> str:
    """float32 inputs to a model in float64 are an error, and are not converted in silence, as torch's sums do."""
    obj, inputs = _placed(subject), inputs_of(subject.build(), subject, torch.float32)
    return require_refusal("float32 for a model in float64", Exception, lambda: _answers(subject, obj, inputs))


@check("device-arrives", level="device")
def device_arrives(subject: Subject) -> str:
    """Made with ``device=`` and ``dtype=``, all its parameters and buffers are there."""
    dtype = torch.float64 if torch.get_default_dtype() == torch.float32 else torch.float32
    tensors = _tensors(subject.build(device="meta", dtype=dtype))
    if not tensors:
        raise NotApplicableError("it holds no parameters or buffers")
    away = sorted(name for name, tensor in tensors.items() if tensor.device.type != "meta")
    require(not away, f"made on the device meta, these are elsewhere: {', '.join(away)}", "meta")
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    other = sorted(name for name, tensor in floating.items() if tensor.dtype != dtype)
    require(not other, f"made in {dtype}, these are in another dtype: {', '.join(other)}", str(dtype))
    return f"{len(tensors)} tensors"


@check("device-followed", *COMPUTING, level="device")
def device_followed(subject: Subject) -> str:
    """On another device than the default one (``meta``), everything is made where the inputs are."""
    inputs = {name: value.to("meta") for name, value in inputs_of(subject.build(), subject).items()}
    try:
        answers = _answers(subject, _moved(_made(subject), subject, "meta", torch.float64), inputs)
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).partition("\n")[0]
        if any(words in text for words in _NEEDS_NUMBERS):
            hint = f"--device {NAME} has them"
            raise NotApplicableError(f"its course depends on numbers, which meta lacks ({hint}): {text}") from error
        raise ViolationError(f"on the device meta it ended in {text}; expected an answer there") from error
    _require_there(answers, "meta")
    return f"on meta: {', '.join(answers)}"


@check("other-device-refused", *COMPUTING, level="device")
def other_device_refused(subject: Subject) -> str:
    """Inputs on another device than the parameters are an error, and are not moved in silence."""
    obj, inputs = _placed(subject, device="meta"), inputs_of(subject.build(), subject)
    return require_refusal("tensors on the CPU for a model on meta", Exception, lambda: _answers(subject, obj, inputs))


@check("accelerator-kept", *COMPUTING, "estimator", level="device")
def accelerator_kept(subject: Subject) -> str:
    """On an accelerator (CUDA, MPS) it answers there, as on the CPU to 1e-3; an estimator takes data from there.

    On the simulated device answers equal the CPU's to the bit. Lines for which a program waits are listed there.
    """
    device = subject.accelerator or accelerator()
    on_cpu, _ = _answers_at("cpu", subject)
    there, counts = _answers_at(device, subject)
    if subject.component.kind != "estimator":
        _require_there(there, torch.device(device).type)
    found = {name: value.cpu() for name, value in there.items()}
    if device.startswith(NAME):
        return compared(found, on_cpu, counts)
    return f"takes data on {device}" if subject.component.kind == "estimator" else _agree(found, on_cpu)


def _answers_at(place: str, subject: Subject) -> tuple[dict[str, Tensor], Counts]:
    """Answers to the same inputs on a device, of an object on that device."""
    inputs = {name: value.to(place) for name, value in inputs_of(subject.build(), subject, torch.float32).items()}
    obj = _made(subject, device="cpu", dtype=torch.float32)
    parts = obj.modules() if isinstance(obj, nn.Module) else ()
    if place.startswith(NAME) and any(isinstance(part, torch.jit.ScriptModule) for part in parts):
        raise NotApplicableError("torch moves TorchScript to devices that are written in C++ alone")
    obj = _moved(obj, subject, place, torch.float32)
    # torch has a fused attention for the CPU, and others for accelerators.
    with counted() as counts, sdpa_kernel(SDPBackend.MATH):
        return _answers(subject, obj, inputs), counts


def _moved(obj: Any, subject: Subject, place: str, dtype: torch.dtype) -> Any:
    """An object on a device: moved there or, where it is no module and can't be, built there with its ports."""
    return obj.to(place) if isinstance(obj, nn.Module) else _made(subject, device=place, dtype=dtype)


def accelerator() -> str:
    """The accelerator of this machine by torch's name of it; raises ``NotApplicableError`` where there is none."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    raise NotApplicableError("this machine has neither CUDA nor MPS")


def _made(subject: Subject, *, device: str | None = None, dtype: torch.dtype | None = torch.float64) -> Any:
    """The example at a place; a network built, since its builder has none."""
    obj = subject.build(device=device, dtype=dtype)
    if subject.component.kind != "network":
        return obj.eval() if isinstance(obj, nn.Module) else obj
    return built_network(obj, subject.seed)[2].to(device=device, dtype=dtype).eval()


def _placed(subject: Subject, *, device: str | None = None) -> Any:
    """The same, of a component that holds anything that has a place."""
    obj = _made(subject, device=device)
    if not any(tensor.is_floating_point() for tensor in _tensors(obj).values()):
        raise NotApplicableError("it holds no parameters or buffers, and follows its inputs")
    return obj


def _answers(subject: Subject, obj: Any, inputs: Inputs) -> dict[str, Tensor]:
    """Answers without randomness, because random numbers of a generator differ between devices and dtypes."""
    return answers_of(subject.component.kind, obj, inputs, None)


def _tensors(obj: Any) -> dict[str, Tensor]:
    return {**dict(obj.named_parameters()), **dict(obj.named_buffers())} if isinstance(obj, nn.Module) else {}


def _require_there(answers: Inputs, device: str) -> None:
    away = [f"{name} is on {value.device}" for name, value in answers.items() if value.device.type != device]
    require(not away, ", ".join(away), device)


def _agree(got: Inputs, expected: Inputs) -> str:
    return "; ".join(require_close(name, got[name], value, PRECISION) for name, value in expected.items())


CHECKS: tuple[Check, ...] = (
    dtype_kept,
    other_dtype_refused,
    device_arrives,
    device_followed,
    other_device_refused,
    accelerator_kept,
)

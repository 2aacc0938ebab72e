"""torch.compile for the loss, with an error that a person can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from scorefold.errors import TrainingError


def compiled(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss through torch.compile, which compiles when it is first called (seconds to a minute).

    Draws from a ``torch.Generator`` stay outside what is compiled. Results differ from uncompiled ones by rounding. The
    function raises ``TrainingError`` where there is no working compiler.
    """
    from torch._dynamo.exc import BackendCompilerFailed

    fast = torch.compile(loss)

    def call(*arguments: Any) -> Any:
        try:
            return fast(*arguments)
        except BackendCompilerFailed as error:
            raise TrainingError(
                f"torch.compile failed: {str(error).splitlines()[0]}",
                hint="set training.compile to false, or install a compiler (for a CPU a C++ one, named by CXX)",
            ) from error

    return call

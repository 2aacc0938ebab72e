"""Seeds by derivation: every stream comes from (root seed, names), so adding one changes no other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(root: int, *names: str | int) -> int:
    """A seed in [0, 2**63) from the root seed and a path of names, by SHA-256.

    >>> derive_seed(0, "score", "batches") == derive_seed(0, "score", "batches")
    True
    >>> derive_seed(0, "score", "batches") == derive_seed(0, "score", "noise")
    False
    """
    path = "\x1f".join([str(root), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") >> 1


def derive_generator(root: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A ``torch.Generator`` on ``device`` started from ``derive_seed(root, *names)``."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(root, *names))

"""A config module that breaks its word: it imports torch."""

from __future__ import annotations

import torch
from light_config import PlainConfig


class HeavyConfig(PlainConfig):
    """As the plain one."""


DEFAULT_DTYPE = torch.get_default_dtype()

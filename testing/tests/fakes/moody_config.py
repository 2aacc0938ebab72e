"""A config module that can't be imported in a process of its own."""

from __future__ import annotations

import sys

from light_config import PlainConfig

if "pytest" not in sys.modules:
    raise RuntimeError("not alone")

MoodyConfig = PlainConfig

"""Puts the fakes on the path: the kit names classes and modules by string, also in processes of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fakes"))

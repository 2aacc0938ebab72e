"""Puts the toys that several test files share on the path (test modules themselves are no package)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "toys"))

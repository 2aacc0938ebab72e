"""Plugins in environments of their own: declared in ``scorefold.toml``, installed once, and called in a worker."""

from __future__ import annotations

running: dict[int, float] = {}
"""The workers that run, by the number of their process, with the CPU seconds that each has used so far."""

"""What a claim measures, asked for as ``reproduce`` does, in the process of the tests."""

from __future__ import annotations

from importlib import import_module

from scorefold.plugin import Claim
from scorefold_registry import Host


def measured(host: Host, claim: Claim, profile: str, seed: int = 0) -> float:
    module, function = claim.target.split(":")
    found: float = getattr(import_module(module), function)(host, profile, seed, **claim.options)
    return found

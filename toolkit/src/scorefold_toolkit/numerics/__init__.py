"""Numerical helpers that several methods share: derivatives of batched maps, spectra, statistics."""

from scorefold_toolkit.numerics.derivatives import jacobian, pullback, pushforward
from scorefold_toolkit.numerics.statistics import (
    AGGREGATES,
    bootstrap_interval,
    gram_spectrum,
    symmetric_function,
    symmetric_sqrt,
)

__all__ = [
    "AGGREGATES",
    "bootstrap_interval",
    "gram_spectrum",
    "jacobian",
    "pullback",
    "pushforward",
    "symmetric_function",
    "symmetric_sqrt",
]

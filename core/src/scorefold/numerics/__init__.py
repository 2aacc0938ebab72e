"""Numerical helpers that several methods share: derivatives of batched maps, draws, spectra, statistics."""

from scorefold.numerics.derivatives import divergence, jacobian, pullback, pushforward
from scorefold.numerics.draws import draw_normal, draw_signs, draw_uniform
from scorefold.numerics.spectra import gram_spectrum, symmetric_function, symmetric_sqrt
from scorefold.numerics.statistics import AGGREGATES, bootstrap_interval

__all__ = [
    "AGGREGATES",
    "bootstrap_interval",
    "divergence",
    "draw_normal",
    "draw_signs",
    "draw_uniform",
    "gram_spectrum",
    "jacobian",
    "pullback",
    "pushforward",
    "symmetric_function",
    "symmetric_sqrt",
]

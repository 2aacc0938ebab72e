"""Geodesics of metrics on R^D by numbers: metrics, discrete paths, their solver, and the equations of motion."""

from scorefold_toolkit.geodesics.chords import FisherChord, GraphChord, MapChord, PullbackChord
from scorefold_toolkit.geodesics.field import Affine, Differences, Field, OfDensity
from scorefold_toolkit.geodesics.metric import Denoises, GeodesicMetric, State, least_eigenvalue, pictured
from scorefold_toolkit.geodesics.midpoint import Conformal, Diagonal, GraphMidpoint, Matrices
from scorefold_toolkit.geodesics.minimise import Minimum, minimise
from scorefold_toolkit.geodesics.motion import exponential, shooting_velocities, transported
from scorefold_toolkit.geodesics.paths import straight
from scorefold_toolkit.geodesics.solve import ChecksPaths, Geodesics, SolverSettings, solve

__all__ = [
    "Affine",
    "ChecksPaths",
    "Conformal",
    "Denoises",
    "Diagonal",
    "Differences",
    "Field",
    "FisherChord",
    "GeodesicMetric",
    "Geodesics",
    "GraphChord",
    "GraphMidpoint",
    "MapChord",
    "Matrices",
    "Minimum",
    "OfDensity",
    "PullbackChord",
    "SolverSettings",
    "State",
    "exponential",
    "least_eigenvalue",
    "minimise",
    "pictured",
    "shooting_velocities",
    "solve",
    "straight",
    "transported",
]

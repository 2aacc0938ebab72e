"""The five mission interfaces, the two that serve them, and the capabilities."""

from scorefold.interfaces.capabilities import (
    ClosedFormGeodesics,
    Encodes,
    EncodesNoise,
    Loss,
    Phase,
    Progress,
    Trainable,
    Transports,
)
from scorefold.interfaces.data import DataSource, TensorSource
from scorefold.interfaces.estimator import Allocator, Estimator, Pilot
from scorefold.interfaces.flow import Flow
from scorefold.interfaces.geometry import Geometry
from scorefold.interfaces.model import Network, Prepares, Shown, as_network, evaluations
from scorefold.interfaces.score import ScoreModel

__all__ = [
    "Allocator",
    "ClosedFormGeodesics",
    "DataSource",
    "Encodes",
    "EncodesNoise",
    "Estimator",
    "Flow",
    "Geometry",
    "Loss",
    "Network",
    "Phase",
    "Pilot",
    "Prepares",
    "Progress",
    "ScoreModel",
    "Shown",
    "TensorSource",
    "Trainable",
    "Transports",
    "as_network",
    "evaluations",
]

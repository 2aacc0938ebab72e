"""The five mission interfaces, the two that serve them, and the capabilities."""

from scorefold.interfaces.allocator import Allocator, Pilot
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
from scorefold.interfaces.estimator import Estimator
from scorefold.interfaces.flow import Flow
from scorefold.interfaces.geometry import Geometry
from scorefold.interfaces.model import Shown, evaluations
from scorefold.interfaces.network import Network, Prepares, as_network
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

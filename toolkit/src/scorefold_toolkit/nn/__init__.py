"""Building blocks of flows and networks: invertible layers, splines, conditioners, base distributions."""

from scorefold_toolkit.nn.bases import DiagonalNormal, Quadratic, StandardNormal
from scorefold_toolkit.nn.bijection import Bijection, Chain
from scorefold_toolkit.nn.conditions import ConditionMap, ConditionVector, named_parts, named_specs
from scorefold_toolkit.nn.coupling import AffineCoupling, Couplings, SplineCoupling, coupling_halves
from scorefold_toolkit.nn.linear import ActNorm, Householder, LULinear, lu_matrices
from scorefold_toolkit.nn.multiscale import MultiScale
from scorefold_toolkit.nn.networks import (
    ACTIVATIONS,
    Conditioner,
    ConvConditioner,
    FourierEmbedding,
    ModuleNetwork,
    ResidualBlock,
)
from scorefold_toolkit.nn.reshape import (
    HaarSqueeze,
    Permutation,
    Squeeze,
    check_divisible,
    haar_merge,
    haar_split,
    squeeze,
    unsqueeze,
)
from scorefold_toolkit.nn.splines import rational_quadratic_spline, spline_parameters
from scorefold_toolkit.nn.uncertainty import LossUncertainty, loss_uncertainty

__all__ = [
    "ACTIVATIONS",
    "ActNorm",
    "AffineCoupling",
    "Bijection",
    "Chain",
    "ConditionMap",
    "ConditionVector",
    "Conditioner",
    "ConvConditioner",
    "Couplings",
    "DiagonalNormal",
    "FourierEmbedding",
    "HaarSqueeze",
    "Householder",
    "LULinear",
    "LossUncertainty",
    "ModuleNetwork",
    "MultiScale",
    "Permutation",
    "Quadratic",
    "ResidualBlock",
    "SplineCoupling",
    "Squeeze",
    "StandardNormal",
    "check_divisible",
    "coupling_halves",
    "haar_merge",
    "haar_split",
    "loss_uncertainty",
    "lu_matrices",
    "named_parts",
    "named_specs",
    "rational_quadratic_spline",
    "spline_parameters",
    "squeeze",
    "unsqueeze",
]

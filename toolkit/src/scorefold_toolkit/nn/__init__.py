"""Building blocks of flows and networks: invertible layers, splines, conditioners, base distributions.

Importing this package imports none of its modules; each name loads its own on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorefold_toolkit.nn.bijection import (
        Bijection,
        Box,
        Chain,
        DiagonalNormal,
        Quadratic,
        StandardNormal,
        box_ends,
    )
    from scorefold_toolkit.nn.conditions import ConditionMap, ConditionScale, ConditionVector, named_parts, named_specs
    from scorefold_toolkit.nn.coupling import (
        AffineCoupling,
        Couplings,
        SplineCoupling,
        coupling_halves,
        rational_quadratic_spline,
        spline_parameters,
    )
    from scorefold_toolkit.nn.linear import ActNorm, Householder, LULinear, lu_matrices
    from scorefold_toolkit.nn.networks import (
        ACTIVATIONS,
        Conditioner,
        ConvConditioner,
        FourierEmbedding,
        LossUncertainty,
        ModuleNetwork,
        ResidualBlock,
        loss_uncertainty,
    )
    from scorefold_toolkit.nn.reshape import (
        HaarSqueeze,
        MultiScale,
        Permutation,
        Squeeze,
        check_divisible,
        haar_merge,
        haar_split,
        squeeze,
        unsqueeze,
    )

__all__ = [
    "ACTIVATIONS",
    "ActNorm",
    "AffineCoupling",
    "Bijection",
    "Box",
    "Chain",
    "ConditionMap",
    "ConditionScale",
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
    "box_ends",
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

_NAMES = {
    "bijection": ("Bijection", "Box", "Chain", "DiagonalNormal", "Quadratic", "StandardNormal", "box_ends"),
    "conditions": ("ConditionMap", "ConditionScale", "ConditionVector", "named_parts", "named_specs"),
    "coupling": (
        "AffineCoupling",
        "Couplings",
        "SplineCoupling",
        "coupling_halves",
        "rational_quadratic_spline",
        "spline_parameters",
    ),
    "linear": ("ActNorm", "Householder", "LULinear", "lu_matrices"),
    "networks": (
        "ACTIVATIONS",
        "Conditioner",
        "ConvConditioner",
        "FourierEmbedding",
        "LossUncertainty",
        "ModuleNetwork",
        "ResidualBlock",
        "loss_uncertainty",
    ),
    "reshape": (
        "HaarSqueeze",
        "MultiScale",
        "Permutation",
        "Squeeze",
        "check_divisible",
        "haar_merge",
        "haar_split",
        "squeeze",
        "unsqueeze",
    ),
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return import_module(f"{__name__}.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

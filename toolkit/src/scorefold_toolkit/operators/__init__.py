"""Operators on events: what degrades an image, and what an inverse problem needs. Linear ones have adjoints.

Operators hold no state of a device or a dtype: results follow the input. Matrices are kept in float64.
"""

from scorefold_toolkit.operators.base import (
    Composition,
    HasOperator,
    LinearOperator,
    Matrix,
    Operator,
    OperatorChain,
    as_linear,
    compose,
)
from scorefold_toolkit.operators.build import build_operator
from scorefold_toolkit.operators.images import (
    Edges,
    Grey,
    Haar,
    Mask,
    RandomMask,
    Separable,
    bicubic_matrix,
    blur_matrix,
    box_matrix,
)
from scorefold_toolkit.operators.physics import Radon, strip_matrix

__all__ = [
    "Composition",
    "Edges",
    "Grey",
    "Haar",
    "HasOperator",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Operator",
    "OperatorChain",
    "Radon",
    "RandomMask",
    "Separable",
    "as_linear",
    "bicubic_matrix",
    "blur_matrix",
    "box_matrix",
    "build_operator",
    "compose",
    "strip_matrix",
]

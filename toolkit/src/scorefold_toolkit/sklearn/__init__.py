"""Estimators of intrinsic dimension as scikit-learn's: ``fit``, ``dimension_``, ``dimension_pw_``, ``score``.

Needs scikit-learn (``pip install 'scorefold-toolkit[sklearn]'``), which nothing else here imports. The methods have
the names that scikit-dimension uses (Bac et al. 2021), so these estimators can replace scikit-dimension's estimators.
"""

from scorefold.errors import ScorefoldError

try:
    from scorefold_toolkit.sklearn.dimension import (
        EXPECTED_FAILED_CHECKS,
        DimensionEstimator,
        NoSingleDimensionWarning,
        as_estimator,
        trained_model,
    )
    from scorefold_toolkit.sklearn.settings import InputError, SettingsInside
except ImportError as error:
    raise ScorefoldError(
        "scorefold_toolkit.sklearn needs scikit-learn 1.6 or later", hint="pip install 'scorefold-toolkit[sklearn]'"
    ) from error

__all__ = [
    "EXPECTED_FAILED_CHECKS",
    "DimensionEstimator",
    "InputError",
    "NoSingleDimensionWarning",
    "SettingsInside",
    "as_estimator",
    "trained_model",
]

"""Training: one call that fits any trainable component, and goes on where it was interrupted."""

from scorefold_toolkit.training.fit import can_train_apart, fit, fit_apart
from scorefold_toolkit.training.record import FitReport

__all__ = ["FitReport", "can_train_apart", "fit", "fit_apart"]

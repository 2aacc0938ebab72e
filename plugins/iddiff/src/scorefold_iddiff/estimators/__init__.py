"""Estimators of intrinsic dimension, one module each."""

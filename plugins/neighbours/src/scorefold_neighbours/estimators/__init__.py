"""Baseline estimators of intrinsic dimension."""

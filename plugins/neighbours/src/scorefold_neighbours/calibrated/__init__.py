"""Calibrated estimate of the dimension: every estimator is checked on surrogate data of known dimension."""

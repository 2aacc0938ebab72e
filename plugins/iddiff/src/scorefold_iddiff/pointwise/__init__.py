"""Measurements at and around a point: scores, spectra and derivatives, at one noise level or several."""

"""Estimators of later papers, one module each."""

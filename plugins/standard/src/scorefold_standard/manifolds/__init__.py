"""Manifolds of known dimension."""

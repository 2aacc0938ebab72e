"""Flows: couplings, affine and spline, for vectors and images."""

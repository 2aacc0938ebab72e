"""The spectrum of the Jacobian by Lanczos quadrature."""

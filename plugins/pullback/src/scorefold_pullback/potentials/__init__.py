"""Potentials in place of a flow's base, and the inverses of their gradients."""

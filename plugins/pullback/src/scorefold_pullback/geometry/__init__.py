"""Geometries pulled back through a flow, their charts, and how far they can be trusted."""

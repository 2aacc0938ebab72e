"""Flows with a closed form, by which geometries can be tested and shown without training."""

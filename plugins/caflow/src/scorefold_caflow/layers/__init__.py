"""Layers and blocks of image flows."""

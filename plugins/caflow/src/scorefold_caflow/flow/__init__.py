"""Flows of images given images: CAFLOW, Dual-Glow, and a conditional invertible network."""

"""The geometry that a decoder gives its codes."""

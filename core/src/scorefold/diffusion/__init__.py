"""Diffusion processes, samplers, losses and likelihoods, as modules and plain functions."""

"""LIDL, from a density model for each noise level."""

"""The stand-in's worker."""

"""The normal bundle's dimension from a score (Stanczuk et al. 2024)."""

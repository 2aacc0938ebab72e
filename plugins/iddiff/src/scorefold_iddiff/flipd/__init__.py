"""FLIPD, a dimension at each point."""

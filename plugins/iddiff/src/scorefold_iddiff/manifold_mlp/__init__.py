"""The score network for data on manifolds."""

"""Networks for scores of data on manifolds."""

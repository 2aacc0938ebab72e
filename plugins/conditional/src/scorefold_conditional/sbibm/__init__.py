"""The tasks of sbibm: simulators, their priors, and the reference draws of its wheel."""

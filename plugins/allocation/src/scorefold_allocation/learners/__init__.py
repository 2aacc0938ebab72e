"""Meta-learners to try allocations on."""

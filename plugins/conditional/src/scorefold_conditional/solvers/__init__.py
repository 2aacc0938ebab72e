"""Solvers of inverse problems: the posterior of an event given an observation, by a score without conditions."""

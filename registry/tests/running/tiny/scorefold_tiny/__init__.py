"""A small plugin for the tests of runs: data, a model that trains in a second, estimators that fail on purpose."""

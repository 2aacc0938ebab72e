"""The cascade of estimators."""

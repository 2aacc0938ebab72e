"""Our models for the libraries of others: a scheduler, a pipeline and denoisers."""

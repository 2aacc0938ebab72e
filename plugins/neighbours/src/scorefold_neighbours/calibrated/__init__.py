"""Which estimate of dimension to believe: every estimator checked on surrogate data of known dimension."""

"""The Riemannian auto-encoder, as an estimator and as a transformer of scikit-learn."""

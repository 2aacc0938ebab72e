"""Trained models of Fashion-MNIST, and a thousand of its images."""

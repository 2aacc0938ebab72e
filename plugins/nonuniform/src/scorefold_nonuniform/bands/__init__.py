"""Bands of coefficients: transforms, speeds, moments, and what a network sees of them."""

"""Measures of how close images, features and samples are."""

from scorefold.metrics.distances import energy_distance, frechet_distance, frechet_from_moments
from scorefold.metrics.images import psnr, ssim

__all__ = ["energy_distance", "frechet_distance", "frechet_from_moments", "psnr", "ssim"]

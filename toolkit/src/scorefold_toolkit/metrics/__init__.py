"""Measures of how close images, features and samples are."""

from scorefold_toolkit.metrics.calibration import coverage, joint_uniformity, pit, tarp, uniformity
from scorefold_toolkit.metrics.distances import (
    Moments,
    energy_distance,
    energy_score,
    frechet_distance,
    frechet_from_moments,
    kernel_distance,
)
from scorefold_toolkit.metrics.features import LPIPS, feature_network
from scorefold_toolkit.metrics.images import (
    consistency,
    diversity,
    psnr,
    psnr_within,
    round_to_levels,
    sharpness,
    speckle,
    ssim,
)

__all__ = [
    "LPIPS",
    "Moments",
    "consistency",
    "coverage",
    "diversity",
    "energy_distance",
    "energy_score",
    "feature_network",
    "frechet_distance",
    "frechet_from_moments",
    "joint_uniformity",
    "kernel_distance",
    "pit",
    "psnr",
    "psnr_within",
    "round_to_levels",
    "sharpness",
    "speckle",
    "ssim",
    "tarp",
    "uniformity",
]

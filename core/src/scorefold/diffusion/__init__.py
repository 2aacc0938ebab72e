"""Diffusion processes, samplers, losses and likelihoods, as modules and plain functions."""

from scorefold.diffusion.grids import SPACINGS, time_grid
from scorefold.diffusion.likelihood import probability_flow_log_prob
from scorefold.diffusion.losses import (
    WEIGHTINGS,
    as_weighting,
    denoising_score_matching,
    draw_times,
    noise_weight,
    total,
    weighted_square,
)
from scorefold.diffusion.matrix import DenseMap, MatrixProcess
from scorefold.diffusion.noise_levels import NoiseLevels
from scorefold.diffusion.process import DiffusionProcess, Isotropic, LinearMap, expand
from scorefold.diffusion.processes import VE, VP, IsotropicProcess, PerComponent, SubVP, build_process, build_schedule
from scorefold.diffusion.rotated import CoefficientScore, Orthonormal, Rotated, RotatedMap, in_coefficients
from scorefold.diffusion.samplers import (
    SAMPLERS,
    Sampler,
    ddim,
    dpm_solver_pp_2m,
    edm,
    euler_maruyama,
    heun,
    invert_heun,
    predictor_corrector,
    resolve_sampler,
)
from scorefold.diffusion.schedules import (
    EDM,
    Cosine,
    GeometricVE,
    LinearLogSNR,
    LinearSubVP,
    LinearVP,
    Schedule,
    Stretched,
)

__all__ = [
    "EDM",
    "SAMPLERS",
    "SPACINGS",
    "VE",
    "VP",
    "WEIGHTINGS",
    "CoefficientScore",
    "Cosine",
    "DenseMap",
    "DiffusionProcess",
    "GeometricVE",
    "Isotropic",
    "IsotropicProcess",
    "LinearLogSNR",
    "LinearMap",
    "LinearSubVP",
    "LinearVP",
    "MatrixProcess",
    "NoiseLevels",
    "Orthonormal",
    "PerComponent",
    "Rotated",
    "RotatedMap",
    "Sampler",
    "Schedule",
    "Stretched",
    "SubVP",
    "as_weighting",
    "build_process",
    "build_schedule",
    "ddim",
    "denoising_score_matching",
    "dpm_solver_pp_2m",
    "draw_times",
    "edm",
    "euler_maruyama",
    "expand",
    "heun",
    "in_coefficients",
    "invert_heun",
    "noise_weight",
    "predictor_corrector",
    "probability_flow_log_prob",
    "resolve_sampler",
    "time_grid",
    "total",
    "weighted_square",
]

"""Diffusion processes, samplers, losses and likelihoods, as modules and plain functions."""

from scorefold.diffusion.likelihood import probability_flow_log_prob
from scorefold.diffusion.process import DiffusionProcess, Isotropic, LinearMap, Orthonormal, expand
from scorefold.diffusion.processes import VE, VP, IsotropicProcess, PerComponent, SubVP, build_schedule, process_of
from scorefold.diffusion.samplers import (
    SAMPLERS,
    SPACINGS,
    Sampler,
    ddim,
    dpm_solver_pp_2m,
    edm,
    euler_maruyama,
    heun,
    predictor_corrector,
    resolve_sampler,
    time_grid,
)
from scorefold.diffusion.schedules import EDM, Cosine, GeometricVE, LinearLogSNR, LinearSubVP, LinearVP, Schedule

__all__ = [
    "EDM",
    "SAMPLERS",
    "SPACINGS",
    "VE",
    "VP",
    "Cosine",
    "DiffusionProcess",
    "GeometricVE",
    "Isotropic",
    "IsotropicProcess",
    "LinearLogSNR",
    "LinearMap",
    "LinearSubVP",
    "LinearVP",
    "Orthonormal",
    "PerComponent",
    "Sampler",
    "Schedule",
    "SubVP",
    "build_schedule",
    "ddim",
    "dpm_solver_pp_2m",
    "edm",
    "euler_maruyama",
    "expand",
    "heun",
    "predictor_corrector",
    "probability_flow_log_prob",
    "process_of",
    "resolve_sampler",
    "time_grid",
]

"""Where modules went that a plugin may have been written for, so that its failed import says what to write."""

from __future__ import annotations

_TOOLKIT = {
    "data_config": "config.data",
    "denoising_config": "config.denoising",
    "diffusion.losses": "score_matching.losses",
    "diffusion.matrix": "matrix_process",
    "diffusion.noise_levels": "score_matching.noise_levels",
    "diffusion.prediction": "score_matching.prediction",
    "event_figures": "figures",
    "image_files": "data.images",
    "laws": "distributions",
    "manifolds": "data.manifolds",
    "metrics": "metrics",
    "nn": "nn",
    "numerics": "numerics",
    "operator_config": "config.operators",
    "operators": "operators",
    "rounding": "data.rounding",
    "sklearn": "sklearn",
    "splits": "data.splits",
    "training": "training",
}

_VERBS = {
    "assessment": "assess",
    "by_label": "labels",
    "figures_assess": "figures.assess",
    "figures_latent": "figures.latents",
    "latent_codes": "latents.codes",
    "latent_diagnosis": "latents.diagnose",
    "latent_measures": "latents.measures",
    "latent_options": "config.latents",
    "latent_quality": "latents.reconstruct",
    "latent_stage": "latents.stage",
    "latent_verbs": "latents.traverse",
    "likelihood": "evaluate",
    "measures": "measures",
    "outliers": "outliers",
    "trainings": "trainings",
    "verb_inputs": "inputs",
    "verb_options": "config.verbs",
    "verbs": "",
}

_CORE = {"figures": "plotting", "numerics.draws": "random"}

MOVED = {
    f"scorefold.{old}": f"{package}.{new}".rstrip(".")
    for package, moves in (("scorefold", _CORE), ("scorefold_toolkit", _TOOLKIT), ("scorefold_verbs", _VERBS))
    for old, new in moves.items()
} | {"scorefold.testing": "scorefold_testing"}
"""Modules by the name that they had up to version 0.1."""

COMPONENTS = {"scorefold-standard/score:diffusers": "scorefold-checkpoints/score:diffusers"}
"""Components by the distribution that they were in, and the one that has them now: older states are theirs."""


def new_place(module: str) -> str | None:
    """What to import in place of a module that is not there, or None."""
    for old, new in MOVED.items():
        if module == old or module.startswith(f"{old}."):
            return new + module.removeprefix(old)
    return None

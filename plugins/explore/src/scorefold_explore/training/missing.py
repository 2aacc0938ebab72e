"""The stages that would add what the page can't show yet, how long they take, and why some can't be trained here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from scorefold.errors import ConfigError
from scorefold_explore.explored import Explored

EVERYTHING = "all"
ANSWERS = ("geodesics", "codes", "likelihoods", "conditional samples", "dimension")
"""Names of the answers that stages can be trained for, in the order of the page."""

FEWEST = 50
"""Training points below which a model memorises its data."""

WIDEST = 12_288
"""Coordinates of an event, 3 x 64 x 64, up to which a network of the page's size learns anything in minutes."""

TRACED = 1024
"""Coordinates of an event up to which a dimension is read from a score within a minute."""

SMALLEST_IMAGE = 8
"""Pixels a side below which a U-Net has nothing to halve."""

START = 12.0
"""Seconds of CPU that a run takes to begin and to be opened."""

STEPS = 64
"""Steps of the sampler that draws the samples."""


@dataclass(frozen=True)
class TrainingPlan:
    """Stages to add to what is open.

    ``stages`` are the stages of a run file, with the stage of the data first. ``trained`` names the stages that train
    for the chosen minutes, and ``rest`` is the time of all other stages in seconds. ``adds`` are the answers that the
    page has afterwards. ``without`` gives the reason for each answer that stays missing.
    """

    stages: dict[str, Any]
    trained: tuple[str, ...]
    rest: float
    adds: tuple[str, ...]
    without: dict[str, str]

    def seconds(self, minutes: float) -> float:
        """The time of the whole run, where each model trains for ``minutes``."""
        return 60 * minutes * len(self.trained) + self.rest

    def as_json(self) -> dict[str, Any]:
        """The plan as the page shows it."""
        used = {name: spec.get("use", "load") for name, spec in self.stages.items()}
        return {"stages": used, "trained": list(self.trained), "rest": self.rest, "adds": list(self.adds)} | {
            "without": self.without
        }


def missing_answers(explored: Explored) -> list[str]:
    """The answers of ``ANSWERS`` that the page lacks."""
    dimension = bool(explored.curves) or any("dimension" in text for text in explored.known)
    return [name for name in ANSWERS if (not dimension if name == "dimension" else name in explored.missing)]


def training_refusal(explored: Explored) -> str | None:
    """The reason why nothing can be trained on what is open, or None."""
    if explored.host is None:
        return "this page was made without what trains models"
    if explored.state == "running":
        return "this run is still going on: wait for its stages, and open it again"
    if explored.condition is not None:
        return "these data come with conditions, which the models of this button don't take: write a run file"
    own = [group for group in explored.groups if group.stage == explored.data_stage and not group.samples]
    count = sum(group.stop - group.start for group in own if group.split == "train")
    size = math.prod(explored.event_shape)
    if count < FEWEST:
        return f"there are {count} training points; a model needs {FEWEST}"
    if size < 2:
        return "each point is one number: there is no shape to learn"
    if size > WIDEST:
        return f"points have {size:,} coordinates; the page trains on up to {WIDEST:,}: make images smaller (size: 32)"
    some = explored.points[own[0].start : own[-1].stop]
    gaps = int((~torch.isfinite(some).flatten(1).all(1)).sum())
    if gaps:
        return f"{gaps:,} points have missing values: leave them out (--data-option missing=drop) or fill them"
    if explored.data_use is None and not os.access(explored.place, os.W_OK):
        return f"the folder {explored.place} can't be written, and what is trained is kept in it"
    return None


def plan(explored: Explored, wanted: str = EVERYTHING, scale: str = "own") -> TrainingPlan:
    """The stages that add one answer, or every answer that is missing.

    Raises ``ConfigError`` for an answer that there is not, where nothing is missing, and where nothing that is missing
    can be trained.
    """
    if wanted not in (EVERYTHING, *ANSWERS):
        raise ConfigError(f"{wanted!r:.60} can't be trained; expected one of: {', '.join((EVERYTHING, *ANSWERS))}")
    if reason := training_refusal(explored):
        raise ConfigError(f"nothing can be trained here: {reason}")
    lacking = missing_answers(explored)
    asked = lacking if wanted == EVERYTHING else [wanted] if wanted in lacking else []
    if not asked:
        raise ConfigError("nothing is missing: the page has this already")
    found = _Stages(explored, scale)
    without: dict[str, str] = {}
    for name in asked:
        if name == "conditional samples" and explored.image is None:
            without[name] = "points are no images, so there are no pixels to hide"
        elif name == "dimension" and math.prod(explored.event_shape) > TRACED:
            without[name] = f"points have more than {TRACED:,} coordinates, which takes too long here"
        else:
            found.add(name)
    if not found.stages:
        raise ConfigError("; ".join(f"{name} can't be trained: {why}" for name, why in without.items()))
    adds = tuple(name for name in asked if name not in without)
    return TrainingPlan(
        {found.data: found.data_spec(), **found.stages}, tuple(found.trained), found.rest(), adds, without
    )


def plans(explored: Explored) -> dict[str, Any]:
    """For each missing answer, and for all of them, the plan as JSON, or the reason why there is none."""
    found: dict[str, Any] = {}
    lacking = missing_answers(explored)
    for name in [EVERYTHING, *lacking] if lacking else []:
        try:
            found[name] = plan(explored, name).as_json()
        except ConfigError as error:
            found[name] = {"refused": error.message}
    return found


def with_minutes(chosen: TrainingPlan, minutes: float) -> dict[str, Any]:
    """The stages of a plan, each of its models trained for so many minutes."""
    stages = {name: dict(spec) for name, spec in chosen.stages.items()}
    for name in chosen.trained:
        config = dict(stages[name].get("config", {}))
        config["training"] = {**config.get("training", {}), "minutes": minutes}
        stages[name]["config"] = config
    return stages


class _Stages:
    """New stages with names that are free, each added once."""

    def __init__(self, explored: Explored, scale: str) -> None:
        self.explored, self.scale, self.data = explored, scale, explored.data_stage
        self.stages: dict[str, Any] = {}
        self.trained: list[str] = []

    def data_spec(self) -> dict[str, Any]:
        """The stage of the data: as it was read, in the scale of the page where the page reads the data."""
        use = self.explored.data_use
        if use is None:
            return {"load": str(self.explored.place / self.data)}
        config = dict(use.get("config", {}))
        if self.scale in ("columns", "robust") and use["use"] == "data:array":
            config["scale"] = self.scale
        return {**use, "config": config}

    def add(self, answer: str) -> None:
        """The stages of one answer."""
        images = self.explored.image is not None
        if answer == "geodesics" and images and not self.explored.of("flow"):
            self._put("geometry", "geometry:score", {"score": self.score()}, {"noise": 0.5})
        elif answer == "geodesics":
            self._put("geometry", "geometry:pullback", {"flow": self.flow()})
        elif answer == "codes" and images:
            self._put("code", "autoencoder:vae", {}, self._code(), trains=True)
        elif answer == "codes":
            self._put("code", "estimator:riemannian-autoencoder", {"flow": self.flow()})
        elif answer == "likelihoods":
            self.score() if images else self.flow()
        elif answer == "conditional samples":
            self.score()
        elif answer == "dimension":
            self._put("dimension", "estimator:iddiff", {"score": self.score()})

    def rest(self) -> float:
        """Seconds of the run beside its training, as measured on two cores."""
        size = math.prod(self.explored.event_shape)
        each = {"samples": 1 + size / 20, "dimension": 2 + size / 8, "geometry": 1, "code": 1}
        others = [name.partition("-")[0] for name in self.stages if name not in self.trained]
        return START + sum(each.get(name, 2.0) for name in others)

    def flow(self) -> str:
        """The stage of a flow: one of the run, else a new one."""
        return self._had("flow") or self._put(
            "flow",
            "flow:anisotropic",
            {},
            {"map": {"name": "coupling", "layers": 4}, "training": self._batches()},
            trains=True,
        )

    def score(self) -> str:
        """The stage of a score: one of the run, else a new one, with samples."""
        if had := self._had("score"):
            return had
        image = self.explored.image
        network: dict[str, Any] = {"use": "network:mlp", "config": {"width": 128}}
        if image is not None and min(image[1:]) >= SMALLEST_IMAGE:
            network = {"use": "network:conv-unet", "config": {"channels": [32, 64]}}
        elif image is None and len(self.explored.event_shape) == 2:
            network = {"use": "network:auto"}  # a U-Net for windows of a signal
        config = {
            "network": network,
            "noise_levels": {"name": "mixture", "low": 0.01, "high": 1},
            "training": self._batches(),
        }
        name = self._put("score", "score:denoising", {}, config, trains=True)
        self.stages[self._free("samples")] = {"use": name, "do": "sample", "options": {"n": 64, "steps": STEPS}}
        return name

    def _code(self) -> dict[str, Any]:
        """A small code that half a minute trains; directions of a tenth of a pixel's variance and more are coded."""
        network = {"use": "network:mlp", "config": {"width": 128, "blocks": 1}}
        beta = float(f"{0.1 * self.explored.scale.std**2:.2g}")
        return {"latent": 8, "beta": beta, "encoder": network, "decoder": network, "training": self._batches()}

    def _batches(self) -> dict[str, Any]:
        own = self.explored.groups[0]
        return {"batch_size": max(8, min(128, (own.stop - own.start) // 2))}

    def _had(self, kind: str) -> str | None:
        """The first model of a kind: of the stages that are new, else of the run, which is then loaded."""
        if new := next((name for name in self.trained if self.stages[name]["use"].startswith(f"{kind}:")), None):
            return new
        old = next(iter(self.explored.of(kind)), None)
        if old is not None and old not in self.stages:
            self.stages[old] = {"load": str(self.explored.folder_of(old))}
        return old

    def _put(
        self,
        name: str,
        use: str,
        inputs: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
        trains: bool = False,
    ) -> str:
        chosen = self._free(name)
        self.stages[chosen] = {"use": use, "inputs": {**inputs, "data": self.data}}
        if config:
            self.stages[chosen]["config"] = dict(config)
        if trains:
            self.trained.append(chosen)
        return chosen

    def _free(self, name: str) -> str:
        taken: Iterable[str] = {*self.stages, *(stage["name"] for stage in self.explored.stages)}
        return next(one for one in (name, *(f"{name}-{count}" for count in range(2, 100))) if one not in taken)

"""The stages that answer each question that ``scorefold start`` knows, for tables and for images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scorefold_registry.python.reading import Reading

Stages = dict[str, dict[str, Any]]
Comments = dict[tuple[str, ...], str]


@dataclass(frozen=True)
class Question:
    """Question about data: ``stages`` makes the stages after the data and the comments on their fields, by path.

    ``side`` is the largest height and width of images, in pixels, that are read for it. ``every`` says that all points
    of a table are in one split, and ``held_out`` how many the answer needs in the test split. ``further`` makes stages
    that the file leaves out for time: a command that adds one is printed.
    """

    stages: Callable[[Reading], tuple[Stages, Comments]]
    side: int = 32
    every: bool = False
    held_out: int = 0
    further: Callable[[Reading], Stages] = lambda reading: {}

    def fractions(self, reading: Reading) -> tuple[list[float], str] | None:
        """The shares of the splits of files, where they are not the usual ones, and why."""
        if reading.use not in ("data:array", "data:images"):
            return None
        if self.every and not reading.images:
            return [0, 0, 1], "all points are in the split that the estimate reads"
        test = math.ceil(100 * self.held_out / reading.points) / 100
        if not _HELD_OUT < test <= _MOST_HELD_OUT:
            return None
        return [round(0.9 - test, 2), 0.1, test], f"the answer needs {self.held_out} points in the test split"


_SMALL_IMAGE = 8  # pixels a side, below which a U-Net has nothing to halve
_FEW = 2000  # points, below which a wide network memorises them
_HELD_OUT, _MOST_HELD_OUT = 0.1, 0.3  # the share of points in the test split

_MINUTES = "how long it trains; more is better: the report shows whether the loss still fell"
_NEW = "scorefold apply RUN/{model} --do {verb} --data NEW --out scores.csv gives it for each point of another file"


def _network(reading: Reading) -> dict[str, Any]:
    if len(reading.event_shape) == 2 and reading.event_shape[1] >= 4 * reading.event_shape[0]:
        return {"use": "network:auto"}  # windows of a signal
    if reading.images and min(reading.event_shape[-2:]) >= _SMALL_IMAGE:
        return {"use": "network:conv-unet", "config": {"channels": [32, 64, 64]}}
    return {"use": "network:mlp", "config": {"width": 64 if reading.points < _FEW else 256}}


def _score(reading: Reading, noise_levels: Mapping[str, Any] | None) -> dict[str, Any]:
    config: dict[str, Any] = {"network": _network(reading)}
    if noise_levels is not None:
        config["noise_levels"] = dict(noise_levels)
    config["training"] = {"minutes": 10 if reading.images else 3, "batch_size": min(128, reading.points // 2)}
    if not reading.images:
        # A perceptron memorises some hundred points within a minute.
        config["training"] |= {"validate_every": 100, "patience": 10}
    return {"use": "score:denoising", "inputs": {"data": "data"}, "config": config}


_SCORE_COMMENTS: Comments = {
    ("score",): "a score model: it learns in which direction noised points lie nearer to the data",
    (
        "score",
        "config",
        "network",
    ): "a U-Net for images and signals, a perceptron for all else; channels and width are its size",
    ("score", "config", "training"): _MINUTES,
}
_DIMENSIONS_ARE_READ = {"name": "mixture", "low": 0.01, "high": 1}


def _dimension(reading: Reading) -> tuple[Stages, Comments]:
    if not reading.images:
        return {"dimension": {"use": "estimator:calibrated", "inputs": {"data": "data"}}}, {
            ("dimension",): "every estimator that is installed, checked on surrogate data of known dimension and "
            "corrected; estimator:mle in its place is one of them, in a second"
        }
    stages = {
        "score": _score(reading, _DIMENSIONS_ARE_READ),
        "dimension": {"use": "estimator:iddiff", "inputs": {"score": "score", "data": "data"}},
        "neighbours": {"use": "estimator:mle", "inputs": {"data": "data"}, "split": "train"},
    }
    return stages, {
        **_SCORE_COMMENTS,
        ("score", "config", "noise_levels"): "a share of the training at the little noise where dimensions are read",
        ("dimension",): "how many directions lie along the data, at every scale",
        ("neighbours",): "the same from distances between neighbours, to compare: too low for many dimensions",
    }


def _samples(reading: Reading) -> tuple[Stages, Comments]:
    levels = None if reading.images else {"name": "lognormal", "mean": -0.107, "std": 1.6}
    sample = {
        "use": "score",
        "do": "sample",
        "inputs": {"data": "data"},
        "options": {"n": 64 if reading.images else 1000},
    }
    comments: Comments = dict(_SCORE_COMMENTS)
    if not reading.images:
        comments["score", "config", "training"] = (
            "at most these minutes; it stops where the loss of held-out points has not fallen for a while"
        )
    comments |= {
        ("score", "config", "noise_levels"): "at which noise it trains; wider than for images, for tables have "
        "structure at more scales",
        ("samples",): "new points, compared with held-out ones; scorefold apply RUN/score --do sample --out FILE makes "
        "more of them, in the units of the data",
    }
    return {"score": _score(reading, levels), "samples": sample}, comments


def _between(reading: Reading) -> tuple[Stages, Comments]:
    most = 12 if reading.images else 40
    pairs = {"pairs": max(1, min(most, int(_HELD_OUT * reading.points) // 2)), "times": 9}
    straight = {
        "use": "geometry:euclidean",
        "do": "interpolate",
        "inputs": {"data": "data"},
        "options": pairs,
    }
    if reading.images:
        return _between_images(reading, pairs, straight)
    config: dict[str, Any] = {"map": {"name": "coupling", "layers": 4}}
    few = reading.points < _FEW
    config["training"] = {
        "steps": 3000,
        "learning_rate": 5.0e-4 if few else 2.0e-3,
        "validate_every": 20 if few else 100,
        "patience": 5,
    }
    stages: Stages = {
        "flow": {"use": "flow:anisotropic", "inputs": {"data": "data"}, "config": config},
        "geometry": {"use": "geometry:pullback", "inputs": {"flow": "flow", "data": "data"}},
        "paths": {"use": "geometry", "do": "interpolate", "inputs": {"data": "data"}, "options": dict(pairs)},
        "straight": straight,
    }
    return stages, {
        ("flow",): "a flow: an invertible map that straightens the data",
        (
            "flow",
            "config",
            "training",
        ): "it stops where held-out points have not become likelier for a while; where they only become less likely "
        "the paths stay straight",
        ("geometry",): "shortest paths are straight lines behind the flow; its figures show some",
        ("paths",): "between pairs of held-out points; 'middles from the data' is 1 where they lie among the data",
        ("straight",): "the baseline, between the same points",
    }


def _between_images(reading: Reading, pairs: Mapping[str, Any], straight: dict[str, Any]) -> tuple[Stages, Comments]:
    """Paths through the noise of a score, which goes back to the same images: a flow of so few images learns none."""
    score = {
        "use": "score:flow-matching",
        "inputs": {"data": "data"},
        "config": {
            "network": {"use": "network:mlp", "config": {"width": 512, "blocks": 3}},
            "training": {"minutes": 2, "batch_size": min(128, reading.points // 2)},
        },
    }
    options = {**pairs, "decoding": {"steps": 64}}
    stages: Stages = {
        "score": score,
        "paths": {"use": "score", "do": "interpolate", "inputs": {"data": "data"}, "options": options},
        "straight": straight,
    }
    return stages, {
        ("score",): "a score model: an image becomes noise by it, and the noise the same image again",
        ("score", "config", "training"): _MINUTES,
        (
            "paths",
        ): "between pairs of held-out images, through their noise; 'middles from the data' is 1 where they lie "
        "among the data",
        ("straight",): "the baseline, between the same images",
    }


def _geodesics(reading: Reading) -> Stages:
    """Shortest paths of the score of images, which take minutes more than paths through noise."""
    return {"geodesics": _shortest("score", "data")} if reading.images else {}


def _shortest(score: str, data: str) -> dict[str, Any]:
    return {
        "use": "geometry:score",
        "do": "interpolate",
        "inputs": {"score": score, "data": data},
        "config": {"noise": 0.5},
        "options": {"pairs": 3, "times": 9},
    }


def between_samples(config: Mapping[str, Any]) -> tuple[Stages, Comments]:
    """The stages that answer what lies between two samples of a checkpoint of diffusers, of pixels or of latents."""
    options = {"pairs": 3, "times": 9}
    paths = {"use": "model", "do": "interpolate", "inputs": {"data": "samples"}}
    stages: Stages = {
        "model": {"use": "score:diffusers", "config": dict(config)},
        "samples": {"use": "model", "do": "sample", "options": {"n": 64}},
        "paths": {**paths, "options": {**options, "decoding": {"steps": 64}}},
        "straight": {
            "use": "geometry:euclidean",
            "do": "interpolate",
            "inputs": {"data": "samples"},
            "options": options,
        },
        "geodesics": _shortest("model", "samples"),
    }
    comments: Comments = {
        ("samples",): "the ends of the paths, and the points that say which paths stay where samples are",
        ("paths",): "between samples, through their noise",
        ("straight",): "the baseline, between the same samples",
        ("geodesics",): "shortest paths of the score metric, checked before they are given; images of your own under "
        "data in their place make noise count in their units",
    }
    if config.get("space") == "latent":
        for name in ("paths", "straight", "geodesics"):
            inputs = {"model": "model", "latents": name}
            stages[f"{name}-decoded"] = {"use": "data:decoded", "inputs": inputs}
    return stages, comments


def _density(reading: Reading, verb: str, comment: str) -> tuple[Stages, Comments]:
    """A model with a density, and a verb that reads it."""
    if reading.images:
        name, stages, comments = "score", {"score": _score(reading, None)}, dict(_SCORE_COMMENTS)
    else:
        name = "flow"
        stages = {
            "flow": {
                "use": "flow:spline-coupling",
                "inputs": {"data": "data"},
                "config": {"training": {"steps": 3000, "validate_every": 200, "patience": 5}},
            }
        }
        comments = {
            ("flow",): "a flow: an invertible map of the data to noise, whose density is exact",
            ("flow", "config", "training"): "it stops where held-out points have not become likelier for a while",
        }
    stages["answer"] = {"use": name, "do": verb, "inputs": {"data": "data"}}
    if reading.images:
        stages["answer"]["options"] = {"limit": 128 if verb == "outliers" else 64, "probes": 1, "tolerance": 1e-3}
        comments["answer", "options"] = (
            "the number of points, each of which takes the model a hundred calls; probes: 4 and tolerance: 0.0001 take "
            "four times as long, and give less noisy numbers"
        )
    new = _NEW.format(model=name, verb=verb) + (" (of 256 points, unless --option limit= says more)" * reading.images)
    comments[("answer",)] = f"{comment}; {new}"
    return stages, comments


def _unlike(reading: Reading) -> tuple[Stages, Comments]:
    text = "the cost of held-out points in bits: a point that costs more than nearly all of them is unlike the data"
    if reading.images:
        text += ", but smooth images cost little wherever they come from"
    return _density(reading, "outliers", text)


def _likelihood(reading: Reading) -> tuple[Stages, Comments]:
    return _density(reading, "evaluate", "log-likelihoods of held-out points by the model and by a normal distribution")


QUESTIONS = {
    "dimension": Question(_dimension, side=16, every=True),
    "samples": Question(_samples),
    "between": Question(_between, side=16, further=_geodesics),
    "unlike": Question(_unlike, held_out=100),  # from 99 on there is a limit above which a point is unlike the data
    "likelihood": Question(_likelihood),
}

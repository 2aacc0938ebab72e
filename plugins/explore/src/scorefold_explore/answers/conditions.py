"""Samples given a part of an image, or a coarse one: several draws, their mean and their spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Condition, TensorSpec, index_condition
from scorefold.diffusion import time_grid
from scorefold.diffusion.samplers import default_sampler, resolve_sampler
from scorefold.errors import ConfigError
from scorefold.interfaces import Flow, ScoreModel
from scorefold.stage import report
from scorefold_explore.answers.colours import bounds, deviation_tiles, shown, tiles
from scorefold_explore.explored import Explored, for_model, generator_of

MOST = 64


def condition_parts(explored: Explored, name: str) -> list[dict[str, Any]]:
    """The parts of a model's condition: their ``name``, ``kind`` (mask, image, classes or vector) and shape.

    An unconditional score of images takes a mask, whose known pixels replace the pixels of each step.
    """
    model = _model(explored, name)
    if model.condition_spec is None:
        _, height, width = explored.image or (0, 0, 0)
        return [{"name": "mask", "kind": "mask", "height": height, "width": width}] if height else []
    spec = model.condition_spec
    specs = {"": spec} if isinstance(spec, TensorSpec) else dict(spec)
    found = []
    for part, one in specs.items():
        square = len(one.shape) == 3 and one.shape[0] in (1, 3)
        kind = "classes" if one.classes else "mask" if part == "mask" else "image" if square else "vector"
        row: dict[str, Any] = {"name": part, "kind": kind, "classes": one.classes}
        if square:
            row |= {"height": one.shape[1], "width": one.shape[2]}
        found.append(row)
    return found


def shown_condition(explored: Explored, name: str, point: int) -> dict[str, Any]:
    """The condition of a point as the page shows it: an image for each part that is one, and numbers otherwise."""
    model = _model(explored, name)
    parts = condition_parts(explored, name)
    given = _given(explored, model, point)
    found: dict[str, Any] = {"event": shown(explored, explored.points[point][None]), "parts": []}
    for part in parts:
        value = None if given is None else given[part["name"]]
        found["parts"].append({**part, **_described(explored, value)})
    return found


def condition_samples(
    explored: Explored,
    name: str,
    point: int,
    *,
    n: int,
    steps: int,
    seed: int,
    mask: list[float] | None = None,
    images: Mapping[str, list[float]] | None = None,
    label: int | None = None,
) -> Tensor:
    """n samples (n, *E) given the condition of a point, changed as asked.

    ``mask`` holds H x W numbers, 1 where the point's pixel is known; ``images`` replaces parts of the condition, by
    name, with bytes from 0 to 255; ``label`` the class. Raises ``ConfigError`` for what does not fit.
    """
    if not 1 <= n <= MOST or not 1 <= steps <= 1000:
        raise ConfigError(f"{n} samples in {steps} steps were asked for; expected 1 to {MOST} in 1 to 1000")
    model = _model(explored, name)
    x = explored.points[explored.check_point(point)][None]
    known = None if mask is None else _mask(explored, mask)
    generator = generator_of(model, seed)
    if model.condition_spec is None:
        if known is None:
            raise ConfigError("no mask was given; expected one, since this score takes no condition")
        return _replaced(model, for_model(model, x), for_model(model, known), n, steps, generator)
    condition = _changed(explored, name, point, known, images or {}, label)
    options: dict[str, Any] = {} if isinstance(model, Flow) else {"steps": steps}
    drawn: Tensor = model.sample(n, condition, generator=generator, **options)
    return drawn[:, 0]


def samples_answer(explored: Explored, name: str, point: int, **asked: Any) -> dict[str, Any]:
    """The samples as the page shows them, with their mean and their standard deviation."""
    drawn = condition_samples(explored, name, point, **asked).detach().float().cpu()
    std, mean = torch.std_mean(drawn, dim=0, keepdim=True, correction=0)
    return {
        "samples": shown(explored, drawn),
        "mean": shown(explored, mean),
        "spread": deviation_tiles(explored, std),
        "truth": shown(explored, explored.points[point][None]),
    }


def _model(explored: Explored, name: str) -> Any:
    able = {**explored.of("conditional"), **explored.of("score")}
    if name not in able:
        raise ConfigError(
            f"there is no model {name!r:.60} to sample from; expected one of: {', '.join(able) or 'none'}"
        )
    return able[name].value


def _given(explored: Explored, model: Any, point: int) -> dict[str, Tensor] | None:
    """The parts of a point's own condition, (1, *shape) each; None where the data have none."""
    condition = explored.condition
    if model.condition_spec is None or condition is None:
        return None
    size = len(condition if isinstance(condition, Tensor) else next(iter(condition.values())))
    row = torch.tensor([min(explored.check_point(point), size - 1)])
    chosen = index_condition(condition, row)
    assert chosen is not None
    return {"": chosen} if isinstance(chosen, Tensor) else dict(chosen)


def _described(explored: Explored, value: Tensor | None) -> dict[str, Any]:
    if value is None:
        return {}
    if value.dim() == 4:
        low, high = (
            (0.0, 1.0) if value.shape[1] == 1 and bool(((value == 0) | (value == 1)).all()) else bounds(explored)
        )
        grey = ((value.float() - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8)
        return {"picture": tiles(grey)}
    return {"numbers": value.flatten().double().tolist()}


def _mask(explored: Explored, mask: list[float]) -> Tensor:
    if explored.image is None:
        raise ConfigError("a mask was given; expected none, since these points are no images")
    _, height, width = explored.image
    if len(mask) != height * width or not all(0 <= one <= 1 for one in mask):
        raise ConfigError(f"a mask of {len(mask)} numbers was given; expected {height} x {width} from 0 to 1")
    return torch.tensor(mask).round().reshape(1, 1, height, width)


def _changed(
    explored: Explored,
    model_name: str,
    point: int,
    known: Tensor | None,
    images: Mapping[str, list[float]],
    label: int | None,
) -> Condition:
    """A point's condition with what was drawn in its place."""
    model = _model(explored, model_name)
    given = _given(explored, model, point)
    if given is None:
        raise ConfigError("the points have no conditions; expected the conditions of the model's training data")
    x = explored.points[point][None]
    for part in condition_parts(explored, model_name):
        name = part["name"]
        own = given[name]
        if part["kind"] == "classes" and label is not None:
            if not 0 <= label < part["classes"]:
                raise ConfigError(f"the class {label} was asked for; expected 0 to {part['classes'] - 1}")
            given[name] = torch.full_like(own, label)
        elif part["kind"] == "mask" and known is not None:
            given[name] = known.to(own).expand_as(own).clone()
        elif name in images:
            given[name] = _drawn(explored, own, images[name])
        elif part["kind"] == "image" and known is not None and own.shape == x.shape:
            given[name] = (x * known).to(own)
    found = {name: for_model(model, one) if one.is_floating_point() else one for name, one in given.items()}
    return found[""] if set(found) == {""} else found


def _drawn(explored: Explored, like: Tensor, values: list[float]) -> Tensor:
    if len(values) != like.numel() or not all(0 <= one <= 255 for one in values):
        raise ConfigError(f"an image of {len(values)} numbers was given; expected {like.numel()} from 0 to 255")
    low, high = bounds(explored)
    grey = torch.tensor(values).reshape(1, *like.shape[2:], like.shape[1]).permute(0, 3, 1, 2)
    return (low + (high - low) * grey / 255).to(like)


@torch.no_grad()
def _replaced(model: ScoreModel, x: Tensor, known: Tensor, n: int, steps: int, generator: torch.Generator) -> Tensor:
    """Samples whose known pixels are the noised ones of x after every step (Song et al. 2021, appendix I.2).

    What is made up sees the known part only through the score, so borders fit less well than with a conditional model.
    """
    process = model.process
    shape = (n, *x.shape[1:])
    y = process.sample_prior(shape, generator=generator, like=x)
    times = time_grid(process, steps, "karras").to(x)
    bound = model.bind(None, generator=generator)
    sampler = resolve_sampler(default_sampler(process, y))
    for number in range(len(times) - 1):
        y, _ = sampler(bound, process, y, times[number : number + 2], generator=generator)
        noise = torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
        noised = process.perturb(x.expand(shape), times[number + 1].expand(n), noise)
        y = known * noised + (1 - known) * y
        report(number + 1, len(times) - 1, "steps of the sampler")
    return known * x + (1 - known) * model.remove_noise(bound, y)

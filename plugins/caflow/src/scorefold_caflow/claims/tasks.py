"""Flows of images given images, end to end on three tasks by one protocol. Functions of claims take a host, a profile
and a seed.

All models have as many parameters and train for as much CPU time: the steps of each were set from what a step of it
costs. For one seed they see the same batches in the same order, and the same noise within levels in the test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold.seeds import derive_generator, derive_seed
from scorefold_toolkit.data.images import FASHION_MNIST
from scorefold_toolkit.metrics import consistency, diversity, psnr, psnr_within, speckle
from scorefold_toolkit.operators import HasOperator, Mask
from scorefold_toolkit.training import fit


@dataclass(frozen=True)
class TrainedFlow:
    """A model after its training, its number of parameters and the CPU seconds that training took."""

    model: Any
    parameters: int
    seconds: float


def trained_flow(host: Any, name: str, config: dict[str, Any], source: DataSource, seed: int) -> TrainedFlow:
    """A flow that was trained on a source's training points, its weights and batches from ``seed``."""
    model = host.create(name, config, generator=derive_generator(seed, "weights"), data=source)
    started = time.process_time()
    fit(model, source.load("train"), model.training_config, seed=seed, precision=host.precision)
    seconds = time.process_time() - started
    return TrainedFlow(model.eval(), sum(one.numel() for one in model.parameters()), seconds)


def training_settings(steps: int) -> dict[str, Any]:
    """Adam with a cosine schedule after 50 steps of warm-up, in batches of 128."""
    return {
        "steps": steps,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "warmup": 50,
        "ema": None,
        "validate_every": 10**6,
    }


@torch.no_grad()
def costs(model: Any, events: Dataset, seed: int, *, draws: int = 1) -> Tensor:
    """-log2 p(w | y) / dim(w) of held-out images, (N,) in float64, for discrete data on the scale of their levels.

    Noise within a level is the same for every model of one seed; ``draws`` of it are averaged.
    """
    dimension: int = model.dimension
    total = torch.zeros(len(events), dtype=torch.float64)
    for number in range(draws):
        generator = derive_generator(seed, "dequantisation", number)
        found = []
        for batch in events.to(next(model.parameters()).device).batches(1000):
            condition = batch.condition if model.condition_spec is not None else None
            found.append(model.log_prob(batch.x, condition, generator=generator).double().cpu())
        total += torch.cat(found)
    return -total / (draws * dimension * math.log(2))


SEEDS = {"quick": 3, "long": 5, "real": 1}
MORE = {"quick": 1, "long": 10, "real": 1}
"""Factor of the number of steps."""
IMAGES, DRAWS = 200, 8
"""The number of test images with draws, and of draws for each. Likelihoods are computed on the test split."""
MODELS = ("caflow", "dual-glow", "cinn")
MANY = 10_000
PHOTOGRAPHS = {"size": 8, "points": 20_000, "fractions": [0.7, 0.1, 0.2], "seed": 0}


@dataclass(frozen=True)
class ImageTask:
    """A source of images, what is done to them, and what each model needs: its channels and its steps.

    ``settings`` are further settings of all models, and ``own`` further settings of one model, by its name. Likelihoods
    are computed on the first ``test`` images of the test split.
    """

    source: str
    config: Mapping[str, Any]
    operator: Mapping[str, Any]
    hidden: Mapping[str, int]
    steps: Mapping[str, int]
    batch_size: int = 128
    test: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


TASKS = {
    "super-resolution": ImageTask(
        "data:photographs",
        {**PHOTOGRAPHS, "grey": True},
        {"name": "box-downsample", "factor": 2},
        hidden={"caflow": 32, "dual-glow": 56, "cinn": 67},
        steps={"caflow": 1200, "dual-glow": 1320, "cinn": 730},
    ),
    "inpainting": ImageTask(
        "data:photographs",
        {**PHOTOGRAPHS, "grey": True},
        {"name": "mask", "region": "right", "fraction": 0.5},
        hidden={"caflow": 32, "dual-glow": 56, "cinn": 67},
        steps={"caflow": 1200, "dual-glow": 1300, "cinn": 720},
    ),
    "colourisation": ImageTask(
        "data:photographs",
        PHOTOGRAPHS,
        {"name": "grey"},
        hidden={"caflow": 40, "dual-glow": 72, "cinn": 135},
        steps={"caflow": 1000, "dual-glow": 970, "cinn": 415},
    ),
    **{
        f"fashion-{task}": ImageTask(
            "data:fashion-mnist",
            {"root": str(FASHION_MNIST), "pad": 2, "seed": 0},
            operator,
            hidden={"caflow": 50, "dual-glow": 56, "cinn": 67},
            steps={"caflow": 720, "dual-glow": 740, "cinn": 262},
            batch_size=64,
            test=2000,
            settings={"preprocess": "logit"},
            own={"caflow": {"coarser": "entry"}},
        )
        for task, operator in (
            ("super-resolution", {"name": "box-downsample", "factor": 2}),
            ("inpainting", {"name": "mask", "region": "right", "fraction": 0.5}),
        )
    },
    "photographs-colourisation": ImageTask(
        "data:photographs",
        PHOTOGRAPHS,
        {"name": "grey"},
        hidden={"caflow": 65, "dual-glow": 72, "cinn": 135},
        steps={"caflow": 1430, "dual-glow": 1470, "cinn": 655},
        own={"caflow": {"coarser": "entry"}},
    ),
}


@dataclass(frozen=True)
class Variant:
    """A change of a flow: its settings, the channels of its conditional networks where others keep CAFLOW's number of
    parameters, and its steps over the flow's own for as much CPU time."""

    changes: Mapping[str, Any]
    flow: str = "caflow"
    hidden: int | None = None
    steps: float = 1.0


HAAR: Mapping[str, Any] = {"squeeze": "haar"}
NARROW: Mapping[str, Any] = {"encoder": {"steps": 2, "hidden": 16}}
STAGED: Mapping[str, Any] = {"order": "staged-joint"}
VARIANTS = {
    **{f"{model}-haar": Variant(HAAR, model) for model in MODELS},
    "caflow-levels": Variant({"coarser": "levels"}, hidden=40, steps=1.06),
    "no-lambda": Variant({"condition_weight": 0.0}),
    "more-lambda": Variant({"condition_weight": 1e-2}),
    "adapter": Variant({"adapter": 32}, hidden=29),
    "narrow-encoder": Variant(NARROW, hidden=33),
    "staged": Variant(STAGED, steps=1.7),
    "dual-glow-staged": Variant(STAGED, "dual-glow", steps=1.7),
}
"""The Haar squeeze is tried on every task, ``caflow-levels`` on colours, the rest on inpainting."""


def task_measure(host: Any, profile: str, seed: int, *, task: str, model: str, measure: str) -> float:
    """A measure of a model on a task, the mean over trainings from several seeds.

    ``bits`` is -log2 p(w | y) / dim(w) on all test images; ``hidden bits`` the same over the hidden pixels alone, with
    what the known ones cost counted in; ``shuffled`` the bits with each image given another's condition. Of draws at
    temperature 1, clipped to the data's range: ``psnr`` against the truth, ``hidden psnr`` of hidden pixels alone,
    ``consistency`` (the PSNR of what the operator makes of draws and truths), all in decibels, and ``diversity``, the
    deviation of a pixel over draws for one condition, on the scale 0 to 255. ``speckle`` is the speckle of draws
    divided by the speckle of the truth. ``seconds`` is the time of the training.
    """
    return _mean(_over_seeds(host, profile, seed, task, model, measure))


def above(host: Any, profile: str, seed: int, *, task: str, model: str, other: str, measure: str = "bits") -> float:
    """Difference between the measures of two models, the mean over seeds."""
    return _mean(_differences(host, profile, seed, task, model, other, measure))


def above_error(
    host: Any, profile: str, seed: int, *, task: str, model: str, other: str, measure: str = "bits"
) -> float:
    """The standard error of ``above`` over the seeds."""
    found = torch.tensor(_differences(host, profile, seed, task, model, other, measure), dtype=torch.float64)
    return float(found.std() / math.sqrt(len(found))) if len(found) > 1 else 0.0


def relative_measure(host: Any, profile: str, seed: int, *, task: str, model: str, measure: str) -> float:
    """A model's measure over CAFLOW's, such as its ``seconds``."""
    return task_measure(host, profile, seed, task=task, model=model, measure=measure) / task_measure(
        host, profile, seed, task=task, model="caflow", measure=measure
    )


def parameters(host: Any, profile: str, seed: int, *, task: str, model: str) -> float:
    """A model's number of parameters over CAFLOW's."""
    data = task_source(host, task)
    flows = [
        host.create(component_of_model(name), model_settings(task, name, 1.0), data=data) for name in (model, "caflow")
    ]
    ours, theirs = (float(sum(one.numel() for one in flow.parameters())) for flow in flows)
    return ours / theirs


def not_finite(host: Any, profile: str, seed: int, *, task: str) -> float:
    """Number of 10,000 samples at temperature 1 of a trained CAFLOW that are not finite."""
    return float((~_many(host, profile, seed, task).flatten(1).isfinite().all(1)).sum())


def outside(host: Any, profile: str, seed: int, *, task: str) -> float:
    """The share of the pixels of these draws that lies outside the data's range, half a level added."""
    model = _model(host, profile, task, derive_seed(seed, task, 0), "caflow").model
    draws, scale, half = _many(host, profile, seed, task), model.event_scale, model.bin_width / 2
    beyond: Tensor = (draws < scale.low - half) | (draws > scale.high + half)
    return float(beyond.double().mean())


def encodings(host: Any, profile: str, seed: int, *, task: str) -> float:
    """Number of encodings of each condition for 10 samples for each of 7 conditions."""
    data = task_source(host, task)
    model = host.create("flow:caflow", model_settings(task, "caflow", 1.0), data=data).eval()
    model.call_rows()  # is measured by events of no meaning, which are no draws
    rows: list[int] = []
    encoder = model.parts.condition_encoder
    watch = encoder.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    model.sample(10, data.load("test").take(torch.arange(7)).condition, generator=torch.Generator().manual_seed(seed))
    watch.remove()
    return sum(rows) / 7


def component_of_model(model: str) -> str:
    """The component that a row's model is."""
    return f"flow:{VARIANTS[model].flow if model in VARIANTS else model}"


def model_settings(task: str, model: str, more: float) -> dict[str, Any]:
    """The configuration of a model on a task, for so many times its steps."""
    chosen = TASKS[task]
    variant = VARIANTS.get(model, Variant({}, model))
    hidden, own = variant.hidden or chosen.hidden[variant.flow], chosen.own.get(variant.flow, {})
    steps = max(2, round(more * variant.steps * chosen.steps[variant.flow]))
    training = {**training_settings(steps), "batch_size": chosen.batch_size}
    base: dict[str, Any] = {"scales": 2, "training": training, **chosen.settings}
    if variant.flow == "cinn":
        flow = {"steps": 4, "transitions": 2, "hidden": hidden}
        return {**base, "flow": flow, "features": 32, **own, **variant.changes}
    return {
        **base,
        "encoder": {"steps": 2, "hidden": 24},
        "translation": {"steps": 2, "hidden": hidden},
        "condition_size": "event",
        "condition_weight": 1e-3,
        **own,
        **variant.changes,
    }


@cache
def task_source(host: Any, task: str) -> DataSource:
    """Images with what the task makes of them."""
    images = host.create(TASKS[task].source, dict(TASKS[task].config))
    made: DataSource = host.create("data:paired", {"operator": dict(TASKS[task].operator), "seed": 0}, data=images)
    return made


@cache
def _model(host: Any, profile: str, task: str, run: int, model: str) -> TrainedFlow:
    return trained_flow(
        host, component_of_model(model), model_settings(task, model, MORE[profile]), task_source(host, task), run
    )


@cache
def _measured(host: Any, profile: str, task: str, run: int, model: str) -> Mapping[str, float]:
    made = _model(host, profile, task, run, model)
    test = task_source(host, task).load("test")
    test = test.take(torch.arange(len(test))[: TASKS[task].test])
    found = {"seconds": made.seconds, "bits": float(costs(made.model, test, run, draws=2).mean())}
    found["shuffled"] = float(costs(made.model, _shuffled(test), run, draws=2).mean())
    few = test.take(torch.arange(min(IMAGES, len(test))))
    draws = made.model.sample(DRAWS, few.condition, generator=derive_generator(run, "draws"))
    found |= _of_draws(task_source(host, task), few, draws, made.model.event_scale)
    if "hidden psnr" in found:
        found["hidden bits"] = found["bits"] / TASKS[task].operator["fraction"]
    words = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"{task}, {model}, {made.parameters} parameters: {words}", flush=True)
    return found


def _of_draws(source: DataSource, truth: Dataset, draws: Tensor, scale: Any) -> dict[str, float]:
    """The measures of draws (n, N, *E) for test images."""
    assert isinstance(source, HasOperator)
    operator = source.operator.at(truth.index)
    draws = draws.clamp(scale.low, scale.high)
    flat, real = draws.flatten(0, 1), truth.x.repeat(len(draws), 1, 1, 1)
    found = {
        "psnr": float(psnr(flat, real).mean()),
        "consistency": float(consistency(operator, flat, real).clamp_max(100).mean()),
        "diversity": float(diversity(draws).mean()),
        "speckle": float(speckle(flat).mean() / speckle(truth.x).mean()),
    }
    if isinstance(operator, Mask):
        found["hidden psnr"] = float(psnr_within(flat, real, 1 - operator(torch.ones_like(real))).mean())
    return found


def _shuffled(test: Dataset) -> Dataset:
    """The images with the conditions of others."""
    others = test.take((torch.arange(len(test)) + len(test) // 2) % len(test))
    return Dataset(x=test.x, condition=others.condition, index=test.index)


@cache
def _many(host: Any, profile: str, seed: int, task: str) -> Tensor:
    """10,000 draws, each for a condition of the test."""
    model = _model(host, profile, task, derive_seed(seed, task, 0), "caflow").model
    test = task_source(host, task).load("test")
    generator = derive_generator(seed, "many")
    parts, size = [], min(500, len(test))
    for start in range(0, MANY, size):
        rows = (start + torch.arange(size)) % len(test)
        parts.append(model.sample(1, test.take(rows).condition, generator=generator)[0])
    return torch.cat(parts)[:MANY]


def _over_seeds(host: Any, profile: str, seed: int, task: str, model: str, measure: str) -> Sequence[float]:
    return [_measured(host, profile, task, derive_seed(seed, task, n), model)[measure] for n in range(SEEDS[profile])]


def _differences(
    host: Any, profile: str, seed: int, task: str, model: str, other: str, measure: str
) -> Sequence[float]:
    ours = _over_seeds(host, profile, seed, task, model, measure)
    theirs = _over_seeds(host, profile, seed, task, other, measure)
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def headline_measure(host: Any, profile: str, seed: int, *, task: str, model: str, measure: str) -> float | None:
    """A measure of a model, as ``task_measure``; None where the images are absent."""
    return task_measure(host, profile, seed, task=task, model=model, measure=measure) if _at_hand(task) else None


def headline_above(host: Any, profile: str, seed: int, *, task: str, model: str) -> float | None:
    """Additional cost of a model relative to CAFLOW, in bits per dimension; None where the images are absent.

    It is at most what CAFLOW's images cost more with the conditions of others. That is 0 of an untrained flow, whose
    cost differs from another's by chance.
    """
    if not _at_hand(task):
        return None
    used = [task_measure(host, profile, seed, task=task, model="caflow", measure=name) for name in ("shuffled", "bits")]
    return min(above(host, profile, seed, task=task, model=model, other="caflow"), used[0] - used[1])


def headline_parameters(host: Any, profile: str, seed: int, *, task: str, model: str) -> float | None:
    """A model's number of parameters over CAFLOW's; None where the images are absent."""
    return parameters(host, profile, seed, task=task, model=model) if _at_hand(task) else None


def _at_hand(task: str) -> bool:
    return FASHION_MNIST.is_dir() or TASKS[task].source != "data:fashion-mnist"

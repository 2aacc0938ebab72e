"""The verbs ``reconstruct`` and ``generate``: events decoded from codes, held to real ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, ScorefoldError, SplitError
from scorefold.interfaces import DataSource, Encodes, TensorSource
from scorefold.random import draw_normal
from scorefold.stage import Outcome, StageContext
from scorefold_toolkit.data.splits import in_order
from scorefold_toolkit.drawing import device_of, draw_opposite
from scorefold_toolkit.metrics import energy_distance
from scorefold_toolkit.metrics.measure import EvaluationBatch, Measure, Units
from scorefold_verbs.config import GenerateOptions, ReconstructOptions
from scorefold_verbs.inputs import Inputs, on_device, points_of
from scorefold_verbs.latents.codes import (
    MixtureDistribution,
    NormalDistribution,
    beside,
    code_distributions,
    decoded,
    encoder_of,
    first_training_points,
    fit_mixture,
)
from scorefold_verbs.latents.measures import RELATIVE_ERROR, Errors, ReconstructionErrors, lpips_of, realism
from scorefold_verbs.verdicts import of_generated, of_reconstruction

_SHOWN_DRAWS = 3
_SEEN = 1000  # how many events give the range of data without bounds
_KEPT = 2**22  # numbers in an array that is written beside the result
_ENERGY_POINTS = 4000


@dataclass(frozen=True)
class Reconstructed:
    """Content of the figure: ``originals`` (G, *E), some draws (n, G, *E) of each, the mean of all draws where there
    are several, the bounds (low, high) of events; ``by_draws`` (N,) is the root-mean-square distance of the mean of 1,
    2, ... draws; ``beside`` (G, *E) are the reconstructions of another component.
    """

    originals: Tensor
    draws: Tensor
    mean: Tensor | None
    bounds: tuple[float, float]
    by_draws: Tensor
    beside: Tensor | None = None


@torch.no_grad()
def reconstruct(component: Any, inputs: Inputs, options: ReconstructOptions, context: StageContext) -> Outcome:
    """Measure the reconstructions of data points from their codes, and how realistic they look.

    Of one draw, and of the mean of all where there are several: the relative error (``Errors``), distances of points
    (``ReconstructionErrors``), sharpness and Frechet distances (``realism``).

    Arrays are in the order of the rows of the data, which stand beside as ``rows``. ``beside`` is another component,
    whose reconstructions stand in the figure too. Raises ``ConfigError`` for a component without a latent space and for
    measures that do not fit its events, ``DataError`` for an empty split, for points that are all the same and for
    reconstructions that are not finite.
    """
    encoder = encoder_of(component, "reconstruct")
    source: DataSource = inputs["data"]
    dataset = points_of(source, options.limit, context)
    shape, device, scale = dataset.event_shape, device_of(component), source.event_scale
    units = Units.of(scale, dataset.tensor(_SEEN if None in (scale.low, scale.high) else 1), "none")
    others = _other_points(source, len(dataset), options.batch_size, context)
    errors = Errors(options.draws)
    distances = ReconstructionErrors(units, shape, lpips_of(options, shape, device))
    measures: list[Measure] = [errors, distances, *realism(options, shape, units, others, device)]
    generators = context.generator("reconstruct", device=device), context.generator("codes", device=device)
    kept: list[Tensor] = []
    shown: list[EvaluationBatch] = []
    done = 0
    for batch in dataset.batches(options.batch_size):
        held = EvaluationBatch(batch.x, _draws(encoder, batch.x, options, *generators))
        for measure in measures:
            measure.add(held)
        if done < options.shown:
            shown.append(held)
        if len(dataset) * batch.x[0].numel() <= _KEPT:
            kept.append(held.draws[0].cpu())
        done += len(batch)
        context.progress(done, len(dataset), "reconstructed")
    error = errors.relative()
    metrics: dict[str, Any] = {"points": len(dataset)}
    arrays = {"reconstructions": torch.cat(kept)} if kept else {}
    answer = {"quantity": RELATIVE_ERROR, "value": error, **of_reconstruction(error)}
    result: dict[str, Any] = {"metrics": metrics, "answer": answer}
    if errors.certain:
        result["note"] = "the decoder is deterministic: all samples of a code are equal"
    for measure in measures:
        metrics |= measure.metrics()
        arrays |= measure.arrays()
    arrays = in_order(arrays, dataset.index)
    if options.draws > 1:
        arrays["root-mean-square distance by draws"] = errors.by_draws()
    warnings = [text for measure in measures for text in measure.warnings()]
    warnings[:0] = reconstruction_warnings(error, certain=errors.certain)
    if warnings:
        result["warnings"] = warnings
    several = options.draws > 1 and not errors.certain
    picture = _shown(shown, options.shown, units, errors.by_draws() if several else errors.by_draws()[:1])
    if inputs.get("beside") is not None:
        picture = replace(picture, beside=_beside(inputs["beside"], picture.originals, device, context))
    return Outcome({"error": error}, result, arrays, shown=picture)


def reconstruction_warnings(error: float, *, certain: bool) -> list[str]:
    """A warning for a relative error of reconstructions that have nothing to do with the events; none for others.

    ``certain`` says that all draws of a code are the same: others are sqrt(2) times as far from an event as the mean
    of the data is, where the code says nothing of it.
    """
    if error <= (1 if certain else math.sqrt(2)):
        return []
    return [
        f"reconstructions are {error:.3g} times as far from the events as the mean of the data is: the codes say "
        "nothing of them. Train longer, or with a larger code"
    ]


@torch.no_grad()
def quick_error(encoder: Encodes, x: Tensor, generator: torch.Generator) -> tuple[float | None, list[str]]:
    """The relative error of some events x (N, *E) right after a training, and its warnings.

    None where the events are all the same, and, with a warning, where they can't be decoded or not to finite numbers:
    what was trained is not lost by that.
    """
    errors = Errors(2)
    try:
        draws = torch.stack([encoder.reconstruct(x, generator=generator) for _ in range(2)])
    except ScorefoldError as refused:
        return None, [f"reconstructions can't be measured: {refused.message}"]
    if not bool(draws.isfinite().all()):
        return None, ["reconstructions are not finite. Train with a lower learning rate, or for longer"]
    errors.add(EvaluationBatch(x, draws))
    try:
        error = errors.relative()
    except DataError:
        return None, []
    return error, reconstruction_warnings(error, certain=errors.certain)


def _beside(other: Any, originals: Tensor, device: torch.device, context: StageContext) -> Tensor:
    """Reconstructions of the shown events (G, *E) by another component, decoded once."""
    encoder = encoder_of(other, "reconstruct")
    generator = context.generator("beside", device=device)
    return encoder.decode(encoder.encode(originals.to(device)), generator=generator).cpu()


def _shown(batches: list[EvaluationBatch], most: int, units: Units, by_draws: Tensor) -> Reconstructed:
    originals = torch.cat([batch.truth for batch in batches])[:most].cpu()
    draws = torch.cat([batch.draws for batch in batches], 1)[:, :most].cpu()
    few = draws[: min(_SHOWN_DRAWS, len(by_draws))]
    mean = draws.mean(0) if len(by_draws) > 1 else None
    return Reconstructed(originals, few, mean, (units.low, units.high), by_draws)


def _draws(
    encoder: Encodes, x: Tensor, options: ReconstructOptions, generator: torch.Generator, of_codes: torch.Generator
) -> Tensor:
    """Reconstructions of events (B, *E): (n, B, *E), all n of one code, half of them with the opposite noise."""
    if options.codes == "encoded":
        z = encoder.encode(x)
    else:
        mean, std = encoder.encode_distribution(x)
        z = mean + std * draw_normal(tuple(mean.shape), generator=of_codes, like=mean)

    def draw(source: torch.Generator) -> Tensor:
        return decoded(encoder, z, source, batch_size=options.batch_size, decoding=options.decoding)

    return draw_opposite(draw, options.draws, generator)


def _other_points(source: DataSource, count: int, batch_size: int, context: StageContext) -> Iterator[Tensor] | None:
    """As many real events of another split, in batches, where there is one."""
    try:
        dataset = on_device(context, source.load("test" if context.split == "train" else "train"))
    except SplitError:
        return None
    few = dataset if len(dataset) <= count else dataset.take(torch.arange(count))
    return (batch.x for batch in few.batches(batch_size)) if len(few) >= 2 else None


@torch.no_grad()
def generate(component: Any, inputs: Inputs, options: GenerateOptions, context: StageContext) -> Outcome:
    """Events (n, *E) decoded from random codes; with data, they are compared with the points of the split.

    Codes come from the distribution of the codes in training, or from a distribution fitted to the training points'
    codes. Each training point then gives a random code of its own. Distances are over as many events as the split has
    points. Next to them stand the distances of as many training points.

    Raises ``ConfigError`` for a component without a latent space. With ``codes: standard`` it is raised without a
    distribution of codes, and with other ``codes`` without data to fit. Raises ``DataError`` for events that are not
    finite, ``ScorefoldError`` for a mixture without scikit-learn.
    """
    encoder = encoder_of(component, "generate")
    source: DataSource | None = inputs.get("data")
    device = device_of(component)
    result: dict[str, Any] = {}
    metrics: dict[str, Any] = {"events": options.n}
    if options.codes == "standard":
        codes = encoder.draw_codes(options.n, generator=context.generator("codes", device=device))
    else:
        distribution, like = _fitted_distribution(encoder, source, options, context)
        codes = beside(like, distribution.draw(options.n, context.generator("codes")))
        if isinstance(distribution, MixtureDistribution):
            metrics["components"] = len(distribution.weights)
            if not distribution.converged:
                result["warnings"] = ["the fit of the mixture did not converge: take fewer components, or more points"]
    x = decoded(
        encoder,
        codes,
        context.generator("generate", device=device),
        batch_size=options.batch_size,
        decoding=options.decoding,
    )
    scale = getattr(component, "event_scale", None) if source is None else source.event_scale
    bounds = (None, None) if scale is None else (scale.low, scale.high)
    metrics |= {"mean": float(x.mean()), "std": float(x.std(correction=0))}
    if source is not None:
        found, warnings = _beside_real(x, source, options, context)
        metrics |= found
        result["warnings"] = [*result.get("warnings", []), *warnings]
        quantity = next((name for name in found if "distance" in name), None)
        if quantity is not None:
            others = [value for name, value in found.items() if "distance of other real events" in name]
            verdict = of_generated(quantity, found[quantity], others[0] if others else None)
            result["answer"] = {"quantity": quantity, "value": found[quantity], **verdict}
    if not result.get("warnings"):
        result.pop("warnings", None)
    result["metrics"] = metrics
    flat = x.cpu()
    shown = flat if bounds == (None, None) else flat.clamp(*bounds)
    return Outcome(TensorSource(flat, scale), result, {"generated": flat, "codes": codes.cpu()}, shown=shown)


def _fitted_distribution(
    encoder: Encodes, source: DataSource | None, options: GenerateOptions, context: StageContext
) -> tuple[NormalDistribution | MixtureDistribution, Tensor]:
    """The distribution of the training points' codes, and a code to say of which shape, where and in which dtype they
    are."""
    if source is None:
        raise ConfigError(
            f"codes: {options.codes} is fitted to the codes of data, and no data were given",
            hint="add 'data: <a data stage>' to the stage's inputs",
        )
    points = first_training_points(source, options.fitted, context)
    distributions = code_distributions(encoder, points, options.batch_size, context)
    like = encoder.encode(points.tensor(1))
    if options.codes == "gaussian":
        return distributions.aggregate(), like
    drawn = distributions.draw(context.generator("fitted codes"))
    return fit_mixture(drawn, options.components, context.seed("mixture")), like


def _beside_real(
    x: Tensor, source: DataSource, options: GenerateOptions, context: StageContext
) -> tuple[dict[str, float], list[str]]:
    """Metrics and warnings of generated events (n, *E) beside the points of the stage's split."""
    dataset: Dataset = points_of(source, len(x), context)
    shape, count = dataset.event_shape, len(dataset)
    real = dataset.tensor()
    units = Units.of(source.event_scale, real, "none")
    others = _other_points(source, count, options.batch_size, context)
    metrics: dict[str, float] = {"points": count}
    if len(shape) != 3 and count > 1:
        few = real[:_ENERGY_POINTS]
        metrics["energy distance"] = energy_distance(x[: len(few)], few)
        training = _other_points(source, len(few), options.batch_size, context)
        if training is not None:
            metrics["energy distance of other real events"] = energy_distance(torch.cat(list(training)), few)
    measures = realism(options, shape, units, others, x.device)
    for start in range(0, count, options.batch_size):
        rows = slice(start, min(start + options.batch_size, count))
        for measure in measures:
            measure.add(EvaluationBatch(real[rows], x[rows][None]))
    warnings: list[str] = []
    for measure in measures:
        metrics |= measure.metrics()
        warnings += measure.warnings()
    return metrics, warnings

"""Shared parts of the verbs of latent codes: the codes of data, and events decoded from codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from scorefold.data import Dataset
from scorefold.errors import ConfigError, DataError, SplitError
from scorefold.interfaces import DataSource, Encodes, EncodesNoise
from scorefold.stage import StageContext
from scorefold_toolkit.drawing import device_of
from scorefold_verbs.config import PathOptions
from scorefold_verbs.inputs import on_device
from scorefold_verbs.latents.codes import CodeDistributions

HeldNoise = Literal["own", "shared", "drawn"]


def encoder_of(component: Any, doing: str) -> Encodes:
    """The component as one that encodes. Raises ``ConfigError`` where it doesn't."""
    if not isinstance(component, Encodes):
        raise ConfigError(f"{type(component).__name__} has no latent space: it can't {doing}")
    return component


def code_distributions(
    component: Encodes, dataset: Dataset, batch_size: int, context: StageContext
) -> CodeDistributions:
    """The distributions of the codes of points, on the CPU."""
    means, deviations = [], []
    for batch in dataset.batches(batch_size):
        mean, std = component.encode_distribution(batch.x)
        means.append(mean.flatten(1).cpu())
        deviations.append(std.flatten(1).cpu())
        context.progress(sum(map(len, means)), len(dataset), "encoded")
    return CodeDistributions(torch.cat(means), torch.cat(deviations))


def first_training_points(source: DataSource, limit: int | None, context: StageContext) -> Dataset:
    """The first points of the training split, all without a limit. Raises ``SplitError`` where there are none."""
    dataset = on_device(context, source.load("train"))
    if len(dataset) == 0:
        raise SplitError("the training split has no points", hint="give it a share of the points")
    return dataset if limit is None or limit >= len(dataset) else dataset.take(torch.arange(limit))


def held_noise(component: Encodes, wanted: HeldNoise | None) -> HeldNoise:
    """The noise along a row. Raises ``ConfigError`` where the noise of a point can't be encoded."""
    if wanted is None:
        return "own" if isinstance(component, EncodesNoise) else "shared"
    if wanted == "own" and not isinstance(component, EncodesNoise):
        raise ConfigError(
            f"{type(component).__name__} encodes no noise, so no event can keep its own",
            hint="noise: shared decodes a whole row with one draw",
        )
    return wanted


def own_noise(component: Encodes, x: Tensor, z: Tensor, options: PathOptions) -> Tensor:
    """The noise (B, *E) with which points x (B, *E) come back from their codes z (B, *L)."""
    assert isinstance(component, EncodesNoise)
    pairs = zip(x.split(options.batch_size), z.split(options.batch_size), strict=True)
    return torch.cat([component.encode_noise(*pair, **options.decoding) for pair in pairs])


def decoded(
    component: Encodes,
    codes: Tensor,
    generator: torch.Generator,
    *,
    batch_size: int,
    decoding: Mapping[str, Any],
    noise: Tensor | None = None,
) -> Tensor:
    """Codes (n, *L) decoded in batches, with a noise (n, *E) where it is given: (n, *E).

    Raises ``DataError`` for events that are not finite.
    """
    parts = []
    noises = [None] * len(codes) if noise is None else noise.split(batch_size)
    for batch, held in zip(codes.split(batch_size), noises, strict=False):
        given = {} if held is None else {"noise": held}
        parts.append(component.decode(batch, generator=generator, **decoding, **given))
        if not bool(torch.isfinite(parts[-1]).all()):
            raise DataError(
                "the decoded events are not finite",
                hint="decode with more steps or a weaker guidance, codes nearer to those of data, or train for longer",
            )
    return torch.cat(parts)


def decoded_rows(
    component: Encodes,
    codes: Tensor,
    held: HeldNoise,
    noise: Tensor | None,
    options: PathOptions,
    context: StageContext,
) -> Tensor:
    """Codes in rows (R, T, *L) decoded to events (R, T, *E) on the CPU; ``noise`` (R, T, *E) where it is a row's own.

    Each column is decoded from the same seed unless noise is drawn afresh, so that whatever the decoder draws is one
    draw along a row.
    """

    def seeded() -> torch.Generator:
        return context.generator("decode", device=device_of(component))

    generator, columns = seeded(), []
    for column in range(codes.shape[1]):
        columns.append(
            decoded(
                component,
                codes[:, column],
                generator if held == "drawn" else seeded(),
                batch_size=options.batch_size,
                decoding=options.decoding,
                noise=None if noise is None else noise[:, column],
            ).cpu()
        )
        context.progress(column + 1, codes.shape[1], "columns of events")
    return torch.stack(columns, 1)


def beside(codes: Tensor, flat: Tensor) -> Tensor:
    """Flattened codes (..., k) in the shape, on the device and in the dtype of codes (n, *L)."""
    return flat.to(codes).reshape(*flat.shape[:-1], *codes.shape[1:])

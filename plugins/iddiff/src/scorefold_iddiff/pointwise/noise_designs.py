"""Noise designs: which noises are laid around a point, and how many.

Independent noises (``iid``) are the paper's. The other two are orthonormal frames turned at random, with noises of
the Gaussian's size sqrt(D), whose second moment is the identity exactly; they determine a linear response from as few
calls of the score as can be. One turn, from the seed alone, serves all points. Exactly D orthogonal noises are none
of the designs: centring them loses a direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scorefold.errors import ConfigError
from scorefold.seeds import derive_generator

NOISE_BLOCK = 256
"""Independent noises drawn from one seed: the noise of a point is the same however the calls of the score are cut."""

Name = Literal["iid", "pairs", "simplex"]


@dataclass(frozen=True)
class Design:
    """``count`` noises of a kind in ``ambient`` dimensions; make one with ``design``."""

    name: Name
    ambient: int
    count: int

    @property
    def white(self) -> bool:
        """True if the noises' second moment is the identity exactly, and their mean 0."""
        return self.name != "iid"

    @property
    def paired(self) -> bool:
        """True if every noise comes with its negative."""
        return self.name == "pairs"


def design(name: Name, ambient: int, noises: int | None) -> Design:
    """A design with ``noises`` noises, or as many as it takes: 4 D for ``iid`` (the published code's number), 2 D for
    ``pairs`` and D + 1 for ``simplex``, or whole multiples of these.

    Raises ``ConfigError`` for numbers that a design can't have.
    """
    if name == "iid":
        noises = noises or max(4 * ambient, 16)
        if noises < ambient + 2:
            raise ConfigError(
                f"noises is {noises}; with {ambient} coordinates a spectrum needs at least {ambient + 2} noises",
                hint=f"leave it out for {4 * ambient}",
            )
        return Design(name, ambient, noises)
    block = 2 * ambient if name == "pairs" else ambient + 1
    if noises is not None and noises % block:
        raise ConfigError(
            f"noises is {noises}; with {ambient} coordinates the design {name} has {block} noises, or a multiple",
            hint=f"leave it out for {block}, or use design: iid, which takes any number",
        )
    return Design(name, ambient, noises or block)


def noises(design: Design, index: Tensor, seed: int, like: Tensor, at_once: int) -> Iterator[Tensor]:
    """The noises around points in parts of about ``at_once``, (P, R, D) or (1, R, D) where all points share them.

    ``index`` (P,) numbers the points in their data: with ``seed`` it decides their noise, in whatever company they are
    and however it is cut. Of ``pairs`` only one noise of each pair is given. ``like`` lends its dtype and device.
    """
    if design.name == "iid":
        yield from _independent(design, index, seed, like, at_once)
        return
    block = design.ambient if design.paired else design.ambient + 1
    for number in range(design.count // (2 * block if design.paired else block)):
        generator = derive_generator(seed, design.name, number, device=like.device)
        frame = _pairs(design.ambient, generator, like) if design.paired else _simplex(design.ambient, generator, like)
        for part in frame.split(max(1, at_once // 2 if design.paired else at_once)):
            yield part[None]


def _independent(design: Design, index: Tensor, seed: int, like: Tensor, at_once: int) -> Iterator[Tensor]:
    blocks = range(-(-design.count // NOISE_BLOCK))
    blocks_at_once = max(1, at_once // NOISE_BLOCK)
    for start in range(0, len(blocks), blocks_at_once):
        chosen = blocks[start : start + blocks_at_once]
        yield torch.stack([_blocks(design, number, chosen, seed, like) for number in index.tolist()])


def _blocks(design: Design, number: int, blocks: range, seed: int, like: Tensor) -> Tensor:
    """The noise of one point in some blocks, (R, D); the last block is cut at the design's count."""
    parts = []
    for block in blocks:
        generator = derive_generator(seed, number, block, device=like.device)
        count = min(NOISE_BLOCK, design.count - block * NOISE_BLOCK)
        shape = (NOISE_BLOCK, design.ambient)
        parts.append(torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)[:count])
    return torch.cat(parts)


def _pairs(ambient: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """sqrt(D) times the rows of a random orthogonal matrix, (D, D)."""
    columns = _gaussian((ambient, ambient), generator, like)
    frame: Tensor = ambient**0.5 * torch.linalg.qr(columns).Q
    return frame.to(like.dtype)


def _simplex(ambient: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """The corners of a regular simplex around the origin at distance sqrt(D), turned at random, (D + 1, D).

    They are the rows of an orthonormal basis of what is orthogonal to (1, ..., 1), times sqrt(D + 1).
    """
    columns = _gaussian((ambient + 1, ambient), generator, like)
    around = torch.cat([torch.ones_like(columns[:, :1]), columns], dim=1)
    corners: Tensor = (ambient + 1) ** 0.5 * torch.linalg.qr(around).Q[:, 1:]
    return corners.to(like.dtype)


def _gaussian(shape: tuple[int, int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Normal draws in at least float32: half precision has no decompositions."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.randn(shape, generator=generator, dtype=dtype, device=like.device)

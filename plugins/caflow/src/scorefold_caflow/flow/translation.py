"""The distribution of an image's latents L given a condition's latents D: one flow a scale, each of several levels.

CAFLOW (Batzolis et al. 2021) gives L_i what is not finer: p(L | D) = prod_i p(L_i | L_{i-1}, ..., L_0, D_i, ..., D_0).
The flow of L_i has the levels j = i, ..., 0. At level i it sees D_i, at a level j below it L_j and D_j; each level but
the last finishes the first half of its channels as the latent z_j^i. Dual-Glow (Sun et al. 2019) keeps the first level
alone: p(L | D) = prod_i p(L_i | D_i).

Scales count from 0, the coarsest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from scorefold_caflow.config import EncoderConfig, StepsConfig
from scorefold_caflow.flow.inputs import resized_channels, resized_condition
from scorefold_caflow.layers import FlowBlock
from scorefold_toolkit.nn import squeeze

Latents = list[Tensor]
"""The latents of an image, the coarsest first: entry i is (B, C_i, H_i, W_i)."""


class Encoder(nn.Module):
    """An image (B, C, H, W) to its latents, the coarsest first, and log |det|.

    At each scale a block halves the image; the first half of its channels is the scale's latent and the second half
    goes on, all of it at the last scale. Scale s = 1 .. n, from the finest, has the latent (2^s C, H / 2^s, W / 2^s),
    the last one twice as many channels.
    """

    def __init__(
        self, shape: tuple[int, ...], scales: int, config: EncoderConfig, *, squeeze: str, recompute: str
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            FlowBlock(shape[0] * 2**scale, config, squeeze=squeeze, recompute=recompute) for scale in range(scales)
        )

    def forward(self, x: Tensor) -> tuple[Latents, Tensor]:
        latents: Latents = []
        total = x.new_zeros(())
        for block in self.blocks:
            x, log_det = block(x)
            total = total + log_det
            if len(latents) + 1 < len(self.blocks):
                latent, x = x.chunk(2, 1)
                latents.append(latent)
        return [x, *reversed(latents)], total

    def inverse(self, latents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The image of its latents, and log |det| of this direction."""
        x, *finer = latents
        total = x.new_zeros(())
        for scale, block in enumerate(reversed(self._blocks())):
            if scale:
                x = torch.cat((finer[scale - 1], x), 1)
            x, log_det = block.inverse(x)
            total = total + log_det
        return x, total

    def initialise(self, x: Tensor) -> Latents:
        """The latents, with what starts from data set by a batch of images."""
        latents: Latents = []
        for block in self._blocks():
            x = block.initialise(x)
            if len(latents) + 1 < len(self.blocks):
                latent, x = x.chunk(2, 1)
                latents.append(latent)
        return [x, *reversed(latents)]

    def _blocks(self) -> list[FlowBlock]:
        return [block for block in self.blocks if isinstance(block, FlowBlock)]


def latent_shapes(shape: tuple[int, ...], scales: int) -> tuple[tuple[int, int, int], ...]:
    """The shapes of the latents of an image (C, H, W), the coarsest first."""
    channels, height, width = shape
    each = [(channels * 2**s, height // 2**s, width // 2**s) for s in range(1, scales + 1)]
    coarsest, *finer = reversed(each)
    return ((2 * coarsest[0], *coarsest[1:]), *finer)


Shape = tuple[int, int, int]


class LatentTranslation(nn.Module):
    """L (the coarsest first) given D to z, a list of z_j^i for i = 0 .. n-1 and j = i .. 0, and log |det|; and back.

    ``shapes`` are the shapes of L and ``given`` the shapes of D, none without D. ``constant`` is the number of channels
    that are the same at every pixel and join every condition (classes and vectors). ``coarser`` is where coarser
    latents of both images enter: ``levels``, at a level of each, as CAFLOW was published; ``entry``, all of them at
    the first level, the only one then; or ``none``, Dual-Glow. ``shared`` gives all flows one block a level below
    their own, which then runs on the latents of all scales as one batch.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        given: Sequence[Shape],
        config: StepsConfig,
        *,
        constant: int = 0,
        coarser: Literal["levels", "entry", "none"] = "levels",
        shared: bool = False,
        adapter: int | None = None,
        recompute: str = "no",
    ) -> None:
        super().__init__()
        self.shapes, self.coarser, self.shared = tuple(shapes), coarser, shared
        self.entries, self.inner = nn.ModuleList(), nn.ModuleList()
        for j, (channels, height, width) in enumerate(shapes):
            size = (height // 2, width // 2)
            seen = resized_channels(_squeezed(given[j]), size) if given else 0

            def block(channels: int, condition: int) -> FlowBlock:
                return FlowBlock(
                    channels,
                    config,
                    condition=condition + constant,
                    injector=True,
                    adapter=adapter,
                    recompute=recompute,
                )

            before = [*shapes[:j], *given[:j]] if coarser == "entry" else []
            self.entries.append(block(channels, seen + sum(resized_channels(shape, size) for shape in before)))
            finer = len(shapes) - 1 - j if coarser == "levels" else 0
            # What arrives at the last level is half as wide as L_0, which is not divided.
            running = channels // 2 if j == 0 else channels
            count = min(finer, 1) if shared else finer
            self.inner.append(nn.ModuleList(block(running, 4 * channels + seen) for _ in range(count)))

    @property
    def latent_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the latents z_j^i, in their order."""
        found: list[Shape] = []
        for i, (channels, height, width) in enumerate(self.shapes):
            running = (4 * channels, height // 2, width // 2)
            for _ in range(i if self.coarser == "levels" else 0):
                half = (running[0] // 2, *running[1:])
                found.append(half)
                running = (4 * half[0], half[1] // 2, half[2] // 2)
            found.append(running)
        return tuple(found)

    def forward(self, latents: Latents, given: Latents, constant: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        finished: dict[tuple[int, int], Tensor] = {}
        total = latents[0].new_zeros(())
        running: dict[int, Tensor] = {}
        for j in reversed(range(len(latents))):
            if running:
                seen = self._inner_context(j, latents, given, constant)
                running, log_det = self._inner(j, running, seen, inverse=False)
                total = total + log_det
            running[j], log_det = self.entries[j](latents[j], self._entry_context(j, latents, given, constant))
            total = total + log_det
            if self.coarser != "levels":
                finished[j, j] = running.pop(j)
            for i in running:
                if j == 0:
                    finished[i, 0] = running[i]
                else:
                    finished[i, j], running[i] = running[i].chunk(2, 1)
        return [finished[key] for key in self.order()], total

    def inverse(self, z: Sequence[Tensor], given: Latents, constant: Tensor | None = None) -> tuple[Latents, Tensor]:
        """The latents L of z, from the coarsest on: 2n - 1 blocks one after another, each for all scales that it
        serves; and log |det|."""
        finished = dict(zip(self.order(), z, strict=True))
        latents: Latents = []
        total = z[0].new_zeros(())
        running: dict[int, Tensor] = {}
        for j in range(len(self.shapes)):
            if self.coarser == "levels":
                for i in reversed(range(j, len(self.shapes))):
                    running[i] = finished[i, j] if j == 0 else torch.cat((finished[i, j], running[i]), 1)
            else:
                running = {j: finished[j, j]}
            own = self._entry_context(j, latents, given, constant)
            latent, log_det = self._entry(j).inverse(running.pop(j), own)
            latents.append(latent)
            total = total + log_det
            if running:
                seen = self._inner_context(j, latents, given, constant)
                running, log_det = self._inner(j, running, seen, inverse=True)
                total = total + log_det
        return latents, total

    def initialise(self, latents: Latents, given: Latents, constant: Tensor | None = None) -> None:
        """Sets what starts from data by the latents of a batch."""
        running: dict[int, Tensor] = {}
        for j in reversed(range(len(latents))):
            own = self._entry_context(j, latents, given, constant)
            if running:
                seen = self._inner_context(j, latents, given, constant)
                blocks = self._inner_blocks(j)
                if self.shared:
                    joined = blocks[0].initialise(torch.cat(list(running.values())), _repeated(seen, len(running)))
                    running = dict(zip(running, joined.chunk(len(running)), strict=True))
                else:
                    running = {
                        i: block.initialise(h, seen) for (i, h), block in zip(running.items(), blocks, strict=True)
                    }
            running[j] = self._entry(j).initialise(latents[j], own)
            if self.coarser != "levels":
                running.clear()
            if j:
                running = {i: h.chunk(2, 1)[1] for i, h in running.items()}

    def _inner(
        self, j: int, running: dict[int, Tensor], seen: Tensor, *, inverse: bool
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Inner flows at level j for finer latents, given L_j and D_j; in one call if the block is shared."""
        blocks = self._inner_blocks(j)
        if not self.shared:
            total, moved = seen.new_zeros(()), {}
            for block, (i, h) in zip(blocks, running.items(), strict=True):
                moved[i], log_det = block.inverse(h, seen) if inverse else block(h, seen)
                total = total + log_det
            return moved, total
        joined, condition = torch.cat(list(running.values())), _repeated(seen, len(running))
        joined, log_det = blocks[0].inverse(joined, condition) if inverse else blocks[0](joined, condition)
        count = len(running)
        log_det = log_det.unflatten(0, (count, -1)).sum(0) if log_det.dim() else log_det * count
        return dict(zip(running, joined.chunk(len(running)), strict=True)), log_det

    def _entry_context(self, j: int, latents: Latents, given: Latents, constant: Tensor | None) -> Tensor | None:
        """The condition of the first level of L_j: D_j squeezed, constants, and with ``coarser: entry`` all coarser
        latents, which are brought to the size of the squeezed L_j."""
        parts = self._own(j, given, constant)
        if self.coarser == "entry":
            parts += [resized_condition(one, self._size(j)) for one in (*latents[:j], *given[:j])]
        return torch.cat(parts, 1) if parts else None

    def _inner_context(self, j: int, latents: Latents, given: Latents, constant: Tensor | None) -> Tensor:
        """The condition of a level j of finer latents: L_j and D_j squeezed, and constants."""
        return torch.cat([squeeze(latents[j]), *self._own(j, given, constant)], 1)

    def _own(self, j: int, given: Latents, constant: Tensor | None) -> list[Tensor]:
        size = self._size(j)
        own = [resized_condition(squeeze(given[j]), size)] if given else []
        return own if constant is None else [*own, constant[:, :, None, None].expand(-1, -1, *size)]

    def _size(self, j: int) -> tuple[int, int]:
        _, height, width = self.shapes[j]
        return height // 2, width // 2

    def order(self) -> list[tuple[int, int]]:
        """(i, j) of the latents z_j^i in their order."""
        scales = range(len(self.shapes))
        return [(i, j) for i in scales for j in (range(i, -1, -1) if self.coarser == "levels" else (i,))]

    def _entry(self, j: int) -> FlowBlock:
        entry = self.entries[j]
        assert isinstance(entry, FlowBlock)
        return entry

    def _inner_blocks(self, j: int) -> list[FlowBlock]:
        """The blocks of level j, in the order in which ``forward`` and ``inverse`` meet the finer scales."""
        inner = self.inner[j]
        assert isinstance(inner, nn.ModuleList)
        return [block for block in inner if isinstance(block, FlowBlock)]


def _repeated(x: Tensor, count: int) -> Tensor:
    return x.repeat(count, *[1] * (x.dim() - 1))


def _squeezed(shape: Shape) -> Shape:
    channels, height, width = shape
    return 4 * channels, height // 2, width // 2

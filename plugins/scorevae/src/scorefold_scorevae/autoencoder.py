"""The kind ``autoencoder``: an encoder and a decoder of events, without a score or a density of their own."""

from __future__ import annotations

from torch import Tensor, nn

from scorefold.data import EventScale
from scorefold.errors import ShapeError
from scorefold.interfaces import Encodes, Shown


class Autoencoder(Shown, nn.Module, Encodes):
    """An encoder and a decoder of events (B, *E), with codes (B, *latent_shape).

    Must: set ``event_shape``, ``latent_shape`` and ``event_scale`` (the units of events) by this constructor, and
    implement ``encode``, ``encode_distribution`` and ``decode``. May: ``draw_codes``. Given: ``reconstruct`` and the
    checks of what goes in. No global random state is touched: pass a generator.
    """

    event_shape: tuple[int, ...]
    event_scale: EventScale

    def __init__(
        self, event_shape: tuple[int, ...], latent_shape: tuple[int, ...], event_scale: EventScale | None = None
    ) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.latent_shape = tuple(latent_shape)
        self.event_scale = event_scale or EventScale()

    def check_events(self, x: Tensor) -> None:
        """Raises ``ShapeError`` unless x is (B, *event_shape), in the dtype of the model and on its device."""
        self._check("x", x, self.event_shape)

    def check_codes(self, z: Tensor) -> None:
        """Raises ``ShapeError`` unless z is (B, *latent_shape), in the dtype of the model and on its device."""
        self._check("z", z, self.latent_shape)

    def _check(self, name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if value.dim() != len(shape) + 1 or tuple(value.shape[1:]) != shape:
            expected = ", ".join(["B", *map(str, shape)])
            raise ShapeError(f"{name} has shape {tuple(value.shape)}; this auto-encoder takes ({expected})")
        own = next((t for t in (*self.parameters(), *self.buffers()) if t.is_floating_point()), value)
        if (value.device, value.dtype) != (own.device, own.dtype):
            raise ShapeError(
                f"{name} is {value.dtype} on {value.device}; this auto-encoder is {own.dtype} on {own.device}",
                hint=f"move one of them: {name}.to(device, dtype) or model.to(device, dtype)",
            )

"""The config of ``score:nonuniform``. No torch here."""

from __future__ import annotations

from pydantic import Field

from scorefold.config import Inline, Use
from scorefold_nonuniform.bands.config import BandedConfig


class NonUniformConfig(BandedConfig):
    """One network for all bands, each at its own speed."""

    network: Inline("network") = Field(  # type: ignore[valid-type]
        Use(use="network:unet"), description="The network, from noised event and the log-SNR of each band to event"
    )

"""Published data sets at the place where a system's package puts them, for claims that are measured on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorefold.interfaces import DataSource

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the four files in Debian's package dataset-fashion-mnist."""


def fashion_mnist(host: Any, **settings: Any) -> DataSource | None:
    """Fashion-MNIST as (1, 28, 28) in [0, 1], or by ``settings`` of ``data:fashion-mnist``; None where it is absent.

    The validation split is the same for all seeds.

    >>> from scorefold_registry import Host
    >>> source = fashion_mnist(Host.discover(), limit=10)
    >>> source is None or source.event_shape == (1, 28, 28)
    True
    """
    if not FASHION_MNIST.is_dir():
        return None
    made: DataSource = host.create("data:fashion-mnist", {"root": str(FASHION_MNIST), "seed": 0, **settings})
    return made

"""A host that claims are given where they are to be measured on a device of their own."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from scorefold.config import Config
from scorefold.data import Dataset
from scorefold.interfaces import DataSource
from scorefold_registry.host import Host
from scorefold_registry.run.executor import LocalExecutor

_PLAIN = "_scorefold_plain"


class PlacedHost(Host):
    """The components of another host, built on a device; sources that are asked for points give them there.

    What is plugged into a port is the source itself: a component reads points where it always does. ``precision`` is
    what claims train with.

    >>> import torch
    >>> host = PlacedHost(Host.discover(), "meta", "no")
    >>> host.create("data:sphere", {"points": 20}).load("test").x.device
    device(type='meta')
    """

    def __init__(self, host: Host, device: str, precision: str) -> None:
        assert host.builder is not None  # made now, so that both have the same one and know what each was made from
        vars(self).update(vars(host))
        self.device, self.precision = device, precision

    def create(
        self,
        name: str,
        config: Mapping[str, Any] | Config | None = None,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **ports: Any,
    ) -> Any:
        """See ``Host.create``; without a ``device`` it is the host's."""
        plain = {port: _plain(value) for port, value in ports.items()}
        made = super().create(name, config, generator=generator, device=device or self.device, dtype=dtype, **plain)
        return _placed(made, self.device) if isinstance(made, DataSource) else made

    @contextmanager
    def working(self, workers: int) -> Iterator[None]:
        """Give components that share jobs out so many processes."""
        around, executor = self.executor, LocalExecutor(workers, torch.get_num_threads())
        self.executor = executor
        try:
            yield
        finally:
            self.executor = around
            executor.close()


def _placed(source: DataSource, device: str) -> DataSource:
    """A copy of a source whose points are loaded to a device."""

    def load(split: str) -> Dataset:
        return source.load(split).to(device)

    placed = copy.copy(source)
    vars(placed).update({"load": load, _PLAIN: source})
    return placed


def _plain(value: Any) -> Any:
    """A port's value with the sources themselves in place of placed ones."""
    return [_plain(item) for item in value] if isinstance(value, list) else getattr(value, _PLAIN, value)

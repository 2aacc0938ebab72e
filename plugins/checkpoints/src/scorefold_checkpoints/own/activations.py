"""The output of a layer of one's own network as data: the representations that a network has learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from scorefold.data import Dataset, EventScale
from scorefold.errors import ConfigError, ScorefoldError, ShapeError
from scorefold.interfaces import DataSource
from scorefold.stage import reported
from scorefold_checkpoints.config import ActivationsConfig
from scorefold_checkpoints.diffusers.latent import joined_batches
from scorefold_checkpoints.own.modules import as_module, network_of

_LOOKED_AT = 64
"""Events that go through the network to know the shape and the units of a layer."""
_SHAPES = {"pixel-mean": (3, "(C, H, W)"), "token-mean": (2, "(T, C)"), "first-token": (2, "(T, C)")}


class Activations(DataSource):
    """The output of a layer of a torch module for the events of a source, with their labels, rows and conditions.

    The network is called with a batch of events (B, *E), in evaluation mode and without gradients. It is named by a
    module, as for ``score:callable``, or handed over as ``network``. The layer's output is a tensor (B, *F), or begins
    with one, as the layers of transformers do; an event is what ``keep`` leaves of F. The events of a split go through
    in batches, and their activations are held in memory in float32.

    Raises ``ConfigError`` for a layer that the network does not have or does not call, where the network fails, and as
    what loads it; ``ShapeError`` for an output that has no event per event, or another shape than ``keep`` needs.

    >>> from scorefold_registry import Host
    >>> digits = Host.discover().create("data:digits", {"limit": 50, "flatten": True})
    >>> net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    >>> hidden = Activations(ActivationsConfig(layer="1"), data=digits, network=net)
    >>> hidden.event_shape, bool((hidden.load("train").x >= 0).all())
    ((16,), True)
    """

    def __init__(self, config: ActivationsConfig, *, data: DataSource, network: nn.Module | Any | None = None) -> None:
        found = network_of(config, "data:activations") if network is None else as_module(network, "network")
        self._network = found
        self._layer = _layer(found, config.layer)
        self._config, self._data = config, data
        self._found: dict[str, Dataset] = {}
        self.label_names, self.rows, self.condition_spec = data.label_names, data.rows, data.condition_spec
        some = self._answers(data.load("train").tensor(_LOOKED_AT))
        self.event_shape = tuple(some.shape[1:])
        self.event_scale = EventScale.of(some)

    def load(self, split: str) -> Dataset:
        if split not in self._found:
            events, size = self._data.load(split), self._config.batch_size
            parts = reported(events.batches(size), len(events), "events put through the network", size)
            answers = [Dataset(self._answers(part.x), part.condition, part.label, part.index) for part in parts]
            self._found[split] = joined_batches(answers)
        return self._found[split]

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self._data.fingerprint()}".encode())
        for name, values in self._network.state_dict().items():
            digest.update(name.encode())
            digest.update(values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def data_warnings(self) -> tuple[str, ...]:
        said = f"the network calls its layer {self._config.layer!r} {self._calls} times: the last answer is read"
        return (*self._data.data_warnings(), *([said] if self._calls > 1 else []))

    def _shown(self, x: Tensor) -> Tensor:
        """Events as the network takes them."""
        own = next((values for values in self._network.parameters() if values.is_floating_point()), x)
        return x.to(own.device, torch.long if self._config.integers else own.dtype)

    @torch.no_grad()
    def _answers(self, x: Tensor) -> Tensor:
        """The kept part of the layer's output (B, *F) for events (B, *E)."""
        self._calls, answer = 0, None

        def catch(_module: nn.Module, _given: Any, found: Any) -> None:
            nonlocal answer
            self._calls, answer = self._calls + 1, _first(found)

        handle = self._layer.register_forward_hook(catch)
        config, shown = self._config, self._shown(x)
        try:
            with _evaluating(self._network):
                self._network(shown)
        except ScorefoldError:
            raise
        except Exception as error:  # of the user's network
            setting, kind = ("leave integers out", "real") if config.integers else ("integers: true", "whole")
            raise ConfigError(
                f"the network fails for a batch of shape {tuple(shown.shape)} ({shown.dtype}): "
                f"{type(error).__name__}: {error}",
                hint=f"{setting}, where it takes {kind} numbers; or wrap it in a function that takes such a batch",
            ) from error
        finally:
            handle.remove()
        if not self._calls:
            raise ConfigError(f"the network never calls its layer {config.layer!r}", hint="name another layer")
        if not isinstance(answer, Tensor) or len(answer) != len(x) or answer.dim() < 2:
            what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise ShapeError(f"the layer {config.layer!r} gave {what} for {len(x)} events; expected (B, *F)")
        return _kept(answer.detach().to(x.device, torch.float32), config.keep, config.layer)


def _first(answer: Any) -> Any:
    """The first tensor of an answer, a copy: a layer after it, such as a ReLU, may write into the answer itself."""
    while isinstance(answer, tuple | list) and answer:
        answer = answer[0]
    return answer.clone() if isinstance(answer, Tensor) else answer


def _layer(network: nn.Module, name: str) -> nn.Module:
    named: dict[str, nn.Module] = {each: module for each, module in network.named_modules() if each}
    if name in named:
        return named[name]
    known = list(named)
    near = get_close_matches(name, known, n=3)
    said = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known[:12])}"
    raise ConfigError(f"the network has no layer {name!r}", hint=said if known else "it has no layers with a name")


def _kept(answer: Tensor, keep: str, layer: str) -> Tensor:
    if keep == "all":
        return answer
    axes, named = _SHAPES[keep]
    if answer.dim() != axes + 1:
        raise ShapeError(
            f"keep: {keep} needs events of shape {named}; the layer {layer!r} gives {tuple(answer.shape[1:])}",
            hint="keep: all",
        )
    if keep == "first-token":
        return answer[:, 0]
    return answer.mean((2, 3)) if keep == "pixel-mean" else answer.mean(1)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """A block in which a network and each of its parts is in evaluation mode."""
    before = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training

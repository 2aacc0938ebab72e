"""The host: plugins found, components created, saved and loaded. An object, never a global."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scorefold.errors import PluginError
from scorefold.plugin import hookimpl
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.plugins.discovery import Discovery, discover
from scorefold_registry.plugins.records import Registered

if TYPE_CHECKING:
    import pluggy
    import torch

    from scorefold.config import Config
    from scorefold.plugin import Verb
    from scorefold.stage import Executor, Outcome
    from scorefold_registry.components.building import Builder


class Host:
    """Everything that is installed, by name.

    ``catalogue`` resolves names, ``plugins`` are the records of all plugins (broken ones too), ``hook`` is pluggy's
    relay of the lifecycle hooks, ``notes`` are remarks for a person, ``settings`` the ``scorefold.toml`` in force.

    >>> host = Host.discover()
    >>> "allocator:uniform" in [item.id for item in host.components("allocator")]
    True
    """

    device: str = "cpu"
    """Device of claims; ``scorefold reproduce --device`` creates a host with another device."""
    precision: str = "no"
    """Mixed precision of claims: no, bf16 or fp16."""
    executor: Executor | None = None
    """Executor for components of this host that take an ``executor``."""

    def __init__(self, discovery: Discovery) -> None:
        self.plugins = discovery.plugins
        self.manager: pluggy.PluginManager = discovery.manager
        self.notes = discovery.notes
        self.settings = discovery.settings
        self.catalogue = Catalogue(self.plugins, self.settings.prefer)
        for record in self.plugins:
            # The catalogue may have found a plugin broken that discovery had registered.
            if record.state == "broken" and self.manager.has_plugin(record.key):
                self.manager.unregister(name=record.key)
        if not self.manager.has_plugin(_HERE):
            self.manager.register(_LocalRunner(), name=_HERE)
        self._builder: Builder | None = None

    @classmethod
    def discover(
        cls,
        *,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        toml: Path | None = None,
        extra_plugins: Sequence[ModuleType] = (),
    ) -> Host:
        """A host of the installed plugins; see ``scorefold_registry.plugins.discovery.discover`` for the arguments."""
        return cls(discover(allow=allow, deny=deny, toml=toml, extra_plugins=extra_plugins))

    @property
    def hook(self) -> pluggy.HookRelay:
        """The hooks of all registered plugins."""
        return self.manager.hook

    def components(self, kind: str | None = None) -> list[Registered]:
        """The components of a kind, or all, in the order of their plugins."""
        return self.catalogue.of_kind(kind)

    def verbs(self, kind: str) -> tuple[Verb, ...]:
        """Verbs of a kind: its own verbs, and verbs that plugins add."""
        return self.catalogue.kind(kind).verbs

    def interface(self, kind: str) -> type:
        """The class that components of a kind derive from. Raises ``PluginError`` where it can't be imported."""
        return self.builder.interface(kind)

    def capabilities(self) -> dict[str, type]:
        """The classes that components with each capability derive from, by its name; those that can be imported."""
        found = {}
        for name in self.catalogue.capabilities:
            with suppress(PluginError):
                found[name] = self.builder.capability(name)
        return found

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
        """A component, built.

        ``config`` is a mapping or an instance of the component's config model. ``ports`` are objects, or components
        named inline (``{"use": "kind:name", "config": {...}}`` or just the name). All randomness of the construction
        comes from ``generator`` (without one, from a fixed seed); torch's global state is left as it was. Modules are
        moved to ``device`` and ``dtype``. A constructor that asks for an ``executor`` gets the host's, if it has one.

        Raises ``PluginError`` for an unknown or broken component and ``ConfigError`` for a config or a port that does
        not fit.
        """
        from scorefold_registry.components.building import Placement, draw_seed

        registered = self.catalogue.resolve(name)
        return self.builder.build(
            registered, config, ports, Placement(draw_seed(generator), device, dtype, self.executor)
        )

    def save(self, obj: Any, path: Path | str, bundle: bool = False, half: bool = False) -> None:
        """Writes the state of an object that this host made into a folder, as safetensors and JSON.

        Its own parameters only: what its ports are plugged to is referred to by relative path and digest, or copied
        into the folder with ``bundle``. Data ports leave only the shape and scale of the data. With ``half`` the
        parameters are kept in float16, at half the size; what is loaded from them computes as the object does. Raises
        ``ArtefactError`` where a port's object has no saved state, or has changed since it was saved, and for a
        parameter too large for float16.
        """
        from scorefold_registry.components.saving import save

        save(self.builder, obj, Path(path), bundle, half)

    def load(self, path: Path | str, device: torch.device | str | None = None) -> Any:
        """Load an object from its saved state, without its data; runs no code from the folder.

        Raises ``ArtefactError`` for a folder that is not whole, that refers to a state that is gone or changed, or
        whose component's revision has moved on without a ``migrate``.
        """
        from scorefold_registry.components.saving import load_object

        return load_object(self.builder, Path(path), device, self.executor)

    def moved(self, obj: Any, path: Path | str) -> None:
        """Says that the folder an object was saved to now stands at ``path`` (after a rename), for references to it."""
        from scorefold_registry.components.saving import note_new_place

        note_new_place(self.builder, obj, Path(path))

    @property
    def builder(self) -> Builder:
        """Builder of components, which knows their provenance. Importing it imports torch."""
        if self._builder is None:
            from scorefold_registry.components.building import Builder

            self._builder = Builder(self.catalogue)
        return self._builder


_HERE = "scorefold-this-process"


class _LocalRunner:
    """The default answer to ``scorefold_run_stage``: this process does the stage that the inputs belong to."""

    @hookimpl(trylast=True)
    def scorefold_run_stage(self, inputs: Any) -> Outcome | None:
        compute = getattr(inputs, "compute", None)
        return None if compute is None else compute()  # type: ignore[no-any-return]

"""The host: plugins found, components created, saved and loaded. An object, never a global."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scorefold_registry.catalogue import Catalogue
from scorefold_registry.discovery import Discovery, discover
from scorefold_registry.records import Registered

if TYPE_CHECKING:
    import pluggy
    import torch

    from scorefold.config import Config
    from scorefold_registry.building import Builder
    from scorefold_registry.comparison import ComparisonResult
    from scorefold_registry.run_result import RunResult
    from scorefold_registry.sweep_result import SweepResult


class Host:
    """Everything that is installed, by name.

    ``catalogue`` resolves names, ``plugins`` are the records of all plugins (broken ones too), ``hook`` is pluggy's
    relay of the lifecycle hooks, ``notes`` are remarks for a person, ``settings`` the ``scorefold.toml`` in force.

    >>> host = Host.discover()
    >>> [item.id for item in host.components("allocator")]
    ['allocator:uniform']
    """

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
        """A host of the installed plugins; see ``scorefold_registry.discovery.discover`` for the arguments."""
        return cls(discover(allow=allow, deny=deny, toml=toml, extra_plugins=extra_plugins))

    @property
    def hook(self) -> pluggy.HookRelay:
        """The hooks of all registered plugins."""
        return self.manager.hook

    def components(self, kind: str | None = None) -> list[Registered]:
        """The components of a kind, or all, in the order of their plugins."""
        return self.catalogue.of_kind(kind)

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
        moved to ``device`` and ``dtype``. A constructor that asks for an ``executor`` gets the run's while a run file
        runs, and None otherwise.

        Raises ``PluginError`` for an unknown or broken component and ``ConfigError`` for a config or a port that does
        not fit.
        """
        from scorefold_registry.building import Placement, draw_seed

        registered = self.catalogue.resolve(name)
        return self.builder.build(registered, config, ports, Placement(draw_seed(generator), device, dtype))

    def save(self, obj: Any, path: Path | str, bundle: bool = False) -> None:
        """Writes the state of an object that this host made into a folder, as safetensors and JSON.

        Its own parameters only: what its ports are plugged to is referred to by relative path and digest, or copied
        into the folder with ``bundle``. Data ports leave only the shape and scale of the data. Raises
        ``ArtefactError`` where a port's object has no saved state, or has changed since it was saved.
        """
        from scorefold_registry.saved import save

        save(self.builder, obj, Path(path), bundle)

    def load(self, path: Path | str, device: torch.device | str | None = None) -> Any:
        """The object whose state a folder holds, rebuilt without its data; runs no code from the folder.

        Raises ``ArtefactError`` for a folder that is not whole, that refers to a state that is gone or changed, or
        whose component's revision has moved on without a ``migrate``.
        """
        from scorefold_registry.saved import load

        return load(self.builder, Path(path), device)

    def moved(self, obj: Any, path: Path | str) -> None:
        """Says that the folder an object was saved to now stands at ``path`` (after a rename), for references to it."""
        from scorefold_registry.saved import moved

        moved(self.builder, obj, Path(path))

    def run(
        self,
        path: Path | str,
        *,
        sets: Sequence[str] = (),
        seed: int | None = None,
        runs: Path | str | None = None,
        cache: Path | str | None = None,
        fresh: bool = False,
    ) -> RunResult:
        """Runs a run file; see ``scorefold_registry.pipeline.run_file`` for the arguments and errors."""
        from scorefold_registry.pipeline import run_file

        return run_file(self, path, sets=sets, seed=seed, runs=runs, cache=cache, fresh=fresh)

    def compare(
        self,
        kind: str,
        *,
        on: Sequence[str] = (),
        only: Sequence[str] = (),
        skip: Sequence[str] = (),
        plugged: Mapping[str, Any] | None = None,
        fields: Mapping[str, Any] | None = None,
        seed: int = 0,
        seeds: int = 1,
        threads: int = 1,
        out: Path | str | None = None,
        cache: Path | str | None = None,
        fresh: bool = False,
    ) -> ComparisonResult:
        """Puts every installed component of a kind, or with a capability, on the same cases.

        See ``scorefold_registry.comparison_question.ask`` for what can be chosen, and
        ``scorefold_registry.comparison.compare`` for where it goes. What goes wrong with one component is an ``error``
        in its rows.
        """
        from scorefold_registry.comparison import compare
        from scorefold_registry.comparison_question import ask

        question = ask(
            self.catalogue,
            kind,
            on=on,
            only=only,
            skip=skip,
            plugged=plugged,
            fields=fields,
            seed=seed,
            seeds=seeds,
            threads=threads,
        )
        places = [None if place is None else Path(place) for place in (out, cache)]
        return compare(self, question, out=places[0], cache=places[1], fresh=fresh)

    def sweep(
        self,
        path: Path | str,
        over: Mapping[str, Sequence[Any] | str],
        *,
        measure: Sequence[str] = (),
        best: str | None = None,
        in_step: bool = False,
        random: int | None = None,
        sets: Sequence[str] = (),
        seed: int | None = None,
        workers: int | None = None,
        out: Path | str | None = None,
        cache: Path | str | None = None,
    ) -> SweepResult:
        """Runs a run file at many values of some of its fields.

        ``over`` gives the values of each field, or how they are drawn: ``{"seed": [0, 1], "stages.score.config.width":
        "integers(8, 64)"}``. A point that fails is a row of the result. See ``sweep_plan.plan_sweep`` and
        ``sweep.run_sweep`` for the other arguments and the errors.
        """
        from scorefold_registry.sweep import run_sweep
        from scorefold_registry.sweep_plan import plan_sweep
        from scorefold_registry.sweep_points import axes_of

        plan = plan_sweep(
            self.catalogue,
            path,
            axes_of(over),
            in_step=in_step,
            random=random,
            measure=measure,
            best=best,
            sets=sets,
            seed=seed,
            out=out,
        )
        return run_sweep(self, plan, workers=workers, cache=cache)

    @property
    def builder(self) -> Builder:
        """What builds components and knows what each was made from. Importing it imports torch."""
        if self._builder is None:
            from scorefold_registry.building import Builder

            self._builder = Builder(self.catalogue)
        return self._builder

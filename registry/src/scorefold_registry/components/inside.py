"""The names of components as an environment of plugins knows them."""

from __future__ import annotations

from typing import Any

from scorefold.errors import PluginError
from scorefold_registry.components.catalogue import Catalogue
from scorefold_registry.plugins.names import parse_reference
from scorefold_registry.plugins.records import Registered


class Inside(Catalogue):
    """A catalogue in which a name means the component of an environment. The worker knows no other components.

    ``environment`` is the environment of the component whose config has the names.
    """

    def __init__(self, catalogue: Catalogue, environment: Any) -> None:
        vars(self).update(vars(catalogue))
        self._environment = environment

    def resolve(self, text: str, *, any_revision: bool = False) -> Registered:
        """The component of the environment that ``text`` names. Raises ``PluginError`` where it has none."""
        name = self._environment.spec.name
        if parse_reference(text).distribution is None:
            try:
                return super().resolve(f"{name}/{text}", any_revision=any_revision)
            except PluginError:
                pass  # the catalogue says more of a name that nobody has
        return self._checked(super().resolve(text, any_revision=any_revision))

    def pinned(self, item: Registered, *, whole: bool = False) -> str:
        """``kind:name@revision``. Raises ``PluginError`` for a component that is not in the environment."""
        return self._checked(item).component.versioned_id

    def _checked(self, item: Registered) -> Registered:
        if item.record.environment is not self._environment:
            name = self._environment.spec.name
            raise PluginError(
                f"{item.id} of {item.distribution} is named in a config of the environment {name!r}; it is not in it",
                hint=f"add {item.distribution} to the requirements of [environments.{name}]",
            )
        return item

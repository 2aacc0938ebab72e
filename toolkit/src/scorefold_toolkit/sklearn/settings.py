"""Parameters of a scikit-learn estimator, set and searched by name: ``estimator__n_neighbors``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any

from pydantic import ValidationError
from sklearn.base import BaseEstimator
from torch import nn

from scorefold.config import Config
from scorefold.errors import DataError
from scorefold.interfaces import Estimator


class InputError(DataError, ValueError):
    """Data or parameters that an estimator can't take, as scikit-learn wants to hear of them: a ``ValueError``."""


class SettingsInside(BaseEstimator):  # type: ignore[misc]
    """Parameters of a parameter: ``estimator__n_neighbors`` is a setting of what ``estimator`` holds.

    A built ``Estimator`` has the fields of its config, a function its keyword arguments that have a default, those that
    ``functools.partial`` gave it among them. A model has none, since it was trained with its settings, nor has an
    estimator that was built from more than a config: a function that builds it has.

    >>> from scorefold_toolkit.sklearn import as_estimator
    >>> def build(data, levels=3):
    ...     raise NotImplementedError("it is called by fit")
    >>> as_estimator(build).set_params(estimator__levels=5).get_params()["estimator__levels"]
    5
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, with ``deep`` the settings inside them as ``parameter__setting`` too."""
        params: dict[str, Any] = super().get_params(deep)
        if deep:
            for outer, part in list(params.items()):
                params |= {f"{outer}__{name}": value for name, value in settings_of(part).items()}
        return params

    def set_params(self, **params: Any) -> Any:
        """Sets parameters and settings inside them; returns itself.

        Raises ``ValueError`` for a name that there is not, and for a value that a setting can't have.
        """
        inside: dict[str, dict[str, Any]] = {}
        plain = {}
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if inner and outer in self._get_param_names():
                inside.setdefault(outer, {})[inner] = value
            else:
                plain[name] = value
        super().set_params(**plain)
        for outer, changes in inside.items():
            setattr(self, outer, _with_settings(outer, getattr(self, outer), changes))
        return self


def settings_of(part: Any) -> dict[str, Any]:
    """The settings of what an estimator is made of, by name, as ``SettingsInside`` says."""
    if isinstance(part, nn.Module) or not (isinstance(part, Estimator) or callable(part)):
        return {}
    parameters = inspect.signature(type(part) if isinstance(part, Estimator) else part).parameters.values()
    if not isinstance(part, Estimator):
        return {
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.default is not parameter.empty and parameter.kind is not parameter.POSITIONAL_ONLY
        }
    config = getattr(part, "config", None)
    ports = [parameter.name for parameter in list(parameters)[1:] if parameter.name != "executor"]
    return dict(config) if isinstance(config, Config) and not ports else {}


def _with_settings(outer: str, part: Any, changes: Mapping[str, Any]) -> Any:
    """An estimator or a function with some of its settings changed; the one that was given stays as it is."""
    known = settings_of(part)
    for name in changes:
        if not known:
            raise InputError(
                f"{outer}__{name} was given, and {outer} has no settings inside it",
                hint=f"give a function that builds it, with a keyword argument {name!r} that has a default",
            )
        if name not in known:
            near = "".join(f"did you mean {outer}__{word}? " for word in get_close_matches(name, known, n=1))
            raise InputError(f"{outer} has no setting {name!r}", hint=f"{near}it has {', '.join(known)}")
    if not isinstance(part, Estimator):
        return partial(part, **changes)
    config = part.config  # type: ignore[attr-defined]
    values = {name: getattr(config, name) for name in config.model_fields_set} | dict(changes)
    try:
        return type(part)(type(config).model_validate(values))  # type: ignore[call-arg]
    except ValidationError as error:
        faults = [
            "".join(f"{outer}__{name} is {fault['input']!r}: " for name in fault["loc"][:1])
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors()
        ]
        raise InputError("; ".join(faults)) from None

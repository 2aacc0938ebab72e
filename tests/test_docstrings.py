"""Examples in docstrings print what they say, and every public class has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from scorefold_registry import Host
from scorefold_site.api import MODULES as PAGES

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
    for source in sorted(ROOT.glob("*/src")) + sorted(ROOT.glob("plugins/*/src"))
    for file in sorted(source.rglob("*.py"))
    if ">>> " in file.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def public_classes() -> Iterator[type]:
    """The classes on the pages of the Python reference, but for errors, which have a page of examples; and those that
    components declare.
    """
    for place in [place for _, places in PAGES.values() for place in places]:
        try:
            shown = importlib.import_module(place)
        except ModuleNotFoundError:
            module, _, name = place.rpartition(".")
            found = [getattr(importlib.import_module(module), name)]
        else:
            listed = getattr(shown, "__all__", [name for name in vars(shown) if not name.startswith("_")])
            found = [vars(shown)[name] for name in listed]
        yield from (item for item in found if inspect.isclass(item) and item.__module__.startswith("scorefold"))
    for registered in Host.discover().components():
        module, _, name = registered.component.target.partition(":")
        yield getattr(importlib.import_module(module), name)


@cache
def examples(module: str) -> dict[str, str]:
    """The code of the examples in each docstring of a module, by what it belongs to."""
    found = doctest.DocTestFinder().find(importlib.import_module(module))
    return {test.name: "".join(example.source for example in test.examples) for test in found}


def has_example(item: type) -> bool:
    """Whether a class has an example: of its own, or one of its module, or of its package, that names it."""
    package = item.__module__.rpartition(".")[0] or item.__module__
    near = [*examples(item.__module__).values(), examples(package).get(package, "")]
    own = examples(item.__module__).get(f"{item.__module__}.{item.__qualname__}")
    return bool(own) or any(re.search(rf"\b{item.__name__}\b", code) for code in near)


def test_every_public_class_has_an_example() -> None:
    classes = {item for item in public_classes() if not issubclass(item, Exception)}
    assert len(classes) > 180
    assert sorted(f"{item.__module__}.{item.__name__}" for item in classes if not has_example(item)) == []

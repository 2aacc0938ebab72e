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


@pytest.mark.usefixtures("one_host")
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed


def hanging(text: str) -> list[str]:
    """Tensors in what is printed that hang on last bits: 5.0000 is printed where a value is not quite 5, else 5. is."""
    printed = re.findall(r"\btensor\(([\[\]\s,.\de+-]*\d[\[\]\s,.\de+-]*)", text)
    return [part for part in printed if all(number.endswith(".0000") for number in re.findall(r"[\d.e+-]+", part))]


def test_no_example_prints_whether_a_number_is_exact() -> None:
    assert hanging("(tensor(5.0000), tensor(0.))") == ["5.0000"]
    assert hanging("tensor([[-1.0000,  1.0000],\n        [ 1.0000, -1.0000]])")
    assert not hanging("tensor([0.0000, 0.5000]), tensor([[5., 1.]]), tensor(0.5000)")
    sources = [file for source in (*ROOT.glob("*/src"), *ROOT.glob("plugins/*/src")) for file in source.rglob("*.py")]
    pages = [
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("plugins/*/README.md"),
        ROOT / "verbs/README.md",
    ]
    found = {str(file.relative_to(ROOT)): hanging(file.read_text(encoding="utf-8")) for file in sources + pages}
    assert {name: tensors for name, tensors in found.items() if tensors} == {}, "round them: x.round(decimals=3)"


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
            found = [getattr(shown, name) for name in listed]
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

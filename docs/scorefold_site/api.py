"""The reference of what plugins and scripts import, written by autodoc from the docstrings."""

from __future__ import annotations

from scorefold_site.markdown import page, python, table

MODULES = {
    "registry": ("The host", ("scorefold_registry.host.Host", "scorefold_registry.run.result.RunResult")),
    "plugin": ("Declarations", ("scorefold.plugin", "scorefold.config", "scorefold.errors")),
    "interfaces": (
        "Interfaces",
        (
            "scorefold.interfaces.model",
            "scorefold.interfaces.score",
            "scorefold.interfaces.flow",
            "scorefold.interfaces.geometry",
            "scorefold.interfaces.estimator",
            "scorefold.interfaces.data",
            "scorefold.summary",
            "scorefold.interfaces.capabilities",
        ),
    ),
    "data": (
        "Data and results",
        ("scorefold.data", "scorefold.results", "scorefold_toolkit.distributions", "scorefold.stage"),
    ),
    "diffusion": ("Diffusion", ("scorefold.diffusion", "scorefold.diffusion.divergence")),
    "nn": ("Building blocks", ("scorefold_toolkit.nn",)),
    "numerics": (
        "Numerics",
        (
            "scorefold_toolkit.numerics",
            "scorefold.random",
            "scorefold_toolkit.rotated",
            "scorefold_toolkit.operators",
            "scorefold_toolkit.metrics",
            "scorefold.seeds",
        ),
    ),
    "sklearn": ("The scikit-learn face", ("scorefold_toolkit.sklearn",)),
    "training": (
        "Training",
        (
            "scorefold_toolkit.training",
            "scorefold.artefacts",
            "scorefold.plotting",
            "scorefold_toolkit.figures",
        ),
    ),
    "testing": ("Conformance kit", ("scorefold_testing",)),
}
"""Pages by name: a title, and the modules and classes on it."""


def api_pages() -> dict[str, str]:
    """One page per topic, and the list of them."""
    pages = {f"api/{name}.md": _page(title, members) for name, (title, members) in MODULES.items()}
    return {"api/index.md": _index(), **pages}


def _index() -> str:
    rows = [
        (f"[{title}]({name}.md)", ", ".join(f"`{member}`" for member in members))
        for name, (title, members) in MODULES.items()
    ]
    return page(
        "# Python reference",
        "What plugins and scripts import. To ask questions of data, use `import scorefold as sf`: "
        "[from Python](../python.md).",
        table(("page", "holds"), rows),
    )


def _page(title: str, members: tuple[str, ...]) -> str:
    return page(f"# {title}", *(part for member in members for part in (f"## `{member}`", python(member))))

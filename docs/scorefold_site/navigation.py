"""Groups of pages on the site, some of which have further pages below them."""

from __future__ import annotations

from pathlib import Path

NAVIGATION: dict[str, dict[str, str]] = {
    "Start": {
        "install": "Install",
        "tutorial": "Tutorial",
        "choose": "Which method for my question?",
        "notebooks/*": "Notebooks",
        "examples": "Examples (gallery)",
        "coming-from": "Coming from another library",
    },
    "Your data and models": {
        "tables": "Your own table",
        "audit": "Ask your model (audit)",
        "checkpoints": "Ask your checkpoint",
        "python": "From Python",
        "run-files": "Run files",
        "explore": "Explore in the browser",
        "sharing": "Share a model",
        "gpu": "On a GPU",
        "tracking": "Follow runs (TensorBoard, MLflow, W&B)",
    },
    "Methods": {
        "methods": "What there is",
        "reading-dimensions": "Intrinsic dimension",
        "pullback": "Geodesics of a flow",
        "score-geodesics": "Geodesics from any score",
        "noise-levels": "Score models and noise levels",
        "multiscale": "Multi-scale, non-uniform diffusion",
        "conditional": "Conditional scores (CDE, CMDE, CDiffE)",
        "scorevae": "Auto-encoders from scores (ScoreVAE)",
        "caflow": "Conditional flows (CAFLOW)",
        "allocation": "Data allocation in meta-learning",
        "theory/*": "Theory",
        "evidence/*": "Evidence",
    },
    "Write a plugin": {
        "author-tutorial": "Tutorial for authors",
        "plugins": "Plugins",
        "testing": "Test a plugin",
    },
    "Reference": {
        "commands": "Commands",
        "components/*": "Components",
        "kinds/*": "Kinds",
        "api/*": "Python",
        "errors": "Errors",
        "schemas": "JSON",
        "benchmarks": "Benchmarks beside peers",
        "architecture": "How it is built",
        "glossary": "Glossary",
        "contributing": "Contributing",
        "changelog": "Changelog",
    },
}
"""Titles by page, in order, for each group. ``folder/*`` stands for all pages of a folder."""

_EXAMPLES = sorted(
    file for file in (Path(__file__).parents[2] / "examples").iterdir() if file.suffix in (".py", ".yaml")
)

BELOW: dict[str, dict[str, str]] = {
    "examples": {f"examples/{file.stem}": file.name for file in _EXAMPLES},
    "tables": {"large-data": "Data larger than memory", "signals": "Signals and time series"},
    "python": {"scikit-learn": "From scikit-learn"},
    "gpu": {"several-machines": "On a cluster"},
    "reading-dimensions": {"dimensions-of-images": "Dimensions of images", "manifold-mlp": "A network for manifolds"},
    "multiscale": {"bands": "Bands and their speeds"},
    "conditional": {"solvers": "Which solver?", "simulations": "Posteriors of simulators"},
    "scorevae": {"latent-codes": "Latent codes"},
    "evidence/index": {"../paper-runs": "Run files of papers"},
    "plugins": {
        "hooks": "Hooks in order",
        "hook-examples": "Every hook by example",
        "environments": "An environment of its own",
        "own-kind": "A kind of your own",
        "our-plugins": "Our plugins",
    },
    "commands": {"command-options": "Options of every command"},
    "kinds/index": {"../capabilities": "Capabilities"},
    "errors": {"messages": "Every message"},
}
"""Titles of the pages below a page, which the list at the side shows once it is open."""

UNSEARCHED = ("our-plugins", "messages", "changelog")
"""Long lists that would stand before every page in a search."""

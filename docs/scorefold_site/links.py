"""Links that lead somewhere in the repository and on the site: what a file of the repository is on the site."""

from __future__ import annotations

import re
from os.path import normpath, relpath
from pathlib import PurePosixPath

PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "examples/papers/README.md": "paper-runs.md",
    "core/src/scorefold/diffusion/__init__.py": "api/diffusion.md",
    "core/src/scorefold/hookspecs.py": "hooks.md",
    "core/src/scorefold/interfaces/__init__.py": "api/interfaces.md",
    "core/src/scorefold/interfaces/capabilities.py": "capabilities.md",
    "core/src/scorefold/interfaces/estimator.py": "kinds/estimator.md",
    "docs/scorefold_site/commands.py": "command-options.md",
    "docs/scorefold_site/components.py": "components/index.md",
    "docs/scorefold_site/errors.py": "messages.md",
    "docs/scorefold_site/kinds.py": "kinds/index.md",
    "docs/scorefold_site/plugins.py": "our-plugins.md",
    "docs/scorefold_site/schemas.py": "schemas.md",
    "docs/scorefold_site/theory.py": "theory/functions.md",
    "registry/src/scorefold_registry/host.py": "api/registry.md",
    "toolkit/src/scorefold_toolkit/nn/__init__.py": "api/nn.md",
    "toolkit/src/scorefold_toolkit/numerics.py": "api/numerics.md",
    "toolkit/src/scorefold_toolkit/training/__init__.py": "api/training.md",
}
"""Pages that are made from a file, by its path. Written pages link to the file: that holds without a site too."""

_EXAMPLE = r"(examples/[\w-]+)\.(?:yaml|py)"


def on_site(text: str, page: str) -> str:
    """The Markdown of a page, whose path under ``docs/`` is given, with links to files as links to their pages."""
    folder = PurePosixPath("docs") / PurePosixPath(page).parent

    def target(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        file = normpath(folder / path)
        made = PAGES.get(file, re.sub(_EXAMPLE, r"\1.md", file) if re.fullmatch(_EXAMPLE, file) else None)
        return match[0] if made is None else f"]({relpath(made, PurePosixPath(page).parent)}{anchor})"

    return re.sub(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)", target, text)

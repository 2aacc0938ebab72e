"""Pages that are notebooks: Markdown with Python, executed as the site is built, to be read or downloaded.

The sources are ``docs/notebooks/*.md``. No output is stored in the repository, so that none of it is ever old.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from scorefold_site.markdown import page, table

FOLDER = "docs/notebooks"
SECONDS = 600
"""Seconds that a cell may take, also on a crowded machine."""


def notebook_pages(root: Path) -> dict[str, str | bytes]:
    """What each notebook gives, by its path under ``docs/``: the page, its figures, and the notebook with its outputs.

    Raises ``CellExecutionError`` of nbclient for a cell that fails, and ``CellTimeoutError`` for one that is too slow.
    """
    files: dict[str, str | bytes] = {}
    for source in sorted((root / FOLDER).glob("*.md")):
        files |= _rendered(source.stem, executed(source))
    return {**files, "notebooks/index.md": index_page(root)}


def index_page(root: Path) -> str:
    """The list of the notebooks, with the first paragraph of each."""
    rows = []
    for source in sorted((root / FOLDER).glob("*.md")):
        title, first, *_ = source.read_text(encoding="utf-8").split("\n\n")
        rows.append((f"[{title.removeprefix('# ')}]({source.stem}.md)", first))
    return page(
        "# Notebooks",
        "Each is run as the site is built, and can be downloaded from its page.",
        table(("notebook", "what it does"), rows),
    )


def executed(source: Path) -> Any:
    """A notebook with the outputs of its cells, run in a folder of its own."""
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.reads(source.read_text(encoding="utf-8"), "md")
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=SECONDS,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute()
    return notebook


def _rendered(name: str, notebook: Any) -> dict[str, str | bytes]:
    """The files of one notebook that was executed."""
    import nbformat
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_notebook_node(notebook, {"output_files_dir": f"{name}-figures"})
    heading, _, rest = text.lstrip().partition("\n")
    download = f'<a class="download" href="{name}.ipynb" download>Download this notebook</a>'
    files: dict[str, str | bytes] = {f"notebooks/{path}": content for path, content in resources["outputs"].items()}
    files[f"notebooks/{name}.ipynb"] = nbformat.writes(notebook)
    files[f"notebooks/{name}.md"] = f"{heading}\n\n{download}\n{rest}"
    return files

"""Puts the generated pages among the written ones when MkDocs builds the site."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from scorefold_site import pages
from scorefold_site.copies import copied_pages
from scorefold_site.notebooks import notebook_pages

ROOT = Path(__file__).resolve().parent.parent


@lru_cache(maxsize=1)
def _pages() -> dict[str, str | bytes]:
    return {**pages(ROOT), **copied_pages(ROOT), **notebook_pages(ROOT)}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills in the parts of the navigation that are lists of generated pages: an entry ``Title: folder/*``."""
    config.nav = [_filled(entry) for entry in config.nav or []]
    return config


def _filled(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {title: _listed(value) if isinstance(value, str) else _inside(value) for title, value in entry.items()}
    return entry


def _inside(entries: list[Any]) -> list[Any]:
    return [_filled(entry) for entry in entries]


def _listed(value: str) -> Any:
    """The pages of a folder, its index first and sub-folders as sections, for ``folder/*``; else the page itself."""
    if not value.endswith("/*"):
        return value
    folder = value.removesuffix("*")
    inside = [path.removeprefix(folder) for path in _pages() if path.startswith(folder) and path.endswith(".md")]
    entries: list[Any] = [folder + path for path in inside if "/" not in path]
    for section in dict.fromkeys(path.partition("/")[0] for path in inside if "/" in path):
        entries.append({section: [folder + path for path in inside if path.startswith(f"{section}/")]})
    return entries


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages. That of a notebook takes the place of its source."""
    for path, content in _pages().items():
        source = files.get_file_from_path(path)
        if source is not None:
            files.remove(source)
        files.append(File.generated(config, path, content=content))
    return files

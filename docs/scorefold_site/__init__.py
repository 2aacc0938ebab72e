"""The pages of the documentation site that are made from the registry and the source, as Markdown."""

from __future__ import annotations

from pathlib import Path

from scorefold_site.api import api_pages
from scorefold_site.commands import command_page
from scorefold_site.components import component_pages
from scorefold_site.errors import message_page
from scorefold_site.hooks import hook_page
from scorefold_site.inventory import inventory
from scorefold_site.kinds import kind_pages
from scorefold_site.plugins import plugin_page
from scorefold_site.schemas import schema_page

__all__ = ["pages"]


def pages(root: Path) -> dict[str, str]:
    """Every generated page by its path under ``docs/``, for a checkout at ``root`` whose members are installed."""
    found = inventory(root)
    return {
        **component_pages(found),
        **kind_pages(found),
        "command-options.md": command_page(found),
        "hooks.md": hook_page(),
        "messages.md": message_page(root),
        "our-plugins.md": plugin_page(found),
        "schemas.md": schema_page(),
        **api_pages(),
    }

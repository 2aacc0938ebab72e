"""A page of this repository's own plugins: what each offers, its settings and its claims."""

from __future__ import annotations

from scorefold_registry.plugins.names import normalise
from scorefold_registry.plugins.records import PluginRecord
from scorefold_registry.runfile.plugin_settings import settings_model
from scorefold_site.components import component_path
from scorefold_site.fields import field_table
from scorefold_site.inventory import Inventory
from scorefold_site.markdown import code, page, prose, table


def plugin_records(inventory: Inventory) -> list[PluginRecord]:
    """The plugins that this repository makes."""
    return [item for item in inventory.host.plugins if normalise(item.distribution) in inventory.distributions]


def plugin_page(inventory: Inventory) -> str:
    """Every plugin of ours."""
    parts = [
        "# Our plugins",
        "Each is a distribution of its own, built as a third party's would be. `scorefold plugins list` prints what is "
        "installed, other people's plugins among them.",
    ]
    for record in plugin_records(inventory):
        components = [f"[{code(item.id)}]({component_path(item)})" for item in record.components]
        parts += [
            f"## {record.name}",
            f"The distribution {code(record.distribution)}, plugin module {code(record.value)}.",
            f"Components: {', '.join(components)}." if components else "It has no components, only hooks.",
            *_commands(record),
            *_settings(record),
            *_claims(record),
        ]
    return page(*parts)


def _commands(record: PluginRecord) -> list[str]:
    rows = [(code(f"scorefold {item.name}"), prose(item.summary)) for item in record.commands]
    return ["### Commands", table(("command", "what it does"), rows)] if rows else []


def _settings(record: PluginRecord) -> list[str]:
    """What a run file may say of the plugin itself."""
    if record.settings is None:
        return []
    where = f"In a run file, under `plugins: {{{record.name}: ...}}`."
    return [f"### Settings of {record.name}", where, field_table(settings_model(record))]


def _claims(record: PluginRecord) -> list[str]:
    rows = [(code(claim.name), claim.role, prose(claim.statement), prose(claim.source)) for claim in record.claims]
    if not rows:
        return []
    measured = f"Measured again by `scorefold reproduce {record.name}`."
    return [f"### Claims of {record.name}", measured, table(("claim", "role", "says", "source"), rows)]

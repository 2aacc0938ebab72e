"""The module of a plugin as it should be: strings only."""

from __future__ import annotations

from scorefold.plugin import PLUGIN_API

__plugin_api__ = PLUGIN_API

"""The module of a plugin that breaks its word: it imports pydantic."""

from __future__ import annotations

import pydantic

__plugin_api__ = pydantic.VERSION

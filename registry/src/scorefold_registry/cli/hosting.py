"""The host that commands work with."""

from __future__ import annotations

import sys

from scorefold.errors import printable
from scorefold_registry.host import Host


def discover_host() -> Host:
    """The installed plugins as a host; remarks on how they were chosen go to standard error."""
    host = Host.discover()
    for note in host.notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    return host

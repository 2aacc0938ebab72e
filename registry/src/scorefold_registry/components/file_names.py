"""Names that become files and folders, on any system."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container

LONGEST_NAME = 100
"""Characters of a name that becomes a folder; file systems take 255 bytes, and endings are added."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?\Z", re.IGNORECASE)


def name_fault(name: str) -> str | None:
    """Why a name of letters, digits, '.', '_' and '-' can't be a folder's on every system; None where it can."""
    if len(name) > LONGEST_NAME:
        return f"it has {len(name)} characters, and a folder's name at most {LONGEST_NAME}"
    if _DEVICE.match(name):
        return "Windows keeps that name for a device"
    return "Windows drops a dot at the end of a name" if name.endswith(".") else None


def file_name(name: str, default: str = "figure") -> str:
    """A name as part of a file name: letters, digits, '.', '_' and '-' only, and no more than ``LONGEST_NAME``."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:LONGEST_NAME].strip("-.")
    if not plain:
        return default
    return f"{default}-{plain}" if _DEVICE.match(plain) else plain


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or the name with a number: two may differ only in what a file's name can't hold."""
    names = (name if count == 1 else f"{name}-{count}" for count in itertools.count(1))
    return next(each for each in names if each not in taken)

"""Libraries that an extra installs, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scorefold.errors import ConfigError


@contextmanager
def library(what: str, extra: str) -> Iterator[None]:
    """Imports of libraries that not everybody has stand in this block: ``what`` needs them, ``extra`` brings them.

    Raises ``ConfigError`` where one can't be imported.

    >>> with library("a parquet file", "scorefold-standard[parquet]"):
    ...     import absent
    Traceback (most recent call last):
    scorefold.errors.ConfigError: a parquet file needs a library that can't be imported: No module named 'absent'
      pip install 'scorefold-standard[parquet]'
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"{what} needs a library that can't be imported: {error}", hint=f"pip install '{extra}'"
        ) from error

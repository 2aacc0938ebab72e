"""A table whose columns have different units, near a surface of dimension 3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

DIMENSION = 3
SPREADS = (1e-3, 0.02, 0.5, 1.0, 4.0, 12.0, 30.0, 90.0, 250.0, 1e3, 2e4, 8e5)
OFFSETS = (2026.0, 0.0, -3.0, 1e3, 37.0, 0.0, 180.0, 101.3, 0.0, 5e4, -1e5, 0.0)


def uneven_table(rows: int = 3000) -> pd.DataFrame:
    """Columns c0 to c11: smooth functions of three uniform numbers, with 1 % noise, each in units of its own."""
    draws = np.random.default_rng(0)
    u = draws.uniform(-1, 1, (rows, DIMENSION))
    mixed = u @ draws.normal(size=(DIMENSION, len(SPREADS)))
    columns = np.where(np.arange(len(SPREADS)) % 2, mixed, np.sin(mixed))
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    columns = columns + 0.01 * draws.normal(size=columns.shape)
    return pd.DataFrame(columns * SPREADS + OFFSETS, columns=[f"c{i}" for i in range(len(SPREADS))])


def write_uneven(path: Path, rows: int = 3000) -> Path:
    """That table as a csv file."""
    uneven_table(rows).to_csv(path, index=False)
    return path

"""Pictures of paths between images: what the rows are, and the limits of the data."""

from __future__ import annotations

import torch

from scorefold.data import EventScale
from scorefold.interfaces import Geometry
from scorefold_toolkit.geodesics import Denoises
from scorefold_verbs.geometry import _shown


class Halving(Denoises):
    """The denoiser of N(0, I) at noise 1."""

    sigma = 1.0

    def denoised(self, x: torch.Tensor) -> torch.Tensor:
        return x / 2


class Exact(Halving):
    sigma = 0.0


PIXELS = EventScale(low=0.0, high=1.0)
POINTS = torch.rand(20, 1, 4, 4)
PATHS = 3 * torch.rand(10, 9, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1
PLAIN: Geometry = object()  # type: ignore[assignment]


def test_a_bent_path_stands_above_its_straight_line_within_the_limits() -> None:
    shown = _shown(PLAIN, PATHS, POINTS, PIXELS)
    middle = (PATHS[:4, 0] + PATHS[:4, -1]) / 2
    assert (shown.rows, shown.x.shape) == (2, (8, 9, 1, 4, 4))
    torch.testing.assert_close(shown.x[::2], PATHS[:4].clamp(0, 1))
    torch.testing.assert_close(shown.x[1::2, 4], middle.clamp(0, 1))


def test_events_without_limits_are_shown_as_they_are() -> None:
    assert torch.equal(_shown(PLAIN, PATHS, POINTS, EventScale()).x[::2], PATHS[:4])


def test_straight_lines_have_a_row_each_in_any_unit() -> None:
    along = torch.linspace(0, 1, 9).view(1, -1, 1, 1, 1)
    for unit in (1e-6, 1.0, 255.0):
        lines = unit * torch.lerp(PATHS[:, :1], PATHS[:, -1:], along)
        shown = _shown(PLAIN, lines, POINTS, EventScale())
        assert (shown.rows, shown.group, len(shown.x)) == (1, "a straight line", 8)
        assert _shown(PLAIN, unit * PATHS, POINTS, EventScale()).rows == 2


def test_a_geometry_that_denoises_has_four_rows_a_path_and_without_noise_two() -> None:
    noisy, exact = (_shown(kind(), PATHS, POINTS, EventScale()) for kind in (Halving, Exact))  # type: ignore[arg-type]
    assert (noisy.rows, len(noisy.x), exact.rows, len(exact.x)) == (4, 8, 2, 8)
    torch.testing.assert_close(noisy.x[1::4], PATHS[:2] / 2)

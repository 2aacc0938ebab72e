"""Geodesics of the metric J^T J of a map f from codes to events, by numbers.

Along a geodesic the acceleration of f(z(t)) is orthogonal to the image: J^T (J z'' + d^2 f[z', z']) = 0, so that
z'' = -(J^T J)^-1 J^T d^2 f[z', z'] (do Carmo 1992, sec. 3.2; of decoders Arvanitidis et al. 2018). All is in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_bvp
from torch import Tensor
from torchdiffeq import odeint

from scorefold.errors import DataError

Map = Callable[[Tensor], Tensor]
"""Codes (B, k) to flattened events (B, D), row by row, in float64."""

_STEP = 1e-3
"""Of differences of fourth order in codes of size 1: what is cut off and what is rounded are below 1e-9 of smooth f."""

_START = 9  # points of the first guess
_LONGER = 1e-3
_CHUNK = 1024


@dataclass(frozen=True)
class Derivatives:
    """J (B, D, k) of a map at codes (B, k), and its second derivative along vectors, by differences of fourth order.

    They serve any decoder, a sampler too, and cost a tenth of nested forward differentiation of a small one.
    """

    map: Map

    def jacobian(self, z: Tensor) -> Tensor:
        """J at codes (B, k): (B, D, k)."""
        steps = _STEP * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        places = torch.stack([z[:, None] + number * steps for number in (-2, -1, 1, 2)])
        far_behind, behind, ahead, far_ahead = self._at(places.flatten(0, 2)).reshape(4, *places.shape[1:3], -1)
        slopes: Tensor = (far_behind - far_ahead + 8 * (ahead - behind)) / (12 * _STEP)
        return slopes.mT

    def second(self, z: Tensor, v: Tensor) -> Tensor:
        """d^2 f(z + t v) / dt^2 at t = 0, (B, D)."""
        length = v.norm(dim=1, keepdim=True)
        step = _STEP * v / length.clamp_min(1e-300)
        places = torch.stack([z + number * step for number in (-2, -1, 0, 1, 2)])
        far_behind, behind, here, ahead, far_ahead = self._at(places.flatten(0, 1)).reshape(5, len(z), -1)
        bend: Tensor = (16 * (ahead + behind) - far_ahead - far_behind - 30 * here) / 12 * (length / _STEP) ** 2
        return bend

    def acceleration(self, z: Tensor, v: Tensor) -> Tensor:
        """z'' of the geodesic through z with velocity v, (B, k). Raises ``DataError`` for a singular metric."""
        matrix = self.jacobian(z)
        factor, failed = torch.linalg.cholesky_ex(matrix.mT @ matrix)
        if bool(failed.any()):
            raise DataError(
                f"the decoder's metric is singular at {int((failed > 0).sum())} of {len(z)} codes: some direction of "
                "the code changes nothing there",
                hint="take a code with fewer units, or codes nearer to those of data",
            )
        pull = matrix.mT @ self.second(z, v)[..., None]
        return -torch.cholesky_solve(pull, factor)[..., 0]

    def _at(self, z: Tensor) -> Tensor:
        return torch.cat([self.map(part) for part in z.split(_CHUNK)])


@dataclass(frozen=True)
class Solved:
    """A geodesic z(t), 0 <= t <= 1: ``path(t)`` gives codes and velocities (T, 2 k); ``why`` is empty, or says why it
    is none."""

    path: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    why: str


def geodesic_between(derivatives: Derivatives, start: Tensor, end: Tensor, *, tolerance: float, nodes: int) -> Solved:
    """The geodesic between two codes (k,), by collocation (``scipy.integrate.solve_bvp``) from the straight line on.

    It is none where the residual stays above the tolerance, or where it is longer than the straight line of codes, as a
    geodesic of another way round is.
    """
    size = len(start)

    def equation(_: NDArray[np.float64], state: NDArray[np.float64]) -> NDArray[np.float64]:
        z, v = torch.from_numpy(state.T).to(start).split(size, 1)
        return np.concatenate([state[size:], derivatives.acceleration(z, v).T.cpu().numpy()])

    ends = torch.stack([start, end]).cpu().numpy()

    def missed(first: NDArray[np.float64], last: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([first[:size] - ends[0], last[:size] - ends[1]])

    times = np.linspace(0, 1, _START)
    line = ends[0][:, None] + np.outer(ends[1] - ends[0], times)
    guess = np.concatenate([line, np.repeat((ends[1] - ends[0])[:, None], _START, 1)])
    try:
        with np.errstate(all="ignore"):
            found = solve_bvp(equation, missed, times, guess, tol=tolerance, max_nodes=nodes)
    except (DataError, ValueError, np.linalg.LinAlgError) as error:
        return Solved(lambda t: guess[:, :1].T, str(error))

    def path(t: NDArray[np.float64]) -> NDArray[np.float64]:
        state: NDArray[np.float64] = found.sol(t).T
        return state

    if found.status != 0:
        return Solved(path, f"{found.message.rstrip('.')} ({len(found.x)} points)")
    fine = torch.linspace(0, 1, 65, dtype=start.dtype, device=start.device)[:, None]
    with torch.no_grad():
        straight = derivatives.map(start + fine * (end - start)).diff(dim=0).norm(dim=1).sum()
        taken = derivatives.map(torch.from_numpy(path(fine[:, 0].cpu().numpy())[:, :size]).to(start))
    length = taken.diff(dim=0).norm(dim=1).sum()
    if bool(length > (1 + _LONGER) * straight):
        why = f"it is longer ({float(length):.3g}) than the straight line of codes ({float(straight):.3g})"
        return Solved(path, why)
    return Solved(path, "")


def shoot(derivatives: Derivatives, z: Tensor, v: Tensor, tolerance: float) -> Tensor:
    """The codes that geodesics from z with velocities v, each (B, k), reach after unit time. Raises ``DataError`` where
    one can't be followed."""

    def equation(_: Tensor, state: Tensor) -> Tensor:
        place, speed = state.chunk(2, dim=1)
        return torch.cat([speed, derivatives.acceleration(place, speed)], 1)

    times = torch.tensor([0.0, 1.0], dtype=z.dtype, device=z.device)
    options = {"norm": lambda state: state.square().mean(1).sqrt().max()}  # the tolerance is every row's own
    try:
        found = odeint(equation, torch.cat([z, v], 1), times, rtol=tolerance, atol=tolerance, options=options)
    except AssertionError as error:
        raise DataError(
            f"a geodesic could not be followed: {error}", hint="take shorter vectors, or a lower tolerance"
        ) from error
    reached: Tensor = found[-1].chunk(2, dim=1)[0]
    return reached

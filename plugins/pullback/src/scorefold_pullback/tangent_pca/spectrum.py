"""Number of directions of a spectrum of variances to keep."""

from __future__ import annotations

from torch import Tensor

from scorefold.errors import ConfigError


def kept(variances: Tensor, unexplained: float) -> int:
    """d_eps: the fewest m in 1..D whose tail, the variances after the m largest, is at most a share of all.

    ``variances`` (D,) in any order, none below 0. All are kept where none can be dropped. Diepeveen, Batzolis et al.
    2025, the Riemannian auto-encoder. Raises ``ConfigError`` for a share outside [0, 1].
    """
    if not 0 <= unexplained <= 1:
        raise ConfigError(f"a share of {unexplained} of the variance may be unexplained; expected 0 to 1")
    # Summed from the small end: differences of whole sums would lose the digits of small tails.
    tails = variances.double().sort().values.cumsum(0)
    dropped = int((tails <= unexplained * tails[-1]).sum())
    return max(1, len(variances) - dropped)

"""A score network for data on manifolds: it corrects the best linear guess of the noise.

Near a manifold {f = 0} and at noise sigma the expected noise is, to first order, J^T (J J^T)^-1 f(y) / sigma with J the
derivative of f: a smooth function over sigma. A plain network has to learn it as a function of size 1 that changes over
a distance sigma, does so last along the directions in which the manifold curves, and takes them for tangent ones: it
says 11 on the 10-sphere. Each part below is meant for certain manifolds; what of that was measured is in
docs/manifold-mlp.md:

- the linear guess (``skip``) for manifolds in a subspace, whose normal directions outside it are exact from the start,
  and all data whose variances differ by direction;
- gates (``gates``), products of two linear maps, for manifolds that bend as polynomials of low degree and unions of
  manifolds, whose parts they switch between;
- the distances from quadrics fitted to the data (``quadrics``, see the module of that name) for manifolds that
  are cut out by equations of degree 2: spheres, ellipsoids, cylinders, products of these such as flat tori, and unions
  in independent subspaces. They add normal directions that are right from early on. Data that lie on no quadric get
  features like any other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorefold.data import Condition, ConditionSpec
from scorefold.errors import ConfigError
from scorefold.interfaces import Prepares
from scorefold_iddiff.config import ManifoldMLPConfig
from scorefold_toolkit.nn import ConditionVector, FourierEmbedding, ModuleNetwork, ResidualBlock

LEADING = 64
"""Principal directions that quadrics are sought in, at most: one has (l + 1) (l + 2) / 2 coefficients."""

_VISIBLE = 0.01
_FLOOR = 1e-3
"""Directions in which the data deviate by less than _VISIBLE of their spread are left out; a quadric is taken to be
known to _FLOOR of it."""

_POINTS = 3
_HELD = 10_000
"""Points fitted for each coefficient, and points to measure distances on, at most."""


class Quadrics(nn.Module):
    """Surfaces q_j(u) = u^T Q_j u + b_j u + c_j = 0 in the first l coordinates of u (B, m), and distances from them.

    With q of mean squared gradient 1 over the data and L half their spread, the signed distance from a surface and its
    normal are

        d = q / r,  n = grad q / r,  r^2 = |grad q|^2 + (q / L)^2.

    They are to first order the distance and the normal at the nearest point of the surface (Sampson 1982; Taubin
    1991). Far from the surface they are bounded. Before ``fit`` all are 0.
    """

    forms: Tensor
    linear: Tensor
    constant: Tensor
    reach: Tensor
    distances: Tensor

    def __init__(self, coordinates: int, count: int) -> None:
        super().__init__()
        leading = min(coordinates, LEADING)
        self.register_buffer("forms", torch.zeros(count, leading, leading))
        self.register_buffer("linear", torch.zeros(count, leading))
        self.register_buffer("constant", torch.zeros(count))
        self.register_buffer("reach", torch.ones(()))
        self.register_buffer("distances", torch.ones(count))

    def fit(self, u: Tensor, variances: Tensor) -> None:
        """Quadrics near points u (N, m) of mean 0, whose coordinates are uncorrelated, of falling ``variances`` (m,).

        The first quadric has the least mean square of q when c = -1; of several such it is the smallest, as the sphere
        is for points on it. The others, orthogonal to the first, have the least mean squared distance (Taubin 1991).
        The last half of the points is not fitted. Their root-mean-square d are the ``distances``, which show a quadric
        from too few points.

        The surfaces are fitted a second time in the directions before the widest gap of the variances. The directions
        behind the gap may hold noise, where a plane is as near as any quadric and adds nothing. Of the two sets the one
        whose first surface is thinner is kept: it has the smaller d^2, divided by the variance along its normals.
        """
        leading = self.linear.shape[1]
        spread = variances.sum().sqrt()
        variances = variances[:leading]
        variances = variances[variances > (_VISIBLE * spread) ** 2]
        if len(variances) == 0:  # none stands out of very many
            for buffer in (self.forms, self.linear, self.constant):
                buffer.zero_()
            return
        self.reach.copy_(spread / 2)
        before = variances[: before_gap(variances)]
        thin = self._fit(u, before, spread)
        if len(before) < len(variances) and self._fit(u, variances, spread) > thin:
            self._fit(u, before, spread)

    def _fit(self, u: Tensor, variances: Tensor, spread: Tensor) -> float:
        """Quadrics in the first coordinates of u, with the given ``variances``; the mean squared distance from the
        first, of points that were not fitted, over the variance along its normals."""
        for buffer in (self.forms, self.linear, self.constant):
            buffer.zero_()
        w = u[:, : len(variances)] / variances.sqrt()
        half = (len(w) + 1) // 2
        coefficients, constants = fitted(w[:half], variances, len(self.constant))
        found, rank = len(constants), len(variances)
        forms, linear = symmetric(coefficients, variances)
        self.forms[:found, :rank, :rank] = forms.to(self.forms)
        self.linear[:found, :rank] = linear.to(self.linear)
        self.constant[:found] = constants.to(self.constant)
        d, normals = self(u[len(u) // 2 :][:_HELD].to(self.forms))
        squares = d.double().square().mean(0)
        self.distances.copy_(squares.sqrt().clamp_min(_FLOOR * spread))
        width = normals[:, 0, :rank].double().square() @ variances
        return float(squares[0] / width.mean())

    def forward(self, u: Tensor, shrink: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """d (B, count) and n (B, count, l) of the surfaces that ``shrink`` u, elementwise with (B, m), is on: of noised
        points, the best linear guess of the point without noise."""
        leading = self.linear.shape[1]
        if isinstance(shrink, Tensor):
            shrink = shrink[:, :leading]
        u = shrink * u[:, :leading]
        turned = (u @ self.forms.permute(1, 0, 2).flatten(1)).reshape(len(u), *self.linear.shape)
        q = (turned * u[:, None]).sum(2) + u @ self.linear.mT + self.constant
        gradient = 2 * turned + self.linear
        if isinstance(shrink, Tensor):
            gradient = gradient * shrink[:, None]
        size = (gradient.square().sum(2) + (q / self.reach).square()).sqrt()
        size = size.clamp_min(torch.finfo(size.dtype).tiny)
        return q / size, gradient / size[..., None]


def before_gap(variances: Tensor) -> int:
    """The number of falling variances (l,) before the widest gap of their logarithms; 1 where there is one.

    >>> before_gap(torch.tensor([1.0, 0.9, 0.01, 0.009]))
    2
    """
    return int((variances[:-1] / variances[1:]).argmax()) + 1 if len(variances) > 1 else 1


def fitted(w: Tensor, variances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Up to ``count`` quadrics near w (N, l), coordinates u over their deviations: the coefficients (count, n) of
    ``monomials`` and the constants (count,), of mean squared gradient 1 in u."""
    n = w.shape[1] * (w.shape[1] + 3) // 2
    values = monomials(w[: _POINTS * n])
    mean, moments = values.mean(0), values.mT @ values / len(values)
    slopes = squared_gradients(variances)
    ridge = 1e-9 * moments.diagonal().mean() * torch.eye(n).to(moments)
    level = torch.linalg.solve(moments + ridge, mean)
    steepness = (level.square() * slopes).sum().sqrt()
    first = level / steepness
    distances = (moments - mean[:, None] * mean) / (slopes[:, None] * slopes).sqrt()
    taken = first * slopes.sqrt()
    _, vectors = torch.linalg.eigh(distances + distances.trace() * taken[:, None] * taken)
    others = vectors[:, : min(count, n) - 1].mT / slopes.sqrt()
    return torch.cat([first[None], others]), torch.cat([-1 / steepness[None], -(others @ mean)])


def monomials(w: Tensor) -> Tensor:
    """Coordinates and products w_i w_k, i <= k, of points w (N, l): (N, l (l + 3) / 2)."""
    i, k = torch.triu_indices(w.shape[1], w.shape[1])
    return torch.cat([w, w[:, i] * w[:, k]], 1)


def squared_gradients(variances: Tensor) -> Tensor:
    """The mean squared gradient of each of the ``monomials``, (l (l + 3) / 2,).

    Gradients are with respect to u = w sqrt(variances), for uncorrelated w of mean 0 and variance 1. The gradients of
    two monomials are orthogonal in the mean.
    """
    i, k = torch.triu_indices(len(variances), len(variances))
    of_products = (1 / variances[i] + 1 / variances[k]) * torch.where(i == k, 2.0, 1.0).to(variances)
    return torch.cat([1 / variances, of_products])


def symmetric(coefficients: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """The forms (count, l, l) and linear terms (count, l) in u of coefficients (count, n) of the ``monomials``."""
    rank, scale = len(variances), variances.rsqrt()
    i, k = torch.triu_indices(rank, rank)
    forms = coefficients.new_zeros(len(coefficients), rank, rank)
    forms[:, i, k] = coefficients[:, rank:] / 2
    return scale[:, None] * (forms + forms.mT) * scale, coefficients[:, :rank] * scale


_EMBEDDING = 64


class ManifoldNetwork(nn.Module, Prepares):
    """The expected noise of x (B, *in_shape) at noise levels t (B,), and what else it is asked for.

    Let y be the noised event, of unit deviation where it is clean, sigma its noise, u its coordinates along the
    principal directions of the data and lambda their variances. The expected noise is, along these,

        sigma u / (lambda + sigma^2) + sqrt(lambda / (lambda + sigma^2)) F + sum_j g_j n_j,

    with F and the numbers g_j from the network, which starts at 0, so that a Gaussian distribution has its exact score
    then; and directions without variance have theirs whatever is learned. The network sees v = sqrt(lambda) u / (lambda
    + sigma^2), sigma, and d_j / sqrt(sigma^2 + rho_j^2), where d_j is the distance of u from where its best linear
    guess lambda u / (lambda + sigma^2) is on a quadric, n_j the normal there, and rho_j the distance of the data. Until
    it is prepared all variances are 1, as for ``prediction: edm``, and there is no quadric.

    Built without a time, or for another shape, it has no noise to guess: the answer is F itself, of v at sigma = 0.
    """

    prediction = "eps"
    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor
    log_unit: Tensor

    def __init__(
        self,
        config: ManifoldMLPConfig,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        time: bool = False,
        condition: ConditionSpec | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.out_shape = tuple(out_shape)
        ambient = math.prod(in_shape)
        rank = min(config.directions or ambient, ambient)
        self.guesses = time and tuple(in_shape) == self.out_shape
        for name, value in (
            ("mean", torch.zeros(ambient)),
            ("basis", torch.eye(ambient, rank)),
            ("variances", torch.ones(rank)),
            ("rest", torch.ones(())),
            ("log_unit", torch.zeros(())),
        ):
            self.register_buffer(name, value)
        self.quadrics = Quadrics(rank, config.quadrics) if config.quadrics else None
        seen = rank + config.quadrics
        self.body = Body(config, seen, seen if self.guesses else math.prod(out_shape), time=time, condition=condition)

    def prepare(self, x: Tensor, unit: float, generator: torch.Generator) -> None:
        """Takes mean, principal directions and variances of x (N, *in_shape), divided by their standard deviation
        ``unit``. Raises ``ConfigError`` for data that don't vary."""
        x = x.flatten(1).double()
        mean, basis, variances, rest = principal(x, self.basis.shape[1], generator)
        spread = float(variances.sum() + rest * (len(mean) - len(variances)))
        if not spread > 0:
            raise ConfigError(
                "the data don't vary: all points are equal",
                hint="give data with more than one point, or another network",
            )
        if self.quadrics is not None:
            self.quadrics.fit((x - mean) @ basis, variances)
        if not self.config.skip:
            rest = torch.as_tensor(spread / len(mean), dtype=basis.dtype)
            variances = rest.expand(len(variances))
        values = {"mean": mean, "basis": basis, "variances": variances, "rest": rest}
        for name, value in (*values.items(), ("log_unit", torch.tensor(math.log(unit), dtype=x.dtype))):
            getattr(self, name).copy_(value)

    def forward(self, x: Tensor, t: Tensor | None = None, condition: Condition | None = None) -> Tensor:
        x = x.flatten(1)
        if (t is None) != (self.body.level is None):
            raise ConfigError(f"the network was built {'with' if t is None else 'without'} a time")
        sigma = x.new_zeros(len(x), 1) if t is None else (t - self.log_unit).exp()[:, None]
        centred = x * (1 + sigma**2).sqrt() - self.mean
        u = centred @ self.basis
        total = self.variances + sigma**2
        # Without noise and variance there is nothing to learn from: 0, not 0 / 0.
        total = total.clamp_min(torch.finfo(total.dtype).tiny)
        share = (self.variances / total).sqrt()
        v = share * u / total.sqrt()
        unnoticed = len(self.mean) - len(self.variances)
        spread = (self.variances.sum() + self.rest * unnoticed).sqrt()
        features, normals = v, None
        if self.quadrics is not None:
            distances, normals = self.quadrics(u, share.square())
            features = torch.cat([v, distances / (sigma**2 + self.quadrics.distances**2).sqrt()], 1)
        answer: Tensor = self.body(features, sigma / spread, condition)
        if not self.guesses:
            return answer.reshape(-1, *self.out_shape)
        rank = len(self.variances)
        noise = sigma * u / total + share * answer[:, :rank]
        if normals is not None:
            along = (answer[:, rank:, None] * normals).sum(1)
            noise = noise + functional.pad(along, (0, rank - along.shape[1]))
        noise = noise @ self.basis.mT
        if unnoticed:
            noise = noise + sigma / (self.rest + sigma**2) * (centred - u @ self.basis.mT)
        return noise.reshape(-1, *self.out_shape)


class Body(nn.Module):
    """Features (B, features), the noise in units of the data's spread (B, 1), and a condition, to (B, out), at first
    0."""

    def __init__(
        self, config: ManifoldMLPConfig, features: int, out: int, *, time: bool, condition: ConditionSpec | None
    ) -> None:
        super().__init__()
        width = config.width
        self.level = FourierEmbedding(_EMBEDDING) if time else None
        self.condition = ConditionVector(condition)
        known = (_EMBEDDING if time else 0) + self.condition.width
        context = _EMBEDDING if known else 0
        self.context = nn.Sequential(nn.Linear(known, context), nn.SiLU()) if known else None
        self.first = nn.Linear(features + context, width)
        self.blocks = nn.ModuleList(
            GatedBlock(width, context) if config.gates else ResidualBlock(width, context=context)
            for _ in range(config.blocks)
        )
        self.last = nn.Linear(width, out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor, noise: Tensor, condition: Condition | None) -> Tensor:
        parts = [] if self.level is None else [self.level(noise[:, 0].log())]
        vector = self.condition(condition, features)
        if vector is not None:
            parts.append(vector)
        context = None if self.context is None else self.context(torch.cat(parts, 1))
        h = self.first(features if context is None else torch.cat([features, context], 1))
        for block in self.blocks:
            h = block(h, context)
        out: Tensor = self.last(h)
        return out


class GatedBlock(nn.Module):
    """h + C ((A n(h) + a) (B n(h) + b)), n the layer norm and (a, b) linear in the context; C starts at 0."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.factors = nn.Linear(width, 2 * width)
        self.from_context = nn.Linear(context, 2 * width, bias=False) if context else None
        self.second = nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        factors = self.factors(self.norm(h))
        if self.from_context is not None and context is not None:
            factors = factors + self.from_context(context)
        a, b = factors.chunk(2, -1)
        change: Tensor = self.second(a * b)
        return h + change


def principal(x: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean (D,), the first principal directions (D, rank), their variances (rank,) and the mean variance of the others
    (), of points x (N, D).

    Where there are fewer than two points a direction the least variances are too uncertain to separate, and are
    replaced by their mean. What is 0 to rounding is 0. The largest coordinate of each direction is positive, so that
    they don't depend on how they were found.
    """
    mean = x.mean(0)
    x = x - mean
    if rank == x.shape[1]:
        variances, basis = torch.linalg.eigh(x.mT @ x / len(x))
        variances, basis = variances.flip(0), basis.flip(1)
    else:
        # Subspace iteration: the covariance of large events would not fit in memory.
        basis = torch.randn(x.shape[1], rank, generator=generator, dtype=x.dtype, device=x.device)
        for _ in range(8):
            basis = torch.linalg.qr(x.mT @ (x @ basis)).Q
        _, _, turn = torch.linalg.svd(x @ basis, full_matrices=False)
        basis = basis @ turn.mT
        variances = (x @ basis).square().mean(0)
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    basis = basis * torch.where(largest < 0, -1.0, 1.0).to(basis)
    certain = min(rank, max(1, len(x) // 2))
    variances = torch.cat([variances[:certain], variances[certain:].mean().expand(rank - certain)])
    variances = torch.where(variances > 1e-12 * variances[0], variances, torch.zeros_like(variances))
    others = max(x.shape[1] - rank, 1)
    rest = ((x.square().sum(1).mean() - variances.sum()) / others).clamp_min(0)
    return mean, basis, variances, rest


class ManifoldMLP(ModuleNetwork):
    """Builds ``ManifoldNetwork`` modules for events of any shape, flattened.

    >>> from scorefold_registry import Host
    >>> manifold_mlp = Host.discover().create("network:manifold-mlp", {"width": 32, "blocks": 1})
    >>> network = manifold_mlp.build((5,), (5,), time=True)
    >>> network(torch.zeros(4, 5), torch.zeros(4)).shape, network.prediction
    (torch.Size([4, 5]), 'eps')
    """

    module = ManifoldNetwork

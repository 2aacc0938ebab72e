"""Dimensions at points of the data and one noise level: scores around each, their spectrum, the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from scorefold.random import draw_normal
from scorefold.seeds import derive_generator
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.pointwise.noise_designs import Design, design
from scorefold_iddiff.pointwise.probe import ProbedPoints, ScoreProbe, check_finite, rows_at_once, squared_noise
from scorefold_iddiff.pointwise.range_finder import BLOCK, Range, find_ranges
from scorefold_iddiff.pointwise.spectra import (
    Expectation,
    ResponseMoments,
    Rule,
    asymmetry,
    gather,
    paper_rule,
    projector,
    projector_rule,
    ratio_rule,
    reference_rule,
    response_gram,
    slope,
    threshold_rule,
)

RULES: dict[str, tuple[str, Rule]] = {
    "projector": ("projector", projector_rule),
    "reference": ("centred", reference_rule),
    "paper": ("uncentred", paper_rule),
    "ratio": ("centred", ratio_rule),
    "threshold": ("centred", threshold_rule),
}
"""The spectrum that each rule reads, and the rule."""

_DRAWS = 8
"""Noises a point for the denoising loss where no design of noises gives it."""


@dataclass
class NoiseLevelReading:
    """Readings at N points and one noise level; tensors are on the CPU, all but bases in float64.

    ``dimensions``, ``margins`` (N,) by the rule; ``trace`` (N,) of the tangent projector; ``loss`` and ``asymmetry``
    (N,) where a noise design was used, the latter where the projector was fitted; on a curve ``flipd`` (N,), the
    ``eigenvalues`` (N, D) of the projector, descending, and always the loss; ``calls`` of the score in all. In detail:
    ``spectra`` (N, D) by name, ``intervals`` (N, 2) over noises, and orthonormal bases ``tangent`` (D, k) and
    ``normal`` (D, D - k), one a point, where the config asks for them.
    """

    dimensions: Tensor
    margins: Tensor
    trace: Tensor
    calls: int
    loss: Tensor | None = None
    asymmetry: Tensor | None = None
    flipd: Tensor | None = None
    eigenvalues: Tensor | None = None
    spectra: dict[str, Tensor] = field(default_factory=dict)
    intervals: Tensor | None = None
    tangent: list[Tensor] = field(default_factory=list)
    normal: list[Tensor] = field(default_factory=list)


class SpectrumReader:
    """Reads points by one config, with the noises that one seed gives.

    Raises ``DataError`` for fewer coordinates than the rule needs and ``ConfigError`` for a number of noises that the
    design can't have.
    """

    def __init__(self, config: NormalBundleConfig, probe: ScoreProbe, ambient: int, seed: int) -> None:
        self.config, self.probe, self.ambient, self.seed = config, probe, ambient, seed
        self.rows = rows_at_once(config.batch, ambient)
        self.call_rows = probe.rows(config.batch, ambient)
        self.spectrum, self.rule = RULES[config.rule]
        if config.rule == "threshold":
            self.rule = partial(threshold_rule, threshold=config.threshold)
        self.rule(torch.ones(1, ambient))
        self.design_name = config.design or ("iid" if config.rule in ("reference", "paper") else "pairs")
        self.design: Design | None = None
        if self.design_name != "range-finder":
            self.design = design(self.design_name, ambient, config.noises)

    def read(
        self, points: ProbedPoints, sigma: float, *, detail: bool = False, curve: bool = False, block: int = BLOCK
    ) -> NoiseLevelReading:
        """The dimensions at points; with ``detail`` the spectra, intervals and bases, too.

        ``curve`` adds what a level is judged by: FLIPD, tr P + ||eps-hat(x)||^2 at the point itself, at one more call a
        point; the projector's eigenvalues; and for the range finder the denoising loss, at ``_DRAWS`` calls a point.
        ``block`` is the number of directions in a round of the range finder.
        """
        expected_noise = self.probe.expected_noise(points, sigma, self.call_rows)
        if self.design is None:
            parts = list(self._by_ranges(expected_noise, points, sigma, detail, curve, block))
        else:
            parts = list(self._by_noises(self.design, expected_noise, points, sigma, detail, curve))
        reading = join(parts)
        if curve:
            reading.flipd = reading.trace + squared_noise(self.probe, points, sigma, self.call_rows)
            reading.calls += len(points)
        if curve and reading.loss is None:
            reading.loss = self._loss(expected_noise, points)
            check_finite(sigma, reading.loss)
            reading.calls += _DRAWS * len(points)
        return reading

    def _loss(self, expected_noise: Expectation, points: ProbedPoints) -> Tensor:
        """The denoising loss (N,) over a few noises, in pairs of opposite ones."""
        shape = (_DRAWS // 2, self.ambient)
        generators = (derive_generator(self.seed, "loss", place) for place in points.index.tolist())
        half = torch.stack([draw_normal(shape, generator=own, like=points.x.cpu()) for own in generators])
        noise = torch.cat([half, -half], dim=1).to(points.x.device)
        errors = noise - expected_noise(torch.arange(len(points)), noise)
        return errors.double().square().sum(2).mean(1).cpu()

    def _by_noises(
        self, chosen: Design, expected_noise: Expectation, points: ProbedPoints, sigma: float, detail: bool, curve: bool
    ) -> Iterator[NoiseLevelReading]:
        """Readings by a noise design. The spectra come from the Gram matrices of responses."""
        dtype = torch.promote_types(points.x.dtype, torch.float32)
        for moments in gather(
            expected_noise,
            points.index,
            chosen,
            rows=self.rows,
            seed=self.seed,
            like=points.x,
            projector=detail or curve or self.spectrum == "projector",
            singular=detail or self.spectrum != "projector",
            keep=detail and self.config.resamples > 0,
        ):
            check_finite(sigma, moments.loss_sum)  # each response is in it, and no matrix has been factorised yet
            yield self._decide(moments, chosen.count, dtype, detail, curve)

    def _decide(
        self, moments: ResponseMoments, calls: int, dtype: torch.dtype, detail: bool, curve: bool
    ) -> NoiseLevelReading:
        lopsided, matrices = None, {}
        if moments.cross_gram is None:
            trace = self.ambient * (1 - moments.share_sum / moments.square_sum)
        else:
            response = slope(moments)
            trace, lopsided = self.ambient - response.diagonal(dim1=1, dim2=2).sum(1), asymmetry(response)
            # Eigenvalues of order 1 that are held against 1/2 need no more than the precision of the scores.
            matrices["projector"] = projector(response).to(dtype)
        if moments.response_gram is not None:
            matrices["centred"] = response_gram(moments, centred=True)
            matrices["uncentred"] = response_gram(moments, centred=False)
        read = {self.spectrum, *(matrices if detail else ()), *(("projector",) if curve else ())}
        spectra = {name: spectrum_of(matrix, name) for name, matrix in matrices.items() if name in read}
        values = spectra[self.spectrum]
        dimensions, margins = self.rule(values)
        found = {"dimensions": dimensions, "margins": margins, "trace": trace, "loss": moments.loss_sum / moments.count}
        if lopsided is not None:
            found["asymmetry"] = lopsided
        if detail and (moments.kept is not None or self.config.bases != "none"):
            vectors = torch.linalg.eigh(matrices[self.spectrum]).eigenvectors.flip(-1)
            if self.config.bases != "none":
                found["vectors"] = vectors
            if moments.kept is not None:
                found["resampled"] = self._resampled(moments, values, vectors).mT
        numbers = reading_on_cpu({**found, **spectra})
        reading = NoiseLevelReading(
            dimensions=numbers["dimensions"],
            margins=numbers["margins"],
            trace=numbers["trace"],
            calls=calls * len(dimensions),
            loss=numbers["loss"],
            asymmetry=numbers.get("asymmetry"),
            eigenvalues=numbers["projector"] if curve else None,
            spectra={name: numbers[name] for name in spectra} if detail else {},
        )
        if "resampled" in found:
            tail = (1 - self.config.level) / 2
            ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
            reading.intervals = numbers["resampled"].quantile(ends, dim=1, interpolation="nearest").mT
        if "vectors" in found:
            bases = numbers["vectors"].to(found["vectors"].dtype)
            for each, dimension in zip(bases, reading.dimensions.long().tolist(), strict=True):
                tangent_first = each if self.spectrum == "projector" else each.flip(1)
                self._keep_bases(reading, tangent_first[:, :dimension], tangent_first[:, dimension:])
        return reading

    def _resampled(self, moments: ResponseMoments, values: Tensor, vectors: Tensor) -> Tensor:
        """The dimensions (R, P) from resamples of the noises."""
        generator = derive_generator(self.seed, "resamples")
        weights = resample_weights(self.config.resamples, moments.count, generator, values)
        return resampled_dimensions(moments, values, vectors, self.rule, self.spectrum, weights)

    def _by_ranges(
        self, expected_noise: Expectation, points: ProbedPoints, sigma: float, detail: bool, curve: bool, block: int
    ) -> Iterator[NoiseLevelReading]:
        """Spectra by the range finder: of the tangent directions alone. The other directions count as 0."""

        def finite(which: Tensor, noise: Tensor) -> Tensor:
            expected = expected_noise(which, noise)
            check_finite(sigma, expected)
            return expected

        for own in torch.arange(len(points)).split(max(1, self.rows // 32)):
            found = find_ranges(
                finite,
                own,
                ambient=self.ambient,
                floor=self.config.floor,
                seed=self.seed,
                like=points.x,
                block=block,
            )
            for each in found:
                yield self._decide_range(each, detail, curve)

    def _decide_range(self, found: Range, detail: bool, curve: bool) -> NoiseLevelReading:
        spectrum = torch.zeros(1, self.ambient, dtype=torch.float64)
        spectrum[0, : len(found.values)] = found.values
        spectrum = spectrum.sort(dim=1, descending=True).values
        dimensions, margins = self.rule(spectrum)
        reading = NoiseLevelReading(dimensions.double(), margins, trace=spectrum.sum(1), calls=found.calls)
        reading.eigenvalues = spectrum if curve else None
        if detail:
            reading.spectra["projector"] = spectrum
            tangent = found.vectors[:, : int(dimensions)].cpu()
            whole = torch.linalg.qr(tangent, mode="complete").Q if self.config.bases in ("normal", "both") else tangent
            self._keep_bases(reading, tangent, whole[:, int(dimensions) :])
        return reading

    def _keep_bases(self, reading: NoiseLevelReading, tangent: Tensor, normal: Tensor) -> None:
        if self.config.bases in ("tangent", "both"):
            reading.tangent.append(tangent)
        if self.config.bases in ("normal", "both"):
            reading.normal.append(normal)


@dataclass(frozen=True)
class ReadingShard:
    """Points that are read together at one level; all that a worker needs for it."""

    reader: SpectrumReader
    points: ProbedPoints
    sigma: float


def read_shard(shard: ReadingShard) -> NoiseLevelReading:
    """Readings of a shard's points, without their spectra."""
    with shard.reader.probe.evaluating():
        found = shard.reader.read(shard.points, shard.sigma)
    return NoiseLevelReading(found.dimensions, found.margins, found.trace, found.calls)


def join(parts: Sequence[NoiseLevelReading]) -> NoiseLevelReading:
    """Readings of several groups of points at one level as one."""

    def joined(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors)

    one = {name: joined(name) for name in ("loss", "asymmetry", "flipd", "eigenvalues", "intervals")}
    return NoiseLevelReading(
        dimensions=torch.cat([part.dimensions for part in parts]),
        margins=torch.cat([part.margins for part in parts]),
        trace=torch.cat([part.trace for part in parts]),
        calls=sum(part.calls for part in parts),
        spectra={name: torch.cat([part.spectra[name] for part in parts]) for name in parts[0].spectra},
        tangent=[basis for part in parts for basis in part.tangent],
        normal=[basis for part in parts for basis in part.normal],
        **one,
    )


def spectrum_of(matrix: Tensor, name: str) -> Tensor:
    """The eigenvalues of projectors, or the roots of the eigenvalues of Gram matrices (P, D, D), descending: (P, D)."""
    values: Tensor = torch.linalg.eigvalsh(matrix).flip(-1)
    return values if name == "projector" else values.clamp_min(0).sqrt()


def reading_on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors (P, *any) by name in float64 on the CPU, for which a device is waited for once."""
    columns = [each.double().flatten(1) if each.dim() > 1 else each.double()[:, None] for each in tensors.values()]
    parts = torch.cat(columns, 1).cpu().split([each.shape[1] for each in columns], 1)
    return {name: part.reshape(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


def padded(bases: Sequence[Tensor]) -> Tensor:
    """Bases (D, k_i) as one tensor (M, D, max k_i), with columns of 0 behind each point's own."""
    width = max(basis.shape[1] for basis in bases)
    rows = [torch.nn.functional.pad(basis, (0, width - basis.shape[1])) for basis in bases]
    return torch.stack(rows)


def resampled_dimensions(
    moments: ResponseMoments, values: Tensor, vectors: Tensor, rule: Rule, spectrum: str, weights: Tensor
) -> Tensor:
    """The dimensions (R, P) by a rule from R resamples of the kept noises: a bootstrap at one point, to first order.

    Resampling the noises and solving again would break an orthonormal design, and cost a decomposition each time.
    Instead the directions found are held and the reading along each is resampled: along v_j the response is
    (1 - lambda_j) z plus a remainder, of curvature and of the score's errors, which makes the reading uncertain.

    ``values`` (P, D) and ``vectors`` (P, D, D) are the whole sample's: eigenvalues of the ``projector``, or singular
    values of ``centred`` or ``uncentred`` expected noises; ``weights`` (R, K) count each noise (of pairs, each pair).
    """
    assert moments.kept is not None
    weights = torch.cat([weights, torch.ones_like(weights[:1])]).to(vectors.dtype)  # the last: the whole sample
    along = vectors.new_zeros(len(vectors), len(weights), vectors.shape[-1])
    noises = torch.zeros_like(along)
    first = 0
    for noise, response, *even in moments.kept:
        part = weights[:, first : first + noise.shape[1]]
        first += noise.shape[1]
        z, e = noise.to(vectors.dtype) @ vectors, response.to(vectors.dtype)
        if spectrum == "projector":
            terms = z * (e @ vectors)
        else:
            if spectrum == "centred" and not moments.paired:
                e = e - (moments.response_sum / moments.count).to(e.dtype)[:, None]
            terms = (e @ vectors).square()
            if spectrum == "uncentred" and even:
                terms = terms + (even[0].to(vectors.dtype) @ vectors).square()
        along += part @ terms
        noises += part @ z.square()
    ratio = along / noises
    drawn, whole = ratio[:, :-1], ratio[:, -1:]
    if spectrum == "projector":
        drawn = values[:, None] - (drawn - whole)
    else:
        drawn = values[:, None] * (drawn / whole.clamp_min(1e-30)).sqrt()
    return rule(drawn.sort(dim=-1, descending=True).values)[0].mT


def resample_weights(resamples: int, noises: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Counts of each of K noises in each of R resamples with replacement, (R, K)."""
    drawn = torch.randint(noises, (resamples, noises), generator=generator, device=generator.device)
    counts = torch.zeros(resamples, noises, dtype=torch.float64, device=generator.device)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts)).to(like.device)

"""The paper's table of the plane sets as claims: declarations, strings only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Claim

_HERE = "scorefold_pullback.claims.planes"
_TABLE = "Diepeveen, Batzolis et al., ICML 2025, table of the plane sets (project page)"
_OURS = "our own run of the method, on exact samples; not in the paper"
_TRAINED = ("quick", "full")
_ALL = ("smoke", *_TRAINED)
_TITLES = {
    "ours": "flow:anisotropic",
    "normal": "A standard normal base (NF)",
    "anisotropic": "Learned variances without isometry (anisotropic NF)",
    "isometric": "Isometry with a standard normal base (isometric NF)",
    "straight": "Straight lines",
    "true": "The true map",
}
_SETS = {"banana": "the banana", "squeezed-banana": "the squeezed banana", "river": "the river"}
_DRAWN = {"exact": "exact samples", "paper": "the published sampler's points"}
_FIGURES = {
    ("banana", "geodesic"): {"ours": 0.0315, "normal": 0.0406, "anisotropic": 0.0431, "isometric": 0.0817},
    ("banana", "deviation"): {"ours": 0.0268, "normal": 0.0288, "anisotropic": 0.0305, "isometric": 0.1063},
    ("banana", "variation"): {"ours": 0.0625, "normal": 0.0638, "anisotropic": 0.0639, "isometric": 0.0639},
    ("squeezed-banana", "geodesic"): {"ours": 0.0180, "normal": 0.0524, "anisotropic": 0.0505, "isometric": 0.1967},
    ("squeezed-banana", "deviation"): {"ours": 0.0226, "normal": 0.0805, "anisotropic": 0.0787, "isometric": 0.2457},
    ("squeezed-banana", "variation"): {"ours": 0.0631, "normal": 0.0663, "anisotropic": 0.0661, "isometric": 0.0669},
    ("river", "geodesic"): {"ours": 0.1691, "normal": 0.2369, "anisotropic": 0.2561, "isometric": 0.3859},
    ("river", "deviation"): {"ours": 0.0978, "normal": 0.1216, "anisotropic": 0.1338, "isometric": 0.2568},
    ("river", "variation"): {"ours": 0.0763, "normal": 0.1064, "anisotropic": 0.1113, "isometric": 0.0636},
}
"""The published table, drawn by the published sampler."""

_MEASURES = {
    "geodesic": "mean distance of geodesics from the true ones",
    "deviation": "deviation over pairs of the distance from the true geodesics",
    "variation": "mean distance that geodesics move when an end moves by noise of 0.1",
}


def plane_claims() -> Iterable[Claim]:
    yield from _gates()
    yield from _known()
    yield from _orderings()
    yield from _table()


def _gates() -> Iterable[Claim]:
    """What holds whoever trains it: geodesic errors in bounds, and what anisotropy and isometry are each needed for."""
    for data, sampler, method, tolerance in (
        ("squeezed-banana", "paper", "ours", ("max", 0.025)),
        ("squeezed-banana", "paper", "normal", ("range", (0.03, 0.07))),
        ("squeezed-banana", "exact", "ours", ("max", 0.02)),
        ("banana", "exact", "ours", ("max", 0.06)),
        ("river", "exact", "ours", ("max", 0.06)),
        ("river", "paper", "ours", ("max", 0.1)),
    ):
        yield _plane(
            f"{data}-{sampler}-{method}",
            (data, sampler, method, "geodesic"),
            source=_TABLE if sampler == "paper" else _OURS,
            reference=_FIGURES[data, "geodesic"][method] if sampler == "paper" else None,
            basis="published",
            tolerance=tolerance,
        )
    for name, method, what, reference, least in (
        ("margin", "normal", "a standard normal base", 2.91, 2.0),
        ("isometric", "isometric", "isometry with a standard normal base", 10.9, 5.0),
    ):
        yield Claim(
            name=f"squeezed-banana-paper-{name}",
            statement=f"How many times as much {what} errs on the squeezed banana by the published sampler",
            source=_TABLE,
            target=f"{_HERE}:ratio",
            options={"data": "squeezed-banana", "sampler": "paper", "above": method, "below": "ours"},
            reference=reference,
            tolerance=("min", least),
            unit="times",
            profiles=_TRAINED,
        )
    yield _plane(
        "squeezed-banana-across",
        ("squeezed-banana", "exact", "ours", "across"),
        statement="The variance across the squeezed banana, 1/81, is found (mean over trainings)",
        source="the distribution of the data",
        reference=1 / 81,
        tolerance=("rel", 0.25),
        unit="variance",
    )
    finds, misses = "finds the curve", "misses the curve: both coordinates are kept"
    # Both coordinates are kept by a map that is not trained too: that they are is a report, and no gate.
    for data, method, dimension, role, take, what, profiles in (
        ("squeezed-banana", "ours", 1, "gate", "largest", finds, _ALL),
        ("squeezed-banana", "anisotropic", 2, "report", "smallest", misses, _ALL),
        ("banana", "ours", 1, "gate", "largest", finds, _TRAINED),
    ):
        yield _plane(
            f"{data}-dimension-{method}",
            (data, "exact", method, "dimension"),
            statement=f"{_TITLES[method]} on {_SETS[data]} {what} ({take} dimension over trainings)",
            source=_OURS,
            role=role,
            reference=dimension,
            basis="earlier run",
            tolerance=("abs", 0.0),
            unit="dimensions",
            profiles=profiles,
            take=take,
        )


def _known() -> Iterable[Claim]:
    """Straight lines and the true map, with nothing trained: what every error is to be read against."""
    for method, measure, values in (
        ("straight", "geodesic", {"banana": 0.148, "squeezed-banana": 0.148, "river": 0.422}),
        ("straight", "variation", dict.fromkeys(_SETS, 0.063)),
        ("true", "variation", {"banana": 0.0635, "squeezed-banana": 0.0634, "river": 0.0814}),
    ):
        for data, value in values.items():
            yield _plane(
                f"{data}-{method}-{measure}",
                (data, "exact", method, measure),
                source="the distribution of the data, by simulation",
                reference=value,
                tolerance=("rel", 0.1),
                profiles=_ALL,
            )


def _orderings() -> Iterable[Claim]:
    for measure in ("geodesic", "variation"):
        for sampler, drawn in _DRAWN.items():
            yield Claim(
                name=f"first-{measure}-{sampler}",
                statement=f"Sets of three on which flow:anisotropic has the least {measure} error of four, {drawn}",
                source=_TABLE,
                target=f"{_HERE}:first_places",
                options={"sampler": sampler, "measure": measure},
                role="report",
                reference=3 if measure == "geodesic" else 2,
                unit="sets",
                profiles=_TRAINED,
            )


def _table() -> Iterable[Claim]:
    """Every cell of the published table, by the published sampler and on exact samples."""
    for (data, measure), row in _FIGURES.items():
        for sampler in _DRAWN:
            for method, reference in row.items():
                yield _plane(
                    f"table-{data}-{sampler}-{method}-{measure}",
                    (data, sampler, method, measure),
                    source=_TABLE,
                    role="report",
                    reference=reference,
                    basis="published",
                    tolerance=("rel", 0.25),
                )


def _plane(
    name: str,
    cell: tuple[str, str, str, str],
    *,
    source: str,
    tolerance: tuple[str, Any],
    reference: float | None,
    basis: str = "derived",
    statement: str | None = None,
    role: str = "gate",
    unit: str = "distance",
    profiles: tuple[str, ...] = _TRAINED,
    **options: str,
) -> Claim:
    """A claim of one cell of the table: data, sampler, method and measure."""
    data, sampler, method, measure = cell
    drawn = "" if method in ("straight", "true") else f", {_DRAWN[sampler]}"
    return Claim(
        name=name,
        statement=statement or f"{_TITLES[method]} on {_SETS[data]}{drawn}: {_MEASURES[measure]}",
        source=source,
        target=f"{_HERE}:plane",
        options={"data": data, "sampler": sampler, "method": method, "measure": measure, **options},
        role=role,
        reference=reference,
        basis=basis,
        tolerance=tolerance,
        unit=unit,
        profiles=profiles,
    )

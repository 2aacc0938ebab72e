"""Components of this plugin: estimators of intrinsic dimension, and a check of all of them on the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scorefold.plugin import Component, Port, hookimpl

__plugin_api__ = "1.0"

_FEW = ["estimator:mle", "estimator:twonn", "estimator:gride", "estimator:mind-ml"]
_SPAN = {
    "right-on-sphere": "it counts the directions that the points span, and a 2-sphere spans three",
    "right-on-torus": "it counts the directions that the points span, and a product of two circles spans four",
}
_BENT = {
    "right-on-sphere": "a neighbourhood of 50 among 300 points of a sphere is bent enough to fill a third direction",
    "right-on-torus": "a neighbourhood of 50 among 300 points of a torus is bent enough to fill a fourth direction",
}


def _estimator(
    name: str,
    config: str,
    summary: str,
    cite: str,
    dimensions: tuple[int, int],
    example: Mapping[str, Any] | None = None,
    known_failures: Mapping[str, str] | None = None,
) -> Component:
    return Component(
        kind="estimator",
        name=name,
        target=".estimators.estimator:NeighbourEstimator",
        config=f".config:{config}",
        summary=summary,
        examples=({"config": example or {}},),
        cite=f"cite/{cite}",
        known_failures=known_failures or {},
        ranges={"dimension": dimensions},
    )


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield Component(
        kind="estimator",
        name="calibrated",
        target=".calibrated.estimator:Calibrated",
        config=".config:CalibratedConfig",
        summary="Which estimate to believe: every estimator checked and corrected on surrogates of known dimension",
        requires=(Port("estimators", kind="estimator", many=True, optional=True, installed=True),),
        examples=({"config": {"surrogates": 36}, "inputs": {"estimators": _FEW}},),
        figures=".calibrated.answer:plot",
        cite="cite/calibrated.bib",
        ranges={"dimension": (1, 10)},
    )
    yield Component(
        kind="estimator",
        name="pca",
        target=".estimators.pca:PCAEstimator",
        config=".config:PCAConfig",
        summary="The number of principal components that data need",
        known_failures=_SPAN,
        ranges={"dimension": (1, 10)},
    )
    yield Component(
        kind="estimator",
        name="ppca",
        target=".estimators.pca:PPCAEstimator",
        config=".config:PPCAConfig",
        summary="The rank of a probabilistic PCA by its evidence (Minka)",
        cite="cite/ppca.bib",
        known_failures=_SPAN,
        ranges={"dimension": (1, 10)},
    )
    yield _estimator(
        "mle", "MLEConfig", "Maximum likelihood from nearest-neighbour distances (Levina and Bickel)", "mle.bib", (1, 4)
    )
    yield _estimator(
        "twonn", "TwoNNConfig", "The ratio of the two nearest-neighbour distances (Facco et al.)", "twonn.bib", (1, 3)
    )
    yield _estimator(
        "lpca", "LPCAConfig", "PCA in neighbourhoods (Fukunaga and Olsen)", "lpca.bib", (1, 8), known_failures=_BENT
    )
    yield _estimator(
        "corrint", "CorrIntConfig", "The correlation dimension (Grassberger and Procaccia)", "corrint.bib", (1, 3)
    )
    yield _estimator(
        "danco",
        "DANCoConfig",
        "Concentration of angles and norms (Ceruti et al.)",
        "danco.bib",
        (2, 2),
        {"resamples": 4},
    )
    yield _estimator(
        "fishers",
        "FisherSConfig",
        "Linear separability of points (Albergante et al.)",
        "fishers.bib",
        (1, 8),
        known_failures=_SPAN,
    )
    yield _estimator(
        "ess",
        "ESSConfig",
        "Expected simplex skewness (Johnsson et al.)",
        "ess.bib",
        (1, 5),
        {"resamples": 2, "limit": 150},
        {"right-on-torus": "a neighbourhood of 30 among 150 points of a torus is bent into a third direction"},
    )
    yield _estimator(
        "tle", "TLEConfig", "Tight local estimation from small neighbourhoods (Amsaleg et al.)", "tle.bib", (1, 5)
    )
    yield _estimator(
        "mada",
        "MADAConfig",
        "Manifold-adaptive dimension from two neighbour radii (Farahmand et al.)",
        "mada.bib",
        (1, 4),
    )
    yield _estimator(
        "mom", "MOMConfig", "The method of moments of neighbour distances (Amsaleg et al.)", "mom.bib", (1, 4)
    )
    yield _estimator("knn", "KNNConfig", "Growth of the k-nearest-neighbour graph (Carter et al.)", "knn.bib", (1, 3))
    yield _estimator(
        "mind-ml",
        "MiNDMLConfig",
        "Maximum likelihood from normalised neighbour distances (Rozza et al.)",
        "mind_ml.bib",
        (1, 5),
    )
    yield _estimator(
        "gride", "GRIDEConfig", "Ratios of further neighbour distances (Denti et al.)", "gride.bib", (1, 3)
    )
    yield _estimator(
        "log-log",
        "LogLogConfig",
        "The log-log of the ratio of neighbour distances, for any density (Ong et al.)",
        "log_log.bib",
        (1, 3),
    )
    yield _estimator(
        "geomle",
        "GeoMLEConfig",
        "Maximum likelihood continued to neighbourhoods of radius 0 (Gomtsyan et al.)",
        "geomle.bib",
        (1, 6),
        {"near": 5, "far": 20, "resamples": 2},
    )
    yield _estimator("ph", "PHConfig", "Growth of minimum spanning trees, as in persistent homology", "ph.bib", (1, 2))
    yield _estimator(
        "i3d",
        "I3DConfig",
        "For counts, bits and categories: points within two radii on a lattice (Macocco et al.)",
        "i3d.bib",
        (1, 3),
        {"step": 0.01, "resamples": 4},
    )

"""Components of this plugin: geometries, closed-form flows, potentials, and the paper's data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Capability, Claim, Component, Kind, Port, hookimpl
from scorefold_toolkit.claims import read_claims

__plugin_api__ = "1.0"

_PAPER = "citation.bib"
_CLOSED_FORM = ": closed form, nothing to train"
_BANANA = {"use": "flow:banana"}
_COUPLING = {
    "use": "flow:affine-coupling",
    "config": {"layers": 4, "hidden": [16], "base": "diagonal-normal", "training": {"steps": 400}},
    "inputs": {"data": {"use": "data:hemisphere", "config": {"points": 100}}},
}

_CHART = (
    Port("flow", kind="flow"),
    Port("psi", kind="potential", optional=True),
    Port("reference", kind="geometry", optional=True),
)
_SETTINGS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "anisotropic": ({"map": {"name": "coupling", "layers": 2, "width": 16}}, {"map": {"name": "regular"}, "modes": 2}),
    "isometric": ({"map": {"name": "spline", "layers": 2, "width": 16}},),
    "standard-normal": ({"map": {"name": "coupling", "layers": 2, "width": 16, "scale": "published"}},),
}
"""Settings of the examples of trained flows, without their training."""


@hookimpl
def scorefold_kinds() -> Iterable[Kind]:
    yield Kind(
        "potential",
        interface="scorefold_toolkit.potential:Potential",
        summary="A strongly convex function psi, whose gradient is the last step of a pullback geometry's chart",
    )


@hookimpl
def scorefold_capabilities() -> Iterable[Capability]:
    yield Capability("Potential", "scorefold_toolkit.potential:Potential", "It is a strongly convex function")


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _geometries()
    yield from _estimators()
    yield from _autoencoders()
    yield from _flows()
    yield from _trained_flows()
    yield from _potentials()
    yield from _sources()


def _geometries() -> Iterable[Component]:
    yield Component(
        kind="geometry",
        name="pullback",
        target=".geometry.pullback:Pullback",
        config=".config:PullbackConfig",
        requires=_CHART,
        provides=("Transports", "ClosedFormGeodesics"),
        summary="Closed-form geodesics through the bulk of a density: Euclidean space pulled back through a flow",
        examples=(
            {"config": {"metric": "whitened"}, "inputs": {"flow": _COUPLING}},
            {"inputs": {"flow": _BANANA}},
            {"inputs": {"flow": {"use": "flow:river"}, "psi": {"use": "potential:cosh"}}},
        ),
        figures=".geometry.figures:geometry_figures",
        cite=_PAPER,
    )
    yield Component(
        kind="geometry",
        name="iso-pullback",
        target=".geometry.iso:IsoPullback",
        config=".config:IsoPullbackConfig",
        requires=_CHART,
        summary="The geodesics of a pullback geometry at constant Euclidean speed: iso-Riemannian geometry",
        examples=({"inputs": {"flow": _COUPLING}}, {"inputs": {"flow": _BANANA}}),
        figures=".geometry.figures:geometry_figures",
        cite="cite/iso.bib",
    )


def _estimators() -> Iterable[Component]:
    yield Component(
        kind="estimator",
        name="tangent-pca",
        target=".tangent_pca:TangentPCAEstimator",
        config=".config:TangentPCAConfig",
        requires=(Port("geometry", kind="geometry"),),
        summary="Intrinsic dimension by principal geodesics in any geometry, with the Fréchet mean and variance",
        examples=(
            {
                "config": {"resamples": 20},
                "inputs": {
                    "geometry": {
                        "use": "geometry:pullback",
                        "config": {"metric": "latent"},
                        "inputs": {"flow": {"use": "flow:identity", "config": {"event_shape": [6]}}},
                    }
                },
            },
        ),
        cite="cite/tangent_pca.bib",
        known_failures={
            "floor": "the kit has no geometry of its manifolds to plug in, so checks about answers on them "
            "are left to the plugin's own tests"
        },
    )


def _autoencoders() -> Iterable[Component]:
    variances = [4.0, 0.02, 3.0, 0.01, 0.03, 0.02]
    one = {"use": "flow:identity", "config": {"event_shape": [6], "variances": variances}}
    trained = {
        "use": "flow:anisotropic",
        "config": {"isometry": "sliced", "training": {"steps": 400, "learning_rate": 0.003}},
        "inputs": {"data": {"use": "data:hemisphere", "config": {"points": 100}}},
    }
    several = {
        "use": "flow:mixture",
        "config": {"offsets": [[0, -6, 0, 0, 0, 0], [1, 6, 0, 0, 0, 0]], "variances": variances},
        "inputs": {"flow": one},
    }
    yield Component(
        kind="estimator",
        name="riemannian-autoencoder",
        target=".autoencoder.estimator:RiemannianAutoencoder",
        config=".config:RiemannianAutoencoderConfig",
        requires=(Port("flow", kind="flow"),),
        provides=("Encodes",),
        summary="The few latent coordinates of a flow that hold nearly all of its variance: a code, and its dimension",
        examples=(
            {"config": {"dimension": 2}, "inputs": {"flow": trained}},
            {"inputs": {"flow": one}},
            {"config": {"unexplained": 0.05}, "inputs": {"flow": several}},
        ),
        figures=".autoencoder.figures:autoencoder_figures",
        cite=_PAPER,
    )


def _flows() -> Iterable[Component]:
    yield _alone(
        "flow",
        "banana",
        ".flows.linear:Shear",
        ".flows.config:BananaConfig",
        "A Gaussian bent along a parabola" + _CLOSED_FORM,
        {},
    )
    yield _alone(
        "flow",
        "squeezed-banana",
        ".flows.linear:Shear",
        ".flows.config:SqueezedBananaConfig",
        "A banana with a small variance across its curve" + _CLOSED_FORM,
        {},
    )
    yield _alone(
        "flow",
        "river",
        ".flows.linear:Shear",
        ".flows.config:RiverConfig",
        "A Gaussian bent along a sine" + _CLOSED_FORM,
        {},
    )
    yield _alone(
        "flow",
        "linear",
        ".flows.linear:LinearFlow",
        ".flows.config:LinearFlowConfig",
        "A Gaussian by a matrix, a random rotation, or its covariance" + _CLOSED_FORM,
        {"covariance": [[2.0, 1.0], [1.0, 2.0]], "mean": [1.0, -1.0]},
        {"matrix": [[1.0, 2.0], [0.0, -0.5]], "variances": [0.5, 2.0]},
        {"rotation": 1, "dimension": 3},
    )
    yield _alone(
        "flow",
        "identity",
        ".flows.linear:IdentityFlow",
        ".flows.config:IdentityConfig",
        "A Gaussian with independent coordinates, of any shape" + _CLOSED_FORM,
        {"event_shape": [1, 2, 2], "variances": [1.0, 2.0, 3.0, 4.0]},
    )
    bent = {"use": "flow:river", "config": {"frequency": 0.5}}
    yield Component(
        kind="flow",
        name="mixture",
        target=".flows.mixture:MixtureFlow",
        config=".flows.config:MixtureConfig",
        revision=2,
        requires=(Port("flow", kind="flow"),),
        summary="Another flow's map with several modes of the same variances as its base: exact geometry of a mixture",
        examples=(
            {
                "config": {"offsets": [[0, -6], [0, 0], [0, 6]], "variances": [0.25, 4.0], "weights": [1, 1, 2]},
                "inputs": {"flow": bent},
            },
        ),
        cite=_PAPER,
    )


def _trained_flows() -> Iterable[Component]:
    for name, target, summary in (
        ("anisotropic", "AnisotropicConfig", "A flow near an isometry whose base has a variance for each coordinate"),
        ("isometric", "IsometricConfig", "The same flow with a standard normal base, a baseline of the paper"),
        ("standard-normal", "StandardNormalConfig", "The same flow by its likelihood alone, a baseline of the paper"),
    ):
        yield Component(
            kind="flow",
            name=name,
            target=".flows.anisotropic:AnisotropicFlow",
            config=f".flows.config:{target}",
            revision=2,
            requires=(Port("data", kind="data"),),
            provides=("Trainable",),
            summary=summary,
            examples=tuple(
                {
                    "config": {**settings, "training": {"steps": 300, "learning_rate": 0.003}},
                    "inputs": {"data": {"use": "data:banana", "config": {"points": 200}}},
                }
                for settings in _SETTINGS[name]
            ),
            cite=_PAPER,
        )


def _potentials() -> Iterable[Component]:
    yield _alone(
        "potential",
        "quadratic",
        ".potentials:QuadraticPotential",
        ".config:QuadraticConfig",
        "psi of a Gaussian with any covariance and mean",
        {"covariance": [[2.0, 1.0], [1.0, 2.0]], "location": [1.0, -1.0]},
        {"variances": [0.5, 1.0, 2.0]},
    )
    yield _alone(
        "potential",
        "cosh",
        ".potentials:Cosh",
        ".config:CoshConfig",
        "A sum of hyperbolic cosines, steeper than any quadratic",
        {},
    )
    yield _alone(
        "potential",
        "log-cosh",
        ".potentials:LogCosh",
        ".config:LogCoshConfig",
        "A quadratic that is curved more at the origin, coordinate by coordinate",
        {"weight": 2.0},
    )
    yield _alone(
        "potential",
        "log-sum-exp",
        ".potentials:LogSumExp",
        ".config:LogSumExpConfig",
        "A smooth maximum of linear functions and a quadratic, inverted by Newton's method",
        {"directions": [[1.0, 0.0, 0.5], [-1.0, 2.0, 0.0], [0.0, -1.0, 1.0]], "curvature": 0.5},
    )


def _sources() -> Iterable[Component]:
    few = {"points": 200}
    chains = {"points": 200, "sampler": "paper", "chain_steps": 20}
    yield _alone(
        "data",
        "banana",
        ".manifolds:ShearSource",
        ".config:BananaDataConfig",
        "Points along a parabola",
        few,
        chains,
    )
    yield _alone(
        "data",
        "squeezed-banana",
        ".manifolds:ShearSource",
        ".config:SqueezedBananaDataConfig",
        "Points close to a parabola",
        few,
        chains,
    )
    yield _alone(
        "data",
        "river",
        ".manifolds:ShearSource",
        ".config:RiverDataConfig",
        "Points along a sine",
        few,
        chains,
    )
    yield _alone(
        "data",
        "sinusoid",
        ".manifolds:ManifoldSource",
        ".config:SinusoidConfig",
        "A Gaussian bent by sines into more coordinates, of known dimension",
        {"dimension": 2, "ambient": 5, "points": 200, "tangents": True},
    )
    yield _alone(
        "data",
        "hemisphere",
        ".manifolds:ManifoldSource",
        ".config:HemisphereConfig",
        "A part of a sphere in more coordinates, of known dimension",
        {"dimension": 2, "ambient": 5, "points": 200, "tangents": True},
    )


def _alone(kind: str, name: str, target: str, config: str, summary: str, *examples: Mapping[str, Any]) -> Component:
    """A component that is plugged into others and takes none itself."""
    return Component(
        kind=kind,
        name=name,
        target=target,
        config=config,
        provides=("Potential",) if kind == "potential" else (),
        summary=summary,
        examples=tuple({"config": example} for example in examples),
        cite=_PAPER,
    )


@hookimpl
def scorefold_claims() -> Iterable[Claim]:
    return read_claims(Path(__file__).parent)

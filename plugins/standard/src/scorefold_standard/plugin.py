"""Components of this plugin: data sources, networks, scores, flows, a geometry and an allocator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scorefold.plugin import Component, Port, hookimpl

__plugin_api__ = "1.0"

_SAMPLES = Path(__file__).parent / "samples"
_SPHERE = {"use": "data:sphere", "config": {"dimension": 2, "ambient": 4, "points": 100}}
_DIGITS = {"use": "data:digits", "config": {"limit": 100}}


def _data(
    name: str,
    target: str,
    config: str,
    summary: str,
    *examples: Mapping[str, Any],
    cite: str | None = None,
    inspect: str | None = None,
    any_threads: bool = False,
) -> Component:
    return Component(
        kind="data",
        name=name,
        target=target,
        config=config,
        summary=summary,
        examples=tuple({"config": example} for example in examples),
        cite=cite,
        inspect=inspect,
        any_threads=any_threads,
    )


@hookimpl
def scorefold_components() -> Iterable[Component]:
    yield from _sources()
    yield from _models()
    yield Component(
        kind="geometry",
        name="euclidean",
        target=".baselines:Euclidean",
        config=".config:EuclideanConfig",
        summary="Euclidean space: straight lines and the identity metric, the baseline of every geometry",
        requires=(Port("data", kind="data", optional=True),),
        provides=("Transports", "ClosedFormGeodesics"),
        examples=({"config": {"event_shape": [3]}}, {"inputs": {"data": _SPHERE}}),
    )
    yield Component(
        kind="allocator",
        name="uniform",
        target=".baselines:UniformAllocator",
        config=".config:UniformConfig",
        summary="The same number of labels for every task, the baseline of every allocator",
        examples=({}, {"config": {"task_types": ["easy", "hard"], "support": 4, "query": 4}}),
    )


def _sources() -> Iterable[Component]:
    manifold, held = ".manifolds.synthetic:SyntheticManifold", ".manifolds.synthetic:DensityManifold"
    yield _data(
        "digits",
        ".data.pixels:Digits",
        ".data.config:DigitsConfig",
        "scikit-learn's 1,797 handwritten digits, 8 x 8 grey",
        {"limit": 200},
        {"flatten": True},
    )
    yield _data(
        "array",
        ".data.array:ArrayFile",
        ".data.config:ArrayConfig",
        "Points from an npy, npz, csv or parquet file",
        {"path": str(_SAMPLES / "points.csv"), "label": "label"},
        inspect=".data.table_summary:inspect_table",
        any_threads=True,
    )
    yield _data(
        "images",
        ".data.images:ImageFolder",
        ".data.config:ImagesConfig",
        "Images from a folder, sub-folders as classes",
        {"root": str(_SAMPLES / "images"), "size": 8},
    )
    yield _data(
        "image-pairs",
        ".data.paired:ImagePairs",
        ".data.config:ImagePairsConfig",
        "Pairs of images from files: side by side in one, or of one name in two folders",
        {"root": str(_SAMPLES / "images"), "size": 8},
    )
    yield _data(
        "mnist",
        ".data.vision:MNIST",
        ".data.config:MNISTConfig",
        "MNIST from a local folder: handwritten digits, 28 x 28 grey",
        {"root": str(_SAMPLES / "mnist")},
        cite="cite/mnist.bib",
    )
    yield _data(
        "fashion-mnist",
        ".data.vision:MNIST",
        ".data.config:FashionMNISTConfig",
        "Fashion-MNIST from a local folder: articles of clothing, 28 x 28 grey",
        {"root": str(_SAMPLES / "mnist")},
        cite="cite/fashion_mnist.bib",
    )
    yield _data(
        "cifar10",
        ".data.vision:CIFAR10",
        ".data.config:CIFAR10Config",
        "CIFAR-10 from a local folder: ten classes, 32 x 32 colour",
        {"root": str(_SAMPLES / "cifar10"), "verify": False},
        cite="cite/cifar10.bib",
    )
    yield _data(
        "celeba",
        ".data.vision:CelebA",
        ".data.config:CelebAConfig",
        "CelebA from a local folder: aligned faces with forty attributes",
        {"root": str(_SAMPLES), "size": 16},
        cite="cite/celeba.bib",
    )
    yield _data(
        "photographs",
        ".data.pixels:Photographs",
        ".data.config:PhotographsConfig",
        "Patches of scikit-learn's two photographs; splits share no pixel",
        {"size": 16, "points": 200},
    )
    yield Component(
        kind="data",
        name="paired",
        target=".data.paired:Paired",
        config=".data.config:PairedConfig",
        summary="Images with their degraded version as the condition: inverse problems from any image source",
        requires=(Port("data", kind="data", default={"use": "data:digits"}, whole=True),),
        examples=(
            {
                "config": {"operator": {"name": "box-downsample", "factor": 2}, "noise_std": 0.1},
                "inputs": {"data": _DIGITS},
            },
            {"config": {"operator": {"name": "mask", "region": "right"}, "hidden": True}, "inputs": {"data": _DIGITS}},
        ),
    )
    yield _data(
        "sphere",
        held,
        ".manifolds.config:SphereConfig",
        "A uniform k-sphere in a random subspace",
        {"dimension": 2, "ambient": 4, "points": 100},
        any_threads=True,
    )
    yield _data(
        "torus",
        held,
        ".manifolds.config:TorusConfig",
        "A flat torus, a product of circles, or the torus of revolution",
        {"points": 100},
        {"form": "revolution", "points": 100},
        any_threads=True,
    )
    yield _data(
        "swiss-roll",
        manifold,
        ".manifolds.config:SwissRollConfig",
        "The Swiss roll, a rolled-up sheet",
        {"points": 100},
        any_threads=True,
    )
    yield _data(
        "helix",
        manifold,
        ".manifolds.config:HelixConfig",
        "A helix, a curve of constant curvature and torsion",
        {"points": 100},
        any_threads=True,
    )
    yield _data(
        "subspace",
        held,
        ".manifolds.config:SubspaceConfig",
        "A Gaussian on a linear subspace",
        {"dimension": 2, "ambient": 4, "points": 100},
        any_threads=True,
    )
    yield _data(
        "gaussian-mixture",
        held,
        ".manifolds.config:GaussianMixtureConfig",
        "Gaussians on random subspaces, one dimension each",
        {"dimensions": [1, 2], "ambient": 4, "points": 100},
        any_threads=True,
    )
    yield _data(
        "benchmark-manifold",
        ".manifolds.benchmark:BenchmarkManifold",
        ".manifolds.config:BenchmarkManifoldConfig",
        "scikit-dimension's 24 benchmark manifolds, whose dimensions are known",
        {"name": "M6_Nonlinear", "points": 200},
        {"name": "M13b_Spiral", "points": 200, "scale": "table"},
        cite="cite/benchmark_manifolds.bib",
        any_threads=True,
    )
    yield _data(
        "geomle",
        ".manifolds.benchmark:BenchmarkManifold",
        ".manifolds.config:GeoMLEManifoldConfig",
        "The sets of GeoMLE's tables of estimators of dimension, uniform or not, with noise",
        {"set": "Sphere", "dimension": 5, "ambient": 10, "points": 200},
        {"set": "Roll", "points": 200, "sampling": "nonuniform", "noise_std": 0.05},
        cite="cite/geomle.bib",
        any_threads=True,
    )

    yield _data(
        "series",
        ".series.sources:SeriesFile",
        ".config:SeriesConfig",
        "A time series from a file, cut into windows or delay vectors; splits are blocks in time",
        {"path": str(_SAMPLES / "wave.csv"), "time": "seconds", "window": 16},
        {"path": str(_SAMPLES / "wave.csv"), "time": "seconds", "columns": ["x"], "dimension": 3, "delay": 2},
        any_threads=True,
    )
    yield _data(
        "lorenz",
        ".series.sources:Lorenz",
        ".config:LorenzConfig",
        "A series of Lorenz's chaotic system, whose attractor has dimension 2.06",
        {"length": 400},
        {"length": 1000, "columns": ["x"], "dimension": 3},
        cite="cite/lorenz.bib",
        any_threads=True,
    )
    yield _data(
        "pulses",
        ".series.sources:Pulses",
        ".config:PulsesConfig",
        "A series of beats like an electrocardiogram's, made by code, cut into windows",
        {"length": 2000},
        any_threads=True,
    )


def _models() -> Iterable[Component]:
    yield Component(
        kind="network",
        name="auto",
        target=".networks.auto:AutoNetwork",
        config=".config:AutoConfig",
        summary="network:conv-unet for images, signal-unet for signals, mlp for other events, by default settings",
    )
    yield Component(
        kind="network",
        name="mlp",
        target=".networks.mlp:MLP",
        config=".config:MLPConfig",
        summary="A residual multi-layer perceptron with an embedded time",
    )
    yield Component(
        kind="network",
        name="conv-unet",
        target=".networks.unet:ConvUNet",
        config=".config:ConvUNetConfig",
        summary="A small U-Net in plain torch for images of any number of channels",
    )
    yield Component(
        kind="network",
        name="unet",
        target=".networks.unet:UNet",
        config=".config:UNetConfig",
        summary="diffusers' UNet2DModel for images of any number of channels",
    )
    yield Component(
        kind="network",
        name="signal-unet",
        target=".networks.unet:SignalUNet",
        config=".config:SignalUNetConfig",
        summary="A small U-Net in plain torch for signals of any length and number of channels",
    )
    yield Component(
        kind="network",
        name="signal-conv",
        target=".networks.unet:SignalConv",
        config=".config:SignalConvConfig",
        summary="Residual blocks of dilated convolutions for signals of any length and number of channels",
    )
    yield Component(
        kind="score",
        name="denoising",
        target=".scores:Denoising",
        config=".config:DenoisingConfig",
        summary="A score model trained by denoising score matching, of any process and network",
        requires=(Port("data", kind="data"),),
        provides=("Trainable",),
        examples=({"inputs": {"data": _SPHERE}},),
        cite="cite/denoising.bib",
    )
    yield Component(
        kind="score",
        name="analytic",
        target=".scores:AnalyticScore",
        config=".config:AnalyticConfig",
        summary="The exact score of data with a known distribution, or of finitely many points",
        requires=(Port("data", kind="data", whole=True, needs_density=True),),
        examples=({"inputs": {"data": _SPHERE}},),
    )
    # Affine couplings with large weights leave the range in which numbers between two ends differ.
    limits = ({"config": {"within": [[-9, 9], [-9, None], [None, 9], [None, None]]}, "inputs": {"data": _SPHERE}},)
    for name, config, summary, cite, further in (
        (
            "affine-coupling",
            "AffineCouplingConfig",
            "Affine couplings with actnorm and invertible linear layers",
            "realnvp",
            (),
        ),
        (
            "spline-coupling",
            "SplineCouplingConfig",
            "Rational-quadratic spline couplings with invertible linear layers",
            "nsf",
            limits,
        ),
    ):
        yield Component(
            kind="flow",
            name=name,
            target=".coupling_flows:CouplingFlow",
            config=f".config:{config}",
            summary=summary,
            requires=(Port("data", kind="data"),),
            provides=("Trainable",),
            examples=({"inputs": {"data": _SPHERE}}, *further),
            cite=f"cite/{cite}.bib",
        )

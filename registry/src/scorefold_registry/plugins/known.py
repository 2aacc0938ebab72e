"""Plugins from Scorefold's own repository, so that a name that one of them offers is no riddle where it is missing.

Strings only. A test holds the list to what the repository's ``plugins`` folder holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scorefold.errors import PluginError
from scorefold_registry.plugins.names import Reference, normalise
from scorefold_registry.plugins.records import PluginRecord


@dataclass(frozen=True)
class KnownPlugin:
    """A plugin that may or may not be installed; ``offers`` are its components as ``kind:name``, aliases too."""

    name: str
    distribution: str
    summary: str
    offers: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """The command that installs it, from an index that has it or from a checkout."""
        return f"pip install {self.distribution}, or in a checkout of Scorefold: pip install ./plugins/{self.name}"

    def offers_what(self, reference: Reference) -> bool:
        """Whether one of its components has the name."""
        if reference.distribution not in (None, self.distribution):
            return False
        return reference.id in (self.offers if reference.kind else {offer.partition(":")[2] for offer in self.offers})


def _offers(**names: str) -> tuple[str, ...]:
    return tuple(f"{kind}:{name}" for kind, words in names.items() for name in words.split())


KNOWN = (
    KnownPlugin(
        "allocation",
        "scorefold-allocation",
        "how many labels per task, and how many tasks, in meta-learning",
        _offers(
            allocator="meta",
            data="linear-tasks sinusoid-tasks digit-rotations few-shot-folders few-shot",
            learner="linear maml anil prototypes callable",
        ),
    ),
    KnownPlugin(
        "caflow",
        "scorefold-caflow",
        "conditional autoregressive flows for image-to-image translation",
        _offers(flow="caflow dual-glow cinn", data="gaussian-pairs"),
    ),
    KnownPlugin(
        "conditional",
        "scorefold-conditional",
        "conditional score models at any speed of the condition, and inverse problems",
        _offers(score="conditional dps repaint", data="posterior"),
    ),
    KnownPlugin(
        "dask",
        "scorefold-dask",
        "the jobs of runs and sweeps on a Dask cluster",
    ),
    KnownPlugin(
        "iddiff",
        "scorefold-iddiff",
        "intrinsic dimension from a score model",
        _offers(
            data="non-uniform-sphere spaghetti squares blobs point-cloud squiggly lollipop union product",
            network="manifold-mlp",
            estimator="iddiff flipd denoising-loss cascade spectral-lanczos lidl",
        ),
    ),
    KnownPlugin(
        "nonuniform",
        "scorefold-nonuniform",
        "diffusion at several speeds, and multi-scale score models",
        _offers(score="multiscale nonuniform", data="gaussian-field"),
    ),
    KnownPlugin(
        "pullback",
        "scorefold-pullback",
        "closed-form geodesics through data, from a normalising flow",
        _offers(
            geometry="pullback iso-pullback",
            estimator="tangent-pca riemannian-autoencoder",
            flow="anisotropic isometric standard-normal banana squeezed-banana river linear identity mixture",
            potential="quadratic cosh log-cosh log-sum-exp",
            data="banana squeezed-banana river sinusoid hemisphere",
        ),
    ),
    KnownPlugin(
        "scorevae",
        "scorefold-scorevae",
        "an auto-encoder from any pretrained score model",
        _offers(
            score="scorevae scorevae-plus diff-decoder",
            autoencoder="vae",
            network="half-unet mirror-decoder",
            data="textured-blobs",
        ),
    ),
    KnownPlugin(
        "standard",
        "scorefold-standard",
        "data sources, networks, score models, coupling flows and the baselines of each kind",
        _offers(
            data="digits array images mnist fashion-mnist cifar10 celeba photographs paired sphere torus swiss-roll "
            "helix subspace gaussian-mixture benchmark-manifold",
            network="auto mlp unet",
            score="denoising diffusers analytic",
            flow="affine-coupling spline-coupling",
            estimator="pca ppca mle twonn lpca corrint danco fishers ess tle mada mom knn mind-ml gride ph calibrated",
            geometry="euclidean",
            allocator="uniform",
        ),
    ),
    KnownPlugin(
        "tracking",
        "scorefold-tracking",
        "runs in TensorBoard and MLflow",
    ),
)


def not_installed(records: Iterable[PluginRecord]) -> tuple[KnownPlugin, ...]:
    """The known plugins whose distribution is not among those of the plugins that were found."""
    found = {normalise(record.distribution) for record in records}
    return tuple(plugin for plugin in KNOWN if plugin.distribution not in found)


def missing_plugin(name: str, records: Iterable[PluginRecord]) -> PluginError | None:
    """The error for a plugin or a distribution that is known and not installed; None for any other name."""
    for plugin in not_installed(records):
        if name == plugin.name or normalise(name) == plugin.distribution:
            message = f"no plugin {name!r} is installed; there is one, {plugin.summary}"
            return PluginError(message, hint=plugin.install)
    return None

"""Claims on auto-encoders of digits and photographs with a trained prior: declarations, strings only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Claim

_TRAINED = ("quick", "full")
_HERE = "scorefold_scorevae.claims.images"
_PAPER = (
    "Batzolis, Stanczuk and Schönlieb 2023, CIFAR-10 at 32 pixels in colour and 384 units, as a third party copied it"
)
_OURS = "ours: equal encoders, equal nats in the code, a VAE decoder larger than the prior (quick: mean of three seeds)"
_WORDS = {
    "digits": "Digits of 8 pixels, 16 units, held-out images",
    "photographs": "Grey photograph patches of 16 pixels, 16 units, held-out parts of the photographs",
}
_PUBLISHED = {
    "vae": 3.410,
    "scorevae": 2.634,
    "scorevae-plus": 2.591,
    "diff-decoder": 19.53,
    "diff-decoder-plain": 2.851,
}
"""Mean distance of reconstructions of CIFAR-10 in [0, 1], the paper's table."""
_UNITS = {"l2": "of pixels in [0, 1]", "sharp": "ratio", "frechet": "squared distance", "kl": "nats"}
_MEASURES = {"l2": "L2", "sharp": "sharpness over real", "frechet": "pixel Frechet distance", "kl": "nats in the code"}
_ROWS = (
    ("floor", "real images", ("frechet",)),
    ("vae", "the VAE's mean, z the mean", ("l2", "sharp", "frechet")),
    ("vae-noise", "the VAE with its isotropic noise, z drawn", ("l2", "frechet")),
    ("scorevae", "a ScoreVAE's draw, z drawn", ("l2", "sharp", "frechet", "kl")),
    ("scorevae-mean", "the mean of 4 draws of a ScoreVAE", ("l2",)),
    ("scorevae-plus", "a ScoreVAE+'s draw, z drawn", ("l2", "sharp", "frechet")),
    ("scorevae-plus-mean", "the mean of 4 draws of a ScoreVAE+", ("l2",)),
    ("diff-decoder", "a DiffDecoder's draw, beta 0.01", ("l2",)),
    ("diff-decoder-plain", "a DiffDecoder's draw, beta 0", ("l2", "frechet")),
)


def image_claims() -> Iterable[Claim]:
    for task in _WORDS:
        yield from _prior(task)
        yield from _gates(task)
        for model, words, measures in _ROWS:
            for measure in measures:
                compared = task == "photographs" and measure == "l2"
                yield _claim(
                    f"{task}-{model}-{measure}",
                    task,
                    f"{words}: {_MEASURES[measure]}",
                    "row",
                    source=_PAPER if compared and model in _PUBLISHED else _OURS,
                    reference=_PUBLISHED.get(model) if compared else None,
                    basis="published",
                    unit=_UNITS[measure],
                    options={"model": model, "measure": measure},
                )


def _prior(task: str) -> Iterable[Claim]:
    """The prior's own quality: nothing decoded by it can be better."""
    yield _claim(
        f"{task}-prior-loss",
        task,
        "the prior's denoising loss over that of the Gaussian with the images' mean and covariance",
        "prior_loss",
        role="gate",
        tolerance=("max", 0.9),
        unit="ratio",
    )
    for measure in ("sharp", "frechet"):
        yield _claim(
            f"{task}-prior-{measure}",
            task,
            f"draws of the prior: {_MEASURES[measure]}",
            "row",
            unit=_UNITS[measure],
            options={"model": "prior", "measure": measure},
        )
    yield _claim(
        f"{task}-prior-floor",
        task,
        "training images beside other ones: pixel Frechet distance, the floor of the prior's",
        "row",
        unit=_UNITS["frechet"],
        options={"model": "floor-train", "measure": "frechet"},
    )


def _gates(task: str) -> Iterable[Claim]:
    gate: dict[str, Any] = {"role": "gate", "unit": "ratio"}
    yield _claim(
        f"{task}-kl-matched",
        task,
        "nats in the VAE's code over those in the ScoreVAE's",
        "row",
        tolerance=("range", (0.9, 1.1)),
        options={"model": "vae", "measure": "kl", "ratio": "scorevae", "over": "furthest"},
        **gate,
    )
    ratio = {"model": "scorevae-plus", "ratio": "scorevae", "over": "largest"}
    yield _claim(
        f"{task}-plus-data",
        task,
        "data term on held-out images of the ScoreVAE+ over the ScoreVAE's",
        "row",
        # A corrector of zero gives 1.
        tolerance=("max", 0.995),
        options={**ratio, "measure": "data"},
        # A corrector fixes what is not Gaussian in q(z | x_t): digits are ten clusters, patches are none.
        **(gate if task == "digits" else {"unit": "ratio"}),
    )
    yield _claim(
        f"{task}-plus-l2",
        task,
        "L2 of a draw of the ScoreVAE+ over the ScoreVAE's",
        "row",
        source=_PAPER,
        reference=round(_PUBLISHED["scorevae-plus"] / _PUBLISHED["scorevae"], 3),
        unit="ratio",
        options={**ratio, "measure": "l2"},
    )


def _claim(name: str, task: str, words: str, function: str, **fields: Any) -> Claim:
    """A claim on images: a report, unless something else is said."""
    usual: dict[str, Any] = {"source": _OURS, "role": "report", "tolerance": ("min", 0.0), "profiles": _TRAINED}
    usual["needs"] = "the U-Nets of diffusers: pip install diffusers"
    usual["options"] = {"task": task, **fields.pop("options", {})}
    return Claim(name, f"{_WORDS[task]}: {words}", target=f"{_HERE}:{function}", **{**usual, **fields})

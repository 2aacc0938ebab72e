"""The claims of images: closed forms hold, trained ones run, and the paper's own setting is one that can be built."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefold.config import Config
from scorefold.errors import DataError
from scorefold_iddiff.claims import images as claims_images
from scorefold_iddiff.claims import published_images as claims_published_images
from scorefold_iddiff.claims.published_images import SETTINGS, PublishedSetting
from scorefold_iddiff.config import NormalBundleConfig
from scorefold_iddiff.data.config import BlobsConfig, SquaresConfig
from scorefold_iddiff.data.drawn import places
from scorefold_iddiff.plugin import scorefold_claims
from scorefold_registry import Host
from scorefold_standard.config import DenoisingConfig, UNetConfig
from scorefold_standard.data.config import MNISTConfig
from scorefold_standard.networks.unet import UNet


@pytest.mark.parametrize(
    ("name", "truth"), [("squares-10", 10), ("squares-20", 20), ("squares-100", 100), ("squares-published", 99)]
)
def test_squares_get_their_rank_without_a_network(host: Host, name: str, truth: int) -> None:
    assert claims_images.squares_dimension(host, "smoke", 1, name=name) == truth


def test_distinct_squares_are_the_published_ones_as_long_as_none_coincide() -> None:
    for count, same in ((10, True), (20, True), (100, False)):
        drawn, distinct = (places(SquaresConfig(squares=count, distinct=flag)) for flag in (False, True))
        assert (drawn == distinct) is same


def test_blobs_move_in_as_many_directions_as_they_have_widths(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claims_images.blobs_rank(host, "smoke", 1) == 5
    monkeypatch.setattr(claims_images, "BLOB_SIGMA", 0.5)
    assert claims_images.blobs_rank(host, "smoke", 0) < 5, "coarser noise hides the thin directions"


@pytest.mark.parametrize(("method", "published"), [("mle-20", 8.17), ("ppca", 10)])
def test_classical_estimators_say_of_squares_what_is_published(host: Host, method: str, published: float) -> None:
    """Within 4 %: published for 500,000 images, measured on 2,000."""
    found = claims_images.classical_for_images(host, "quick", 0, method=method, name="squares-10")
    assert found == pytest.approx(published, rel=0.04)


def test_classical_estimators_order_digits(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert claims_images.classical_order(host, "quick", 0, method="twonn") == pytest.approx(0.47, abs=0.1)
    assert "digits 0 to 9 by twonn: " in capsys.readouterr().out


@pytest.mark.slow
def test_fishers_is_left_out_where_it_gives_no_number(host: Host) -> None:
    assert "fishers-squares-100" not in {claim.name for claim in scorefold_claims()}
    with pytest.raises(DataError, match="FisherS gives nan"):
        claims_images.classical_for_images(host, "quick", 0, method="fishers", name="squares-100")


def test_blobs_are_trained_once_for_all_claims(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a few images and steps: what is read is counted and shared, whatever it is."""
    training = {"steps": 3, "batch_size": 8, "warmup": 1}
    blobs = claims_images.TRAINED["blobs", "manifold-mlp"]._replace(drawn=1200, training={"quick": training})
    monkeypatch.setattr(claims_images, "TRAINED", {("blobs", "manifold-mlp"): blobs})
    claims_images.trained_dimensions.cache_clear()
    found = claims_images.trained_dimensions(host, "blobs", "manifold-mlp", "quick", 0)
    assert {rule: len(k) for rule, k in found.items()} == {"projector": 100, "reference": 100}
    k, rule = found["projector"], {"name": "blobs", "network": "manifold-mlp", "rule": "projector"}
    assert claims_images.trained_mode(host, "quick", 0, **rule) == float(k.mode().values)
    share = claims_images.trained_share(host, "quick", 0, **rule)
    assert share == pytest.approx(float((k == 5).double().mean()))
    assert claims_images.trained_dimensions.cache_info().misses == 1
    claims_images.trained_dimensions.cache_clear()


def test_digits_are_read_by_class(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"steps": 250, "batch_size": 64, "warmup": 10, "learning_rate": 3e-3, "ema": 0.9}
    monkeypatch.setattr(claims_images, "DIGIT_SCORE", {**claims_images.DIGIT_SCORE, "training": training})
    claims_images.digit_dimensions.cache_clear()
    means = claims_images.digit_dimensions(host, "quick", 0)
    assert len(set(means)) == 10
    assert all(1 < mean < 64 for mean in means)
    claims_images.digit_dimensions.cache_clear()


def test_claims_of_digits_follow_from_their_means(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    means = tuple(float(k) for k in claims_images.PUBLISHED_DIGITS)
    monkeypatch.setattr(claims_images, "digit_dimensions", lambda *_: means)
    assert claims_images.digits_one_below(host, "quick", 0) == 148 - 66
    assert claims_images.digits_rank_of_one(host, "quick", 0) == 1
    assert claims_images.digits_order(host, "quick", 0) == pytest.approx(1)
    monkeypatch.setattr(claims_images, "digit_dimensions", lambda *_: tuple(-mean for mean in means))
    assert claims_images.digits_one_below(host, "quick", 0) == 66 - 152
    assert claims_images.digits_rank_of_one(host, "quick", 0) == 10
    assert claims_images.digits_order(host, "quick", 0) == pytest.approx(-1)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_papers_own_setting_can_be_built(name: str) -> None:
    """Every configuration is valid, and the U-Net is built in its full size, without memory for its weights."""
    setting = SETTINGS[name]
    sources: dict[str, type[Config]] = {
        "data:squares": SquaresConfig,
        "data:blobs": BlobsConfig,
        "data:mnist": MNISTConfig,
    }
    sources[setting.source].model_validate(setting.data)
    score = DenoisingConfig.model_validate(setting.score())
    estimator = NormalBundleConfig.model_validate(setting.estimator())
    assert estimator.sigma == score.process.sigma_min  # type: ignore[union-attr]
    assert estimator.noises is not None
    assert estimator.noises > 4 * 1024
    network = UNetConfig.model_validate(score.network.config)
    with torch.device("meta"):
        built = UNet(network).build((1, 32, 32), (1, 32, 32), time=True)
    assert sum(parameter.numel() for parameter in built.parameters()) > 50e6


def test_the_papers_own_setting_runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a small size: squares of 8 pixels, a narrow U-Net, two steps."""
    whole: Any = PublishedSetting.score

    def brief(self: PublishedSetting) -> dict[str, Any]:
        return {**whole(self), "training": {"steps": 2, "batch_size": 4, "warmup": 1}}

    small = PublishedSetting("data:squares", {"squares": 3, "size": 8, "points": 30}, 2, channels=(32, 32), noises=80)
    monkeypatch.setattr(PublishedSetting, "score", brief)
    monkeypatch.setattr(claims_published_images, "SETTINGS", {"squares-10": dataclasses.replace(small)})
    claims_published_images.dimensions.cache_clear()
    found = claims_published_images.largest(host, "full", 0, name="squares-10")
    assert found is not None
    assert 1 <= found <= 62
    claims_published_images.dimensions.cache_clear()


def test_mnist_is_skipped_where_it_is_not_at_hand(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    claims_published_images.dimensions.cache_clear()
    assert claims_published_images.largest(host, "full", 0, name="mnist") is None
    assert claims_published_images.mnist_order(host, "full", 0) is None
    claims_published_images.dimensions.cache_clear()
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="MNIST"):
        claims_published_images.largest(host, "full", 0, name="mnist")

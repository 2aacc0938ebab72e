"""What comes along is whole: the images are the published ones, the model loads, draws and is small."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from scorefold.errors import SplitError
from scorefold_models.plugin import scorefold_components, scorefold_models
from scorefold_models.thousand import PICTURE
from scorefold_registry import Host
from scorefold_registry.runfile.loaded_stages import find_model
from scorefold_testing import Report, conformance

FASHION = Path("/usr/share/datasets/fashion-mnist")
LARGEST = 12e6


@conformance(*scorefold_components(), host=Host.discover, origin="scorefold_registry:Host.discover")
def test_the_checks_of_its_kind_hold(report: Report) -> None:
    assert report.counts["run"] >= report.counts["skipped"]


def test_a_thousand_images_with_their_labels(host: Host) -> None:
    data = host.create("data:fashion-thousand")
    for split, count in (("train", 500), ("test", 400), ("validation", 100)):
        found = data.load(split)
        assert found.x.shape == (count, 1, 28, 28)
        assert (found.x.min(), found.x.max()) == (0, 1)
        assert torch.equal(found.x * 255, (found.x * 255).round())
        assert set(found.label.tolist()) == set(range(10))
    with pytest.raises(SplitError, match="it has train, test, validation"):
        data.load("all")
    assert PICTURE.stat().st_size < 1e6


@pytest.mark.skipif(not FASHION.is_dir(), reason="the published files are not here")
@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("test", "t10k")])
def test_they_are_the_first_of_the_published_ones(host: Host, split: str, name: str) -> None:
    published = np.frombuffer(gzip.decompress((FASHION / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((FASHION / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    found = host.create("data:fashion-thousand").load(split)
    count = len(found)
    assert np.array_equal((found.x * 255).round().numpy().astype(np.uint8).ravel(), published[: count * 28 * 28])
    assert found.label.tolist() == labels[:count].tolist()


def test_all_models_together_are_small_and_say_their_licences(host: Host) -> None:
    total = 0
    for model in scorefold_models():
        facts = find_model(host.plugins, f"model:{model.name}").facts()
        assert (facts.get("licence"), facts.get("data_licence")) == ("mit", "mit"), facts
        total += facts["bytes"]
    assert 0 < total < LARGEST


def test_the_score_denoises_images_that_it_has_not_seen(host: Host) -> None:
    """At a noise of a quarter of the pixel range its guess is nearer to the image than the noised one is, by far."""
    score = host.load(find_model(host.plugins, "model:fashion-score").checked())
    x = host.create("data:fashion-thousand").load("test").x[:32]
    t = score.process.time_at(torch.full((32,), 0.25))
    noised = x + 0.25 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        guess = noised + 0.25**2 * score.score(noised, t)
    assert (guess - x).square().mean() < 0.35 * (noised - x).square().mean()


def test_the_flow_codes_new_images_better_than_their_own_principal_components(host: Host) -> None:
    flow = host.load(find_model(host.plugins, "model:fashion-flow").checked())
    x = host.create("data:fashion-thousand").load("test").x
    code = host.create("estimator:riemannian-autoencoder", {"dimension": 10}, flow=flow)
    with torch.no_grad():
        loss = code.residuals(x).square().sum() / x.numel()
        back = flow.inverse(flow.forward(x)[0])[0]
    left = torch.linalg.svdvals((x - x.mean(0)).flatten(1))[10:].square().sum() / x.numel()
    assert loss < 0.8 * left
    assert (back - x).abs().max() < 1e-4


def test_the_code_separates_new_images(host: Host) -> None:
    """The mean of draws from the code of an image is nearer to it than to any of seven others."""
    model = host.load(find_model(host.plugins, "model:fashion-code").checked())
    x = host.create("data:fashion-thousand").load("test").x[:8]
    generator = torch.Generator().manual_seed(0)
    z = model.encode(x)
    assert z.shape == (8, 16)
    draws = torch.stack([model.decode(z, generator=generator) for _ in range(2)])
    distance = torch.cdist(draws.mean(0).flatten(1), x.flatten(1))
    assert distance.argmin(1).tolist() == list(range(8))

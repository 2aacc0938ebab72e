"""The features of published FIDs, and distances between them, beside the libraries that measure them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorefold.errors import ConfigError, DataError
from scorefold_toolkit.metrics import frechet_distance, kernel_distance
from scorefold_toolkit.metrics.features import PublishedInception, feature_network


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right shapes, of noise."""
    from torchvision.models import inception_v3

    with torch.device("meta"):
        shapes = inception_v3(weights=None, init_weights=False, aux_logits=False, num_classes=1008).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in shapes.items():
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            state[name] = 0.5 + noise.abs()
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
        else:
            state[name] = noise * (2 / max(1, value[0].numel())) ** 0.5 if value.dim() > 1 else 1 + 0.1 * noise
    path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 20, 30, generator=torch.Generator().manual_seed(1))


@pytest.mark.needs("pytorch_fid")
@torch.no_grad()
def test_features_are_those_of_pytorch_fid(weights: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_fid import inception

    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *given, **named: state)
    expected = inception.InceptionV3([3]).eval()(images)[0].flatten(1)
    torch.testing.assert_close(PublishedInception(weights)(images), expected, rtol=1e-4, atol=1e-4)


class Seen(nn.Module):
    """A network that answers with what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x


@torch.no_grad()
def test_the_published_network_gets_three_channels_from_minus_one_to_one() -> None:
    """Of 299 pixels: a ramp of two columns is 0 at one end, 1 at the other, and straight between their middles."""
    published = PublishedInception.__new__(PublishedInception)
    nn.Module.__init__(published)
    published.network = Seen()
    found = published(torch.tensor([0.0, 1.0]).expand(4, 1, 3, 2))
    place = (torch.arange(299) + 0.5) * 2 / 299 - 0.5
    expected = 2 * place.clamp(0, 1) - 1
    torch.testing.assert_close(found, expected.expand(4, 3, 299, 299), atol=1e-5, rtol=0)


@pytest.mark.needs("torch_fidelity")
@torch.no_grad()
def test_features_are_those_of_torch_fidelity_at_their_size(weights: Path) -> None:
    """Where nothing is resized: torch-fidelity does that as TensorFlow 1 did."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    extractor = FeatureExtractorInceptionV3("cross", ["2048"], feature_extractor_weights_path=str(weights))
    levels = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    # What it scales by is 128, and 127.5 here.
    found = PublishedInception(weights)(((levels.float() - 128) / 128 + 1) / 2)
    torch.testing.assert_close(found, extractor(levels)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.needs("torch_fidelity")
def test_distances_are_those_of_torch_fidelity() -> None:
    from torch_fidelity import metric_fid as fid
    from torch_fidelity import metric_kid as kid

    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(60, 8, generator=generator), 0.7 * torch.randn(60, 8, generator=generator) + 0.3
    statistics = [fid.fid_features_to_statistics(each) for each in (x, y)]
    expected = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-6)
    polynomial = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    found = [kid.kernel_poly(a.double().numpy(), b.double().numpy(), **polynomial) for a, b in ((x, x), (x, y), (y, y))]
    assert kernel_distance(x, y) == pytest.approx(float(kid.mmd2(*found)), rel=1e-9)


def test_the_kernel_distance_is_the_sum_over_pairs() -> None:
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(5, 2, 2, generator=generator), torch.randn(4, 2, 2, generator=generator)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a.flatten() @ b.flatten()).double() / 4 + 1) ** 3

    def within(z: Tensor) -> float:
        return float(np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]))

    across = float(np.mean([kernel(a, b) for a in x for b in y]))
    assert kernel_distance(x, y) == pytest.approx(within(x) + within(y) - 2 * across, rel=1e-5)
    same = torch.randn(400, 3, generator=generator), torch.randn(400, 3, generator=generator)
    assert abs(kernel_distance(*same)) < 0.1
    with pytest.raises(DataError, match="given 1 and 4"):
        kernel_distance(x[:1], y)


@torch.no_grad()
def test_grey_images_and_what_is_refused(weights: Path, images: Tensor, tmp_path: Path) -> None:
    network = feature_network("published-inception", 1, weights=weights)
    grey = images[:2, :1]
    assert network(grey).shape == (2, 2048)
    torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))
    assert network(images[:2]).equal(network(images[:2]))
    with pytest.raises(ConfigError, match="published-inception reads its weights"):
        feature_network("published-inception", 3)
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(DataError, match="is missing"):
        PublishedInception(tmp_path / "empty.pth")

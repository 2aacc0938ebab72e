"""Published data where a system's package puts them, or None."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import scorefold_standard
from scorefold_registry import Host
from scorefold_toolkit.data import images


def test_data_that_are_absent_are_none(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "FASHION_MNIST", tmp_path / "none")
    assert images.fashion_mnist(host) is None


def test_data_that_are_there_are_read_from_there(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Path(scorefold_standard.__file__).parent / "samples/mnist"  # of the same format
    monkeypatch.setattr(images, "FASHION_MNIST", samples)
    source = images.fashion_mnist(host, size=14)
    assert source is not None
    assert source.event_shape == (1, 14, 14)


def test_claims_of_absent_data_are_skipped(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each plugin's, with the name of the package that has them."""
    found = 0
    for record in host.plugins:
        claims = [claim for claim in record.claims if claim.profiles == ("real",)]
        for claim in claims:
            assert "dataset-fashion-mnist" in claim.needs, claim.name
            name, function = claim.target.split(":")
            module = import_module(name)
            monkeypatch.setattr(images, "FASHION_MNIST", tmp_path / "none")
            monkeypatch.setattr(module, "FASHION_MNIST", tmp_path / "none", raising=False)
            photographs = str(claim.options.get("task")).startswith("photographs")  # which come along
            if hasattr(module, "SETTINGS") or photographs:
                continue
            assert getattr(module, function)(host, "real", 0, **claim.options) is None, claim.name
            found += 1
    assert found > 100

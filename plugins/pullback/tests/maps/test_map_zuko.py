"""zuko's flows as maps: which serve, which are refused and how. What needs zuko is skipped without it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from scorefold.errors import ConfigError
from scorefold_pullback.maps.build import build_map
from scorefold_pullback.maps.config import ZukoMapConfig


def test_without_zuko_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ConfigError, match=r"map: zuko needs a library .*\n  pip install 'scorefold-pullback\[zuko\]'"):
        build_map(ZukoMapConfig(), (2,))


@pytest.mark.needs("zuko")
def test_a_map_is_the_transformation_of_the_flow_and_nothing_else() -> None:
    from zuko import flows

    config = ZukoMapConfig(flow="MAF", activation="tanh", options={"transforms": 2, "hidden_features": [8]})
    torch.manual_seed(3)
    phi = build_map(config, (3,))
    torch.manual_seed(3)
    flow = flows.MAF(3, 0, activation=torch.nn.Tanh, transforms=2, hidden_features=[8])
    x = torch.randn(6, 3)
    z, log_det = phi(x)
    torch.testing.assert_close(z, flow.transform(None)(x))
    torch.testing.assert_close(flow.base().log_prob(z) + log_det, flow().log_prob(x))
    assert sum(p.numel() for p in phi.parameters()) == sum(p.numel() for p in flow.parameters())


@pytest.mark.needs("zuko")
@pytest.mark.parametrize("name", ["BPF", "CNF", "GF", "NAF", "SOSPF", "UNAF"])
def test_flows_that_are_searched_or_integrated_are_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{name} of zuko can't be a map: torch.func(.|\n)*MAF, NICE, NSF and RealNVP"
    ):
        build_map(ZukoMapConfig(flow=name), (2,))


@pytest.mark.needs("zuko")
def test_a_flow_of_the_torus_is_refused() -> None:
    with pytest.raises(ConfigError, match="NCSF of zuko can't be a map: its inverse does not lead back"):
        build_map(ZukoMapConfig(flow="NCSF"), (2,))


@pytest.mark.needs("zuko")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NFS", "zuko has no flow 'NFS'; it has (.|\n)*did you mean NSF?"),
        ("realnvp", "zuko has no flow 'realnvp'(.|\n)*did you mean RealNVP?"),
        ("Diffusion", "zuko has no flow 'Diffusion'(.|\n)*MAF, NICE, NSF and RealNVP serve"),
        ("GMM", "GMM of zuko.flows is no flow"),
        ("Flow", "Flow of zuko.flows is no flow"),
    ],
)
def test_names_that_are_no_flow_are_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_map(ZukoMapConfig(flow=name), (2,))


@pytest.mark.needs("zuko")
@pytest.mark.parametrize(
    "options",
    [{"hiden_features": [8]}, {"transforms": 0}, {"transforms": "3"}, {"hidden_features": [2.5]}, {"bins": -1}],
)
def test_options_that_zuko_refuses_are_named(options: Mapping[str, Any]) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(ConfigError) as caught:
        build_map(ZukoMapConfig(options=dict(options)), (2,))
    assert f"zuko can't make NSF of 2 features with options {{{name}: {value}}}" in str(caught.value)


@pytest.mark.parametrize("name", ["features", "context", "activation"])
def test_options_that_a_map_sets_itself_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"leave {name} out of options"):
        ZukoMapConfig(options={name: 1})

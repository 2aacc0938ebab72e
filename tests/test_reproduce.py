"""Our own claims that take seconds, through the command, as part of every test run."""

from __future__ import annotations

import json

import pytest

from scorefold_registry import Host
from scorefold_registry.cli.main import main
from scorefold_registry.experiments.claims import within
from scorefold_registry.experiments.reproduce import PROFILES
from scorefold_registry.plugins.loading import load_claim
from scorefold_toolkit.data.images import FASHION_MNIST


def test_exact_claims_hold(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["exact-spheres", "several-scales"]
    assert main(["reproduce", "iddiff", "--json", *(word for name in names for word in ("--only", name))]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(claim["claim"], claim["verdict"]) for claim in found["claims"]] == [(name, "holds") for name in names]
    # A plugin's smoke profile takes less than three minutes of CPU; these take seconds of it.
    assert sum(claim["cpu_seconds"] for claim in found["claims"]) < 60


def test_a_plugin_claims_a_name_once(host: Host) -> None:
    plugins = [record for record in host.plugins if record.claims]
    assert {"allocation", "caflow", "iddiff", "scorevae"} <= {record.name for record in plugins}
    for record in plugins:
        names = [claim.name for claim in record.claims]
        assert len(set(names)) == len(names), record.name


def test_of_a_function_that_may_give_no_value_a_claim_says_what_it_needs(host: Host) -> None:
    for record in host.plugins:
        needing = {claim.target for claim in record.claims if claim.needs}
        for claim in record.claims:
            gives = load_claim(record, claim).__annotations__["return"]
            assert "None" not in gives or claim.target in needing, f"{record.name}/{claim.name}"


def test_the_reference_that_a_gate_prints_holds_the_gate(host: Host) -> None:
    """What is demanded and what is compared with are one truth; the statement says another one."""
    gates = [claim for record in host.plugins for claim in record.claims if claim.role == "gate"]
    apart = [claim.name for claim in gates if claim.reference is not None and not within(claim, claim.reference)]
    assert len(gates) > 80
    assert apart == []
    squares = {claim.name: claim for claim in gates if claim.name.startswith("squares-")}
    assert (squares["squares-10"].reference, squares["squares-10"].basis) == (10, "derived")
    assert "get their rank, 10, at every point" in squares["squares-10"].statement
    assert squares["squares-10"].statement.endswith("; the paper's network gets 11")


PUBLISHED = {
    ("iddiff", "published_images"),
    ("nonuniform", "cost"),
    ("pullback", "manifolds"),
    ("pullback", "planes"),
}
"""Plugins of ours with the modules of their claims that have a paper's own setting, or need none."""


def test_the_profile_full_is_a_paper_s_own_setting(host: Host) -> None:
    found = set()
    for record in host.plugins:
        for claim in record.claims:
            assert set(claim.profiles) <= set(PROFILES), claim.name
            assert not {"long", "full"} <= set(claim.profiles), claim.name
            if "full" in claim.profiles:
                found.add((record.name, claim.target.partition(":")[0].rpartition(".")[2]))
    assert found == PUBLISHED


@pytest.mark.slow
@pytest.mark.parametrize(
    "plugin", ["allocation", "caflow", "conditional", "flowmatching", "iddiff", "nonuniform", "pullback", "scorevae"]
)
def test_no_gate_holds_for_untrained_models(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    _null(plugin, "quick", capsys)


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
@pytest.mark.parametrize("plugin", ["allocation", "caflow", "conditional", "iddiff", "pullback", "scorevae"])
def test_no_gate_of_real_images_holds_for_untrained_models(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    _null(plugin, "real", capsys)


def _null(plugin: str, profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["reproduce", plugin, "--null", "--profile", profile])
    printed = capsys.readouterr().out
    assert status == 0, [line for line in printed.splitlines() if line.startswith("holds")]
    assert "fails" in printed

"""What a component looks like in a Python session."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

from torch import nn

from scorefold.interfaces import Shown
from scorefold_registry.components.building import show_by_origin
from scorefold_registry.host import Host


def test_a_component_is_shown_by_what_it_was_made_from(host: Host) -> None:
    data = host.create("data:digits", {"limit": 100})
    assert repr(data) == "<data:digits limit=100; events (1, 8, 8)>"
    assert repr(host.create("estimator:mle")) == "<estimator:mle>"
    score = host.create(
        "score:denoising", {"process": "ve", "network": {"use": "network:mlp", "config": {"width": 8}}}, data=data
    )
    parameters = sum(parameter.numel() for parameter in score.parameters())
    assert repr(score) == (
        f"<score:denoising process=ve, network=network:mlp, data=data:digits; events (1, 8, 8); "
        f"{parameters:,} parameters>"
    )
    assert repr(host.create("estimator:iddiff", {"points": 4}, score=score)) == (
        "<estimator:iddiff points=4, score=score:denoising>"
    )


def test_it_stays_short(host: Host) -> None:
    flow = host.create(
        "flow:affine-coupling",
        {"training": {"steps": 5, "warmup": 1, "learning_rate": 0.5, "batch_size": 7, "log_every": 3}},
        data=host.create("data:digits", {"limit": 100, "digits": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "flatten": True}),
    )
    said = repr(flow)
    assert "\n" not in said
    assert len(said) < 160
    assert "..." in said


def test_copies_and_loaded_ones_are_shown_alike_and_print_shows_the_layers(host: Host, tmp_path: Path) -> None:
    flow = host.create("flow:affine-coupling", {"layers": 2}, data=host.create("data:sphere", {"points": 100}))
    assert repr(copy.deepcopy(flow)) == repr(pickle.loads(pickle.dumps(flow))) == repr(flow)
    assert str(flow).startswith("CouplingFlow(\n")
    host.save(flow, tmp_path / "flow")
    assert repr(host.load(tmp_path / "flow")).startswith("<flow:affine-coupling layers=2, data=DataSpec;")


def test_what_has_its_own_and_what_the_host_did_not_make_stay_as_they_are(host: Host) -> None:
    class Own(Shown, nn.Module):
        def __repr__(self) -> str:
            return "mine"

    class Plain(Shown, nn.Module):
        pass

    class Slots:
        __slots__ = ()

    config = host.create("estimator:mle").config
    made, plain, bare = Own(), Plain(), Slots()
    classes = [dict(vars(kind)) for kind in (Own, Plain, Slots)]
    for each in (made, plain, bare):
        show_by_origin(each, "score:mine", config, {})
    assert repr(made) == str(made) == "mine"
    assert repr(plain) == "<score:mine; 0 parameters>"
    assert repr(Plain()) == str(plain) == "Plain()"
    assert "Slots object at" in repr(bare)
    assert [dict(vars(kind)) for kind in (Own, Plain, Slots)] == classes

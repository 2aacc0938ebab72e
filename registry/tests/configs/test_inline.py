"""Components named inside a config: checked at any depth, and resolved with their places."""

from __future__ import annotations

from typing import Any

import pytest
from checked_configs import problems

from scorefold_registry.components.parts import Part, check_config, parts_in, read_config
from scorefold_registry.components.ports import inline_fields
from scorefold_registry.host import Host
from scorefold_registry.plugins.records import Registered


def part(host: Host, registered: Registered, raw: Any) -> Part:
    found = read_config(host.catalogue, registered, raw).part(host.catalogue, {})
    assert found is not None
    return found


class TestInlineComponents:
    @pytest.mark.parametrize(
        ("raw", "path", "code", "message"),
        [
            ({"network": "network:plian"}, ("network",), "unknown-component", "there is no 'network:plian'"),
            (
                {"network": {"use": "network:plian"}},
                ("network", "use"),
                "unknown-component",
                "there is no 'network:plian'",
            ),
            (
                {"network": {"use": "score:full"}},
                ("network", "use"),
                "kind",
                "network takes a component of kind network; score:full, of kind score,",
            ),
            (
                {"network": {"use": "network:plain", "config": {"widht": 2}}},
                ("network", "config", "widht"),
                "unknown-field",
                "unknown field 'widht'",
            ),
            (
                {"network": {"use": "network:plain", "config": {"width": 65}}},
                ("network", "config", "width"),
                "range",
                "width is 65 (a number); expected a number of at most 64",
            ),
            (
                {
                    "network": {
                        "use": "network:nesting",
                        "config": {
                            "inner": {
                                "use": "network:nesting",
                                "config": {"inner": {"use": "network:plain", "config": {"width": "w"}}},
                            }
                        },
                    }
                },
                ("network", "config", "inner", "config", "inner", "config", "width"),
                "type",
                "width is 'w' (text)",
            ),
            (
                {"trained": "network:plain"},
                ("trained",),
                "capability",
                "trained needs Trainable, which network:plain does not",
            ),
            (
                {"several": ["network:plain", {"use": "network:x"}]},
                ("several", 1, "use"),
                "unknown-component",
                "no 'network:x'",
            ),
            (
                {"named": {"a": {"use": "score:full"}}},
                ("named", "a", "use"),
                "kind",
                "named.a takes a component of kind network",
            ),
            (
                {"parts": [{"part": {"use": "network:x"}}]},
                ("parts", 0, "part", "use"),
                "unknown-component",
                "no 'network:x'",
            ),
            (
                {"network": {"use": "network:plain", "inputs": {"data": "data"}}},
                ("network", "inputs", "data"),
                "unknown-port",
                "unknown port 'data'",
            ),
        ],
    )
    def test_are_checked_at_any_depth(
        self, host: Host, raw: Any, path: tuple[str | int, ...], code: str, message: str
    ) -> None:
        found = next(item for item in problems(host, raw) if item.code == code)
        assert found.path == path
        assert message in found.message

    def test_with_the_capability_that_is_needed(self, host: Host) -> None:
        assert problems(host, {"trained": "network:trained", "parts": [{"part": "network:plain"}]}) == []

    def test_take_ports_from_the_component_around_them(self, host: Host) -> None:
        assert problems(host, {}, "flow:holder") == []
        assert problems(host, {"score": {"use": "score:exact", "inputs": {"data": "data"}}}, "flow:holder") == []

    @pytest.mark.parametrize(
        ("value", "path", "message"),
        [
            ("dta", ("score", "inputs", "data"), "there is no port 'dta' here"),
            (3, ("score", "inputs", "data"), "3 (a number) can't be plugged into a port"),
            ({"use": "data:nowhere"}, ("score", "inputs", "data", "use"), "there is no 'data:nowhere'"),
            ({"uses": "data:digits"}, ("score", "inputs", "data", "uses"), "unknown field 'uses'"),
            ({"use": "network:plain"}, ("score", "inputs", "data"), "port 'data' takes a component of kind data"),
        ],
    )
    def test_have_their_ports_checked(self, host: Host, value: Any, path: tuple[str, ...], message: str) -> None:
        raw = {"score": {"use": "score:exact", "inputs": {"data": value}}}
        found = next(item for item in problems(host, raw, "flow:holder") if item.path == path)
        assert message in found.message

    def test_miss_a_port_that_nothing_around_them_has(self, host: Host) -> None:
        inner = {"use": "network:plain", "inputs": {"x": "y"}}
        first, second = problems(host, {"inner": inner}, "network:nesting")
        assert first.message == "there is no port 'y' here"
        assert second.message == "unknown port 'x'"
        assert first.path == second.path == ("inner", "inputs", "x")


class TestResolving:
    def test_defaults_are_written_out_and_revisions_pinned(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        raw = {
            "network": {"use": "network:nesting"},
            "named": {"a": "network:plain"},
            "path": "x/y",
            "parts": [{"part": "network:plain"}],
        }
        resolved = part(host, registered, raw).config_json(host.catalogue)
        plain = {"use": "network:plain@1", "config": {"width": 8, "kind": "relu"}, "inputs": {}}
        assert resolved["network"] == {"use": "network:nesting@1", "config": {"inner": plain}, "inputs": {}}
        assert resolved["named"] == {"a": plain}
        assert resolved["parts"] == [{"size": 1.0, "part": plain}]
        assert resolved["path"] == "x/y"
        assert resolved["trained"] is None
        assert resolved["training"]["steps"] == 4000

    def test_resolving_again_changes_nothing(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        resolved = part(host, registered, {"network": "network:nesting"}).config_json(host.catalogue)
        assert part(host, registered, resolved).config_json(host.catalogue) == resolved

    def test_an_inline_component_with_a_fault_makes_no_part(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        read = read_config(host.catalogue, registered, {"network": {"use": "network:plain", "config": {"w": 1}}})
        assert read.config is not None
        assert read.part(host.catalogue, {}) is None
        assert read.problems[0].message == "unknown field 'w'"

    def test_parts_at_any_depth(self, host: Host) -> None:
        raw = {"several": ["network:plain", "network:nesting"]}
        found = [item.registered.id for item in parts_in(part(host, host.catalogue.resolve("score:full"), raw))]
        plain = "network:plain"
        assert found == ["score:full", plain, plain, "network:nesting", plain]

    def test_inline_components_with_their_places(self, host: Host) -> None:
        raw = {"several": ["network:plain", "network:nesting"], "trained": "network:trained"}
        config, _ = check_config(host.catalogue, host.catalogue.resolve("score:full"), raw)
        assert config is not None
        assert [(item.path, item.value.use, item.needs) for item in inline_fields(config)] == [
            (("network",), "network:plain", ()),
            (("trained",), "network:trained", ("Trainable",)),
            (("several", 0), "network:plain", ()),
            (("several", 1), "network:nesting", ()),
        ]

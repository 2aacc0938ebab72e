"""What may be plugged into the ports of a component, in plain words."""

from __future__ import annotations

from typing import Any

from scorefold_registry.components.messages import Problem
from scorefold_registry.components.ports import PortOffer, check_inputs
from scorefold_registry.host import Host


class TestInputs:
    def check(self, host: Host, name: str, given: dict[str, Any], verb: str | None = None) -> list[Problem]:
        registered = host.catalogue.resolve(name)
        kind = host.catalogue.kind(registered.component.kind)
        return check_inputs(host.catalogue, registered, kind.verb(verb), given)

    def test_what_fits(self, host: Host) -> None:
        assert self.check(host, "score:full", {"data": PortOffer("data")}) == []
        assert self.check(host, "score:full", {"data": PortOffer("data")}) == []
        assert self.check(host, "score:full", {"data": None}) == []
        assert self.check(host, "flow:wrapped", {"score": PortOffer("score", ("Trainable",)), "data": None}) == []

    def test_an_unknown_port_gets_near_misses(self, host: Host) -> None:
        unknown = self.check(host, "score:full", {"data": None, "dta": None})[0]
        assert (unknown.path, unknown.code) == (("dta",), "unknown-port")
        assert unknown.hint == "did you mean 'data'? score:full and its verb fit takes data"

    def test_a_missing_port_says_what_would_fit(self, host: Host) -> None:
        score, data = self.check(host, "flow:wrapped", {})
        assert (score.path, score.code) == ((), "missing-port")
        assert score.message == (
            "nothing is plugged into port 'score' of flow:wrapped; "
            "it needs a component of kind score that provides Trainable"
        )
        assert "score:full" in (score.hint or "")
        assert "score:exact" not in (score.hint or "")
        assert "port 'data'" in data.message

    def test_all_faults_at_once(self, host: Host) -> None:
        found = self.check(host, "flow:wrapped", {"score": PortOffer("score"), "datta": None})
        assert [item.code for item in found] == ["unknown-port", "capability", "missing-port"]

    def test_a_wrong_kind_and_a_missing_capability(self, host: Host) -> None:
        kind, capability = (
            self.check(host, "flow:wrapped", {"score": PortOffer(*what), "data": None})[0]
            for what in (("flow", ("Trainable",), "stage 'a'"), ("score", ("Encodes",), "stage 'b'"))
        )
        assert kind.path == ("score",)
        assert (
            kind.message == "port 'score' takes a component of kind score; stage 'a', of kind flow, is plugged into it"
        )
        assert capability.message == "port 'score' needs Trainable, which stage 'b' does not provide"
        assert capability.hint == "it provides Encodes"

    def test_several_in_a_port(self, host: Host) -> None:
        several = [PortOffer("score"), PortOffer("data"), None, PortOffer("flow")]
        (found,) = self.check(host, "estimator:many", {"models": several, "data": None})
        assert found.path == ("models", 1)
        (found,) = self.check(host, "score:full", {"data": [PortOffer("data"), PortOffer("data")]})
        assert found.message == "port 'data' takes one component of kind data; 2 are there"

    def test_optional_and_default_ports_may_be_left_out(self, host: Host) -> None:
        (found,) = self.check(host, "estimator:many", {"models": []})
        assert found.message.startswith("nothing is plugged into port 'data'")

    def test_when_a_port_is_needed_for_a_capability(self, host: Host) -> None:
        registered = host.catalogue.resolve("score:full")
        kind = host.catalogue.kind("score")
        verb = kind.verb("fit")
        assert verb is not None
        assert any(port.when == "Trainable" for port in verb.takes)
        (found,) = check_inputs(host.catalogue, registered, verb, {})
        assert found.code == "missing-port"

    def test_a_verb_that_the_component_cannot_do(self, host: Host) -> None:
        found = self.check(host, "score:full", {"data": None}, "traverse")[0]
        assert (found.path, found.code) == ((), "capability")
        assert found.message == "score:full can't traverse: that needs Encodes"

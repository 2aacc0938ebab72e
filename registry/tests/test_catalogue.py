"""Names: near misses, conflicts that nobody wins silently, preferences and agreed overrides, kinds from plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scorefold.errors import PluginError
from scorefold.plugin import CORE_KINDS
from scorefold_registry.host import Host
from scorefold_registry.plugins.names import parse_reference

Install = Callable[..., Path]
Source = Callable[..., str]


def states(host: Host) -> dict[str, str]:
    return {item.distribution: item.state for item in host.plugins if item.distribution.startswith("fake")}


def component_states(host: Host) -> dict[str, str]:
    return {item.qualified: item.state for item in host.components() if item.distribution.startswith("fake")}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("score:x", ("score", "x", None, None)),
        ("score:x@3", ("score", "x", 3, None)),
        ("Some_Dist/score:x", ("score", "x", None, "some-dist")),
        ("some-dist/x@2", (None, "x", 2, "some-dist")),
        ("x", (None, "x", None, None)),
    ],
)
def test_a_name_has_these_parts(text: str, parts: tuple[object, ...]) -> None:
    found = parse_reference(text)
    assert (found.kind, found.name, found.revision, found.distribution) == parts


@pytest.mark.parametrize("text", ["", "score:", ":x", "/score:x", "score:x@", "score:x@new", "score:x@-1"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(PluginError, match="is not the name of a component") as caught:
        parse_reference(text)
    assert "score:denoising" in (caught.value.hint or "")


@pytest.mark.parametrize("thing", [None, 3, ["score:x"]])
def test_a_name_is_text(thing: object) -> None:
    with pytest.raises(PluginError, match="a component is named by text"):
        parse_reference(thing)  # type: ignore[arg-type]


class TestResolving:
    @pytest.fixture
    def host(self, install: Install, component: Source) -> Host:
        install("fake-one", component("score", "first-light", extra="revision=2, aliases=('dawn',)"))
        return Host.discover()

    @pytest.mark.parametrize(
        "text",
        [
            "score:first-light",
            "score:first-light@2",
            "score:dawn",
            "first-light",
            "dawn",
            "fake-one/score:first-light",
            "fake-one/first-light",
            "Fake_One/score:dawn@2",
        ],
    )
    def test_every_way_to_say_it(self, host: Host, text: str) -> None:
        assert host.catalogue.resolve(text).qualified == "fake-one/score:first-light"

    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            (
                "score:first-ligth",
                "there is no 'score:first-ligth'",
                "did you mean score:first-light? 'scorefold plugins list' shows all components",
            ),
            ("scoer:first-light", "there is no kind 'scoer'", "did you mean 'score'? the kinds are data, network"),
            ("first-ligth", "no component is called 'first-ligth'", "did you mean score:first-light?"),
            ("flow:first-light", "there is no 'flow:first-light'", "did you mean score:first-light?"),
            ("allocator:zzz", "there is no 'allocator:zzz'", "components of kind allocator: "),
            ("fake-two/score:x", "no distribution 'fake-two' offers", "did you mean 'fake-one'?"),
            ("fake-one/score:second", "fake-one offers no 'score:second'", "it offers score:first-light"),
            ("score:first-light@1", "asks for revision 1 of score:first-light", "write score:first-light@2"),
        ],
    )
    def test_what_is_unknown_gets_near_misses(self, host: Host, text: str, message: str, hint: str) -> None:
        with pytest.raises(PluginError) as caught:
            host.catalogue.resolve(text)
        assert message in caught.value.message
        assert hint in (caught.value.hint or "")

    def test_any_revision_where_that_is_asked_for(self, host: Host) -> None:
        assert host.catalogue.resolve("score:first-light@1", any_revision=True).component.revision == 2

    def test_components_of_a_kind(self, host: Host) -> None:
        assert "score:first-light" in [item.id for item in host.components("score")]
        assert {item.component.kind for item in host.components("score")} == {"score"}
        with pytest.raises(PluginError, match="there is no kind 'scores'"):
            host.components("scores")


def test_a_name_that_is_missing_may_be_that_of_a_plugin_out_of_use(install: Install, component: Source) -> None:
    install("fake-off", component("score", "wanted"))
    install("fake-broken", "import no_such_module_anywhere")
    for name in ("score:wanted", "wanted", "wonted:wanted", "fake-off/score:wanted"):
        with pytest.raises(PluginError) as caught:
            Host.discover(deny=["off"]).catalogue.resolve(name)
        hint = caught.value.hint or ""
        assert "plugin 'off' of fake-off 1.0 (disabled: switched off by the caller of discover)" in hint
        assert "plugin 'broken' of fake-broken 1.0 (broken: ModuleNotFoundError" in hint


def test_one_name_of_two_kinds_needs_the_kind(install: Install, component: Source) -> None:
    install("fake-one", component("score", "same"))
    install("fake-two", component("flow", "same"))
    host = Host.discover()
    with pytest.raises(PluginError, match="may be any of score:same, flow:same"):
        host.catalogue.resolve("same")
    assert host.catalogue.resolve("flow:same").distribution == "fake-two"


class TestConflicts:
    @pytest.fixture(autouse=True)
    def _two_claim(self, install: Install, component: Source) -> None:
        install("fake-one", component("score", "wanted"))
        install("fake-two", component("score", "wanted free"))

    def test_nobody_wins_silently(self) -> None:
        host = Host.discover()
        with pytest.raises(PluginError) as caught:
            host.catalogue.resolve("score:wanted")
        assert "fake-one 1.0 (plugin 'one') and fake-two 1.0 (plugin 'two')" in caught.value.message
        assert '[prefer]: "score:wanted" = "fake-one"' in (caught.value.hint or "")
        assert states(host) == {"fake-one": "ambiguous", "fake-two": "ambiguous"}
        causes = [item.cause or "" for item in host.plugins if item.distribution.startswith("fake")]
        assert all("'score:wanted' is claimed by fake-one 1.0" in cause for cause in causes)

    def test_the_rest_of_the_plugins_stands(self) -> None:
        host = Host.discover()
        assert host.catalogue.resolve("score:free").distribution == "fake-two"
        assert host.catalogue.resolve("fake-two/score:wanted").distribution == "fake-two"
        assert host.catalogue.resolve("fake-one/wanted").distribution == "fake-one"

    def test_the_user_prefers_one(self) -> None:
        Path("scorefold.toml").write_text('[prefer]\n"score:wanted" = "Fake_Two"')
        host = Host.discover()
        assert host.catalogue.resolve("score:wanted").distribution == "fake-two"
        assert states(host) == {"fake-one": "shadowed", "fake-two": "registered"}
        assert component_states(host)["fake-one/score:wanted"] == "shadowed"
        assert host.catalogue.resolve("fake-one/score:wanted").distribution == "fake-one"

    def test_a_plugin_of_which_only_some_names_went_is_not_shadowed(self) -> None:
        Path("scorefold.toml").write_text('[prefer]\n"score:wanted" = "fake-one"')
        host = Host.discover()
        assert states(host) == {"fake-one": "registered", "fake-two": "registered"}
        assert component_states(host)["fake-two/score:wanted"] == "shadowed"

    def test_a_pinned_name_means_one_component_whoever_has_the_bare_name(self) -> None:
        for prefer, expected in (("", "fake-one/score:wanted@1"), ("fake-one", "score:wanted@1")):
            Path("scorefold.toml").write_text(f'[prefer]\n"score:wanted" = "{prefer}"')
            catalogue = Host.discover().catalogue
            for distribution in ("fake-one", "fake-two"):
                item = catalogue.resolve(f"{distribution}/score:wanted")
                assert catalogue.resolve(catalogue.pinned(item)) is item
                assert catalogue.pinned(item, whole=True) == f"{distribution}/score:wanted@1"
            assert catalogue.pinned(catalogue.resolve("fake-one/score:wanted")) == expected

    def test_preferring_someone_who_makes_no_claim_settles_nothing(self) -> None:
        Path("scorefold.toml").write_text('[prefer]\n"score:wanted" = "fake-three"')
        with pytest.raises(PluginError, match="neither is used"):
            Host.discover().catalogue.resolve("score:wanted")


def test_an_alias_is_a_claim_too(install: Install, component: Source) -> None:
    install("fake-one", component("score", "wanted"))
    install("fake-two", component("score", "other", extra="aliases=('wanted',)"))
    host = Host.discover()
    with pytest.raises(PluginError, match="neither is used"):
        host.catalogue.resolve("score:wanted")
    assert host.catalogue.resolve("score:other").distribution == "fake-two"


@pytest.mark.parametrize(
    ("asks", "yields", "winner"),
    [
        ("overrides='fake-old/score:wanted'", "yields_to=('fake-new',)", "fake-new"),
        ("overrides='fake-old/wanted'", "yields_to=('Fake_New',)", "fake-new"),
        ("overrides='fake-old/score:wanted'", "", None),
        ("", "yields_to=('fake-new',)", None),
        ("overrides='fake-else/score:wanted'", "yields_to=('fake-new',)", None),
    ],
)
def test_an_override_needs_both_sides(
    install: Install, component: Source, asks: str, yields: str, winner: str | None
) -> None:
    install("fake-new", component("score", "wanted", extra=asks))
    install("fake-old", component("score", "wanted", extra=yields))
    host = Host.discover()
    if winner is None:
        with pytest.raises(PluginError, match="neither is used") as caught:
            host.catalogue.resolve("score:wanted")
        one_sided = "fake-new asks to override fake-old, which does not yield to it"
        assert (one_sided in caught.value.message) == (asks.startswith("overrides='fake-old") and not yields)
    else:
        assert host.catalogue.resolve("score:wanted").distribution == winner
        assert states(host) == {"fake-new": "registered", "fake-old": "shadowed"}


@pytest.mark.parametrize(
    ("kind", "extra", "fault"),
    [
        ("scoer", "", "scoer:one is of the kind 'scoer', which is unknown; did you mean 'score'"),
        (
            "score",
            "provides=('Trainble',)",
            "says that it provides 'Trainble', which is unknown; did you mean 'Trainable'",
        ),
        ("score", "requires=(Port('p', kind='dta'),)", "takes a port of the kind 'dta', which is unknown"),
        ("score", "requires=(Port('p', kind='data', needs=('Encode',)),)", "did you mean 'Encodes'"),
    ],
)
def test_a_component_that_names_something_unknown_breaks_its_plugin(
    install: Install, component: Source, kind: str, extra: str, fault: str
) -> None:
    install("fake-broken", component(kind, "one", extra=extra))
    install("fake-healthy", component("score", "healthy"))
    host = Host.discover()
    assert states(host) == {"fake-broken": "broken", "fake-healthy": "registered"}
    assert fault in next(item.cause or "" for item in host.plugins if item.distribution == "fake-broken")
    assert not host.manager.has_plugin("fake-broken/broken")


def test_one_name_twice_in_a_plugin_breaks_it(install: Install, component: Source) -> None:
    install("fake-twice", component("score", "one one"))
    host = Host.discover()
    assert states(host) == {"fake-twice": "broken"}
    assert [item.cause for item in host.plugins if item.distribution == "fake-twice"] == [
        "it registers score:one twice"
    ]


class TestKinds:
    KIND = """
@hookimpl
def scorefold_kinds():
    yield Kind({name!r}, interface="scorefold.interfaces:Encodes", summary="made for a test")
"""

    def test_a_plugin_adds_a_kind_that_others_use(self, install: Install, component: Source) -> None:
        install("fake-kind", self.KIND.format(name="codec"))
        install("fake-a-user", component("codec", "one"))
        host = Host.discover()
        kinds = list(host.catalogue.kinds)
        assert kinds[: len(CORE_KINDS)] == [kind.name for kind in CORE_KINDS]
        assert "codec" in kinds[len(CORE_KINDS) :]
        assert host.catalogue.resolve("codec:one").distribution == "fake-a-user"

    def test_cores_kinds_stay_cores(self, install: Install) -> None:
        install("fake-kind", self.KIND.format(name="score"))
        host = Host.discover()
        assert states(host) == {"fake-kind": "broken"}
        assert host.catalogue.kinds["score"].interface == "scorefold.interfaces:ScoreModel"

    def test_a_kind_that_two_declare_is_nobodys(self, install: Install, component: Source) -> None:
        install("fake-one", self.KIND.format(name="learner"))
        install("fake-two", self.KIND.format(name="learner") + component("learner", "mine"))
        host = Host.discover()
        assert states(host) == {"fake-one": "ambiguous", "fake-two": "ambiguous"}
        assert "learner" not in host.catalogue.kinds
        cause = next(item.cause or "" for item in host.plugins if item.distribution == "fake-two")
        assert "declared by fake-one and fake-two" in cause
        assert '"kind:learner" = "fake-one"' in cause

    def test_a_plugin_that_loses_one_of_its_kinds_has_none(self, install: Install, component: Source) -> None:
        both = self.KIND.format(name="learner") + component("learner", "mine")
        other = both.replace(
            "    yield Kind(", '    yield Kind("mute", interface="fake_two.impl:Thing")\n    yield Kind(', 1
        )
        install("fake-one", self.KIND.format(name="learner"))
        install("fake-two", other)
        host = Host.discover()
        assert states(host) == {"fake-one": "ambiguous", "fake-two": "ambiguous"}
        assert not {"learner", "mute"} & set(host.catalogue.kinds)

    def test_the_user_prefers_one_of_them(self, install: Install, component: Source) -> None:
        Path("scorefold.toml").write_text('[prefer]\n"kind:learner" = "fake-two"')
        install("fake-one", self.KIND.format(name="learner"))
        install("fake-two", self.KIND.format(name="learner") + component("learner", "mine"))
        host = Host.discover()
        assert states(host) == {"fake-one": "registered", "fake-two": "registered"}
        assert host.catalogue.resolve("learner:mine").distribution == "fake-two"

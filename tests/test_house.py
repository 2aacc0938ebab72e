"""The rules of the house that cross packages: who may import whom, what stays cheap, what a wheel holds."""

from __future__ import annotations

import ast
import itertools
import re
import runpy
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from wheel_building import build_wheels, buildable, members

from scorefold_templates import kinds, render

ROOT = Path(__file__).parent.parent
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = members()
PLUGINS = [folder for folder in MEMBERS if folder.parent.name == "plugins"]
OFFERING = [ROOT / "verbs", *PLUGINS]
"""Packages with plugins: verbs and all methods."""

BELOW = {"core": (), "templates": (), "toolkit": ("scorefold",), "registry": ("scorefold",)}
"""What a member may import of ours besides itself; plugins and the conformance checks import core and the toolkit."""

COMMANDS = ("explore",)
"""Plugins that add a command about runs: they may import what the registry offers to everybody, and nothing else."""

OFFERED = ("scorefold_registry", "scorefold_registry.python")

PACKAGES = {folder: next((folder / "src").iterdir()).name for folder in MEMBERS}
"""Each member's one import package."""

BUILT = buildable(MEMBERS)
LISTED = [folder for folder in OFFERING if folder in BUILT]
"""Plugins that are installed: those that can be built."""


@cache
def imports_in(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """The modules that a file imports, anywhere in it, and the names that it imports from each."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.module, tuple(alias.name for alias in node.names)))
    return found


def imported_packages(file: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {module.split(".")[0] for module, _ in imports_in(file)}


def imports_of(folder: Path) -> dict[str, set[str]]:
    return {str(file.relative_to(ROOT)): imported_packages(file) for file in (folder / "src").rglob("*.py")}


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_the_tests_of_every_member_are_run(folder: Path) -> None:
    named = [ROOT / path for path in WORKSPACE["tool"]["pytest"]["ini_options"]["testpaths"]]
    assert any((folder / "tests").is_relative_to(path) for path in named)


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_dependencies_point_one_way(folder: Path) -> None:
    allowed = {PACKAGES[folder], *BELOW.get(folder.name, ("scorefold", "scorefold_toolkit"))}
    if folder.name in COMMANDS:
        allowed.add("scorefold_registry")
    ours = set(PACKAGES.values())
    wrong = {file: names & ours - allowed for file, names in imports_of(folder).items() if names & ours - allowed}
    assert not wrong, "plugins -> toolkit -> core, registry -> core"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_made_of_what_the_registry_offers(name: str) -> None:
    files = files_of(ROOT / "plugins" / name)
    inside = {module for module in files_of(ROOT / "registry") if module not in OFFERED}
    wrong = {file: found for file, path in files.items() if (found := imported_modules(path, inside))}
    assert not wrong, f"expected imports of {' and '.join(OFFERED)} alone"


def test_core_is_small() -> None:
    assert sum(len(file.read_text().splitlines()) for file in (ROOT / "core/src").rglob("*.py")) <= 5500


def test_core_names_no_plugin() -> None:
    names = {PACKAGES[folder] for folder in OFFERING} | {"scorefold_registry"}
    wrong = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in (ROOT / "core/src").rglob("*")
        if file.suffix in {".py", ".json"}
        for name in names
        # A hook may be called as a package is.
        if re.search(rf"\b{name}[.:]\w|\b(from|import) {name}\b", file.read_text())
    ]
    assert not wrong


ROOMS = ("plugins", "components", "host", "runfile", "run", "experiments", "sharing", "python", "cli", "worker")
"""The rooms of the registry: each imports those before it only."""


def files_of(folder: Path) -> dict[str, Path]:
    """The modules of a member by their dotted names."""
    found = {}
    for file in (folder / "src").rglob("*.py"):
        parts = file.relative_to(folder / "src").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


SHARED_NAMES = {
    *("Host",),  # the registry's, and the protocol of the conformance checks
    *("main", "run"),  # of commands, and of processes
    *("allocate", "assess", "audit", "compare", "estimate", "fit", "load", "pull", "push", "sample", "sweep"),
    *("encode", "interpolate"),  # verbs of models with codes, and of others
}
"""Public names of several modules: verbs are functions of Python, too. The set only shrinks."""


def test_a_public_class_or_function_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for folder in MEMBERS:
        for module, file in files_of(folder).items():
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith(("_", "scorefold_")):
                    places.setdefault(node.name, []).append(module)
    twice = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert twice.keys() == SHARED_NAMES, {name: twice.get(name, []) for name in twice.keys() ^ SHARED_NAMES}


def imported_modules(file: Path, known: Collection[str]) -> set[str]:
    """Which of the known modules a file imports anywhere in it, lazily and for types too."""
    found = set()
    for module, names in imports_in(file):
        parts = {f"{module}.{name}" for name in names}
        found |= {part if part in known else module for part in parts} or {module}
    return found & set(known)


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """What is left of a graph of imports when files that import none of the rest are taken away, again and again."""
    left = dict(graph)
    while free := [name for name in left if not graph[name] & (left.keys() - {name})]:
        for name in free:
            del left[name]
    return sorted(left)


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_files_import_one_another_in_no_circle(folder: Path) -> None:
    files = files_of(folder)
    assert not circles({name: imported_modules(file, files) for name, file in files.items()})


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_rooms_of_the_registry_point_one_way() -> None:
    files = files_of(ROOT / "registry")
    rooms = {name: name.split(".")[1] for name in files if "." in name}
    assert set(rooms.values()) == set(ROOMS)
    for name, room in rooms.items():
        for other in imported_modules(files[name], rooms):
            assert ROOMS.index(rooms[other]) <= ROOMS.index(room), f"{name} imports {other}"


SKELETON = (
    *("__init__.py", "py.typed", "plugin.py", "config.py", "config", "data", "claims", "figures.py", "figures"),
    *("warnings.py", "citation.bib", "cite", "samples"),
)
"""What any plugin's package may hold. Its other modules and folders hold its methods: the README names them."""

MOST_ENTRIES = 16


def sources_in(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file() and file.parent.name != "__pycache__")


def skeleton_faults(folder: Path) -> list[str]:
    """Where the plugin in a folder has not the rooms that every plugin has."""
    (package,) = (folder / "src").iterdir()
    # A folder without a file is of a module that was moved; Python's cache is still in it.
    entries = {entry.name: entry for entry in package.iterdir() if entry.is_file() or any(sources_in(entry))}
    text = (folder / "README.md").read_text() if (folder / "README.md").exists() else ""
    named = {
        name.removeprefix(f"src/{package.name}/").split("/")[0] for name in re.findall(r"`([\w/]+(?:\.py|/))", text)
    }
    faults = [
        f"{name} is neither a room nor named in README.md" for name in sorted(entries.keys() - {*SKELETON, *named})
    ]
    if len(entries) > MOST_ENTRIES:
        faults.append(f"the package shows {len(entries)} entries; {MOST_ENTRIES} at most")
    faults += [f"{name} is missing" for name in ("__init__.py", "py.typed", "plugin.py") if name not in entries]
    if "claims" in entries:
        needed = (package / "citation.bib", package / "claims/table.toml")
        faults += [f"it has claims and no {file.name}" for file in needed if not file.exists()]
    empty = (package / "config/__init__.py", package / "claims/__init__.py")
    faults += [f"{file.relative_to(package)} is not empty" for file in empty if file.exists() and file.read_text()]
    for file in sorted(package.rglob("*.py")):
        room = file.parent.name
        if re.fullmatch(r".+_config|claims?_.+|.+_claims?", file.stem) or re.fullmatch(
            rf"{room}(_.+)?|.+_{room}", file.stem
        ):
            faults.append(f"{file.relative_to(package)}: the name repeats its room's")
    return faults


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_every_plugin_has_the_same_rooms(folder: Path) -> None:
    assert not skeleton_faults(folder)


def test_a_new_plugin_has_the_rooms_too(tmp_path: Path) -> None:
    for kind in kinds():
        assert not skeleton_faults(render(kind, "my-own", tmp_path / kind))


def test_what_is_outside_the_rooms_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "src/scorefold_x"
    for name in (
        "__init__.py",
        "py.typed",
        "plugin.py",
        "data_config.py",
        "claims/claims_exact.py",
        "claims/__init__.py",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    (package / "claims/__init__.py").write_text("pass")
    assert skeleton_faults(tmp_path) == [
        "data_config.py is neither a room nor named in README.md",
        "it has claims and no citation.bib",
        "it has claims and no table.toml",
        "claims/__init__.py is not empty",
        "claims/claims_exact.py: the name repeats its room's",
        "data_config.py: the name repeats its room's",
    ]


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_every_plugin_says_what_it_is(folder: Path) -> None:
    assert (folder / "README.md").read_text().startswith(f"# scorefold-{folder.name}\n")
    assert tomllib.loads((folder / "pyproject.toml").read_text())["project"]["readme"] == "README.md"


def every_requirement(project: dict[str, Any]) -> list[str]:
    """What a distribution depends on, by itself or with one of its extras."""
    return [*project["dependencies"], *itertools.chain(*project.get("optional-dependencies", {}).values())]


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_what_is_imported_is_declared(folder: Path) -> None:
    """Every third-party import stands in the distribution's own dependencies, its extras included."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    declared = {
        re.split("[~<>=[]", requirement)[0].strip().lower().replace("-", "_")
        for requirement in every_requirement(project)
    }
    imports_by_distribution = {
        "scikit_learn": {"sklearn"},
        "ax_platform": {"ax"},
        "scikit_image": {"skimage"},
        "ruamel.yaml": {"ruamel"},
        "scorefold_core": {"scorefold"},
        "scorefold_toolkit": {"scorefold_toolkit"},
        "scorefold_testing": {"scorefold_testing"},
        "pillow": {"PIL"},
        "pywavelets": {"pywt"},
        "faiss_cpu": {"faiss"},
        "scorefold_registry": {"scorefold_registry"},
        "umap_learn": {"umap"},
    }
    available = set().union(*(imports_by_distribution.get(name, {name}) for name in declared))
    available |= set(sys.stdlib_module_names) | {PACKAGES[folder]}
    if folder.name in ("core", "toolkit"):
        # Only figures need it, and they say so where it is missing.
        available |= {"matplotlib"}
    files = imports_of(folder)
    wrong = {file: names - available for file, names in files.items() if names - available and "{{" not in file}
    assert not wrong


LIGHT = [
    "scorefold",
    "scorefold.plugin",
    "scorefold.hookspecs",
    "scorefold.errors",
    "scorefold.seeds",
    "scorefold.config",
    "scorefold_toolkit.config.common",
    "scorefold_toolkit.config.common",
    "scorefold_toolkit.config.common",
    "scorefold_toolkit.config.operators",
    *(f"{PACKAGES[folder]}.{file.stem}" for folder in LISTED for file in (folder / "src").glob("*/*config.py")),
    *(f"{PACKAGES[folder]}.config.{file.stem}" for folder in LISTED for file in (folder / "src").glob("*/config/*.py")),
    *(
        f"{PACKAGES[folder]}.{file.parent.name}.config"
        for folder in LISTED
        for file in (folder / "src").glob("*/*/config.py")
    ),
    *(f"{PACKAGES[folder]}.plugin" for folder in LISTED),
]


def modules_after(code: str) -> set[str]:
    outcome = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(outcome.stdout.split())


def test_declarations_and_configs_import_no_torch() -> None:
    loaded = modules_after("import " + ", ".join(LIGHT))
    assert not loaded & {"torch", "numpy", "matplotlib", "sklearn", "diffusers"}


def test_plugin_modules_import_no_pydantic() -> None:
    loaded = modules_after("import " + ", ".join(f"{PACKAGES[folder]}.plugin" for folder in LISTED))
    assert not loaded & {"torch", "numpy", "pydantic", "pydantic_core"}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The names in every member's wheel, by the member's folder."""
    built = build_wheels(tmp_path_factory.mktemp("house") / "wheels", BUILT)
    contents = {wheel.name.partition("-")[0]: zipfile.ZipFile(wheel).namelist() for wheel in built}
    projects = {folder.name: tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in BUILT}
    return {folder: contents[project["name"].replace("-", "_")] for folder, project in projects.items()}


def test_every_wheel_has_one_top_level_package_of_ours(wheels: dict[str, list[str]]) -> None:
    assert len(wheels) == len(BUILT)
    for folder in BUILT:
        tops = {name.split("/")[0] for name in wheels[folder.name] if ".dist-info/" not in name}
        assert tops == {PACKAGES[folder]}, folder.name
        assert PACKAGES[folder].startswith("scorefold")


def test_wheels_hold_what_is_read_at_run_time(wheels: dict[str, list[str]]) -> None:
    """Types, schemas, templates and citations travel with the code."""
    for folder in BUILT:
        source = folder / "src"
        tracked = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
        expected = {name for name in tracked if "__pycache__" not in name}
        assert expected <= set(wheels[folder.name]), expected - set(wheels[folder.name])
        assert f"{PACKAGES[folder]}/py.typed" in wheels[folder.name]


def test_the_root_installs_every_member() -> None:
    names = {tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"] for folder in MEMBERS}
    requirements = every_requirement(WORKSPACE["project"])
    listed = {re.split(r"[\[~]", item)[0] for item in requirements}
    assert names <= listed
    assert set(WORKSPACE["tool"]["uv"]["sources"]) == names


def test_every_member_has_the_one_version() -> None:
    sys.path.insert(0, str(ROOT / ".ci"))
    import version

    assert {str(file.relative_to(ROOT)): version.said(file) for file in version.files()} == {
        str(file.relative_to(ROOT)): version.said(version.SOURCE) for file in version.files()
    }
    assert len(version.files()) == len(MEMBERS) + 4
    required = {item for file in version.files() for item in version.siblings(file)}
    assert required == {version.said(version.SOURCE)}


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_every_member_can_be_published(folder: Path) -> None:
    """A README, the licence, and the same people and pages as the whole."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (folder / project["readme"]).read_text().startswith(f"# {project['name']}\n")
    for field in ("authors", "keywords", "classifiers", "license", "requires-python"):
        assert project[field] == WORKSPACE["project"][field]
    ours = [item for item in every_requirement(project) if item.startswith("scorefold-")]
    assert all("~=" in item or item.startswith(project["name"]) for item in ours)


def test_claims_train_in_the_precision_that_is_asked_for() -> None:
    """``reproduce --precision`` reaches a training by the call alone."""
    calls = [
        (file, call)
        for file in ROOT.glob("plugins/*/src/*/claims/*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "fit"
    ]
    assert len(calls) > 5
    assert not [file.name for file, call in calls if "precision" not in {word.arg for word in call.keywords}]


def test_the_conda_recipe_requires_what_the_members_do() -> None:
    """Under conda's names, and the highest of the lowest versions that members name."""
    names = {"torch": "pytorch", "matplotlib": "matplotlib-base", "PyWavelets": "pywavelets"}
    members = re.search(r"^DEFAULT := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert members is not None
    needed = {"python": WORKSPACE["project"]["requires-python"]}
    for folder in members[1].split():
        for item in tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["dependencies"]:
            name, floor = re.fullmatch(r"([\w.-]+)(.*)", item).group(1, 2)  # type: ignore[union-attr]
            if not name.startswith("scorefold-"):
                name = names.get(name, name)
                known = needed.get(name, "")
                needed[name] = max(known, floor, key=lambda said: [int(part) for part in re.findall(r"\d+", said)])
    recipe = YAML(typ="safe").load(ROOT / "conda/recipe.yaml")
    assert sorted(recipe["requirements"]["run"]) == sorted(f"{name} {floor}".strip() for name, floor in needed.items())


def test_a_release_has_its_own_address_in_every_member(tmp_path: Path) -> None:
    address = runpy.run_path(str(ROOT / ".ci/address.py"))
    for folder in (ROOT, *MEMBERS):
        place = tmp_path / folder.relative_to(ROOT)
        place.mkdir(exist_ok=True, parents=True)
        (place / "pyproject.toml").write_text((folder / "pyproject.toml").read_text())
    for home in ("https://example.org/one/scorefold", "https://example.org/two/scorefold"):  # the second replaces
        files = address["write"](home, tmp_path)
        assert len(files) == len(MEMBERS) + 1
        for file in files:
            written, before = (
                tomllib.loads((root / file.relative_to(tmp_path)).read_text()) for root in (tmp_path, ROOT)
            )
            links = written["project"].pop("urls")
            place = file.parent.relative_to(tmp_path).as_posix()
            assert links["Homepage"] == home
            assert links["Documentation"] == f"{home}/tree/main/{'docs' if place == '.' else place}"
            assert written == before
    with pytest.raises(SystemExit, match="given 'scorefold'; expected the repository's address"):
        address["write"]("scorefold", tmp_path)


def test_the_formulas_that_mutations_change_stand_where_they_are_looked_for() -> None:
    mutations = runpy.run_path(str(ROOT / "tests" / "mutations.py"))["MUTATIONS"]
    lost = [f"{file}: {old}" for file, old, _ in mutations if (ROOT / file).read_text().count(old) != 1]
    assert not lost, "tests/mutations.py changes lines that are not there once; expected the line as it is now"


def test_explained_survivors_are_changes_of_lines_as_they_are() -> None:
    """A line that has changed is explained anew: what could not be noticed in it may be noticed now."""
    entries = tomllib.loads((ROOT / "tests" / "survivors.toml").read_text())["survivor"]
    texts = {entry["file"]: " ".join((ROOT / entry["file"]).read_text().split()) for entry in entries}
    assert [entry for entry in entries if entry["line"] not in texts[entry["file"]]] == []
    assert all(entry["why"].endswith(".") and entry["becomes"] != entry["line"] for entry in entries)


def skips_for_a_library(file: Path) -> list[str]:
    """The calls of a file that skip a test where a library is missing."""
    if "skip" not in (text := file.read_text()):
        return []
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    named = {call: call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    texts = [ast.unparse(call) for call, name in named.items() if name in ("importorskip", "skip", "skipif")]
    return [text for text in texts if re.search("importorskip|find_spec|not installed", text)]


def test_libraries_that_a_test_needs_are_named_by_the_mark() -> None:
    """``make bridges`` finds tests by the mark ``needs``, and fails where the library is missing."""
    known = {"plugins/explore/tests/conftest.py"}  # it needs npm
    files = [file for folder in (ROOT, *MEMBERS) for file in (folder / "tests").rglob("*.py")]
    assert {str(file.relative_to(ROOT)) for file in files if skips_for_a_library(file)} == known


def test_heavy_tests_are_tests() -> None:
    listed = (ROOT / "tests" / "heavy.txt").read_text().splitlines()
    assert listed == sorted(set(listed)), "make costs writes tests/heavy.txt"
    for name in listed:
        file, *path = name.partition("[")[0].split("::")
        text = (ROOT / file).read_text() if (ROOT / file).exists() else ""
        assert f"def {path[-1]}(" in text, f"{name} is no longer there: make costs, or write its new name"


def test_counts_of_the_page_are_those_of_the_code() -> None:
    """``make counts`` writes them; they may be a tenth behind."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z/]+) \| [\d,]+ \| ([\d,]+) \|$", page, flags=re.MULTILINE)
    assert len(rows) > 15
    for folder, lines in rows:
        now = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / folder / "src").rglob("*.py"))
        assert now == pytest.approx(int(lines.replace(",", "")), rel=0.1, abs=20), f"{folder}: make counts"

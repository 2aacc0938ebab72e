"""``scorefold schema`` and ``scorefold validate`` agree on what a run file may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from scorefold_registry.cli.commands.run_files import SCHEMA_FILE
from scorefold_registry.cli.main import main
from scorefold_registry.host import Host
from scorefold_registry.runfile.plan import make_plan
from scorefold_registry.runfile.reader import RunFileError, read
from scorefold_registry.runfile.schema import run_schema
from scorefold_site import sessions

ROOT = Path(__file__).parent.parent
FILES = [*sorted((ROOT / "examples").glob("*.yaml")), ROOT / "registry/src/scorefold_registry/cli/demo.yaml"]

SPHERE = "data: {use: data:sphere}"
SCORE = f"{SPHERE}, score: {{use: score:denoising, inputs: {{data: data}}, config: CONFIG}}"


@pytest.fixture(scope="module")
def validator(host: Host) -> Draft202012Validator:
    found = run_schema(host.catalogue)
    assert not found.notes
    return Draft202012Validator(found.schema)


def test_the_schema_is_right_itself(validator: Draft202012Validator) -> None:
    validator.check_schema(validator.schema)


def load(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def stages(text: str) -> str:
    return f"version: 1\nstages: {{{text}}}\n"


def score(config: str) -> str:
    return stages(SCORE.replace("CONFIG", config))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_own_files_fit(validator: Draft202012Validator, path: Path) -> None:
    assert not list(validator.iter_errors(load(path.read_text())))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN = ("hook-examples.md", "own-kind.md")
"""Pages whose run files use plugins that stand on the page."""


def pointed_at(text: str, lies_in: Path) -> Path:
    """The file that the first line of a run file points an editor at; paths start at the run file's folder."""
    first = text.partition("\n")[0]
    assert first.startswith("# yaml-language-server: $schema="), first
    return (lies_in / first.partition("$schema=")[2]).resolve()


def test_the_first_line_of_an_example_points_at_the_schema() -> None:
    """Examples lie in a folder of their own; ``scorefold schema`` is run in the one above, as they are."""
    examples = [path for path in FILES if path.parent.name == "examples"]
    assert len(examples) >= 8
    for path in examples:
        assert pointed_at(path.read_text(), path.parent) == ROOT / SCHEMA_FILE, path.name


def test_what_is_copied_points_at_the_schema_of_the_folder_it_is_copied_to(tmp_path: Path) -> None:
    """The demonstration, and the run files of README and documentation, lie where the reader puts them."""
    pages = [page for page in PAGES if page.name not in OWN]
    shown = [
        block.text
        for page in pages
        for block in sessions.blocks(page.read_text())
        if block.language == "yaml" and "version: 1" in block.text
    ]
    assert len(shown) >= 6
    for text in (*shown, (ROOT / "registry/src/scorefold_registry/cli/demo.yaml").read_text()):
        assert pointed_at(text, tmp_path) == tmp_path / SCHEMA_FILE, text


def test_the_run_files_of_the_documentation_fit(validator: Draft202012Validator) -> None:
    for page in (page for page in PAGES if page.name not in OWN):
        for block in sessions.blocks(page.read_text()):
            if block.language == "yaml" and "version: 1" in block.text:
                faults = [error.message for error in validator.iter_errors(load(block.text))]
                expected = "name: faults" in block.text or "estimator:my-ratio" in block.text
                assert bool(faults) == expected, (page.name, faults)


def test_the_line_that_the_command_prints_leads_to_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema"]) == 0
    written = pointed_at(capsys.readouterr().out, tmp_path)
    Draft202012Validator.check_schema(json.loads(written.read_text()))


RIGHT = {
    "revision": stages("data: {use: data:sphere@1}"),
    "distribution": stages("data: {use: scorefold-standard/data:sphere}"),
    "process by name": score("{process: vp}"),
    "network by name": score("{network: mlp}"),
    "network with settings": score("{network: {use: network:mlp, config: {width: 32}}}"),
    "no clipping": score("{training: {clip: null}}"),
    "plugged inline": stages(
        "score: {use: score:analytic, inputs: {data: {use: data:sphere, config: {dimension: 3}}}}"
    ),
    "plugged by name": stages("score: {use: score:analytic, inputs: {data: data:sphere}}"),
    "stages inside what is plugged": stages(
        f"{SPHERE}, dimension: {{use: estimator:iddiff, inputs: {{data: data, "
        "score: {use: score:analytic, inputs: {data: data}}}}"
    ),
    "verb of an earlier stage": stages(
        f"{SPHERE}, score: {{use: score:analytic, inputs: {{data: data}}}}, "
        "drawn: {use: score, do: sample, options: {n: 4}}"
    ),
    "operators in a row": stages(
        "pairs: {use: data:paired, inputs: {data: data:digits}, "
        "config: {operator: [grey, {name: box-downsample, factor: 2}]}}"
    ),
    "operators with angles and edges": stages(
        "pairs: {use: data:paired, inputs: {data: data:digits}, "
        "config: {operator: [{name: radon, angles: [0, 90.5]}, edges], poisson_peak: 20}}"
    ),
    "sampling and steps of each interval": stages(
        f"{SPHERE}, score: {{use: score:analytic, inputs: {{data: data}}}}, "
        "drawn: {use: score, do: sample, options: {steps: [4, 3], spacing: log-snr, sampling: {a: b}}}, "
        "held: {use: score, do: assess, inputs: {data: data}, options: {n: 2, levels: [0.5], features: null}}"
    ),
    "operator by name": stages("pairs: {use: data:paired, inputs: {data: data:digits}, config: {operator: haar}}"),
    "runtime": "version: 1\nruntime: {dtype: float64, threads: null}\n" + stages(SPHERE).partition("\n")[2],
}

WRONG = {
    "no version": f"stages: {{{SPHERE}}}\n",
    "another version": f"version: 2\nstages: {{{SPHERE}}}\n",
    "no stages": "version: 1\n",
    "unknown key at the top": f"version: 1\nsteps: 4\nstages: {{{SPHERE}}}\n",
    "negative seed": f"version: 1\nseed: -1\nstages: {{{SPHERE}}}\n",
    "name that leaves the folder": f"version: 1\nname: ../x\nstages: {{{SPHERE}}}\n",
    "unknown precision": f"version: 1\nruntime: {{precision: fp8}}\nstages: {{{SPHERE}}}\n",
    "name of a stage": stages("1st: {use: data:sphere}"),
    "no use": stages("data: {config: {}}"),
    "a saved state and a component": stages("prior: {use: data:sphere, load: runs/digits/1/data}"),
    "a saved state and its settings": stages("prior: {load: runs/digits/1/data, config: {}}"),
    "a saved state of no name": stages('prior: {load: ""}'),
    "a saved state by a number": stages("prior: {load: 3}"),
    "unknown component": stages("data: {use: data:spere}"),
    "revision that is not installed": stages("data: {use: data:sphere@7}"),
    "a network as a stage": stages("net: {use: network:mlp}"),
    "unknown key of a stage": stages("data: {use: data:sphere, settings: {}}"),
    "unknown field": stages("data: {use: data:sphere, config: {dimensions: 3}}"),
    "wrong type": stages("data: {use: data:sphere, config: {dimension: many}}"),
    "out of range": stages("data: {use: data:sphere, config: {dimension: 0}}"),
    "missing field": stages("data: {use: data:array}"),
    "missing field of a given config": stages("data: {use: data:array, config: {scale: table}}"),
    "unknown verb": stages("data: {use: data:sphere, do: fit}"),
    "verb beyond its capabilities": stages("score: {use: score:analytic, do: traverse, inputs: {data: data:sphere}}"),
    "unknown port": stages(f"{SPHERE}, score: {{use: score:analytic, inputs: {{date: data}}}}"),
    "missing port": stages("score: {use: score:analytic}"),
    "missing data to fit": stages("flow: {use: flow:spline-coupling}"),
    "plugged inline of another kind": stages("score: {use: score:analytic, inputs: {data: network:mlp}}"),
    "a list in a single port": stages(f"{SPHERE}, score: {{use: score:analytic, inputs: {{data: [data]}}}}"),
    "number in a port": stages("score: {use: score:analytic, inputs: {data: 3}}"),
    "settings inside what is plugged": stages(
        "score: {use: score:analytic, inputs: {data: {use: data:sphere, config: {dimension: x}}}}"
    ),
    "unknown network": score("{network: {use: network:cnn}}"),
    "settings inside an inline network": score("{network: {use: network:mlp, config: {width: 0}}}"),
    "unknown process": score("{process: brownian}"),
    "process without its name": score("{process: {sigma_min: 0.1}}"),
    "nested settings": score("{training: {steps: -4}}"),
    "unknown option": stages("plan: {use: allocator:uniform, options: {budget: 10, spend: 1}}"),
    "missing option": stages("plan: {use: allocator:uniform}"),
    "options of a verb without any": stages("data: {use: data:sphere, options: {n: 4}}"),
    "unknown split": stages(f"{SPHERE}, k: {{use: estimator:mle, inputs: {{data: data}}, split: tests}}"),
    "split of a fit": stages(f"{SPHERE}, flow: {{use: flow:spline-coupling, inputs: {{data: data}}, split: test}}"),
    "split without data": stages("data: {use: data:sphere, split: test}"),
    "config of an earlier stage": stages(
        f"{SPHERE}, flow: {{use: flow:spline-coupling, inputs: {{data: data}}}}, "
        "drawn: {use: flow, do: sample, config: {layers: 2}}"
    ),
    "option of an earlier stage's verb": stages(
        f"{SPHERE}, flow: {{use: flow:spline-coupling, inputs: {{data: data}}}}, "
        "drawn: {use: flow, do: sample, options: {count: 2}}"
    ),
    "no step": stages(
        f"{SPHERE}, score: {{use: score:analytic, inputs: {{data: data}}}}, "
        "drawn: {use: score, do: sample, options: {steps: []}}"
    ),
    "assessed without data": stages(
        f"{SPHERE}, score: {{use: score:analytic, inputs: {{data: data}}}}, held: {{use: score, do: assess}}"
    ),
    "features of no name": stages(
        f"{SPHERE}, score: {{use: score:analytic, inputs: {{data: data}}}}, "
        "held: {use: score, do: assess, inputs: {data: data}, options: {features: vgg}}"
    ),
    "operator without a name": stages(
        "pairs: {use: data:paired, inputs: {data: data:digits}, config: {operator: [{factor: 2}]}}"
    ),
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_both_take_what_is_right(host: Host, validator: Draft202012Validator, text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    make_plan(host.catalogue, read(tmp_path / "run.yaml"))
    assert not [f"{error.json_path}: {error.message}" for error in validator.iter_errors(load(text))]


def test_both_take_a_saved_state(host: Host, validator: Draft202012Validator, tmp_path: Path) -> None:
    host.save(host.create("score:analytic", data=host.create("data:sphere")), tmp_path / "score", bundle=True)
    text = stages(f"{SPHERE}, prior: {{load: score}}, drawn: {{use: prior, do: sample, options: {{n: 4}}}}")
    (tmp_path / "run.yaml").write_text(text)
    make_plan(host.catalogue, read(tmp_path / "run.yaml"))
    assert validator.is_valid(load(text))


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_both_refuse_what_is_wrong(host: Host, validator: Draft202012Validator, text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(RunFileError):
        make_plan(host.catalogue, read(tmp_path / "run.yaml"))
    assert not validator.is_valid(load(text))


def test_both_agree_on_the_declared_examples(host: Host, validator: Draft202012Validator, tmp_path: Path) -> None:
    """Each component's examples, as stages: as they are, and with a setting that does not exist."""
    taken = 0
    for item in host.components():
        for example in item.component.examples:
            inputs = {"data": {"use": "data:sphere"}, **example.get("inputs", {})}
            for more in ({}, {"no-such-setting": 1}):
                config = {**example.get("config", {}), **more}
                run = {"version": 1, "stages": {"it": {"use": item.id, "config": config, "inputs": inputs}}}
                if item.component.port("data") is None and item.component.kind not in ("estimator", "geometry"):
                    run["stages"]["it"]["inputs"] = example.get("inputs", {})
                (tmp_path / "run.yaml").write_text(json.dumps(run))
                try:
                    make_plan(host.catalogue, read(tmp_path / "run.yaml"))
                    right = True
                except RunFileError:
                    right = False
                assert validator.is_valid(load(json.dumps(run))) == right, (item.id, run)
                taken += right
    assert taken > 30


def test_every_component_and_field_is_in_it_with_its_words(host: Host, validator: Draft202012Validator) -> None:
    definitions = validator.schema["$defs"]
    offered = {item["const"]: item for item in definitions["stage"]["properties"]["use"]["anyOf"] if "const" in item}
    with_verbs = {kind.name for kind in host.catalogue.kinds.values() if kind.verbs}
    stages_of_their_own = {
        item.id: item.component.summary for item in host.components() if item.component.kind in with_verbs
    }
    assert "network" not in with_verbs
    assert {name: item["description"] for name, item in offered.items()} == stages_of_their_own
    training = definitions["config.scorefold-standard.score.denoising.TrainingConfig"]["properties"]
    assert training["steps"] == {
        "type": "integer",
        "minimum": 0,
        "default": 4000,
        "description": "Optimiser steps, over all phases",
    }
    configs = {name: part for name, part in definitions.items() if name.startswith("config.")}
    bare = [
        f"{name}.{field}"
        for name, part in configs.items()
        for field, schema in part["properties"].items()
        if not schema.get("description") and field != "name"
    ]
    assert not bare

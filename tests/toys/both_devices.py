"""A run file on the CPU and on the simulated device, in a process that may have one, and where the two differ.

torch can't take a device back, so a test that needs the simulated one works in a process of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tiny_runs import TRAINING, settings_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from warm_commands import FORKS

from scorefold.diffusion import time_grid
from scorefold.seeds import derive_generator
from scorefold_registry import Host, run_file
from scorefold_registry.cli.main import main
from scorefold_testing.simulated import NAME, activate, counted, same_bits
from scorefold_toolkit.training import fit

MEASURED = ("second", "memory", "minutes", "peak")
"""Parts of the names of measurements, which differ between two runs on one device too."""


@dataclass(frozen=True)
class Both:
    """Values that differ between two runs, and what the device did: operators, copies to it, lines that wait for it."""

    differences: tuple[str, ...]
    operators: int
    copies: int
    waits: dict[tuple[str, str], int]


def worker() -> ProcessPoolExecutor:
    """A process that has the simulated device."""
    return ProcessPoolExecutor(1, mp_context=FORKS, initializer=_begin)


def _begin() -> None:
    torch.set_num_threads(1)
    activate()


def on_both(file: Path, folder: Path, sets: Sequence[str] | None = None) -> Both:
    """The run of a file with ``sets``, or with the tiny settings of ours, on both devices."""
    sets = settings_of(file, folder) if sets is None else sets
    host = Host.discover()
    found = []
    for device in ("cpu", NAME):
        # torch has a fused attention for the CPU, and others for accelerators.
        with counted() as counts, sdpa_kernel(SDPBackend.MATH):
            place = {"runs": folder / device / "runs", "cache": folder / device / "cache"}
            found.append(run_file(host, file, sets=[*sets, f"runtime.device={device}"], **place).folder)
    return Both(tuple(differences(*found)), counts.operators, counts.copies, dict(counts.synchronisations))


def started(question: str, model: str, folder: Path) -> Both:
    """The run of what ``scorefold start`` writes for points of a sphere and a question, with few steps of its model."""
    points = Host.discover().create("data:sphere", {"points": 200, "dimension": 2, "ambient": 5}).load("train").x
    np.save(folder / "points.npy", points.numpy())
    file = folder / "started.yaml"
    with redirect_stdout(StringIO()):
        main(["start", str(folder / "points.npy"), "--question", question, "--out", str(file)])
    training = f"{{{', '.join(TRAINING)}}}".replace("=", ": ")
    return on_both(file, folder, [f"stages.{model}.config.training={training}"])


def differences(one: Path, other: Path) -> Iterator[str]:
    """Numbers that two run folders do not share, but for those that are measured."""
    states, results = sorted(one.rglob("*.safetensors")), sorted(one.rglob("result.json"))
    for file in states:
        first, second = load_file(file), load_file(other / file.relative_to(one))
        for name in sorted(first.keys() | second.keys()):
            if name not in first or name not in second or not same_bits(first[name], second[name]):
                near = name in first and name in second and _near(first[name], second[name])
                yield f"{CLOSE if near else ''}{file.relative_to(one)}: {name}"
    for file in results:
        first, second = (dict(_leaves(json.loads((each / file.relative_to(one)).read_text()))) for each in (one, other))
        for name in sorted(first.keys() | second.keys()):
            if first.get(name) != second.get(name) and not any(word in name for word in MEASURED):
                near = CLOSE if _near_numbers(first.get(name), second.get(name)) else ""
                yield f"{near}{file.relative_to(one)}: {name}: {first.get(name)} and {second.get(name)}"


CLOSE = "close: "
"""Begins the line of numbers that differ by less than 1 % of their size, or by a millionth each."""


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not torch.equal(one.isnan(), other.isnan()):
        return False
    one, other = one.double().nan_to_num(), other.double().nan_to_num()
    return bool((one - other).norm() <= 0.01 * one.norm() + 1e-6 * math.sqrt(one.numel()))


def _near_numbers(one: Any, other: Any) -> bool:
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    return numbers and math.isclose(one, other, rel_tol=0.01, abs_tol=1e-6)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{name}[{place}]")
    else:
        yield name.removeprefix("."), value


COMPONENTS: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "score:denoising": ("data:sphere", {}),
        "score:flow-matching": ("data:sphere", {}),
        "score:multiscale": (
            "data:digits",
            {"network": {"use": "network:mlp"}, "bands": {"name": "haar", "levels": 1}},
        ),
        "score:nonuniform": ("data:digits", {"network": {"use": "network:mlp"}}),
        "flow:affine-coupling": ("data:sphere", {}),
        "flow:spline-coupling": ("data:sphere", {}),
        "flow:anisotropic": ("data:sphere", {}),
        "autoencoder:vae": (
            "data:digits",
            {"latent": 2, "encoder": {"use": "network:mlp"}, "decoder": {"use": "network:mlp"}},
        ),
    }
)
"""Components that are trained, with their data and settings."""


def components_of(what: str) -> list[str]:
    """Names of components that can be trained, or that give samples in steps."""
    return [name for name in COMPONENTS if what == "training" or name.startswith("score:")]


def _built(name: str) -> tuple[Any, Any]:
    data, config = COMPONENTS[name]
    host = Host.discover()
    source = host.create(data)
    made = host.create(name, config, data=source, generator=derive_generator(0, "weights"), device=NAME)
    return made, source.load("train").to(NAME)


def training_waits(name: str, steps: int) -> dict[tuple[str, str], int]:
    """Lines that wait for the device in a training of so many steps, after one that has prepared the model."""
    model, train = _built(name)
    settings = {"steps": steps, "log_every": 1000, "validate_every": 1000, "batch_size": 16, "checkpoint_every": 1000}
    config = model.training_config.model_copy(update=settings)
    with counted() as counts:
        fit(model, train, config, seed=0)
    assert counts.operators > 20 * steps
    return dict(counts.synchronisations)


def sampling_waits(name: str, steps: int) -> dict[tuple[str, str], int]:
    """Lines that wait for the device while samples are drawn in so many steps."""
    model, _ = _built(name)
    with counted() as counts:
        model.sample(4, steps=steps, generator=derive_generator(0, "samples", device=NAME))
    assert counts.operators > 4 * steps
    return dict(counts.synchronisations)


def sampling_operators(sampler: str) -> tuple[float, float]:
    """Operators that a step of a sampler starts for ``score:denoising``, and for the loop by hand below.

    That is the sampler ``edm``, whose samples it must have; a step of ``heun`` does as much.
    """
    model, _ = _built("score:denoising")
    with torch.no_grad():
        model.network.last.weight.normal_(generator=derive_generator(0, "weights", device=NAME))
    done, found = [], []
    for draw in (model.sample, partial(by_hand, model)):
        few, many = (_operators(draw, steps, sampler, done) for steps in (4, 24))
        found.append((many - few) / 20)
    assert sampler != "edm" or torch.allclose(done[1].cpu(), done[3].cpu(), rtol=1e-4, atol=1e-5)
    return found[0], found[1]


def _operators(draw: Any, steps: int, sampler: str, done: list[torch.Tensor]) -> int:
    with counted() as counts:
        generator = derive_generator(0, "samples", device=NAME)
        done.append(draw(4, steps=steps, sampler=sampler, generator=generator, to_zero=False))
    return counts.operators


def by_hand(model: Any, n: int, *, steps: int, generator: torch.Generator, **_: Any) -> torch.Tensor:
    """The loop of Heun's method as one writes it for this network: numbers of all noise levels first (Karras et al.
    2022), then plain operators. The process has signal 1."""
    times = time_grid(model.process, steps, "karras")
    sigmas = model.process.coefficients(times, times)[1].tolist()
    mean, std = model.event_scale.mean, model.event_scale.std
    x = model.process.sample_prior((n, *model.event_shape), generator=generator, like=model._reference())
    levels = torch.tensor([math.log(sigma) for sigma in sigmas]).to(x)

    def noise(x: torch.Tensor, place: int) -> torch.Tensor:
        variance = sigmas[place] ** 2 + std**2
        centred = x - mean
        answer = model.network(centred / math.sqrt(variance), levels[place].expand(n))
        return sigmas[place] / variance * centred + std / math.sqrt(variance) * answer

    with torch.no_grad():
        for place in range(steps):
            h = sigmas[place + 1] - sigmas[place]
            slope = noise(x, place)
            x = x + h / 2 * (slope + noise(x + h * slope, place + 1))
    return x


def block_waits(blocks: int) -> int:
    """How often ``estimator:iddiff`` waits for the device at so many blocks of points, besides 16 that it shows."""
    score, train = _built("score:denoising")
    config = {"points": 16 + 4 * blocks, "batch": 8 * math.prod(train.event_shape), "levels": 3, "shown": 16}
    estimator = Host.discover().create("estimator:iddiff", config, score=score)
    with counted() as counts:
        estimator.estimate(train, generator=derive_generator(0, "points", device=NAME))
    return counts.waits


def answers(command: Sequence[str], device: str, folder: Path) -> dict[str, Any]:
    """The JSON of a command without measurements and places, for points of a sphere and copies of some."""
    folder.mkdir(parents=True)
    points = Host.discover().create("data:sphere", {"points": 400, "dimension": 2, "ambient": 5}).load("train").x
    files = {"train": points[:200], "held_out": points[200:280], "samples": points[:80]}
    for name, rows in files.items():
        np.save(folder / f"{name}.npy", rows.numpy())
    names = {name: str(folder / f"{name}.npy") for name in files}
    if any("{run}" in word for word in command):
        file = folder / "train.yaml"
        training = {"steps": 5, "batch_size": 16, "validate_every": 5}
        stages = {
            "data": {"use": "data:array", "config": {"path": names["train"]}},
            "score": {"use": "score:denoising", "inputs": {"data": "data"}, "config": {"training": training}},
        }
        file.write_text(json.dumps({"version": 1, "name": "train", "runtime": {"device": device}, "stages": stages}))
        names["run"] = str(run_file(Host.discover(), file, runs=folder / "runs", cache=folder / "cache").folder)
    words = [word.format(**names) for word in command]
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        main([*words, "--device", device, "--json"])
    leaves = dict(_leaves(json.loads(printed.getvalue())))
    return {
        name: value
        for name, value in leaves.items()
        if not any(word in name for word in MEASURED)
        and str(folder) not in str(value)
        and name not in ("run", "report")
    }


def resumed(folder: Path) -> tuple[bytes, bytes, bytes]:
    """Weights of a training on the device, of another that was stopped and went on, and of one on the CPU."""

    class StoppedError(Exception):
        pass

    def stop(step: int, values: Mapping[str, float]) -> None:
        if step > 6:
            raise StoppedError

    def trained(device: str, place: Path | None, metrics: Any = None) -> bytes:
        host = Host.discover()
        source = host.create("data:sphere")
        generator = derive_generator(0, "weights")
        model = host.create("score:denoising", data=source, generator=generator, device=device)
        settings = {"steps": 12, "checkpoint_every": 3, "log_every": 1, "validate_every": 4, "batch_size": 16}
        config = model.training_config.model_copy(update=settings)
        train = source.load("train")
        fit(model, train, config, validation=source.load("validation"), seed=0, checkpoint_dir=place, metrics=metrics)
        return b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())

    whole = trained(NAME, None)
    try:
        trained(NAME, folder, stop)
    except StoppedError:
        return whole, trained(NAME, folder), trained("cpu", None)
    raise AssertionError("the training was not stopped")


def python_differences(folder: Path) -> list[str]:
    """Numbers of the Python functions that differ between the devices."""
    from scorefold_registry import python

    points = (
        Host.discover().create("data:sphere", {"points": 200, "dimension": 2, "ambient": 4}).load("train").x.numpy()
    )
    found = []
    for device in ("cpu", NAME):
        data = python.load_data(points, folder=folder / device, runtime={"device": device}, progress=False)
        training = {"steps": 5, "batch_size": 16}
        score = python.fit("score:denoising", data, config={"training": training}, progress=False)
        drawn = python.sample(score, data, options={"n": 8, "steps": 4}, progress=False)
        likely = python.evaluate(score, data, options={"limit": 4}, progress=False)
        dimension = python.estimate("estimator:flipd", data, score=score, progress=False)
        found.append([stage.run.folder for stage in (drawn, likely, dimension)])
    return [line for pair in zip(*found, strict=True) for line in differences(*pair)]


def gates(plugin: str, device: str) -> dict[str, str]:
    """Verdicts of a plugin's smoke profile on a device."""
    with redirect_stdout(StringIO()) as printed:
        main(["reproduce", plugin, "--profile", "smoke", "--device", device, "--json"])
    return {claim["claim"]: claim["verdict"] for claim in json.loads(printed.getvalue())["claims"]}

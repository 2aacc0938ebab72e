"""Recipes of the page for copying: Python, and a run file if verbs can express it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from scorefold.errors import ConfigError
from scorefold_explore.explored import Explored

HEAD = "# yaml-language-server: $schema=.scorefold/schema.json\nversion: 1\n"


def recipe(explored: Explored, what: str, asked: Mapping[str, Any]) -> dict[str, str | None]:
    """``run_file`` (None where no verb does it) and ``python`` for what a question asked.

    Raises ``ConfigError`` for a question that has none, and for points or models that are not there.
    """
    makers: dict[str, Callable[[Explored, Mapping[str, Any]], tuple[str | None, str]]] = {
        "map": _map,
        "colour": _colour,
        "geodesic": _geodesic,
        "decoded": _decoded,
        "point": _point,
        "spectrum": _spectrum,
        "samples": _samples,
        "more": _more,
    }
    if what not in makers:
        raise ConfigError(f"nothing can be copied of {what!r:.60}; expected one of: {', '.join(makers)}")
    try:
        run_file, python = makers[what](explored, asked)
    except KeyError as error:
        raise ConfigError(f"{what}: {error} is missing") from None
    return {"run_file": run_file, "python": python}


def run_file_text(name: str, stages: Mapping[str, Any]) -> str:
    """A run file, a stage per line: flow mappings with every word that needs them in quotes, as JSON has them."""
    lines = [f"  {_word(stage)}: {_flow(spec)}" for stage, spec in stages.items()]
    return HEAD + f"name: {_word(name)}\nstages:\n" + "\n".join(lines) + "\n"


def _word(text: str) -> str:
    plain = text.isascii() and text.replace("-", "").replace("_", "").isalnum() and not text[0].isdigit()
    return (
        text
        if plain and text.lower() not in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
        else _json(text)
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_word(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _word(value) if isinstance(value, str) and value else _json(value)


def _data(explored: Explored) -> dict[str, Any]:
    """The stage of the data."""
    if explored.data_use is not None:
        return dict(explored.data_use)
    return {"load": str(explored.place / explored.data_stage)}


def _loaded(explored: Explored, stage: str) -> dict[str, Any]:
    if stage not in explored.models:
        raise ConfigError(f"there is no stage {stage!r:.60} with a model here")
    return {"load": str(explored.folder_of(stage))}


def _one(explored: Explored, point: int, name: str = "x", field: str = ".x") -> tuple[str, ...]:
    """Lines of Python that name one point (1, *E): by its row in the data, else by its place among samples."""
    group = explored.group_of(explored.check_point(point))
    own = group.stage == explored.data_stage and group.split is not None
    source = "points.value" if own else f"sf.load({str(explored.folder_of(group.stage))!r}).value"
    split, row = f"{source}.load({(group.split or 'test')!r})", group.row(point)
    if row is None:
        return (f"{name} = {split}.take(torch.tensor([{point - group.start}])){field}",)
    found = row if isinstance(row, int) else f"{source}.rows.index({row!r})"
    return f"part = {split}", f"{name} = part.take(torch.where(part.index == {found})[0]){field}"


def _python(explored: Explored, *lines: str) -> str:
    """Python that begins with the data, as ``points``."""
    if explored.data_use is None:
        first = f"points = sf.load({str(explored.place / explored.data_stage)!r})"
    else:
        use, config = explored.data_use["use"], dict(explored.data_use.get("config", {}))
        place = next((config.pop(key) for key in ("path", "root") if key in config), use)
        given = "".join(f", {key}={value!r}" for key, value in config.items() if key.isidentifier())
        first = f"points = sf.load_data({place!r}{given})"
    return "\n".join(["import torch", "import scorefold as sf", "", first, *lines, ""])


def _map(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    kind, _, model = str(asked["name"]).partition(":")
    columns = {
        "columns": ("x = x / x.std(0)",),
        "robust": ("low, high = x.quantile(torch.tensor([0.25, 0.75]).double(), dim=0)", "x = x / (high - low)"),
    }
    if kind in ("code", "chart"):
        use = {"use": "model", "do": "encode", "inputs": {"data": "data"}}
        stages = {"data": _data(explored), "model": _loaded(explored, model), "map": use}
        call = "encode(x)" if kind == "code" else "forward(x)[0]"
        lines: tuple[str, ...] = (
            f"model = sf.load({str(explored.folder_of(model))!r}).value",
            'x = points.value.load("test").tensor()',
            f"codes = model.{call}.flatten(1)",
        )
        return (run_file_text("map", stages) if kind == "code" else None), _python(explored, *lines)
    lines = (
        'x = points.value.load("train").tensor().flatten(1).double()',
        *columns.get(model, ()),
        "x = x - x.mean(0)",
        "map_of_points = x @ torch.linalg.svd(x, full_matrices=False)[2][:2].T",
    )
    stages = {"data": _data(explored), "pca": {"use": "estimator:pca", "inputs": {"data": "data"}}}
    return run_file_text("map", stages), _python(explored, *lines)


def _colour(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    kind, _, model = str(asked["name"]).partition(":")
    if kind == "dimension":
        use = {"use": "estimator:mle", "inputs": {"data": "data"}, "config": {"n_neighbors": 20}}
        line = 'found = sf.estimate("estimator:mle", points, n_neighbors=20).value.pointwise'
        return run_file_text("dimension", {"data": _data(explored), "dimension": use}), _python(explored, line)
    if kind == "likelihood":
        stages = {
            "data": _data(explored),
            "model": _loaded(explored, model),
            "likelihood": {"use": "model", "do": "evaluate", "inputs": {"data": "data"}},
        }
        lines: tuple[str, ...] = (
            f"model = sf.load({str(explored.folder_of(model))!r}).value",
            'log_likelihood = model.log_prob(points.value.load("test").tensor())',
        )
        return run_file_text("likelihood", stages), _python(explored, *lines)
    if kind == "reconstruction":
        stages = {
            "data": _data(explored),
            "model": _loaded(explored, model),
            "back": {"use": "model", "do": "reconstruct", "inputs": {"data": "data"}},
        }
        lines = (
            f"model = sf.load({str(explored.folder_of(model))!r}).value",
            'x = points.value.load("test").tensor()',
            "error = (model.reconstruct(x, generator=torch.Generator().manual_seed(0)) - x)"
            ".flatten(1).square().mean(1).sqrt()",
        )
        return run_file_text("reconstruction", stages), _python(explored, *lines)
    lines = (
        'test = points.value.load("test")',
        "x = test.tensor().flatten(1)",
        "labels = test.label",
        "distances = torch.cdist(x, x).topk(6, largest=False).values[:, 1:].mean(1)",
    )
    return None, _python(explored, *lines)


def _geodesic(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    start, end, steps = int(asked["start"]), int(asked["end"]), int(asked.get("steps", 20))
    name = str(asked["geometry"])
    groups = [explored.group_of(explored.check_point(one)) for one in (start, end)]
    run_file = None
    rows = [group.row(point) for group, point in zip(groups, (start, end), strict=True)]
    if None in rows and groups[0] is groups[1]:
        rows = [start - groups[0].start, end - groups[0].start]
    if None not in rows and all(group.stage == explored.data_stage and not group.samples for group in groups):
        use = {
            "use": "geometry",
            "do": "interpolate",
            "inputs": {"data": "data"},
            "split": groups[0].split,
            "options": {"between": [rows], "times": steps},
        }
        run_file = run_file_text(
            "between", {"data": _data(explored), "geometry": _loaded(explored, name), "between": use}
        )
    else:
        _loaded(explored, name)
    lines = (
        f"space = sf.load({str(explored.folder_of(name))!r}).value",
        *_one(explored, start, "x"),
        *_one(explored, end, "y"),
        f"curve = space.geodesic(x, y, torch.linspace(0, 1, {steps}))[0]",
        "distance = space.distance(x, y)",
    )
    return run_file, _python(explored, *lines)


def _decoded(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    name, code = str(asked["coder"]), [round(float(one), 6) for one in asked["code"]]
    stages = {
        "data": _data(explored),
        "model": _loaded(explored, name),
        "units": {"use": "model", "do": "traverse", "inputs": {"data": "data"}},
    }
    lines = (
        f"model = sf.load({str(explored.folder_of(name))!r}).value",
        f"code = torch.tensor({code}).reshape(1, *model.latent_shape)",
        f"event = model.decode(code, generator=torch.Generator().manual_seed({int(asked.get('seed', 0))}))",
    )
    return run_file_text("codes", stages), _python(explored, *lines)


def _point(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    point = int(asked["point"])
    lines = (
        *_one(explored, point),
        'others = points.value.load("train").tensor()',
        "distances = torch.cdist(x.flatten(1), others.flatten(1))[0]",
        "nearest = distances.topk(12, largest=False)",
    )
    use = {"use": "estimator:mle", "inputs": {"data": "data"}}
    return run_file_text("dimension", {"data": _data(explored), "dimension": use}), _python(explored, *lines)


def _spectrum(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    name, point = str(asked["score"]), int(asked["point"])
    use = {"use": "estimator:iddiff", "inputs": {"score": "score", "data": "data"}}
    stages = {"data": _data(explored), "score": _loaded(explored, name), "dimension": use}
    lines = (
        f"score = sf.load({str(explored.folder_of(name))!r}).value",
        *_one(explored, point),
        "t = torch.full((1,), (score.process.t_min + score.process.t_max) / 2)",
        "jacobian = torch.func.jacrev(lambda y: score.denoise(y, t))(x)",
        "spectrum = torch.linalg.svdvals(jacobian.reshape(x.numel(), x.numel()))",
    )
    return run_file_text("dimension", stages), _python(explored, *lines)


def _samples(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    name, point, n = str(asked["model"]), int(asked["point"]), int(asked.get("n", 8))
    model = _loaded(explored, name)
    run_file = None
    if explored.models[name].value.condition_spec is not None:
        use = {"use": "model", "do": "sample", "inputs": {"data": "data"}, "options": {"n": n}}
        run_file = run_file_text("samples", {"data": _data(explored), "model": model, "samples": use})
        lines: tuple[str, ...] = (
            f"model = sf.load({str(explored.folder_of(name))!r}).value",
            *_one(explored, point, "given", ""),
            f"samples = model.sample({n}, given.condition, generator=torch.Generator().manual_seed(0))[:, 0]",
            "mean, spread = samples.mean(0), samples.std(0)",
        )
        return run_file, _python(explored, *lines)
    lines = (
        "from scorefold_registry import Host",
        f"score = sf.load({str(explored.folder_of(name))!r}).value",
        'hole = {"operator": {"name": "mask", "region": "centre", "fraction": 0.25}}',
        'model = Host.discover().create("score:repaint", hole, prior=score)',
        *_one(explored, point),
        "# the condition is the image with its hole: what was drawn on the page is",
        "# replaced by a mask of the operator, which a run file can name",
        f"samples = model.sample({n}, x)[:, 0]",
    )
    return run_file, _python(explored, *lines)


def _more(explored: Explored, asked: Mapping[str, Any]) -> tuple[str | None, str]:
    """The run that would add geodesics, a code and likelihoods to bare data."""
    network: dict[str, Any] = {"use": "network:conv-unet", "config": {"channels": [16, 32]}}
    if not explored.image:
        # Windows of a signal have two axes, and a U-Net along time.
        network = {"use": "network:auto" if len(explored.event_shape) == 2 else "network:mlp"}
    stages = {
        "data": _data(explored),
        "flow": {
            "use": "flow:anisotropic",
            "inputs": {"data": "data"},
            "config": {"training": {"steps": 2000}, "isometry_weight": 0.3},
        },
        "geometry": {"use": "geometry:pullback", "inputs": {"flow": "flow", "data": "data"}},
        "code": {"use": "estimator:riemannian-autoencoder", "inputs": {"flow": "flow", "data": "data"}},
        "score": {
            "use": "score:denoising",
            "inputs": {"data": "data"},
            "config": {"network": network, "training": {"steps": 2000}},
        },
        "dimension": {"use": "estimator:iddiff", "inputs": {"score": "score", "data": "data"}},
    }
    lines = (
        'flow = sf.fit("flow:anisotropic", points, training={"steps": 2000}, isometry_weight=0.3)',
        'geometry = sf.do(None, "geometry:pullback", points, flow=flow)',
    )
    return run_file_text("explored", stages), _python(explored, *lines)

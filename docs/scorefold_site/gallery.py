"""The gallery: each run file of ``examples/`` as a card with a figure of its run and what the run answered.

``python -m scorefold_site.gallery [NAME ...]``, with ``docs`` on the path, runs the examples that changed since their
card was made, or those that are named, and writes ``docs/figures/gallery/``. A test compares the cards with the files.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_breast_cancer

from scorefold_models.thousand import ACROSS, EACH, PICTURE, SIDE

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/figures/gallery"
CARDS = FOLDER / "cards.json"
WIDTH, COLOURS = 900, 64

FIGURES = {
    "allocate-labels": "plan/labels-per-task",
    "allocate-pilot": "plan/labels-per-task",
    "audit-digits": "audit/pairs",
    "banana-geodesics": "geometry/geodesics",
    "caflow-digits": "draws-mild/draws",
    "digits-code-geometry": "space/decoded",
    "digits-dimension": "dimension/sigma",
    "digits-dimension-mle": "dimension/estimate",
    "digits-inpainting": "draws/draws",
    "digits-interpolation": "paths/samples",
    "fashion-dimension": "dimension/sigma",
    "fashion-noise-paths": "paths/rows",
    "fashion-samples": "samples/samples",
    "flow-likelihood": "likelihood/log-likelihood",
    "hemisphere-code": "autoencoder/reconstruction",
    "learned-geodesics": "geometry/geodesics",
    "multiscale-patches": "score/samples-at-every-scale",
    "score-geodesics": "geometry/geodesics",
    "scorevae-digits": "code/traversals",
    "spend-labels": "plan/allocation",
    "sphere-dimension": "dimension/sigma",
    "tracked-training": "score/training",
    "your-array": "dimension/sigma",
    "your-images": "data/data",
}
"""Figures of runs for cards: stage and name. An example that is not here has no picture."""

UNTRAINED = ("diffusers-code", "diffusers-samples")
"""Examples that read a pipeline of the user's. They are run with an untrained one, whose answers say nothing."""


def a_table(folder: Path) -> list[str]:
    """569 patients with 30 measurements each, from scikit-learn, in the place of the user's table."""
    np.save(folder / "my-data.npy", load_breast_cancer().data.astype("float32"))
    return ["--set", f"stages.data.config.path={folder}/my-data.npy"]


def images(folder: Path) -> list[str]:
    """500 images of Fashion-MNIST as PNG files, in the place of the user's folder."""
    (folder / "my-images").mkdir()
    picture = Image.open(PICTURE)
    for number in range(EACH):
        x, y = SIDE * (number % ACROSS), SIDE * (number // ACROSS)
        picture.crop((x, y, x + SIDE, y + SIDE)).save(folder / f"my-images/{number}.png")
    return ["--set", f"stages.data.config.root={folder}/my-images"]


def pipeline(stage: str) -> Callable[[Path], list[str]]:
    """A diffusers pipeline, untrained, in the place of the user's."""

    def write(folder: Path) -> list[str]:
        script = ROOT / "examples/diffusers_checkpoint.py"
        subprocess.run([sys.executable, script, "--write", folder / "my-pipeline"], check=True, capture_output=True)
        return ["--set", f"stages.{stage}.config.path={folder}/my-pipeline"]

    return write


OWN = {
    "your-array": a_table,
    "your-images": images,
    "diffusers-samples": pipeline("score"),
    "diffusers-code": pipeline("prior"),
}
"""What stands where an example reads something of the user's: it is written into a folder, and set so."""


def fingerprint(file: Path) -> str:
    """What a run file says, whatever its comments: 12 digits that change with it."""
    said = json.dumps(YAML(typ="safe").load(file), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def cards() -> dict[str, dict[str, Any]]:
    """The cards by the names of their examples: ``fingerprint``, ``answer`` (lines) and ``cpu`` (seconds)."""
    read: dict[str, dict[str, Any]] = json.loads(CARDS.read_text(encoding="utf-8"))
    return read


def make(name: str) -> dict[str, Any]:
    """Runs an example from nothing, writes its figure, and gives its card. Raises ``CalledProcessError`` where the run
    fails."""
    file, before = ROOT / f"examples/{name}.yaml", resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sets = OWN[name](folder) if name in OWN else []
        command = [sys.executable, "-m", "scorefold_registry.cli", "run", str(file), "--quiet", *sets]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        if name in FIGURES:
            picture(name, folder / f"runs/{name}/latest")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer = [
        line for line in done.stdout.splitlines() if line.strip() and not line.startswith(("report:", "next:", " "))
    ]
    return {"fingerprint": fingerprint(file), "answer": answer, "cpu": round(cpu)}


def picture(name: str, run: Path) -> None:
    """Writes the picture of a card from a run. Exits where the run has no such figure."""
    stage, figure = FIGURES[name].split("/")
    drawn = {path.stem: path for path in run.glob(f"{stage}/figures/*.png")}
    if figure not in drawn:
        sys.exit(f"{name}: stage {stage} has no figure {figure}; it has {', '.join(sorted(drawn)) or 'none'}")
    shrink(drawn[figure], FOLDER / f"{name}.png")


def shrink(figure: Path, out: Path) -> None:
    """Writes a figure as wide as a card, in few colours."""
    image = Image.open(figure).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    out.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(COLOURS).save(out, optimize=True)


def main(names: list[str]) -> None:
    """Makes the cards that are named, or all that are old; each is written as soon as it is made."""
    known = cards() if CARDS.exists() else {}
    for file in sorted((ROOT / "examples").glob("*.yaml")):
        if file.stem in names or (not names and known.get(file.stem, {}).get("fingerprint") != fingerprint(file)):
            print(file.stem, flush=True)
            known[file.stem] = make(file.stem)
            CARDS.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

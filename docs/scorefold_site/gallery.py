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
WIDTH, COLOURS, MOST_BYTES = 900, (64, 32, 16), 150_000

FIGURES = {
    "allocate-labels": "plan/labels-per-task",
    "allocate-pilot": "plan/labels-per-task",
    "audit-garments": "audit/pairs",
    "banana-geodesics": "geometry/geodesics",
    "fashion-code": "between/rows",
    "fashion-code-geometry": "space/geodesics",
    "digits-dimension": "dimension/sigma",
    "digits-dimension-mle": "dimension/estimate",
    "fashion-dimension": "at-most/by-label",
    "fashion-geodesics": "paths/samples",
    "fashion-inpainting": "draws/draws",
    "fashion-noise-paths": "paths/rows",
    "fashion-samples": "samples/samples",
    "fashion-super-resolution": "draws/draws",
    "flow-likelihood": "likelihood/log-likelihood",
    "hemisphere-code": "autoencoder/reconstruction",
    "learned-geodesics": "geometry/geodesics",
    "fashion-multiscale": "score/samples-at-every-scale",
    "score-geodesics": "geometry/geodesics",
    "spend-labels": "plan/allocation",
    "signal-gaps": "filled/draws",
    "sphere-dimension": "dimension/sigma",
    "tracked-training": "dimension/sigma",
    "your-array": "dimension/sigma",
    "your-images": "data/data",
}
"""Figures of runs for cards: stage and name."""

NO_CARD = ("diffusers-code", "diffusers-samples", "digits-inpainting")
"""Examples that the gallery lists without a card: they read a pipeline of the user's, or their images are too small."""


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


OWN = {"your-array": a_table, "your-images": images}
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
    """Writes a figure as wide as a card, in so few colours that it is small."""
    image = Image.open(figure).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    out.parent.mkdir(parents=True, exist_ok=True)
    for colours in COLOURS:
        image.quantize(colours).save(out, optimize=True)
        if out.stat().st_size <= MOST_BYTES:
            return


def main(names: list[str]) -> None:
    """Makes the cards that are named, or all that are old; each is written as soon as it is made."""
    known = {name: card for name, card in (cards() if CARDS.exists() else {}).items() if name in FIGURES}
    for file in sorted((ROOT / "examples").glob("*.yaml")):
        if file.stem in NO_CARD:
            continue
        if file.stem in names or (not names and known.get(file.stem, {}).get("fingerprint") != fingerprint(file)):
            print(file.stem, flush=True)
            known[file.stem] = make(file.stem)
            CARDS.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The claims by name: what ``scorefold reproduce caflow`` measures, and what each is held to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scorefold.plugin import Claim

_ALL = ("smoke", "quick", "full")
_TRAINED = ("quick", "full")
_CLOSED = "closed form"
_PAPER = "Batzolis et al. 2021: CAFLOW is said to beat earlier conditional flows; its tables are not at hand"
_BITS = "bits/dim"
_ERROR = 0.000638  # of the true density's mean cost over 40,000 pairs of 8 x 8 images, 1 / (ln 2 sqrt(2 D N))
_WITHOUT = 1.3677
_BOUNDS = {"8x8": (0.7498, 0.7498, 0.7948, _WITHOUT), "16x16": (0.9438, 0.9438, 1.0183, 1.1573)}
_OUT = ("min", 0.0)
"""Of reports: numbers of tables are 0 or more; a baseline's cost less CAFLOW's is where CAFLOW wins."""
_HELPS = ("max", 0.0)
"""Of a change of CAFLOW: its cost less CAFLOW's is below 0 where it helps."""
_TASKS = ("super-resolution", "inpainting", "colourisation")
_MOST = {"super-resolution": 3.2, "inpainting": 3.1, "colourisation": 3.0}
"""The most bits a dimension that a trained CAFLOW may cost on each task."""
_BOUND = "no density costs less than the true one, or than the best of its factorisation, trained or not"
_NAMES = {"caflow": "CAFLOW", "dual-glow": "Dual-Glow", "cinn": "the cINN"}


def caflow_claims() -> Iterable[Claim]:
    yield from _exact()
    yield from _bounds()
    yield from _factorisation()
    yield from _tables()
    yield from _search()
    yield from _draws()


def _exact() -> Iterable[Claim]:
    here = "scorefold_caflow.claims.exact"
    for model, name in _NAMES.items():
        yield Claim(
            name=f"start-{model}",
            statement=f"{name} starts without a use of its condition: log p(w | y) is that given another condition",
            source=_CLOSED,
            target=f"{here}:start",
            reference=0.0,
            unit="nats",
            options={"model": model},
        )
    yield Claim(
        name="uniform-levels",
        statement="Images of pixels uniform over 16 levels cost a trained CAFLOW hardly more than their entropy",
        source="log2 16 = 4, and dequantisation only adds to it (Theis et al. 2016)",
        target=f"{here}:uniform_cost",
        reference=4.0,
        tolerance=("range", (3.998, 4.05)),
        unit=_BITS,
        structural="uniform levels are what the start gives, and no density costs less: the lower bound is the claim",
    )
    yield Claim(
        name="whole-mass",
        statement="The integral of its density over the box of all images, and the share of its draws outside: 1",
        source=_CLOSED,
        target=f"{here}:whole_mass",
        reference=1.0,
        tolerance=("abs", 0.02),
        unit="probability",
        structural="every flow has the mass 1: that the code's density has it after training is the claim",
    )


def _bounds() -> Iterable[Claim]:
    words = ("no restriction", "CAFLOW's factorisation", "Dual-Glow's factorisation", "no condition")
    for case, values in _BOUNDS.items():
        for which, value, what in zip(("true", "caflow", "dual_glow", "unconditional"), values, words, strict=True):
            yield Claim(
                name=f"bound-{case}-{which}".replace("_", "-"),
                statement=f"Gaussian images {case}, Haar encoders: the least cost with {what}",
                source=_CLOSED,
                target="scorefold_caflow.claims.factorisation:bound",
                reference=value,
                tolerance=("abs", 5.1e-5),
                unit=_BITS,
                options={"case": case, "which": which},
            )


def _factorisation() -> Iterable[Claim]:
    true, caflow, dual_glow, _ = _BOUNDS["8x8"]
    about = "Gaussian images 8x8, Haar encoders, 40,000 fresh pairs"
    for name, function, tolerance, reference, statement, options in (
        ("caflow", "cost", ("max", 0.785), caflow, "a trained CAFLOW, below Dual-Glow's bound", {"model": "caflow"}),
        (
            "caflow-floor",
            "cost",
            ("min", true - 3 * _ERROR),
            true,
            "and not below the true density, but for 3 standard errors",
            {"model": "caflow"},
        ),
        (
            "dual-glow",
            "cost",
            ("min", dual_glow - 3 * _ERROR),
            dual_glow,
            "a trained Dual-Glow, not below its own bound but for 3 standard errors",
            {"model": "dual-glow"},
        ),
        ("order", "gap", ("min", 0.0), dual_glow - caflow, "Dual-Glow's cost less CAFLOW's on the same pairs", {}),
        (
            "conditional",
            "below_unconditional",
            ("min", 0.4),
            _WITHOUT - dual_glow,
            "how far Dual-Glow is below the least cost without the condition",
            {},
        ),
        ("parameters", "parameters", ("range", (0.98, 1.02)), None, "Dual-Glow's parameters over CAFLOW's", {}),
    ):
        yield Claim(
            name=f"factorisation-{name}",
            statement=f"{about}: {statement}",
            source=_CLOSED,
            target=f"scorefold_caflow.claims.factorisation:{function}",
            reference=reference,
            tolerance=tolerance,
            unit="ratio" if function == "parameters" else _BITS,
            options={"case": "8x8", **options},
            structural=_BOUND if tolerance[0] == "min" and function == "cost" else "",
        )
    true, caflow, dual_glow, _ = _BOUNDS["16x16"]
    for model, value in (("caflow", caflow), ("caflow-shared", caflow), ("dual-glow", dual_glow)):
        yield _report(
            f"factorisation-16x16-{model}",
            f"Gaussian images 16x16, three scales, few steps: cost of a trained {model}, its bound beside",
            "scorefold_caflow.claims.factorisation:cost",
            _BITS,
            source=_CLOSED,
            reference=value,
            case="16x16",
            model=model,
        )


def _tables() -> Iterable[Claim]:
    """End to end on three tasks: what CAFLOW costs is a gate, all else is reported."""
    units = {
        "bits": _BITS,
        "shuffled": _BITS,
        "psnr": "dB",
        "consistency": "dB",
        "diversity": "of 255",
        "hidden bits": "bits a hidden dim",
        "hidden psnr": "dB",
    }
    words = {
        "bits": "conditional cost",
        "shuffled": "the cost given another image's condition",
        "psnr": "PSNR of a draw",
        "consistency": "consistency of a draw",
        "diversity": "diversity of draws",
        "hidden bits": "cost over the hidden pixels alone, that of the known ones counted in",
        "hidden psnr": "PSNR of a draw's hidden pixels",
    }
    for task in _TASKS:
        for measure, unit in units.items():
            if measure.startswith("hidden") and task != "inpainting":
                continue
            for model in _NAMES:
                gate = measure == "bits" and model == "caflow"
                yield _task(
                    f"{task}-{model}-{measure}",
                    f"{words[measure]}, {_NAMES[model]}",
                    unit,
                    "row",
                    task,
                    tolerance=("max", _MOST[task]) if gate else _OUT,
                    role="gate" if gate else "report",
                    model=model,
                    measure=measure,
                )
        for model in ("dual-glow", "cinn"):
            name = _NAMES[model]
            yield from _against(task, model, "caflow", f"cost of {name} less CAFLOW's")
            yield _task(
                f"{task}-{model}-seconds",
                f"CPU time of training {name} over CAFLOW's",
                "ratio",
                "relative",
                task,
                model=model,
                measure="seconds",
            )
            yield _equal_size(f"{task}-{model}-parameters", f"parameters of {name} over CAFLOW's", task, model)


def _search() -> Iterable[Claim]:
    """What is changed of CAFLOW, in the search for what makes it win end to end: each change beside the baselines,
    which are given it too where it suits them."""
    for task in _TASKS:
        yield from _against(
            task, "caflow-haar", "caflow", "CAFLOW with Haar bands for squeezes: cost less CAFLOW's", _HELPS
        )
        for model in ("dual-glow", "cinn"):
            words = f"cost of {_NAMES[model]} less CAFLOW's, both with Haar bands for squeezes"
            yield from _against(task, f"{model}-haar", "caflow-haar", words)
            yield _equal_size(
                f"{task}-{model}-haar-parameters",
                f"parameters of {_NAMES[model]} with Haar bands over CAFLOW's",
                task,
                f"{model}-haar",
            )
        for model in _NAMES:
            words = f"conditional cost, {_NAMES[model]} with Haar bands for squeezes"
            yield _task(f"{task}-{model}-haar-bits", words, _BITS, "row", task, model=f"{model}-haar", measure="bits")
    for model, words in (
        ("no-lambda", "CAFLOW with lambda 0 instead of 0.001"),
        ("more-lambda", "CAFLOW with lambda 0.01 instead of 0.001"),
        ("adapter", "CAFLOW with one convolution to 32 channels shared over conditions"),
        ("narrow-encoder", "CAFLOW with narrower encoders, wider conditional networks"),
        ("staged", "CAFLOW, its encoders first by their own likelihoods, then the rest, then all"),
    ):
        yield from _against("inpainting", model, "caflow", f"{words}: cost less CAFLOW's", _HELPS)
        yield _equal_size(f"inpainting-{model}-parameters", f"{words}: parameters over CAFLOW's", "inpainting", model)
    yield from _against("inpainting", "dual-glow-staged", "staged", "cost of Dual-Glow less CAFLOW's, both staged")
    yield from _against("inpainting", "cinn", "staged", "cost of the cINN less that of CAFLOW in stages")


def _against(task: str, model: str, other: str, words: str, tolerance: tuple[str, float] = _OUT) -> Iterable[Claim]:
    """A model's cost less another's, and its standard error."""
    for function, end, what in (("above", "", ""), ("above_error", "-error", ": its standard error")):
        yield _task(
            f"{task}-{model}-less-{other}{end}",
            f"{words}{what}, paired by seed",
            _BITS,
            function,
            task,
            tolerance=tolerance if function == "above" else _OUT,
            model=model,
            other=other,
        )


def _draws() -> Iterable[Claim]:
    here = "scorefold_caflow.claims.tasks"
    yield Claim(
        name="no-draw-explodes",
        statement="Of 10,000 draws at temperature 1 from a CAFLOW trained on photographs, those that are not finite",
        source="issues of SRFlow and commits of the authors tell of inverses that explode",
        target=f"{here}:not_finite",
        reference=0.0,
        unit="draws",
        profiles=_TRAINED,
        structural="the start is near the identity and explodes nowhere: that training keeps it so is the claim",
        options={"task": "super-resolution"},
    )
    yield _report(
        "draws-outside",
        "The share of these draws' pixels outside the data's range",
        f"{here}:outside",
        "share",
        task="super-resolution",
    )
    yield Claim(
        name="one-encoding",
        statement="Ten draws for each of seven conditions encode each condition once",
        source="counted",
        target=f"{here}:encodings",
        reference=1.0,
        unit="encodings a condition",
        options={"task": "super-resolution"},
    )


def _task(
    name: str,
    words: str,
    unit: str,
    function: str,
    task: str,
    *,
    tolerance: tuple[str, float] = _OUT,
    role: str = "report",
    **options: Any,
) -> Claim:
    return _report(
        name.replace(" ", "-"),
        f"{task.capitalize()}, equal parameters and CPU time: {words}",
        f"scorefold_caflow.claims.tasks:{function}",
        unit,
        tolerance=tolerance,
        role=role,
        task=task,
        **options,
    )


def _report(
    name: str,
    statement: str,
    target: str,
    unit: str,
    *,
    source: str = _PAPER,
    reference: float | None = None,
    tolerance: tuple[str, float] = _OUT,
    role: str = "report",
    **options: Any,
) -> Claim:
    """A claim that prints what comes out, whatever it is, unless its ``role`` is that of a gate."""
    return Claim(
        name=name,
        statement=statement,
        source=source,
        target=target,
        role=role,
        reference=reference,
        tolerance=tolerance,
        unit=unit,
        profiles=_TRAINED,
        options=options,
    )


def _equal_size(name: str, words: str, task: str, model: str) -> Claim:
    options: dict[str, Any] = {"task": task, "model": model}
    return Claim(
        name=name,
        statement=f"{task.capitalize()}: {words}",
        source="as many to 2 % is what is compared",
        target="scorefold_caflow.claims.tasks:parameters",
        reference=1.0,
        tolerance=("abs", 0.02),
        unit="ratio",
        profiles=_TRAINED,
        options=options,
    )

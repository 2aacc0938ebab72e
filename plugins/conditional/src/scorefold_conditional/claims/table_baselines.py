"""The claims on the baselines by name: what they draw for the problems that conditional scores are trained on."""

from __future__ import annotations

from collections.abc import Iterable

from scorefold.plugin import Claim

_UNITS = {"psnr": "dB", "consistency": "dB", "hidden": "dB", "diversity": "of 255"}
_METHODS = ("dps", "pigdm", "repaint")


def baseline_claims() -> Iterable[Claim]:
    for task in ("inpainting", "super-resolution"):
        for method in _METHODS:
            for measure, unit in _UNITS.items():
                # RePaint puts the known pixels in, so that its consistency has no finite number.
                if (measure, task) == ("hidden", "super-resolution") or (
                    (measure, task, method) == ("consistency", "inpainting", "repaint")
                ):
                    continue
                yield Claim(
                    name=f"{task}-{method}-{measure}",
                    statement=f"{task} of digits of 8 x 8 pixels by {method} on an unconditional prior: {measure}",
                    source="ours: beside the conditional scores of the same task, which are not told the hole",
                    target="scorefold_conditional.claims.baselines:row",
                    role="report",
                    tolerance=("min", 0.0),
                    profiles=("quick", "full"),
                    unit=unit,
                    options={"task": task, "method": method, "measure": measure},
                )

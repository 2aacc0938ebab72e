"""Small wrong changes to formulas, one at a time: the tests must notice each of them.

    python tests/mutations.py [--only TEXT] [--json]

Not part of ``make test``: it takes about an hour. Every change is made in a copy of the last commit, and the
tests beside it are run there until the first that fails; first they are run once without any change, and must pass.
Progress goes to standard error, the answer to standard output. Exit status 1 where a change goes unnoticed, where the
tests fail without one, or where a line that is to be changed is not there once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE, TOOLKIT = "core/src/scorefold/", "toolkit/src/scorefold_toolkit/"
RECTIFIED = TOOLKIT + "score_matching/rectified.py"
CALIBRATION, SURROGATES = "test_calibration_forms.py", "test_surrogate_forms.py"
COPYING, AUDITS, VERBS = "test_copying_forms.py", "test_audit_forms.py", "test_verb_forms.py"


@dataclass(frozen=True)
class Mutation:
    """``old``, which stands once in ``file``, becomes ``new``; ``tests`` are files or folders of the repository."""

    file: str
    old: str
    new: str
    tests: str

    @property
    def name(self) -> str:
        return f"{self.file.rpartition('/')[2]}: {self.old} -> {self.new}"


def plugin(name: str, file: str, old: str, new: str, tests: str = "") -> Mutation:
    """A change in a plugin, with its own tests or one file of them."""
    return Mutation(
        f"plugins/{name}/src/scorefold_{name}/{file}", old, new, f"plugins/{name}/tests/{tests}".rstrip("/")
    )


MUTATIONS = (
    # Diffusion: rates, kernels, samplers, likelihood.
    Mutation(
        CORE + "diffusion/schedules.py",
        "scale * (2 * self.log_ratio) ** 0.5",
        "scale * self.log_ratio ** 0.5",
        "core/tests",
    ),
    Mutation(
        CORE + "diffusion/schedules.py", "return -beta / 2, beta.sqrt()", "return -beta, beta.sqrt()", "core/tests"
    ),
    Mutation(
        CORE + "diffusion/schedules.py",
        "return -noise_rate / 2, noise_rate.sqrt()",
        "return -noise_rate / 2, noise_rate",
        "core/tests",
    ),
    Mutation(CORE + "diffusion/samplers.py", "x = x + 2 * snr * (snr", "x = x + snr * (snr", "core/tests"),
    Mutation(
        CORE + "diffusion/samplers.py",
        "x = moved + gain / 2 * (noise + noise_next)",
        "x = moved + gain * noise_next",
        "core/tests",
    ),
    Mutation(
        CORE + "diffusion/samplers.py",
        "_extrapolation(length, state.length) * (denoised - state.denoised)",
        "_extrapolation(length, state.length) / 2 * (denoised - state.denoised)",
        "core/tests",
    ),
    Mutation(
        CORE + "diffusion/likelihood.py",
        "square(process.dispersion(x, t), score(x, t)) / 2",
        "square(process.dispersion(x, t), score(x, t))",
        "core/tests",
    ),
    Mutation(
        CORE + "diffusion/processes.py",
        "log_det = scale.log().expand(x.shape[1:]).sum()",
        "log_det = 2 * scale.log().expand(x.shape[1:]).sum()",
        "core/tests",
    ),
    Mutation(
        CORE + "diffusion/processes.py",
        "self.prior_mean = float(signal) * mean",
        "self.prior_mean = mean",
        "core/tests",
    ),
    # The toolkit: losses, metrics, layers.
    Mutation(TOOLKIT + "score_matching/losses.py", "return (1 + ratio) ** 2", "return (1 + ratio)", "toolkit/tests"),
    Mutation(
        TOOLKIT + "score_matching/losses.py",
        "return (gamma * square).clamp(max=1)",
        "return (gamma * square).clamp(min=1)",
        "toolkit/tests",
    ),
    Mutation(
        TOOLKIT + "score_matching/noise_levels.py",
        "return losses * (-v).exp() + v",
        "return losses * (-v).exp() + 2 * v",
        "toolkit/tests",
    ),
    Mutation(
        TOOLKIT + "score_matching/noise_levels.py",
        "whole = u.cosh().reciprocal() / math.pi",
        "whole = u.cosh().reciprocal() / 2",
        "toolkit/tests",
    ),
    Mutation(
        TOOLKIT + "metrics/distances.py",
        "covariance_y.trace() - 2 * cross",
        "covariance_y.trace() - cross",
        "toolkit/tests",
    ),
    Mutation(TOOLKIT + "metrics/distances.py", "(n * (n - 1))", "(n * n)", "toolkit/tests"),
    Mutation(
        TOOLKIT + "metrics/images.py",
        "c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2",
        "c1, c2 = (0.01 * data_range) ** 2, (0.01 * data_range) ** 2",
        "toolkit/tests",
    ),
    Mutation(
        TOOLKIT + "nn/splines.py",
        "curvature = slope_left + slope_right - 2 * mean_slope",
        "curvature = slope_left + slope_right - mean_slope",
        "toolkit/tests",
    ),
    Mutation(
        TOOLKIT + "nn/coupling.py",
        "return (moved - shift) * log_slope.exp(), log_slope",
        "return moved * log_slope.exp() - shift, log_slope",
        "toolkit/tests",
    ),
    Mutation(
        TOOLKIT + "metrics/neighbours.py",
        "float(inside.sum(1).double().mean()) / density_neighbours",
        "float(inside.sum(1).double().mean())",
        "plugins/verbs/tests/test_neighbours.py",
    ),
    Mutation(
        TOOLKIT + "metrics/calibration.py",
        "reference = low + (high - low)",
        "reference = high - low",
        "toolkit/tests/test_metrics_posterior.py",
    ),
    Mutation(
        TOOLKIT + "metrics/calibration.py",
        "_MOVED * scale * (shown @ towards)",
        "_MOVED * (shown @ towards)",
        "toolkit/tests/test_metrics_posterior.py",
    ),
    Mutation(
        TOOLKIT + "metrics/calibration.py",
        "(8 * (j * scaled) ** 2 - 2)",
        "(4 * (j * scaled) ** 2 - 1)",
        "toolkit/tests/test_metrics_posterior.py",
    ),
    Mutation(
        TOOLKIT + "metrics/calibration.py",
        "0.155 + 0.24 / count.sqrt()",
        "0.155",
        "toolkit/tests/test_metric_forms.py",
    ),
    Mutation(
        CORE + "data_summary.py",
        "_QUARTILES_OF_NORMAL = 1.349",
        "_QUARTILES_OF_NORMAL = 1.0",
        "core/tests/test_data_summary_forms.py",
    ),
    # Verbs.
    plugin("verbs", "outliers.py", "math.log(options.others)", "math.log(1 + options.others)"),
    plugin("verbs", "trainings.py", "stdev(values) / math.sqrt(len(values))", "stdev(values)"),
    plugin("verbs", "posterior.py", "- 0.5).square().mean(0)", "- 0.5).mean(0).square()", "test_posterior.py"),
    plugin("verbs", "posterior.py", "asked = ((asked - mean) / std)", "asked = (asked - mean)", "test_posterior.py"),
    plugin("verbs", "posterior.py", "values.index(min(values))", "values.index(max(values))", "test_posterior.py"),
    plugin(
        "verbs",
        "measures.py",
        "error = float(inside.std()) / math.sqrt(len(inside))",
        "error = 2 * float(inside.std()) / math.sqrt(len(inside))",
        "test_assess.py",
    ),
    plugin("verbs", "readings.py", "1.96 * float(near.std(correction=0))", "float(near.std(correction=0))", VERBS),
    plugin("verbs", "measures.py", "abs(share - level) > 3 * error", "abs(share - level) > 2 * error", VERBS),
    plugin(
        "verbs", "posterior.py", "value > max(self.config.warns_below, least)", "value > self.config.warns_below", VERBS
    ),
    # Intrinsic dimension.
    plugin(
        "iddiff",
        "local/readings.py",
        "self.ambient * (1 - moments.share_sum / moments.square_sum)",
        "self.ambient * moments.share_sum / moments.square_sum",
    ),
    plugin(
        "iddiff",
        "local/resampling.py",
        "drawn = values[:, None] - (drawn - whole)",
        "drawn = values[:, None] + (drawn - whole)",
    ),
    plugin(
        "iddiff",
        "estimators/lidl.py",
        "replace(data, x=data.x + self.level * noise)",
        "replace(data, x=data.x + self.level**2 * noise)",
    ),
    plugin("iddiff", "estimators/denoising_loss.py", "float(values.std()) / len(values) ** 0.5", "float(values.std())"),
    # The calibrated estimator of dimension.
    plugin("neighbours", "calibrated/calibration.py", "others[place] = 0", "others[place] *= 1", CALIBRATION),
    plugin("neighbours", "calibrated/calibration.py", "max(SURE, error)", "error", CALIBRATION),
    plugin("neighbours", "calibrated/calibration.py", "RIDGE * np.eye(z.shape[1])", "0.0", CALIBRATION),
    plugin(
        "neighbours", "calibrated/calibration.py", "1 / counts[place]", "counts[place] / counts[place]", CALIBRATION
    ),
    plugin("neighbours", "calibrated/answer.py", "t.ppf((1 + config.level) / 2,", "t.ppf(config.level,", CALIBRATION),
    plugin(
        "neighbours",
        "calibrated/answer.py",
        "float(weights.sum() ** 2 / (weights**2).sum())",
        "float(len(weights))",
        CALIBRATION,
    ),
    plugin("neighbours", "calibrated/facts.py", ".mean()) ** -1", ".mean())", SURROGATES),
    plugin(
        "neighbours", "calibrated/facts.py", "(1 - (rank / count) ** 0.5) ** 2", "(1 - rank / count) ** 2", SURROGATES
    ),
    plugin("neighbours", "calibrated/looks.py", "/ (n * (n - 1)) + 1 / n**2", "/ n**2 + 1 / n**2", SURROGATES),
    plugin("neighbours", "calibrated/surrogates.py", "/ (1 + recipe.shape)", "* (1 + recipe.shape)", SURROGATES),
    plugin(
        "neighbours", "calibrated/surrogates.py", "lengths * math.sqrt(k + 1)", "lengths * math.sqrt(k)", SURROGATES
    ),
    plugin(
        "neighbours", "calibrated/recipes.py", "RESOLVED * math.sqrt(dimension)", "RESOLVED * dimension", SURROGATES
    ),
    # Pullback geometry.
    plugin(
        "pullback", "geometry/arc.py", "off = k / (4 * k.square() - 1).sqrt()", "off = k / (4 * k.square() + 1).sqrt()"
    ),
    plugin(
        "pullback",
        "potentials/convex.py",
        "log_cosh = torch.logaddexp(flat, -flat) - math.log(2)",
        "log_cosh = torch.logaddexp(flat, -flat)",
    ),
    plugin("pullback", "flows/objective.py", "log_det.abs().mean() if kind", "log_det.mean() if kind"),
    plugin("pullback", "flows/objective.py", "(gram - unit).square()", "gram.square()"),
    plugin(
        "pullback",
        "geometry/pullback.py",
        "return self.straight.inverse(w + step)",
        "return self.straight.inverse(w + 2 * step)",
    ),
    # Non-uniform diffusion.
    plugin("nonuniform", "bands/speeds.py", "offset = 2 * math.log(deviation", "offset = math.log(deviation"),
    plugin(
        "nonuniform",
        "bands/speeds.py",
        "return torch.log1p(lam.exp() * energy).sum(-1) / 2",
        "return torch.log1p(lam.exp() * energy).sum(-1)",
    ),
    plugin(
        "nonuniform",
        "bands/moments.py",
        "torch.bincount(index, minlength=len(bands)).to(z)).sqrt()",
        "torch.bincount(index, minlength=len(bands)).to(z))",
    ),
    plugin("nonuniform", "bands/transforms.py", "matrix[0] /= math.sqrt(2)", "matrix[0] /= 2"),
    # Conditional scores and inverse problems.
    plugin(
        "conditional",
        "conditional/model.py",
        "return guidance * given + (1 - guidance) * absent(x, t)",
        "return guidance * given + absent(x, t)",
    ),
    plugin(
        "conditional",
        "conditional/objective.py",
        "(block.schedule.rates(t)[1] / scale) ** 2 / 2",
        "(block.schedule.rates(t)[1] / scale) ** 2",
    ),
    plugin(
        "conditional",
        "baselines/dps.py",
        "variance = data * scale**2 / (signal**2 * data + scale**2)",
        "variance = data * scale**2 / (data + scale**2)",
    ),
    plugin(
        "conditional",
        "baselines/repaint.py",
        "x = x + known_part(operator, self.process.perturb(known, t, noise) - x)",
        "x = x + known_part(operator, known - x)",
    ),
    plugin("conditional", "conditional/speeds.py", "beta = -2 * drift", "beta = -drift"),
    # Auto-encoders from scores.
    plugin("scorevae", "scorevae/model.py", "data + beta * kl", "data + kl"),
    plugin(
        "scorevae",
        "coding/encoder.py",
        "by_log_variance = (z - mean) * deviation / 2",
        "by_log_variance = (z - mean) * deviation",
    ),
    plugin("scorevae", "coding/objective.py", "return log_snr_range(process) * square", "return square"),
    plugin("scorevae", "coding/waterfilling.py", "values = ratio / (1 + ratio) ** 2", "values = ratio / (1 + ratio)"),
    plugin("scorevae", "vae.py", "(2 * math.pi * variance).log() / 2", "(2 * math.pi * variance).log()"),
    plugin(
        "scorevae",
        "vae.py",
        "return draw_normal((n, *self.latent_shape)",
        "return self.residual_std * draw_normal((n, *self.latent_shape)",
        "test_vae.py",
    ),
    # Conditional flows.
    plugin("caflow", "layers/mixing.py", "* (x.shape[2] * x.shape[3])", "* x.shape[2]"),
    plugin(
        "caflow",
        "layers/mixture.py",
        "target = (moved - shift) * (-log_scale).exp()",
        "target = moved * (-log_scale).exp() - shift",
    ),
    plugin(
        "caflow",
        "flow/dequantisation.py",
        "self.base.log_prob(noise) - log_det - _log_slope(raw)",
        "self.base.log_prob(noise) - log_det + _log_slope(raw)",
    ),
    # Allocation of labels.
    plugin("allocation", "theory/moments.py", "s2 = (n + p + 1) / n", "s2 = (n + p) / n"),
    plugin("allocation", "theory/formula.py", "((query + 1) * g.g1 + p * g.g2)", "(query * g.g1 + p * g.g2)"),
    plugin("allocation", "theory/asymptotics.py", "H = (1 - a) ** 2 + a**2 * y", "H = (1 - a) ** 2 + a * y"),
    plugin("allocation", "theory/linear_model.py", "step = rate / len(X)", "step = rate"),
    # Audits of samples.
    plugin(
        "audit", "copying/statistics.py", "rest = 1 - self.held_out_rate\n        return", "rest = 1.0\n        return"
    ),
    plugin("audit", "copying/statistics.py", "high_h - self.held_out_rate)", "self.held_out_rate - low_h)"),
    plugin("audit", "copying/statistics.py", "rate + share * (1 - rate)", "rate + share"),
    plugin(
        "audit", "copying/statistics.py", "math.sqrt(h * m * (h + m + 1) / 12)", "math.sqrt(h * m * (h + m + 1) / 6)"
    ),
    plugin("audit", "copying/statistics.py", "(float((weights**2).sum()) - 1 / every)", "float((weights**2).sum())"),
    plugin(
        "audit", "copying/statistics.py", "return (1 + below) / (len(held_out) + 1)", "return below / len(held_out)"
    ),
    plugin("audit", "copying/nearest.py", "return math.log(2) / -math.log(median)", "return 1 / -math.log(median)"),
    plugin("audit", "copying/nearest.py", "-math.log2(1 - BY_CHANCE)", "-math.log(1 - BY_CHANCE)"),
    plugin("audit", "membership/losses.py", "> -2 * math.log(noise)", "> -math.log(noise)"),
    plugin("audit", "quality/comparison.py", "(1 + low) / count, (1 + high) / count", "low / count, high / count"),
    plugin("audit", "quality/comparison.py", "- 2 * cross / (m * h)", "- cross / (m * h)"),
    plugin("audit", "quality/diversity.py", "/ (2 * width**2)", "/ width**2"),
    plugin("audit", "copying/likelihood.py", "dimension * (variances + math", "(variances + math"),
    plugin("audit", "membership/dimension.py", "x[0].numel() + trace", "trace"),
    plugin("audit", "unusual/judging.py", "2 * np.minimum(likelihood", "np.minimum(likelihood"),
    plugin("audit", "unusual/judging.py", ">= apart).sum()", ">= apart / 2).sum()", "test_values.py"),
    plugin(
        "audit", "copying/nearest.py", "BY_CHANCE)) ** (1 / dimension)", "BY_CHANCE)) ** dimension", "test_exact.py"
    ),
    plugin("audit", "copying/statistics.py", "2 * area**2 / (1 + area)", "area**2 / (1 + area)", COPYING),
    plugin("audit", "copying/statistics.py", "1.96 * math.sqrt(max(variance", "math.sqrt(max(variance", COPYING),
    plugin("audit", "copying/statistics.py", "len(y) / len(held_out) * z_of(q, y)", "z_of(q, y)", COPYING),
    plugin("audit", "copying/spaces.py", "(self.duplicates + 1) // 2", "self.duplicates", COPYING),
    plugin(
        "audit",
        "quality/comparison.py",
        "np.polyfit(1 / sizes, values, 1)[1]",
        "np.polyfit(1 / sizes, values, 1)[0]",
        AUDITS,
    ),
    plugin("audit", "membership/measures.py", "max(dimension, 1.0) ** 0.5", "max(dimension, 1.0)", AUDITS),
    plugin("audit", "membership/measures.py", "_LOW) - _MARGIN", "_LOW)", AUDITS),
    plugin("audit", "membership/attacks.py", ".double().pow(4).sum(1)", ".double().pow(2).sum(1)", AUDITS),
    plugin("audit", "verdicts.py", "gap.interval[0]) / (2 * 1.96)", "gap.interval[0]) / 1.96", AUDITS),
    plugin("audit", "verdicts.py", "finding.detectable(level / len(findings))", "finding.detectable(level)", AUDITS),
    # Flow matching.
    Mutation(RECTIFIED, "(2 * t / (1 - t)).sqrt()", "(t / (1 - t)).sqrt()", "plugins/flowmatching/tests"),
    Mutation(RECTIFIED, "-2 * (torch.logit(self.held(t))", "-(torch.logit(self.held(t))", "plugins/flowmatching/tests"),
    Mutation(RECTIFIED, "return ratio / (1 + ratio)", "return ratio", "plugins/flowmatching/tests"),
    Mutation(RECTIFIED, "math.hypot(t_end, 1 - t_end)", "t_end", "plugins/flowmatching/tests"),
    plugin("flowmatching", "score.py", "t, condition) - self.event_scale.middle(x)", "t, condition)"),
    plugin("flowmatching", "score.py", "self._as_event(1 - t) * self._answer", "self._answer"),
    plugin("flowmatching", "score.py", "(answer - (noise - data)) ** 2", "(answer - (data - noise)) ** 2"),
    # The standard methods.
    plugin(
        "standard",
        "scores/noised_distributions.py",
        "log_det = variance.log().sum(1) + 2 *",
        "log_det = variance.log().sum(1) +",
        "test_scores_analytic.py",
    ),
    plugin(
        "standard",
        "data/manifolds.py",
        "centre + config.std * g",
        "centre + config.std**2 * g",
        "test_data_manifolds.py",
    ),
    plugin(
        "standard",
        "data/manifolds.py",
        "(k,), config.std**2, dtype",
        "(k,), config.std, dtype",
        "test_data_manifolds.py",
    ),
    plugin(
        "standard",
        "data/manifolds.py",
        "components.append(noisy(gaussian, config.noise_std))",
        "components.append(gaussian)",
        "test_data_manifolds.py",
    ),
    plugin(
        "standard",
        "scores/denoising.py",
        "level = -0.5 * (log_snr",
        "level = 0.5 * (log_snr",
        "test_scores_denoising.py",
    ),
    plugin(
        "standard",
        "flows/coupling.py",
        "return self.dimension * math.log(self.event_scale.std)",
        "return math.log(self.event_scale.std)",
        "test_flows.py",
    ),
)


def packages(root: Path) -> str:
    """The folders of packages under ``root``, as Python's path."""
    return os.pathsep.join(
        str(file.parent / "src") for pattern in ("*", "plugins/*") for file in root.glob(f"{pattern}/pyproject.toml")
    )


def noticed(mutation: Mutation, root: Path) -> tuple[str, float]:
    """Which test noticed a change in the copy at ``root``, empty where none did, and in how many seconds."""
    file = root / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.file} has {mutation.old!r} {text.count(mutation.old)} times; expected once")
    began = time.monotonic()
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        failed = first_failure(mutation.tests, root)
    finally:
        file.write_text(text)
    return failed, time.monotonic() - began


def first_failure(tests: str, root: Path) -> str:
    """The first of some tests that fails in the copy at ``root``, empty where all pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--no-header", tests],
        cwd=root,
        env={**os.environ, "PYTHONPATH": packages(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"the tests {tests} did not run:\n{done.stdout[-2000:]}")
    lines = [line for line in done.stdout.split("\n") if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 0:
        return ""
    return lines[0].split(" ")[1].rpartition("/")[2] if lines else tests


def main() -> int:
    """Try every change; the status is 1 where one goes unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="changes whose file holds this text")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", root, "HEAD"], cwd=ROOT, check=True)
        try:
            chosen = [item for item in MUTATIONS if given.only in item.file]
            for tests in dict.fromkeys(item.tests for item in chosen):
                if failed := first_failure(tests, root):
                    raise SystemExit(f"{failed} of {tests} fails without any change")
            for mutation in chosen:
                test, seconds = noticed(mutation, root)
                rows.append({**asdict(mutation), "noticed_by": test or None, "seconds": round(seconds, 1)})
                print(
                    f"{'noticed' if test else 'UNNOTICED':<10}{seconds:6.1f} s  {mutation.name}\n{'':18}{test}",
                    file=sys.stderr,
                    flush=True,
                )
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", root], cwd=ROOT, check=True)
    missed = [row for row in rows if row["noticed_by"] is None]
    print(json.dumps(rows, indent=1) if given.json else f"{len(rows) - len(missed)} of {len(rows)} noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

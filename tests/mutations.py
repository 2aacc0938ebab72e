"""Small wrong changes to formulas that were written by hand: what once went unnoticed, and the like.

``mutate.py`` makes them beside a sample of its own. Each line that is changed stands once in its file.
"""

from __future__ import annotations

CORE, TOOLKIT = "core/src/scorefold/", "toolkit/src/scorefold_toolkit/"
VERBS = "verbs/src/scorefold_verbs/"


def plugin(name: str, file: str) -> str:
    """A file of a plugin."""
    return f"plugins/{name}/src/scorefold_{name}/{file}"


MUTATIONS = (
    # Diffusion: rates, kernels, samplers, likelihood.
    (CORE + "diffusion/schedules.py", "scale * (2 * self.log_ratio) ** 0.5", "scale * self.log_ratio ** 0.5"),
    (CORE + "diffusion/schedules.py", "return -beta / 2, beta.sqrt()", "return -beta, beta.sqrt()"),
    (
        CORE + "diffusion/schedules.py",
        "return -noise_rate / 2, noise_rate.sqrt()",
        "return -noise_rate / 2, noise_rate",
    ),
    (CORE + "diffusion/process.py", "-h * share * dispersion**2, score", "-h * dispersion**2, score"),
    (CORE + "diffusion/samplers.py", "x + 2 * snr**2 * towards", "x + snr**2 * towards"),
    (
        CORE + "diffusion/samplers.py",
        "half = add(ratio * x, -gain / 2 * scale, towards)",
        "half = add(ratio * x, -gain * scale, towards)",
    ),
    (
        CORE + "diffusion/samplers.py",
        "_extrapolation(length, state[1]), denoised",
        "_extrapolation(length, state[1]) / 2, denoised",
    ),
    (
        CORE + "diffusion/likelihood.py",
        "square(process.dispersion(x, t), score(x, t)) / 2",
        "square(process.dispersion(x, t), score(x, t))",
    ),
    (
        CORE + "diffusion/processes.py",
        "log_det = scale.log().expand(x.shape[1:]).sum()",
        "log_det = 2 * scale.log().expand(x.shape[1:]).sum()",
    ),
    (CORE + "diffusion/processes.py", "self.prior_mean = float(signal) * mean", "self.prior_mean = mean"),
    # The toolkit: losses, metrics, layers.
    (TOOLKIT + "score_matching/losses.py", "return (1 + ratio) ** 2", "return (1 + ratio)"),
    (
        TOOLKIT + "score_matching/losses.py",
        "return (gamma * square).clamp(max=1)",
        "return (gamma * square).clamp(min=1)",
    ),
    (
        TOOLKIT + "score_matching/noise_levels.py",
        "return losses * (-v).exp() + v",
        "return losses * (-v).exp() + 2 * v",
    ),
    (
        TOOLKIT + "score_matching/noise_levels.py",
        "whole = u.cosh().reciprocal() / math.pi",
        "whole = u.cosh().reciprocal() / 2",
    ),
    (TOOLKIT + "metrics/distances.py", "covariance_y.trace() - 2 * cross", "covariance_y.trace() - cross"),
    (TOOLKIT + "metrics/distances.py", "(n * (n - 1))", "(n * n)"),
    (
        TOOLKIT + "metrics/images.py",
        "c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2",
        "c1, c2 = (0.01 * data_range) ** 2, (0.01 * data_range) ** 2",
    ),
    (
        TOOLKIT + "nn/coupling.py",
        "curvature = slope_left + slope_right - 2 * mean_slope",
        "curvature = slope_left + slope_right - mean_slope",
    ),
    (
        TOOLKIT + "nn/coupling.py",
        "return (moved - shift) * log_slope.exp(), log_slope",
        "return moved * log_slope.exp() - shift, log_slope",
    ),
    (
        TOOLKIT + "metrics/distances.py",
        "float(inside.sum(1).double().mean()) / density_neighbours",
        "float(inside.sum(1).double().mean())",
    ),
    (TOOLKIT + "metrics/calibration.py", "reference = low + (high - low)", "reference = high - low"),
    (TOOLKIT + "metrics/calibration.py", "_MOVED * scale * (shown @ towards)", "_MOVED * (shown @ towards)"),
    (TOOLKIT + "metrics/calibration.py", "(8 * (j * scaled) ** 2 - 2)", "(4 * (j * scaled) ** 2 - 1)"),
    # Verbs.
    (VERBS + "verdicts.py", "(1 - UNLIKE) * (len(costs) + 1)", "(1 - UNLIKE) * len(costs)"),
    (VERBS + "verdicts.py", "(unusual > limit)", "(unusual >= limit)"),
    (VERBS + "verdicts.py", "distance <= training + chance", "distance <= training"),
    (VERBS + "references.py", "(samples - trained)[1:], 0.05", "(samples - trained)[1:], 0.5"),
    (VERBS + "references.py", "size * (size - 1)) - within", "size * size) - within"),
    (VERBS + "references.py", "(1 - share) * (len(differences) + 1)", "(1 - share) * len(differences)"),
    (VERBS + "likelihoods.py", "math.log(options.others)", "math.log(1 + options.others)"),
    (VERBS + "estimate.py", "stdev(values) / math.sqrt(len(values))", "stdev(values)"),
    (VERBS + "posterior.py", "- 0.5).square().mean(0)", "- 0.5).mean(0).square()"),
    (VERBS + "posterior.py", "places = self._order()[-len", "places = torch.arange(len(self._order()))[-len"),
    (VERBS + "posterior.py", "asked = ((asked - mean) / std)", "asked = (asked - mean)"),
    (VERBS + "posterior.py", "values.index(min(values))", "values.index(max(values))"),
    (VERBS + "verdicts.py", "(usual - 1) * (second", "(unusual - 1) * (second"),
    (VERBS + "verdicts.py", "(1 - UNLIKE) * (len(costs) + 1)", "(1 - UNLIKE) * len(costs)"),
    (
        VERBS + "measures.py",
        "error = float(inside.std()) / math.sqrt(len(inside))",
        "error = 2 * float(inside.std()) / math.sqrt(len(inside))",
    ),
    # Intrinsic dimension.
    (
        plugin("iddiff", "manifold_mlp.py"),
        "float(squares[0] / width.mean())",
        "float(squares[0])",
    ),
    (
        plugin("iddiff", "pointwise/readings.py"),
        "self.ambient * (1 - moments.share_sum / moments.square_sum)",
        "self.ambient * moments.share_sum / moments.square_sum",
    ),
    (
        plugin("iddiff", "pointwise/readings.py"),
        "drawn = values[:, None] - (drawn - whole)",
        "drawn = values[:, None] + (drawn - whole)",
    ),
    (
        plugin("iddiff", "estimators/lidl.py"),
        "replace(data, x=data.x + self.level * noise)",
        "replace(data, x=data.x + self.level**2 * noise)",
    ),
    (
        plugin("iddiff", "estimators/denoising_loss.py"),
        "float(values.std()) / len(values) ** 0.5",
        "float(values.std())",
    ),
    # Pullback geometry.
    (plugin("pullback", "flows/objective.py"), "kept = rank < counts[:, None]", "kept = rank <= counts[:, None]"),
    (
        plugin("pullback", "flows/objective.py"),
        "(uniform * math.log(size + 1)).exp()",
        "(uniform * math.log(size)).exp()",
    ),
    (
        TOOLKIT + "training/loop.py",
        "limit = report.reference + _FAR * max(1.0, abs(report.reference))",
        "limit = report.reference + _FAR * abs(report.reference)",
    ),
    (
        plugin("iddiff", "pointwise/readings.py"),
        "values[:, None] * (drawn / whole.clamp_min(1e-30)).sqrt()",
        "values[:, None] * (drawn / whole.clamp_min(1e-30))",
    ),
    (
        plugin("pullback", "geometry/iso.py"),
        "off = k / (4 * k.square() - 1).sqrt()",
        "off = k / (4 * k.square() + 1).sqrt()",
    ),
    (
        plugin("pullback", "potentials.py"),
        "log_cosh = torch.logaddexp(flat, -flat) - math.log(2)",
        "log_cosh = torch.logaddexp(flat, -flat)",
    ),
    (plugin("pullback", "flows/objective.py"), "log_det.abs().mean() if kind", "log_det.mean() if kind"),
    (plugin("pullback", "flows/objective.py"), "(gram - unit).square()", "gram.square()"),
    (
        plugin("pullback", "geometry/pullback.py"),
        "return self.straight.inverse(w + step)",
        "return self.straight.inverse(w + 2 * step)",
    ),
    # Non-uniform diffusion.
    (plugin("nonuniform", "bands/speeds.py"), "offset = 2 * math.log(deviation", "offset = math.log(deviation"),
    (
        plugin("nonuniform", "bands/speeds.py"),
        "return torch.log1p(lam.exp() * energy).sum(-1) / 2",
        "return torch.log1p(lam.exp() * energy).sum(-1)",
    ),
    (
        plugin("nonuniform", "bands/coefficients.py"),
        "torch.bincount(index, minlength=len(bands)).to(z)).sqrt()",
        "torch.bincount(index, minlength=len(bands)).to(z))",
    ),
    (plugin("nonuniform", "bands/transforms.py"), "matrix[0] /= math.sqrt(2)", "matrix[0] /= 2"),
    # Conditional scores and inverse problems.
    (
        plugin("conditional", "conditional/model.py"),
        "return guidance * given + (1 - guidance) * absent(x, t)",
        "return guidance * given + absent(x, t)",
    ),
    (
        plugin("conditional", "conditional/objective.py"),
        "(block.schedule.rates(t)[1] / scale) ** 2 / 2",
        "(block.schedule.rates(t)[1] / scale) ** 2",
    ),
    (
        plugin("conditional", "solvers/dps.py"),
        "data * scale**2 / (signal**2 * data + scale**2)",
        "data * scale**2 / (data + scale**2)",
    ),
    (
        plugin("conditional", "solvers/repaint.py"),
        "x = x + known_part(operator, self.process.perturb(known, t, noise) - x)",
        "x = x + known_part(operator, known - x)",
    ),
    (plugin("conditional", "conditional/layout.py"), "beta = -2 * drift", "beta = -drift"),
    # Auto-encoders from scores.
    (plugin("scorevae", "scorevae/model.py"), "data + beta * kl", "data + kl"),
    (
        plugin("scorevae", "scorevae/encoder.py"),
        "by_log_variance = (z - mean) * deviation / 2",
        "by_log_variance = (z - mean) * deviation",
    ),
    (plugin("scorevae", "scorevae/encoder.py"), "return log_snr_range(process) * square", "return square"),
    (plugin("scorevae", "scorevae/diagnosis.py"), "values = ratio / (1 + ratio) ** 2", "values = ratio / (1 + ratio)"),
    (plugin("scorevae", "vae.py"), "(2 * math.pi * variance).log() / 2", "(2 * math.pi * variance).log()"),
    (
        plugin("scorevae", "vae.py"),
        "return draw_normal((n, *self.latent_shape)",
        "return self.residual_std * draw_normal((n, *self.latent_shape)",
    ),
    # Conditional flows.
    (plugin("caflow", "layers.py"), "log_abs_det()) * (x.shape[2] * x.shape[3])", "log_abs_det()) * x.shape[2]"),
    (
        plugin("caflow", "layers.py"),
        "target = (moved - shift) * (-log_scale).exp()",
        "target = moved * (-log_scale).exp() - shift",
    ),
    (
        plugin("caflow", "flow/inputs.py"),
        "self.base.log_prob(noise) - log_det - _log_slope(raw)",
        "self.base.log_prob(noise) - log_det + _log_slope(raw)",
    ),
    (plugin("caflow", "flow/translation.py"), "for one in (*latents[:j], *given[:j])]", "for one in latents[:j]]"),
    # Allocation of labels.
    (plugin("allocation", "theory/linear_model.py"), "s2 = (n + p + 1) / n", "s2 = (n + p) / n"),
    (plugin("allocation", "theory/formula.py"), "((query + 1) * g.g1 + p * g.g2)", "(query * g.g1 + p * g.g2)"),
    (plugin("allocation", "claims/linear.py"), "H = (1 - a) ** 2 + a**2 * y", "H = (1 - a) ** 2 + a * y"),
    (plugin("allocation", "theory/linear_model.py"), "step = rate / len(X)", "step = rate"),
    # Audits of samples.
    (
        plugin("audit", "copying/nearest.py"),
        "rest = 1 - self.held_out_rate\n        return",
        "rest = 1.0\n        return",
    ),
    (plugin("audit", "copying/nearest.py"), "high_h - self.held_out_rate)", "self.held_out_rate - low_h)"),
    (plugin("audit", "copying/nearest.py"), "rate + share * (1 - rate)", "rate + share"),
    (plugin("audit", "copying/spaces.py"), "_LEAST * middle", "_LEAST / middle"),
    (plugin("audit", "copying/spaces.py"), "(units > 0).sum() / 2", "0"),
    (
        plugin("audit", "copying/nearest.py"),
        "math.sqrt(h * m * (h + m + 1) / 12)",
        "math.sqrt(h * m * (h + m + 1) / 6)",
    ),
    (plugin("audit", "copying/nearest.py"), "(float((weights**2).sum()) - 1 / every)", "float((weights**2).sum())"),
    (
        plugin("audit", "copying/nearest.py"),
        "return (1 + below) / (len(held_out) + 1)",
        "return below / len(held_out)",
    ),
    (plugin("audit", "copying/nearest.py"), "return math.log(2) / -math.log(median)", "return 1 / -math.log(median)"),
    (plugin("audit", "copying/nearest.py"), "-math.log2(1 - BY_CHANCE)", "-math.log(1 - BY_CHANCE)"),
    (plugin("audit", "membership/losses.py"), "> -2 * math.log(noise)", "> -math.log(noise)"),
    (plugin("audit", "quality/comparison.py"), "(1 + low) / count, (1 + high) / count", "low / count, high / count"),
    (plugin("audit", "quality/comparison.py"), "- 2 * cross / (m * h)", "- cross / (m * h)"),
    (plugin("audit", "quality/measures.py"), "/ (2 * width**2)", "/ width**2"),
    (plugin("audit", "quality/comparison.py"), "dimension * (variances + math", "(variances + math"),
    (plugin("audit", "membership/losses.py"), "x[0].numel() + trace", "trace"),
    (plugin("audit", "unusual.py"), "2 * np.minimum(likelihood", "np.minimum(likelihood"),
    (plugin("audit", "unusual.py"), ">= apart).sum()", ">= apart / 2).sum()"),
    (plugin("audit", "copying/nearest.py"), "BY_CHANCE)) ** (1 / dimension)", "BY_CHANCE)) ** dimension"),
    # Flow matching.
    (TOOLKIT + "score_matching/losses.py", "(2 * t / (1 - t)).sqrt()", "(t / (1 - t)).sqrt()"),
    (TOOLKIT + "score_matching/losses.py", "-2 * (torch.logit(self.held(t))", "-(torch.logit(self.held(t))"),
    (TOOLKIT + "score_matching/losses.py", "return ratio / (1 + ratio)", "return ratio"),
    (TOOLKIT + "score_matching/losses.py", "math.hypot(t_end, 1 - t_end)", "t_end"),
    (plugin("flowmatching", "score.py"), "t, condition) - self.event_scale.middle(x)", "t, condition)"),
    (plugin("flowmatching", "score.py"), "self._as_event(1 - t) * self._answer", "self._answer"),
    (plugin("flowmatching", "score.py"), "(answer - (noise - data)) ** 2", "(answer - (data - noise)) ** 2"),
    # The standard methods.
    (
        plugin("standard", "noised_distributions.py"),
        "log_det = variance.log().sum(1) + 2 *",
        "log_det = variance.log().sum(1) +",
    ),
    (plugin("standard", "manifolds/synthetic.py"), "centre + config.std * g", "centre + config.std**2 * g"),
    (plugin("standard", "manifolds/synthetic.py"), "(k,), config.std**2, dtype", "(k,), config.std, dtype"),
    (
        plugin("standard", "manifolds/synthetic.py"),
        "components.append(noisy_distribution(gaussian, config.noise_std))",
        "components.append(gaussian)",
    ),
    (TOOLKIT + "score_matching/losses.py", "return -0.5 * (log_snr", "return 0.5 * (log_snr"),
    (
        TOOLKIT + "score_matching/losses.py",
        "add(of_centred / -self.scale * self.centred",
        "add(of_centred * self.centred",
    ),
    (
        plugin("standard", "coupling_flows.py"),
        "return self.dimension * math.log(self.event_scale.std)",
        "return math.log(self.event_scale.std)",
    ),
    # Audits, calibration, metrics and verbs.
    ("toolkit/src/scorefold_toolkit/metrics/calibration.py", "0.155 + 0.24 / count.sqrt()", "0.155"),
    ("core/src/scorefold/summary.py", "_QUARTILES_OF_NORMAL = 1.349", "_QUARTILES_OF_NORMAL = 1.0"),
    (
        VERBS + "verdicts.py",
        "1.96 * float(near.std(correction=0))",
        "float(near.std(correction=0))",
    ),
    (
        VERBS + "measures.py",
        "abs(share - level) > 3 * error",
        "abs(share - level) > 2 * error",
    ),
    (
        VERBS + "posterior.py",
        "value > max(self.config.warns_below, least)",
        "value > self.config.warns_below",
    ),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/calibration.py",
        "others[place] = 0",
        "others[place] *= 1",
    ),
    ("plugins/neighbours/src/scorefold_neighbours/calibrated/calibration.py", "max(SURE, error)", "error"),
    (plugin("neighbours", "calibrated/estimator.py"), "high > MIXED * low", "high > low / MIXED"),
    (plugin("neighbours", "calibrated/facts.py"), "torch.quantile(1 / around,", "torch.quantile(around,"),
    ("plugins/neighbours/src/scorefold_neighbours/calibrated/calibration.py", "RIDGE * np.eye(z.shape[1])", "0.0"),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/calibration.py",
        "1 / counts[place]",
        "counts[place] / counts[place]",
    ),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/answer.py",
        "t.ppf((1 + config.level) / 2,",
        "t.ppf(config.level,",
    ),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/answer.py",
        "float(weights.sum() ** 2 / (weights**2).sum())",
        "float(len(weights))",
    ),
    ("plugins/neighbours/src/scorefold_neighbours/calibrated/facts.py", ".mean()) ** -1", ".mean())"),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/facts.py",
        "(1 - (rank / count) ** 0.5) ** 2",
        "(1 - rank / count) ** 2",
    ),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/surrogates.py",
        "/ (n * (n - 1)) + 1 / n**2",
        "/ n**2 + 1 / n**2",
    ),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/surrogates.py",
        "/ (1 + recipe.shape)",
        "* (1 + recipe.shape)",
    ),
    (plugin("neighbours", "calibrated/surrogates.py"), "** (1 / recipe.shape)", "** recipe.shape"),
    (plugin("neighbours", "calibrated/surrogates.py"), "angles.cos()", "angles.sin()"),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/surrogates.py",
        "lengths * math.sqrt(k + 1)",
        "lengths * math.sqrt(k)",
    ),
    (
        "plugins/neighbours/src/scorefold_neighbours/calibrated/surrogates.py",
        "RESOLVED * math.sqrt(dimension)",
        "RESOLVED * dimension",
    ),
    ("plugins/audit/src/scorefold_audit/copying/nearest.py", "2 * area**2 / (1 + area)", "area**2 / (1 + area)"),
    (
        "plugins/audit/src/scorefold_audit/copying/nearest.py",
        "1.96 * math.sqrt(max(variance",
        "math.sqrt(max(variance",
    ),
    ("plugins/audit/src/scorefold_audit/copying/nearest.py", "len(y) / len(held_out) * z_of(q, y)", "z_of(q, y)"),
    ("plugins/audit/src/scorefold_audit/copying/spaces.py", "(self.duplicates + 1) // 2", "self.duplicates"),
    (
        "plugins/audit/src/scorefold_audit/quality/comparison.py",
        "np.polyfit(1 / sizes, values, 1)[1]",
        "np.polyfit(1 / sizes, values, 1)[0]",
    ),
    ("plugins/audit/src/scorefold_audit/membership/measures.py", "max(dimension, 1.0) ** 0.5", "max(dimension, 1.0)"),
    ("plugins/audit/src/scorefold_audit/membership/measures.py", "_LOW) - _MARGIN", "_LOW)"),
    ("plugins/audit/src/scorefold_audit/membership/losses.py", ".double().pow(4).sum(1)", ".double().pow(2).sum(1)"),
    ("plugins/audit/src/scorefold_audit/verdicts.py", "gap.interval[0]) / (2 * 1.96)", "gap.interval[0]) / 1.96"),
    (
        "plugins/audit/src/scorefold_audit/copying/incomplete.py",
        "nearer = found / own[place] < ratio",
        "nearer = found < ratio",
    ),
    (
        "plugins/audit/src/scorefold_audit/copying/incomplete.py",
        "np.lexsort((-common, found), axis=1)",
        "np.lexsort((common, found), axis=1)",
    ),
    (
        "plugins/audit/src/scorefold_audit/copying/spaces.py",
        "p = np.maximum(p, copies.p_values(near.ratio, among.ratio))",
        "p = np.minimum(p, copies.p_values(near.ratio, among.ratio))",
    ),
    (
        "plugins/audit/src/scorefold_audit/copying/spaces.py",
        "return found if self.own is None else max(found, self.own.closeness.p)",
        "return found",
    ),
    (
        "plugins/audit/src/scorefold_audit/copying/spaces.py",
        "float(apart @ np.linalg.pinv(np.atleast_2d(within)) @ apart) / (1 / n + 1 / h)",
        "float(apart @ np.linalg.pinv(np.atleast_2d(within)) @ apart) / (1 / n - 1 / h)",
    ),
    (
        "plugins/allocation/src/scorefold_allocation/search/valley.py",
        "stdtrit(rows - 1, quantile)",
        "stdtrit(rows, quantile)",
    ),
    (
        "plugins/audit/src/scorefold_audit/copying/incomplete.py",
        "np.flatnonzero(own > 0)",
        "np.flatnonzero(own >= 0)",
    ),
    (
        "plugins/audit/src/scorefold_audit/verdicts.py",
        "finding.detectable(level / len(findings))",
        "finding.detectable(level)",
    ),
    # Means along geodesics, and what was added with them.
    (TOOLKIT + "geodesics/mean.py", "(4 * fine[:1, -1] - coarse[:1, -1]) / 3", "fine[:1, -1]"),
    (TOOLKIT + "geodesics/mean.py", "(self.share * whole).sum((0, 1))", "whole.sum((0, 1))"),
    (TOOLKIT + "geodesics/mean.py", "flat / (2 * state", "flat / (state"),
    (TOOLKIT + "geodesics/metric.py", "1e6 * (1 + torch", "1e6 * (1 - torch"),
    (TOOLKIT + "geodesics/motion.py", "tolerance * (1 + y", "tolerance * (1 - y"),
    (
        plugin("scoregeometry", "density.py"),
        "quantile(self.levels, 0.01)) - NAT",
        "quantile(self.levels, 0.01))",
    ),
    (plugin("scoregeometry", "from_points.py"), "- 2 * x * (weights @ known)", "- x * (weights @ known)"),
    (plugin("neighbours", "calibrated/facts.py"), "BESIDE * float(distances", "4 * BESIDE * float(distances"),
    (plugin("neighbours", "calibrated/facts.py"), ".var()) / (2 * len(rest))", ".var()) / len(rest)"),
    (plugin("neighbours", "calibrated/facts.py"), ".median()) / kept**0.5", ".median())"),
    (plugin("neighbours", "calibrated/facts.py"), "products - part.mT @ part", "products"),
    (plugin("neighbours", "calibrated/facts.py"), "gap >= GAP", "gap >= 0.7 * GAP"),
    (plugin("neighbours", "calibrated/facts.py"), "min(GAP, UNCLEAR", "min(GAP, 2 * UNCLEAR"),
    (plugin("neighbours", "calibrated/facts.py"), "apart <= ALONE", "apart <= ALONE / 2"),
    (plugin("neighbours", "calibrated/facts.py"), "others[:-1] / others[1:]", "variances[:-1] / variances[1:]"),
    (plugin("neighbours", "calibrated/estimator.py"), "AGAIN * self.config", "self.config"),
    (plugin("neighbours", "calibrated/answer.py"), "value > sure", "value > 2 * sure"),
    (plugin("standard", "manifolds/benchmark.py"), "0.5 + 0.2 *", "0.5 + 0.1 *"),
    (plugin("audit", "copying/spaces.py"), "np.sqrt(squares / others[rare])", "np.sqrt(squares / len(x))"),
    (
        plugin("iddiff", "pointwise/support.py"),
        "(len(self._rows) / self.variances[wide])",
        "(1 / self.variances[wide])",
    ),
    (plugin("scorevae", "scorevae/encoder.py"), "network(share * shown, level, z)", "network(shown, level, z)"),
    # Other distances, and counts of lattices.
    (TOOLKIT + "distances.py", "2 * (chords / 2)", "(chords / 2)"),
    (TOOLKIT + "distances.py", "(points / _COPY).round()", "points"),
    (TOOLKIT + "distances.py", "(period or math.inf) - gaps)", "(period or math.inf) + gaps)"),
    (TOOLKIT + "distances.py", "_COPY * points.median()", "points.median()"),
    (TOOLKIT + "distances.py", ".round().remainder(1 / _COPY)", ".round()"),
    (TOOLKIT + "distances.py", "points[rows][:, rows]", "points[rows]"),
    (plugin("neighbours", "estimators/discrete.py"), "((2 * d + 1)", "((2 * d - 1)"),
    (plugin("neighbours", "estimators/discrete.py"), "(near + HALF) / (far + HALF)", "near / far"),
    (plugin("neighbours", "estimators/discrete.py"), "counts[0] -= len(x)", "counts[0] -= 0"),
    (plugin("neighbours", "estimators/discrete.py"), "_LONG = 2000", "_LONG = 10"),
    (plugin("neighbours", "estimators/discrete.py"), "within[wider] < HALF * (len(x) - 1)", "wider > 0"),
    (plugin("neighbours", "estimators/discrete.py"), "j * math.log(states - 1)", "j * math.log(states)"),
    (plugin("neighbours", "estimators/discrete.py"), "(other + HALF) / (found + HALF)", "other / (found + 99)"),
    (plugin("neighbours", "estimators/estimator.py"), "span > period / 2", "span > period"),
    # Time series.
    (
        plugin("standard", "series/sources.py"),
        "x + sixth * (a + 2 * d + 2 * g + j)",
        "x + sixth * (a + 2 * d + g + j)",
    ),
    (plugin("standard", "series/sources.py"), "x * (config.rho - z) - y", "x * (config.rho - z) + y"),
    (
        plugin("standard", "series/cutting.py"),
        "(config.dimension or 1) - 1) * self.delay + 1",
        "config.dimension or 1) - 1) * self.delay + 2",
    ),
    (plugin("standard", "series/cutting.py"), "kept &= joined.all(1)", "kept &= joined.any(1)"),
    (plugin("standard", "series/cutting.py"), "end - self.span + 1, config.stride)", "end, config.stride)"),
    (TOOLKIT + "data/series.py", "correlation < 1 / math.e", "correlation < 0"),
    (TOOLKIT + "data/series.py", "share <= chance + MOST_CLOSE", "share <= MOST_CLOSE"),
    (TOOLKIT + "data/series.py", "math.log2(2 * len(values))", "math.log2(len(values))"),
    (plugin("standard", "series/cutting.py"), "measured.mean(0), measured.std(0)", "values.mean(0), values.std(0)"),
)
"""A file, the text that stands once in it, and what it becomes."""

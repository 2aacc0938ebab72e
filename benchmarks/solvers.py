"""The cost of a sample of inverse problems and posteriors beside azula, deepinv and sbi, with one prior for all sides.

    pip install azula deepinv sbi
    python benchmarks/solvers.py [--rounds 5] [--only mmps,dps,diffpir,npe]

The prior is a network of digits, trained for 500 steps. Each side fills in half of the pixels of 16 digits with 50
steps of one network call. The sides take turns in every round. Beside the cost stand the error of hidden pixels and the
distance from the seen ones, which show that the sides solve one problem. ``npe`` trains a posterior of two-moons on
2,000 simulations once per side, by the defaults of each, and scores 1,000 further simulations.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _turns import Row, finish, parse_options, race, spent
from torch import Tensor

from scorefold_registry import Host
from scorefold_toolkit.deepinv import as_denoiser
from scorefold_toolkit.training import fit

IMAGES, STEPS, NOISE = 16, 50, 0.05
HOST = Host.discover()


def trained(kind: str, config: dict[str, Any], data: Any) -> Any:
    model = HOST.create(kind, config, data=data)
    fit(model, data.load("train"), model.training_config, validation=data.load("validation"), seed=0)
    return model


def digits_prior() -> tuple[Any, Any]:
    data = HOST.create("data:digits", {"seed": 0})
    network = {"use": "network:mlp", "config": {"width": 256, "blocks": 3}}
    return trained("score:denoising", {"network": network, "training": {"steps": 500, "batch_size": 128}}, data), data


def azula_denoiser(score: Any) -> Any:
    """The prior as a denoiser of azula, with its schedule from the process of the prior."""
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VESchedule

    process = score.process
    ends = process.noise_to_signal(torch.tensor([process.t_min, process.t_max])).tolist()

    class Prior(Denoiser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VESchedule(*ends)

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            level = process.time_at(self.schedule.sigma(t).reshape(1)).expand(len(x_t))
            return DiracPosterior(mean=score.denoise(x_t.reshape(-1, *score.event_shape), level).reshape(x_t.shape))

    return Prior()


def sides(name: str, score: Any, mask: Tensor, y: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Solvers that fill in y (B, 1, 8, 8), by name of the library."""
    from azula.guidance import DiffPIRDenoiser, DPSSampler, MMPSDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.sample import DDIMSampler

    operator = {"name": "mask", "region": "pixels", "fraction": 0.5, "seed": 1}
    config = {"operator": operator} | ({} if name == "dps" else {"noise_std": NOISE})
    ours = HOST.create(f"score:{name}", config | ({"solver_steps": 1} if name == "mmps" else {}), prior=score)
    observed = ours.observations.operator(y)
    prior = azula_denoiser(score)
    start = {"var": score.event_scale.std**2}

    flat, hides = y.flatten(1), mask.flatten()  # azula's operators act on the last axis

    def seen(x: Tensor) -> Tensor:
        return hides * x

    def by_azula() -> Tensor:
        if name == "dps":
            sampler: Any = DPSSampler(prior, y=flat, A=seen, steps=STEPS, silent=True)
        elif name == "mmps":
            guided = MMPSDenoiser(prior, y=flat, A=seen, cov_y=IsotropicCovariance(torch.tensor(NOISE**2)))
            sampler = DDIMSampler(guided, steps=STEPS, silent=True)
        else:
            sampler = DDIMSampler(
                DiffPIRDenoiser(prior, y=flat, A=seen, var_y=NOISE**2, lmbda=1.0), steps=STEPS, silent=True
            )
        found: Tensor = sampler(sampler.init(tuple(flat.shape), **start))
        return found.reshape(y.shape)

    found: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: ours.sample(1, observed, steps=STEPS, sampler="ddim", to_zero=False)[0],
        "azula": by_azula,
    }
    if name == "diffpir":
        import deepinv

        physics = deepinv.physics.Inpainting(
            img_size=(1, 8, 8), mask=mask[0], noise_model=deepinv.physics.GaussianNoise(NOISE)
        )
        fidelity = deepinv.optim.data_fidelity.L2()
        solver = deepinv.sampling.DiffPIR(as_denoiser(score), fidelity, sigma=NOISE, max_iter=STEPS)
        found["deepinv"] = lambda: solver(y, physics)
    return found


def solver_rows(name: str, score: Any, data: Any, rounds: int) -> list[Row]:
    x = data.load("test").x[:IMAGES]
    model = HOST.create(
        "score:dps", {"operator": {"name": "mask", "region": "pixels", "fraction": 0.5, "seed": 1}}, prior=score
    )
    mask = model.observations.operator.mask.reshape(1, 1, 8, 8).to(x)
    y = mask * (x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    turns = sides(name, score, mask, y)
    rows = race({side: torch.no_grad()(turn) for side, turn in turns.items()}, rounds=rounds)
    for row in rows:
        draw = turns[row["side"]]().detach()
        hidden, seen = ((draw - target) * part for target, part in ((x, 1 - mask), (y, mask)))
        row |= {"case": name, "hidden": rms(hidden, 1 - mask), "seen": rms(seen, mask)}
        row |= {"cpu_ms": row["cpu_ms"] / IMAGES, "wall_ms": row["wall_ms"] / IMAGES}
    return rows


def rms(gap: Tensor, part: Tensor) -> float:
    return float((gap.square().sum() / (len(gap) * part.sum())).sqrt())


def posterior_rows() -> list[Row]:
    """Ours and sbi's NPE on one set of simulations: training, 10,000 samples, and the log-density of further truths."""
    from sbi.inference import NPE
    from sbi.utils import BoxUniform

    data = HOST.create("data:sbibm", {"task": "two-moons", "simulations": 2000, "seed": 0})
    every = [data.load(split) for split in ("train", "validation")]
    theta, x = torch.cat([part.x for part in every]), torch.cat([part.condition for part in every])
    further, one = data.load("test"), data.load("test").condition[:1]
    made: dict[str, Any] = {}

    def train_ours() -> None:
        training = {"steps": 4000, "batch_size": 100, "patience": 10}
        made["ours"] = trained("flow:spline-coupling", {"layers": 6, "training": training}, data)

    def train_sbi(estimator: str) -> None:
        torch.manual_seed(0)
        prior = BoxUniform(-torch.ones(2), torch.ones(2))
        npe = NPE(prior=prior, density_estimator=estimator, show_progress_bars=False)
        made[f"sbi {estimator}"] = npe.append_simulations(theta, x).train()

    rows = []
    turns = {"ours": train_ours} | {f"sbi {name}": partial(train_sbi, name) for name in ("maf", "nsf")}
    for side, train in turns.items():
        # sbi writes logs into the working folder.
        with tempfile.TemporaryDirectory() as logs, contextlib.chdir(logs):
            cost = spent(train)
        model = made[side]
        many = 10_000 if side == "ours" else (10_000,)
        truths = (further.x, further.condition) if side == "ours" else (further.x[None], further.condition)
        with torch.no_grad():
            draws = spent(partial(model.sample, many, one))
            density = model.log_prob(*truths).mean()
        row = {"case": "npe", "side": side, "train_cpu_s": cost.cpu, "train_wall_s": cost.wall}
        rows.append(
            row | {"draws_cpu_ms": 1000 * draws.cpu, "draws_wall_ms": 1000 * draws.wall, "nats": float(density)}
        )
    return rows


def main() -> int:
    options = parse_options(__doc__, only="cases: mmps, dps, diffpir, npe")
    torch.set_num_threads(options.threads)
    chosen = options.only.split(",") if options.only else ["mmps", "dps", "diffpir", "npe"]
    rows: list[Row] = []
    if set(chosen) - {"npe"}:
        score, data = digits_prior()
        rows += [row for name in chosen if name != "npe" for row in solver_rows(name, score, data, options.rounds)]
    rows += posterior_rows() if "npe" in chosen else []
    if not options.json:
        for row in rows:
            print(
                "  ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
                )
            )
    return finish(rows, [], as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())

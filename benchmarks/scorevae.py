"""What a training step and a decoding step of score:scorevae cost beside the parts that they are made of.

    python benchmarks/scorevae.py [--rounds 7] [--cases mlp unet attention]

The parts of a training step are those that the method can't do without, called by hand on the same modules: the
prior's network without a graph, the encoder's network at t = 0 and at t, the gradient of ln q by x, and the backward
pass through all of it. ``loss and backward`` is ScoreVAE's, ``a step of fit`` the whole of training with Adam, clipping
and averaged weights, and ``the parts, with an optimiser`` the time of plain fused Adam. Then the prior in bfloat16 and
recomputed activations: their time, what the step keeps in memory for its backward pass, and the relative change of the
loss and of the gradient of the weights for the same draws. Then a step of decoding beside a step of sampling the prior,
and the parts of the former: both networks and one backward pass through the encoder's. Networks are untrained; sides
take turns in every round, and ratios are taken within a round. Exit status 1 where loss and backward cost more than 1.3
times the parts, a step of fit more than 1.3 times the parts with an optimiser, or a change is above its bound (medians
of CPU time).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from _turns import Spent, spent
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorefold.data import Dataset
from scorefold.diffusion import heun, time_grid
from scorefold.interfaces import DataSource, Progress, TensorSource
from scorefold_registry import Host
from scorefold_scorevae.scorevae.model import ScoreVAE
from scorefold_toolkit.training import fit

LIMIT = 1.3
BOUNDS = {"bf16": 0.02, "checkpoint": 1e-4}
"""Largest relative changes of the loss and of the gradient."""


class Case(NamedTuple):
    """Shape of events, batch size, optimiser steps in one timed call, networks of the prior and of the encoder."""

    shape: tuple[int, ...]
    batch: int
    steps: int
    prior: dict[str, Any]
    encoder: dict[str, Any]


def mlp(width: int, blocks: int) -> dict[str, Any]:
    return {"use": "network:mlp", "config": {"width": width, "blocks": blocks}}


def unet(*attention: int) -> dict[str, Any]:
    return {"use": "network:unet", "config": {"channels": [32, 64, 64], "blocks": 1, "attention": attention}}


def half_unet(*attention: int) -> dict[str, Any]:
    config = {"channels": [32, 64], "blocks": 1, "attention": attention, "middle_attention": bool(attention)}
    return {"use": "network:half-unet", "config": config}


CASES = {
    "mlp": Case((64,), 128, 40, mlp(256, 3), mlp(160, 2)),
    "unet": Case((1, 16, 16), 32, 8, unet(), half_unet()),
    "attention": Case((1, 16, 16), 32, 6, unet(2), half_unet(1)),
}
LATENT = 8
SIDES = ("the parts", "loss and backward", "the parts, with an optimiser", "a step of fit")


def in_turns(runs: dict[str, Callable[[], Spent]], rounds: int) -> dict[str, list[Spent]]:
    """What each run took in every round, after one that is not counted; who begins changes with the round."""
    names = list(runs)
    found: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken = runs[name]()
            if number:
                found[name].append(taken)
    return found


class Setting:
    """One case: the data, the prior, and models of it that differ by their options."""

    def __init__(self, name: str) -> None:
        self.host = Host.discover()
        self.case = CASES[name]
        self.shape, self.batch, self.steps = self.case.shape, self.case.batch, self.case.steps
        x = torch.randn(64 * self.batch, *self.shape, generator=torch.Generator().manual_seed(0))
        self.data: DataSource = TensorSource({"train": Dataset(x=x), "test": Dataset(x=x[:1])})
        self.x = x
        torch.manual_seed(0)
        config = {"network": self.case.prior, "process": "vp", "prediction": "eps"}
        self.prior = self.host.create("score:denoising", config, data=self.data)
        for parameter in self.prior.network.parameters():  # some networks start as 0, which would cost as much
            if parameter.dim() > 1 and not bool(parameter.any()):
                nn.init.normal_(parameter, std=0.05)
        self.prior.eval()

    def model(self, **options: Any) -> ScoreVAE:
        torch.manual_seed(1)
        training = {"steps": self.steps, "batch_size": self.batch, "warmup": 0, "log_every": self.steps}
        config = {"latent": LATENT, "encoder": self.case.encoder, "training": training, **options}
        made: ScoreVAE = self.host.create("score:scorevae", config, prior=self.prior, data=self.data)
        return made

    def loss(self, model: ScoreVAE) -> Tensor:
        batch, generator = Dataset(x=self.x[: self.batch]), torch.Generator().manual_seed(2)
        return model.loss(batch, progress=Progress(0, 1, "encoder"), generator=generator).value


def parts(setting: Setting, model: ScoreVAE) -> Callable[[], Tensor]:
    """The least that a step does: a call of the prior, two of the encoder, the gradient by x, all of it backwards."""
    x = setting.x[: setting.batch]
    level, noise, code = torch.randn(len(x)), torch.randn_like(x), torch.randn(len(x), LATENT)
    prior, encoder = setting.prior.network, model.encoder

    def run() -> Tensor:
        with torch.no_grad():
            expected = prior(x, level)
        with sdpa_kernel(SDPBackend.MATH):
            mean, spread = encoder(x, level).chunk(2, 1)
            point = x.detach().requires_grad_()
            mean_t, spread_t = encoder(point, level).chunk(2, 1)
        z = mean + (spread / 2).exp() * code
        density = -0.5 * ((z - mean_t) ** 2 * (-spread_t).exp() + spread_t).sum()
        (slope,) = torch.autograd.grad(density, point, create_graph=True)
        loss: Tensor = (expected - slope - noise).square().sum() / 2 + (mean**2 + spread.exp() - spread).sum()
        loss.backward()
        return loss

    return run


def training_sides(setting: Setting) -> dict[str, Callable[[], Spent]]:
    model = setting.model()
    model.train()
    by_hand = parts(setting, model)
    optimiser = torch.optim.Adam(model.encoder.parameters(), lr=1e-4, fused=True)

    def cleared(run: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            run()
            model.encoder.zero_grad()

        return step

    def optimised() -> None:
        by_hand()
        optimiser.step()
        optimiser.zero_grad()

    def whole() -> Tensor:
        value = setting.loss(model)
        value.backward()
        return value

    trained = setting.model()
    trained.loss_reference = lambda *given: None  # type: ignore[method-assign,assignment]  # not per step

    def a_call_of_fit() -> Spent:
        taken = spent(lambda: fit(trained, setting.x, trained.training_config))
        return Spent(taken.cpu / setting.steps, taken.wall / setting.steps)

    runs = (cleared(by_hand), cleared(whole), optimised)
    timed = [lambda run=run: spent(run, setting.steps) for run in runs]
    return dict(zip(SIDES, (*timed, a_call_of_fit), strict=True))


def quartiles(values: Iterable[float]) -> str:
    low, middle, high = statistics.quantiles(list(values), n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table(found: dict[str, list[Spent]], base: str) -> dict[str, float]:
    """Prints what each side took, and how many times what ``base`` did; the median ratios."""
    for name, taken in found.items():
        cpu, wall = (1e3 * statistics.median(getattr(one, kind) for one in taken) for kind in ("cpu", "wall"))
        ratios = [own.cpu / peer.cpu for own, peer in zip(taken, found[base], strict=True)]
        print(f"  {name:30}{cpu:9.2f}{wall:9.2f}   {quartiles(ratios)}", flush=True)
    return {
        name: statistics.median(own.cpu / peer.cpu for own, peer in zip(taken, found[base], strict=True))
        for name, taken in found.items()
    }


def kept(run: Callable[[], Any]) -> int:
    """Bytes that a forward pass keeps for the backward one, each storage once."""
    storages: dict[int, int] = {}
    alive = []

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        alive.append(value)
        return value

    with saved_tensors_hooks(pack, lambda value: value):
        run()
    return sum(storages.values())


def gradient(setting: Setting, model: ScoreVAE) -> tuple[float, Tensor]:
    model.train()
    model.encoder.zero_grad()
    value = setting.loss(model)
    value.backward()
    return float(value.detach()), torch.cat(
        [weight.grad.flatten() for weight in model.encoder.parameters() if weight.grad is not None]
    )


def options(setting: Setting, rounds: int) -> bool:
    """Prints what the two options change and cost; whether all changes are within bounds."""
    models = {
        "full": setting.model(),
        "bf16": setting.model(prior_precision="bf16"),
        "checkpoint": setting.model(checkpoint=True),
    }

    def step(model: ScoreVAE) -> Callable[[], Spent]:
        return lambda: spent(lambda: gradient(setting, model), 5)

    print("  options: CPU ms, wall ms, ratio; then kept MB, change of loss, change of gradient")
    table(in_turns({name: step(model) for name, model in models.items()}, rounds), "full")
    loss, slope = gradient(setting, models["full"])
    holds = True
    for name, model in models.items():
        own, its_slope = gradient(setting, model)
        changes = (abs(own / loss - 1), float((its_slope - slope).norm() / slope.norm()))
        megabytes = kept(partial(setting.loss, model)) / 1e6
        print(f"  {name:30}{megabytes:9.2f}   {changes[0]:.1e}  {changes[1]:.1e}")
        holds = holds and max(changes) <= BOUNDS.get(name, 0.0)
    return holds


@torch.no_grad()
def decoding(setting: Setting, rounds: int) -> None:
    """Prints a step of Heun's method (two calls of the score) by the model, by the prior, and the parts beside it."""
    model, steps = setting.model().eval(), 5
    noise, z = torch.randn(setting.batch, *setting.shape), torch.randn(setting.batch, LATENT)
    times, level = time_grid(model.process, steps, "karras"), torch.randn(setting.batch)

    def parts() -> None:
        setting.prior.network(noise, level)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            point = noise.detach().requires_grad_()
            torch.autograd.grad(model.encoder(point, level).sum(), point)

    def all_parts() -> None:
        for _ in range(2 * steps):
            parts()

    def per_step(run: Callable[[], Any]) -> Callable[[], Spent]:
        def timed() -> Spent:
            taken = spent(run)
            return Spent(taken.cpu / steps, taken.wall / steps)

        return timed

    runs = {
        "the prior": per_step(lambda: heun(setting.prior.score, model.process, noise, times)),
        "the parts": per_step(all_parts),
        "given a code": per_step(lambda: model.decode(z, noise=noise, steps=steps)),
        "given a code, guidance 0": per_step(lambda: model.decode(z, noise=noise, steps=steps, guidance=0)),
    }
    print("  decoding, a step of Heun: CPU ms, wall ms, times the prior's")
    table(in_turns(runs, rounds), "the prior")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    holds = True
    for name in given.cases:
        setting = Setting(name)
        print(f"{name}: events {setting.shape}, batch {setting.batch}; CPU ms, wall ms, times the parts")
        found = in_turns(training_sides(setting), given.rounds)
        loss = table(found, SIDES[0])[SIDES[1]]
        trained = statistics.median(
            own.cpu / peer.cpu for own, peer in zip(found[SIDES[3]], found[SIDES[2]], strict=True)
        )
        within = options(setting, given.rounds)
        decoding(setting, given.rounds)
        cheap = max(loss, trained) <= LIMIT
        print(
            f"  loss and backward {loss:.2f} times the parts, a step of fit {trained:.2f} times those with an optimiser"
        )
        print(f"  at most {LIMIT} times: {'holds' if cheap else 'does not hold'}")
        print(f"  options change results within bounds: {'holds' if within else 'does not hold'}")
        holds = holds and within and cheap
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

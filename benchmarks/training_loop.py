"""What ``scorefold.training.fit`` costs a step beside loops that do the same work.

All sides train one denoising MLP on the same points with the same batch size, noise, fused Adam, gradient clipping,
averaged weights (decay 0.999) and cosine schedule. They take turns in every round, so that a busy machine slows all of
them alike; ratios are taken within a round. Run: python benchmarks/training_loop.py [--steps 400] [--rounds 7]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.interfaces.capabilities import Loss, Progress, Trainable
from scorefold.training import fit

POINTS, SIZE, BATCH, WIDTH = 10_000, 20, 256, 128


class Denoiser(nn.Module, Trainable):
    """Predicts the noise that was added to a point."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.training_config = config
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Linear(SIZE, WIDTH),
                nn.SiLU(),
                nn.Linear(WIDTH, WIDTH),
                nn.SiLU(),
                nn.Linear(WIDTH, WIDTH),
                nn.SiLU(),
                nn.Linear(WIDTH, SIZE),
            )

    def error(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error of the noise: what every side minimises."""
        noise = torch.randn(x.shape, generator=generator)
        guess: Tensor = self.network(x + noise)
        return (guess - noise).square().mean()

    def loss(self, batch: Dataset, *, progress: Progress, generator: torch.Generator) -> Loss:
        return Loss(self.error(batch.x, generator))


def factor(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine."""
    return (step + 1) / warmup if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def shuffled_batches(x: Tensor) -> Iterator[Tensor]:
    """Endless batches by one index_select each: what one writes by hand for data in memory."""
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - BATCH + 1, BATCH):
            yield x.index_select(0, order[start : start + BATCH])


def loader_batches(x: Tensor) -> Iterator[Tensor]:
    """Endless batches from torch's stock loader, which collates item by item."""
    loader = DataLoader(
        TensorDataset(x), BATCH, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(0)
    )
    while True:
        for (batch,) in loader:
            yield batch


def by_hand(model: Denoiser, batches: Iterable[Tensor], config: TrainingConfig, *, accelerated: bool = False) -> None:
    """The loop that one writes by hand, optionally through accelerate's calls."""
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    parameters = list(model.parameters())
    weights = [parameter.detach() for parameter in parameters]
    average = [weight.clone() for weight in weights]
    generator = torch.Generator().manual_seed(0)
    network, stepper, accelerator = model.network, optimiser, None
    if accelerated:
        from accelerate import Accelerator  # type: ignore[import-untyped]

        accelerator = Accelerator(cpu=True)
        network, stepper = accelerator.prepare(model.network, optimiser)
    recent = []
    for step, x in zip(range(config.steps), batches, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * factor(step, config.steps, config.warmup)
        noise = torch.randn(x.shape, generator=generator)
        loss = (network(x + noise) - noise).square().mean()
        if accelerator is None:
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
        else:
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(parameters, 1.0)
        stepper.step()
        stepper.zero_grad()
        torch._foreach_lerp_(average, weights, 1 - min(0.999, (1 + step) / (10 + step)))
        recent.append(loss.detach())
        if step % config.log_every == 0:
            assert bool(torch.stack(recent).isfinite().all())
            recent.clear()
    torch._foreach_copy_(weights, average)


def sides(x: Tensor, config: TrainingConfig) -> dict[str, Callable[[], None]]:
    """Each side as a call that builds its model and trains it."""

    def ours() -> None:
        fit(Denoiser(config), Dataset(x=x), config)

    return {
        "by hand": lambda: by_hand(Denoiser(config), shuffled_batches(x), config),
        "scorefold fit": ours,
        "by hand, accelerate": lambda: by_hand(Denoiser(config), shuffled_batches(x), config, accelerated=True),
        "by hand, stock DataLoader": lambda: by_hand(Denoiser(config), loader_batches(x), config),
    }


def measure(call: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x = torch.randn(POINTS, SIZE, generator=torch.Generator().manual_seed(0))
    calls = sides(x, TrainingConfig.model_validate({"steps": options.steps, "batch_size": BATCH}))
    warm = sides(x, TrainingConfig.model_validate({"steps": 20, "batch_size": BATCH, "warmup": 5}))
    for call in warm.values():
        call()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(options.rounds):
        # Each round starts with another side, so that none always runs behind the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(measure(calls[name]))
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.rounds} rounds of {options.steps} steps")
    print(f"{'microseconds a step':28}{'CPU':>8}{'wall':>8}   CPU ratio to the loop by hand: median (quartiles)")
    for name, pairs in times.items():
        cpu, wall = (statistics.median(pair[i] for pair in pairs) / options.steps * 1e6 for i in (0, 1))
        ratios = [mine[0] / base[0] for mine, base in zip(pairs, times["by hand"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:28}{cpu:8.0f}{wall:8.0f}   {middle:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()

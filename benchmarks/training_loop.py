"""What ``scorefold_toolkit.training.fit`` costs a step beside loops that do the same work.

All sides train one denoising MLP on the same points with the same batch size, noise, fused Adam, gradient clipping,
averaged weights (decay 0.999) and cosine schedule. "watched" is what ``scorefold run`` does beside that on a terminal:
every 50 steps the metrics go to ``events.jsonl``, to a plugin's hook and to a live bar. Lightning's Trainer gets the
same batches ready-made; it runs bare, and with its CSV logger and its progress bar, which log every 50 steps too. The
sides take turns in every round, so that a busy machine slows all of them alike; ratios and differences are taken within
a round. Exit status 1 where the watched fit costs more than 100 microseconds a step above the loop by hand, in the
median round.

    python benchmarks/training_loop.py [--steps 400] [--rounds 7]
"""

from __future__ import annotations

import argparse
import io
import logging
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pluggy
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from scorefold import hookspecs
from scorefold.config import TrainingConfig
from scorefold.data import Dataset
from scorefold.interfaces.capabilities import Loss, Progress, Trainable
from scorefold.plugin import hookimpl
from scorefold.stage import RunInfo, StageInfo
from scorefold_registry.run.progress import Bars
from scorefold_registry.run.result import Events, Observers
from scorefold_toolkit.training import fit

POINTS, SIZE, BATCH, WIDTH = 10_000, 20, 256, 128
LIMIT = 100.0
BASE, WATCHED = "by hand", "scorefold fit, watched"


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
        from accelerate import Accelerator

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


class Terminal(io.StringIO):
    """Takes what a live bar draws."""

    def isatty(self) -> bool:
        return True


class Watcher:
    """A plugin that looks at every metric."""

    def __init__(self) -> None:
        self.seen = 0

    @hookimpl
    def scorefold_on_metrics(self, run: RunInfo, stage: StageInfo, step: int, metrics: Mapping[str, float]) -> None:
        self.seen += len(metrics)


def watched(x: Tensor, config: TrainingConfig) -> None:
    """``fit`` with the callbacks that a run gives it."""
    manager = pluggy.PluginManager("scorefold")
    manager.add_hookspecs(hookspecs)
    watcher = Watcher()
    manager.register(watcher)
    with tempfile.TemporaryDirectory() as folder:
        events, bars = Events(Path(folder) / "events.jsonl"), Bars(Terminal())
        run = RunInfo("benchmark", Path(folder), 0, {})
        observers = Observers(manager, events, run, files_back=list, warn=print)
        stage = StageInfo("score", "score:denoising@1", "fit", "")

        def metrics(step: int, values: Mapping[str, float]) -> None:
            events.write("metrics", stage=stage.name, step=step, metrics=dict(values))
            bars.measured(stage.name, step, values)
            observers.notify("scorefold_on_metrics", stage_name=stage.name, stage=stage, step=step, metrics=values)

        def progress(done: int, total: int, text: str) -> None:
            bars.advanced(stage.name, done, total, text)

        bars.stage_started(stage.name, stage.component, 1, 1)
        fit(Denoiser(config), Dataset(x=x), config, metrics=metrics, progress=progress)
        bars.close()
        assert watcher.seen
        assert not observers.failures


class ReadyBatches(IterableDataset[Tensor]):
    """The batches that the loop by hand gets."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __iter__(self) -> Iterator[Tensor]:
        return shuffled_batches(self._x)


def lightning_trainer(x: Tensor, config: TrainingConfig, *, logged: bool) -> None:
    """Lightning's Trainer, with its own average of weights, clipping and scheduler."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import WeightAveraging
    from lightning.pytorch.loggers import CSVLogger
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    class Module(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = Denoiser(config)
            self.noise = torch.Generator().manual_seed(0)

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            loss = self.model.error(batch, self.noise)
            if logged:
                self.log("loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            optimiser = torch.optim.Adam(self.parameters(), lr=config.learning_rate, fused=True)
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda step: factor(min(step, config.steps - 1), config.steps, config.warmup)
            )
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        trainer = pl.Trainer(
            accelerator="cpu",
            max_steps=config.steps,
            max_epochs=-1,
            gradient_clip_val=1.0,
            callbacks=[WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(0.999))],
            logger=CSVLogger(folder) if logged else False,
            enable_progress_bar=logged,
            enable_checkpointing=False,
            enable_model_summary=False,
            log_every_n_steps=config.log_every,
            default_root_dir=folder,
        )
        trainer.fit(Module(), DataLoader(ReadyBatches(x), batch_size=None))
        assert trainer.global_step == config.steps


def sides(x: Tensor, config: TrainingConfig) -> dict[str, Callable[[], None]]:
    """Each side as a call that builds its model and trains it."""

    def bare() -> None:
        fit(Denoiser(config), Dataset(x=x), config)

    return {
        BASE: lambda: by_hand(Denoiser(config), shuffled_batches(x), config),
        "scorefold fit": bare,
        WATCHED: lambda: watched(x, config),
        "by hand, accelerate": lambda: by_hand(Denoiser(config), shuffled_batches(x), config, accelerated=True),
        "by hand, stock DataLoader": lambda: by_hand(Denoiser(config), loader_batches(x), config),
        "Lightning Trainer": lambda: lightning_trainer(x, config, logged=False),
        "Lightning Trainer, logged": lambda: lightning_trainer(x, config, logged=True),
    }


def measure(call: Callable[[], None]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Lightning's remarks about the machine; its warning that data come from this process is what all sides do.
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
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
    return print_times(times, options.steps)


def print_times(times: Mapping[str, list[tuple[float, float]]], steps: int) -> int:
    """Print the table and whether the limit holds; the exit status."""
    print(f"{'microseconds a step':28}{'CPU':>7}{'wall':>7}   against the loop by hand, CPU: median (quartiles)")
    more: dict[str, float] = {}
    for name, pairs in times.items():
        cpu, wall = (statistics.median(pair[i] for pair in pairs) / steps * 1e6 for i in (0, 1))
        both = list(zip(pairs, times[BASE], strict=True))
        low, middle, high = statistics.quantiles([mine[0] / base[0] for mine, base in both], n=4)
        few, more[name], many = statistics.quantiles([(mine[0] - base[0]) / steps * 1e6 for mine, base in both], n=4)
        ratio = f"{middle:.3f} ({low:.3f} to {high:.3f})"
        print(f"{name:28}{cpu:7.0f}{wall:7.0f}   {ratio:26}{more[name]:+6.0f} us ({few:+.0f} to {many:+.0f})")
    holds = more[WATCHED] <= LIMIT
    print(f"'{WATCHED}' costs at most {LIMIT:.0f} us more: {'holds' if holds else 'does not hold'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())

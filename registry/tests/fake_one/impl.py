"""The components of the plugin for tests."""

from __future__ import annotations

import torch
from torch import nn

from scorefold.data import Dataset, EventScale
from scorefold.diffusion import VE
from scorefold.errors import DataError
from scorefold.interfaces import DataSource, Estimator, Flow, Loss, Network, ScoreModel, Trainable
from scorefold.results import Estimate
from scorefold_toolkit.nn.bijection import StandardNormal


class Points(DataSource):
    def __init__(self, config, *, generator=None):
        self.config = config
        self.seed = config.seed
        if self.seed is None:
            self.seed = 0 if generator is None else int(torch.randint(2**31, (), generator=generator))
        self.event_shape = (config.dimension,)
        self.event_scale = EventScale(mean=0.5, std=2.0)

    def load(self, split):
        generator = torch.Generator().manual_seed(self.seed)
        return Dataset(torch.randn(self.config.count, self.config.dimension, generator=generator))


class LinearBuilder(Network):
    def __init__(self, config):
        self.config = config

    def build(self, in_shape, out_shape, *, time=False, condition=None):
        return nn.Linear(in_shape[0], out_shape[0])


class Learnt(ScoreModel, Trainable):
    def __init__(self, config, *, data):
        super().__init__(VE(), data.event_shape, data.condition_spec)
        self.training_config = config.training
        self.mean = data.event_scale.mean
        self.network = config.network.build(data.event_shape, data.event_shape)

    def score(self, x, t, condition=None):
        return self.network(x)

    def loss(self, batch, *, progress, generator):
        return Loss(self.network(batch.x).square().mean())


class Whole(ScoreModel):
    def __init__(self, config, *, data):
        super().__init__(VE(), data.event_shape, None)
        self.points = data.load("train").x

    def score(self, x, t, condition=None):
        return self.points.mean(0) - x


class Wrapping(Flow):
    """A flow with a parameter of its own that holds its port as a submodule."""

    def __init__(self, config, *, score, data):
        super().__init__(data.event_shape, StandardNormal(), event_scale=data.event_scale)
        self.inner = nn.ModuleDict({"score": score})
        self.shift = nn.Parameter(torch.randn(data.event_shape))

    def forward(self, x, condition=None):
        return x + self.shift, x.new_zeros(x.shape[0])

    def inverse(self, z, condition=None):
        return z - self.shift, z.new_zeros(z.shape[0])


class Plain(Estimator):
    def __init__(self, config, *, score):
        self.score = score

    def estimate(self, data, *, generator=None):
        return Estimate("nothing", 0.0)


class Several(Plain):
    def __init__(self, config, *, scores):
        self.scores = scores


class WithDefault(Plain):
    def __init__(self, config, *, score, data, extra=None):
        self.score, self.data, self.extra = score, data, extra


class Placed(Plain):
    def __init__(self, config, *, generator, device, dtype):
        self.generator, self.device, self.dtype = generator, device, dtype


class Holding(Plain):
    def __init__(self, config, *, data):
        self.config, self.data = config, data


class NoEstimator:
    def __init__(self, config):
        pass


class Boaster(Plain):
    def __init__(self, config):
        pass


class Failing(Plain):
    def __init__(self, config):
        raise ZeroDivisionError("of all things")


class Refusing(Plain):
    def __init__(self, config):
        raise DataError("too few points")

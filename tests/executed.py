"""Networks that are executed in tests, where another process can import them."""

import torch
from torch import nn

from mec_gym.execution.network import Network, random_frames


class Branches(nn.Module):
    """Shortcuts, operations in place and two exits."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.early = nn.Linear(8, 4)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.late = nn.Linear(16, 4)

    def forward(self, x):
        x = self.first(x)
        kept = x
        early = self.early(x.mean((2, 3)))
        y = self.second(x)
        y += kept
        y.relu_()
        return early, self.late(torch.cat([y.mean((2, 3)), kept.amax((2, 3))], dim=1))


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make()


def branches():
    return seeded(Branches)


def build(make=branches, shape=(1, 3, 12, 12)):
    """What both sides execute."""
    (inputs,) = random_frames((torch.zeros(shape),), 1)
    return Network.of(make(), inputs, make.__name__)

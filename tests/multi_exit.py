"""A small network with two exits, for tests of their training."""

from torch import nn


class TwoExits(nn.Module):
    """Some 4 000 weights; an exit on a 4 x 4 pool of the first map, one on the second map."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.early = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 10))
        self.second = nn.Sequential(
            nn.Conv2d(8, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout(0.1)
        )
        self.late = nn.Sequential(nn.Flatten(), nn.Linear(512, 10))

    def forward(self, x):
        x = self.first(x)
        return self.early(x), self.late(self.second(x))

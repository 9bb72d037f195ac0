"""A small network for tests of modules."""

from minigrad import nn
from minigrad.nn import Module


class Net(Module):
    """A small network that runs."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        return self.b(self.a(x))

"""The optimiser Adam, with its state in shared memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def share(tensor: Tensor) -> Tensor:
    """Move a tensor to shared memory and return it."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


class FlatParameters:
    """A network's parameters as one vector, and its gradient as another.

    Pulling, clipping and pushing are then one operation each, however many tensors the
    network has. ``backward`` adds to ``gradient``, so it must be zeroed before.

    Args:
        network: The network whose parameters become views of ``values``, and their gradients
            views of ``gradient``.
    """

    def __init__(self, network: nn.Module) -> None:
        parameters = list(network.parameters())
        self.values = torch.cat([p.detach().reshape(-1) for p in parameters])
        self.gradient = torch.zeros_like(self.values)
        begin = 0
        for parameter in parameters:
            part = slice(begin, begin + parameter.numel())
            parameter.data = self.values[part].view_as(parameter)
            parameter.grad = self.gradient[part].view_as(parameter)
            begin = part.stop


class SharedAdam:
    """Adam [KingmaBa2015] on a vector of parameters that several processes update.

    Parameters, both moments and the number of steps lie in shared memory, so that steps of
    all processes make one sequence; whoever steps must hold a lock. Gradients are handed over
    and never kept. (The usual recipe, a ``torch.optim.Adam`` with its state shared and
    ``p.grad`` of a shared model set once to a worker's, no longer works: the state's steps
    must be tensors, and ``zero_grad``, which today sets gradients to None, leaves those of
    the shared model to pile up.)

    Args:
        parameters: The parameters to begin with, float32 (P,); they are copied.
        betas: Decay of the first and of the second moment per step.
        eps: Number that is added to the root of the second moment; raise it if steps along
            parameters with tiny gradients are too large.
    """

    def __init__(
        self, parameters: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-5
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.parameters = share(parameters.detach().clone())
        self.mean = share(torch.zeros_like(self.parameters))
        self.square = share(torch.zeros_like(self.parameters))
        self.steps = share(torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Make one step down a gradient.

        Args:
            gradient: The gradient, (P,).
            learning_rate: Size of the step.
        """
        self.steps += 1
        steps = int(self.steps)
        first, second = self.betas
        self.mean.lerp_(gradient, 1.0 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1.0 - second)
        root = self.square.sqrt().div_(math.sqrt(1.0 - second**steps)).add_(self.eps)
        self.parameters.addcdiv_(self.mean, root, value=-learning_rate / (1.0 - first**steps))

    def state(self) -> dict[str, Tensor]:
        """Return copies of everything that lies in shared memory, by name."""
        return {name: getattr(self, name).clone() for name in _STATE}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what :meth:`state` returned.

        Raises:
            ValueError: The state belongs to another network.
        """
        for name in _STATE:
            shared: Tensor = getattr(self, name)
            if state[name].shape != shared.shape:
                raise ValueError(
                    f"{name} must have shape {tuple(shared.shape)}, got {tuple(state[name].shape)}"
                )
            shared.copy_(state[name])


_STATE = ("parameters", "mean", "square", "steps")

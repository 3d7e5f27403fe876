"""The multi-task network of [Li2024]: one classification per device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.heads import Head
from agents.networks.parts import (
    SMALL_GAIN,
    PolicyNetwork,
    linear,
    trunk,
    width_of,
)
from agents.settings import NetworkOptions


class Branches(nn.Module):
    """N separate branches, each of one hidden layer and C logits.

    Args:
        inputs: Width of the features.
        hidden: Width of the hidden layer of each branch.
        choices: Number N of choices.
        places: Number C of places per choice.
    """

    def __init__(self, inputs: int, hidden: int, choices: int, places: int) -> None:
        super().__init__()
        # All branches at once: N hidden layers side by side, then N products in one.
        first = [linear(inputs, hidden).weight.detach() for _ in range(choices)]
        last = [linear(hidden, places, SMALL_GAIN).weight.detach() for _ in range(choices)]
        self.hidden = nn.Linear(inputs, choices * hidden)
        self.hidden.weight.data = torch.cat(first)
        nn.init.zeros_(self.hidden.bias)
        self.weight = nn.Parameter(torch.stack(last).transpose(1, 2).contiguous())
        self.bias = nn.Parameter(torch.zeros(choices, 1, places))

    def forward(self, features: Tensor, seen: Tensor) -> Tensor:
        """Return logits (B, N, C) for features (B, inputs)."""
        hidden = torch.tanh(self.hidden(features)).view(len(features), len(self.weight), -1)
        return torch.baddbmm(self.bias, hidden.transpose(0, 1), self.weight).transpose(0, 1)


class RowScorer(nn.Module):
    """One scorer for all devices, shown the device's row of the inputs beside the features.

    Args:
        inputs: Width of the features.
        columns: Width of a row.
        hidden: Width of the hidden layer.
        choices: Number N of choices.
        places: Number C of places per choice.
    """

    def __init__(self, inputs: int, columns: int, hidden: int, choices: int, places: int) -> None:
        super().__init__()
        self.choices, self.columns = choices, columns
        self.of_all = linear(inputs, hidden, gain=1.0)
        self.of_device = linear(columns, hidden, gain=1.0, bias=False)
        self.logits = linear(hidden, places, SMALL_GAIN)

    def forward(self, features: Tensor, seen: Tensor) -> Tensor:
        """Return logits (B, N, C) for features (B, inputs) and what the network saw (B, D)."""
        rows = seen[:, : self.choices * self.columns].reshape(-1, self.choices, self.columns)
        hidden = torch.tanh(self.of_all(features).unsqueeze(-2) + self.of_device(rows))
        logits: Tensor = self.logits(hidden)
        return logits


class GatedScorer(nn.Module):
    """One scorer for all devices, told by a one-hot number which one it is asked for.

    The number multiplies the hidden layer (its weights are a gate for each device). Where it
    only added to it, the scorer could not pick out what concerns the device: a problem of
    three devices stayed 180 % from its optimum, which is reached with gates.

    Args:
        inputs: Width of the features.
        hidden: Width of the hidden layer.
        choices: Number N of choices.
        places: Number C of places per choice.
    """

    def __init__(self, inputs: int, hidden: int, choices: int, places: int) -> None:
        super().__init__()
        self.of_all = linear(inputs, hidden, gain=1.0)
        self.gate = nn.Parameter(torch.randn(choices, hidden))
        self.logits = linear(hidden, places, SMALL_GAIN)

    def forward(self, features: Tensor, seen: Tensor) -> Tensor:
        """Return logits (B, N, C) for features (B, inputs)."""
        hidden = torch.tanh(self.of_all(features).unsqueeze(-2) * self.gate)
        logits: Tensor = self.logits(hidden)
        return logits


class BranchesNetwork(PolicyNetwork):
    """A network whose tasks are one classification per device, and the value.

    As pi(a|s) is the product of pi_n(a_n|s), the output grows as N C and not as C^N. The text of
    the patent of [Li2024] ends before it says how the tasks share parameters; both usual ways are
    here:

    - ``sharing="hard"`` [Caruana1997]: branches and value stand on one trunk;
    - ``sharing="soft"`` [Duong2015]: the branches stand on the actor's trunk, the value on a
      critic's trunk of the same shape. Both begin alike and are tied by
      lambda * ||theta_a - theta_c||^2.

    ``output="branch"`` is the literal reading, a separate branch for each device's block;
    ``output="tied"`` has one scorer for all devices. Where the head says that the inputs begin
    with N rows, one per device (``device_columns``), the scorer reads the row of its device,
    elsewhere the number of its device.

    Args:
        head: The head of the problem; its spaces say what D, N and C are.
        options: The options of the network but for ``order``.

    Raises:
        ValueError: The head's outputs are of a kind that no network has.
    """

    def __init__(self, head: Head, options: NetworkOptions) -> None:
        super().__init__(head.output_space, options.log_std_init)
        inputs, hidden = width_of(head.input_space), options.hidden
        self.sharing_weight = options.sharing_weight
        self.trunk = trunk(inputs, hidden)
        self.critic_trunk: nn.Sequential | None = None
        if options.sharing == "soft":
            self.critic_trunk = trunk(inputs, hidden)
            self.critic_trunk.load_state_dict(self.trunk.state_dict())
        size = (self.choices, self.places)
        self.branches: Branches | RowScorer | GatedScorer
        if options.output == "branch":
            self.branches = Branches(hidden, max(hidden // 2, 1), *size)
        elif head.device_columns:
            self.branches = RowScorer(hidden, head.device_columns, hidden, *size)
        else:
            self.branches = GatedScorer(hidden, hidden, *size)
        self.value = linear(hidden, 1, gain=1.0)

    def forward(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs (B, N, K) and values (B,) for inputs (B, D)."""
        features = self.trunk(inputs)
        computed = self.branches(features, inputs)
        seen = features if self.critic_trunk is None else self.critic_trunk(inputs)
        return self.outputs(computed), self.value(seen).squeeze(-1)

    def sharing_loss(self) -> Tensor | float:
        """Return lambda * ||theta_a - theta_c||^2, or 0 if there is only one trunk."""
        if self.critic_trunk is None:
            return 0.0
        pairs = zip(self.trunk.parameters(), self.critic_trunk.parameters(), strict=True)
        squares = [(actor - critic).square().sum() for actor, critic in pairs]
        return self.sharing_weight * torch.stack(squares).sum()

"""A scorer of (device, place) pairs: the same few parameters for any number of both."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from agents.distributed_inference.pairs.head import DEVICE, PAIR, ROUND, PairsHead
from agents.heads import Head
from agents.networks.fused import FusedCategorical, masked
from agents.networks.parts import NetworkOptions, PolicyNetwork, choices_of, linear
from mec_gym.distributed_inference.model import WORST_LATENESS

SECONDS = 0.02
"""Delays are seen as log(1 + delay / this)."""
SHARP = 50.0
"""Inverse temperature of the prior at the start, per unit of reward."""
TRUST = 0.3
"""How much of what is expected of later devices the prior counts, at the start."""
WIDTH = 0.1
"""Of the step that a deadline is, share of it: where it lies is not known beforehand."""
DOWN = [2, 5]  # of what is asked for: the bands down
DELAYS = PAIR.index("load")  # so many columns of a pair are seconds
STATIC = len(PAIR) + DELAYS  # numbers of a pair, whatever the others do
ABOUT = 8  # of a device
MOVING = 8  # of a pair, given what the others do


@dataclass(slots=True)
class _Round:
    """What the head said, taken apart. B rounds, N devices, P places."""

    pair: dict[str, Tensor]  # (B, N, P)
    device: dict[str, Tensor]  # (B, N)
    allowed: Tensor  # bool (B, N, P)
    takes: Tensor  # (3, B, N, P) of server, band up, band down: s
    uses: Tensor  # (3, B, N, P) whether it takes any
    matters: Tensor  # (3, B, N, P) reward that others lose by it
    static: Tensor  # (B, N, P, hidden)
    value: Tensor  # (B,)
    # (6, B, N, P) what devices later in the order are expected to ask for.
    later: Tensor = field(init=False)

    def asks(self, share: Tensor, which: slice = slice(None)) -> Tensor:
        """What devices ask of each server, (6, B, n, P): whether, and what others lose.

        Args:
            share: Of each place, how much of it is chosen, (B, n, P).
            which: Of the devices.
        """
        asked = torch.cat([self.uses[:, :, which], self.matters[:, :, which]]) * share
        # What is computed at home is fetched in the band of the station where it was.
        down = asked[DOWN]
        fetched = down[..., :1] * self.pair["stays"][:, which]
        down = torch.cat([fetched[..., :1], fetched[..., 1:] + down[..., 1:]], -1)
        return torch.stack([*asked[:2], down[0], *asked[3:5], down[1]])


class PairsNetwork(PolicyNetwork):
    """Scores every (device, place) pair with one small network.

    What a pair costs all together is known but for the future: its delay now and later, and
    by how much it slows the others down. That marginal cost, with the penalty that the
    task's predicted end brings, is the prior; the network adds what it has learnt:

        logit = -k cost + net(pair, device, pooled context, others)

    Places that are not allowed are masked. In the ``sequential`` order device n sees what
    devices 1 .. n-1 of the same round have chosen, pi(a|s) = product of
    pi_n(a_n | s, a_1 .. a_{n-1}), and what the rest would choose by the prior; in the other
    all devices see only the latter. No parameter depends on N or M.

    Args:
        head: A ``PairsHead``.
        options: ``hidden`` and ``order`` are used.

    Raises:
        ValueError: Another head.
    """

    def __init__(self, head: Head, options: NetworkOptions) -> None:
        if not isinstance(head, PairsHead):
            raise ValueError(f"network 'pairs' needs head 'pairs', got {type(head).__name__}")
        super().__init__(*choices_of(head.output_space))
        scenario = head.problem.scenario
        self.beta = scenario.latency_weight
        self.miss_cost, self.late_weight = scenario.miss_cost, scenario.late_weight
        self.sequential = options.order == "sequential"
        hidden = options.hidden
        self.of_device = linear(ABOUT + len(ROUND), hidden)
        self.of_all = linear(hidden + len(ROUND), hidden, bias=False)
        self.of_pair = linear(STATIC, hidden)
        self.of_own = linear(hidden, hidden, bias=False)
        self.of_others = linear(MOVING, hidden, bias=False)
        self.middle = linear(hidden, hidden)
        self.score = linear(hidden, 1, gain=0.01)
        self.trust = nn.Parameter(torch.tensor(TRUST))
        self.log_sharp = nn.Parameter(torch.tensor(SHARP).log())
        self.of_value = linear(2 * hidden + len(ROUND), hidden)
        self.value = linear(hidden, 1, gain=0.1)

    def forward(self, inputs: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, N, C) of inputs (B, D), given that places (B, N) are chosen, and values.

        Without places, or if nobody sees another's choice, as if nobody had chosen yet.
        """
        seen = self._look(inputs)
        if places is None or not self.sequential:
            before = torch.zeros_like(seen.later)
        else:
            chosen = nn.functional.one_hot(places, self.places).to(inputs.dtype)
            each = seen.asks(chosen)
            before = each.cumsum(dim=2) - each
        return self._logits(seen, before), seen.value

    def choose(
        self, inputs: Tensor, generator: torch.Generator | None = None, greedy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places (B, N), the logits (B, N, C) they were chosen by, and values (B,)."""
        if not self.sequential:
            return super().choose(inputs, generator, greedy)
        seen = self._look(inputs)
        before = torch.zeros_like(seen.later[:, :, :1])
        all_places, all_logits = [], []
        for n in range(self.choices):
            logits = self._logits(seen, before, slice(n, n + 1))
            chosen = FusedCategorical(logits)
            place = chosen.mode() if greedy else chosen.sample(generator)
            all_places.append(place)
            all_logits.append(logits)
            mark = nn.functional.one_hot(place, self.places).to(inputs.dtype)
            before = before + seen.asks(mark, slice(n, n + 1))
        return torch.cat(all_places, 1), torch.cat(all_logits, 1), seen.value

    def sized(self, head: Head) -> PairsNetwork:
        """The same network, its parameters shared, for a problem of another size."""
        other = copy.copy(self)
        other.choices, other.places = choices_of(head.output_space)
        return other

    def _look(self, inputs: Tensor) -> _Round:
        n, p = self.choices, self.places
        size = n * p * len(PAIR)
        pairs = inputs[:, :size].view(-1, n, p, len(PAIR))
        devices = inputs[:, size : size + n * len(DEVICE)].view(-1, n, len(DEVICE))
        rounds = inputs[:, size + n * len(DEVICE) :]
        pair = dict(zip(PAIR, pairs.unbind(-1), strict=True))
        device = dict(zip(DEVICE, devices.unbind(-1), strict=True))
        allowed = pair["allowed"] > 0.5
        takes = torch.stack([pair["compute"], pair["upload"], pair["download"]])
        uses = (takes > 0).to(inputs.dtype)

        deadline = device["deadline"]
        logs = torch.log1p(pairs[..., :DELAYS] / SECONDS)
        ratios = (pairs[..., :DELAYS] / deadline[..., None, None]).clamp(max=3.0)
        static = torch.cat([logs, ratios, pairs[..., DELAYS:]], -1)
        base = pair["now"] + pair["ahead"]
        best = torch.where(allowed, base, torch.inf).amin(dim=-1)
        about = torch.stack(
            [
                *(device[name] for name in ("active", "blocks_left", "energy")),
                (device["delay"] / deadline).clamp(max=3.0),
                torch.log1p(deadline / SECONDS),
                torch.log1p(best / SECONDS),
                ((deadline - device["delay"] - best) / deadline).clamp(-2.0, 1.0),
                torch.log1p(device["delay"] / SECONDS),
            ],
            dim=-1,
        )
        wide = rounds[:, None].expand(-1, n, -1)
        own = torch.tanh(self.of_device(torch.cat([about, wide], -1)))
        active = device["active"][..., None]
        pooled = (own * active).sum(1) / active.sum(1).clamp(min=1.0)
        all_seen = torch.cat([pooled, rounds], -1)
        hidden = (
            self.of_pair(static)
            + self.of_own(own)[:, :, None]
            + self.of_all(all_seen)[:, None, None]
        )
        stock = torch.cat([own, all_seen[:, None].expand(-1, n, -1)], -1)
        values = self.value(torch.tanh(self.of_value(stock))).squeeze(-1)
        value = (values * device["exists"]).sum(-1) / device["exists"].sum(-1)
        # What a second of each device's delay costs: beta, and what it adds to the penalty.
        off = (device["delay"] + best - deadline) / deadline
        near = torch.sigmoid(off / WIDTH)
        price = self.beta + self.miss_cost / WIDTH * near * (1.0 - near) / deadline
        price = price + self.late_weight * (off > 0) * (off < WORST_LATENESS) / deadline
        seen = _Round(pair, device, allowed, takes, uses, takes * price[..., None], hidden, value)
        # What everybody would do by the prior, alone.
        expected = seen.asks(torch.softmax(masked(-SHARP * self.beta * base, allowed), dim=-1))
        total = expected.sum(dim=2, keepdim=True)
        seen.later = total - (expected.cumsum(dim=2) if self.sequential else expected)
        return seen

    def _logits(self, seen: _Round, before: Tensor, which: slice = slice(None)) -> Tensor:
        """Logits of devices, given what those before them take at each place (6, B, n, P)."""
        stays = seen.pair["stays"][:, which]
        takes, uses = seen.takes[:, :, which], seen.uses[:, :, which]
        deadline = seen.device["deadline"][:, which, None]
        spent = seen.device["delay"][:, which, None]
        now, ahead = seen.pair["now"][:, which], seen.pair["ahead"][:, which]
        slows = []
        for others in (before, seen.later[:, :, which]):
            # The band that a block comes home by is that of the station where it was.
            down = others[DOWN]
            down = torch.cat([(down * stays).sum(-1, keepdim=True), down[..., 1:]], -1)
            met = torch.stack([*others[:2], down[0], *others[3:5], down[1]])
            slows.append(((takes * met[:3]).sum(0), (uses * met[3:]).sum(0)))
        (own, harm), (own_later, harm_later) = slows
        delay = now + ahead + own + self.trust * own_later
        slack = (deadline - spent - delay) / deadline
        penalty = self.miss_cost * torch.sigmoid(-slack / WIDTH)
        penalty = penalty + self.late_weight * (-slack).clamp(0.0, WORST_LATENESS)
        cost = self.beta * delay + harm + self.trust * harm_later + penalty
        allowed = seen.allowed[:, which]
        least = torch.where(allowed, cost, torch.inf).amin(-1, keepdim=True)
        moving = torch.stack(
            [
                torch.log1p(own / SECONDS),
                torch.log1p(harm / SECONDS),
                torch.log1p(own_later / SECONDS),
                torch.log1p(harm_later / SECONDS),
                slack.clamp(-2.0, 1.0),
                (slack - own_later / deadline).clamp(-2.0, 1.0),
                torch.tanh(SHARP * (cost - least) / 10.0),
                penalty,
            ],
            dim=-1,
        )
        hidden = torch.tanh(seen.static[:, which] + self.of_others(moving))
        hidden = torch.tanh(self.middle(hidden))
        scores = self.score(hidden).squeeze(-1)
        return masked(scores - self.log_sharp.exp() * cost, allowed)

"""A scorer of (device, place) pairs: the same few parameters for any number of both.

Letters in shapes: B rounds, N devices (n where only some of them), P places. Place 0 is the
device itself, place m = 1..M is server m, and station m is the radio station beside it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.distributed_inference.pairs.features import (
    DeviceFeatures,
    Features,
    Layout,
    PairDelays,
    PairFeatures,
    RoundFeatures,
    columns,
    width,
)
from agents.distributed_inference.pairs.head import PairsHead
from agents.heads import Head
from agents.networks.distributions import FusedCategorical, masked
from agents.networks.parts import PolicyNetwork, linear, size_of
from agents.settings import NetworkOptions
from mec_gym.distributed_inference.model import WORST_LATENESS

SECONDS = 0.02
"""Delays enter the network as log(1 + delay / this), in seconds."""
SHARP = 50.0
"""How sharply the prior prefers lower costs at the start, per unit of reward.

The larger, the closer an untrained network plays to the cheapest places.
"""
TRUST = 0.5
"""How much of what is expected of later devices the prior counts at the start, from 0 to 1."""
WIDTH = 0.1
"""How wide the step is that a missed deadline makes in the prior, as a share of the deadline.

The delay is not known beforehand, so the prior has a slope where the reward has a step.
"""
NO_WIDTH = 1e-6
"""The same where the delay is known: that of the current block without contention."""
MOST_RATIO = 3.0
"""Delays as shares of a deadline enter the network up to this."""
LEAST_SLACK = -2.0
"""Slack as a share of a deadline enters the network down to this."""
COST_SCALE = 10.0
"""Costs enter the network as tanh(``SHARP`` * excess over the least / this)."""

LOGS = 4
"""How many logarithms the network reads of :class:`Crowd`."""

EVERYBODY = slice(None)
"""All devices, where some may be picked."""


@dataclass(slots=True)
class DeviceSummary:
    """What the network reads of each device, each (B, N).

    Attributes:
        active: Whether the device has a block to place, as in :class:`DeviceFeatures`.
        blocks_left: How much of its task is left, as in :class:`DeviceFeatures`.
        energy: What the rest would cost at home, as in :class:`DeviceFeatures`.
        spent: The task's delay so far, as a share of its deadline.
        deadline: Logarithm of the deadline.
        best: Logarithm of the least delay still to come, if nobody else were there.
        slack: What is left at best of the deadline of the task, or of the current block, as a
            share of it.
        delay: Logarithm of the task's delay so far.
    """

    active: Tensor
    blocks_left: Tensor
    energy: Tensor
    spent: Tensor
    deadline: Tensor
    best: Tensor
    slack: Tensor
    delay: Tensor


@dataclass(slots=True)
class Crowd:
    """How each pair and the other devices get in each other's way.

    Attributes:
        own: The delay that devices before it in the order add to the device's own, (B, n, P) s.
        harm: What its block costs them, (B, n, P).
        own_later: As ``own``, of the devices that are expected to come after it.
        harm_later: As ``harm``, of those.
        logs: The logarithms of all four, which the network reads, (B, n, P, 4).
    """

    own: Tensor
    harm: Tensor
    own_later: Tensor
    harm_later: Tensor
    logs: Tensor


@dataclass(slots=True)
class Sharing:
    """What devices share: three things, and two amounts of each, which depend on whose they are.

    A station's server computes, its band up carries inputs, its band down carries blocks that
    come home and results. These three lie along the first axis, the two amounts along the second.

    Attributes:
        stays: 1 where the devices' blocks before ran, else 0, (B, N, P).
        exposure: By how much a block suffers from others and makes them suffer, if its device
            chooses a place: seconds that each other block there adds to its delay, and whether
            it adds any to theirs, (3, 2, B, N, P).
        burden: What a block brings to a place: itself, as 1 where it shares anything, and the
            reward that its device loses by each other block there, (3, 2, B, N, P).
        likely: How likely each device is to choose each place, as far as the others can know
            beforehand, (B, N, P).
        sequential: Whether the devices choose one after the other.
    """

    stays: Tensor
    exposure: Tensor
    burden: Tensor
    likely: Tensor
    sequential: bool

    def brought(self, chosen: Tensor, which: slice = EVERYBODY) -> Tensor:
        """What devices bring to each station, (3, 2, B, n, P).

        It differs from what they bring to the places that they choose in one respect: a block
        that is computed at home comes home by the band of the station where it was.

        Args:
            chosen: How likely each of them is to choose each place, (B, n, P).
            which: The devices that ``chosen`` is about.
        """
        asked = self.burden[..., which, :] * chosen
        down = asked[2]
        fetched = down[..., :1] * self.stays[:, which]
        down[..., 0] = 0.0
        down += fetched
        return asked

    def met(self, there: Tensor, which: slice = EVERYBODY) -> Tensor:
        """What devices suffer at each place they may choose and what they do there, (2, B, n, P).

        Args:
            there: What others bring to each station, for each of the devices, (3, 2, B, n, P).
            which: The devices.
        """
        exposure, down = self.exposure[..., which, :], there[2]
        fetched = (down * self.stays[:, which]).sum(-1, keepdim=True)
        server, up = exposure[:2] * there[:2]
        down = exposure[2] * torch.cat([fetched, down[..., 1:]], -1)
        return torch.add(server + up, down)

    def met_later(self) -> Tensor:
        """What all devices are to expect of those that choose after them, (2, B, N, P).

        If nobody goes first, those are all others.
        """
        expected = self.brought(self.likely)
        own = expected.cumsum(-2) if self.sequential else expected
        return self.met(expected.sum(-2, keepdim=True) - own)


@dataclass(slots=True)
class Basis:
    """What the hidden layer of pairs begins with; neither choices nor parameters have a part in it.

    Attributes:
        pairs: What is read of each pair, (B, N, P, columns).
        devices: What is read of each device and its round, (B, N, columns).
        rounds: What is read of each round, (B, columns).
        active: 1 if the device has a block to place, else 0, (B, N, 1).
        exists: 1, or 0 for a row that only fills up the room, (B, N).
    """

    pairs: Tensor
    devices: Tensor
    rounds: Tensor
    active: Tensor
    exists: Tensor


@dataclass(slots=True)
class Alone:
    """What the prior reads of devices, as if they were alone.

    Attributes:
        allowed: Whether a place may be chosen, bool (B, n, P).
        now: Delay of the block, (B, n, P) s.
        ahead: The least cost of all that comes after it, (B, n, P) s.
        spent: The task's delay so far, (B, n, 1) s.
        deadline: The deadline of the task or of the block, (B, n, 1) s.
    """

    allowed: Tensor
    now: Tensor
    ahead: Tensor
    spent: Tensor
    deadline: Tensor

    def of(self, which: slice) -> Alone:
        """The same of some of the devices."""
        return Alone(*(column[:, which] for column in columns(self)))


@dataclass(slots=True)
class Judgement:
    """What the network reads of a pair that depends on the prior's parameters, each (B, n, P).

    Attributes:
        slack: What is left of the deadline, as a share of it.
        slack_later: The same if all that is expected of later devices comes true.
        cost: How much the pair costs more than the device's cheapest, between 0 and 1.
        penalty: The expected penalty.
    """

    slack: Tensor
    slack_later: Tensor
    cost: Tensor
    penalty: Tensor


class PairsNetwork(PolicyNetwork):
    """Scores every (device, place) pair with one small network, beside a computed prior.

    The prior is what a choice costs all devices together, in units of reward, as far as it can
    be known: by how much device i's choice of place p changes the objective [Li2024] eq. (11),

        cost_ip    = beta (delay_ip + ahead_ip) + harm_ip + penalty_ip
        delay_ip   = now_ip + sum over r of take_ipr K_ir
        harm_ip    = sum over r of use_ipr H_ir
        penalty_ip = miss_cost sigmoid(x / WIDTH) + late_weight min(max(x, 0), WORST_LATENESS)
                     with x = (spent_i + delay_ip + ahead_ip - rho_i) / rho_i,
                     or, if each block has a deadline, x = (delay_ip - rho_i) / rho_i

    Here ``now`` is the current block's delay by [Li2024] eq. (3), (5) and (6), ``ahead`` the
    least cost of the blocks that follow, and ``spent`` the task's delay so far. The penalty is
    that of [Li2024] eq. (12), with a slope instead of the step at the deadline rho. The
    resources r are the servers and the bands of their stations, up and down. Each is shared
    equally, so K other blocks at r add K ``take`` to the delay of one that would take
    ``take`` seconds by itself; ``use`` is 1 where ``take`` is above 0, else 0. K_ir is the
    number of the other devices' blocks at r, and H_ir the reward that those devices lose by one
    more block. Both count the devices that have chosen already and, times ``trust``, those that
    are still to choose:

        K_ir = sum over j before i of use_jr + trust (sum over j after i of E[use_jr])
        H_ir = sum over j before i of price_j take_jr
               + trust (sum over j after i of E[price_j take_jr])
        price_j = beta + d penalty_j / d delay_j, at the least now + ahead of all places, or, if
                  each block has a deadline, at the place's own now

    The expectation E[.] supposes that device j chooses by a softmax of
    -SHARP beta (now_j + ahead_j) over its allowed places; if each block has a deadline, its
    penalty is added.
    The network adds what it has learnt, and places that are not allowed are masked:

        logit_ip = score(pair, device, mean over devices, others) - sharp cost_ip

    ``trust`` and ``sharp`` are learnt, too; they start at ``TRUST`` and ``SHARP``.

    In the ``sequential`` order device i sees what devices 1 .. i-1 of the same round have
    chosen, pi(a|s) = product over i of pi_i(a_i | s, a_1 .. a_{i-1}); in the order ``together``
    nobody has chosen before and all others are to come. No parameter depends on N or M.

    Args:
        head: A ``PairsHead``.
        options: The network uses ``hidden`` and ``order``.

    Raises:
        ValueError: The head is another one.
    """

    def __init__(self, head: Head, options: NetworkOptions) -> None:
        if not isinstance(head, PairsHead):
            raise ValueError(f"network 'pairs' needs head 'pairs', got {type(head).__name__}")
        super().__init__(head.output_space)
        scenario = head.problem.scenario
        self.beta = scenario.latency_weight
        self.miss_cost, self.late_weight = scenario.miss_cost, scenario.late_weight
        self.block_is_due = scenario.deadline_of == "block"
        known = self.block_is_due and not scenario.contention
        self.width = NO_WIDTH if known else WIDTH
        self.sequential = options.order == "sequential"
        hidden, of_round = options.hidden, width(RoundFeatures)
        self.of_device = linear(width(DeviceSummary) + of_round, hidden)
        self.of_all = linear(hidden + of_round, hidden, bias=False)
        self.of_pair = linear(width(PairFeatures) + width(PairDelays), hidden)
        self.of_own = linear(hidden, hidden, bias=False)
        self.of_others = linear(LOGS + width(Judgement), hidden, bias=False)
        self.middle = linear(hidden, hidden)
        self.score = linear(hidden, 1, gain=0.01)
        self.trust = nn.Parameter(torch.tensor(TRUST))
        self.log_sharp = nn.Parameter(torch.tensor(SHARP).log())
        self.of_value = linear(2 * hidden + of_round, hidden)
        self.value = linear(hidden, 1, gain=0.1)

    def forward(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits (B, N, C) of inputs (B, D), given that places (B, N) are chosen, and values.

        If no places are given, or nobody sees another's choice, the logits are those of a
        device before which nobody has chosen.
        """
        return self.from_kept(self.keep(inputs, actions))

    def keep(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, ...]:
        """All that is known without the parameters: a basis, what is alone and the crowd."""
        basis, alone, sharing = self._look(inputs)
        if actions is None or not self.sequential:
            before = torch.zeros_like(sharing.burden)
        else:
            chosen = nn.functional.one_hot(actions, self.places).to(inputs.dtype)
            each = sharing.brought(chosen)
            before = each.cumsum(-2) - each
        crowd = _crowd(sharing.met(before), sharing.met_later())
        return tuple(columns(basis) + columns(alone) + columns(crowd))

    def from_kept(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Logits (B, N, C) and values (B,)."""
        rest, crowd = kept[: -width(Crowd)], Crowd(*kept[-width(Crowd) :])
        hidden, value = self._static(Basis(*rest[: width(Basis)]))
        return self._logits(Alone(*rest[width(Basis) :]), crowd, hidden), value

    def choose(
        self, inputs: Tensor, generator: torch.Generator | None = None, greedy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places (B, N), the logits (B, N, C) they were chosen by, and values (B,)."""
        if not self.sequential:
            return super().choose(inputs, generator, greedy)
        basis, alone, sharing = self._look(inputs)
        hidden, value = self._static(basis)
        later = sharing.met_later()
        before = torch.zeros_like(sharing.burden[..., :1, :])
        all_places, all_logits = [], []
        for i in range(self.choices):
            device = slice(i, i + 1)
            crowd = _crowd(sharing.met(before, device), later[:, :, device])
            logits = self._logits(alone.of(device), crowd, hidden[:, device])
            chosen = FusedCategorical(logits)
            place = chosen.mode() if greedy else chosen.sample(generator)
            all_places.append(place)
            all_logits.append(logits)
            mark = nn.functional.one_hot(place, self.places).to(inputs.dtype)
            before = before + sharing.brought(mark, device)
        return torch.cat(all_places, 1), torch.cat(all_logits, 1), value

    def sized(self, head: Head) -> PairsNetwork:
        """The same network, its parameters shared, for a problem of another size."""
        other = copy.copy(self)
        other.choices, other.places = size_of(head.output_space)
        return other

    def _look(self, inputs: Tensor) -> tuple[Basis, Alone, Sharing]:
        """Everything about rounds (B, D) that depends neither on choices nor on parameters."""
        features = Layout(self.choices, self.places - 1).unpack(inputs)
        pair, device = features.pair, features.device
        allowed = pair.allowed > 0.5
        base = pair.now + pair.ahead
        best = torch.where(allowed, base, torch.inf).amin(dim=-1)
        due = device.deadline[..., None]
        if self.block_is_due:
            off = (pair.now - due) / due
            base = base + self._penalty(-off) / self.beta
        else:
            off = ((device.delay + best)[..., None] - due) / due
        slack = -torch.where(allowed, off, torch.inf).amin(dim=-1)
        takes = torch.stack([pair.compute, pair.upload, pair.download])
        uses = (takes > 0).to(takes.dtype)
        price = self._deadline_price(off, due)
        sharing = Sharing(
            stays=pair.stays,
            exposure=torch.stack([takes, uses], 1),
            burden=torch.stack([uses, takes * price], 1),
            likely=torch.softmax(masked(-SHARP * self.beta * base, allowed), dim=-1),
            sequential=self.sequential,
        )
        alone = Alone(allowed, pair.now, pair.ahead, device.delay[..., None], due)
        return _basis(features, best, slack), alone, sharing

    def _static(self, basis: Basis) -> tuple[Tensor, Tensor]:
        """The hidden layer (B, N, P, hidden) as far as choices do not matter, and values (B,)."""
        own = torch.tanh(self.of_device(basis.devices))
        mean = (own * basis.active).sum(1) / basis.active.sum(1).clamp(min=1.0)
        of_all = torch.cat([mean, basis.rounds], -1)
        of_own, of_all_devices = self.of_own(own)[:, :, None], self.of_all(of_all)[:, None, None]
        hidden = self.of_pair(basis.pairs) + of_own + of_all_devices
        stock = torch.cat([own, of_all[:, None].expand(-1, self.choices, -1)], -1)
        values = self.value(torch.tanh(self.of_value(stock))).squeeze(-1)
        return hidden, (values * basis.exists).sum(-1) / basis.exists.sum(-1)

    def _deadline_price(self, off: Tensor, deadline: Tensor) -> Tensor:
        """What a second more of delay costs, (B, N, 1 or P): beta + d penalty / d delay.

        Args:
            off: By how much the deadline is missed where the slope is taken, as a share of it,
                (B, N, 1 or P).
            deadline: The deadline, (B, N, 1) s.
        """
        near = torch.sigmoid(off / self.width)
        price = self.beta + self.miss_cost / self.width * near * (1.0 - near) / deadline
        return price + self.late_weight * (off > 0) * (off < WORST_LATENESS) / deadline

    def _penalty(self, slack: Tensor) -> Tensor:
        """The penalty to expect where so much of the deadline is left, as a share of it."""
        penalty = self.miss_cost * torch.sigmoid(-slack / self.width)
        return penalty + self.late_weight * (-slack).clamp(0.0, WORST_LATENESS)

    def _logits(self, alone: Alone, crowd: Crowd, hidden: Tensor) -> Tensor:
        """Logits (B, n, P) of devices, given the crowd; ``hidden`` is that of :meth:`_static`."""
        delay = alone.now + crowd.own + self.trust * crowd.own_later
        whole = delay + alone.ahead
        due = delay if self.block_is_due else alone.spent + whole
        slack = (alone.deadline - due) / alone.deadline
        penalty = self._penalty(slack)
        cost = self.beta * whole + crowd.harm + self.trust * crowd.harm_later + penalty
        least = torch.where(alone.allowed, cost, torch.inf).amin(-1, keepdim=True)
        judgement = Judgement(
            slack=slack.clamp(LEAST_SLACK, 1.0),
            slack_later=(slack - crowd.own_later / alone.deadline).clamp(LEAST_SLACK, 1.0),
            cost=torch.tanh(SHARP * (cost - least) / COST_SCALE),
            penalty=penalty,
        )
        situation = torch.cat([crowd.logs, torch.stack(columns(judgement), -1)], -1)
        hidden = torch.tanh(hidden + self.of_others(situation))
        hidden = torch.tanh(self.middle(hidden))
        scores = self.score(hidden).squeeze(-1)
        return masked(scores - self.log_sharp.exp() * cost, alone.allowed)


def _crowd(met: Tensor, later: Tensor) -> Crowd:
    """What devices meet, and what they are to expect of later ones; both (2, B, n, P)."""
    (own, harm), (own_later, harm_later) = met, later
    logs = _log_seconds(torch.stack([own, harm, own_later, harm_later], -1))
    return Crowd(own, harm, own_later, harm_later, logs)


def _basis(features: Features[Tensor], best: Tensor, slack: Tensor) -> Basis:
    """What is read of rounds whose devices' least cost still to come is ``best`` (B, N)."""
    pair, device = features.pair, features.device
    delays = torch.stack(columns(pair, PairDelays), -1)
    ratios = (delays / device.deadline[..., None, None]).clamp(max=MOST_RATIO)
    rest = torch.stack([pair.load, pair.stays, pair.allowed], -1)
    about = torch.stack(columns(_summary(device, best, slack)), -1)
    rounds = torch.stack(columns(features.round), -1)
    each = rounds[:, None].expand(-1, device.active.shape[-1], -1)
    return Basis(
        pairs=torch.cat([_log_seconds(delays), ratios, rest], -1),
        devices=torch.cat([about, each], -1),
        rounds=rounds,
        active=device.active[..., None],
        exists=device.exists,
    )


def _log_seconds(delay: Tensor) -> Tensor:
    return torch.log1p(delay / SECONDS)


def _summary(device: DeviceFeatures[Tensor], best: Tensor, slack: Tensor) -> DeviceSummary:
    """What the network reads of devices whose least cost still to come is ``best`` (B, N)."""
    deadline, delay = device.deadline, device.delay
    return DeviceSummary(
        active=device.active,
        blocks_left=device.blocks_left,
        energy=device.energy,
        spent=(delay / deadline).clamp(max=MOST_RATIO),
        deadline=_log_seconds(deadline),
        best=_log_seconds(best),
        slack=slack.clamp(LEAST_SLACK, 1.0),
        delay=_log_seconds(delay),
    )

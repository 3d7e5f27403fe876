"""The pair scorer: any size, nobody in particular, and a prior that can be checked by hand."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from distributed_inference.oracle import contended, draw

import mec_gym
from agents.distributed_inference.pairs.features import (
    DeviceFeatures,
    PairFeatures,
    columns,
)
from agents.distributed_inference.pairs.head import PairsHead
from agents.distributed_inference.pairs.network import SHARP, TRUST, WIDTH
from agents.heads import make_head
from agents.networks import FusedCategorical, make_network
from agents.networks.agent import network_agent
from agents.registry import make_agent
from agents.settings import NetworkOptions
from mec_gym.core import arrays
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.vector_env import MecVectorEnv
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import (
    Channel,
    ConstantChannel,
    RandomNetworks,
    Scenario,
    Slot,
)

WORLD = contended(devices=4, servers=3, blocks=4, channel=Channel(), idle=0.2, background=1.0)
ORDERS = ("sequential", "together")


def head_of(devices=4, servers=3, room_for=None, scenario=WORLD):
    sized = dataclasses.replace(scenario, devices=devices, servers=servers)
    return PairsHead(DistributedInference(sized), room_for=room_for)


def made(head, order="sequential", seed=0, shaken=True):
    """A network; shaken: as if it had learnt something, so that every parameter matters."""
    torch.manual_seed(seed)
    network = make_network("pairs", head, NetworkOptions(hidden=16, order=order))
    if shaken:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
    return network


def observed(head, batch=12, steps=5, seed=0):
    """Observations of the middle of episodes of random play."""
    env = MecVectorEnv(head.problem, batch)
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    nvec = head.problem.action_space.nvec
    seen = [observation]
    for _ in range(steps):
        observation, *_ = env.step(rng.integers(nvec, size=(batch, len(nvec))))
        seen.append(observation)
    return np.concatenate(seen)


def inputs_of(head, **arguments):
    return torch.from_numpy(head.inputs(observed(head, **arguments)))


def turned(head, inputs, devices=None, places=None):
    """The same inputs, devices or places in another order."""
    other = inputs.clone()
    mine, theirs = head.layout.unpack(other), head.layout.unpack(inputs)
    devices = torch.arange(head.layout.devices) if devices is None else devices
    places = torch.arange(head.layout.places) if places is None else places
    for to, of in zip(columns(mine.pair), columns(theirs.pair), strict=True):
        to[...] = of[:, devices][:, :, places]
    for to, of in zip(columns(mine.device), columns(theirs.device), strict=True):
        to[...] = of[:, devices]
    assert not torch.equal(other, inputs)
    return other


def random_places(head, inputs, seed=0):
    """Allowed ones."""
    allowed = head.layout.unpack(inputs).pair.allowed
    draws = torch.rand(allowed.shape, generator=torch.Generator().manual_seed(seed))
    return (draws * allowed).argmax(-1)


# ---------------------------------------------------------------- sizes


def test_one_set_of_parameters_for_every_size():
    small, large = head_of(2, 1), head_of(7, 5)
    one, other = made(small, seed=1), made(large, seed=2)
    shapes = [{k: tuple(v.shape) for k, v in n.state_dict().items()} for n in (one, other)]
    assert shapes[0] == shapes[1]
    assert not torch.equal(one.of_pair.weight, other.of_pair.weight)
    inputs = inputs_of(large)
    before = other(inputs)[0]
    other.load_state_dict(one.state_dict())
    logits, values = other(inputs)
    assert logits.shape == (len(inputs), 7, 6) and values.shape == (len(inputs),)
    assert not torch.allclose(before, logits)
    for ours, theirs in zip(one.sized(large)(inputs), (logits, values), strict=True):
        assert torch.equal(ours, theirs)


def test_a_sized_network_is_the_same_network():
    small, large = head_of(2, 1), head_of(7, 5)
    network = made(small)
    other = network.sized(large)
    assert (network.choices, network.places) == (2, 2)
    assert (other.choices, other.places) == (7, 6)
    mine = dict(network.named_parameters())
    assert all(parameter is mine[name] for name, parameter in other.named_parameters())
    inputs = inputs_of(large)
    before = other(inputs)[0].detach()
    with torch.no_grad():
        network.of_pair.bias += 1.0
    assert not torch.allclose(other(inputs)[0], before)


def test_every_parameter_learns():
    head = head_of()
    network = made(head)
    inputs = inputs_of(head)
    places = random_places(head, inputs)
    logits, values = network(inputs, places)
    (FusedCategorical(logits).joint_log_prob(places).sum() + values.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


# ---------------------------------------------------------------- one distribution


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_places_are_chosen_by_the_logits_that_learning_sees(order, greedy):
    head = head_of()
    network = made(head, order)
    inputs = inputs_of(head)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        places, logits, values = network.choose(inputs, generator, greedy)
        again, same = network(inputs, places)
    torch.testing.assert_close(again, logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(same, values, rtol=1e-5, atol=1e-6)
    assert (places == logits.argmax(-1)).all() == greedy
    # What the first ones choose matters to those after them only, and only in their order.
    changed = places.clone()
    changed[:, 1] = (random_places(head, inputs, seed=9))[:, 1]
    assert (changed != places)[:, 1].any()
    with torch.no_grad():
        after = network(inputs, changed)[0]
    torch.testing.assert_close(after[:, :2], logits[:, :2], rtol=1e-5, atol=1e-5)
    differs = not torch.allclose(after[:, 2:], logits[:, 2:], rtol=1e-3, atol=1e-3)
    assert differs == (order == "sequential")


@pytest.mark.parametrize("order", ORDERS)
def test_joint_probabilities_add_up_to_one(order):
    head = head_of(2, 2)
    network = made(head, order)
    inputs = inputs_of(head, batch=6)
    joint = list(itertools.product(range(3), repeat=2))
    with torch.no_grad():
        chances = []
        for places in joint:
            chosen = torch.tensor(places).expand(len(inputs), 2)
            logits, _ = network(inputs, chosen)
            chances.append(FusedCategorical(logits).joint_log_prob(chosen).exp())
    chances = torch.stack(chances)
    torch.testing.assert_close(chances.sum(0), torch.ones(len(inputs)))
    # And so they are drawn: of the state in which most is open.
    open_to = chances.max(0).values.argmin()
    many = inputs[open_to].expand(20_000, -1)
    with torch.no_grad():
        drawn, *_ = network.choose(many, torch.Generator().manual_seed(0))
    shares = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=9) / 20_000
    assert chances[:, open_to].max() < 0.95
    torch.testing.assert_close(shares, chances[:, open_to], rtol=0.0, atol=0.018)


# ---------------------------------------------------------------- nobody in particular


@pytest.mark.parametrize("order", ORDERS)
def test_servers_have_no_names(order):
    head = head_of()
    network = made(head, order)
    inputs = inputs_of(head)
    places = random_places(head, inputs)
    order_of_places = torch.tensor([0, 3, 1, 2])  # place 1 is what was place 3
    other = turned(head, inputs, places=order_of_places)
    with torch.no_grad():
        logits, values = network(inputs, places)
        logits_too, values_too = network(other, order_of_places.argsort()[places])
    torch.testing.assert_close(logits_too, logits[:, :, order_of_places], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(values_too, values, rtol=1e-5, atol=1e-5)


def test_devices_have_no_names_where_nobody_goes_first():
    head = head_of()
    network = made(head, "together")
    inputs = inputs_of(head)
    order_of_devices = torch.tensor([2, 0, 3, 1])
    other = turned(head, inputs, devices=order_of_devices)
    with torch.no_grad():
        logits, values = network(inputs)
        logits_too, values_too = network(other)
    torch.testing.assert_close(logits_too, logits[:, order_of_devices], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(values_too, values, rtol=1e-5, atol=1e-5)
    # Where they choose one after the other, the order counts; not for the value.
    ordered = made(head, "sequential")
    with torch.no_grad():
        logits, values = ordered(inputs)
        logits_too, values_too = ordered(other)
    assert not torch.allclose(logits_too, logits[:, order_of_devices], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(values_too, values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("room", [(7, 3), (4, 6), (6, 5)])
@pytest.mark.parametrize("order", ORDERS)
def test_what_does_not_exist_changes_nothing(order, room):
    head, wide = head_of(), head_of(room_for=room)
    network = made(head, order)
    observation = observed(head)
    inputs = torch.from_numpy(head.inputs(observation))
    padded = torch.from_numpy(wide.inputs(observation))
    places = random_places(head, inputs)
    all_places = torch.zeros(len(inputs), room[0], dtype=torch.int64)
    all_places[:, :4] = places
    with torch.no_grad():
        logits, values = network(inputs, places)
        all_logits, all_values = network.sized(wide)(padded, all_places)
        chosen, *_ = network.sized(wide).choose(padded, greedy=True)
    assert (chosen[:, 4:] == 0).all() and (chosen[:, :4] < 4).all()
    torch.testing.assert_close(all_values, values, rtol=1e-5, atol=1e-5)
    log_probs = FusedCategorical(all_logits).log_probs
    assert (log_probs[:, :4, 4:].exp() == 0).all()
    assert (log_probs[:, 4:, 0] == 0).all()  # who is not there adds nothing
    torch.testing.assert_close(all_logits[:, :4, :4], logits, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_not_allowed_is_never_chosen(order):
    poor = dataclasses.replace(WORLD, battery=1.5, transmit_power=3.0, compute_power=(0.3, 32.0))
    head = head_of(scenario=poor)
    network = made(head, order)
    inputs = inputs_of(head, batch=40, steps=3)
    shown = head.layout.unpack(inputs)
    allowed, idle = shown.pair.allowed > 0.5, shown.device.active == 0
    kinds = [allowed[~idle][:, 0], ~allowed[~idle][:, 0], ~allowed[~idle][:, 1], idle]
    assert all(kind.sum() > 5 for kind in kinds)
    with torch.no_grad():
        places, logits, _ = network.choose(inputs, torch.Generator().manual_seed(0))
        likely = network.choose(inputs, greedy=True)[0]
    chosen = FusedCategorical(logits)
    chances = chosen.log_probs.exp()
    assert (chances[~allowed] == 0).all()
    for found in (places, likely):
        assert allowed.gather(-1, found[..., None]).all()
        assert (found[idle] == 0).all()
    assert (chances[idle][:, 0] == 1).all() and (chosen.entropy()[idle] == 0).all()
    assert chosen.entropy()[~idle].max() > 0.01


@pytest.mark.parametrize("order", ORDERS)
def test_a_round_without_a_block_to_place_has_a_value(order):
    head = head_of()
    inputs = inputs_of(head)
    head.layout.unpack(inputs).device.active[...] = 0.0
    with torch.no_grad():
        _, logits, values = made(head, order).choose(inputs, greedy=True)
    assert values.isfinite().all() and logits.isfinite().all()


# ---------------------------------------------------------------- the prior


def untrained(env_id_scenario, seed=0):
    problem = mec_gym.make_problem("mec/DistributedInference-v1", env_id_scenario)
    head = make_head("pairs", problem)
    torch.manual_seed(seed)
    return problem, network_agent(make_network("pairs", head), head)


@pytest.mark.parametrize("seed", [0, 1])
def test_untrained_it_solves_the_patents_problem(seed):
    """Without contention the best is known: what is seen of the future is all there is."""
    problem, agent = untrained("patent", seed)
    trace = sample_episodes(problem, 0, 50)
    bound = problem.bound(trace)
    returns = rollout(problem, agent, trace).returns
    assert (returns <= bound + 1e-9).all()
    assert (bound - returns).sum() <= 1e-4 * -bound.sum()


def test_untrained_it_beats_a_planner_of_delays():
    problem, agent = untrained("small")
    trace = sample_episodes(problem, 0, 50)
    returns = rollout(problem, agent, trace).returns
    planner = rollout(problem, make_agent("coordinate-descent", problem), trace).returns
    difference = returns - planner
    assert difference.mean() > 2 * difference.std() / math.sqrt(50)


def bare(head, order="sequential"):
    """The prior alone: the score says nothing."""
    network = made(head, order, shaken=False)
    with torch.no_grad():
        network.score.weight.zero_()
        network.score.bias.zero_()
    return network


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def two_devices_and_a_server(deadline, bits=(10e6, 20e6), work=(10e9, 5e9)):
    """One block each; both devices compute 1, the server 10 GFLOP/s; 10 Mbit/s to it."""
    s = Scenario(
        devices=2, servers=1, blocks=1, tasks=1,
        networks=RandomNetworks(bits=(1e6, 20e6), work=(1e9, 10e9)),
        channel=ConstantChannel((10e6, 10e6)), background=0.0, device_rate=(1e9, 1e9),
        server_rate=(10e9, 10e9), return_result=False, battery=1e6, deadline_factor=(0.1, 0.9),
        latency_weight=1.0, miss_cost=0.5, late_weight=0.5,
    )  # fmt: skip
    problem = DistributedInference(s)
    slot = Slot(
        bits=np.array([[bits[0], 0.0], [bits[1], 0.0]]),
        work=np.array([[work[0]], [work[1]]]),
        blocks_left=np.array(1.0),
        active=np.array([True, True]),
        deadline=np.array(deadline),
        uplink=np.full((2, 1), 10e6),
        downlink=np.full((2, 1), 10e6),
        load=np.zeros(1),
        device_rate=np.full(2, 1e9),
        compute_power=np.full(2, 2.0),
        server_rate=np.full(1, 10e9),
    )
    head = PairsHead(problem)
    observation = problem.observe(slot, problem.start(slot))
    return head, torch.from_numpy(head.inputs(observation))[None]


def test_the_prior_by_hand():
    """At the server the first takes 1 + 1 s, the second 2 + 0.5 s; at home 10 s and 5 s."""
    head, inputs = two_devices_and_a_server(deadline=(2.5, 4.0))
    network = bare(head)
    with torch.no_grad():
        logits = [network(inputs, torch.tensor([[first, 0]]))[0] for first in (0, 1)]
    costs = [(-given / SHARP)[0, 1].tolist() for given in logits]
    # At home: 5 s, a quarter of the deadline too late.
    late = 0.5 * sigmoid(2.5) + 0.5 * 0.25
    # Alone at the server: 2.5 s, 1.5 s before the deadline.
    assert costs[0] == pytest.approx([5 + late, 2.5 + 0.5 * sigmoid(-3.75)], rel=1e-4)
    # Beside the first, which is about to need 2 of 2.5 s: both take twice as long. A second of
    # the first's counts 1 and what it adds to the chance to be late, of a slope that is WIDTH.
    near = sigmoid((2.0 - 2.5) / 2.5 / WIDTH)
    price = 1 + 0.5 * near * (1 - near) / (WIDTH * 2.5)
    assert costs[1] == pytest.approx([5 + late, 5 + price * 2 + late], rel=1e-4)
    assert price == pytest.approx(1.2099872, rel=1e-6)  # by a pocket calculator
    assert costs[1][1] == pytest.approx(8.0070452, rel=1e-4)


def test_the_price_of_one_that_is_late():
    """The first needs 2 s at best and is to be done in 1.6: it is a quarter too late."""
    head, inputs = two_devices_and_a_server(deadline=(1.6, 8.0))
    network = bare(head)
    with torch.no_grad():
        logits = network(inputs, torch.tensor([[1, 0]]))[0]
    near = sigmoid(2.5)
    price = 1 + 0.5 * near * (1 - near) / (WIDTH * 1.6) + 0.5 / 1.6
    cost = 5 + 2 * price + 0.5 * sigmoid(-3 / 8 / WIDTH)
    assert (-logits / SHARP)[0, 1, 1].item() == pytest.approx(cost, rel=1e-4)
    # Later than twice its deadline, lateness costs no more.
    head, inputs = two_devices_and_a_server(deadline=(0.5, 8.0))
    with torch.no_grad():
        logits = bare(head)(inputs, torch.tensor([[1, 0]]))[0]
    cost = 5 + 2 * 1.0 + 0.5 * sigmoid(-3 / 8 / WIDTH)
    assert (-logits / SHARP)[0, 1, 1].item() == pytest.approx(cost, rel=1e-4)


def test_the_first_expects_the_second():
    """As the prior says where it will go, to the trust put in it; in the other order both do."""
    head, inputs = two_devices_and_a_server(deadline=(9.0, 9.0), work=(10e9, 2.51e9))
    # The second: 2.51 s at home, 2 + 0.251 s at the server.
    there = 1 / (1 + math.exp(SHARP * (2.251 - 2.51)))
    assert 0.99 < there < 1.0
    for order in ORDERS:
        with torch.no_grad():
            logits, _ = bare(head, order)(inputs, torch.tensor([[1, 1]]))
        near = sigmoid((2.251 - 9) / 9 / WIDTH)
        price = 1 + 0.5 * near * (1 - near) / (WIDTH * 9)
        delay = 2 + TRUST * 2 * there
        cost = delay + TRUST * price * 2.251 * there + 0.5 * sigmoid((delay - 9) / 9 / WIDTH)
        assert (-logits / SHARP)[0, 0, 1].item() == pytest.approx(cost, rel=1e-4)
        weight, sees = (1.0, 1.0) if order == "sequential" else (TRUST, 1.0)
        near = sigmoid((2 - 9) / 9 / WIDTH)
        price = 1 + 0.5 * near * (1 - near) / (WIDTH * 9)
        delay = 2.251 + weight * 2.251 * sees
        cost = delay + weight * price * 2 * sees + 0.5 * sigmoid((delay - 9) / 9 / WIDTH)
        assert (-logits / SHARP)[0, 1, 1].item() == pytest.approx(cost, rel=1e-4)


def listed(record, kind, e):
    """The fields of round e by name, as lists."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: getattr(record, name)[e].tolist() for name in names}


def costs_by_loops(s, shown, e, places, order):
    """Costs (N, P) of round e, as the docstrings say, with the names of the head's numbers."""
    pair, device = listed(shown.pair, PairFeatures, e), listed(shown.device, DeviceFeatures, e)
    count, size = len(pair["now"]), len(pair["now"][0])
    before = [row.index(1.0) for row in pair["stays"]]
    kinds = ("compute", "upload", "download")

    def station(n, p, kind):
        """Whose server or band it is."""
        return before[n] if kind == "download" and p == 0 else p

    due = s.deadline_of == "block"
    price, likely = [], []

    def late(off):
        return s.miss_cost * sigmoid(off / WIDTH) + s.late_weight * min(max(off, 0.0), 2.0)

    def slope(off, rho):
        near = sigmoid(off / WIDTH)
        beyond = s.late_weight / rho if 0 < off < 2 else 0.0
        return s.latency_weight + s.miss_cost * near * (1 - near) / (WIDTH * rho) + beyond

    for n in range(count):
        allowed = [p for p in range(size) if pair["allowed"][n][p]]
        base = [pair["now"][n][p] + pair["ahead"][n][p] for p in range(size)]
        rho = device["deadline"][n]
        if due:
            offs = [pair["now"][n][p] / rho - 1 for p in range(size)]
            base = [base[p] + late(offs[p]) / s.latency_weight for p in range(size)]
        else:
            offs = [(device["delay"][n] + min(base[p] for p in allowed) - rho) / rho] * size
        price.append([slope(off, rho) for off in offs])
        least = min(base[p] for p in allowed)
        weights = {p: math.exp(-SHARP * s.latency_weight * (base[p] - least)) for p in allowed}
        likely.append([weights.get(p, 0.0) / sum(weights.values()) for p in range(size)])
    costs = np.zeros((count, size))
    for n, p in np.ndindex(count, size):
        own = harm = 0.0
        for k in range(count):
            if k == n:
                continue
            if order == "sequential" and k < n:
                chances, trust = [float(q == places[k]) for q in range(size)], 1.0
            else:
                chances, trust = likely[k], TRUST
            for kind, q in itertools.product(kinds, range(size)):
                mine, its = pair[kind][n][p], pair[kind][k][q]
                if mine and its and station(n, p, kind) == station(k, q, kind):
                    own += trust * chances[q] * mine
                    harm += trust * chances[q] * its * price[k][q]
        delay = pair["now"][n][p] + own
        whole = delay + pair["ahead"][n][p]
        rho = device["deadline"][n]
        off = ((delay if due else device["delay"][n] + whole) - rho) / rho
        costs[n, p] = s.latency_weight * whole + harm + late(off)
    return costs


# Which block is placed, and where each device's block before ran.
MOMENTS = {
    "first": (0, (0, 0, 0)),
    "scattered": (2, (2, 0, 3)),
    "gathered": (1, (2, 2, 2)),
    "last, from home": (3, (0, 0, 0)),
    "last, from everywhere": (3, (2, 2, 0)),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("deadline_of", ["task", "block"])
def test_the_prior_is_the_marginal_cost(deadline_of, order, moment):
    """Against loops over devices, places, servers and bands."""
    s = dataclasses.replace(
        contended(devices=3, servers=3, blocks=4, channel=Channel(), idle=0.1, background=1.0),
        latency_weight=0.8, miss_cost=0.7, late_weight=0.3, battery=5.0, transmit_power=2.0,
        deadline_of=deadline_of,
    )  # fmt: skip
    problem = DistributedInference(s)
    head = PairsHead(problem)
    network = bare(head, order)
    t, before = MOMENTS[moment]
    n = 30
    slot = arrays.slot_at(draw(s, 4, n), t)
    rng = np.random.default_rng(0)
    state = dataclasses.replace(
        problem.start(slot),
        place=np.tile(before, (n, 1)),
        delay=rng.exponential(0.6, (n, 3)) * (t > 0),
    )
    inputs = torch.from_numpy(head.inputs(problem.observe(slot, state)))
    places = random_places(head, inputs)
    with torch.no_grad():
        logits, _ = network(inputs, places)
    shown = head.layout.unpack(inputs)
    shared = 0
    for e in range(n):
        allowed = shown.pair.allowed[e].numpy() > 0
        costs = costs_by_loops(s, shown, e, places[e].tolist(), order)
        found = -logits[e].numpy() / SHARP
        np.testing.assert_allclose(found[allowed], costs[allowed], rtol=1e-4, atol=1e-4)
        alone = (shown.pair.now[e] + shown.pair.ahead[e]).numpy()
        shared += (costs > 0.8 * alone + 0.8)[allowed].sum()
    assert shared > 20  # it matters


def test_those_who_fetch_share_a_band():
    """Two that were at the same station and go home fetch their blocks in one band."""
    s = dataclasses.replace(WORLD, devices=3, servers=3, idle=0.0)
    head = PairsHead(DistributedInference(s))
    slot = arrays.at(draw(s, 4, 10), (slice(None), 2))
    state = dataclasses.replace(
        head.problem.start(slot), place=np.tile((2, 2, 1), (10, 1)), delay=np.full((10, 3), 0.1)
    )
    inputs = torch.from_numpy(head.inputs(head.problem.observe(slot, state)))
    shown = head.layout.unpack(inputs)
    with torch.no_grad():
        logits, _ = bare(head)(inputs, torch.zeros(10, 3, dtype=torch.int64))
    for e in range(10):
        costs = costs_by_loops(s, shown, e, [0, 0, 0], "sequential")
        np.testing.assert_allclose(-logits[e].numpy() / SHARP, costs, rtol=1e-4, atol=1e-4)

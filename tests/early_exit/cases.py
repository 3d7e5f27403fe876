"""Networks and scenarios of the early-exit problem with every number given, and a second opinion.

The oracles are written from the definition of the problem. One takes a single frame in plain
floats, the other whole episodes in a discrete-event simulation (tests/stages.py):

    Td = device work / speed left, Te = edge work / speed left
    a transfer lasts until the rate has carried its bits, piece by piece
    finish at a stage = max(ready, stage is free) + service, stage by stage; a frame skips a
    stage at which it has nothing to do
    what is sent is at the edge one round trip later, and the link is free without it
    a frame that the battery cannot pay for, or that would make itself or another take longer
    than the timeout, is not started: it counts as a wrong answer after the timeout that came
    too late
    energy = power of the device x device work at nominal speed
           + base power of the radio x (transfer + round trip) + bits x J/bit, if it sends
    a decision pays for what is different if the frame is simulated together with those that
    were started before
"""

import dataclasses
from dataclasses import replace

import layer_graphs
import numpy as np
from stages import simulate

from mec_gym.core import arrays
from mec_gym.dnn.devices import Device
from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.early_exit.model import ROWS, Decision, State, service_times
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.early_exit.scenario import Scenario, Slot, uplink_of
from mec_gym.network.bandwidth import Regimes
from mec_gym.network.technologies import RadioTechnology

FLOPS, BYTES = 1e8, 1e9  # of device and edge
NO_LIMIT = 1e18
# The device's time follows from the FLOPs alone, the edge's from the bytes alone.
DEVICE = Device("device", FLOPS, NO_LIMIT, 0.0, power_w=3.0)
EDGE = Device("edge", NO_LIMIT, BYTES, 0.0, power_w=50.0)


def network(links, bits, device_s, edge_s, exits, name="cases"):
    """A graph whose layers take these times on DEVICE and EDGE; exits are (layer, accuracy)."""
    layers = tuple(
        Layer(f"v{v}", "op" if v else "input", td * FLOPS, te * BYTES, float(b))
        for v, (b, td, te) in enumerate(zip(bits, device_s, edge_s, strict=True))
    )
    answers = tuple(Exit(f"exit {n}", v, accuracy) for n, (v, accuracy) in enumerate(exits))
    return LayerGraph(name, layers, tuple(links), answers)


# Layers: 0 input, 1 stem, 2 and 3 two branches, 4 their join, 5 early head, 6 late head.
HAND_LINKS = ((0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (1, 5), (4, 6))
HAND_BITS = (6000, 2000, 500, 300, 400, 32, 32)
HAND_DEVICE = (0, 0.04, 0.02, 0.06, 0.01, 0.01, 0.03)
HAND_EDGE = (0, 0.004, 0.003, 0.005, 0.001, 0.002, 0.006)
HAND = network(HAND_LINKS, HAND_BITS, HAND_DEVICE, HAND_EDGE, ((5, 0.7), (6, 0.95)))
# (Td, bits, Te) of all valid partitions, added up on paper, by device work. The stem's tensor is
# read by both branches: with one of them on the device it still crosses, once.
HAND_EARLY = ((0.0, 6000, 0.006), (0.04, 2000, 0.002), (0.05, 0, 0.0))
HAND_LATE = (
    (0.0, 6000, 0.019),
    (0.04, 2000, 0.015),
    (0.06, 2500, 0.012),
    (0.10, 2300, 0.010),
    (0.12, 800, 0.007),
    (0.13, 400, 0.006),
    (0.16, 0, 0.0),
)
HAND_SIZES = (len(HAND_EARLY), len(HAND_LATE))

# No number is the default's, and none equals another that it could be mistaken for.
GIVEN = {
    "network": HAND,
    "device": DEVICE,
    "edge": EDGE,
    "bandwidth": Regimes((3e4, 2e5), dwell_s=1.5, spread=0.25, memory_s=0.8),
    "technologies": (
        RadioTechnology("slow", base_power_w=1.1, joule_per_bit=7e-6, round_trip_s=0.031),
        RadioTechnology("quick", base_power_w=0.4, joule_per_bit=2e-6, round_trip_s=0.008),
    ),
    "horizon": 24,
    "arrival_rates": (3.0, 14.0),
    "arrival_frames": 6.0,
    "device_load": 0.15,
    "edge_load": 0.45,
    "load_spread": 0.6,
    "load_memory_s": 1.7,
    "deadline": (0.12, 0.37),
    "urgent_share": 0.3,
    "normal_priority": 0.4,
    "timeout_s": 0.9,
    "battery": 11.0,
    "accuracy_weight": 2.7,
    "latency_weight": 0.31,
    "miss_weight": 1.3,
    "energy_weight": 0.17,
    "candidates": 9,
    "under_way": 30,
}


def scenario(**changes):
    """Another uplink has one technology."""
    one = {"technologies": GIVEN["technologies"][:1]} if "bandwidth" in changes else {}
    return Scenario(**{**GIVEN, **one, **changes})


# --- random networks


@dataclasses.dataclass(frozen=True)
class Network:
    """A graph with the (links, times) of each of its exits, for the oracle of partitions."""

    graph: LayerGraph
    at_exit: tuple  # of layer_graphs.Case


def needed_by(links, layer):
    """The layers that a layer needs, itself included, in order."""
    needed = {layer}
    for v in range(layer, -1, -1):
        if v in needed:
            needed |= {u for u, reader in links if reader == v}
    return sorted(needed)


def part(links, bits, device_s, edge_s, layer):
    """What one exit needs, as a case of its own."""
    needed = needed_by(links, layer)
    place = {v: k for k, v in enumerate(needed)}
    return layer_graphs.case(
        [(place[u], place[v]) for u, v in links if v in place],
        *[[costs[v] for v in needed] for costs in (bits, device_s, edge_s)],
    )


def random_network(rng, most=8, exits=2, bits=5e3):
    """A random graph with heads on layers of its own; a deeper exit is more accurate.

    Times are some hundredths of a second on the device, a tenth of that on the edge, tensors
    some ``bits``, all within a factor of about ten.
    """
    count = int(rng.integers(2, most + 1))
    links = layer_graphs.random_links(rng, count, wide=bool(rng.integers(2)))
    heads = []
    for branch in np.sort(rng.integers(0, count - 1, size=exits - 1)).tolist():
        heads.append(count + len(heads))
        links.append((branch, heads[-1]))
    total = count + len(heads)
    sizes = bits * rng.lognormal(0.0, 1.0, total)
    device_s = 0.03 * rng.lognormal(0.0, 0.8, total)
    edge_s = 0.004 * rng.lognormal(0.0, 0.8, total)
    device_s[0] = edge_s[0] = 0.0
    accuracy = np.sort(rng.uniform(0.5, 1.0, exits)).round(3).tolist()
    layers = [*heads, count - 1]
    graph = network(links, sizes, device_s, edge_s, zip(layers, accuracy, strict=True))
    return Network(graph, tuple(part(links, sizes, device_s, edge_s, v) for v in layers))


def random_slots(rng, shape):
    """Slots over a wide range: any stage may be the slowest; the rate changes some times."""
    bandwidth = 10 ** rng.uniform(4.0, 6.5, shape)
    time = np.cumsum(rng.exponential(0.1, (*shape, 5)), axis=-1)
    time -= time[..., :1]
    rate = bandwidth[..., None] * rng.choice([0.0, 0.3, 1.0, 2.0], (*shape, 5))
    rate[..., 0] = bandwidth
    rate[..., -1] = 0.7 * bandwidth
    return Slot(
        bandwidth=bandwidth,
        round_trip=rng.choice([0.0, 0.008, 0.031], shape),
        base_power=rng.uniform(0.2, 2.0, shape),
        joule_per_bit=rng.uniform(0.0, 7e-6, shape),
        device_speed=rng.uniform(0.2, 1.0, shape),
        edge_speed=rng.uniform(0.05, 1.0, shape),
        arrival_rate=rng.uniform(2.0, 20.0, shape),
        interval=rng.exponential(0.12, shape),
        deadline=rng.uniform(0.05, 0.6, shape),
        priority=rng.choice([0.0, 0.4, 1.0], shape),
        arrival=np.zeros(shape),
        uplink=uplink_of(time, rate),
    )


def state_of(backlog, battery, frames_left, arrival=0.0):
    """A state without frames under way, whose stages are busy for so long after ``arrival``."""
    free = np.asarray(backlog, dtype=float) + np.asarray(arrival)[..., None]
    shape = np.broadcast_shapes(free.shape[:-1], np.shape(battery))
    return State(
        free=free,
        under_way=np.zeros((*shape, ROWS, GIVEN["under_way"])),
        battery=np.asarray(battery, dtype=float),
        frames_left=np.asarray(frames_left, dtype=float),
    )


def random_states(rng, shape, timeout_s=0.9, battery=11.0, arrival=0.0):
    """States without frames under way."""
    backlog = rng.uniform(0.0, timeout_s, (*shape, 3)) * (rng.random((*shape, 3)) < 0.6)
    return state_of(
        backlog,
        battery=rng.choice([0.02, 0.3, battery], shape),
        frames_left=rng.integers(1, 9, shape) * 1.0,
        arrival=arrival,
    )


def busy_states(problem, rng, n, frames=12):
    """Slots and states after some random decisions, so that frames are under way; (n,)."""
    trace = problem.sample(rng, n)
    state = problem.start(arrays.slot_at(trace, 0))
    for t in range(frames):
        decision = random_decisions(rng, (n,), problem.scenario.table.sizes)
        state, _ = problem.step(arrays.slot_at(trace, t), state, decision)
    return arrays.slot_at(trace, frames), state


def random_decisions(rng, shape, sizes):
    exits = rng.integers(len(sizes), size=shape)
    return Decision(
        exit=exits, partition=(rng.random(shape) * np.array(sizes)[exits]).astype(np.int64)
    )


def one_slot(**changes):
    """A slot (), asymmetric: 0.8 and 0.5 are left, 50 kbit/s, a radio of 1.9 W at any rate."""
    values = {
        "bandwidth": 5e4,
        "round_trip": 0.0,
        "base_power": 1.9,
        "joule_per_bit": 0.0,
        "device_speed": 0.8,
        "edge_speed": 0.5,
        "arrival_rate": 7.0,
        "interval": 0.11,
        "deadline": 0.25,
        "priority": 0.4,
        "arrival": 0.0,
    }
    values |= changes
    values.setdefault("uplink", uplink_of([values["arrival"]], [values["bandwidth"]]))
    return Slot(**{name: np.array(value) for name, value in values.items()})


# --- for agents

UNIT = {"device_speed": 1.0, "edge_speed": 1.0, "bandwidth": 1.0}
"""Fields of a slot in which work and bits take as long as they are large."""


def random_problem(rng, exits=2, most=9, **changes):
    """A random network that keeps all partitions worth having as candidates, and its cases."""
    net = random_network(rng, most=most, exits=exits)
    return EarlyExitPartition(scenario(network=net.graph, candidates=2000, **changes)), net


def problem_of(kind, **changes):
    """One of three kinds of networks: by hand, random with two exits, or the default one."""
    if kind == "hand":
        return EarlyExitPartition(scenario(**changes))
    if kind == "random":
        return random_problem(np.random.default_rng(19), **changes)[0]
    return EarlyExitPartition(Scenario(**changes))


def chain_scenario(triples, **changes):
    """A chain with one exit whose partitions cost these (Td, bits, Te) at nominal speed."""
    device, bits, edge = zip(*triples, strict=True)
    count = len(triples)
    graph = network(
        [(v, v + 1) for v in range(count - 1)],
        bits,
        [0.0, *np.diff(device)],
        [0.0, *-np.diff(edge)],
        ((count - 1, 0.9),),
    )
    return scenario(network=graph, **{"bandwidth": Regimes((0.5, 2.0), spread=0.0), **changes})


def idle(shape=()):
    return state_of(np.zeros((*shape, 3)), np.full(shape, 11.0), np.full(shape, 5.0))


def pair(decision):
    return int(decision.exit), int(decision.partition)


def widen(record):
    """Slots or states with one more axis behind their own, for many decisions."""

    def wider(name, field):
        own = {"uplink": 2, "free": 1, "under_way": 2}.get(name, 0)
        return np.expand_dims(field, -1 - own)

    fields = arrays.as_dict(record).items()
    return arrays.from_dict(type(record), {name: wider(name, field) for name, field in fields})


def stage_times(problem, slots, decision):
    """Td, Tt, Te of decisions, (..., 3) s."""
    return service_times(problem.scenario.table.cost[decision.exit, decision.partition], slots)


def times_in_all(cost, slots):
    """Td + Tt + Te and the round trip of F costs in slots (...), (..., F) s, in plain words."""
    wide = widen(slots)
    trip = np.where(cost[:, 1] > 0, wide.round_trip, 0.0)
    return (
        cost[:, 0] / wide.device_speed
        + cost[:, 1] / wide.bandwidth
        + cost[:, 2] / wide.edge_speed
        + trip
    )


def moments(problem, n, seed=0):
    """Observations of all kinds of moments of episodes, (n, 18); in half frames are under way."""
    rng = np.random.default_rng(seed)
    half = n // 2
    trace = problem.sample(rng, half)
    slots = arrays.at(
        replace(
            trace, uplink=np.broadcast_to(trace.uplink, (half, problem.horizon, 3, problem.horizon))
        ),
        (np.arange(half), rng.integers(problem.horizon, size=half)),
    )
    state = random_states(rng, (half,), battery=problem.scenario.battery, arrival=slots.arrival)
    busy = busy_states(problem, rng, n - half, min(12, problem.horizon - 1))
    return np.concatenate([problem.observe(slots, state), problem.observe(*busy)])


# --- the oracles


def answer(slot, backlog, battery, cost, accuracy, scenario):
    """What becomes of one frame, in plain floats, and when the stages are free after it.

    No other frame is under way.

    Args:
        slot: Fields ().
        backlog: s until device, link and edge are free.
        battery: J.
        cost: Device work s, bits, edge work s.
        accuracy: Of the exit.
        scenario: For its weights, powers and timeout only.
    """
    moments, _, rates = np.asarray(slot.uplink).tolist()
    slot = {n: float(value) for n, value in arrays.as_dict(slot).items() if n != "uplink"}
    td, te = cost[0] / slot["device_speed"], cost[2] / slot["edge_speed"]
    trip = slot["round_trip"] if cost[1] > 0 else 0.0
    now, free, tt = 0.0, list(map(float, backlog)), 0.0
    for stage, work in enumerate((td, cost[1], te)):
        if work > 0.0:
            start = max(now, free[stage])
            if stage == 1:
                tt = seconds_to_send(work, slot["arrival"] + start, moments, rates)
                work = tt
            now = free[stage] = start + work
        if stage == 1:
            now += trip
    joules = scenario.device.power_w * cost[0] + slot["base_power"] * (tt + trip)
    joules += slot["joule_per_bit"] * cost[1]
    if joules > battery:
        why = "battery_short"
    elif now > scenario.timeout_s:
        why = "timed_out"
    else:
        why = ""
    if why:
        latency, right, joules, waiting, late = scenario.timeout_s, 0.0, 0.0, 0.0, True
        free = list(map(float, backlog))
    else:
        latency, right, waiting, late = (
            now,
            accuracy,
            now - td - tt - te - trip,
            now > slot["deadline"],
        )
    return free, {
        "latency_s": latency,
        "delay_caused_s": 0.0,
        "device_s": td,
        "link_s": tt,
        "round_trip_s": trip,
        "edge_s": te,
        "waiting_s": waiting,
        "energy_j": joules,
        "accuracy": right,
        "deadline_missed": late,
        "misses_caused": 0.0,
        "timed_out": why == "timed_out",
        "battery_short": why == "battery_short",
        "no_room": False,
        "dropped": bool(why),
        "accuracy_cost": scenario.accuracy_weight * (1.0 - right),
        "latency_cost": scenario.latency_weight * slot["priority"] * latency / slot["deadline"],
        "miss_cost": scenario.miss_weight * slot["priority"] * late,
        "delay_cost": 0.0,
        "energy_cost": scenario.energy_weight * joules,
    }


def seconds_to_send(bits, begin, moments, rates):
    """How long the link needs from ``begin`` on, piece by piece."""
    now = begin
    for place, rate in enumerate(rates):
        until = moments[place + 1] if place + 1 < len(rates) else np.inf
        if until <= now:
            continue
        if rate > 0 and bits <= rate * (until - now):
            return now + bits / rate - begin
        bits -= rate * (until - now)
        now = until
    raise AssertionError("the last rate holds for ever")


@dataclasses.dataclass(frozen=True)
class Simulated:
    """What became of an episode's frames by simulation; arrays (T,)."""

    started: np.ndarray
    why: np.ndarray  # of text: served, battery, timeout
    latency: np.ndarray  # s, of frames that were started, in the end
    late: np.ndarray  # of them, in the end
    own: np.ndarray  # s, latency as it stood when the frame was decided
    caused: np.ndarray  # s, by how much others were answered later
    misses: np.ndarray  # how many others became late
    joules: np.ndarray  # J that each decision took
    cost: np.ndarray  # of latency and misses of others
    battery: float  # J left


def simulated(problem, trace, exits, partitions):
    """Play one episode, fields (T, ...), with a whole simulation for every decision."""
    scenario = problem.scenario
    cost = scenario.table.cost[exits, partitions]
    moments, _, rates = trace.uplink[0].tolist()
    device_s, edge_s = cost[:, 0] / trace.device_speed, cost[:, 2] / trace.edge_speed
    trip = np.where(cost[:, 1] > 0, trace.round_trip, 0.0)
    weight = scenario.latency_weight * trace.priority / trace.deadline
    count, none = len(exits), np.zeros(0)

    def run(frames):
        if not len(frames):
            return none, none
        args = (a[frames] for a in (trace.arrival, device_s, cost[:, 1], edge_s, trip))
        times, done = simulate(*args, moments, rates)
        sending = np.nan_to_num(times[:, 1, 1] - times[:, 1, 0])
        joules = scenario.device.power_w * cost[frames, 0]
        joules = joules + trace.base_power[frames] * (sending + trip[frames])
        return done - trace.arrival[frames], joules + trace.joule_per_bit[frames] * cost[frames, 1]

    started, battery = [], scenario.battery
    latency, joules = none, none
    why = np.full(count, "served", dtype=object)
    own, caused, misses, spent, paid = np.zeros((5, count))
    for k in range(count):
        frames = [*started, k]
        after, energy = run(frames)
        if energy.sum() - joules.sum() > battery:
            why[k] = "battery"
        elif (after > scenario.timeout_s).any():
            why[k] = "timeout"
        else:
            delay = after[:-1] - latency
            due = trace.deadline[started]
            late = (after[:-1] > due).astype(int) - (latency > due)
            own[k], caused[k], misses[k] = after[-1], delay.sum(), late.sum()
            spent[k] = energy.sum() - joules.sum()
            battery -= spent[k]
            paid[k] = (weight[started] * delay).sum()
            paid[k] += (scenario.miss_weight * trace.priority[started] * late).sum()
            started, latency, joules = frames, after, energy
    return Simulated(
        started=np.array(started, dtype=int),
        why=why,
        latency=latency,
        late=latency > trace.deadline[started],
        own=own,
        caused=caused,
        misses=misses,
        joules=spent,
        cost=paid,
        battery=battery,
    )


def reward_of(outcome):
    return -sum(
        outcome[f"{part}_cost"] for part in ("accuracy", "latency", "miss", "delay", "energy")
    )


def exhaustive_best(problem, trace):
    """Largest return over all sequences of decisions, (n,); every leaf of the tree is played."""
    table = problem.scenario.table
    options = [(n, k) for n, size in enumerate(table.sizes) for k in range(size)]
    exits, cuts = np.array(options).T
    state = problem.start(arrays.slot_at(trace, 0))
    total = np.zeros(len(trace.bandwidth))
    for t in range(problem.horizon):
        # Fields (n, paths) grow to (n, paths, A), and are laid flat again.
        slot, state = arrays.slot_at(trace, t), widen(state)
        while slot.bandwidth.ndim < total.ndim + 1:
            slot = widen(slot)
        state, outcome = problem.step(slot, state, Decision(exit=exits, partition=cuts))
        total = total[..., None] + problem.reward(outcome)
        shape = (len(total), int(np.prod(total.shape[1:])))
        state = State(
            free=state.free.reshape(*shape, 3),
            under_way=state.under_way.reshape(*shape, ROWS, -1),
            battery=state.battery.reshape(shape),
            frames_left=np.broadcast_to(state.frames_left, total.shape).reshape(shape),
        )
        total = total.reshape(shape)
    return total.max(axis=1)

"""Pipelines played event by event, and slots paid for block by block, in plain Python.

It is written from the design notes of the problem and uses nothing of the package but the fields
of a scenario. Stages are counted from the first one here, s = 0 .. S - 1:

    GPipe: every stage does all forward passes, then all backward passes.
    1F1B: stage s does min(S - s, Q) forward passes first, then alternates backward and forward.
    An operation starts when its stage is free and its input is there.
    Links are full duplex, and each direction sends one microbatch after the other.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import simpy

from mec_gym.core import arrays
from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.pipeline_training.scenario import Scenario, Slot, history

# ------------------------------------------------------------------------------- pipelines


def operations(stage, stages, microbatches, schedule):
    """The fixed order of one stage's operations, as pairs such as ("F", 0)."""
    forwards = [("F", q) for q in range(microbatches)]
    backwards = [("B", q) for q in range(microbatches)]
    first = microbatches if schedule == "gpipe" else min(stages - stage, microbatches)
    order = forwards[:first]
    rest = itertools.zip_longest(backwards, forwards[first:])
    return order + [operation for pair in rest for operation in pair if operation is not None]


def simulate(forward, backward, up, down, microbatches, schedule):
    """Play one minibatch.

    Args:
        forward, backward: The time of each stage, from the first one on, (S,).
        up, down: The time of the link behind each stage but the last, to the next stage and back.

    Returns:
        (stage, "F" or "B", microbatch) -> (start, end)
    """
    stages, world = len(forward), simpy.Environment()
    up_links, down_links = ([simpy.Resource(world) for _ in up] for _ in range(2))
    there = {
        (s, kind, q): world.event()
        for s in range(stages)
        for kind in "FB"
        for q in range(microbatches)
    }
    for q in range(microbatches):
        there[0, "F", q].succeed()
        there[stages - 1, "B", q].succeed()
    log = {}

    def send(link, seconds, arrival):
        with link.request() as turn:
            yield turn
            yield world.timeout(seconds)
        arrival.succeed()

    def work(s):
        for kind, q in operations(s, stages, microbatches, schedule):
            yield there[s, kind, q]
            start = world.now
            yield world.timeout(forward[s] if kind == "F" else backward[s])
            log[s, kind, q] = (start, world.now)
            if kind == "F" and s < stages - 1:
                world.process(send(up_links[s], up[s], there[s + 1, "F", q]))
            if kind == "B" and s > 0:
                world.process(send(down_links[s - 1], down[s - 1], there[s - 1, "B", q]))

    for s in range(stages):
        world.process(work(s))
    world.run()
    assert len(log) == 2 * stages * microbatches
    return log


def minibatch_end(forward, backward, up, down, microbatches, schedule):
    log = simulate(forward, backward, up, down, microbatches, schedule)
    return max(end for _, end in log.values())


# ------------------------------------------------------------------------------ one slot


@dataclass(frozen=True)
class Paid:
    """What one slot comes to."""

    plan: list
    minibatch_s: float
    moving_s: float
    moved_bits: float
    trained: float
    lost_s: float
    fetching_s: float


def made_valid(present, speed, wanted):
    """The plan that a decision stands for; None if nobody is present."""
    here = [i for i, p in enumerate(present) if p]
    if not here:
        return None
    plan = []
    for device in wanted:
        ended = plan and device in plan and device != plan[-1]
        if present[device] and device >= 0 and not ended:
            plan.append(int(device))
        else:
            plan.append(plan[-1] if plan else max(here, key=lambda i: speed[i]))
    return plan


def runs_of(plan):
    """(device, its blocks) of each stage, from the first one on."""
    runs = []
    for block, device in enumerate(plan):
        if not runs or runs[-1][0] != device:
            runs.append((device, []))
        runs[-1][1].append(block)
    return runs


def pay(s, slot, place, wanted):
    """Move and train in one slot, fields without batch axes; None if nobody is present."""
    plan = made_valid(slot.present, slot.speed, wanted)
    if plan is None:
        return None
    chain, count = s.chain, s.samples
    receives, moved_bits = {}, 0.0
    for block, device in enumerate(plan):
        holder = place[block]
        if holder == device:
            continue
        gone = holder < 0 or not slot.present[holder]
        rate = slot.store[device] if gone else slot.link[holder, device]
        bits = s.state_copies * chain.weights[block]
        receives[device] = receives.get(device, 0.0) + bits / rate
        moved_bits += bits
    moving_s = max(receives.values()) + s.restart_s if receives else 0.0
    runs = runs_of(plan)
    forward, backward, fetches = [], [], []
    for k, (device, blocks) in enumerate(runs):
        own = sum(chain.work[b] for b in blocks) * count / slot.speed[device]
        fetch = 0.0
        if s.memory is not None:
            kept = s.microbatches if s.schedule == "gpipe" else min(len(runs) - k, s.microbatches)
            need = sum((s.state_copies + 1) * chain.weights[b] for b in blocks)
            need += kept * count * sum(chain.outputs[b] for b in blocks)
            fetch = max(0.0, need - s.memory[device]) / slot.store[device]
        forward.append(own + fetch)
        backward.append(2 * own + fetch)
        fetches.append(fetch)
    up, down = [], []
    for (here, _), (there, blocks) in itertools.pairwise(runs):
        bits = count * chain.bits[blocks[0]]
        up.append(bits / slot.link[here, there])
        down.append(bits / slot.link[there, here])
    minibatch_s = minibatch_end(forward, backward, up, down, s.microbatches, s.schedule)
    left = max(0.0, s.slot_s - moving_s)
    trained = left / minibatch_s * s.microbatches * count
    speed = sum(v for v, p in zip(slot.speed, slot.present, strict=True) if p)
    saved = trained * 3 * sum(chain.work) / speed
    return Paid(
        plan=plan,
        minibatch_s=minibatch_s,
        moving_s=moving_s,
        moved_bits=moved_bits,
        trained=trained,
        lost_s=max(s.slot_s, moving_s) - saved,
        fetching_s=max(fetches),
    )


def every_plan(blocks, devices):
    """All assignments in which no device has two stages, by trying all of them."""
    return [
        plan
        for plan in itertools.product(range(devices), repeat=blocks)
        if len(runs_of(plan)) == len(set(plan))
    ]


# --------------------------------------------------------------------------------- worlds


def network(work, bits, weights, name="own"):
    """A chain of layers: what each computes (L,), what goes in and out (L + 1,), its weights."""
    layers = [Layer("input", "input", 0.0, 0.0, float(bits[0]))]
    for i, (flops, size) in enumerate(zip(work, weights, strict=True)):
        moved = (size + bits[i] + bits[i + 1]) / 8
        layers.append(Layer(f"v{i}", "op", float(flops), moved, float(bits[i + 1])))
    links = tuple(itertools.pairwise(range(len(layers))))
    return LayerGraph(name, tuple(layers), links, (Exit("exit", len(layers) - 1),))


def random_world(seed, **changes):
    """A small scenario with a network of its own, all of whose numbers differ."""
    rng = np.random.default_rng(seed)
    blocks = changes.pop("blocks", None) or int(rng.integers(1, 5))
    values = {
        "network": network(
            1e9 * rng.lognormal(0.5, 0.7, blocks),
            1e6 * rng.lognormal(1.0, 0.8, blocks + 1),
            1e7 * rng.lognormal(1.0, 1.0, blocks),
        ),
        "blocks": blocks,
        "devices": int(rng.integers(1, 4)),
        "schedule": str(rng.choice(["1f1b", "gpipe"])),
        "microbatches": int(rng.integers(1, 6)),
        "samples": int(rng.integers(1, 5)),
        "horizon": 8,
        "speed": 2e10,
        "link": 5e7,
        "store": 1e7,
        "stay": (2.0, 6.0),
        "away": 2.0,
        **changes,
    }
    if values.get("memory") == "tight":
        share = rng.uniform(0.05, 1.5, values["devices"])
        weights = sum(8 * layer.bytes_moved for layer in values["network"].layers)
        values["memory"] = tuple(3 * weights * share)
    return Scenario(**values)


def trace_of(scenario, present, seed=0):
    """Episodes in which it is given who is present, (n, T, M)."""
    drawn = scenario.sample(np.random.default_rng(seed), len(present))
    seen, departures, leaves = history(present, scenario.notice)
    return Slot(
        present=present,
        speed=drawn.speed,
        link=drawn.link,
        store=drawn.store,
        seen=seen,
        departures=departures,
        leaves=leaves,
    )


def repeated(record, count):
    """The same record for each of many decisions."""
    return arrays.map_arrays(lambda a: np.broadcast_to(a, (count, *np.shape(a))), record)

"""A scalar second opinion on distributed inference, written from the design page alone.

``play`` is one round, device by device, in plain Python floats. ``costs_of_plans`` adds up the
delays of whole joint plans, many plans at once, round by round and device by device; with it
and ``every_plan`` small instances are solved by trying everything.
"""

import dataclasses
import itertools

import numpy as np

from mec_gym.core import arrays
from mec_gym.distributed_inference.scenario import (
    Channel,
    ConstantChannel,
    RandomNetworks,
    Scenario,
)

GIVEN_UP = 2.0  # a lateness above this multiple of the deadline counts no more


def count(users, key):
    return sum(1 for u in users if u == key)


def play(s, slot, state, place):
    """One round of one episode.

    Args:
        s: The scenario.
        slot: Dict of lists, fields as Slot's.
        state: Dict of lists, fields as State's.
        place: A list.

    Returns:
        The state after the round and the outcome, dicts.
    """
    everybody = range(s.devices)
    works = [slot["active"][n] and not state["failed"][n] for n in everybody]
    before = state["place"]
    last = slot["blocks_left"] == 1

    # Who uses what: servers, and each station's band in both directions.
    computing, sending, fetching = [], [], []
    for n in everybody:
        if not works[n]:
            continue
        if place[n] > 0:
            computing.append(place[n])
            if before[n] == 0:
                sending.append(place[n])
            if last and s.return_result:
                fetching.append(place[n])
        elif before[n] > 0:
            fetching.append(before[n])

    def sharers(users, m):
        return count(users, m) if s.contention else 1

    outcome = {
        name: 0.0
        for name in ("latency_s", "local_s", "edge_s", "transfer_s", "energy_j", "penalty")
    } | {"finished": 0, "deadline_missed": 0, "dropped": 0}
    after = {
        "place": [0] * s.devices,
        "delay": list(state["delay"]),
        "failed": list(state["failed"]),
        "battery": list(state["battery"]),
        "rounds_left": state["rounds_left"] - 1,
    }
    for n in everybody:
        paid = 0.0
        if works[n]:
            d, c, p, b = slot["bits"][n][0], slot["work"][n][0], place[n], before[n]
            local = edge = upload = rest = 0.0
            if p == 0:
                local = c / slot["device_rate"][n]  # (3)
                if b > 0:
                    rest = d / (slot["downlink"][n][b - 1] / sharers(fetching, b))
            else:
                others = slot["load"][p - 1] + sharers(computing, p)
                edge = c / (slot["server_rate"][p - 1] / others)  # (6)
                if b == 0:
                    upload = d / (slot["uplink"][n][p - 1] / sharers(sending, p))
                elif b != p:
                    rest = d / s.backhaul
                if last and s.return_result:
                    result = slot["bits"][n][1]
                    rest += result / (slot["downlink"][n][p - 1] / sharers(fetching, p))
            needed = s.transmit_power * upload  # (8)
            if p == 0:
                tau = slot["compute_power"][n] / slot["device_rate"][n] ** 3
                needed += tau * c * slot["device_rate"][n] ** 2  # (7)
            rho = slot["deadline"][n]
            if needed > state["battery"][n]:
                after["failed"][n] = True
                outcome["dropped"] += 1
                charged, times = max(0.0, (1 + GIVEN_UP) * rho - state["delay"][n]), 1
                if s.deadline_of == "block":  # every block that is left
                    times = slot["blocks_left"]
                    charged = times * (1 + GIVEN_UP) * rho
                outcome["latency_s"] += charged
                outcome["penalty"] += times * (s.miss_cost + s.late_weight * GIVEN_UP)
            else:
                paid = needed
                step = local + edge + upload + rest
                after["place"][n] = p
                after["delay"][n] += step
                outcome["latency_s"] += step
                outcome["local_s"] += local
                outcome["edge_s"] += edge
                outcome["transfer_s"] += upload + rest
                outcome["energy_j"] += paid
                outcome["finished"] += int(last)
                if last or s.deadline_of == "block":
                    total = step if s.deadline_of == "block" else after["delay"][n]
                    if total > rho:
                        outcome["deadline_missed"] += 1
                        late = min((total - rho) / rho, GIVEN_UP)
                        outcome["penalty"] += s.miss_cost + s.late_weight * late
        after["battery"][n] = min(s.battery, state["battery"][n] - paid + s.harvest)
        if last:
            after["place"][n], after["delay"][n], after["failed"][n] = 0, 0.0, False
    return after, outcome


def every_plan(devices, places, blocks):
    """All joint plans, (places ** (devices * blocks), devices, blocks)."""
    rows = list(itertools.product(range(places), repeat=devices * blocks))
    return np.array(rows).reshape(-1, devices, blocks)


def costs_of_plans(s, slots, plans, start=None, active=None):
    """Delay of each device under joint plans of one task, (P, N) s."""
    return delays_of_blocks(s, slots, plans, start, active).sum(axis=-1)


def delays_of_blocks(s, slots, plans, start=None, active=None):
    """Delay of each device's blocks under joint plans of one task, (P, N, K) s.

    Args:
        s: The scenario.
        slots: One Slot a round, fields (...) as the model has them; only entry 0 of the chains
            is used, and entry 1 of the bits in the last round.
        plans: Places, (P, N, K).
        start: Where the devices are at first; at home by default.
        active: Which of them have a task; by the first slot if not given.
    """
    amount, devices, blocks = plans.shape
    assert len(slots) == blocks
    before = np.zeros((amount, devices), dtype=int)
    if start is not None:
        before[:] = start
    active = slots[0].active if active is None else active
    each = np.zeros((amount, devices, blocks))
    for k, slot in enumerate(slots):
        here, delay = plans[:, :, k], each[:, :, k]
        last = k == blocks - 1 and s.return_result
        for m in range(1, s.servers + 1):
            there = (here == m) & active
            sends = there & (before == 0)
            fetches = (here == 0) & (before == m) & active
            down = fetches | there if last else fetches
            if s.contention:
                runs, ups, downs = (x.sum(axis=1) for x in (there, sends, down))
            else:
                runs = ups = downs = np.ones(amount)
            for n in range(devices):
                c, d = float(slot.work[n, 0]), float(slot.bits[n, 0])
                v, w = float(slot.uplink[n, m - 1]), float(slot.downlink[n, m - 1])
                tenants = runs + slot.load[m - 1]
                delay[:, n] += there[:, n] * tenants * c / slot.server_rate[m - 1]
                delay[:, n] += sends[:, n] * ups * d / v
                delay[:, n] += fetches[:, n] * downs * d / w
                if last:
                    delay[:, n] += there[:, n] * downs * float(slot.bits[n, 1]) / w
                hops = there[:, n] & (before[:, n] > 0) & (before[:, n] != m)
                delay[:, n] += hops * d / s.backhaul
        for n in range(devices):
            at_home = (here[:, n] == 0) & active[n]
            delay[:, n] += at_home * float(slot.work[n, 0]) / slot.device_rate[n]
        before = here
    return each


def costs_of_blocks(s, delay, deadline):
    """What blocks cost together if each has a deadline: delays (..., N, K) -> (...)."""
    flat = delay.reshape(*delay.shape[:-2], -1)
    return costs_of_delays(s, flat, np.repeat(deadline, delay.shape[-1], axis=-1))


def costs_of_delays(s, delay, deadline):
    """What finished tasks cost together, (11) and (12): delays (..., N) -> (...)."""
    late = np.minimum((delay - deadline) / deadline, GIVEN_UP)
    penalty = np.where(delay > deadline, s.miss_cost + s.late_weight * late, 0.0)
    return (s.latency_weight * delay + penalty).sum(axis=-1)


def double(record):
    """All numbers in double precision, whatever they are drawn in."""

    def wide(a):
        return a.astype(np.float64) if np.issubdtype(a.dtype, np.floating) else a

    return arrays.map_arrays(wide, record)


def draw(s, seed, n):
    """A trace in double precision, so that sums can be compared to 1e-12."""
    return double(s.sample(np.random.default_rng(seed), n))


def contended(devices=3, servers=2, blocks=3, **changes):
    """A scenario in which servers and bands are worth fighting for; quick to draw."""
    values = {
        "devices": devices,
        "servers": servers,
        "blocks": blocks,
        "tasks": 1,
        "networks": RandomNetworks(),
        "channel": ConstantChannel(),
        "background": 0.5,
        "device_rate": (4e9, 20e9),
        "server_rate": (20e9, 60e9),
        "backhaul": 60e6,
        "idle": 0.0,
        "battery": 1e6,
    }
    return Scenario(**{**values, **changes})


def moving(**changes):
    """As ``contended``, with a channel that changes from round to round."""
    return contended(channel=Channel(), background=1.0, **changes)


def slots_of(trace, episode, first, rounds):
    """Rounds of one episode, one Slot each."""
    return [arrays.at(trace, (episode, t)) for t in range(first, first + rounds)]


def only(slot, n):
    """A slot (no batch axes) with one device: what belongs to devices has that axis first."""
    per_device = ("bits", "work", "active", "deadline", "uplink", "downlink", "device_rate")
    per_device += ("compute_power",)
    return dataclasses.replace(slot, **{f: getattr(slot, f)[n : n + 1] for f in per_device})

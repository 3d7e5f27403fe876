"""A scalar second opinion on the training-offload equations.

Written from [Chen2025] eq. (1)-(15) and the readings of eq. (11), one branch per printed case,
before the implementation was read. Plain Python floats throughout.
"""

import math
from dataclasses import dataclass

import numpy as np

from mec_gym.training_offload.scenario import Scenario, Slot

MBIT = 1e6
VARIANTS = ("finish", "split", "literal")


@dataclass(frozen=True)
class Link:
    """All that delay and energy through one pair of servers depend on; data in Mbit."""

    work: float  # W
    stay: float  # T_i^ct
    up_i: float
    down_i: float
    comp_i: float
    up_j: float
    down_j: float
    comp_j: float
    backhaul: float  # R_ij
    handover: float  # T_HO
    up_c: float
    down_c: float
    comp_c: float
    comp_l: float
    rho: float
    p_comp: float  # P_Cl, J/Mbit
    p_radio: float  # P_Rl


def case(k, x, variant):
    """Which of figure 2's four cases holds."""
    recv, proc, send = x / k.up_i, x / k.comp_i, k.rho * x / k.down_i
    t, trained, total = k.stay, recv + proc, recv + proc + send
    if variant == "literal":  # (1), (2), (8): strict on both sides, equality falls to "otherwise"
        if 0 < t < recv:
            return 1
        if recv < t < trained:
            return 2
        if trained < t < total:
            return 3
        return 4
    if t < recv:
        return 1
    if t < trained:
        return 2
    if t < total:
        return 3
    return 4


def com_i(k, x, n):
    """Equation (1) in case n."""
    recv, proc, send = x / k.up_i, x / k.comp_i, k.rho * x / k.down_i
    return {1: k.stay, 2: recv, 3: k.stay - proc, 4: recv + send}[n]


def left_results(k, x):
    """Results not yet returned at the hand-over in case 3, in (2) and (8)."""
    return k.rho * x - k.down_i * (k.stay - x / k.up_i - x / k.comp_i)


def com_j(k, x, n):
    """Equation (2) in case n."""
    if n == 1:
        return (x - k.up_i * k.stay) / k.up_j + k.rho * x / k.down_j
    if n == 2:
        return k.rho * x / k.down_j
    if n == 3:
        return left_results(k, x) / k.down_j
    return 0.0


def com_c(k, y):
    """Equation (3)."""
    return y / k.up_c + k.rho * y / k.down_c


def comp_i(k, x, n):
    """Equation (4) in case n."""
    return 0.0 if n == 1 else x / k.comp_i


def comp_j(k, x, n):
    """Equation (5) in case n."""
    return x / k.comp_j if n == 1 else 0.0


def comp_l(k, x, y):
    """Equation (6)."""
    return (k.work - x - y) / k.comp_l


def comp_c(k, y):
    """Equation (7)."""
    return y / k.comp_c


def mig(k, x, n, variant):
    """Equation (8) in case n; T_HO without a hand-over only if literal."""
    if n == 4:
        return k.handover if variant == "literal" else 0.0
    moved = {1: k.up_i * k.stay, 2: k.rho * x, 3: left_results(k, x)}[n]
    return k.handover + moved / k.backhaul


def edge(k, x, variant):
    """The first term of the maximum in (10), (11), (12)."""
    n = case(k, x, variant)
    if n == 1:
        upload = max(k.up_i * k.stay / k.backhaul, (x - k.up_i * k.stay) / k.up_j)
        back = k.rho * x / k.down_j
        return com_i(k, x, 1) + k.handover + upload + comp_i(k, x, 1) + comp_j(k, x, 1) + back
    if n == 2 and variant == "literal":
        on_i = k.stay - x / k.up_i
        return com_i(k, x, 2) + com_j(k, x, 2) + mig(k, x, 2, variant) + on_i + comp_j(k, x, 2)
    if n == 2 and variant == "split":
        done = k.comp_i * (k.stay - x / k.up_i)
        rest = x - done
        moved = (rest + k.rho * done) / k.backhaul
        return k.stay + k.handover + moved + rest / k.comp_j + k.rho * x / k.down_j
    return (
        com_i(k, x, n) + com_j(k, x, n) + comp_i(k, x, n) + comp_j(k, x, n) + mig(k, x, n, variant)
    )


def delay(k, x, y, variant):
    """Equation (9)."""
    return max(edge(k, x, variant), comp_l(k, x, y), com_c(k, y) + comp_c(k, y))


def energy(k, x, y):
    """Equations (13), (14), (15)."""
    return (k.work - x - y) * k.p_comp + k.p_radio * (x + y + k.rho * x + k.rho * y)


def jumps(k):
    """Where the edge delay changes its formula: recv, recv + proc, total = T_ct and (10)'s max.

    Between two neighbours of the returned (increasing) list the edge delay is affine in x.
    """
    x_total = k.stay / (1 / k.up_i + 1 / k.comp_i + k.rho / k.down_i)
    x_trained = k.stay / (1 / k.up_i + 1 / k.comp_i)
    x_recv = k.stay * k.up_i
    x_max = x_recv + k.up_j * k.up_i * k.stay / k.backhaul
    return [0.0, x_total, x_trained, x_recv, x_max, math.inf]


def link(scenario, slot, i, j):
    """The pair (i, j) of one slot () as the oracle sees it, in Mbit."""
    return Link(
        work=float(slot.work) / MBIT,
        stay=float(slot.connection_time),
        up_i=float(slot.uplink[0, i]) / MBIT,
        down_i=float(slot.downlink[0, i]) / MBIT,
        comp_i=float(slot.compute[0, i]) / MBIT,
        up_j=float(slot.uplink[1, j]) / MBIT,
        down_j=float(slot.downlink[1, j]) / MBIT,
        comp_j=float(slot.compute[1, j]) / MBIT,
        backhaul=scenario.backhaul / MBIT,
        handover=scenario.handover_s,
        up_c=scenario.cloud_uplink / MBIT,
        down_c=scenario.cloud_downlink / MBIT,
        comp_c=scenario.cloud_compute / MBIT,
        comp_l=scenario.device_compute / MBIT,
        rho=scenario.result_ratio,
        p_comp=scenario.device_energy * MBIT,
        p_radio=scenario.radio_energy * MBIT,
    )


def _log_uniform(rng, low, high, shape=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), shape))


def random_scenario(rng, variant, servers, **changes):
    """Nothing equal to anything else; offloading saves energy in about half of them."""

    def rate(low, high):
        return MBIT * float(_log_uniform(rng, low, high))

    values = {
        "variant": variant,
        "deadline": 1e9,
        "slot_s": 1e9,
        "battery": 1e9,
        "server_uplink": (MBIT,) * servers,  # a slot brings its own
        "server_downlink": (MBIT,) * servers,
        "server_compute": (MBIT,) * servers,
        "device_compute": rate(1, 10),
        "cloud_compute": rate(5, 60),
        "cloud_uplink": rate(1, 20),
        "cloud_downlink": rate(1, 20),
        "result_ratio": float(rng.choice([0.0, 0.1, 1.0, *rng.uniform(size=5)])),
        "device_energy": float(rng.uniform(0.05, 0.5)) / MBIT,
        "radio_energy": float(rng.uniform(0.05, 0.3)) / MBIT,
        "backhaul": rate(2, 200),
        "handover_s": float(rng.uniform(0, 3)),
    }
    return Scenario(**{**values, **changes})


def random_slot(rng, batch, servers):
    """Slots of the given batch shape in which all four cases are common."""
    full = (*batch, 2, servers)
    stay = _log_uniform(rng, 0.5, 60, batch)
    return Slot(
        work=MBIT * _log_uniform(rng, 20, 400, batch),
        connection_time=stay,
        connection_estimate=stay + 1,  # must never be used for the physics
        position=np.zeros(batch),
        speed=np.zeros(batch),
        uplink=MBIT * _log_uniform(rng, 1, 40, full),
        downlink=MBIT * _log_uniform(rng, 1, 40, full),
        compute=MBIT * _log_uniform(rng, 1, 40, full),
    )

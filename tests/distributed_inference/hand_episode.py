"""An episode of three devices and two servers whose every number can be worked out by hand."""

from dataclasses import replace

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.problem import Episode
from mec_gym.distributed_inference.model import Decision
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.distributed_inference.scenario import ConstantChannel, RandomNetworks, Scenario
from mec_gym.distributed_inference.timeline import Bar

HAND = Scenario(
    devices=3,
    servers=2,
    blocks=2,
    tasks=2,
    networks=RandomNetworks(),
    channel=ConstantChannel(),
    battery=0.5,
    compute_power=(1e-9, 1e-9),
    transmit_power=1.0,
    backhaul=1e9,
)
PROBLEM = DistributedInference(HAND)
# Task 2: device 1 has 0.1 J left of 0.5 J and cannot send for 0.4 s; device 3 has no task.
PLACES = ([1, 1, 0], [1, 2, 0], [2, 0, 0], [2, 0, 0])


def hand_trace():
    first = [[8e6, 4e6, 2e6]] * 3, [[1e9, 2e9]] * 3
    second = [[4e6, 2e6, 0.0]] * 3, [[2e9, 0.0]] * 3
    trace = arrays.at(PROBLEM.sample(np.random.default_rng(0), 1), 0)
    return replace(
        trace,
        bits=np.array([first[0], second[0]] * 2),
        work=np.array([first[1], second[1]] * 2),
        active=np.array([[True, True, True]] * 2 + [[True, True, False]] * 2),
        deadline=np.full((4, 3), [0.6, 0.5, 0.4]),
        uplink=np.full((4, 3, 2), [40e6, 20e6]),
        downlink=np.full((4, 3, 2), [80e6, 40e6]),
        load=np.full((4, 2), [1.0, 0.0]),
        device_rate=np.full((4, 3), 10e9),
        compute_power=np.full((4, 3), 1e-9),
        server_rate=np.full((4, 2), 100e9),
    )


def hand_episode(steps):
    """The episode after so many of its four rounds."""
    trace = hand_trace()
    states, decisions, outcomes = [PROBLEM.start(arrays.at(trace, 0))], [], []
    for t in range(steps):
        decisions.append(Decision(place=np.array(PLACES[t])))
        state, outcome = PROBLEM.step(arrays.at(trace, t), states[-1], decisions[-1])
        states.append(state)
        outcomes.append(outcome)
    return Episode(trace=trace, states=states, decisions=decisions, outcomes=outcomes)


# Device 1: sends 8 Mbit at half of 40 Mbit/s; 1 GFLOP at a third of 100 GFLOP/s; stays, with
# one other tenant; 2 Mbit back at 80 Mbit/s. Device 2 moves 4 Mbit to server 2, alone there.
FIRST_TASK = [
    Bar("transfer", 0, 1, 0.0, 0.4),
    Bar("computing", 0, 1, 0.4, 0.43),
    Bar("computing", 0, 1, 0.43, 0.47),
    Bar("transfer", 0, 1, 0.47, 0.495),
    Bar("transfer", 1, 1, 0.0, 0.4),
    Bar("computing", 1, 1, 0.4, 0.43),
    Bar("transfer", 1, 2, 0.43, 0.434),
    Bar("computing", 1, 2, 0.434, 0.454),
    Bar("transfer", 1, 2, 0.454, 0.504),
    Bar("computing", 2, 0, 0.0, 0.1),
    Bar("computing", 2, 0, 0.1, 0.3),
]

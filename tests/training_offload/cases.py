"""Tasks to play, and what a decision costs them."""

import functools

import numpy as np

import mec_gym
from agents.training_offload.energy_price import tune_energy_price
from mec_gym.core import arrays
from mec_gym.core.rollout import sample_episodes
from mec_gym.training_offload import model
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.scenario import MEGA, Scenario, Slot

PAPER = mec_gym.make_problem("mec/TrainingOffloadPaper-v0")
DRIVE = mec_gym.make_problem("mec/TrainingOffload-v0")


def first_tasks(problem, seed, n):
    """The first task of each of n episodes, and the states before them."""
    slot = arrays.slot_at(sample_episodes(problem, seed, n), 0)
    return slot, problem.start(slot)


def rich(shape=()):
    """A battery that pays for everything."""
    return State(battery=np.full(shape, 1e12), tasks_left=np.ones(shape))


def delay_and_energy(scenario, slot, decision):
    """What a decision takes, s and J, whatever battery and deadline are."""
    _, outcome = model.evaluate(slot, rich(slot.work.shape), decision, scenario)
    return outcome.delay_s, outcome.energy_j


@functools.cache
def drive_price():
    """The tuned energy price of ``DRIVE``, s/J; the search for it takes seconds."""
    return tune_energy_price(DRIVE)


def paper_slot(work=350.0, connection_time=15.0):
    """A task in the paper's network; its size in Mbit."""
    scenario = Scenario()
    tau = np.array(connection_time)
    return Slot(
        work=np.array(work * MEGA),
        connection_time=tau,
        connection_estimate=tau,
        position=np.array(0.0),
        speed=np.array(0.0),
        uplink=np.array([scenario.server_uplink] * 2),
        downlink=np.array([scenario.server_downlink] * 2),
        compute=np.array([scenario.server_compute] * 2),
    )


def split(edge, cloud=60.0, work=350.0):
    """A split of it on MEC 1 and MEC 4; sizes in Mbit."""
    return Decision(
        edge_share=np.array(edge / work),
        cloud_share=np.array(cloud / work),
        server=np.array(0),
        next_server=np.array(0),
    )

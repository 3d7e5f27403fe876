"""The reward orders decisions as the latency does, whatever the slot; what is observed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import slow_except
from training_offload.oracle import MBIT, VARIANTS

from mec_gym.core import arrays
from mec_gym.training_offload.model import Decision, State
from mec_gym.training_offload.problem import TrainingOffload
from mec_gym.training_offload.scenario import Scenario, Slot

SERVERS, DEADLINE = 2, 30.0
# A short deadline and a small battery, so that all three ends of a task are common.
PROBLEMS = {
    variant: TrainingOffload(
        Scenario(
            variant=variant,
            deadline=DEADLINE,
            server_uplink=(MBIT,) * SERVERS,
            server_downlink=(MBIT,) * SERVERS,
            server_compute=(MBIT,) * SERVERS,
        )
    )
    for variant in VARIANTS
}


def one_task(work, stay, zero, rates):
    return Slot(
        work=work,
        connection_time=stay,
        connection_estimate=stay,
        position=zero,
        speed=zero,
        uplink=rates[0],
        downlink=rates[1],
        compute=rates[2],
    )


@st.composite
def slots(draw):
    rate = st.floats(0.5, 40)
    rates = [
        MBIT * np.array(draw(st.lists(rate, min_size=2 * SERVERS, max_size=2 * SERVERS)))
        for _ in range(3)
    ]
    stay = np.array(draw(st.floats(0.1, 60)))
    zero = np.array(0.0)
    work = np.array(MBIT * draw(st.floats(5, 350)))
    return one_task(work, stay, zero, [r.reshape(2, SERVERS) for r in rates])


@st.composite
def decisions(draw):
    away, edge = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    server = st.integers(0, SERVERS - 1)
    return Decision(
        edge_share=np.array(away * edge),
        cloud_share=np.array(away * (1 - edge)),
        server=np.array(draw(server)),
        next_server=np.array(draw(server)),
    )


@pytest.mark.parametrize("variant", slow_except(VARIANTS, "finish"))
@settings(max_examples=300, deadline=None, derandomize=True)
@given(slot=slots(), first=decisions(), second=decisions(), battery=st.floats(0, 80))
def test_reward_never_rises_with_latency(variant, slot, first, second, battery):
    problem = PROBLEMS[variant]
    state = State(battery=np.array(battery), tasks_left=np.array(1.0))
    after, outcome = problem.step(
        arrays.stack([slot, slot]), arrays.stack([state, state]), arrays.stack([first, second])
    )
    reward = problem.reward(outcome)
    assert ((reward >= -1) & (reward <= 0)).all()
    assert (after.battery >= 0).all()

    # What the task itself takes; a dropped one counts as D_m.
    parts = outcome.delay_s
    latency = np.where(outcome.dropped, DEADLINE, parts)
    worse, better = np.argmax(latency), np.argmin(latency)
    assert reward[worse] <= reward[better]
    if latency[worse] > latency[better] * (1 + 1e-9):
        assert reward[worse] < reward[better]

    # Whoever drops gets the least there is, and nobody else gets less.
    assert (reward[outcome.dropped] == -1).all()
    assert (reward[~outcome.dropped] == -parts[~outcome.dropped] / DEADLINE).all()
    assert (outcome.dropped == (outcome.battery_short | (parts > DEADLINE))).all()


def test_all_ends_of_a_task_occur():
    """A guard: the property above is empty if every random task is dropped."""
    rng = np.random.default_rng(0)
    shape = (1000,)
    stay, zero = rng.uniform(0.1, 60, shape), np.zeros(shape)
    rates = [MBIT * rng.uniform(0.5, 40, (*shape, 2, SERVERS)) for _ in range(3)]
    slot = one_task(MBIT * rng.uniform(5, 350, shape), stay, zero, rates)
    away, edge = rng.uniform(size=(2, *shape))
    pair = rng.integers(SERVERS, size=(2, *shape))
    decision = Decision(
        edge_share=away * edge,
        cloud_share=away * (1 - edge),
        server=pair[0],
        next_server=pair[1],
    )
    state = State(battery=rng.uniform(0, 80, shape), tasks_left=zero + 1)
    _, outcome = PROBLEMS["finish"].step(slot, state, decision)
    for end in (outcome.battery_short, outcome.deadline_missed, ~outcome.dropped):
        assert end.sum() > 50


def test_the_fastest_rate_fits_the_observation():
    scenario = Scenario(
        server_uplink=(1e6, 2e6), server_downlink=(30e6, 40e6), server_compute=(5e6, 7e6)
    )
    problem = TrainingOffload(scenario)
    slot = arrays.at(problem.sample(np.random.default_rng(0), 50), (slice(None), 0))
    observation = problem.observe(slot, problem.start(slot))
    assert observation.min() >= 0 and observation.max() <= 1
    np.testing.assert_allclose(observation[0, 10:14], [0.75, 1.0, 0.75, 1.0])

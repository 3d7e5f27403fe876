"""What comes of models, for every payload and way of mixing, against a plain loop in torch."""

import numpy as np
import pytest
from gossip_training import plain
from slow import slow_except

from mec_gym.core import arrays
from mec_gym.gossip_training import model
from mec_gym.gossip_training.model import Decision
from mec_gym.gossip_training.scenario import Scenario

CASES = {
    "uniform": {},
    "metropolis": {"mixing": "metropolis"},
    "push-sum": {"mixing": "push-sum"},
    "overlap": {"overlap": True},
    "overlap and push-sum": {"overlap": True, "mixing": "push-sum"},
    "overlap and metropolis": {"overlap": True, "mixing": "metropolis"},
    "choco": {"payload": "choco", "payload_share": 0.2},
    "choco and metropolis": {"payload": "choco", "mixing": "metropolis", "choco_step": 0.7},
    "segments": {"payload": "segments", "segments": 3},
    "segments and overlap": {"payload": "segments", "segments": 2, "overlap": True},
    "class logits": {"payload": "class-logits"},
    "shared logits": {"payload": "shared-logits", "shared": 60},
}
EPISODES, ROUNDS = 4, 6


@pytest.mark.parametrize(
    "case", slow_except(CASES, "overlap and push-sum", "choco", "class logits")
)
def test_models_equal_those_of_a_plain_loop(case):
    rng = np.random.default_rng(sorted(CASES).index(case))
    s = Scenario(
        **{
            "devices": 5,
            "graph": "complete",
            "rounds": ROUNDS,
            "budget_s": 45.0,
            "local_steps": 2,
            "batch": 4,
            "hidden": 4,
            "learning_rate": 0.3,
            "size_spread": 0.5,
            "speed_spread": 1.0,
            "forward_flop": 8e8,  # 9.6 s, so that some are out at last
            **CASES[case],
        }
    )
    trace = s.sample(rng, EPISODES)
    listen = rng.random((EPISODES, ROUNDS, len(s.edges))) < 0.4
    reduce = np.zeros((EPISODES, ROUNDS), dtype=bool)
    reduce[0, 2] = reduce[1, 1] = True
    state = model.start(arrays.slot_at(trace, 0), s)
    plainly = [plain.begin(s, arrays.at(arrays.slot_at(trace, 0), i)) for i in range(EPISODES)]
    out, unequal = 0, 0.0
    for t in range(ROUNDS):
        slot, before = arrays.slot_at(trace, t), state
        state, outcome = model.evaluate(
            slot, before, Decision(reduce=reduce[:, t], listen=listen[:, t]), s
        )
        unequal = max(unequal, np.ptp(state.mass) if s.mixing == "push-sum" else 0)
        for z, devices in enumerate(plainly):
            active = [] if before.over[z] else np.flatnonzero(before.clock[z] < 45).tolist()
            out += 0 < len(active) < 5
            pairs = [
                pair for pair, used in zip(s.edges.tolist(), listen[z, t], strict=True) if used
            ]
            heard = {
                i: [j for k, j in pairs if k == i and j in active and not reduce[z, t]]
                for i in active
            }
            plain.play_round(s, devices, slot.key[z], active, reduce[z, t], heard, t)
            check(s, devices, arrays.at(state, z), float(outcome.consensus[z]))
    assert out > 0  # some rounds went on without some of them
    assert (unequal > 0.2) == (s.mixing == "push-sum")


def check(s, devices, state, consensus):
    expected = np.array([device.model for device in devices])
    np.testing.assert_allclose(state.weights, expected, rtol=0, atol=1e-5)
    apart = np.linalg.norm(expected - expected.mean(axis=0), axis=1)
    assert consensus == pytest.approx(np.sqrt(np.mean(apart**2)), rel=1e-4, abs=1e-6)
    if s.mixing == "push-sum":
        assert state.mass.tolist() == pytest.approx([device.mass for device in devices])
    if s.payload == "choco":
        expected = [device.copy for device in devices]
        np.testing.assert_allclose(state.copies, expected, rtol=0, atol=1e-5)
    if s.payload.endswith("logits"):
        for device, rows in zip(devices, state.taught, strict=True):
            known = np.flatnonzero(rows.sum(axis=-1)).tolist()
            assert known == sorted(device.others)
            for row in known:
                np.testing.assert_allclose(rows[row], device.others[row], rtol=0, atol=1e-5)

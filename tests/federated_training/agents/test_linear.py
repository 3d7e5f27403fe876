"""The linear policy: its features and weights, and the search for them."""

import dataclasses
import json
import re

import numpy as np
import pytest
from federated_training.agents.fleets import FIVE, NEVER, five, goes

from agents import weight_search
from agents.federated_training.fleet import fleet_now
from agents.federated_training.linear import (
    CLIENT,
    NAMES,
    SHIPPED,
    LinearSolver,
    features,
    linear_solver,
    shipped_weights,
)
from agents.federated_training.search import POLICY
from agents.linear_policy import check_weights
from agents.trials import play
from agents.weight_search import Settings, begin, main, next_generation
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import PRESETS, Scenario

SMALL = Scenario(
    clients=5, at_once=3, quorum=1, hidden=4, local_steps=1, batch=4, decisions=4, budget_s=200.0
)


def weights(**named):
    return np.array([named.get(name, 0.0) for name in NAMES])


def test_features_by_hand():
    slot, state = five(
        merged_into=[NEVER, 4, 7, NEVER, 1],
        last_loss=[0.0, 1.0, 7.0, 0.0, 0.5],
        taken=[0.0, 1.0, 2.0, 3.0, 4.0],
        client=[3, -1, -1],
        version=7,
        accuracy=0.25,
    )
    seen = features(fleet_now(slot, state, FIVE), FIVE)
    assert seen.shape == (5, 17) and len(CLIENT) == 8
    # Usual are 24 s of computing, 10 s on the way, 1137 / 5 images; taken is 2 on average.
    first = [1, 40 / 64, 10 / 20, 10 / (10 + 227.4), 0, 1, 1, 0]
    second = [1, 10 / 34, 4 / 14, 20 / (20 + 227.4), 0.2, 0, 3 / 20, 1 / 4]
    third = [1, 30 / 54, 10 / 20, 30 / (30 + 227.4), 1, 0, 0, 2 / 5]
    for row, client in zip(seen, (first, second, third), strict=False):
        np.testing.assert_allclose(row, [*client, *(0.25 * np.array(client)), 1 / 3])


def test_the_threshold_decides_how_many_go():
    slot, state = five()
    # Computing is 0.625, 0.294, 0.556, 0.455 and 0.676 of what is usual and itself.
    for one, expected in ((0.2, []), (0.3, [1]), (0.5, [1, 3]), (1.0, [1, 3, 2, 0, 4])):
        solver = LinearSolver(FIVE, weights(one=one, computing=-1.0))
        assert goes(solver.solve(slot, state).decision) == expected
    # A leading axis of weights is one policy each.
    both = np.stack([weights(one=0.3, computing=-1.0), weights(one=0.5, computing=-1.0)])
    score = LinearSolver(FIVE, both).solve(slot, state).decision.score
    assert (score > 0).sum(axis=-1).tolist() == [1, 2]
    assert score[0, 1] == pytest.approx((0.3 - 10 / 34) / (1 + 0.3 - 10 / 34))


def test_shipped_weights_say_how_they_were_found():
    found = json.loads(SHIPPED.read_text())
    assert set(found) == {"semi-async", "sync"}
    for name, one in found.items():
        assert one["scenario"] == name and name in PRESETS
        assert one["command"].startswith(f"{POLICY.command} --scenario {name} --out ")
        assert len(one["history"]) == one["done"] >= 5
        assert Settings(**one["settings"]).population >= 4
        np.testing.assert_array_equal(shipped_weights(name), [*one["weights"].values()])
    # Their own where nobody waits for late ones; any number of clients.
    for scenario, name in ((FIVE, "semi-async"), (dataclasses.replace(FIVE, late="drop"), "sync")):
        assert linear_solver(scenario).weights is shipped_weights(name)


def test_weights_that_do_not_fit():
    good = dict(zip(NAMES, range(17), strict=True))
    assert check_weights(good, NAMES).tolist() == list(range(17))
    for bad in (None, {}, {**good, "more": 1.0}, {**good, "one": np.nan}):
        with pytest.raises(ValueError, match="weights must"):
            check_weights(bad, NAMES)


def test_a_generation_moves_to_its_best_policies():
    problem = FederatedTraining(SMALL)
    settings = Settings(population=5, elite=2, worlds=3, noise=0.3)
    after = next_generation(POLICY, problem, settings, begin(POLICY, settings), generations=10)
    rng = np.random.default_rng((0, 0))
    before = begin(POLICY, settings)
    drawn = rng.normal(before.mean, before.deviation, (5, 17))
    drawn[0] = before.mean
    trace = problem.sample(rng, 3)
    returns = [play(problem, LinearSolver(SMALL, w), 1, trace).mean() for w in drawn]
    best = np.argsort(-np.array(returns), kind="stable")[:2]
    np.testing.assert_allclose(after.mean, drawn[best].mean(axis=0))
    # Noise falls from 0.3 to 0 in two thirds of the generations: 0.85 of it is left after one.
    spread = np.sqrt(drawn[best].var(axis=0) + (0.3 * 0.85) ** 2)
    np.testing.assert_allclose(after.deviation, spread)
    assert after.history == (pytest.approx(np.mean(np.array(returns)[best])),)


@pytest.fixture
def command(tmp_path):
    scenario = tmp_path / "mine.json"
    scenario.write_text(json.dumps({f: getattr(SMALL, f) for f in ("clients", "at_once", "quorum",
        "hidden", "local_steps", "batch", "decisions", "budget_s")}))  # fmt: skip
    options = ["--scenario", str(scenario), "--population", "3", "--elite", "1", "--worlds", "1"]
    return lambda out, *more: main(POLICY, [*options, "--out", str(tmp_path / out), *more])


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(
    command, tmp_path, capsys, monkeypatch
):
    assert command("whole.json", "--generations", "3") == 0
    assert "generation 3 of 3" in capsys.readouterr().out
    calls = []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return next_generation(*given)

    monkeypatch.setattr(weight_search, "next_generation", stopped)
    assert command("parts.json", "--generations", "3") == 130
    assert "--resume" in capsys.readouterr().err
    assert json.loads((tmp_path / "parts.json").read_text())["done"] == 1
    monkeypatch.undo()
    assert command("parts.json", "--generations", "3", "--resume") == 0
    whole, parts = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("whole", "parts"))
    assert whole == parts and whole["done"] == 3
    # Once it is done, there is nothing to do.
    assert command("parts.json", "--generations", "3", "--resume") == 0


def test_what_a_search_refuses(command, tmp_path, capsys):
    (tmp_path / "there.json").write_text("{}")
    for more, what in (
        ([], "there.json is already there"),
        (["--resume"], "holds no weights"),
        (["--elite", "4"], r"elite must be .* got 4"),
        (["--seed", "-1"], r"seed must be .* got -1"),
        (["--generations", "0"], "generations must be"),
        (["--scenario", "nowhere"], "'nowhere'"),
        (["--scenario", "nowhere.json"], "nowhere.json"),
    ):
        assert command("there.json", *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert re.search(what, error), error
    assert (tmp_path / "there.json").read_text() == "{}"

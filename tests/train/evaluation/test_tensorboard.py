"""What a run leaves in TensorBoard, read back with TensorBoard's own reader."""

import math

import pytest
from places_problem import PlacesProblem
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.registry import make_agent
from mec_gym.core.online import OnlineBound
from mec_gym.core.rollout import rollout, sample_episodes
from mec_gym.core.seeds import EVAL_SEED
from mec_gym.registration import make_problem
from train.evaluation.evaluate import interval
from train.evaluation.tensorboard import Evaluation, record_configuration

CONFIG = {"env": "tests/Places-v0", "seed": 7, "settings": {"gamma": 0.5, "network": "flat"}}
ENV = "mec/TrainingOffloadPaper-v0"


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_configuration_and_layout(tmp_path):
    logger = configure(str(tmp_path), ["csv", "tensorboard"])
    record_configuration(logger, CONFIG)
    logger.record("eval/return_mean", -1.5)
    logger.dump(0)
    logger.close()
    events = read(tmp_path)
    text = events.Tensors("run/configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    rows = dict(row.strip("| ").split(" | ") for row in text.splitlines()[2:])
    assert rows["seed"] == "7" and rows["settings.gamma"] == "0.5"
    assert {"python", "torch", "mec-gym", "stable-baselines3", "numpy"} <= set(rows)
    plugins = {m.plugin_data.plugin_name for m in events.summary_metadata.values()}
    assert {"hparams", "custom_scalars", "text"} <= plugins
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"settings.network" in content and b"gamma" in content
    # The lines of a chart are tags that an evaluation writes, and the table knows them.
    assert (
        b"eval/return_mean" in events.summary_metadata["_hparams_/experiment"].plugin_data.content
    )
    assert (tmp_path / "progress.csv").read_text().splitlines()[0] == "eval/return_mean"


def test_the_learner_is_shown_beside_bound_and_rule(tmp_path):
    problem = make_problem(ENV)
    agent = make_agent("exact", problem)
    logger = configure(str(tmp_path), ["tensorboard"])
    record_configuration(logger, CONFIG)
    result = Evaluation(problem, agent, 20, "end-edge").record(logger)
    logger.dump(5)
    logger.close()
    trace = sample_episodes(problem, EVAL_SEED, 20)
    returns = rollout(problem, agent, trace).returns
    rule = rollout(problem, make_agent("end-edge", problem), trace).returns.mean()
    low, high = interval(returns)
    expected = {
        "eval/return_mean": returns.mean(),
        "eval/return_ci95_low": low,
        "eval/return_ci95_high": high,
        "eval/return_bound": problem.bound(trace).mean(),
        "eval/return_rule": rule,
    }
    assert low < returns.mean() < high and rule < low
    assert result.return_mean == pytest.approx(returns.mean())
    events = read(tmp_path)
    layout = events.summary_metadata["custom_scalars__config__"].plugin_data.plugin_name
    assert layout == "custom_scalars"
    chart = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for tag, value in expected.items():
        (scalar,) = events.Scalars(tag)
        assert scalar.step == 5 and math.isclose(scalar.value, value, rel_tol=1e-5)
        assert tag.encode() in chart


class Offering(PlacesProblem):
    """Its bound is what can be expected, and luck is how easy the slots are."""

    has_online_bound = True
    asked = 0

    def online_bound(self):
        self.asked += 1
        usual = self.bound(sample_episodes(self, 0, 50)).mean()
        return OnlineBound(mean=usual, se=0.1, luck=lambda trace, _: self.bound(trace) - usual)


def test_the_online_bound_is_logged_if_asked_for(tmp_path):
    problem = Offering()
    agent = make_agent("random", problem)
    assert Evaluation(problem, agent, 20).online is None and problem.asked == 0
    logger = configure(str(tmp_path), ["csv", "tensorboard"])
    record_configuration(logger, CONFIG)
    evaluation = Evaluation(problem, agent, 20, online=True)
    for steps in (100, 200):
        evaluation.record(logger)
        logger.dump(steps)
    assert problem.asked == 1
    logger.close()
    trace = sample_episodes(problem, EVAL_SEED, 20)
    usual = problem.bound(sample_episodes(problem, 0, 50)).mean()
    events = read(tmp_path)
    chart = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    for tag in ("eval/online_bound", "eval/online_expected_return", "eval/online_gap_percent"):
        assert [scalar.step for scalar in events.Scalars(tag)] == [100, 200]
        assert tag.encode() in chart or "gap" in tag
    first, _ = events.Scalars("eval/online_bound")
    assert first.value == pytest.approx(usual)
    # What the returns of step 100 are beyond luck.
    returns = [scalar.value for scalar in events.Scalars("eval/return_mean")]
    fair = [scalar.value for scalar in events.Scalars("eval/online_expected_return")]
    luck = problem.bound(trace).mean() - usual
    assert abs(luck) > 1e-3
    assert fair == pytest.approx([value - luck for value in returns], abs=1e-5)
    gap = events.Scalars("eval/online_gap_percent")[0].value
    assert gap == pytest.approx(100 * (usual - fair[0]) / abs(usual), abs=1e-3)


def test_which_rule_is_played():
    problem = PlacesProblem()  # nobody has registered it: only ``random`` plays it
    agent = make_agent("random", problem)
    played = rollout(problem, make_agent("random", problem), sample_episodes(problem, EVAL_SEED, 3))
    assert Evaluation(problem, agent, 3).rule_return == pytest.approx(played.returns.mean())
    assert Evaluation(problem, agent, 3, "none").rule_return is None
    with pytest.raises(ValueError, match=r"rule .*random.*none.*'best'"):
        Evaluation(problem, agent, 3, "best")

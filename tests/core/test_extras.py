"""What works without the optional libraries, and that what does not names the extra."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from slow import slow_except

import mec_gym
from mec_gym.core.extras import EXTRAS, MissingExtra, missing_extras_named

ROOT = Path(__file__).resolve().parents[2]
REFUSE = """
import sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {libraries!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuses())
"""


def run(code, libraries=tuple(EXTRAS), folder=ROOT):
    """Runs Python that has none of these libraries."""
    text = REFUSE.format(libraries=set(libraries)) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


LEARN = ("mec/FederatedTraining-v0", "mec/GossipTraining-v0")
"""They learn images, which scikit-learn brings."""


@pytest.mark.slow
def test_environments_agents_and_evaluation_need_none_of_them():
    done = run(
        """
        import gymnasium as gym
        import mec_gym
        from agents.registry import agents_for, references_for

        learn = {"mec/FederatedTraining-v0", "mec/GossipTraining-v0"}
        for env_id in set(mec_gym.ENVIRONMENTS) - learn:
            env = gym.make(env_id)
            env.reset(seed=0)
            env.step(env.action_space.sample())
            gym.make_vec(env_id, num_envs=2).reset(seed=0)
            problem = mec_gym.make_problem(env_id)
            for name in (*agents_for(problem), *references_for(problem)):
                mec_gym.make_agent(name, problem)
            result = mec_gym.evaluate("random", env_id, episodes=3)
            assert result.return_mean < 0
        best, chance = mec_gym.compare(["exact", "random"], "mec/TrainingOffloadPaper-v0", 3)
        assert best.return_mean > chance.return_mean
        from train.__main__ import main
        assert main(["--help"]) == 0 and main(["scenarios"]) == 0
        print("done")
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"
    assert "mec/TrainingOffload-v0" in done.stdout and "mtl-a3c" in done.stdout


COMMAND = "from train.__main__ import main; sys.exit(main({args!r}))"
PLAIN = "import mec_gym, gymnasium\n"


CASES = [
    (COMMAND.format(args=["compare", "--out", "x"]), EXTRAS, "cli"),
    (COMMAND.format(args=["evaluate", "exact"]), EXTRAS, "cli"),
    (COMMAND.format(args=["evaluate", "exact"]), ["rich"], "cli"),
    (COMMAND.format(args=["ppo", "--out", "x"]), EXTRAS, "train"),
    (COMMAND.format(args=["ppo", "--out", "x"]), ["stable_baselines3"], "train"),
    (COMMAND.format(args=["a3c", "--out", "x"]), ["torch"], "train"),
    (
        COMMAND.format(args=["profile", "x", "--out", "x.json", "--input", "1"]),
        ["torch"],
        "exits",
    ),
    (
        COMMAND.format(args=["exits", "--network", "alexnet", "--out", "x"]),
        EXTRAS,
        "exits",
    ),
    (
        COMMAND.format(args=["exits", "--network", "alexnet", "--out", "x"]),
        ["sklearn"],
        "exits",
    ),
    (f"{PLAIN}mec_gym.learn('mec/TrainingOffload-v0')", EXTRAS, "train"),
    (f"{PLAIN}mec_gym.make_agent('ppo:x', 'mec/TrainingOffload-v0')", EXTRAS, "train"),
    (f"{PLAIN}mec_gym.make_agent('sb3:x', 'mec/TrainingOffload-v0')", EXTRAS, "train"),
    (f"{PLAIN}import mec_gym.multi_agent", ["pettingzoo"], "multi-agent"),
    (f"{PLAIN}mec_gym.make_agent('a3c:x', 'mec/TrainingOffload-v0')", EXTRAS, "train"),
    *(
        (
            f"{PLAIN}env = gymnasium.make({env_id!r}, render_mode='rgb_array')\n"
            "env.reset(seed=0)\nenv.render()",
            EXTRAS,
            "plots",
        )
        for env_id in list(mec_gym.ENVIRONMENTS)[1:]
        if env_id not in LEARN
    ),
    *((f"{PLAIN}gymnasium.make({env_id!r})", ["sklearn"], "learning") for env_id in LEARN),
]
FIRST_OF_EACH_EXTRA = {extra: (*case, extra) for *case, extra in reversed(CASES)}.values()


@pytest.mark.parametrize(("code", "libraries", "extra"), slow_except(CASES, *FIRST_OF_EACH_EXTRA))
def test_what_needs_them_names_the_extra(tmp_path, code, libraries, extra):
    done = run(code, libraries, tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert f"pip install 'mec-gym[{extra}]'" in last and "this needs " in last, done.stderr
    if "main(" in code:
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert last.startswith("error: ")
    else:
        assert done.returncode == 1 and "MissingExtra: " in last
    assert list(tmp_path.iterdir()) == []


def test_other_libraries_are_not_explained():
    with pytest.raises(ModuleNotFoundError, match="no_such_library"), missing_extras_named():
        import no_such_library  # noqa: F401
    with pytest.raises(MissingExtra, match=r"tqdm.*mec-gym\[cli\]") as told, missing_extras_named():
        raise ModuleNotFoundError("No module named 'tqdm.auto'", name="tqdm.auto")
    assert told.value.name == "tqdm" and isinstance(told.value, ImportError)
    with pytest.raises(KeyError), missing_extras_named():
        raise KeyError("tqdm")

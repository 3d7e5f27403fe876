"""Workers as processes: they learn, pause, die and are never left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from places_problem import FailingPlaces, PlacesProblem

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer, usable_cores
from agents.a3c.worker import Report, first_network
from agents.heads import make_head
from agents.networks.agent import network_agent
from mec_gym.core.rollout import rollout, sample_episodes

PROBLEM = PlacesProblem()
HEAD = make_head("flat", PROBLEM)
ONE = A3CSettings(workers=1, num_envs=8, n_steps=4, hidden=8)
TWO = A3CSettings(workers=2, num_envs=64, n_steps=8, learning_rate=3e-3)
ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.filterwarnings("ignore:.* workers share .* cores:RuntimeWarning")


def trainer(settings=ONE, problem=PROBLEM, total=320, **arguments):
    return Trainer(problem, HEAD, settings, 0, total, **arguments)


def network(settings=ONE):
    return first_network(PROBLEM, HEAD, settings, 0)


def vector(made):
    return torch.nn.utils.parameters_to_vector(made.parameters()).detach().clone()


def is_running(pid):
    """Zombies are not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pids):
    """Whether they end, sooner or later."""
    deadline = time.monotonic() + 120
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_running, pids))


@pytest.fixture(autouse=True)
def nobody_is_left_behind():
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_two_workers_learn_the_optimum():
    total = 200_000
    report = Report()
    with trainer(TWO, total=total) as two:
        pids = two.pids
        two.wait()
        assert two.steps == 0 and two.ready
        two.release(total // 2)
        two.wait(report=report.add)
        assert total // 2 <= two.steps < total // 2 + 2 * TWO.rollout
        two.release(total)
        two.wait(report=report.add)
        steps, updates = two.steps, two.updates
        learnt = network(TWO)
        two.copy_to(learnt)
        # They would go on, but a stop pauses them, and then nobody moves.
        two.release(10**9)
        begin = time.monotonic()
        two.wait(stop=lambda: time.monotonic() > begin + 0.3)
        paused = two.steps
        time.sleep(0.3)
        assert two.steps == paused > steps
    assert len(set(pids)) == 2 and not any(map(is_running, pids))
    assert total <= steps < total + 2 * TWO.rollout
    assert report.updates == updates == steps // TWO.rollout
    # An episode has four steps; the last ones are not over.
    assert steps / 4 - 128 <= len(report.episode_returns) <= steps / 4
    # Both have worked, at the same time: many updates fell between another's pull and push.
    assert report.means(report.sums)["lag"] > 0.2
    trace = sample_episodes(PROBLEM, 0, 100)
    played = rollout(PROBLEM, network_agent(learnt, HEAD), trace)
    assert played.returns == pytest.approx(PROBLEM.bound(trace))


@pytest.mark.slow
def test_one_worker_is_reproducible_and_remembers():
    """However often it is paused, and also when another process goes on for it."""
    made = network()
    with trainer() as whole:
        whole.wait()
        whole.release(320)
        whole.wait()
        whole.copy_to(made)
        assert whole.steps == 320 and whole.updates == 10
    expected = vector(made)
    with trainer() as begun:
        begun.wait()
        begun.release(70)  # pauses after the update that reaches it
        begun.wait()
        assert begun.steps == 96
        begun.release(128)
        begun.wait()
        memory = begun.memory()
    with trainer(memory=memory) as resumed:
        resumed.wait()
        assert resumed.steps == 128
        resumed.release(320)
        resumed.wait()
        resumed.copy_to(made)
    assert torch.equal(vector(made), expected)
    with pytest.raises(ValueError, match=r"workers .*1.*got 2"):
        trainer(TWO, memory=memory)


@contextmanager
def dies(message):
    """And everybody else, too: the block notes the processes that there were."""
    pids = []
    with pytest.raises(ChildProcessError, match=message):
        yield pids
    assert pids and not any(map(is_running, pids))


@pytest.mark.slow
def test_a_killed_worker_ends_the_training():
    message = r"worker 1 .*SIGKILL"
    with dies(message) as pids, trainer(TWO, total=10**9) as two:
        two.wait()
        two.release(10**9)
        os.kill(two.pids[1], signal.SIGKILL)
        pids += two.pids
        two.wait()


@pytest.mark.slow
@pytest.mark.parametrize("ready", [False, True])
def test_a_worker_killed_while_it_starts_or_waits(ready):
    with dies("worker 0 ") as pids, trainer() as one:
        if ready:
            one.wait()
        os.kill(one.pids[0], signal.SIGKILL)
        pids += one.pids
        assert gone(one.pids)
        one.release(100)
        one.wait()


def test_a_worker_that_raises_says_why(capfd):
    message = "worker 0 .*RuntimeError: the server is on fire"
    with dies(message) as pids, trainer(problem=FailingPlaces(steps=10), total=10**9) as one:
        one.wait()
        one.release(10**9)
        pids += one.pids
        with pytest.raises(ChildProcessError) as told:
            one.wait()
        # The trace comes with the error; the worker itself prints nothing.
        assert "Traceback" in str(told.value.__cause__) and "on fire" in str(told.value.__cause__)
        raise told.value
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_twenty_starts_and_stops_leave_nobody():
    """Stopped wherever it is: while libraries load, when ready, or after an error."""
    pids = []
    for k in range(20):
        with trainer() as one:
            pids += one.pids
            if k == 10:
                one.wait()
            elif k % 5 == 0:
                # Too early to be ready: a stop ends the wait at once.
                one.wait(stop=lambda: True)
                assert not one.ready
    assert len(pids) == 20 and not any(map(is_running, pids))


@pytest.mark.slow
def test_workers_do_not_hear_ctrl_c():
    """Also not while they start: it is the parent that tells them what to do."""
    with trainer() as one:
        for _ in range(2):
            for kind in (signal.SIGINT, signal.SIGTERM):
                os.kill(one.pids[0], kind)
            one.wait()
            one.release(64)
        one.wait()
        assert one.steps == 64


ORPHANS = """
    import sys, time
    sys.path.insert(0, "tests")
    from agents.a3c.settings import A3CSettings
    from agents.a3c.trainer import Trainer
    from agents.heads import make_head
    from places_problem import PlacesProblem
    if __name__ == "__main__":
        problem = PlacesProblem()
        settings = A3CSettings(workers=1, num_envs=4)
        with Trainer(problem, make_head("flat", problem), settings, 0, 10**9) as ready:
            ready.wait()
            ready.release(10**9)
            with Trainer(problem, make_head("flat", problem), settings, 0, 10**9) as starting:
                print(*ready.pids, *starting.pids, flush=True)
                time.sleep(60)
"""


@pytest.mark.slow
def test_workers_die_with_their_parent():
    """One that is learning, and one that is still loading its libraries."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ORPHANS)], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_running, pids))
    process.kill()
    process.wait()
    process.stdout.close()
    assert gone(pids)


def test_more_workers_than_cores(monkeypatch):
    many = A3CSettings(workers=usable_cores() + 1)
    with pytest.warns(RuntimeWarning, match=rf"{many.workers} .*{usable_cores()} core"):
        trainer(many)

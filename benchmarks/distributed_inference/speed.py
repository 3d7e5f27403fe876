"""Distributed inference: speed of rounds, of PPO's and A3C's training and of normal numbers."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

import numpy as np

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import Trainer, usable_cores
from agents.heads import make_head
from agents.ppo.settings import PPOSettings
from benchmarks.environments import measure_sides, measure_with_memory, side_name
from benchmarks.measure import Figures, Measure, Report, Row, cpu_seconds, interleave, rate
from benchmarks.ppo import training_sides
from mec_gym import make_problem
from mec_gym.distributed_inference.scenario import Scenario
from mec_gym.network.gaussian import white_noise

ENV_ID = "mec/DistributedInference-v1"
PATENT_SIZE = Scenario(devices=10, servers=4, blocks=10)
BATCH, PEER_BATCH, CITY_BATCH = 256, 16, 64
CITY_GIB = 4.0
SEED = 0
NUMBERS = (320, 256, 40)  # an array as a channel draws it

FLAT = PPOSettings(head="flat", network="flat", num_envs=BATCH, n_steps=20, minibatches=4)
PAIRS = replace(FLAT, head="pairs", network="pairs", hidden=32)
TEXTBOOK = A3CSettings(num_envs=1, n_steps=20, normalize=False, workers=1)
BATCHED = A3CSettings(num_envs=128, n_steps=20, workers=1)


def _row(
    what: str, side: str, batch: int, figures: Figures, target: str = "", processes: int = 1
) -> Row:
    return {
        "what": what,
        "side": side,
        "batch": batch,
        "processes": processes,
        "figure": figures.median,
        "spread": figures.spread,
        "target": target,
    }


def _ratio(what: str, side: str, peer: str, times: float, target: str = "") -> str:
    return f"{what}: {side} / {peer} = {times:.1f}x" + (f" (target {target}x)" if target else "")


def _rounds(seconds: float, repeats: int) -> tuple[list[Row], list[str]]:
    """Measure rounds per second, stepped every way there is."""
    what = "rounds/s, 10x4x10"
    found = measure_sides(ENV_ID, seconds, repeats, (BATCH, PEER_BATCH), (PEER_BATCH,), PATENT_SIZE)
    targets = {("native", BATCH): ">= 300,000"}
    rows = [
        _row(
            what,
            side_name(*side),
            side[1],
            figures,
            targets.get(side, ""),
            1 + side[1] if side[0] == "Async" else 1,
        )
        for side, figures in found.items()
    ]
    pairs = (
        (("native", BATCH), ("Async", PEER_BATCH), ">= 100"),
        (("native", PEER_BATCH), ("Async", PEER_BATCH), ""),
        (("native", PEER_BATCH), ("Sync", PEER_BATCH), ">= 7"),
    )
    notes = [
        _ratio(what, side_name(*a), side_name(*b), found[a].median / found[b].median, target)
        for a, b, target in pairs
    ]
    for preset, target in (("small", ""), ("patent", ""), ("campus", ">= 150,000")):
        (figures,) = measure_sides(ENV_ID, seconds, repeats, (BATCH,), scenario=preset).values()
        rows.append(_row(f"rounds/s, {preset}", side_name("native", BATCH), BATCH, figures, target))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as executor:
        task = executor.submit(measure_with_memory, ENV_ID, seconds, repeats, CITY_BATCH, "city")
        figures, gib = task.result()
    rows.append(_row("rounds/s, city", side_name("native", CITY_BATCH), CITY_BATCH, figures))
    notes.append(
        f"city: at most {gib:.2f} GiB resident with {CITY_BATCH} environments, Python and "
        f"libraries included (target <= {CITY_GIB:g} GiB)"
    )
    return rows, notes


def _ppo(seconds: float, repeats: int) -> tuple[list[Row], list[str]]:
    """Measure PPO's training steps per second, learning included."""
    what = "PPO steps/s, 10x4x10"
    ours = {"ours, flat": FLAT, "ours, pairs": PAIRS}
    peer = "SB3's defaults, 1 torch thread"
    found = interleave(training_sides(ENV_ID, {peer: 1}, ours, seconds, PATENT_SIZE), repeats)
    rows = [
        _row(what, side, ours[side].num_envs if side in ours else 1, figures)
        for side, figures in found.items()
    ]
    notes = [
        _ratio(what, side, peer, found[side].median / found[peer].median, target)
        for side, target in (("ours, flat", ">= 50"), ("ours, pairs", ""))
    ]
    notes.append(
        "One thread favours SB3 on a busy machine (part ppo has both). Its defaults take 10 "
        f"epochs in minibatches of 64, ours {FLAT.n_epochs} in minibatches of "
        f"{FLAT.rollout // FLAT.minibatches}: far fewer gradient steps, which favours ours."
    )
    return rows, notes


class _Learning:
    """Measures the steps per second of a trainer that is there already.

    Attributes:
        cores: CPU time of the workers per wall time, in each measurement.
    """

    def __init__(self, trainer: Trainer, how: A3CSettings, ahead: int, seconds: float) -> None:
        self.cores: list[float] = []
        self._trainer = trainer
        # Every environment draws once in so many steps.
        self._units = ahead * how.num_envs * how.workers
        self._seconds = seconds
        trainer.wait()
        rate(self._work, self._units, min(seconds, 1.0))  # to warm up

    def __call__(self) -> float:
        cpu, begin = self._cpu(), time.perf_counter()
        found = rate(self._work, self._units, self._seconds)
        self.cores.append((self._cpu() - cpu) / (time.perf_counter() - begin))
        return found

    def _work(self) -> None:
        self._trainer.release(self._trainer.steps + self._units)
        self._trainer.wait()

    def _cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self._trainer.pids)


def _a3c(seconds: float, repeats: int) -> tuple[list[Row], list[str]]:
    """Measure A3C's training steps per second; workers that are not measured sleep."""
    what = "A3C steps/s, small"
    problem = make_problem(ENV_ID, "small")
    textbook, one, two = "textbook, 1 worker", "batched, 1 worker", "batched, 2 workers"
    settings = {textbook: TEXTBOOK, one: BATCHED, two: replace(BATCHED, workers=2)}
    drawn_every = problem.episodes_ahead * problem.horizon
    with ExitStack() as stack:
        sides: dict[str, _Learning] = {}
        for side, how in settings.items():
            head = make_head(how.head, problem)
            trainer = stack.enter_context(Trainer(problem, head, how, SEED, 10**9))
            sides[side] = _Learning(trainer, how, drawn_every, seconds)
        found = interleave(sides, repeats)
    rows = [
        _row(what, side, how.num_envs, found[side], processes=how.workers)
        for side, how in settings.items()
    ]
    pairs = ((one, textbook, ">= 40"), (two, one, ">= 1.6"))
    notes = [
        _ratio(what, a, b, found[a].median / found[b].median, target) for a, b, target in pairs
    ]
    cores = {side: median(sides[side].cores) for side in (one, two)}
    per_core = (found[two].median / cores[two]) / (found[one].median / cores[one])
    notes.append(
        f"Batch is a worker's own. One worker had {cores[one]:.2f} of {usable_cores()} cores, two "
        f"had {cores[two]:.2f}, the rest being busy with whatever else ran: for an equal share "
        f"of the cores two did {per_core:.2f}x as much as one, {2 * per_core:.1f}x if each had one "
        "to itself."
    )
    return rows, notes


def _normal(seconds: float, repeats: int) -> tuple[list[Row], list[str]]:
    """Measure nanoseconds per normal number."""
    what, count = "ns per normal number", int(np.prod(NUMBERS))
    rng = np.random.default_rng(SEED)

    def nanoseconds(draw: Callable[[], object]) -> Measure:
        return lambda: 1e9 / rate(draw, count, seconds / 2)

    ours, peer = "white_noise", "standard_normal"
    sides = {
        ours: nanoseconds(lambda: white_noise(rng, NUMBERS)),
        peer: nanoseconds(lambda: rng.standard_normal(NUMBERS, dtype=np.float32)),
    }
    found = interleave(sides, repeats)
    rows = [_row(what, side, count, figures) for side, figures in found.items()]
    return rows, [_ratio(what, peer, ours, found[peer].median / found[ours].median)]


def measure(seconds: float, repeats: int) -> Report:
    """Measure rounds, training steps and normal numbers, each against what it replaces.

    Args:
        seconds: Least wall time per two measurements, s; each also holds whole drawings of new
            episodes.
        repeats: Number of measurements of each side.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for measure in (_rounds, _ppo, _a3c, _normal):
        more, said = measure(seconds / 2, repeats)  # whole drawings and cycles take longer
        rows += more
        notes += said
    notes.append(
        f"Medians of {repeats} interleaved runs, one thread per process; "
        "resets, drawing of episodes and random actions made beforehand as in part environments."
    )
    return Report("Distributed inference", rows, notes)

"""The rules of the house, read from the imports (and from git)."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mec_gym

ROOT = Path(__file__).resolve().parents[2]
DOORS = {"scenario.py", "model.py", "problem.py", "exact.py", "viewer.py"}
PURE = {"scenario.py", "model.py", "exact.py"}
HEAVY = {"gymnasium", "torch", "matplotlib", "stable_baselines3"}
ROOMS = mec_gym.registration.ROOMS
SHARED = ("core", "network", "dnn", "learning")
LEARNERS = ("a3c", "heads", "networks", "outside", "ppo")
"""Packages of agents that know no room."""


def test_rooms_are_all_that_lie_there():
    lying_there = {path.parent.name for path in (ROOT / "mec_gym").glob("*/problem.py")}
    assert lying_there - {"core"} == set(ROOMS)


def imports(source, package=""):
    """Dotted names that a module imports: (at import time, at all), type checking left out.

    ``from a import b`` yields ``a`` and ``a.b``, since b may be a module.
    """
    eager, everything = set(), set()

    def visit(node, lazy):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child, lazy)
            return
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        everything.update(names)
        if not lazy:
            eager.update(names)
        lazy = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, lazy)

    visit(ast.parse(source), False)
    return eager, everything


def of_file(path):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return imports(path.read_text(), package)


def modules(package):
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def inside(names, *packages):
    return {n for n in names if any(n == p or n.startswith(p + ".") for p in packages)}


def test_the_reader_itself():
    source = """
import torch.nn as nn
from gymnasium import spaces
from .model import evaluate
from ..core import arrays
if TYPE_CHECKING:
    import matplotlib
else:
    import scipy
class A:
    import json
    def f(self):
        from mec_gym.other import viewer
"""
    eager, everything = imports(source, "mec_gym.room")
    assert inside(eager, "torch") == {"torch.nn"}
    assert {"gymnasium.spaces", "mec_gym.room.model.evaluate", "mec_gym.core.arrays"} <= eager
    assert {"scipy", "json"} <= eager and not inside(everything, "matplotlib")
    assert inside(everything, "mec_gym.other") - eager == {
        "mec_gym.other",
        "mec_gym.other.viewer",
    }
    assert inside({"mec_gymnastics", "torchvision"}, "mec_gym", "torch") == set()


def test_train_then_agents_then_mec_gym_and_never_back():
    for path in modules("mec_gym"):
        assert not inside(of_file(path)[1], "agents", "train", "tests", "benchmarks"), path
    for path in modules("agents"):
        assert not inside(of_file(path)[1], "train", "tests", "benchmarks"), path
    for path in modules("train"):
        assert not inside(of_file(path)[1], "tests", "benchmarks"), path


def test_what_is_generic_knows_no_room():
    """Whatever is not a room's own names none of them, neither in imports nor in a table."""
    generic = [p for name in LEARNERS for p in modules(f"agents/{name}")]
    generic += (ROOT / "agents").glob("*.py")
    generic += [
        path
        for path in modules("train")
        if not set(ROOMS) & {*path.parts, path.stem}
        # It tells how many partitions early exit would find in a network.
        and path.name != "profile_network.py"
    ]
    generic += [
        ROOT / "mec_gym" / name for name in ("__init__.py", "registration.py", "testing.py")
    ]
    assert len(generic) > 40
    rooms = [f"{floor}.{room}" for floor in ("mec_gym", "agents") for room in ROOMS]
    for path in generic:
        assert not inside(of_file(path)[1], *rooms), path


def test_nothing_asks_which_problem_it_has():
    """No table by a problem's type and no isinstance on problems: names of classes do not occur."""
    problems = {e.problem.__name__ for e in mec_gym.ENVIRONMENTS.values()}
    assert len(problems) == len(ROOMS)
    for package in ("mec_gym", "agents", "train"):
        for path in modules(package):
            if set(ROOMS) & {*path.parts, path.stem}:
                continue
            tree = ast.parse(path.read_text())
            named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert not named & problems, path


def test_core_and_the_shared_packages_know_no_room():
    shared = [p for name in SHARED for p in (ROOT / "mec_gym" / name).rglob("*.py")]
    assert len(shared) > 10
    for path in shared:
        names = of_file(path)[1]
        assert not inside(names, *(f"mec_gym.{room}" for room in ROOMS)), path
        assert not inside(names, "mec_gym.registration", "mec_gym.testing"), path
    for path in (ROOT / "mec_gym" / "core").rglob("*.py"):
        assert not inside(of_file(path)[1], *(f"mec_gym.{name}" for name in SHARED[1:])), path


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_know_each_other(room):
    allowed = [f"mec_gym.{name}" for name in (room, *SHARED)]
    for path in modules(f"mec_gym/{room}"):
        ours = inside(of_file(path)[1], "mec_gym") - {"mec_gym"}
        assert ours == inside(ours, *allowed), path


def has_a_bound(room):
    """Whether anything useful can be proved of its episodes; its problems say so by their types."""
    problems = [entry.problem for entry in import_module(f"mec_gym.{room}").ENVIRONMENTS.values()]
    return any(inspect.signature(problem.bound).return_annotation != "None" for problem in problems)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_the_five_doors(room):
    folder = ROOT / "mec_gym" / room
    doors = DOORS if has_a_bound(room) else DOORS - {"exact.py"}
    assert {path.name for path in folder.glob("*.py")} >= doors | {"__init__.py"}
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_every_environment_lives_in_a_room():
    for entry in mec_gym.ENVIRONMENTS.values():
        house, room, door = entry.problem.__module__.split(".")
        assert (house, door) == ("mec_gym", "problem") and room in ROOMS
        assert entry.scenario_type.__module__ == f"mec_gym.{room}.scenario"


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_opens_the_same_way(room):
    package = import_module(f"mec_gym.{room}")
    model = import_module(f"mec_gym.{room}.model")
    viewer = import_module(f"mec_gym.{room}.viewer")

    def takes(function):
        """What has to be given."""
        return tuple(
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is inspect.Parameter.empty
        )

    assert takes(model.evaluate) == ("slot", "state", "decision", "scenario")
    if has_a_bound(room):
        exact = import_module(f"mec_gym.{room}.exact")
        assert takes(exact.episode_bound) == ("trace", "scenario")
    assert takes(viewer.draw_episode) == ("scenario", "episode")
    assert {"ENVIRONMENTS", "PRESETS", "Scenario"} <= set(package.__all__)
    presets = {name for entry in package.ENVIRONMENTS.values() for name in entry.presets}
    assert presets == set(package.PRESETS)


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_stands_on_every_floor(room):
    for path in (
        f"agents/{room}/__init__.py",
        f"train/presets/{room}.py",
        f"train/reproduce/{room}/README.md",
        f"docs/environments/{room}.md",
        f"tests/{room}",
    ):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("room", ROOMS)
def test_equations_need_neither_gymnasium_nor_torch_nor_matplotlib(room):
    """Also not through other modules of the room; shared packages are looked at below."""
    folder = ROOT / "mec_gym" / room
    for door in PURE if has_a_bound(room) else PURE - {"exact.py"}:
        seen, waiting = set(), [folder / door]
        while waiting:
            path = waiting.pop()
            seen.add(path)
            eager, everything = of_file(path)
            heavy = inside(everything if path.name in PURE else eager, *HEAVY)
            assert not heavy, f"{door} needs {heavy} through {path.name}"
            for name in inside(eager, f"mec_gym.{room}"):
                candidate = folder.joinpath(*name.split(".")[2:]).with_suffix(".py")
                if candidate.is_file() and candidate not in seen:
                    waiting.append(candidate)
        assert folder / door in seen


def test_only_learning_needs_torch():
    dnn = ROOT / "mec_gym" / "dnn"
    at_home = {dnn / "exits.py"}
    parts = ("calibration", "profile", "split")
    at_home |= {path for part in parts for path in (dnn / part).glob("*.py")}
    at_home |= {path for path in (dnn / "zoo").glob("*.py") if path.name != "__init__.py"}
    without = {"__init__.py", "clock.py", "link.py", "partitions.py", "prediction.py", "viewer.py"}
    execution = (ROOT / "mec_gym" / "execution").glob("*.py")
    at_home |= {path for path in execution if path.name not in without}
    for path in modules("mec_gym"):
        if path in at_home:
            continue
        assert not inside(of_file(path)[1], "torch", "torchvision", "stable_baselines3"), path


def test_matplotlib_is_imported_at_the_top_of_viewers_only():
    for path in modules("mec_gym"):
        assert path.name == "viewer.py" or not inside(of_file(path)[0], "matplotlib"), path
    # And viewers by nobody at the top.
    for path in modules("mec_gym"):
        viewers = {name for name in of_file(path)[0] if re.search(r"\.viewer(\.|$)", name)}
        assert not viewers, path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import mec_gym", ["torch", "matplotlib", "scipy.signal", "stable_baselines3", "agents"]),
        ("import mec_gym.testing", ["torch", "matplotlib", "stable_baselines3"]),
        (
            "from mec_gym.dnn import zoo; [zoo.load_profile(n) for n in zoo.profile_names()]",
            ["torch", "matplotlib"],
        ),
        # What a solver needs; SB3 brings torch, which takes seconds.
        ("import agents.registry", ["torch", "matplotlib", "stable_baselines3", "train"]),
        (
            "from mec_gym import make_agent; make_agent('exact', 'mec/TrainingOffload-v0')",
            ["torch"],
        ),
        (
            "from mec_gym import evaluate; evaluate('random', 'mec/TrainingOffload-v0', 2)",
            ["torch", "matplotlib", "tyro", "rich"],
        ),
        ("from train.__main__ import main; main(['--help'])", ["numpy", "gymnasium", "tyro"]),
        (
            "from train.__main__ import main; main(['scenarios'])",
            ["torch", "matplotlib", "tyro", "rich", "scipy.stats"],
        ),
        pytest.param(
            "import gymnasium, mec_gym; e = gymnasium.make('mec/TrainingOffload-v0'); "
            "e.reset(seed=0); e.step(e.action_space.sample())",
            ["torch", "matplotlib"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_an_import_loads(statement, absent):
    code = (
        f"{statement}\nimport sys\nprint('loaded:', *[m for m in {absent!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


PRIVATE = {
    "an absolute path": r"(?<![\w.:/$~)}-])/(home|Users|root|work|tmp|mnt|opt|srv|scratch)/",
    "a path of Windows": r"\b[A-Z]:\\\\?(Users|Windows|Program)",
    "a package index": r"index-url|/simple/",
    "somebody's machine": r"\b(localhost|127\.0\.0\.1|10\.\d+\.\d+\.\d+|192\.168\.\d+\.\d+)\b",
}


def test_the_patterns_themselves():
    hits = {
        "an absolute path": 'open("/scratch/x"), (/home/me/y)',
        "a path of Windows": r"C:\Users\me",
        "a package index": "pip install --index-url x",
        "somebody's machine": "http://10.0.3.4:80",
    }
    for name, text in hits.items():
        assert re.search(PRIVATE[name], text)
    for harmless in ("#!/usr/bin/env bash", "https://a.b/work/c", "$HOME/work/x", "a/tmp/b"):
        assert not re.search(PRIVATE["an absolute path"], harmless)


def test_tracked_files_name_no_machine_and_no_index():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0 or not listed.stdout:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in PRIVATE.items():
            found = re.search(pattern, text)
            assert not found, f"{name} holds {what}: {found.group()!r}"

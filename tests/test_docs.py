"""The documentation: links lead somewhere, examples run, whatever has a name is described."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from agents.a3c.settings import A3CSettings
from agents.heads import heads_of
from agents.ppo.settings import PPOSettings
from agents.registry import OUTSIDE, RUNS, agents_for, make_agent, references_for
from mec_gym import ENVIRONMENTS, make_problem
from mec_gym.core import arrays
from mec_gym.registration import rooms
from train.__main__ import COMMANDS
from train.evaluation.tensorboard import Evaluation, record_rollout
from train.presets import a3c_presets, ppo_presets

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTIONAL = "<!-- not run -->"
HEADINGS = [
    "Description", "Observation", "Action", "Reward", "Starting state", "Episode end",
    "Arguments", "Presets", "Info", "Agents that play it", "Version history",
]  # fmt: skip
KEY = re.compile(r"\[([A-Z][A-Za-z]*(?:19|20)\d\d|TR36942)\]")
OWN_ROOMS = [room for room in rooms() if room.is_ours]


def name(page):
    return page.relative_to(ROOT).as_posix()


def prose(page):
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        title = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title)
        found.add(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))
    return found


def blocks(page, language):
    """(line of its first line, text) of every block in a language that is to be run."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, block.start(2)), block.group(2))
        for block in FENCE.finditer(text)
        if block.group(1) == language and not text[: block.start()].rstrip().endswith(OPTIONAL)
    ]


def section(text, heading):
    """A part of a page, from a heading to the next of the same depth."""
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def first_column(table):
    """Names in code in the first column of a part's tables."""
    rows = re.findall(r"^\| ?(.*?) ?\|", table, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_what_reads_the_pages():
    text = section("## A\n\n| `a`, `b` | `c` |\n|---|---|\n\n## B\n\n| `d` |\n", "A")
    assert first_column(text) == {"a", "b"}
    assert "gap-percent" in anchors(DOCS / "concepts.md")
    assert "the-gains-of-hu2019-and-ding2025" in anchors(DOCS / "results.md")
    assert len(blocks(DOCS / "your_own_network.md", "python")) == 3  # three more are not run


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), f"{name(page)} links to {target}"
        if anchor:
            assert anchor in anchors(path), f"{name(page)} links to {target}"


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        if page != DOCS / "README.md":
            assert f"({page.relative_to(DOCS).as_posix()})" in index


RUN = """
import json, pathlib, sys
namespace = {"__name__": "__main__"}
page, found = json.load(sys.stdin)
for line, text in found:
    file, more = text.split("\\n", 1)[0], text
    if file.startswith("# ") and file.split()[1].endswith(".py"):
        with open(file.split()[1], "a", encoding="utf-8") as module:
            module.write(text)
    else:
        exec(compile("\\n" * line + text, page, "exec"), namespace)
"""


# Pages whose examples take seconds.
SLOW_EXAMPLES = {
    "agents.md",
    "concepts.md",
    "multi_agent.md",
    "traces.md",
    "training.md",
    "training_offload.md",
    "your_own_problem.md",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in SLOW_EXAMPLES else [])
        for page in PAGES
        if blocks(page, "python")
    ],
    ids=name,
)
def test_examples_run(page, tmp_path):
    path = os.pathsep.join([str(ROOT), str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([str(page), blocks(page, "python")]),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_readme_is_short_and_says_how_to_begin():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "\nmake demo" in text and "\nmake test" in text


@pytest.mark.parametrize("room", OWN_ROOMS, ids=lambda room: room.name)
def test_environment_page(room):
    page = DOCS / "environments" / f"{room.name}.md"
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for env_id, entry in room.environments.items():
        assert f"`{env_id}`" in text and f"`{env_id}`" in readme
        assert set(entry.presets) <= set(re.findall(r"`([^`]+)`", section(text, "Presets")))
        assert f"`{entry.default}` (default)" in text
        problem = make_problem(env_id)
        played = first_column(section(text, "Agents that play it"))
        played -= {f"{kind}:PATH" for kind in RUNS}
        assert played == {*agents_for(problem), *references_for(problem)}
        slot = arrays.slot_at(problem.sample(np.random.default_rng(0), 1), 0)
        decision = problem.decision(problem.action_space.sample()[None])
        _, outcome = problem.step(slot, problem.start(slot), decision)
        assert first_column(section(text, "Info")) == set(arrays.field_names(type(outcome)))
        known = {field.name for field in fields(entry.scenario_type) if field.init}
        assert first_column(section(text, "Arguments")) <= known


def test_no_environment_without_a_page():
    assert {page.stem for page in (DOCS / "environments").glob("*.md")} == {
        room.name for room in OWN_ROOMS
    }


def test_agents_and_heads():
    agents = (DOCS / "agents.md").read_text(encoding="utf-8")
    concepts = (DOCS / "concepts.md").read_text(encoding="utf-8")
    named, heads = {*(f"{kind}:PATH" for kind in RUNS), *OUTSIDE}, set()
    for room in OWN_ROOMS:
        heads |= set(heads_of(room))
        for env_id in room.environments:
            problem = make_problem(env_id)
            named |= {*agents_for(problem), *references_for(problem)}
    assert first_column(agents) == named
    assert first_column(section(concepts, "Heads and outputs")) == heads


def test_training_presets():
    text = section((DOCS / "training.md").read_text(encoding="utf-8"), "Presets")
    ppo, a3c = text.split("### A3C", 1)
    assert first_column(ppo) == {name for room in OWN_ROOMS for name in ppo_presets(room)}
    both = {name for room in OWN_ROOMS for name in a3c_presets(room)}
    assert first_column(a3c) == both
    for table, presets in ((ppo, ppo_presets), (a3c, a3c_presets)):
        for room in OWN_ROOMS:
            for name_, preset in presets(room).items():
                row = next(r for r in table.splitlines() if r.startswith(f"| `{name_}`"))
                assert f"{preset.total_timesteps:,}".replace(",", " ") in row


def test_training_settings():
    text = section((DOCS / "training.md").read_text(encoding="utf-8"), "Settings")
    shared, rest = text.split("### PPO only", 1)
    ppo, a3c = rest.split("### A3C only", 1)
    of_ppo, of_a3c = ({field.name for field in fields(s)} for s in (PPOSettings, A3CSettings))
    assert first_column(shared) == of_ppo & of_a3c
    assert first_column(ppo) == of_ppo - of_a3c
    assert first_column(a3c) == of_a3c - of_ppo


class FakeLogger:
    """Remembers what is recorded."""

    def __init__(self):
        self.names = set()

    def record(self, name, value, exclude=None):
        self.names.add(name)


def test_logged_metrics():
    text = section((DOCS / "training.md").read_text(encoding="utf-8"), "Logged metrics")
    documented = first_column(text)
    logged = set()
    for folder in ("agents", "train"):
        for path in (ROOT / folder).rglob("*.py"):
            calls = r"\.record\(\s*\"([\w/]+)\""
            logged |= set(re.findall(calls, path.read_text(encoding="utf-8")))
    assert len(logged) > 5
    for env_id in (env_id for room in OWN_ROOMS for env_id in room.environments):
        problem, logger = make_problem(env_id), FakeLogger()
        Evaluation(problem, make_agent("random", problem), 2, "random").record(logger)
        parts = (*problem.costs, *problem.gains)
        times = {part: np.ones(1) for part in parts if part.endswith("_s")}
        record_rollout(logger, dict.fromkeys(parts, 0.0), times)
        logged |= logger.names
    assert {"eval/gap_percent_mean", "rollout/latency_s_p95", "train/n_updates"} <= logged
    assert logged <= documented


def words(command):
    return re.sub(r"\\\n", " ", command).split("#")[0].split()


def test_commands():
    """Whatever a page tells a reader to type exists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    seen = 0
    for page in PAGES:
        for _, block in blocks(page, "bash"):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                typed = words(line)
                if typed[:1] == ["make"]:
                    assert typed[1] in targets, line
                if typed[:1] != ["mec-gym"]:
                    continue
                own = typed[1:2] == ["--import"]
                typed = typed[3 if own else 1 :]
                assert typed[0] in COMMANDS, line
                seen += 1
                if own or "--env" not in typed:
                    continue
                env_id = typed[typed.index("--env") + 1]
                entry = ENVIRONMENTS[env_id]
                if "--scenario" in typed:
                    scenario = typed[typed.index("--scenario") + 1]
                    assert re.split(r"[+:]", scenario)[0] in {*entry.presets, *entry.sources}
                    if ":" not in scenario:
                        make_problem(env_id, scenario)
                if "--agents" in typed:
                    given = typed[typed.index("--agents") + 1 :]
                    problem = make_problem(env_id)
                    known = {*agents_for(problem), *references_for(problem)}
                    for agent in given:
                        if agent.startswith("--"):
                            break
                        made_elsewhere = agent.partition(":")[0] in (*RUNS, "sb3", "my_agents")
                        assert agent in known or made_elsewhere, line
    assert seen > 20


def test_references():
    """Every key that code or documentation cites is listed."""
    listed = set(re.findall(r"^### (\w+)$", (DOCS / "references.md").read_text(), re.MULTILINE))
    assert len(listed) > 30
    files = [*PAGES, *(p for f in ("mec_gym", "agents", "train") for p in (ROOT / f).rglob("*.py"))]
    for path in files:
        cited = set(KEY.findall(path.read_text(encoding="utf-8")))
        assert cited <= listed, f"{name(path)} cites {cited - listed}"

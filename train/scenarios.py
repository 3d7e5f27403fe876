"""``mec-gym scenarios`` lists what there is. It does not load torch."""

from __future__ import annotations

from agents.heads import heads_of
from agents.registry import OUTSIDE, RUNS, agents_of, references_of
from mec_gym.registration import rooms
from train.presets import a3c_presets, ppo_presets


def list_everything() -> None:
    """Print every environment with its scenarios, agents, heads and training presets."""
    for room in rooms():
        for env_id, entry in room.environments.items():
            print(f"{env_id}: {entry.about}")
            print("  scenarios (--scenario)")
            for name, preset in entry.presets.items():
                mark = " (default)" if name == entry.default else ""
                _row(name + mark, preset.about)
            for kind, source in entry.sources.items():
                _row(f"{kind}:PATH", (source.__doc__ or "").splitlines()[0])
            _row("...+FIELD=VALUE", "one of these with another value of a field")
        ids = " and ".join(room.environments)
        print(f"  agents that play {ids} (--agents)")
        for name, agent in agents_of(room).items():
            _row(name, agent.about)
        for name, agent in references_of(room).items():
            _row(name, f"{agent.about} (a reference, no policy)")
        print("  heads (--settings.head)")
        for name, about in heads_of(room).items():
            _row(name, about)
        for learner, presets in (("ppo", ppo_presets(room)), ("a3c, mtl-a3c", a3c_presets(room))):
            print(f"  training presets of {learner} (--preset)")
            for name, training in presets.items():
                _row(name, f"{training.about}; {training.total_timesteps:,} steps")
        print()
    print("trained agents (--agents)")
    for kind, about in RUNS.items():
        _row(f"{kind}:PATH", about)
    for name, about in OUTSIDE.items():
        _row(name, about)


def _row(name: str, about: str) -> None:
    print(f"    {name:24} {about}")

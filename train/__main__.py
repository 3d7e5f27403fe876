"""The command line: ``python -m train SUBCOMMAND ...``, or ``mec-gym SUBCOMMAND ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from mec_gym.registration import ENVIRONMENTS, make_problem
from train.config import (
    A3CRun,
    Choice,
    CompareRun,
    EvaluateRun,
    ExitsRun,
    PPORun,
    ProfileRun,
    ScenariosRun,
)


def _ppo(args: Sequence[str]) -> None:
    from train.presets import ppo_run
    from train.run import train_ppo

    # The environment and the preset decide the defaults of everything else.
    asked = [a for a in args if a not in ("-h", "--help")]
    choice, _ = tyro.cli(Choice, args=asked, return_unknown_args=True, add_help=False)
    default = ppo_run(tyro.MISSING, choice.env, choice.preset)
    train_ppo(tyro.cli(PPORun, args=args, default=default, prog="mec-gym ppo"))


def _learn_a3c(name: str, args: Sequence[str]) -> None:
    """``a3c`` or ``mtl-a3c``: the same but for the preset they begin with."""
    from train.a3c import train_a3c
    from train.presets import INFERENCE, a3c_run

    asked = [a for a in args if a not in ("-h", "--help")]
    choice, _ = tyro.cli(
        Choice,
        args=asked,
        default=Choice(env=INFERENCE),
        return_unknown_args=True,
        add_help=False,
    )
    default = a3c_run(tyro.MISSING, choice.env, choice.preset or name)
    if default.settings.multi_task != (name == "mtl-a3c"):
        raise ValueError(f"preset {choice.preset} is not for {name}, see mec-gym scenarios")
    train_a3c(tyro.cli(A3CRun, args=args, default=default, prog=f"mec-gym {name}"))


def _a3c(args: Sequence[str]) -> None:
    _learn_a3c("a3c", args)


def _mtl_a3c(args: Sequence[str]) -> None:
    _learn_a3c("mtl-a3c", args)


def _evaluate(args: Sequence[str]) -> None:
    from train.compare import evaluate_one

    evaluate_one(tyro.cli(EvaluateRun, args=args, prog="mec-gym evaluate"))


def _compare(args: Sequence[str]) -> None:
    from train.compare import compare

    compare(tyro.cli(CompareRun, args=args, prog="mec-gym compare"))


def _reproduce(args: Sequence[str]) -> None:
    from train.reproduce import load, names, reproduce

    if not args or args[0] in ("-h", "--help"):
        print("usage: mec-gym reproduce WHAT --out FOLDER ...")
        print("(mec-gym reproduce WHAT --help tells more)")
        print("\n".join(f"  {name}" for name in names()))
        sys.exit(0 if args else 2)
    reproduction = load(args[0])
    run = tyro.cli(reproduction.run, args=args[1:], prog=f"mec-gym reproduce {args[0]}")
    reproduce(reproduction, run)


def _exits(args: Sequence[str]) -> None:
    from train.exits import run_exits

    run_exits(tyro.cli(ExitsRun, args=args, prog="mec-gym exits"))


def _profile(args: Sequence[str]) -> None:
    from train.profile_network import profile_network

    profile_network(tyro.cli(ProfileRun, args=args, prog="mec-gym profile"))


def _scenarios(args: Sequence[str]) -> None:
    tyro.cli(ScenariosRun, args=args, prog="mec-gym scenarios")
    from agents.registry import AGENTS, REFERENCES, RUNS, agents_for
    from train.presets import A3C_PRESETS, PPO_PRESETS

    print("environments (--env) and their scenarios (--scenario)")
    for env_id, entry in ENVIRONMENTS.items():
        print(f"  {env_id:28} {entry.about}")
        for name, preset in entry.presets.items():
            mark = " (default)" if name == entry.default else ""
            print(f"    {name + mark:26} {preset.about}")
        for kind, source in entry.sources.items():
            print(f"    {kind + ':PATH':26} {(source.__doc__ or '').splitlines()[0]}")
        print(f"    played by: {', '.join(agents_for(make_problem(env_id)))}")
    print("agents (--agents)")
    for name, agent in (AGENTS | REFERENCES).items():
        print(f"  {name:28} {agent.about}")
    for kind, about in RUNS.items():
        print(f"  {kind + ':PATH':28} {about}")
    for learner, presets in (("PPO", PPO_PRESETS), ("A3C", A3C_PRESETS)):
        print(f"{learner} presets (--preset)")
        for name, known in presets.items():
            print(f"  {name:28} {known.about}; {known.total_timesteps:,} steps")


COMMANDS = {
    "ppo": (_ppo, "train PPO"),
    "a3c": (_a3c, "train A3C"),
    "mtl-a3c": (_mtl_a3c, "train multi-task A3C"),
    "evaluate": (_evaluate, "let one agent play"),
    "compare": (_compare, "let several agents play the same episodes"),
    "reproduce": (_reproduce, "redo a paper's published figures"),
    "exits": (_exits, "train the exits of a network, measure their accuracy"),
    "profile": (_profile, "count any torch module: what each layer costs and who reads it"),
    "scenarios": (_scenarios, "list environments, scenarios, agents and presets"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] not in COMMANDS:
        print("usage: mec-gym SUBCOMMAND ...   (mec-gym SUBCOMMAND --help tells more)")
        for name, (_, about) in COMMANDS.items():
            print(f"  {name:12} {about}")
        return 0 if args and args[0] in ("-h", "--help") else 2
    command, _ = COMMANDS[args[0]]
    try:
        command(args[1:])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"stopped{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

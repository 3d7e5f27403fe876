"""The command line: ``python -m train SUBCOMMAND ...``, or ``mec-gym SUBCOMMAND ...``.

Every command imports what it needs when it is called, so that help and lists do without torch.
It reads its options and returns what is then to be done.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from train.terminal import leaving_at_once, settle, stopping_as_asked

Work = Callable[[], Any]


def _ppo(args: Sequence[str]) -> Work:
    import tyro

    from train.config import Choice, PPORun, ppo_run
    from train.runs.ppo import train_ppo

    # The environment and the preset decide the defaults of everything else.
    choice, _ = tyro.cli(Choice, args=_without_help(args), return_unknown_args=True, add_help=False)
    default = ppo_run(tyro.MISSING, choice.env, choice.preset)
    run = tyro.cli(PPORun, args=args, default=default, prog="mec-gym ppo")
    return partial(train_ppo, run)


def _a3c(args: Sequence[str], name: str = "a3c") -> Work:
    import tyro

    from train.config import A3CRun, Choice, a3c_run
    from train.runs.a3c import train_a3c

    choice, _ = tyro.cli(Choice, args=_without_help(args), return_unknown_args=True, add_help=False)
    default = a3c_run(tyro.MISSING, choice.env, choice.preset, multi_task=name == "mtl-a3c")
    run = tyro.cli(A3CRun, args=args, default=default, prog=f"mec-gym {name}")
    return partial(train_a3c, run)


def _mtl_a3c(args: Sequence[str]) -> Work:
    return _a3c(args, "mtl-a3c")


def _without_help(args: Sequence[str]) -> list[str]:
    return [a for a in args if a not in ("-h", "--help")]


def _evaluate(args: Sequence[str]) -> Work:
    import tyro

    from train.config import EvaluateRun
    from train.evaluation.commands import evaluate_command

    return partial(evaluate_command, tyro.cli(EvaluateRun, args=args, prog="mec-gym evaluate"))


def _compare(args: Sequence[str]) -> Work:
    import tyro

    from train.config import CompareRun
    from train.evaluation.commands import compare_command

    return partial(compare_command, tyro.cli(CompareRun, args=args, prog="mec-gym compare"))


def _reproduce(args: Sequence[str]) -> Work:
    import tyro

    from train.reproduce import load, names, reproduce

    if not args or args[0] in ("-h", "--help"):
        print("usage: mec-gym reproduce WHAT --out FOLDER ...")
        print("(mec-gym reproduce WHAT --help tells more)")
        print("\n".join(f"  {name}" for name in names()))
        sys.exit(0 if args else 2)
    reproduction = load(args[0])
    run = tyro.cli(reproduction.run, args=args[1:], prog=f"mec-gym reproduce {args[0]}")
    return partial(reproduce, reproduction, run)


def _exits(args: Sequence[str]) -> Work:
    import tyro

    from train.runs.exits import ExitsRun, run_exits

    return partial(run_exits, tyro.cli(ExitsRun, args=args, prog="mec-gym exits"))


def _profile(args: Sequence[str]) -> Work:
    import tyro

    from train.config import ProfileRun
    from train.profile_network import profile_network

    return partial(profile_network, tyro.cli(ProfileRun, args=args, prog="mec-gym profile"))


def _calibrate(args: Sequence[str]) -> Work:
    import tyro

    from train.calibrate import calibrate_machine
    from train.config import CalibrateRun

    return partial(calibrate_machine, tyro.cli(CalibrateRun, args=args, prog="mec-gym calibrate"))


def _execute(args: Sequence[str]) -> Work:
    import tyro

    from train.execute_config import ExecuteRun

    run = tyro.cli(ExecuteRun, args=args, prog="mec-gym execute")
    from train.execute import execute

    return partial(execute, run)


def _edge(args: Sequence[str]) -> Work:
    import tyro

    from train.execute_config import EdgeRun

    run = tyro.cli(EdgeRun, args=args, prog="mec-gym edge")
    from train.execute import run_edge

    return partial(run_edge, run)


def _scenarios(args: Sequence[str]) -> Work:
    from train.scenarios import list_everything

    if args:
        raise ValueError(f"scenarios takes no arguments, got {' '.join(args)}")
    return list_everything


COMMANDS = {
    "ppo": (_ppo, "train PPO"),
    "a3c": (_a3c, "train A3C"),
    "mtl-a3c": (_mtl_a3c, "train multi-task A3C"),
    "evaluate": (_evaluate, "let one agent play"),
    "compare": (_compare, "let several agents play the same episodes"),
    "reproduce": (_reproduce, "redo a paper's published figures"),
    "exits": (_exits, "train the exits of a network, measure their accuracy"),
    "profile": (_profile, "count any torch module: what each layer costs and who reads it"),
    "calibrate": (_calibrate, "fit the time per operation on this machine"),
    "execute": (_execute, "execute a partition for real, and hold the prediction against it"),
    "edge": (_edge, "be the edge server of an execution"),
    "scenarios": (_scenarios, "list environments, scenarios, agents and presets"),
}
EXTRAS = {
    "ppo": "train",
    "a3c": "train",
    "mtl-a3c": "train",
    "exits": "exits",
    "profile": "exits",
    "calibrate": "exits",
    "execute": "exits",
    "edge": "exits",
}
"""The extra that brings everything a command needs; the others name the smallest that helps."""


def usage() -> None:
    """Print which subcommands there are."""
    print("usage: mec-gym [--import MODULE] SUBCOMMAND ...")
    for name, (_, about) in COMMANDS.items():
        print(f"  {name:12} {about}")
    print("mec-gym SUBCOMMAND --help tells more; --import registers a problem of your own first")


def _import_rooms(args: list[str]) -> list[str]:
    """Register the problems that ``--import MODULE`` names; return the other arguments."""
    while args and args[0].startswith("--import"):
        word, equals, module = args.pop(0).partition("=")
        if word != "--import":
            raise ValueError(f"unknown option {word}")
        if not equals:
            if not args:
                raise ValueError("--import needs the name of a module")
            module = args.pop(0)
        from train.rooms import import_room

        import_room(module)
    return args


def main(args: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        args: The words of the command line; None for those that the process was given.

    Returns:
        The exit status.
    """
    given = list(sys.argv[1:] if args is None else args)
    loading: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    working: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if args is None:
        settle()
        loading, working = leaving_at_once(), stopping_as_asked()
    try:
        with loading:
            rest = _import_rooms(given)
            if not rest or rest[0] in ("-h", "--help"):
                usage()
                return 0 if rest else 2
            name = rest[0]
            if name not in COMMANDS:
                raise ValueError(f"SUBCOMMAND must be one of {', '.join(COMMANDS)}, got {name!r}")
            command, _ = COMMANDS[name]
            from mec_gym.core.extras import missing_extras_named
            from train.bandwidth_options import into_scenario

            with missing_extras_named(EXTRAS.get(name)):
                work = command(into_scenario(rest[1:]))
        with working, missing_extras_named(EXTRAS.get(name)):
            work()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        from mec_gym.core.checks import reason_of

        print(f"error: {reason_of(error)}", file=sys.stderr)
        return 2
    except ImportError as error:
        if type(error).__name__ != "MissingExtra":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"stopped{f'; {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

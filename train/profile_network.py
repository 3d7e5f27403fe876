"""Profiles of the user's own networks: find the module, count it, write and print the counts."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.table import Table
from torch import nn

from mec_gym.core.modules import look_in
from mec_gym.dnn import zoo
from mec_gym.dnn.graph import LayerGraph, save_graph
from mec_gym.dnn.profile import profile
from mec_gym.dnn.viewer import draw_graph
from mec_gym.early_exit.partitions import LIMIT, enumerate_partitions
from train.config import ProfileRun
from train.console import show_table
from train.files import write_figure
from train.network_files import SUFFIXES, load_network

DEFAULT = "model"
"""The name in a module that is taken if nobody asks for another."""


def profile_network(run: ProfileRun) -> LayerGraph:
    """Profile a module, write the profile and, if asked, a picture of it.

    Raises:
        ValueError: A file is there already, there is no such module, it has no network or
            several, or the network cannot be traced.
    """
    for path in filter(None, (run.out, run.picture)):
        if path.exists() and not run.overwrite:
            raise ValueError(f"{path} exists: give --overwrite or another name")
    module = find_network(run.module, content=run.timed_on is not None)
    frames = _frames(run)
    with warnings.catch_warnings(), on_threads(run.threads):
        for text in ("could not be counted", "repeats scatter"):  # the table says so
            warnings.filterwarnings("ignore", message=f".* {text}")
        graph = profile(module, frames, run.timed_on, name=run.out.stem)
    if run.module in zoo.profile_names():  # the accuracies that were measured when it was trained
        shipped = zoo.load_profile(run.module).exits
        graph = graph.with_accuracies([one.accuracy for one in shipped])
    save_graph(run.out, graph)
    print_profile(graph)
    for text, shape in zip(run.input, run.shapes, strict=True):
        if len(shape) > 1 and shape[0] > 1:
            one = ",".join(["1", *text.split(",")[1:]])
            print(
                f"note: a profile counts per frame, and {text} counts as one frame; "
                f"if its first axis is a batch of {shape[0]}, give {one}"
            )
    written = str(run.out)
    if run.picture is not None:
        write_figure(run.picture, draw_graph(graph))
        written += f", {run.picture}"
    print(f"wrote {written}")
    return graph


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Let torch use so many threads of the processor, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _frames(run: ProfileRun) -> tuple[torch.Tensor, ...]:
    """One frame, without content unless it is to run."""
    place = "meta" if run.timed_on is None else "cpu"
    frames = []
    for text, shape, kind in zip(run.input, run.shapes, run.types, strict=True):
        try:
            frames.append(torch.zeros(shape, dtype=getattr(torch, kind), device=place))
        except (RuntimeError, TypeError, OverflowError) as error:
            raise ValueError(f"input is too large, got {text}: {first_line(error)}") from error
    return tuple(frames)


def find_network(text: str, content: bool = True) -> nn.Module:
    """Find the network that ``MODULE[:FACTORY]``, a file or a profile that ships names.

    See :class:`ProfileRun`.

    Args:
        text: The name.
        content: Whether the weights are needed.

    Raises:
        ValueError: There is no such network, or it cannot be made.
    """
    if text in zoo.profile_names():
        return zoo.build_profiled(text)
    if text.endswith(SUFFIXES):
        return load_network(text, content)
    place, colon, name = text.rpartition(":")
    if not colon or text.endswith(".py"):
        place, name = text, ""
    module = load_module(place)
    if not name:
        name = default_name(module, place)
    if not hasattr(module, name):
        raise ValueError(f"{place} has no {name!r}; it has {list_factories(module)}")
    return instantiate(getattr(module, name), f"{place}:{name}")


def load_module(place: str) -> ModuleType:
    """Import a module by its name or from its file; the current directory may hold it.

    Raises:
        ValueError: The module is not there, or it raises an error.
    """
    is_file = place.endswith(".py")
    path = Path(place).resolve()
    if is_file and not path.is_file():
        raise ValueError(f"there is no file {place}")
    # A file finds its neighbours, as when Python runs it.
    look_in(str(path.parent) if is_file else None)
    try:
        if not is_file:
            return importlib.import_module(place)
        # It may be called like a module that others need.
        name = f"{path.stem}.py" if path.stem in sys.modules else path.stem
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        raise ValueError(f"{place} cannot be imported: {first_line(error)}") from error


def default_name(module: ModuleType, place: str) -> str:
    """Return the name that is meant if none is given: ``model``, or that of the only network.

    Raises:
        ValueError: There is no network, or there are several.
    """
    if hasattr(module, DEFAULT):
        return DEFAULT
    own = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
    ]
    if len(own) == 1:
        return own[0]
    problem = "several networks" if own else "no network"
    raise ValueError(
        f"{place} defines {problem} and no {DEFAULT!r}: say which with {place}:NAME; "
        f"it has {list_factories(module)}"
    )


def list_factories(module: ModuleType) -> str:
    """List the names in a module that are a network or may make one."""
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, nn.Module)
        or (
            (inspect.isfunction(value) or inspect.isclass(value))
            and value.__module__ == module.__name__
            and not name.startswith("_")
        )
    ]
    return ", ".join(names) or "nothing that could make one"


def instantiate(found: Any, what: str) -> nn.Module:
    """Make a network.

    Args:
        found: The network itself, its class, or a function that makes it.
        what: The name under which it was found, for messages.

    Raises:
        ValueError: It is none of these, needs arguments or raises an error.
    """
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise ValueError(f"{what} must be a torch.nn.Module or make one, got {found!r}")
    needed = [
        parameter.name
        for parameter in inspect.signature(found).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"{what} needs arguments ({', '.join(needed)}); name a function without, which calls it"
        )
    try:
        network = found()
    except Exception as error:
        raise ValueError(f"{what} raises an error: {first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{what} must return a torch.nn.Module, got {type(network).__name__}")
    return network


def first_line(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def print_profile(graph: LayerGraph) -> None:
    """Print the figures of a network, and one line per exit."""
    last = graph.at_exit(len(graph.exits) - 1)
    # Each partition is a row of booleans: this bounds their memory.
    partitions = enumerate_partitions(last, min(LIMIT, 100_000_000 // len(last)))
    table = Table(title=f"{graph.name}, an input of {output_size(graph, 0)}", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("layers", str(len(graph)))
    table.add_row("GFLOP", "?" if graph.uncounted else f"{graph.flops.sum() / 1e9:.4g}")
    table.add_row("parameters", f"{graph.provenance['parameters']:,}")
    for number, one in enumerate(graph.exits):
        part = graph.at_exit(number)
        cost = "" if part.uncounted else f", {part.flops.sum() / 1e9:.4g} GFLOP"
        result = output_size(graph, one.layer)
        table.add_row(one.name, f"{len(part)} layers{cost}, a result of {result}")
    count = "too many to list" if partitions is None else f"{len(partitions):,}"
    table.add_row(f"partitions, {graph.exits[-1].name}", count)
    if "timed_on" in graph.provenance:
        for label, value in _times(graph):
            table.add_row(label, value)
    if graph.uncounted:
        table.add_row("not counted", ", ".join(graph.uncounted))
    show_table(table)


_CLOCKS = {"thread_time": "CPU time", "perf_counter": "wall time"}


def _times(graph: LayerGraph) -> Iterator[tuple[str, str]]:
    """What a profile with times says of them, line by line."""
    found = graph.provenance
    seconds = graph.measured_seconds.sum()
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    clock = f"{_CLOCKS[found['clock']]}, {threads}, median of {found['repeats']}"
    yield f"time on {found['timed_on']}", f"{1e3 * seconds:.3g} ms ({clock})"
    yield "the whole module at once", f"{1e3 * found['whole_s']:.3g} ms"
    yield "overhead per call, not counted", f"{1e6 * found['overhead_s']:.3g} us"
    yield "the first run took longer by", f"{1e3 * found['cold_start_s']:.3g} ms"
    if found["scattered"]:
        first, others = found["scattered"][:5], len(found["scattered"]) - 5
        names = ", ".join(first) + (f" and {others} more" if others > 0 else "")
        yield "repeats scatter; measure again", names


def output_size(graph: LayerGraph, layer: int) -> str:
    """Return the size of a layer's output as text."""
    bits = graph.layers[layer].output_bits
    return f"{bits / 1e6:.4g} Mbit" if bits >= 1e5 else f"{bits / 1e3:.4g} kbit"

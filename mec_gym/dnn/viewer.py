"""A picture of a layer graph, and of how it is shared between a device and an edge server.

Layers stand in columns from left to right, each one column after the last that it reads from;
rows follow one another like lines of text. The longest path runs along the top of each row and
what branches off stands below it. matplotlib is loaded only when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mec_gym.core.pictures import BLUE, GREEN, GREY, LEGEND, RED, new_figure
from mec_gym.dnn.graph import LayerGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 15
"""Most columns of a row."""
LETTERS = 12
"""Most letters of an operation's name that fit into a box."""
COLUMN, LANE, GAP = 0.95, 0.50, 0.28  # in: width of a column, height of a lane, between rows
HALF, TALL = 0.38, 0.12  # in: half the width and half the height of a box
MARGIN, HEADER = 0.35, 0.75  # in: around everything; space for title and legend
TINY = 7.0  # pt, of what is written into boxes and beside them
THIN, THICK, FRAME = 0.8, 2.2, 1.8  # pt: links, links that cross, the frames of exits
DEVICE, EDGE, CUT, EXIT = BLUE, GREEN, RED, "black"

Link = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands.

    Attributes:
        columns: The column of each layer.
        lanes: The lane of each layer; lane 0 is at the top.
        detours: By link, the lane in which it passes the columns between its ends.
        breaks: The first column of each row, and at the end the number of columns.
    """

    columns: tuple[int, ...]
    lanes: tuple[int, ...]
    detours: dict[Link, int]
    breaks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Wish:
    """Layers and links that want a lane of their own from one column to another."""

    start: int
    end: int
    chain: list[int]
    links: list[Link]


def layout(graph: LayerGraph, width: int = COLUMNS) -> Layout:
    """Give every layer a column and a lane such that no link runs through a layer.

    Args:
        graph: The network.
        width: Most columns of a row.
    """
    before = graph.predecessors
    columns = [0] * len(graph)
    for v in range(1, len(graph)):
        columns[v] = 1 + max(columns[u] for u in before[v])
    spine = _longest_path(graph, columns)
    lanes: dict[int, int] = dict.fromkeys(spine, 0)
    detours: dict[Link, int] = {}
    taken: list[set[int]] = [{columns[v] for v in spine}]
    for wish in sorted(_wishes(graph, columns, spine), key=lambda w: (w.end - w.start, w.start)):
        span = set(range(wish.start, wish.end + 1))
        lane = next((n for n, occupied in enumerate(taken) if not occupied & span), len(taken))
        if lane == len(taken):
            taken.append(set())
        taken[lane] |= span
        lanes |= dict.fromkeys(wish.chain, lane)
        detours |= dict.fromkeys(wish.links, lane)
    return Layout(
        tuple(columns),
        tuple(lanes[v] for v in range(len(graph))),
        detours,
        _breaks(graph, columns, width),
    )


def _longest_path(graph: LayerGraph, columns: Sequence[int]) -> list[int]:
    """Layers of a path through all columns, from the last one to the input."""
    path = [max(range(len(graph)), key=lambda v: columns[v])]
    while last := path[-1]:
        path.append(next(u for u in graph.predecessors[last] if columns[u] == columns[last] - 1))
    return path


def _wishes(graph: LayerGraph, columns: Sequence[int], spine: Sequence[int]) -> list[_Wish]:
    """What does not lie on the spine: chains of layers, and links that pass other columns."""
    after = graph.successors
    free = set(range(len(graph))) - set(spine)
    wishes = []
    routed: set[Link] = set()
    for v in range(len(graph)):
        if v not in free:
            continue
        chain = [v]
        while ahead := [s for s in after[chain[-1]] if s in free]:
            chain.append(ahead[0])
        free -= set(chain)
        links = list(pairwise(chain))
        if after[chain[-1]]:
            links.append((chain[-1], max(after[chain[-1]], key=lambda s: columns[s])))
        end = max([columns[chain[-1]], *(columns[s] - 1 for _, s in links)])
        wishes.append(_Wish(columns[v], end, chain, links))
        routed |= set(links)
    for u, v in graph.links:
        if (u, v) not in routed and columns[v] - columns[u] > 1:
            wishes.append(_Wish(columns[u] + 1, columns[v] - 1, [], [(u, v)]))
    return wishes


def _breaks(graph: LayerGraph, columns: Sequence[int], width: int) -> tuple[int, ...]:
    """First columns of rows of about one length, broken where few links run."""
    total = max(columns) + 1
    breaks = [0]
    while total - breaks[-1] > width:
        rows = math.ceil((total - breaks[-1]) / width)
        fair = breaks[-1] + math.ceil((total - breaks[-1]) / rows)
        choices = range(breaks[-1] + (width + 1) // 2, breaks[-1] + width + 1)

        def crossing(at: int) -> int:
            return sum(columns[u] < at <= columns[v] for u, v in graph.links)

        breaks.append(min(choices, key=lambda at: (crossing(at), abs(at - fair))))
    return (*breaks, total)


def draw_graph(
    graph: LayerGraph, on_edge: Sequence[bool] | npt.NDArray[np.bool_] | None = None
) -> Figure:
    """Draw a layer graph.

    Args:
        graph: The network; several hundred layers stay legible.
        on_edge: For each layer, whether it runs on the edge server, (V,). What crosses is then
            drawn with its size, each tensor once. By default the layers are not shared.

    Raises:
        ValueError: ``on_edge`` has another length or other values, sends the input to the
            edge server, or brings something back from it.
    """
    sides = None if on_edge is None else _sides(graph, on_edge)
    place = layout(graph)
    sheet = _Sheet(place, graph)
    figure = new_figure(sheet.width, sheet.height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, sheet.width)
    axes.set_ylim(sheet.height, 0)
    axes.set_axis_off()

    crossing = set() if sides is None else {u for u, v in graph.links if sides[u] != sides[v]}
    _draw_links(axes, sheet, graph, sides)
    for v in range(len(graph)):
        _draw_layer(axes, sheet, graph, v, None if sides is None else sides[v])
    _draw_sizes(axes, sheet, graph, crossing)
    _draw_exits(axes, sheet, graph)
    _draw_title_and_legend(axes, graph, sides, crossing)
    return figure


def _sides(graph: LayerGraph, on_edge: Sequence[bool] | npt.NDArray[np.bool_]) -> list[bool]:
    sides = np.asarray(on_edge)
    if sides.shape != (len(graph),) or not np.isin(sides, (0, 1)).all():
        raise ValueError(
            f"on_edge must hold {len(graph)} values, true or false, got {sides.dtype} {sides.shape}"
        )
    names = [layer.name for layer in graph.layers]
    if sides[0]:
        raise ValueError(f"on_edge must leave the input, {names[0]!r}, on the device")
    for u, v in graph.links:
        if sides[u] and not sides[v]:
            raise ValueError(
                f"on_edge must bring nothing back: {names[u]!r} is on the edge server, "
                f"{names[v]!r} reads it on the device"
            )
    return [bool(side) for side in sides]


def megabits(bits: float) -> str:
    """Write a size, bit, with three digits."""
    return f"{bits / 1e6:.3g} Mbit"


def short_name(operation: str) -> str:
    """Return an operation's name without what makes it long."""
    word = operation
    for part in ("adaptive", "scaled_dot_product", "multihead", "transformer"):
        word = word.replace(part, "")
    word = word.strip("_") or operation
    return word if len(word) <= LETTERS else word[: LETTERS - 1] + "…"


class _Sheet:
    """Coordinates in inches, y downwards, of a layout wrapped into rows.

    Args:
        place: The layout.
        graph: The network that is laid out.
    """

    def __init__(self, place: Layout, graph: LayerGraph) -> None:
        self.place = place
        breaks = place.breaks
        self.row_of = [row for row, (a, b) in enumerate(pairwise(breaks)) for _ in range(a, b)]
        self.tops = []
        y = MARGIN + HEADER
        for lane in self._deepest_lanes(graph):
            self.tops.append(y + LANE / 2)
            y += (lane + 1) * LANE + GAP
        longest = max(b - a for a, b in pairwise(breaks))
        self.width = max(longest * COLUMN + 2 * MARGIN, 7.5)
        self.height = y - GAP + MARGIN

    def _deepest_lanes(self, graph: LayerGraph) -> list[int]:
        """The lowest lane of each row that a layer or a link uses."""
        deepest = [0] * (len(self.place.breaks) - 1)
        for v, lane in enumerate(self.place.lanes):
            row = self.row_of[self.place.columns[v]]
            deepest[row] = max(deepest[row], lane)
        for link in graph.links:
            for column, lane in self._way(*link):
                for at in (column, min(column + 1, self.place.columns[link[1]])):
                    deepest[self.row_of[at]] = max(deepest[self.row_of[at]], lane)
        return deepest

    def at(self, column: int, lane: int, row: int | None = None) -> tuple[float, float]:
        """Return the middle of a column; in another row than its own it lies past the margin."""
        row = self.row_of[column] if row is None else row
        x = MARGIN + (column - self.place.breaks[row] + 0.5) * COLUMN
        return x, self.tops[row] + lane * LANE

    def centre(self, layer: int) -> tuple[float, float]:
        """Return the middle of a layer's box."""
        return self.at(self.place.columns[layer], self.place.lanes[layer])

    def _way(self, u: int, v: int) -> list[tuple[int, int]]:
        """Columns and lanes that a link passes, its ends included."""
        columns, lanes = self.place.columns, self.place.lanes
        between = range(columns[u] + 1, columns[v])
        detour = self.place.detours.get((u, v), 0)
        return [
            (columns[u], lanes[u]),
            *((column, detour) for column in between),
            (columns[v], lanes[v]),
        ]

    def path(self, u: int, v: int) -> list[tuple[list[float], list[float]]]:
        """Return a link as lines (x, y), one for each row that it runs through."""
        way = self._way(u, v)
        lines: list[tuple[list[float], list[float]]] = [([], [])]

        def go(x: float, y: float) -> None:
            lines[-1][0].append(x)
            lines[-1][1].append(y)

        for n, (column, lane) in enumerate(way):
            x, y = self.at(column, lane)
            if n:
                go(x - HALF, y)
            if n == len(way) - 1:
                break
            go(x + HALF, y)
            row, following = self.row_of[column], self.row_of[way[n + 1][0]]
            if following != row:  # leaves at the right, goes on at the left
                go(x + COLUMN / 2 + 0.1, y)
                lines.append(([], []))
                start, level = self.at(way[n + 1][0], lane, following)
                go(start - COLUMN / 2 - 0.1, level)
        return lines


def _draw_links(axes: Axes, sheet: _Sheet, graph: LayerGraph, sides: list[bool] | None) -> None:
    for u, v in graph.links:
        crosses = sides is not None and sides[u] != sides[v]
        colour, width = (CUT, THICK) if crosses else (GREY, THIN)
        for xs, ys in sheet.path(u, v):
            axes.plot(xs, ys, color=colour, lw=width, zorder=3 if crosses else 1)


def _draw_sizes(axes: Axes, sheet: _Sheet, graph: LayerGraph, crossing: set[int]) -> None:
    for u in sorted(crossing):
        x, y = sheet.centre(u)
        axes.text(
            x + HALF, y - TALL - 0.02, megabits(graph.layers[u].output_bits), color=CUT,
            fontsize=TINY + 0.5, weight="bold", ha="center", va="bottom", zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.9},
        )  # fmt: skip


def _draw_layer(axes: Axes, sheet: _Sheet, graph: LayerGraph, v: int, on_edge: bool | None) -> None:
    from matplotlib.patches import FancyBboxPatch

    colour = GREY if on_edge is None else EDGE if on_edge else DEVICE
    x, y = sheet.centre(v)
    box = FancyBboxPatch(
        (x - HALF + 0.03, y - TALL + 0.03), 2 * HALF - 0.06, 2 * TALL - 0.06,
        boxstyle="round,pad=0.03", facecolor=colour, edgecolor="none", zorder=4,
    )  # fmt: skip
    axes.add_patch(box)
    axes.text(
        x, y, short_name(graph.layers[v].operation), ha="center", va="center_baseline",
        fontsize=TINY, color="black" if colour != DEVICE else "white", zorder=5,
    )  # fmt: skip


def _draw_exits(axes: Axes, sheet: _Sheet, graph: LayerGraph) -> None:
    from matplotlib.patches import FancyBboxPatch

    labels: dict[int, list[str]] = {}
    for one in graph.exits:
        known = "" if one.accuracy is None else f" {100 * one.accuracy:.1f} %"
        labels.setdefault(one.layer, []).append(one.name + known)
    for layer, words in labels.items():
        x, y = sheet.centre(layer)
        frame = FancyBboxPatch(
            (x - HALF, y - TALL), 2 * HALF, 2 * TALL, boxstyle="round,pad=0.02",
            facecolor="none", edgecolor=EXIT, lw=FRAME, zorder=5,
        )  # fmt: skip
        axes.add_patch(frame)
        axes.text(
            x, y + TALL + 0.04, ", ".join(words), ha="center", va="top", fontsize=TINY,
            color=EXIT, weight="bold", zorder=6,
        )  # fmt: skip


def _draw_title_and_legend(
    axes: Axes, graph: LayerGraph, sides: list[bool] | None, crossing: set[int]
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    facts = [f"{graph.name}: {len(graph)} layers"]
    if not graph.uncounted:
        facts.append(f"{graph.flops.sum() / 1e9:.3g} GFLOP")
    handles: list[Patch | Line2D] = []
    if sides is not None:
        facts.append(f"{sum(sides)} layers on the edge server")
        facts.append(f"{megabits(sum(graph.layers[u].output_bits for u in crossing))} to send")
        handles += [
            Patch(color=DEVICE, label="device"),
            Patch(color=EDGE, label="edge server"),
            Line2D([], [], color=CUT, lw=THICK, label="crosses, sent once"),
        ]
    handles.append(Patch(facecolor="none", edgecolor=EXIT, lw=FRAME, label="exit"))
    axes.text(MARGIN, MARGIN, ", ".join(facts), fontsize=11, va="top", ha="left")
    axes.legend(
        handles=handles, loc="upper left", ncols=len(handles), borderaxespad=0, borderpad=0,
        bbox_to_anchor=(MARGIN, MARGIN + 0.22), bbox_transform=axes.transData, **LEGEND,
    )  # fmt: skip

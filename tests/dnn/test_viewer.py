"""Pictures of layer graphs: nothing covers anything, the cut is the one that is asked for."""

from itertools import combinations, pairwise

import layer_graphs as oracle
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from slow import slow_except

from mec_gym.core.pictures import BLUE, GREEN, GREY, RED
from mec_gym.dnn import zoo
from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.dnn.viewer import COLUMNS, draw_graph, layout, short_name

# 0 -> 1 -> 2 (early), 1 -> 3 -> 5, 1 -> 4 -> 5 (deep)
GRAPH = LayerGraph(
    "net",
    tuple(
        Layer(name, operation, 2e9 if bits != 1e6 else 0.0, 0.0, bits)
        for name, operation, bits in (
            ("image", "input", 1e6), ("c", "conv2d", 2.5e6), ("head", "linear", 3e3),
            ("a", "relu", 4e6), ("b", "adaptiveavgpool2d", 5e6), ("s", "add", 6e6),
        )
    ),
    ((0, 1), (1, 2), (1, 3), (1, 4), (3, 5), (4, 5)),
    (Exit("early", 2, 0.625), Exit("deep", 5)),
)  # fmt: skip


def texts(figure):
    return [t.get_text() for t in figure.axes[0].texts]


def boxes(figure):
    """Filled boxes: colour, and (left, bottom, right, top) in pixels."""
    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, FancyBboxPatch) and patch.get_facecolor()[3] > 0:
            extent = patch.get_window_extent()
            found.append((to_hex(patch.get_facecolor()).upper(), extent.extents))
    return found


def lines(figure):
    """Colour and corners, in pixels, of the links."""
    return [
        (to_hex(line.get_color()).upper(), line.get_transform().transform(line.get_xydata()))
        for line in figure.axes[0].lines
        if isinstance(line, Line2D)
    ]


def overlap(a, b):
    return min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])


def assert_legible(figure, graph):
    """No box covers a box, no link runs through one, no text leaves the picture or meets text."""
    figure.draw_without_rendering()
    frame = (0.0, 0.0, *figure.bbox.size)
    found = [extents for _, extents in boxes(figure)]
    assert len(found) == len(graph)
    for a, b in combinations(found, 2):
        assert min(overlap(a, b)) < 0
    for box in found:
        assert overlap(box, frame) == pytest.approx((box[2] - box[0], box[3] - box[1]))
    centres = np.array(found)[:, :2] + 3, np.array(found)[:, 2:] - 3
    for _, corners in lines(figure):
        # Points of the link, close to one another.
        steps = np.concatenate([np.linspace(a, b, 60) for a, b in pairwise(corners)])
        inside = (steps[:, None] > centres[0]) & (steps[:, None] < centres[1])
        assert not inside.all(axis=-1).any()
        assert (corners >= -1).all() and (corners <= np.array(frame[2:]) + 1).all()
    written = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    extents = [t.get_window_extent().extents for t in written]
    for one, box in zip(written, extents, strict=True):
        assert one.get_fontsize() >= 7
        size = (box[2] - box[0], box[3] - box[1])
        assert overlap(box, frame) == pytest.approx(size, abs=1), one
    for (one, a), (other, b) in combinations(zip(written, extents, strict=True), 2):
        assert min(overlap(a, b)) <= 3, (one, other)
    # A name fits its box.
    names = figure.axes[0].texts[: len(graph)]
    for text, box in zip(names, found, strict=True):
        assert text.get_window_extent().width <= box[2] - box[0]


def cut_before(graph, *names):
    """Everything on the edge but what these layers need, themselves included."""
    place = {layer.name: v for v, layer in enumerate(graph.layers)}
    stays = {0}
    waiting = [place[name] for name in names]
    while waiting:
        v = waiting.pop()
        stays.add(v)
        waiting += graph.predecessors[v]
    return np.array([v not in stays for v in range(len(graph))])


# --- what is drawn


def test_without_sides():
    figure = draw_graph(GRAPH)
    assert isinstance(figure, Figure)
    assert_legible(figure, GRAPH)
    assert {colour for colour, _ in boxes(figure)} == {GREY}
    assert {colour for colour, _ in lines(figure)} == {GREY}
    assert texts(figure)[:6] == ["input", "conv2d", "linear", "relu", "avgpool2d", "add"]
    assert texts(figure)[6:] == ["early 62.5 %", "deep", "net: 6 layers, 10 GFLOP"]
    legend = figure.axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["exit"]


def test_a_cut_is_marked_and_each_tensor_is_labelled_once():
    on_edge = [False, False, True, True, False, True]
    figure = draw_graph(GRAPH, on_edge)
    assert_legible(figure, GRAPH)
    assert [colour for colour, _ in boxes(figure)] == [BLUE, BLUE, GREEN, GREEN, BLUE, GREEN]
    # 1 is read by 2 and 3 over there, 4 by 5.
    assert [text for text in texts(figure) if "Mbit" in text] == [
        "2.5 Mbit",
        "5 Mbit",
        "net: 6 layers, 10 GFLOP, 3 layers on the edge server, 7.5 Mbit to send",
    ]
    assert [colour for colour, _ in lines(figure)].count(RED) == 3
    legend = figure.axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [
        "device", "edge server", "crosses, sent once", "exit",
    ]  # fmt: skip


def test_all_of_it_on_one_side():
    everything = draw_graph(GRAPH, [False] + [True] * 5)
    assert next(text for text in texts(everything) if "Mbit" in text) == "1 Mbit"
    nothing = draw_graph(GRAPH, np.zeros(6, dtype=bool))
    assert "0 layers on the edge server, 0 Mbit to send" in texts(nothing)[-1]
    assert {colour for colour, _ in lines(nothing)} == {GREY}


@pytest.mark.parametrize(
    ("on_edge", "message"),
    [
        ([False] * 5, r"on_edge .*got bool \(5,\)"),
        ([], r"on_edge must hold 6 values"),
        (np.zeros((6, 1), dtype=bool), r"on_edge must hold 6 values"),
        ([0, 0, 0.5, 1, 1, 1], r"on_edge must hold 6 values, true or false"),
        (list("device"), r"on_edge must hold 6 values, true or false"),
        (True, r"on_edge must hold 6 values"),
        ([True] * 6, r"on_edge must leave the input, 'image', on the device"),
        (
            [False, True, True, True, False, True],
            r"must bring nothing back: 'c' is on the edge server, 'b' reads it on the device",
        ),
        ([False, False, False, True, False, False], r"nothing back: 'a' .* 's' reads it"),
    ],
)
def test_what_is_no_partition_is_refused(on_edge, message):
    with pytest.raises(ValueError, match=message):
        draw_graph(GRAPH, on_edge)


def test_exits_of_one_layer_share_a_label():
    graph = LayerGraph("net", GRAPH.layers[:2], ((0, 1),), (Exit("a", 1, 0.5), Exit("b", 1, 0.75)))
    assert "a 50.0 %, b 75.0 %" in texts(draw_graph(graph))


def test_what_is_not_counted_is_not_added_up():
    layers = (GRAPH.layers[0], Layer("fft", "fft", None, 0.0, 8.0))
    figure = draw_graph(LayerGraph("net", layers, ((0, 1),), (Exit("final", 1),)))
    assert texts(figure)[-1] == "net: 2 layers"


def test_the_input_alone():
    graph = LayerGraph("one", GRAPH.layers[:1], (), (Exit("final", 0),))
    for on_edge in (None, [False]):
        assert_legible(draw_graph(graph, on_edge), graph)


def test_names_are_short():
    shortened = {
        "conv2d": "conv2d", "adaptiveavgpool2d": "avgpool2d", "batchnorm2d": "batchnorm2d",
        "multiheadattention": "attention", "scaled_dot_product_attention": "attention",
        "adaptive": "adaptive", "parametrizedlinear": "parametrize…",
    }  # fmt: skip
    assert {name: short_name(name) for name in shortened} == shortened


# --- legible, whatever is drawn


# A chain and one with shortcuts; branches have a test of their own, see below.
@pytest.mark.parametrize(
    "name",
    slow_except(
        ["alexnet", "vgg16", "resnet18", "mobilenetv2", "googlenet"], "alexnet", "resnet18"
    ),
)
def test_the_zoo_is_legible(name):
    graph = zoo.load_profile(f"{name}-exits")
    figure = draw_graph(graph)
    assert_legible(figure, graph)
    width, height = figure.get_size_inches()
    assert width <= 16 and height <= 20
    last = graph.at_exit(len(graph.exits) - 1)
    middle = len(last) // 2
    assert_legible(draw_graph(last, cut_before(last, last.layers[middle].name)), last)


def test_a_cut_through_branches_is_legible():
    graph = zoo.load_profile("googlenet")
    on_edge = cut_before(graph, "stages.1.0.branch2.0.2", "stages.1.0.branch3.1.0")
    figure = draw_graph(graph, on_edge)
    assert_legible(figure, graph)
    assert sum("Mbit" in text for text in texts(figure)) == 3 + 1


@pytest.mark.slow
def test_random_graphs_are_legible():
    rng = np.random.default_rng(3)
    for one in oracle.random_cases(2, 12, most=40):
        assert_legible(draw_graph(one.graph), one.graph)
        valid = cut_before(one.graph, f"v{rng.integers(len(one.bits))}")
        assert_legible(draw_graph(one.graph, valid), one.graph)


def test_layout():
    for one in (*oracle.random_cases(4, 40, most=30), *oracle.random_cases(5, 10, most=100)):
        place = layout(one.graph, 9)
        spots = list(zip(place.columns, place.lanes, strict=True))
        assert len(set(spots)) == len(spots)
        assert all(place.columns[u] < place.columns[v] for u, v in one.links)
        # On its way a link passes lanes of its own.
        passed = list(spots)
        for (u, v), lane in place.detours.items():
            between = range(place.columns[u] + 1, place.columns[v])
            passed += [(column, lane) for column in between]
        assert len(set(passed)) == len(passed)
        rows = np.diff(place.breaks)
        assert place.breaks[0] == 0 and place.breaks[-1] == max(place.columns) + 1
        assert (rows > 0).all() and (rows <= 9).all()


def test_long_chains_are_wrapped():
    bits = [1.0] * 300
    graph = oracle.layer_graph([(v, v + 1) for v in range(299)], bits)
    place = layout(graph)
    assert set(place.lanes) == {0} and len(place.breaks) - 1 == 300 / COLUMNS
    figure = draw_graph(graph)
    width, height = figure.get_size_inches()
    assert width < 16 and height < 20

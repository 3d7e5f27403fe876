"""Layer graphs: what is refused, what an exit needs, what a file keeps."""

import dataclasses
import itertools
import json
import math
import re

import layer_graphs as oracle
import numpy as np
import pytest

from mec_gym.dnn.graph import FORMAT, Exit, Layer, LayerGraph, from_json, load_graph, save_graph

# 0 -> 1 -> 2 (early), 1 -> 3 -> 5, 1 -> 4 -> 5 (deep)
LAYERS = (
    Layer("image", "input", 0.0, 0.0, 800.0, 0.0),
    Layer("conv", "conv2d", 3e6, 5e3, 6400.0, 0.25),
    Layer("head", "linear", 2e3, 7e2, 320.0, 0.5),
    Layer("relu", "relu", 0.0, 1.6e3, 6401.0, 0.125),
    Layer("strange", "custom", None, 1.5e3, 6402.0, None),
    Layer("sum", "add", 0.0, 2.4e3, 6403.0, 1 / 3),
)
LINKS = ((0, 1), (1, 2), (1, 3), (1, 4), (3, 5), (4, 5))
EXITS = (Exit("early", 2, 0.6), Exit("deep", 5))
GRAPH = LayerGraph("net", LAYERS, LINKS, EXITS, {"made by": "hand", "data": [1, 2.5, None]})


def changed(**fields):
    return dataclasses.replace(GRAPH, **fields)


def relayered(index, **fields):
    layers = list(LAYERS)
    layers[index] = dataclasses.replace(layers[index], **fields)
    return changed(layers=tuple(layers))


def test_what_a_graph_says():
    assert len(GRAPH) == 6
    assert GRAPH.bytes_moved.tolist() == [0, 5e3, 7e2, 1.6e3, 1.5e3, 2.4e3]
    assert GRAPH.output_bits.tolist() == [800, 6400, 320, 6401, 6402, 6403]
    assert GRAPH.successors == ((1,), (2, 3, 4), (), (5,), (5,), ())
    assert GRAPH.predecessors == ((), (0,), (1,), (1,), (1,), (3, 4))
    assert GRAPH.uncounted == ("strange",)
    early = GRAPH.at_exit(0)
    assert early.flops.tolist() == [0, 3e6, 2e3] and early.flops.dtype == np.float64
    assert early.measured_seconds.tolist() == [0, 0.25, 0.5]
    assert early.accuracies.tolist() == [0.6] and early.uncounted == ()
    assert early.provenance == GRAPH.provenance and early.name == "net"


def test_weights_are_what_is_moved_beyond_inputs_and_output():
    # conv: 40 000 - 800 - 6 400; head: 5 600 bit moved are less than its inputs, so none;
    # sum: 19 200 - 6 401 - 6 402 - 6 403, what is left of two inputs and an output
    by_hand = [0, 32_800, 0, 0, 0, 0]
    assert relayered(5, bytes_moved=2400.75).weight_bits.tolist() == by_hand
    assert relayered(5, bytes_moved=2402.75).weight_bits.tolist() == [*by_hand[:-1], 16]


def test_what_is_not_known_is_not_made_up():
    with pytest.raises(ValueError, match="net: the FLOPs of strange could not be counted"):
        _ = GRAPH.flops
    with pytest.raises(ValueError, match="net: layer 'strange' has no measured time"):
        _ = GRAPH.measured_seconds
    with pytest.raises(ValueError, match="net: exit 'deep' has no measured accuracy"):
        _ = GRAPH.accuracies


def test_links_are_a_set_in_order():
    messy = [(3, 5), (np.int64(0), np.int32(1)), (1, 2), (1, 4), [1, 3], (4, 5), (3, 5)]
    assert changed(links=messy).links == LINKS
    assert all(type(end) is int for link in changed(links=messy).links for end in link)


def test_equality_leaves_out_where_figures_come_from():
    assert changed(provenance={}) == GRAPH and hash(changed(provenance={})) == hash(GRAPH)
    for other in (changed(name="x"), changed(exits=EXITS[::-1]), relayered(1, flops=1.0)):
        assert other != GRAPH


def test_an_exit_needs_what_leads_to_it():
    rng = np.random.default_rng(50)
    for one in oracle.random_cases(51, 80, most=11):
        count = len(one.bits)
        extra = rng.integers(count, size=2).tolist()
        exits = [Exit("last", count - 1), *(Exit(f"e{k}", v) for k, v in enumerate(extra))]
        graph = dataclasses.replace(one.graph, exits=tuple(exits))
        for index, chosen in enumerate(exits):
            needed = {chosen.layer}
            for v, reader in sorted(one.links, reverse=True):  # readers come later
                if reader in needed:
                    needed.add(v)
            part = graph.at_exit(index)
            names = [f"v{v}" for v in sorted(needed)]
            assert [layer.name for layer in part.layers] == names
            assert {(names[u], names[v]) for u, v in part.links} == {
                (f"v{u}", f"v{v}") for u, v in one.links if u in needed and v in needed
            }
            assert part.exits == (dataclasses.replace(chosen, layer=len(needed) - 1),)
            assert part.output_bits.tolist() == [one.bits[v] for v in sorted(needed)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: changed(layers=()), "layers must hold at least the input"),
        (lambda: relayered(3, name="conv"), "layer names must differ, 'conv' stands twice"),
        (lambda: relayered(1, flops=-1.0), r"flops of layer 'conv' .*got -1"),
        (lambda: relayered(1, flops=math.nan), "flops of layer 'conv' must be a finite number"),
        (lambda: relayered(2, bytes_moved=None), "bytes_moved of layer 'head' must be a finite"),
        (lambda: relayered(2, output_bits=math.inf), "output_bits of layer 'head' must be"),
        (lambda: relayered(2, output_bits="8"), "output_bits of layer 'head' must be"),
        (lambda: relayered(2, output_bits=True), "output_bits of layer 'head' must be"),
        (lambda: relayered(5, seconds=-0.5), "seconds of layer 'sum' must not be negative"),
        (lambda: relayered(0, flops=1.0), "layer 0 is the input and must cost nothing"),
        (lambda: relayered(0, bytes_moved=1.0), "layer 0 is the input and must cost nothing"),
        (lambda: relayered(0, seconds=1.0), "layer 0 is the input and must cost nothing"),
        (lambda: changed(links=[*LINKS, (2, 6)]), r"links .*got \(2, 6\)"),
        (lambda: changed(links=[*LINKS, (-1, 2)]), "links must join layers 0 to 5"),
        (lambda: changed(links=[*LINKS, (5, 3)]), "links must not form a cycle.* 'relu', 'sum'"),
        (lambda: changed(links=[*LINKS, (4, 4)]), "links must not form a cycle.* 'strange'"),
        (
            lambda: changed(links=[*LINKS, (4, 3)]),
            r"topological order, but 'relu' \(layer 3\) reads 'strange' \(layer 4\)",
        ),
        (lambda: changed(links=LINKS[:3] + LINKS[4:]), "every layer, 'strange' has none"),
        (lambda: changed(links=LINKS[:-1]), "lead to an exit, 'strange' leads to none"),
        (lambda: changed(exits=EXITS[1:]), "lead to an exit, 'head' leads to none"),
        (lambda: changed(exits=()), "exits must hold at least one exit"),
        (
            lambda: changed(exits=(*EXITS, Exit("far", 6))),
            r"exit 'far' .*got 6",
        ),
        (lambda: changed(exits=(*EXITS, Exit("far", -1))), "exit 'far' must be a layer 0 to 5"),
        (
            lambda: changed(exits=(Exit("early", 2, 1.01), EXITS[1])),
            r"must be in \[0, 1\], got 1.01",
        ),
        (lambda: changed(exits=(Exit("early", 2, -0.1), EXITS[1])), "accuracy of exit 'early'"),
        (lambda: changed(exits=(Exit("early", 2, math.nan), EXITS[1])), "accuracy of exit 'early'"),
    ],
)
def test_bad_graphs_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_link_is_between_whole_numbers():
    with pytest.raises(TypeError):
        changed(links=[(0.9, 1), *LINKS[1:]])


def test_only_what_is_in_a_cycle_or_behind_it_is_named():
    with pytest.raises(ValueError, match="cycle") as error:
        changed(links=[*LINKS, (5, 4)])
    named = re.findall("'([a-z]+)'", str(error.value))
    assert {"strange", "sum"} <= set(named) and not {"image", "conv", "head", "relu"} & set(named)


# --- files


def test_a_graph_comes_back_as_it_was(tmp_path):
    path = tmp_path / "deep" / "net.json"
    save_graph(path, GRAPH)
    for again in (from_json(GRAPH.to_json()), load_graph(path), load_graph(str(path))):
        assert again == GRAPH and again.provenance == GRAPH.provenance
        assert again.layers[5].seconds == 1 / 3  # every bit of it
    assert path.read_text(encoding="utf-8") == GRAPH.to_json()
    for one in oracle.random_cases(52, 30):
        assert from_json(one.graph.to_json()) == one.graph
    assert list(tmp_path.rglob("*.*")) == [path]


def test_a_file_can_be_read_by_eye():
    content = json.loads(GRAPH.to_json())
    assert list(content) == ["format", "name", "provenance", "exits", "layers", "links"]
    assert content["format"] == FORMAT
    assert content["layers"][1] == dataclasses.asdict(LAYERS[1])
    lines = GRAPH.to_json().splitlines()
    assert sum('"operation"' in line for line in lines) == len(LAYERS)  # one a line


def spoilt(*path, value=None, gone=False):
    content = json.loads(GRAPH.to_json())
    *way, last = path
    place = content
    for step in way:
        place = place[step]
    if gone:
        del place[last]
    else:
        place[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^a.json is not JSON"),
        ("{", "^a.json is not JSON"),
        ("[]", r"^a.json .*got None"),
        ("3", "^a.json must have the format"),
        (spoilt("format", value="mec_gym layer graph 2"), "got 'mec_gym layer graph 2'"),
        *(
            (spoilt(key, gone=True), f"^a.json .*{key}")
            for key in ("name", "exits", "layers", "links")
        ),
        (spoilt("layers", 1, "output_bits", gone=True), "^a.json is no valid profile.*output_bits"),
        (spoilt("layers", 1, "colour", value=1), "^a.json is no valid profile.*colour"),
        (spoilt("layers", 1, value=3), "^a.json is no valid profile"),
        (spoilt("layers", value=None), "^a.json is no valid profile"),
        (
            spoilt("layers", 1, "output_bits", value=math.nan),
            "^a.json: output_bits of layer 'conv'",
        ),
        (spoilt("layers", 1, "output_bits", value="8"), "^a.json: output_bits of layer 'conv'"),
        (spoilt("links", 0, value=[0, 1, 2]), "^a.json"),
        (spoilt("links", 0, value=[0, "x"]), "^a.json"),
        (spoilt("links", 0, value=[0.9, 1]), "^a.json"),
        (spoilt("links", 0, value=7), "^a.json"),
        (spoilt("links", 0, value=[1, 1]), "^a.json: links must not form a cycle"),
        (spoilt("exits", 0, "layer", value="2"), "^a.json: exit 'early' must be a layer 0 to 5"),
        (spoilt("exits", 0, "layer", value=2.5), "^a.json: exit 'early' must be a layer 0 to 5"),
        (spoilt("exits", 0, "accuracy", value=60), "^a.json: accuracy of exit 'early'"),
    ],
)
def test_a_bad_profile_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        from_json(text, "a.json")


def test_the_deepest_exit_comes_last_in_a_profile():
    content = json.loads(GRAPH.to_json())
    assert GRAPH.exit_order() == (0, 1)
    swapped = changed(exits=EXITS[::-1])
    assert swapped.exit_order() == (1, 0)
    content["exits"].reverse()
    with pytest.raises(ValueError, match=r"a\.json: exits .*\['early', 'deep'\].*got \['deep"):
        from_json(json.dumps(content), "a.json")


def test_an_exit_that_has_more_layers_but_costs_less_may_come_first():
    layers = [Layer("input", "input", 0, 0, 8.0)]
    layers += [Layer(f"v{v}", "op", flops, 0, 8.0) for v, flops in enumerate((1.0, 1.0, 9.0))]
    links = ((0, 1), (1, 2), (0, 3))
    long, dear = Exit("long", 2), Exit("dear", 3)
    assert LayerGraph("x", layers, links, (long, dear)).exit_order() == (0, 1)
    assert LayerGraph("x", layers, links, (dear, long)).exit_order() == (0, 1)
    layers[3] = dataclasses.replace(layers[3], flops=2.0)
    assert LayerGraph("x", layers, links, (long, dear)).exit_order() == (1, 0)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "net.json"
    with pytest.raises(FileNotFoundError, match=r"net\.json"):
        load_graph(path)
    for content in (b"", b"{}", b"\xff\xfe{}", GRAPH.to_json().encode()[:-5]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load_graph(path)


def test_any_single_layer_is_a_graph():
    graph = LayerGraph("one", LAYERS[:1], (), (Exit("exit", 0, 1.0),))
    assert len(graph) == 1 and graph.chain() == (0,) and graph.at_exit(0) == graph
    assert from_json(graph.to_json()) == graph and graph.successors == ((),)


def test_order_of_layers_matters_not_of_links():
    for links in itertools.islice(itertools.permutations(LINKS), 0, 720, 97):
        assert changed(links=links) == GRAPH

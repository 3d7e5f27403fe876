"""Chains cut into blocks, against every way to cut and against the networks of the zoo."""

import itertools

import numpy as np
import pytest
from layer_graphs import random_links

from mec_gym.dnn.blocks import cut_chain
from mec_gym.dnn.graph import Exit, Layer, LayerGraph
from mec_gym.dnn.zoo import load_profile

ZOO = ("alexnet", "vgg16", "resnet18", "googlenet")


def graph(flops, bits, links=None):
    layers = [
        Layer(f"v{v}", "op" if v else "input", f, 0.0, b)
        for v, (f, b) in enumerate(zip(flops, bits, strict=True))
    ]
    links = links or list(itertools.pairwise(range(len(layers))))
    return LayerGraph("test", tuple(layers), tuple(links), (Exit("exit", len(layers) - 1),))


def joints_of(links, count):
    """Layers past which nothing but their own output is read: u < v < w crosses v."""
    return [v for v in range(count) if not any(u < v < w for u, w in links)]


def every_cut(flops, bits, links, blocks):
    """(largest work, bits sent between blocks, work of each, bits into each and out) of all."""
    joints = joints_of(links, len(flops))
    for inner in itertools.combinations(joints[1:-1], blocks - 1):
        cuts = [joints[0], *inner, joints[-1]]
        work = [sum(flops[a + 1 : b + 1]) for a, b in itertools.pairwise(cuts)]
        yield max(work), sum(bits[c] for c in inner), work, [bits[c] for c in cuts]


def test_by_hand():
    # 4 | 1 2 1 | 3 would have 4 at most; sending 5 + 1. So would 4 | 1 2 | 1 3, sending 5 + 2.
    flops, bits = [0, 4, 1, 2, 1, 3], [9, 5, 8, 2, 1, 7]
    found = cut_chain(graph(flops, bits), 3)
    assert found.work.tolist() == [4, 4, 3]
    assert found.bits.tolist() == [9, 5, 1, 7]
    # one block is the network; as many as there are links: each layer by itself
    assert cut_chain(graph(flops, bits), 1).work.tolist() == [11]
    assert cut_chain(graph(flops, bits), 1).bits.tolist() == [9, 7]
    assert cut_chain(graph(flops, bits), 5).work.tolist() == flops[1:]
    assert cut_chain(graph(flops, bits), 5).bits.tolist() == bits


def test_among_equals_the_one_that_sends_least():
    # layers of 0 FLOP behind each of 5: cut after the pooling (1), not before (6)
    found = cut_chain(graph([0, 5, 0, 0, 5], [8, 6, 3, 1, 2]), 2)
    assert found.work.tolist() == [5, 5]
    assert found.bits.tolist() == [8, 1, 2]


def test_among_equals_the_one_whose_smallest_block_is_largest():
    # 4 | 2 2 | 1 sends least, 3 + 2; 4 | 2 | 2 1 sends 3 + 7, but has 2 at least in each block.
    flops, bits = [0, 4, 2, 2, 1], [9, 3, 7, 2, 5]
    plain, even = (cut_chain(graph(flops, bits), 3, even) for even in (False, True))
    assert plain.work.tolist() == [4, 4, 1] and plain.bits.tolist() == [9, 3, 2, 5]
    assert even.work.tolist() == [4, 2, 3] and even.bits.tolist() == [9, 3, 7, 5]


def test_a_chain_is_cut_only_at_its_joints():
    # 1 and 2 both read the input and 3 reads both: no cut at 1 or 2
    links = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]
    found = cut_chain(graph([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], links), 2)
    assert found.work.tolist() == [6, 4]
    assert found.bits.tolist() == [5, 8, 9]
    with pytest.raises(ValueError, match=r"blocks .*got 3"):
        cut_chain(graph([0, 1, 2, 3, 4], [5, 6, 7, 8, 9], links), 3)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("shape", ["chain", "graph"])
def test_equals_the_best_of_all_cuts(whole, shape):
    rng = np.random.default_rng(whole)
    tried = 0
    for _ in range(120):
        count = int(rng.integers(2, 10))
        links = (
            random_links(rng, count) if shape == "graph" else list(itertools.pairwise(range(count)))
        )
        # whole numbers, some of them 0: many cuts are equally good
        flops = rng.integers(0, 4, size=count) if whole else rng.lognormal(size=count)
        bits = rng.integers(1, 9, size=count) if whole else rng.lognormal(size=count)
        flops[0] = 0
        flops, bits = flops.astype(float).tolist(), bits.astype(float).tolist()
        for blocks in range(1, len(joints_of(links, count))):
            cuts = list(every_cut(flops, bits, links, blocks))
            found = cut_chain(graph(flops, bits, links), blocks)
            largest = min(c[0] for c in cuts)
            # what rounding makes differ is the same
            sent = min(c[1] for c in cuts if c[0] <= largest * (1 + 1e-9))
            assert found.work.max() == pytest.approx(largest, rel=1e-9)
            assert found.bits[1:-1].sum() == pytest.approx(sent, rel=1e-9)
            assert any(
                np.allclose(found.work, work, rtol=1e-9) and np.allclose(found.bits, b)
                for _, _, work, b in cuts
            )
            best = [c for c in cuts if c[0] <= largest * (1 + 1e-9)]
            smallest = max(min(work) for _, _, work, _ in best)
            sent = min(c[1] for c in best if min(c[2]) >= smallest * (1 - 1e-9))
            even = cut_chain(graph(flops, bits, links), blocks, even=True)
            assert even.work.max() == pytest.approx(largest, rel=1e-9)
            assert even.work.min() == pytest.approx(smallest, rel=1e-9)
            assert even.bits[1:-1].sum() == pytest.approx(sent, rel=1e-9)
            tried += 1
    assert tried > 150


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("blocks", [1, 4, 8])
def test_blocks_of_real_networks(name, blocks):
    network = load_profile(name)
    network = network.at_exit(len(network.exits) - 1)
    found = cut_chain(network, blocks)
    assert found.work.shape == (blocks,)
    assert found.bits.shape == (blocks + 1,)
    assert found.work.sum() == pytest.approx(network.flops.sum(), rel=1e-12)
    assert found.work.max() >= network.flops.sum() / blocks
    assert found.bits[0] == network.output_bits[0]
    assert found.bits[-1] == network.output_bits[-1]
    if blocks <= 4:
        joints = joints_of(network.links, len(network))
        done = np.cumsum(network.flops)[joints]
        best = min(
            np.diff(done[[0, *inner, len(joints) - 1]]).max()
            for inner in itertools.combinations(range(1, len(joints) - 1), blocks - 1)
        )
        assert found.work.max() == pytest.approx(best, rel=1e-12)
    assert set(found.bits) <= set(network.output_bits[joints_of(network.links, len(network))])


def test_weights_and_outputs_by_hand():
    """Blocks 1 | 2 3 | 4, whose layers have weights 5, 0, 7, 2 and outputs 3, 9, 4, 1."""
    flops, bits, weights = [0, 6, 2, 3, 5], [8, 3, 9, 4, 1], [0, 5, 0, 7, 2]
    layers = [Layer("v0", "input", 0.0, 0.0, 8.0)]
    for v in range(1, 5):
        moved = (weights[v] + bits[v - 1] + bits[v]) / 8
        layers.append(Layer(f"v{v}", "op", flops[v], moved, bits[v]))
    links = tuple(itertools.pairwise(range(5)))
    network = LayerGraph("test", tuple(layers), links, (Exit("exit", 4),))
    found = cut_chain(network, 3)
    assert found.work.tolist() == [6, 5, 5]
    assert found.weights.tolist() == [5, 7, 2]
    assert found.outputs.tolist() == [3, 13, 1]
    assert cut_chain(network, 1).weights.tolist() == [14]


@pytest.mark.parametrize("blocks", [1, 2, 6, 20])
@pytest.mark.parametrize(("name", "parameters"), [("alexnet", 61_100_840), ("vgg16", 138_357_544)])
def test_blocks_share_the_weights_of_a_network(name, parameters, blocks):
    network = load_profile(name)
    found = cut_chain(network, blocks)
    assert network.weight_bits.sum() == found.weights.sum() == 32 * parameters
    assert found.outputs.sum() == network.output_bits[1:].sum()
    assert (found.weights >= 0).all() and (found.outputs > 0).all()


@pytest.mark.parametrize("name", ZOO)
def test_more_blocks_are_no_larger(name):
    network = load_profile(name)
    network = network.at_exit(len(network.exits) - 1)
    most = len(network.chain()) - 1
    largest = [cut_chain(network, k).work.max() for k in range(1, most + 1)]
    assert (np.diff(largest) <= 1e-6).all()
    for bad in (0, -1, most + 1):
        with pytest.raises(ValueError, match=rf"blocks must be in \[1, {most}\] for {name}"):
            cut_chain(network, bad)


def test_several_exits_have_no_chain():
    layers = tuple(Layer(f"v{v}", "op", float(v), 0.0, 1.0) for v in range(3))
    two = LayerGraph("two", layers, ((0, 1), (1, 2)), (Exit("a", 1), Exit("b", 2)))
    with pytest.raises(ValueError, match="single exit, two has 2"):
        cut_chain(two, 1)
